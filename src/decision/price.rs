//! Exact prices and what usage costs.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::credit::Credit;

/// What one token costs, in pico-USD: USD per 1 M tokens times 10^6, so $0.0075 per 1 M is 7,500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub prompt: u64,
    pub cached: u64,
    pub generated: u64,
}

/// Tokens of one request. `cached` is the part of `prompt` that was found in the cache: `cached <= prompt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt: u64,
    pub cached: u64,
    pub generated: u64,
}

/// Why a decimal amount is not a price per 1 M tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("is negative")]
    Negative,
    #[error("is finer than 0.000001 USD per 1 M tokens")]
    TooFine,
    #[error("is larger than 1,000,000 USD per 1 M tokens")]
    TooLarge,
}

/// The largest price, in USD per 1 M tokens: a dollar a token.
const USD_PER_MILLION_MAX: u32 = 1_000_000;

const PICOS_PER_NANO: u128 = 1_000;

/// The pico-USD for one token behind a price in USD per 1 M tokens, exact.
pub fn pico_usd_for_a_token(usd_per_million: Decimal) -> Result<u64, PriceError> {
    let mut price = usd_per_million.normalize();
    if price < Decimal::ZERO {
        return Err(PriceError::Negative);
    }
    if price > Decimal::from(USD_PER_MILLION_MAX) {
        return Err(PriceError::TooLarge);
    }
    if price.scale() > 6 {
        return Err(PriceError::TooFine);
    }
    price.rescale(6);
    u64::try_from(price.mantissa()).map_err(|_| PriceError::TooLarge)
}

impl Price {
    /// What `usage` costs, rounded up to a whole nano-USD once; never more than [`Credit::MAX`].
    pub fn cost_rounded_up(&self, usage: Usage) -> Credit {
        let uncached = usage.prompt.saturating_sub(usage.cached);
        let cached = usage.cached.min(usage.prompt);
        let picos = picos(uncached, self.prompt)
            .saturating_add(picos(cached, self.cached))
            .saturating_add(picos(usage.generated, self.generated));
        Credit::from_nanos(nanos_rounded_up(picos)).min(Credit::MAX)
    }

    /// How many tokens can be generated for `credit` at most, rounded down; `None` if they are free.
    pub fn affordable_generated(&self, credit: Credit) -> Option<u64> {
        self.affordable_beside(0, credit)
    }

    /// As [`Price::affordable_generated`], after `prompt` uncached tokens were paid from the same `credit`.
    ///
    /// Prompt and output are rounded together, so the answer is the largest that
    /// [`Price::cost_rounded_up`] still finds within `credit`.
    pub fn affordable_beside(&self, prompt: u64, credit: Credit) -> Option<u64> {
        let budget = u128::try_from(credit.nanos()).unwrap_or(0).saturating_mul(PICOS_PER_NANO);
        let left = budget.saturating_sub(picos(prompt, self.prompt));
        let tokens = left.checked_div(u128::from(self.generated))?;
        Some(u64::try_from(tokens).unwrap_or(u64::MAX))
    }
}

fn picos(tokens: u64, price: u64) -> u128 {
    u128::from(tokens).saturating_mul(u128::from(price))
}

/// Nearly every request costs less than the 18 million USD that fit in 64 bits, where dividing by a constant costs a tenth.
fn nanos_rounded_up(picos: u128) -> i64 {
    let nanos = match u64::try_from(picos) {
        Ok(picos) => u128::from(picos.div_ceil(1_000)),
        Err(_) => picos.div_ceil(PICOS_PER_NANO),
    };
    i64::try_from(nanos).unwrap_or(i64::MAX)
}
