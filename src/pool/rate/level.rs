//! What comes back into a bucket may have drained meanwhile.

use std::time::Duration;

use crate::clock::Time;
use crate::decision::rate::{Bucket, Limit, UNITS_PER_TOKEN};

/// Takes tokens of chunks back out of `bucket`, while `lent` are still out.
///
/// Part of what comes back has drained since it was lent. Taking it out in full would make room in the place of chunks
/// that are still out, and sessions that borrow and return in turn could empty the bucket under each other. So the level
/// stays at what is lent, but for what drains within a chunk's settling time.
pub(super) fn take_back(bucket: &mut Bucket, limit: Limit, tokens: u64, lent: u64, settle: Duration, now: Time) {
    let level = bucket.level(limit, now);
    let floor = units(lent).saturating_sub(drained(limit, settle)).min(level);
    *bucket = Bucket::with_level(level.saturating_sub(units(tokens)).max(floor), now);
}

/// Tokens that a limit brings in `elapsed`, rounded down.
pub(super) fn brought_tokens(limit: Limit, elapsed: Duration) -> u64 {
    u64::try_from(drained(limit, elapsed).checked_div(UNITS_PER_TOKEN).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// Tokens that drain in `elapsed`, rounded up.
pub(super) fn drained_tokens(limit: Limit, elapsed: Duration) -> u64 {
    u64::try_from(drained(limit, elapsed).div_ceil(UNITS_PER_TOKEN)).unwrap_or(u64::MAX)
}

fn drained(limit: Limit, elapsed: Duration) -> u128 {
    u128::from(limit.per_minute).saturating_mul(elapsed.as_nanos())
}

fn units(tokens: u64) -> u128 {
    u128::from(tokens).saturating_mul(UNITS_PER_TOKEN)
}
