//! Money as a type: whole nano-USD, no float, no silent rounding.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An amount of money in nano-USD (1e-9 USD). Negative where something is owed.
///
/// Amounts enter through [`Credit::from_usd`], which refuses what it cannot hold exactly, and stay within
/// ±[`Credit::MAX`], so that sums of a few of them cannot overflow.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Credit(i64);

/// Why a decimal amount is not a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    #[error("has more than 9 decimal places; write at most nano-USD")]
    TooFine,
    #[error("is larger than 1,000,000,000 USD")]
    TooLarge,
}

impl Credit {
    pub const ZERO: Self = Self(0);
    /// One billion USD: the largest amount that is accepted from outside.
    pub const MAX: Self = Self(1_000_000_000_000_000_000);

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// A sum as a store has it. `None` for one that two of could overflow: no account comes near it, its record is damaged.
    pub fn from_store(nanos: i64) -> Option<Self> {
        (nanos.unsigned_abs() < 1 << 62).then_some(Self(nanos))
    }

    /// An exact amount of USD, or why it is none.
    pub fn from_usd(usd: Decimal) -> Result<Self, CreditError> {
        let normal = usd.normalize();
        if normal.scale() > 9 {
            return Err(CreditError::TooFine);
        }
        let mut nanos = normal;
        nanos.rescale(9);
        let nanos = i64::try_from(nanos.mantissa()).map_err(|_| CreditError::TooLarge)?;
        if nanos.unsigned_abs() > Self::MAX.0.unsigned_abs() || normal.abs() > Decimal::from(1_000_000_000) {
            return Err(CreditError::TooLarge);
        }
        Ok(Self(nanos))
    }

    /// The amount in USD, exact.
    pub fn usd(self) -> Decimal {
        Decimal::new(self.0, 9).normalize()
    }

    /// The sum. Amounts are bounded where they enter, so an overflow is a bug.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("bounded amounts add up within i64"))
    }

    /// The sum, which stops at the ends of the number: for sums that shall be compared, over records that may be damaged.
    #[must_use]
    pub const fn saturating_plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference. Amounts are bounded where they enter, so an overflow is a bug.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.checked_sub(other.0).expect("bounded amounts subtract within i64"))
    }

    /// This amount, or zero if it is negative.
    #[must_use]
    pub fn at_least_zero(self) -> Self {
        self.max(Self::ZERO)
    }

    /// A share of this amount, rounded towards zero.
    #[must_use]
    pub fn divided_by(self, parts: u32) -> Self {
        Self(self.0.checked_div(i64::from(parts.max(1))).unwrap_or(0))
    }

    pub fn is_positive(self) -> bool {
        self.0 > 0
    }
}

/// `$12.34`, with at least two decimal places and as many as the amount has.
impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let mut usd = self.usd().abs();
        if usd.scale() < 2 {
            usd.rescale(2);
        }
        write!(f, "{sign}${usd}")
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
