//! Purchases that are looked for, put off and declined: said to the scripts and to the law.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::accounts::arguments;
use super::super::answer::text;
use super::super::scripts::Script;
use super::call::{ACCOUNTS, World, place};
use crate::pool::message::Wanted;
use crate::reconcile::outbox::{Outbox, Take};

impl World {
    pub fn look_for_purchases(&mut self) {
        let life = Duration::from_millis(*self.dice.one(&[0, 1, 30_000]));
        let take = Take { purchases_max: 100, events_max: 0, life };
        let mut got = self.runtime.block_on(self.store.take(take)).unwrap().purchases;
        self.calls += 1;
        got.sort_by_key(|wanted| place(&wanted.account));
        let now = self.time();
        let is_due = |(account, at): (&usize, &u64)| (*at <= now.0).then_some(*account);
        let due: Vec<usize> = self.due.iter().filter_map(is_due).collect();
        let mut expected = Vec::new();
        for account in due {
            let pool = self.pools.get_mut(&account).unwrap();
            let wanted = pool.look_at_top_up(&self.rules.pool, now);
            self.events.extend(pool.take_events());
            match &wanted {
                Some(_) => self.due.insert(account, now.0 + u64::try_from(life.as_millis()).unwrap()),
                None => self.due.remove(&account),
            };
            expected.extend(wanted);
        }
        assert_eq!(got, expected);
        if !expected.is_empty() && self.dice.once_in(2) {
            self.put_off(&expected[0]);
        }
    }

    fn put_off(&mut self, wanted: &Wanted) {
        let wait = self.dice.below(100_000);
        let is_mine = !self.dice.once_in(3);
        let key = if is_mine { wanted.key.clone() } else { format!("{}0", wanted.key) };
        let put_off = self.store.put_off_purchase(wanted.account.clone(), key, Duration::from_millis(wait));
        self.runtime.block_on(put_off).unwrap();
        self.calls += 1;
        if is_mine {
            self.due.insert(place(&wanted.account), self.time().0 + wait);
        }
    }

    /// When each of these accounts is looked at next.
    pub(super) fn compare_due(&self, whom: &BTreeSet<usize>) {
        let script = Script::of(&["return redis.call('ZSCORE', KEYS[1] .. 'due', ARGV[1])"]);
        let accounts = || self.pools.keys().filter(|account| whom.contains(account));
        let names = accounts().map(|account| ACCOUNTS[*account]);
        let scores = self.dumps(names.map(|name| self.store.call(&script, name, arguments([name]))));
        for (account, score) in accounts().zip(scores) {
            let got = text(&score).ok().map(|score| score.parse().unwrap());
            assert_eq!(got, self.due.get(account).copied(), "{}", ACCOUNTS[*account]);
        }
    }
}
