//! A limit per minute as an exact bucket: whole numbers, divided only to tell a waiting time.
//!
//! The level is kept in *token-nanoseconds*: one token is [`UNITS_PER_TOKEN`] units, and a bucket with a limit of `L`
//! tokens per minute drains `L` units each nanosecond. Nothing is rounded, and changing `L` keeps the debt in tokens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Units of level for one token: the nanoseconds of a minute.
pub const UNITS_PER_TOKEN: u128 = 60_000_000_000;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// So many tokens per minute, and how many seconds of them a full burst may take at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub per_minute: u64,
    pub burst_seconds: u32,
}

/// How full a bucket is, and when that was so.
///
/// A charge may push the level above the capacity (debt: tokens that exist already); a refund never below empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    level: u128,
    at: Time,
}

/// How long until a need fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It fits now.
    Now,
    /// It fits after exactly this long and not a nanosecond earlier, if nothing else is charged meanwhile.
    After(Duration),
    /// It is more than the bucket holds: waiting does not help.
    Never,
}

impl Limit {
    /// The most that may be taken at once, in tokens, rounded down.
    pub fn capacity(self) -> u64 {
        divided::<60>(u128::from(self.per_minute).saturating_mul(u128::from(self.burst_seconds)))
    }

    /// Whether `need` tokens fit into an empty bucket; else no wait is long enough.
    pub fn can_hold(self, need: u64) -> bool {
        units(need) <= self.capacity_units()
    }

    /// The most that may be taken at once, exact: `limit x burst_seconds / 60` tokens in units.
    fn capacity_units(self) -> u128 {
        let burst_nanos = u128::from(self.burst_seconds).saturating_mul(NANOS_PER_SECOND);
        u128::from(self.per_minute).saturating_mul(burst_nanos)
    }
}

impl Bucket {
    pub const EMPTY: Self = Self { level: 0, at: Time::from_nanos(0) };

    /// A bucket whose level was `units` at `at`.
    pub const fn with_level(units: u128, at: Time) -> Self {
        Self { level: units, at }
    }

    /// The level at `now`, in units. Time never runs backwards here: before the last change, the level of then.
    pub fn level(&self, limit: Limit, now: Time) -> u128 {
        let nanos = now.nanos().saturating_sub(self.at.nanos());
        self.level.saturating_sub(u128::from(limit.per_minute).saturating_mul(u128::from(nanos)))
    }

    /// How long until it is empty if nothing more is charged: a limit of `L` a minute drains `L` units each nanosecond.
    pub fn empty_after(&self, limit: Limit, now: Time) -> Duration {
        let (level, per_minute) = (self.level(limit, now), limit.per_minute.max(1));
        let nanos = match u64::try_from(level) {
            Ok(level) => level.div_ceil(per_minute),
            Err(_) => u64::try_from(level.div_ceil(u128::from(per_minute))).unwrap_or(u64::MAX),
        };
        Duration::from_nanos(nanos)
    }

    /// The level at `now` in tokens, rounded up.
    pub fn used(&self, limit: Limit, now: Time) -> u64 {
        saturated(self.level(limit, now).div_ceil(UNITS_PER_TOKEN))
    }

    /// Tokens that fit at `now`, rounded down.
    pub fn room(&self, limit: Limit, now: Time) -> u64 {
        tokens_rounded_down(limit.capacity_units().saturating_sub(self.level(limit, now)))
    }

    /// How long until `need` tokens fit. Nothing fits always, also into a bucket that is in debt.
    pub fn wait(&self, limit: Limit, need: u64, now: Time) -> Wait {
        if need == 0 {
            return Wait::Now;
        }
        if !limit.can_hold(need) {
            return Wait::Never;
        }
        let wanted = self.level(limit, now).saturating_add(units(need));
        let excess = wanted.saturating_sub(limit.capacity_units());
        if excess == 0 {
            return Wait::Now;
        }
        let drain = u128::from(limit.per_minute).max(1);
        // Before the last change the bucket does not drain yet.
        let nanos = excess.div_ceil(drain).saturating_add(u128::from(self.at.nanos().saturating_sub(now.nanos())));
        Wait::After(duration(nanos))
    }

    /// Adds `tokens`, whether they fit or not.
    pub fn charge(&mut self, limit: Limit, tokens: u64, now: Time) {
        self.level = self.level(limit, now).saturating_add(units(tokens));
        self.at = self.at.max(now);
    }

    /// Takes `tokens` back out, down to empty.
    pub fn refund(&mut self, limit: Limit, tokens: u64, now: Time) {
        self.level = self.level(limit, now).saturating_sub(units(tokens));
        self.at = self.at.max(now);
    }
}

fn units(tokens: u64) -> u128 {
    u128::from(tokens).saturating_mul(UNITS_PER_TOKEN)
}

fn tokens_rounded_down(units: u128) -> u64 {
    divided::<60_000_000_000>(units)
}

/// Rounded down. Nearly every number here fits in 64 bits, where dividing by a constant costs a tenth.
fn divided<const BY: u64>(number: u128) -> u64 {
    match u64::try_from(number) {
        Ok(number) => number.checked_div(BY).unwrap_or(0),
        Err(_) => saturated(number.checked_div(u128::from(BY)).unwrap_or(0)),
    }
}

fn saturated(tokens: u128) -> u64 {
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// Exact up to the longest duration there is.
fn duration(nanos: u128) -> Duration {
    let below = u32::try_from(nanos % NANOS_PER_SECOND).unwrap_or(0);
    u64::try_from(nanos / NANOS_PER_SECOND).map_or(Duration::MAX, |seconds| Duration::new(seconds, below))
}
