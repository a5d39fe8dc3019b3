//! How a limit follows use: grows by a quarter when it is needed, shrinks by a fifth when it long was not.
//!
//! Pure steps on minute ticks. A store keeps the state as it is; any sidecar may run the step and propose the result.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::catalogue::{AdaptiveRule, Controller, RateRule, percent_of};

/// Minutes since 1970-01-01T00:00Z.
pub type Minute = u64;

/// One adaptive limit and what it must remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adaptive {
    /// `L`, in tokens per minute, before floor and ceiling are applied to it.
    limit: u64,
    /// The first minute that is known.
    since: Minute,
    /// The last increase; `since` before there was one.
    increased: Minute,
    /// The last change of the limit; `since` before there was one.
    changed: Minute,
    /// The last minute that had traffic.
    busy: Minute,
    /// Sums of use by history bin, oldest first; only bins that may still be the highest are kept.
    history: Vec<(Minute, u64)>,
}

/// The bounds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `D`.
    pub start: u64,
    /// `F`.
    pub floor: u64,
    /// `C`; `None` is no ceiling.
    pub ceiling: Option<u64>,
    /// A custom limit or a reservation: never reset for idleness.
    pub pinned: bool,
}

impl Adaptive {
    /// A limit that starts now.
    pub fn start(bounds: Bounds, minute: Minute) -> Self {
        Self {
            limit: bounds.start,
            since: minute,
            increased: minute,
            changed: minute,
            busy: minute,
            history: Vec::new(),
        }
    }

    /// The state after `minute` ended, in which `used` tokens were settled. Minutes without a call had no use.
    #[must_use]
    pub fn step(&self, rule: &RateRule, bounds: Bounds, minute: Minute, used: u64) -> Self {
        let rule = match &rule.controller {
            Controller::Fixed => return Self::start(bounds, minute),
            Controller::Adaptive(rule) => rule,
        };
        let idle = minute.saturating_sub(self.busy);
        let forgotten = idle > minutes(rule.reset_after_idle) && !bounds.pinned;
        let mut next = if forgotten { Self::start(bounds, minute) } else { self.clone() };
        next.shrink_while_idle(rule, bounds, minute);
        next.bound(bounds, minute);
        next.busy = next.busy.max(minute);
        let tick = minute.saturating_add(1);
        next.record(rule, minute, used);
        next.forget(rule, tick);
        if !next.grow(rule, bounds, tick, used) {
            next.shrink(rule, bounds, tick, used);
        }
        next
    }

    /// `clamp(L, F, C)`.
    pub fn effective(&self, bounds: Bounds) -> u64 {
        let below_ceiling = bounds.ceiling.map_or(self.limit, |ceiling| self.limit.min(ceiling));
        below_ceiling.max(bounds.floor)
    }

    /// Brings `L` between floor and ceiling, which may have moved since.
    fn bound(&mut self, bounds: Bounds, minute: Minute) {
        let limit = self.effective(bounds);
        if limit != self.limit {
            self.limit = limit;
            self.changed = minute;
        }
    }

    /// INCREASE, and whether it came to that.
    fn grow(&mut self, rule: &AdaptiveRule, bounds: Bounds, tick: Minute, used: u64) -> bool {
        let wanted = times(used, 100) > times(self.limit, u64::from(rule.increase_above_percent));
        let due = tick.saturating_sub(self.increased) >= minutes(rule.increase_every);
        let room = bounds.ceiling.is_none_or(|ceiling| self.limit < ceiling);
        if !(wanted && due && room) {
            return false;
        }
        let grown = percent_of(self.limit, rule.increase_to_percent);
        self.limit = bounds.ceiling.map_or(grown, |ceiling| grown.min(ceiling));
        self.increased = tick;
        self.changed = tick;
        true
    }

    /// DECREASE at `tick`, and whether it came to that. What is known must reach back over the whole history.
    fn shrink(&mut self, rule: &AdaptiveRule, bounds: Bounds, tick: Minute, used: u64) -> bool {
        let busiest = self.history.first().map_or(0, |(_, sum)| *sum);
        let bin_limit = times(self.limit, u64::from(rule.decrease_below_percent));
        let quiet = times(busiest, 100) < bin_limit.saturating_mul(u128::from(minutes(rule.history_bin)));
        let due = tick >= self.shrink_due(rule);
        let shrunk_percent = u64::from(rule.decrease_to_percent).saturating_mul(u64::from(rule.decrease_guard_percent));
        let fits = times(used, 10_000) < times(self.limit, shrunk_percent);
        if !(quiet && due && fits && self.limit > bounds.floor) {
            return false;
        }
        self.limit = percent_of(self.limit, rule.decrease_to_percent).max(bounds.floor);
        self.changed = tick;
        true
    }

    /// The first tick at which a decrease is old enough: after the last change, and with a full history.
    fn shrink_due(&self, rule: &AdaptiveRule) -> Minute {
        let rested = self.changed.saturating_add(minutes(rule.decrease_every));
        rested.max(self.since.saturating_add(minutes(rule.history)))
    }

    /// Makes up for the ticks of the minutes without use, between the last busy one and `minute`.
    ///
    /// Only two things happen in them: a decrease becomes due, or the busiest bin leaves the history.
    fn shrink_while_idle(&mut self, rule: &AdaptiveRule, bounds: Bounds, minute: Minute) {
        let mut tick = self.busy.saturating_add(2);
        loop {
            tick = tick.max(self.shrink_due(rule));
            if tick > minute || self.limit <= bounds.floor {
                return;
            }
            self.forget(rule, tick);
            if self.shrink(rule, bounds, tick, 0) {
                tick = tick.saturating_add(1);
                continue;
            }
            match self.history.first() {
                Some((bin, _)) => tick = left_history(rule, *bin),
                None => return,
            }
        }
    }

    /// Adds to the minute's bin. A bin that a later one reaches can no longer be the highest and is dropped, so the
    /// sums fall from first to last and the first is the highest.
    fn record(&mut self, rule: &AdaptiveRule, minute: Minute, used: u64) {
        let bin = minute.saturating_sub(minute.checked_rem(minutes(rule.history_bin)).unwrap_or(0));
        let sum = match self.history.pop_if(|(last, _)| *last >= bin) {
            Some((_, sum)) => sum.saturating_add(used),
            None => used,
        };
        while self.history.pop_if(|(_, earlier)| *earlier <= sum).is_some() {}
        self.history.push((bin, sum));
    }

    /// Drops the bins that ended before the history begins.
    fn forget(&mut self, rule: &AdaptiveRule, tick: Minute) {
        self.history.retain(|(bin, _)| left_history(rule, *bin) > tick);
    }
}

/// The first tick whose history no longer touches `bin`.
fn left_history(rule: &AdaptiveRule, bin: Minute) -> Minute {
    bin.saturating_add(minutes(rule.history_bin)).saturating_add(minutes(rule.history))
}

fn minutes(duration: Duration) -> Minute {
    duration.as_secs() / 60
}

fn times(a: u64, b: u64) -> u128 {
    u128::from(a).saturating_mul(u128::from(b))
}
