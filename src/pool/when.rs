//! Store time: calendar instants that durations are added to and counted from.

use std::time::Duration;

use crate::clock::{Time, UnixMs};

/// The instant `duration` later.
pub(super) fn later(instant: UnixMs, duration: Duration) -> UnixMs {
    UnixMs(instant.0.saturating_add(millis(duration)))
}

/// The instant `duration` earlier.
pub(super) fn earlier(instant: UnixMs, duration: Duration) -> UnixMs {
    UnixMs(instant.0.saturating_sub(millis(duration)))
}

/// How long ago `earlier` was; zero if it lies ahead.
pub(super) fn elapsed(earlier: UnixMs, now: UnixMs) -> Duration {
    Duration::from_millis(now.0.saturating_sub(earlier.0))
}

/// Store time as the buckets count it.
pub(super) fn bucket_time(instant: UnixMs) -> Time {
    Time::from_nanos(instant.0.saturating_mul(1_000_000))
}

/// Minutes since 1970-01-01T00:00Z.
pub(super) fn minute(instant: UnixMs) -> u64 {
    instant.0 / 60_000
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
