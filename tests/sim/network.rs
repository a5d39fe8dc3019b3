//! Virtual time: a queue of what happens next, and the weather that messages travel through.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rng::Rng;

/// What happens, by when it happens; at the same instant in the order in which it was put in.
#[derive(Debug)]
pub struct Queue<E> {
    waiting: BTreeMap<(Duration, u64), E>,
    order: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self { waiting: BTreeMap::new(), order: 0 }
    }

    pub fn put(&mut self, at: Duration, event: E) {
        self.order += 1;
        self.waiting.insert((at, self.order), event);
    }

    pub fn take(&mut self) -> Option<(Duration, E)> {
        self.waiting.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// How a message or a reply fares between a sidecar and the store.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost_per_mille: u64,
    pub twice_per_mille: u64,
    /// Arrives seconds late instead of milliseconds: after its round was given up, and out of order.
    pub late_per_mille: u64,
    pub late_max: Duration,
}

impl Weather {
    pub const CALM: Self =
        Self { lost_per_mille: 0, twice_per_mille: 0, late_per_mille: 0, late_max: Duration::from_secs(1) };

    pub fn draw(rng: &mut Rng) -> Self {
        if rng.chance(150) {
            return Self::CALM;
        }
        Self {
            lost_per_mille: rng.between(0, 300),
            twice_per_mille: rng.between(0, 200),
            late_per_mille: rng.between(0, 200),
            late_max: Duration::from_millis(rng.magnitude(500, 90_000)),
        }
    }

    /// After how long each copy arrives: none if it is lost.
    pub fn travel(&self, rng: &mut Rng) -> Vec<Duration> {
        if rng.chance(self.lost_per_mille) {
            return Vec::new();
        }
        let copies = if rng.chance(self.twice_per_mille) { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    fn delay(&self, rng: &mut Rng) -> Duration {
        if rng.chance(self.late_per_mille) {
            let late_max = u64::try_from(self.late_max.as_millis()).expect("some seconds");
            return Duration::from_millis(rng.between(20, late_max));
        }
        Duration::from_micros(rng.between(100, 20_000))
    }
}
