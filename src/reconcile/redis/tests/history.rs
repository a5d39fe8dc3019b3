//! The history that the scripts keep, held against the law's.

use super::call::{ACCOUNTS, World};
use crate::decision::Credit;
use crate::reconcile::store::{Page, Store};

impl World {
    /// Every page of an account's history, from either end and from beyond the last line.
    pub(super) fn compare_history(&mut self, index: usize) {
        let (now, rules) = (self.time(), &self.rules.pool);
        let Some(pool) = self.pools.get_mut(&index) else { return };
        pool.settle(rules, now);
        let known = self.entries.entry(index).or_default();
        known.extend(pool.take_entries());
        let sum = known.iter().fold(Credit::ZERO, |sum, entry| sum.plus(entry.amount()));
        let beyond = known.len() as u64 + 1;
        let starts = [None, Some(beyond), Some(beyond + 9), Some(u64::MAX)];
        for (newest_first, start) in starts.into_iter().flat_map(|start| [(false, start), (true, start)]) {
            let (mut got, mut after) = (Vec::new(), start);
            loop {
                let page = Page { newest_first, after, max: 7 };
                let history = self.runtime.block_on(self.store.history(ACCOUNTS[index].into(), page)).unwrap();
                assert_eq!(history.balance, sum.minus(history.open_usage));
                let Some(last) = history.entries.last() else { break };
                after = Some(last.number);
                got.extend(history.entries);
            }
            if newest_first {
                got.reverse();
            }
            let expected = if newest_first || start.is_none() { &**known } else { &[] };
            assert_eq!(got, expected, "{newest_first} {start:?}");
        }
    }
}
