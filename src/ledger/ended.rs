//! Holds that ended, in a row, the oldest first to go.

use std::collections::VecDeque;

use super::chains::{Chains, NUMBER_MAX};
use super::hold::{HoldKey, Late, Past};
use crate::clock::Time;

/// Ended holds, found by the hash of their key.
///
/// Those with like hashes form a chain, the newest first. Nearly all are forgotten without being looked at again, so
/// forgetting touches the front of the row alone: a chain that leads to what is forgotten ends there.
pub(super) struct Row {
    row: VecDeque<Remembered>,
    /// The count of the row's front. Counts begin with 1 and rise along the row.
    first: u32,
    /// By their counts.
    chains: Chains,
    /// Of holds that expired, which may still be settled, by their rising counts; few ever do.
    expired: VecDeque<(u32, Option<Late>)>,
}

struct Remembered {
    until: Time,
    key: HoldKey,
    /// The count of the next in its chain.
    before: u32,
    past: Past,
}

impl Row {
    pub(super) const fn new() -> Self {
        Self { row: VecDeque::new(), first: 1, chains: Chains::new(), expired: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &HoldKey, hash: u64, now: Time) -> Option<&Past> {
        self.row.get(self.place_of(key, hash, now)?).map(|remembered| &remembered.past)
    }

    /// Where the chain of a hash begins.
    pub(super) fn front(&self, hash: u64) -> u32 {
        self.chains.front(hash)
    }

    /// What is remembered, and once, if it expired, what a settle needs.
    pub(super) fn settle(&mut self, key: &HoldKey, hash: u64, now: Time) -> Option<(&mut Past, Option<Late>)> {
        let place = self.place_of(key, hash, now)?;
        let count = self.first.saturating_add(u32::try_from(place).ok()?);
        let expired = self.expired.binary_search_by_key(&count, |(count, _)| *count).ok();
        let late = expired.and_then(|place| self.expired.get_mut(place)).and_then(|(_, late)| late.take());
        self.row.get_mut(place).map(|remembered| (&mut remembered.past, late))
    }

    /// Puts a hold at the end of the row. Its `hash` is what `hash_of` tells for its key; that one is for all the others.
    pub(super) fn push(
        &mut self,
        (key, hash): (HoldKey, u64),
        (past, expired): (Past, Option<Late>),
        until: Time,
        hash_of: impl Fn(&HoldKey) -> u64,
    ) {
        let length = u32::try_from(self.row.len()).unwrap_or(u32::MAX);
        let mut count = self.first.saturating_add(length);
        if count > NUMBER_MAX || self.chains.is_crowded(self.row.len()) {
            count = self.chain_anew(&hash_of);
        }
        if expired.is_some() {
            self.expired.push_back((count, expired));
        }
        let before = self.chains.push(hash, count, |count| count >= self.first);
        self.row.push_back(Remembered { until, key, before, past });
    }

    /// When the one that goes first is forgotten.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.row.front().map(|remembered| remembered.until)
    }

    /// Reads nothing of it: it was written long ago and is in no cache any more.
    pub(super) fn forget_oldest(&mut self) {
        if self.row.is_empty() {
            return;
        }
        self.row.drain(..1);
        while self.expired.pop_front_if(|(count, _)| *count <= self.first).is_some() {}
        self.first = self.first.saturating_add(1);
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Past> {
        self.row.iter().map(|remembered| &remembered.past)
    }

    /// Counts from 1 again, with chains for more; returns the count of the next.
    fn chain_anew(&mut self, hash_of: &impl Fn(&HoldKey) -> u64) -> u32 {
        self.chains.clear(self.row.len());
        for (count, _) in &mut self.expired {
            *count = count.saturating_sub(self.first).saturating_add(1);
        }
        self.first = 1;
        let mut count = self.first;
        for remembered in &mut self.row {
            remembered.before = self.chains.push(hash_of(&remembered.key), count, |_| true);
            count = count.saturating_add(1);
        }
        count
    }

    /// One past its time is as good as forgotten: its account may be gone, and another one in its place.
    fn place_of(&self, key: &HoldKey, hash: u64, now: Time) -> Option<usize> {
        let mut count = self.chains.first(hash)?;
        while let Some(back) = count.checked_sub(self.first) {
            let place = usize::try_from(back).ok()?;
            let remembered = self.row.get(place)?;
            if remembered.key == *key {
                return (now < remembered.until).then_some(place);
            }
            count = remembered.before;
        }
        None
    }
}
