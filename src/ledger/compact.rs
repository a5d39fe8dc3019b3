//! Small numbers: what is kept of each account and model is counted in bytes, because there are many.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Time;
use crate::decision::Credit;
use crate::decision::rate::UNITS_PER_TOKEN;

/// A duration in whole milliseconds, rounded down; the longest are cut off at 49 days.
///
/// Kept one too large, so that there is no zero and an `Option` takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Millis(NonZeroU32);

impl Millis {
    pub(super) const ZERO: Self = Self(NonZeroU32::MIN);

    pub(super) fn of(duration: Duration) -> Self {
        let millis = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(millis))
    }

    pub(super) fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0.get()).saturating_sub(1))
    }
}

/// Where something stands in [`super::pages::Pages`]; kept one too large, for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(NonZeroU32);

impl Place {
    pub(super) fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    pub(super) fn index(self) -> u32 {
        self.0.get().saturating_sub(1)
    }
}

/// How full a bucket is, in the units of [`crate::decision::rate`], exact: 96 bits hold more than 2^60 tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level([u32; 3]);

impl Level {
    pub(super) fn of(units: u128) -> Self {
        let units = units.min(u128::MAX >> 32);
        let part = |shift: u32| u32::try_from((units >> shift) & u128::from(u32::MAX)).unwrap_or(u32::MAX);
        Self([part(0), part(32), part(64)])
    }

    pub(super) fn units(self) -> u128 {
        let Self([low, middle, high]) = self;
        (u128::from(high) << 64) | (u128::from(middle) << 32) | u128::from(low)
    }

    /// Drains down to empty.
    pub(super) fn drain(&mut self, units: u128) {
        *self = Self::of(self.units().saturating_sub(units));
    }

    pub(super) fn add(&mut self, tokens: u64) {
        *self = Self::of(self.units().saturating_add(u128::from(tokens).saturating_mul(UNITS_PER_TOKEN)));
    }

    pub(super) fn take(&mut self, tokens: u64) {
        self.drain(u128::from(tokens).saturating_mul(UNITS_PER_TOKEN));
    }
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.units().fmt(f)
    }
}

/// A point in time in whole seconds of the clock, rounded up: what must last that long does. It stops after 136 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(u32);

impl Second {
    pub(super) fn after(time: Time) -> Self {
        Self(u32::try_from(time.seconds_up()).unwrap_or(u32::MAX))
    }

    pub(super) fn time(self) -> Time {
        Time::from_nanos(u64::from(self.0).saturating_mul(1_000_000_000))
    }

    /// How long ago it was, in whole seconds; zero where it lies ahead.
    pub(super) fn age(self, now: Time) -> Duration {
        Duration::from_secs(now.seconds().saturating_sub(u64::from(self.0)))
    }

    pub(super) fn is_past(self, now: Time) -> bool {
        u64::from(self.0) <= now.seconds()
    }
}

/// A point in time in milliseconds, rounded down, after the [`Base`] that it was marked by: what should end never ends
/// late, and nothing seems younger than it is. Zero is the origin of the clock: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u32);

/// What a few moments count from: a second of the clock. It moves on long before a moment would run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base(u32);

/// Twelve days: when a base moves on, moments that are older than this seem to be as old as this.
const AGE_MAX_MS: u64 = 1 << 30;

impl Moment {
    /// How long ago `earlier` was, by moments of the same base; zero if it lies ahead.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.saturating_sub(earlier.0)))
    }
}

impl Base {
    /// A second before `now`, so that a moment marked now is after the origin.
    pub(super) fn new(now: Time) -> Self {
        Self(u32::try_from(now.seconds()).unwrap_or(u32::MAX).saturating_sub(1))
    }

    /// A point that is before the origin's second counts as the origin; one 49 days ahead stops there.
    pub(super) fn mark(self, time: Time) -> Moment {
        let millis = (time.nanos() / 1_000_000).saturating_sub(self.millis());
        Moment(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    pub(super) fn time(self, Moment(millis): Moment) -> Time {
        if millis == 0 {
            return Time::default();
        }
        Time::from_nanos(self.millis().saturating_add(u64::from(millis)).saturating_mul(1_000_000))
    }

    /// The base to count from at `now`, where this one lies so far back that moments would soon run over.
    pub(super) fn next(self, now: Time) -> Option<Self> {
        let passed = (now.nanos() / 1_000_000).saturating_sub(self.millis());
        (passed > AGE_MAX_MS.saturating_mul(2)).then(|| Self::new(now.before(Duration::from_millis(AGE_MAX_MS))))
    }

    /// The same point counted from `next`.
    pub(super) fn carry(self, moment: Moment, next: Self) -> Moment {
        if moment == Moment::default() { moment } else { next.mark(self.time(moment)).max(Moment(1)) }
    }

    fn millis(self) -> u64 {
        u64::from(self.0).saturating_mul(1_000)
    }
}

/// An amount that is an estimate anyway, rounded down to 26 significant bits; a negative one is zero.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rough(u32);

const ROUGH_BITS: u32 = 26;

impl Rough {
    pub(super) fn of(amount: i64) -> Self {
        let amount = u64::try_from(amount).unwrap_or(0);
        let shift = u64::BITS.saturating_sub(amount.leading_zeros()).saturating_sub(ROUGH_BITS);
        let mantissa = u32::try_from(amount >> shift).expect("shifted down to 26 bits");
        Self((shift << ROUGH_BITS) | mantissa)
    }

    pub(super) fn amount(self) -> i64 {
        let mantissa = self.0 & ((1 << ROUGH_BITS) - 1);
        i64::from(mantissa) << (self.0 >> ROUGH_BITS)
    }

    pub(super) fn credit(self) -> Credit {
        Credit::from_nanos(self.amount())
    }
}

impl From<Credit> for Rough {
    fn from(credit: Credit) -> Self {
        Self::of(credit.nanos())
    }
}

impl std::fmt::Debug for Rough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.amount().fmt(f)
    }
}

/// A point in time in two halves, so that no room is lost in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HalvedTime([u32; 2]);

impl HalvedTime {
    pub(super) fn of(time: Time) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("masked to 32 bits");
        Self([half(time.nanos()), half(time.nanos() >> 32)])
    }

    pub(super) fn time(self) -> Time {
        let Self([low, high]) = self;
        Time::from_nanos((u64::from(high) << 32) | u64::from(low))
    }
}

/// The lowest bits of a count: of two that lie less than 2^31 apart, it tells which one is lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LowBits(u32);

impl LowBits {
    pub(super) fn of(count: u64) -> Self {
        Self(u32::try_from(count & u64::from(u32::MAX)).expect("masked to 32 bits"))
    }

    pub(super) const fn is_below(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }
}

/// Tokens of a second or so in 32 bits; more than that count as the most there is.
pub(super) fn small(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
