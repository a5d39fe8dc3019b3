//! Limits that follow use: every vector of the law, and what always holds.

use proptest::prelude::*;

use super::SHIPPED;
use crate::decision::adaptive::{Adaptive, Bounds, Minute};
use crate::decision::catalogue::{Controller, RateRule};

const DAY: Minute = 1_440;
/// Not at the edge of a history bin.
const START: Minute = 29_000_007;

fn rule() -> RateRule {
    SHIPPED.rates
}

const fn bounds(start: u64, ceiling: u64) -> Bounds {
    Bounds { start, floor: start / 4, ceiling: Some(ceiling), pinned: false }
}

/// Steps `used` tokens in each of `minutes` minutes, and gives each change: how many minutes had ended, and the limit.
fn changes(
    state: &mut Adaptive,
    bounds: Bounds,
    from: Minute,
    minutes: Minute,
    used: impl Fn(u64) -> u64,
) -> Vec<(Minute, u64)> {
    let mut changes = Vec::new();
    for minute in from..from + minutes {
        let before = state.effective(bounds);
        *state = state.step(&rule(), bounds, minute, used(before));
        let after = state.effective(bounds);
        if after != before {
            changes.push((minute + 1 - from, after));
        }
    }
    changes
}

#[test]
fn sustained_use_above_half_grows_the_limit_by_a_quarter_each_15_minutes() {
    let bounds = bounds(1_000_000, 10_000_000);
    let mut state = Adaptive::start(bounds, START);
    let grown = changes(&mut state, bounds, START, 60, |limit| limit / 2 + 1);
    assert_eq!(grown, [(15, 1_250_000), (30, 1_562_500), (45, 1_953_125), (60, 2_441_406)]);
}

#[test]
fn a_start_reaches_its_ceiling_in_nine_steps() {
    let bounds = bounds(3_600_000, 21_600_000);
    let mut state = Adaptive::start(bounds, START);
    let grown = changes(&mut state, bounds, START, 300, |limit| limit);
    assert_eq!(grown.len(), 9);
    assert_eq!(grown.last(), Some(&(135, 21_600_000)));
}

#[test]
fn a_limit_far_above_its_use_shrinks_by_a_fifth_each_day_after_the_third() {
    let bounds = Bounds { floor: 900_000, ..bounds(10_000_000, 21_600_000) };
    let mut state = Adaptive::start(bounds, START);
    let shrunk = changes(&mut state, bounds, START, 20 * DAY, |_| 1_000_000);
    let days = [(3, 8_000_000), (4, 6_400_000), (5, 5_120_000), (6, 4_096_000), (7, 3_276_800), (8, 2_621_440)];
    assert_eq!(shrunk, days.map(|(day, limit)| (day * DAY, limit)));
}

#[test]
fn a_busy_last_minute_puts_a_decrease_off() {
    let bounds = bounds(10_000_000, 21_600_000);
    let mut state = Adaptive::start(bounds, START);
    changes(&mut state, bounds, START, 3 * DAY - 1, |_| 1_000_000);
    let due = START + 3 * DAY - 1;
    // Half of the decreased limit would be 4 M.
    assert_eq!(state.step(&rule(), bounds, due, 3_999_999).effective(bounds), 8_000_000);
    assert_eq!(changes(&mut state, bounds, due, 1, |_| 4_000_000), []);
    assert_eq!(changes(&mut state, bounds, due + 1, 1, |_| 1_000_000), [(1, 8_000_000)]);
}

#[test]
fn exactly_half_does_not_grow() {
    let bounds = bounds(1_000_000, 10_000_000);
    let mut state = Adaptive::start(bounds, START);
    assert_eq!(changes(&mut state, bounds, START, 120, |limit| limit / 2), []);
    assert_eq!(changes(&mut state, bounds, START + 120, 1, |limit| limit / 2 + 1), [(1, 1_250_000)]);
}

#[test]
fn more_than_72_idle_hours_bring_the_start_back() {
    let check = |idle: Minute, pinned: bool, expected: u64| {
        let bounds = Bounds { pinned, ..bounds(1_000_000, 10_000_000) };
        let mut state = Adaptive::start(bounds, START);
        changes(&mut state, bounds, START, 60, |limit| limit);
        let state = state.step(&rule(), bounds, START + 59 + idle, 1);
        assert_eq!(state.effective(bounds), expected, "{idle} minutes, pinned: {pinned}");
    };
    let still = 2_441_406;
    check(DAY, false, still);
    // Full history is known only an hour before the end, when the busy first hour still counts.
    check(3 * DAY, false, still);
    check(3 * DAY + 1, false, 1_000_000);
    check(30 * DAY, false, 1_000_000);
    // Pinned limits are not reset; they shrink day by day to the floor.
    check(3 * DAY + 1, true, still);
    check(30 * DAY, true, 250_000);
}

#[test]
fn a_reset_clears_the_history() {
    let bounds = bounds(1_000_000, 10_000_000);
    let mut state = Adaptive::start(bounds, START);
    changes(&mut state, bounds, START, 60, |limit| limit);
    let reset = START + 100 * DAY;
    let fresh = Adaptive::start(bounds, reset).step(&rule(), bounds, reset, 5);
    assert_eq!(state.step(&rule(), bounds, reset, 5), fresh);
}

#[test]
fn a_moved_ceiling_lowers_only_what_is_above_it() {
    let mut state = Adaptive::start(bounds(1_000_000, 10_000_000), START);
    changes(&mut state, bounds(1_000_000, 10_000_000), START, 60, |limit| limit);
    let grown = state.clone();
    let step = |ceiling, minute| {
        let bounds = bounds(1_000_000, ceiling);
        grown.step(&rule(), bounds, minute, 1).effective(bounds)
    };
    assert_eq!(step(20_000_000, START + 60), 2_441_406);
    assert_eq!(step(2_500_000, START + 60), 2_441_406);
    assert_eq!(step(2_000_000, START + 60), 2_000_000);
    // A ceiling that comes back gives nothing back.
    state = state.step(&rule(), bounds(1_000_000, 2_000_000), START + 60, 1);
    assert_eq!(state.effective(bounds(1_000_000, 10_000_000)), 2_000_000);
}

#[test]
fn without_a_ceiling_it_grows_on() {
    let bounds = Bounds { ceiling: None, ..bounds(1_000_000, 0) };
    let mut state = Adaptive::start(bounds, START);
    assert_eq!(changes(&mut state, bounds, START, 600, |limit| limit).len(), 40);
}

#[test]
fn metrics_under_different_load_diverge() {
    let bounds = bounds(1_000_000, 10_000_000);
    let mut busy = Adaptive::start(bounds, START);
    let mut quiet = busy.clone();
    changes(&mut busy, bounds, START, 4 * DAY, |limit| limit);
    changes(&mut quiet, bounds, START, 4 * DAY, |_| 1_000);
    assert_eq!((busy.effective(bounds), quiet.effective(bounds)), (10_000_000, 640_000));
}

#[test]
fn a_fixed_limit_stays_where_it_starts() {
    let rule = RateRule { controller: Controller::Fixed, ..rule() };
    let bounds = bounds(1_000_000, 10_000_000);
    let state = (START..START + 60)
        .fold(Adaptive::start(bounds, START), |state, minute| state.step(&rule, bounds, minute, 900_000));
    assert_eq!(state.effective(bounds), 1_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Stepping only the minutes that had use comes to the same as stepping every minute, as the law says it.
    #[test]
    fn gaps_are_made_up_for(uses in prop::collection::vec((1..3_000_u64, 1..12_000_000_u64), 1..12)) {
        let bounds = bounds(1_000_000, 10_000_000);
        let mut sparse = Adaptive::start(bounds, START);
        let mut model = Model::start(bounds, START);
        let mut minute = START;
        for (gap, used) in uses {
            for idle in minute + 1..minute + gap {
                model.tick(bounds, idle, 0);
            }
            minute += gap;
            model.tick(bounds, minute, used);
            sparse = sparse.step(&rule(), bounds, minute, used);
            prop_assert_eq!(sparse.effective(bounds), model.limit);
        }
    }

    #[test]
    fn a_limit_stays_between_floor_and_ceiling(
        uses in prop::collection::vec((0..6_000_u64, any::<u64>()), 1..50), start: u64, ceiling: u64,
    ) {
        let bounds = Bounds { start, floor: start / 4, ceiling: Some(ceiling.max(start)), pinned: false };
        let mut state = Adaptive::start(bounds, START);
        let mut minute = START;
        for (gap, used) in uses {
            minute += gap;
            state = state.step(&rule(), bounds, minute, used);
            prop_assert!((bounds.floor..=ceiling.max(start)).contains(&state.effective(bounds)));
        }
    }
}

/// The law of one limit, minute by minute and without a thought for speed.
struct Model {
    limit: u64,
    since: Minute,
    increased: Minute,
    changed: Minute,
    busy: Minute,
    uses: Vec<(Minute, u64)>,
}

impl Model {
    fn start(bounds: Bounds, minute: Minute) -> Self {
        let uses = Vec::new();
        Self { limit: bounds.start, since: minute, increased: minute, changed: minute, busy: minute, uses }
    }

    fn tick(&mut self, bounds: Bounds, minute: Minute, used: u64) {
        if used > 0 && minute - self.busy > 3 * DAY {
            *self = Self::start(bounds, minute);
        }
        if used > 0 {
            self.busy = minute;
            self.uses.push((minute, used));
        }
        let tick = minute + 1;
        let ceiling = bounds.ceiling.unwrap();
        if used * 2 > self.limit && tick - self.increased >= 15 && self.limit < ceiling {
            self.limit = (self.limit * 5 / 4).min(ceiling);
            self.increased = tick;
            self.changed = tick;
        } else if self.busiest_bin(tick) * 100 < self.limit * 33 * 15
            && tick - self.changed >= DAY
            && tick - self.since >= 3 * DAY
            && used * 10 < self.limit * 4
            && self.limit > bounds.floor
        {
            self.limit = (self.limit * 4 / 5).max(bounds.floor);
            self.changed = tick;
        }
    }

    fn busiest_bin(&self, tick: Minute) -> u64 {
        let in_history = |minute: &Minute| minute / 15 * 15 + 15 + 3 * DAY > tick;
        let sum_of =
            |bin: Minute| self.uses.iter().filter(|(minute, _)| minute / 15 == bin).map(|(_, used)| used).sum();
        self.uses
            .iter()
            .map(|(minute, _)| *minute)
            .filter(in_history)
            .map(|minute| sum_of(minute / 15))
            .max()
            .unwrap_or(0)
    }
}
