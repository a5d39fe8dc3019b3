//! What the law keeps and what the scripts keep, held against each other.

use std::collections::BTreeSet;

use redis::Value;

use super::super::accounts::arguments;
use super::super::connection::Call;
use super::super::{rates, round};
use super::buckets;
use super::call::{ACCOUNTS, USERS_FROM, World, record};
use super::state::{of_dump, of_pool};
use crate::reconcile::store::{Store, UserRecord};

impl World {
    /// Everything that is kept of these accounts and users.
    pub(super) fn compare(&self, whom: &BTreeSet<usize>) {
        self.compare_pools(whom);
        self.compare_rates(whom);
        self.compare_due(whom);
    }

    fn compare_pools(&self, whom: &BTreeSet<usize>) {
        let pools = || self.pools.iter().filter(|(index, _)| whom.contains(index));
        let names = pools().map(|(index, _)| ACCOUNTS[*index]);
        let dumps = self.dumps(names.map(|name| self.store.call(&self.dump, name, arguments([name]))));
        for ((index, pool), dump) in pools().zip(dumps) {
            assert_eq!(of_dump(ACCOUNTS[*index], dump), of_pool(pool));
        }
    }

    /// What everybody must have heard of, account by account in order; and nothing is wrong with any sum.
    pub fn finish(&mut self) {
        self.compare(&(0..ACCOUNTS.len()).collect());
        let mut got = Vec::new();
        loop {
            let events = self.runtime.block_on(self.store.events(self.events_read, 100)).unwrap();
            let Some((last, _)) = events.last() else { break };
            assert!(self.events_read < *last && events.is_sorted_by(|(one, _), (other, _)| one < other));
            self.events_read = *last;
            got.extend(events.into_iter().map(|(_, event)| event));
        }
        got.sort_by_key(|event| event.account.clone());
        self.events.sort_by_key(|event| event.account.clone());
        assert_eq!(got, self.events);
        assert_eq!(self.runtime.block_on(self.store.audit()).unwrap().drifted, []);
        (0..USERS_FROM).for_each(|index| self.compare_history(index));
        let listed = self.runtime.block_on(self.store.accounts(None, 100)).unwrap();
        let names: Vec<&str> = listed.iter().map(|record| &*record.account).collect();
        let known = |index: &usize| ACCOUNTS[*index];
        let mut expected: Vec<&str> = self.pools.keys().filter(|index| **index < USERS_FROM).map(known).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        for (index, pool) in self.pools.iter().filter(|(index, _)| USERS_FROM <= **index) {
            let (account, user) = ACCOUNTS[*index].split_once('/').unwrap();
            let users = self.runtime.block_on(self.store.users(account.into(), "".into(), 10)).unwrap();
            let summary = record(pool, self.time());
            assert_eq!(
                users,
                [UserRecord { user: user.into(), month_used: summary.month_used, leased: summary.leased }]
            );
        }
    }

    /// Everything that is kept of their groups.
    fn compare_rates(&self, whom: &BTreeSet<usize>) {
        let buckets = || self.buckets.iter().filter(|((index, _), _)| whom.contains(index));
        let calls = buckets().map(|((index, group), _)| {
            let sessions = self.guests.iter().filter(|(account, ..)| account == index);
            let names = sessions.map(|(_, guest, _)| round::session_name(&guest.id));
            let texts = [ACCOUNTS[*index].to_owned(), rates::group_name(group)].into_iter().chain(names);
            self.store.call(&self.dump_rates, ACCOUNTS[*index], texts.map(String::into_bytes).collect())
        });
        for (((_, group), bucket), dump) in buckets().zip(self.dumps(calls)) {
            assert_eq!(buckets::of_dump(dump, &self.rules.rate), buckets::of_pool(bucket), "{group:?}");
        }
    }

    /// What these calls answer, all asked at once.
    pub(super) fn dumps<'a>(&self, calls: impl Iterator<Item = Call<'a>>) -> Vec<Value> {
        self.runtime.block_on(self.store.connection.run(&calls.collect::<Vec<_>>())).unwrap()
    }
}
