//! How session records end: silence, *bye*, tombstones, and oblivion.

use std::time::Duration;

use super::account::Pool;
use super::rules::PoolRules;
use super::session::{Key, Record, Stage};
use super::when::later;
use crate::clock::UnixMs;
use crate::decision::terms::ReclaimMode;

impl Pool {
    /// Takes the rights of silent sessions back and forgets old tombstones, few at a time, never the asker's.
    pub(super) fn reap(&mut self, asker: &Key, rules: &PoolRules) {
        let (mut silent, mut forgotten) = (Vec::new(), Vec::new());
        for (key, record) in self.sessions.iter().filter(|(key, _)| *key != asker) {
            let due = match record.ended() {
                None => later(later(record.expires, self.quarantine(record, rules)), rules.grace),
                Some(ended) => later(ended, rules.tombstones),
            };
            let list = if record.is_open() { &mut silent } else { &mut forgotten };
            if due <= self.now {
                list.push((due, key.clone()));
            }
        }
        for key in earliest(silent, rules.reap_max) {
            self.end(&key, Stage::Reaped(self.now));
        }
        for key in earliest(forgotten, rules.reap_max) {
            self.retire(&key);
        }
    }

    /// How long after its end a lease of a silent session may still have been spent.
    fn quarantine(&self, record: &Record, rules: &PoolRules) -> Duration {
        match self.terms.reclaim_mode {
            ReclaimMode::Limbo => rules.limbo,
            ReclaimMode::Return => record.ttl,
        }
    }

    pub(super) fn end(&mut self, key: &Key, stage: Stage) {
        let Some(record) = self.sessions.get(key).copied() else { return };
        if matches!(stage, Stage::Reaped(_)) {
            self.oddities.reaped = self.oddities.reaped.plus(record.outstanding());
        }
        self.put(key, record.ended_as(stage));
        self.ops = self.ops.saturating_add(1);
    }

    /// Forgets a record that has nothing outstanding; what it used stays counted.
    fn retire(&mut self, key: &Key) {
        if let Some(record) = self.sessions.remove(key) {
            self.retired = self.retired.plus(record.used);
        }
    }

    /// A new record takes the place of this session's closed generations and, if need be, of the oldest tombstone.
    pub(super) fn make_way(&mut self, key: &Key, rules: &PoolRules) {
        if self.sessions.contains_key(key) {
            return;
        }
        let (session, generation) = key;
        let older = (session.clone(), 0)..(session.clone(), *generation);
        let closed = self.sessions.range(older).filter(|(_, record)| record.is_closed());
        for key in closed.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.retire(&key);
        }
        if rules.sessions_max <= self.sessions.len()
            && let Some(key) = self.oldest_tombstone()
        {
            self.retire(&key);
        }
    }

    pub(super) fn oldest_tombstone(&self) -> Option<Key> {
        let ended = self.sessions.iter().filter_map(|(key, record)| Some((record.ended()?, key)));
        ended.min().map(|(_, key)| key.clone())
    }
}

/// The `max` earliest, in order; ties by key, so that every store picks the same.
fn earliest(mut due: Vec<(UnixMs, Key)>, max: usize) -> Vec<Key> {
    due.sort_unstable();
    due.truncate(max);
    due.into_iter().map(|(_, key)| key).collect()
}
