//! Requests that are none.

use redis::Value;

use super::super::chance::cap;
use super::{ACCOUNTS, SCALES, USERS_FROM, World, money, place, round, text};
use crate::decision::Credit;
use crate::pool::{SyncRequest, account_of};

/// Numbers that no request may have at any place, and that no type of ours allows at most of them.
const GARBAGE: &[i64] =
    &[-1, i64::MIN, i64::MAX, 1 << 62, (1 << 53) + 1, 1 << 53, -(1 << 53), i64::from_le_bytes(1.5_f64.to_le_bytes())];

impl World {
    /// A request that is no request: refused, and by the name of the number where it is one of the law's.
    pub(super) fn garble(&mut self) {
        let who = usize::try_from(self.dice.below(self.guests.len() as u64)).unwrap();
        let (now, scale) = (self.time(), SCALES[self.guests[who].0]);
        let (account, guest, _) = &self.guests[who];
        let mut request = guest.clone().ask(&mut self.dice, scale, now);
        let cap = (USERS_FROM <= *account).then(|| cap(&mut self.dice, 0));
        request.seq += 1 << 30;
        let names = [
            "generation",
            "seq",
            "used",
            "returned",
            "granted",
            "reclaimed",
            "want",
            "need",
            "month",
            "used before this month",
            "terms",
            "silence",
            "flags",
        ];
        let mut sync = money::request(&request);
        let field = usize::try_from(self.dice.below(names.len() as u64)).unwrap();
        sync[field * 8..field * 8 + 8].copy_from_slice(&self.dice.one(GARBAGE).to_le_bytes());
        let is_cut = self.dice.once_in(6);
        if is_cut {
            sync.resize(usize::try_from(1 + self.dice.below(2 * sync.len() as u64)).unwrap(), 0);
        }
        if let Some(cap) = cap {
            let whole = money::request(&SyncRequest { cap: Some(cap), ..request });
            sync.extend(&whole[names.len() * 8..]);
        }
        let session = round::session_name(&guest.id);
        let args = vec![ACCOUNTS[*account].into(), session.into(), sync.clone(), "0".into()];
        let call = self.store.call(&self.store.scripts.exchange, ACCOUNTS[*account], args);
        let answer = self.runtime.block_on(self.store.run(call)).unwrap();
        self.calls += 1;
        let Value::Array(answers) = answer else { panic!("{answer:?}") };
        if !self.pools.contains_key(&place(account_of(ACCOUNTS[*account]))) {
            return assert_eq!(text(&answers[0]).unwrap(), "no such account");
        }
        let Value::SimpleString(refusal) = &answers[0] else { panic!("{sync:?} was taken: {answers:?}") };
        assert!(refusal.starts_with("malformed: "), "{sync:?}: {refusal}");
        let negative = request.used.min(request.want).min(request.need) < Credit::ZERO;
        if is_cut && sync.len() != money::request(&SyncRequest { cap, ..request }).len() {
            return assert_eq!(refusal, if cap.is_some() { "malformed: cap" } else { "malformed: request" });
        }
        if !negative {
            // Something else may be wrong with it already, and money is looked at first.
            let told = names.iter().position(|name| *refusal == format!("malformed: {name}"));
            assert!(told.is_some_and(|told| told <= field || !(2..=7).contains(&field)), "{sync:?}: {refusal}");
        }
    }
}
