//! Names that the store did not know, remembered for a moment so that a flood of them costs it nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Time;

/// Unknown names, the oldest first to go. Bounded.
pub(super) struct Strangers {
    names: hashbrown::HashMap<Box<str>, Time, foldhash::fast::RandomState>,
    order: VecDeque<(Time, Box<str>)>,
    max: usize,
    keep: Duration,
}

impl Strangers {
    pub(super) fn new(max: usize, keep: Duration) -> Self {
        Self { names: hashbrown::HashMap::default(), order: VecDeque::new(), max: max.max(1), keep }
    }

    pub(super) fn remember(&mut self, name: &str, now: Time) {
        while self.order.len() >= self.max {
            self.forget_oldest();
        }
        let until = now.after(self.keep);
        self.names.insert(name.into(), until);
        self.order.push_back((until, name.into()));
    }

    /// The store was asked a moment ago and did not know it.
    pub(super) fn contains(&self, name: &str, now: Time) -> bool {
        self.names.get(name).is_some_and(|until| now < *until)
    }

    /// Somebody created it.
    pub(super) fn forget(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Frees names past their time, at most `max`. Returns whether more may be left.
    pub(super) fn sweep(&mut self, now: Time, max: usize) -> bool {
        for _ in 0..max {
            if self.order.front().is_none_or(|(until, _)| now < *until) {
                return false;
            }
            self.forget_oldest();
        }
        true
    }

    /// A name that was remembered again since stays.
    fn forget_oldest(&mut self) {
        let Some((until, name)) = self.order.pop_front() else { return };
        if self.names.get(&name).is_some_and(|kept| *kept <= until) {
            self.names.remove(&name);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}
