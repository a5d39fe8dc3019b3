//! Looking ahead: what several accounts will be asked for is read for all of them first, so that they wait for memory at the
//! same time instead of one after another.
//!
//! What is read here comes to nothing but a number that nobody looks at. A word of each line of the cache is enough.

use std::hint::black_box;
use std::ops::BitXor as _;

use super::Ledger;
use super::account::Account;
use super::hold::HoldKey;
use super::holds::Sought;
use super::shard::Shard;
use crate::decision::RequestId;

impl Ledger {
    /// Fetches what checks of these accounts and requests, which come next, will read: they then wait for memory together.
    pub fn look_ahead<'a>(&self, asks: impl Iterator<Item = (&'a str, RequestId)>) {
        let asks: Vec<_> = asks.map(|(account, id)| (self.rules.hash(account), account, id)).collect();
        if asks.len() < 2 {
            return;
        }
        for (place, shard) in self.shards.iter().enumerate() {
            let mut here = asks.iter().filter(|(hash, ..)| self.place_of(hash >> 32) == place).copied().peekable();
            if here.peek().is_some() {
                shard.lock().fetch_asked(here);
            }
        }
    }
}

impl Shard {
    /// Fetches what checks of these accounts, each with the hash of its name, and of these requests will read.
    fn fetch_asked<'a>(&self, asks: impl Iterator<Item = (u64, &'a str, RequestId)>) {
        let keys = asks.filter_map(|(hash, account, id)| Some(HoldKey::new(self.find_hashed(hash, account)?, id)));
        let sought: Vec<_> = keys.map(|key| self.holds.seek(key)).collect();
        self.fetch(sought.iter().copied());
    }

    /// Fetches what ending the next holds, `max` at most, whose deadlines are to be looked at by this second will read.
    pub(super) fn fetch_expiring(&self, second: u64, max: usize) {
        let due = self.deadlines_first.iter().take(max).take_while(|(look, _)| *look <= second);
        let due = due.filter_map(|(_, opened)| self.holds.opened(*opened));
        black_box(due.clone().map(|opened| opened.hold.fetch()).fold(0, u64::bitxor));
        self.fetch(due.map(|opened| self.holds.seek(opened.key)));
    }

    /// Fetches where the chains of these holds begin, and their accounts; then the rates, which are found through those.
    pub(super) fn fetch(&self, holds: impl Iterator<Item = Sought> + Clone) {
        let accounts = holds.clone().filter_map(|sought| self.account(sought.key.account));
        black_box(holds.map(|sought| self.holds.fetch(&sought)).fold(0, u64::bitxor));
        black_box(accounts.clone().map(Account::fetch).fold(0, u64::bitxor));
        black_box(accounts.map(Account::fetch_rates).fold(0, u64::bitxor));
    }
}
