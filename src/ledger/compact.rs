//! Small numbers: what is kept of each account and model is counted in bytes, because there are many.

use std::num::NonZeroU32;
use std::time::Duration;

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

/// Tokens of a second or so in 32 bits; more than that count as the most there is.
pub(super) fn small(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
