//! Looking ahead: what several accounts will be asked for is read for all of them first, so that they wait for memory at the
//! same time instead of one after another.
//!
//! What is read here comes to nothing but a number that nobody looks at. A word of each line of the cache is enough.

use std::hint::black_box;

use super::account::Account;
use super::hold::HoldKey;
use super::shard::Shard;
use crate::decision::RequestId;

impl Shard {
    /// Fetches what checks of these accounts, each with the hash of its name, and of these requests will read.
    pub(super) fn fetch_asked<'a>(&self, asks: impl Iterator<Item = (u64, &'a str, RequestId)>) {
        let mut accounts = Vec::new();
        for (hash, account, id) in asks {
            if let Some(index) = self.find_hashed(hash, account) {
                black_box(self.holds.fetch(HoldKey::new(index, id)));
                accounts.push(index);
            }
        }
        self.fetch(&accounts);
    }

    /// Fetches what ending the next holds, `max` at most, whose deadlines are to be looked at by this second will read.
    pub(super) fn fetch_expiring(&self, second: u64, max: usize) {
        let due = self.deadlines_first.iter().take(max).take_while(|(look, _)| *look <= second);
        let mut accounts = Vec::new();
        for opened in due.filter_map(|(_, opened)| self.holds.opened(*opened)) {
            black_box(self.holds.fetch(opened.key) ^ opened.hold.fetch());
            accounts.push(opened.key.account);
        }
        self.fetch(&accounts);
    }

    /// Rates are found through their accounts, so those come first.
    fn fetch(&self, accounts: &[u32]) {
        let all = || accounts.iter().filter_map(|account| self.account(*account));
        black_box(all().map(Account::fetch).fold(0, std::ops::BitXor::bitxor));
        black_box(all().map(Account::fetch_rates).fold(0, std::ops::BitXor::bitxor));
    }
}
