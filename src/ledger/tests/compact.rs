//! What is kept in few bits says the same as what is kept in many.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Time;
use crate::ledger::chunk::Rate;
use crate::ledger::compact::{Base, LowBits, Moment, Rough};
use crate::ledger::words::Heard;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn moments_are_rounded_down_to_a_millisecond() {
    let start = Time::from_nanos(1_000_000_000_000_000_123);
    let base = Base::new(start);
    for later in [0, 1, 999_999, 1_000_000, 1_000_001, 86_400_000_000_000] {
        let time = start.after(Duration::from_nanos(later));
        let kept = base.time(base.mark(time));
        assert!(kept <= time && time.since(kept) < Duration::from_millis(1), "{time:?} became {kept:?}");
    }
    assert_eq!(base.time(Moment::default()), Time::default(), "never stays never");
    assert_eq!(base.mark(Time::default()), Moment::default());
}

/// Past the end of its bits a moment stops: what was to last longer ends early, and nothing runs over to the beginning.
#[test]
fn moments_stop_after_49_days_and_bases_move_on_before() {
    let start = Time::from_nanos(5_000_000_000);
    let base = Base::new(start);
    let far = start.after(DAY * 60);
    let stopped = base.time(base.mark(far));
    assert!(stopped < far && start.after(DAY * 49) < stopped);
    assert_eq!(base.next(start.after(DAY * 24)), None);
    let now = start.after(DAY * 26);
    let next = base.next(now).expect("26 days are too far back");
    for (age, expected) in [(0, 0), (1, 1), (11, 11), (20, 12), (26, 12)] {
        let then = now.before(DAY * age);
        let carried = next.time(base.carry(base.mark(then), next));
        let off = now.since(carried).abs_diff(DAY * expected);
        assert!(off < DAY, "{age} days ago became {:?} ago", now.since(carried));
    }
    assert_eq!(base.carry(Moment::default(), next), Moment::default());
}

/// Counters of 32 bits begin anew before they are full; what was charged and used is told once, whenever it happened.
#[test]
fn counters_begin_anew_and_nothing_is_told_twice() {
    let mut now = Time::from_nanos(5_000_000_000);
    let mut rate = Rate::<1>::new(now);
    let (mut charged, mut used) = (0, 0);
    let mut told = BTreeMap::new();
    let mut lent = BTreeMap::new();
    for turn in 0..100_u64 {
        let mut spend = |rate: &mut Rate<1>, tokens: u64| {
            rate.true_up([0], [tokens], now);
            rate.count_used([tokens / 2]);
            charged += tokens;
            used += tokens / 2;
        };
        spend(&mut rate, 100_000_000 + turn);
        let said = rate.say(Duration::ZERO, false, now);
        told.insert(said.generation, (said.debt, said.used));
        let known = said.granted_known[0];
        assert_eq!(known, lent.get(&said.generation).copied().unwrap_or(0), "grants belong to their generation");
        spend(&mut rate, 1_000);
        let granted = known + 50_000_000;
        lent.insert(said.generation, granted);
        let heard = Heard { granted, fresh: 50_000_000, per_minute: 1 << 40, level: 0 };
        rate.hear([heard], 60, now.after(Duration::from_secs(1)), now);
        rate.renew_if_full(said.used, false, now);
        rate.assert_invariants();
        // A chunk of the generation before is not at hand any more: what is taken is charged beyond it.
        rate.take([50_000_000], now);
        charged += if rate.generation() == said.generation { 0 } else { 50_000_000 };
        now = now.after(Duration::from_millis(100));
    }
    let said = rate.say(Duration::ZERO, true, now);
    told.insert(said.generation, (said.debt, said.used));
    assert!(told.len() > 3, "counters began anew");
    let sums = told.values().fold((0, 0), |sums, (debt, used)| (sums.0 + debt[0], sums.1 + used[0]));
    assert_eq!(sums, (charged, used));
}

#[test]
fn rough_amounts_are_never_larger_and_hardly_smaller() {
    for amount in [-1, 0, 1, (1 << 26) - 1, 1 << 26, (1 << 26) + 1, 123_456_789_012_345, i64::MAX] {
        let rough = Rough::of(amount).amount();
        let exact = amount.max(0);
        assert!(rough <= exact && exact - rough <= exact >> 25, "{amount} became {rough}");
    }
}

#[test]
fn low_bits_tell_which_count_is_lower() {
    let counts = [(0, 1, true), (1, 0, false), (5, 5, false), (u64::MAX, 0, true), (1 << 32, (1 << 32) + 9, true)];
    for (one, other, is_below) in counts.into_iter().chain([((1 << 32) - 1, 1 << 32, true)]) {
        assert_eq!(LowBits::of(one).is_below(LowBits::of(other)), is_below, "{one} below {other}");
    }
}
