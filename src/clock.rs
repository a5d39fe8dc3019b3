//! Time as a value, and the only reader of the system's clocks.
//!
//! Everything that expires or drains is counted on [`Time`], which runs on while the machine is suspended and never
//! steps. [`UnixMs`] names calendar instants: price versions and months. A `now` is always an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on a clock that never steps and runs on in suspend, in nanoseconds since an origin that means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(u64);

impl Time {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// In whole seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// In whole seconds, rounded up.
    pub const fn seconds_up(self) -> u64 {
        self.0.div_ceil(1_000_000_000)
    }

    /// The point `duration` later; stops at the end of the clock, some 584 years on.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }

    /// The point `duration` earlier; stops at the origin.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A calendar instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMs(pub u64);

/// One reading of the clock: where durations are counted, and what the calendar says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub time: Time,
    pub unix: UnixMs,
}

impl Now {
    /// This reading, moved on by `duration`.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { time: self.time.after(duration), unix: UnixMs(self.unix.0.saturating_add(millis)) }
    }
}

/// Reads the system's clocks. Everybody else takes a [`Now`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the one file that may read a clock")]
    pub fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { time: self.time(), unix: UnixMs(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)) }
    }

    /// The clock that never steps alone: half the cost where no calendar is needed.
    pub fn time(self) -> Time {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or(0);
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

/// A wait in whole seconds, rounded up: who waits so long is not too early.
pub fn wait_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// A wait in whole milliseconds, rounded up.
pub fn wait_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn saturating_nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
