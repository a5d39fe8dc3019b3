//! Holds that ended, in a row, the oldest first to go.

use std::collections::VecDeque;

use super::hold::{Hold, HoldKey, Past};
use crate::clock::Time;

/// Ended holds, found by the hash of their key.
///
/// Those with like hashes form a chain, the newest first. Nearly all are forgotten without being looked at again, so
/// forgetting touches the front of the row alone: a chain that leads to what is forgotten ends there.
pub(super) struct Row {
    row: VecDeque<Remembered>,
    /// The count of the row's front. Counts begin with 1 and rise along the row.
    first: u32,
    /// The count of the newest of each chain; zero before there was one.
    chains: Vec<u32>,
    /// Holds that expired, which may still be settled, by their rising counts; few ever do.
    expired: VecDeque<(u32, Option<Box<Hold>>)>,
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
        Self { row: VecDeque::new(), first: 1, chains: Vec::new(), expired: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &HoldKey, hash: u64, now: Time) -> Option<&Past> {
        self.row.get(self.place_of(key, hash, now)?).map(|remembered| &remembered.past)
    }

    /// What is remembered, and once the hold itself if it expired.
    pub(super) fn settle(&mut self, key: &HoldKey, hash: u64, now: Time) -> Option<(&mut Past, Option<Box<Hold>>)> {
        let place = self.place_of(key, hash, now)?;
        let count = self.first.saturating_add(u32::try_from(place).ok()?);
        let expired = self.expired.binary_search_by_key(&count, |(count, _)| *count).ok();
        let hold = expired.and_then(|place| self.expired.get_mut(place)).and_then(|(_, hold)| hold.take());
        self.row.get_mut(place).map(|remembered| (&mut remembered.past, hold))
    }

    /// Puts a hold at the end of the row.
    pub(super) fn push(
        &mut self,
        key: HoldKey,
        (past, expired): (Past, Option<Box<Hold>>),
        until: Time,
        hash: impl Fn(&HoldKey) -> u64,
    ) {
        let next = u32::try_from(self.row.len()).ok().and_then(|length| self.first.checked_add(length));
        let is_crowded = self.row.len() >= self.chains.len() / 2;
        let count = match next {
            Some(count) if !is_crowded => count,
            Some(_) | None => self.chain_anew(&hash),
        };
        if expired.is_some() {
            self.expired.push_back((count, expired));
        }
        let before = link(&mut self.chains, hash(&key), count);
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

    /// Counts from 1 again, with chains for twice as many; returns the count of the next.
    fn chain_anew(&mut self, hash: &impl Fn(&HoldKey) -> u64) -> u32 {
        let chains = self.row.len().saturating_add(1).saturating_mul(4).next_power_of_two();
        self.chains = vec![0; chains.max(self.chains.len())];
        for (count, _) in &mut self.expired {
            *count = count.saturating_sub(self.first).saturating_add(1);
        }
        self.first = 1;
        let mut count = self.first;
        for remembered in &mut self.row {
            remembered.before = link(&mut self.chains, hash(&remembered.key), count);
            count = count.checked_add(1).expect("the bound on ended holds is far below 2^32");
        }
        count
    }

    /// One past its time is as good as forgotten: its account may be gone, and another one in its place.
    fn place_of(&self, key: &HoldKey, hash: u64, now: Time) -> Option<usize> {
        let mut count = *self.chains.get(chain_of(&self.chains, hash))?;
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

/// Makes `count` the newest of its chain; returns the one that was.
fn link(chains: &mut [u32], hash: u64, count: u32) -> u32 {
    let chain = chain_of(chains, hash);
    chains.get_mut(chain).map_or(0, |newest| std::mem::replace(newest, count))
}

fn chain_of(chains: &[u32], hash: u64) -> usize {
    let mask = u64::try_from(chains.len()).unwrap_or(0).saturating_sub(1);
    usize::try_from(hash & mask).unwrap_or(0)
}
