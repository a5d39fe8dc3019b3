//! Things that wait for a time, in coarse slots, first come first out. Never scanned.

use std::collections::{BTreeMap, VecDeque};

/// Items by the tick at which they are due. What an item is due for is checked again where it is popped, so nothing
/// ever has to be taken out of the middle.
pub(super) struct Wheel<T> {
    slots: BTreeMap<u64, VecDeque<T>>,
    /// The first tick that has items; the largest number where there are none. Most looks end here.
    first: u64,
    /// The last slot that was emptied, for the next one to use its memory.
    spare: VecDeque<T>,
}

/// A slot that grew larger than this is not kept for the next one.
const SPARE_MAX: usize = 1_024;

impl<T> Wheel<T> {
    pub(super) const fn new() -> Self {
        Self { slots: BTreeMap::new(), first: u64::MAX, spare: VecDeque::new() }
    }

    pub(super) fn push(&mut self, tick: u64, item: T) {
        self.first = self.first.min(tick);
        self.slots.entry(tick).or_insert_with(|| std::mem::take(&mut self.spare)).push_back(item);
    }

    /// The first item whose tick is not after `tick`, with its tick.
    pub(super) fn pop(&mut self, tick: u64) -> Option<(u64, T)> {
        if tick < self.first {
            return None;
        }
        let mut slot = self.slots.first_entry()?;
        let at = *slot.key();
        let item = slot.get_mut().pop_front();
        if slot.get().is_empty() {
            let emptied = slot.remove();
            if emptied.capacity() <= SPARE_MAX {
                self.spare = emptied;
            }
            self.first = self.slots.first_key_value().map_or(u64::MAX, |(tick, _)| *tick);
        }
        item.map(|item| (at, item))
    }
}
