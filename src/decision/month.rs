//! The UTC calendar month, which is part of the identity of every monthly counter.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Date, Month as Name, OffsetDateTime, Time as OfDay};

use crate::clock::UnixMs;

/// A UTC calendar month, kept as `yyyymm`, so that a later month is a greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Month(u32);

impl Month {
    /// The month that holds `instant`.
    pub fn of(instant: UnixMs) -> Self {
        let seconds = i64::try_from(instant.0 / 1_000).unwrap_or(i64::MAX);
        let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u32::try_from(date.year()).unwrap_or(1970);
        Self(year.saturating_mul(100).saturating_add(u32::from(u8::from(date.month()))))
    }

    pub const fn from_yyyymm(yyyymm: u32) -> Self {
        Self(yyyymm)
    }

    pub const fn yyyymm(self) -> u32 {
        self.0
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        if self.0 % 100 >= 12 { Self(self.0.saturating_add(89)) } else { Self(self.0.saturating_add(1)) }
    }

    /// When this month starts: its first day, 00:00 UTC.
    pub fn start(self) -> UnixMs {
        let year = i32::try_from(self.0 / 100).unwrap_or(1970);
        let name = u8::try_from(self.0 % 100).ok().and_then(|number| Name::try_from(number).ok());
        let date = name.and_then(|name| Date::from_calendar_date(year, name, 1).ok());
        let instant = date.unwrap_or(Date::MIN).with_time(OfDay::MIDNIGHT).assume_utc();
        UnixMs(u64::try_from(instant.unix_timestamp()).unwrap_or(0).saturating_mul(1_000))
    }

    /// When this month ends and every monthly counter begins anew.
    pub fn end(self) -> UnixMs {
        self.next().start()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 100, self.0 % 100)
    }
}
