//! A count over all shards that costs no atomic operation each time: a shard tells its own part in steps.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One shard's part of a count. What all shards count together is off by less than a step for each other shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    here: usize,
    told: usize,
    step: usize,
}

impl Tally {
    /// For a count that is bounded by `max`: the steps of all shards are a small part of it.
    pub(super) fn new(max: usize, shards: usize) -> Self {
        let step = max.checked_div(shards.saturating_mul(16)).unwrap_or(0).clamp(1, 64);
        Self { here: 0, told: 0, step }
    }

    pub(super) const fn here(&self) -> usize {
        self.here
    }

    /// The count over all shards, as far as they told.
    pub(super) fn of_all(&self, all: &AtomicUsize) -> usize {
        all.load(Ordering::Relaxed).saturating_add(self.here).saturating_sub(self.told)
    }

    pub(super) fn up(&mut self, all: &AtomicUsize) {
        self.here = self.here.saturating_add(1);
        self.tell(all);
    }

    pub(super) fn down(&mut self, all: &AtomicUsize) {
        self.here = self.here.checked_sub(1).expect("what goes was counted when it came");
        self.tell(all);
    }

    fn tell(&mut self, all: &AtomicUsize) {
        if self.here.abs_diff(self.told) < self.step {
            return;
        }
        if self.here > self.told {
            all.fetch_add(self.here.abs_diff(self.told), Ordering::Relaxed);
        } else {
            all.fetch_sub(self.here.abs_diff(self.told), Ordering::Relaxed);
        }
        self.told = self.here;
    }
}
