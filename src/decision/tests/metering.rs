//! Buckets: exact to the nanosecond and to the token.

use std::time::Duration;

use proptest::prelude::*;

use super::NOW;
use crate::clock::Time;
use crate::decision::rate::{Bucket, Limit, UNITS_PER_TOKEN, Wait};

const fn limit(per_minute: u64, burst_seconds: u32) -> Limit {
    Limit { per_minute, burst_seconds }
}

#[test]
fn waits_are_exact() {
    let check = |limit: Limit, level: u64, need: u64, wait: Wait| {
        let mut bucket = Bucket::EMPTY;
        bucket.charge(limit, level, NOW);
        assert_eq!(bucket.wait(limit, need, NOW), wait, "{limit:?} at {level} for {need}");
    };
    let after = |nanos| Wait::After(Duration::from_nanos(nanos));
    check(limit(60, 60), 0, 60, Wait::Now);
    check(limit(60, 60), 0, 61, Wait::Never);
    check(limit(60, 60), 60, 1, after(1_000_000_000));
    check(limit(60, 60), 59, 1, Wait::Now);
    check(limit(7, 60), 7, 1, after(8_571_428_572));
    // Debt: a true-up went above the capacity.
    check(limit(60, 60), 120, 1, after(61_000_000_000));
    check(limit(60, 10), 0, 10, Wait::Now);
    check(limit(60, 10), 0, 11, Wait::Never);
    // A burst of a third of a token holds no token.
    check(limit(20, 1), 0, 1, Wait::Never);
    check(limit(0, 60), 0, 0, Wait::Now);
    check(limit(0, 60), 0, 1, Wait::Never);
    check(limit(60, 0), 0, 1, Wait::Never);
    check(limit(60, 60), 1_000, 0, Wait::Now);
    check(limit(u64::MAX, u32::MAX), u64::MAX, u64::MAX, Wait::Now);
    check(limit(u64::MAX, 60), u64::MAX, 1, after(1));
    check(limit(1, 60), u64::MAX, 1, Wait::After(Duration::MAX));
}

#[test]
fn before_the_last_change_the_level_is_that_of_the_change() {
    let limit = limit(60, 60);
    let mut bucket = Bucket::EMPTY;
    bucket.charge(limit, 60, NOW);
    let earlier = NOW.before(Duration::from_secs(5));
    assert_eq!(bucket.level(limit, earlier), 60 * UNITS_PER_TOKEN);
    assert_eq!(bucket.wait(limit, 1, earlier), Wait::After(Duration::from_secs(6)));
    bucket.charge(limit, 1, earlier);
    assert_eq!(bucket.level(limit, NOW), 61 * UNITS_PER_TOKEN);
}

#[test]
fn a_changed_limit_keeps_the_debt_in_tokens() {
    let (small, large) = (limit(1_000, 60), limit(1_000_000, 60));
    let mut bucket = Bucket::EMPTY;
    bucket.charge(small, 5_000, NOW);
    assert_eq!(bucket.used(small, NOW), 5_000);
    assert_eq!(bucket.used(large, NOW), 5_000);
    assert_eq!(bucket.room(small, NOW), 0);
    assert_eq!(bucket.room(large, NOW), 995_000);
}

proptest! {
    #[test]
    fn a_need_is_refused_a_nanosecond_before_its_wait_ends_and_admitted_then(
        (limit, mut bucket) in buckets(), need in 1..2_000_000_u64, taken in 0..4_000_000_u64,
    ) {
        bucket.charge(limit, taken, NOW);
        match bucket.wait(limit, need, NOW) {
            Wait::Now => prop_assert!(bucket.room(limit, NOW) >= need),
            Wait::Never => prop_assert!(need > limit.capacity()),
            Wait::After(wait) => {
                prop_assert!(need <= limit.capacity());
                let then = NOW.after(wait);
                prop_assert_eq!(bucket.wait(limit, need, then), Wait::Now);
                prop_assert!(bucket.room(limit, then) >= need);
                let just_before = then.before(Duration::from_nanos(1));
                prop_assert_eq!(bucket.wait(limit, need, just_before), Wait::After(Duration::from_nanos(1)));
                prop_assert!(bucket.room(limit, just_before) < need);
            }
        }
    }

    #[test]
    fn a_charge_and_its_refund_restore_the_level(
        (limit, bucket) in buckets(), tokens in any::<u64>(), before in 0..u64::MAX / 2, after in 0..u64::MAX / 2,
    ) {
        let mut charged = bucket;
        let now = Time::from_nanos(before);
        charged.charge(limit, tokens, now);
        charged.refund(limit, tokens, now);
        let later = Time::from_nanos(before + after);
        prop_assert_eq!(charged.level(limit, later), bucket.level(limit, later));
    }

    #[test]
    fn a_refund_never_goes_below_empty((limit, mut bucket) in buckets(), tokens in 0..4_000_000_u64) {
        let before = bucket.level(limit, NOW);
        bucket.refund(limit, tokens, NOW);
        prop_assert_eq!(bucket.level(limit, NOW), before.saturating_sub(u128::from(tokens) * UNITS_PER_TOKEN));
    }

    #[test]
    fn nothing_overflows(per_minute: u64, burst_seconds: u32, tokens: u64, need: u64, level: u128, at: u64, now: u64) {
        let (limit, now) = (limit(per_minute, burst_seconds), Time::from_nanos(now));
        let mut bucket = Bucket::with_level(level, Time::from_nanos(at));
        bucket.charge(limit, tokens, now);
        prop_assert_eq!(bucket.wait(limit, need, now) == Wait::Never, need > limit.capacity());
        let fits = need <= bucket.room(limit, now);
        prop_assert_eq!(bucket.wait(limit, need, now) == Wait::Now, fits);
        bucket.refund(limit, tokens, now);
        prop_assert!(bucket.used(limit, now) <= Bucket::with_level(level, Time::from_nanos(at)).used(limit, now));
    }
}

/// A limit, and a bucket that was charged a moment ago.
fn buckets() -> impl Strategy<Value = (Limit, Bucket)> {
    (0..1_000_000_u64, 1..120_u32, 0..2_000_000_u64, 0..100_000_000_000_u64).prop_map(
        |(per_minute, burst_seconds, tokens, age)| {
            let limit = limit(per_minute, burst_seconds);
            let mut bucket = Bucket::EMPTY;
            bucket.charge(limit, tokens, NOW.before(Duration::from_nanos(age)));
            (limit, bucket)
        },
    )
}
