//! The holds of a shard: open ones in a small table that stays in the cache, ended ones in a row, oldest first.
//!
//! Nearly every hold that is remembered has ended and is never looked at again, so it must not be in the way.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use super::hold::{Hold, HoldKey, Past};
use crate::clock::Time;

/// Open and ended holds by their key.
///
/// What always holds: a key is open, or in the row and within its time, but once; `ended` has as many entries as `row`.
pub(super) struct Holds {
    open: hashbrown::HashMap<HoldKey, Hold, foldhash::fast::RandomState>,
    /// Where in the row an ended hold is, counted from the first that ever was in it.
    ended: hashbrown::HashTable<u64>,
    row: VecDeque<Remembered>,
    /// The count of the row's front.
    first: u64,
}

struct Remembered {
    until: Time,
    key: HoldKey,
    past: Past,
}

impl Holds {
    pub(super) fn new() -> Self {
        Self { open: hashbrown::HashMap::default(), ended: hashbrown::HashTable::new(), row: VecDeque::new(), first: 0 }
    }

    pub(super) fn open(&self, key: &HoldKey) -> Option<&Hold> {
        self.open.get(key)
    }

    pub(super) fn open_mut(&mut self, key: &HoldKey) -> Option<&mut Hold> {
        self.open.get_mut(key)
    }

    /// A hold that ended and is remembered.
    pub(super) fn past(&self, key: &HoldKey, now: Time) -> Option<&Past> {
        let place = self.place_of(key, now)?;
        self.row.get(place).map(|remembered| &remembered.past)
    }

    pub(super) fn past_mut(&mut self, key: &HoldKey, now: Time) -> Option<&mut Past> {
        let place = self.place_of(key, now)?;
        self.row.get_mut(place).map(|remembered| &mut remembered.past)
    }

    /// Opens a hold under a key that is not known.
    pub(super) fn insert(&mut self, key: HoldKey, hold: Hold) {
        self.open.insert(key, hold);
    }

    /// Takes an open hold out, to end it.
    pub(super) fn take(&mut self, key: &HoldKey) -> Option<Hold> {
        self.open.remove(key)
    }

    /// Puts a hold that ended at the end of the row.
    pub(super) fn remember(&mut self, key: HoldKey, past: Past, until: Time) {
        let count = self.first.saturating_add(u64::try_from(self.row.len()).unwrap_or(u64::MAX));
        self.row.push_back(Remembered { until, key, past });
        let (row, first, open) = (&self.row, self.first, &self.open);
        self.ended.insert_unique(open.hasher().hash_one(key), count, |count| {
            row.get(place_in_row(first, *count)).map_or(0, |remembered| open.hasher().hash_one(remembered.key))
        });
    }

    /// When the ended hold that goes first is forgotten.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.row.front().map(|remembered| remembered.until)
    }

    pub(super) fn forget_oldest(&mut self) {
        let Some(Remembered { key, .. }) = self.row.pop_front() else { return };
        let first = self.first;
        if let Ok(entry) = self.ended.find_entry(self.open.hasher().hash_one(key), |count| *count == first) {
            entry.remove();
        }
        self.first = first.saturating_add(1);
    }

    pub(super) fn open_keys(&self) -> impl Iterator<Item = HoldKey> {
        self.open.keys().copied()
    }

    #[cfg(test)]
    pub(super) fn all_open(&self) -> impl Iterator<Item = (&HoldKey, &Hold)> {
        self.open.iter()
    }

    #[cfg(test)]
    pub(super) fn all_past(&self) -> impl Iterator<Item = &Past> {
        self.row.iter().map(|remembered| &remembered.past)
    }

    /// One past its time is as good as forgotten: its account may be gone, and another one in its place.
    fn place_of(&self, key: &HoldKey, now: Time) -> Option<usize> {
        let is_it = |count: &u64| {
            let remembered = self.row.get(place_in_row(self.first, *count));
            remembered.is_some_and(|remembered| remembered.key == *key && now < remembered.until)
        };
        let count = self.ended.find(self.open.hasher().hash_one(key), is_it)?;
        Some(place_in_row(self.first, *count))
    }
}

fn place_in_row(first: u64, count: u64) -> usize {
    usize::try_from(count.saturating_sub(first)).unwrap_or(usize::MAX)
}
