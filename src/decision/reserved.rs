//! Reserved throughput: USD per minute that an account pays for a model, used or lost.
//!
//! Usage within it costs nothing more and does not count for the adaptive limit; what exceeds it does both. For as long as
//! it is reserved, the model's limits are larger by as many tokens as it can pay for.

use super::catalogue::{Catalogue, PriceVersion};
use super::credit::Credit;
use super::estimate::{RateKey, ServiceTier};
use super::price::Price;
use super::terms::{Terms, TokenLimits};

/// What can be reserved a minute, and what one session tells of at most, is below 2^43 nano-USD (8,796 USD): so many
/// 1,024ths of it are exact in a store that counts in doubles.
pub const RESERVED_MAX: Credit = Credit::from_nanos(8_796_093_022_208);
/// Tokens per minute that a reservation is worth at most, 2^40: where tokens are free, they are not endless.
const TOKENS_MAX: u64 = 1_099_511_627_776;
const PICOS_PER_NANO: u128 = 1_000;
const PARTS: u64 = 1_024;

/// The part of newly `priced` usage that a reservation still covers in this minute, after it covered `before`.
pub fn covered(priced: Credit, per_minute: Credit, before: Credit) -> Credit {
    priced.min(per_minute.minus(before)).at_least_zero()
}

/// Tokens that count for the limit where only a part of what they cost was covered, in whole 1,024ths, rounded up.
pub fn uncovered_tokens(tokens: u64, priced: Credit, covered: Credit) -> u64 {
    let (priced, excess) = (priced.nanos().unsigned_abs(), priced.minus(covered).nanos().unsigned_abs());
    if priced <= excess {
        return tokens;
    }
    let parts = excess.saturating_mul(PARTS).div_ceil(priced);
    let (whole, rest) = (tokens / PARTS, tokens % PARTS);
    whole.saturating_mul(parts).saturating_add(rest.saturating_mul(parts).div_ceil(PARTS))
}

impl Terms {
    /// What is reserved for a group of limits each minute: a model's, by its name or as `"name:fast"`.
    pub fn reserved_for(&self, group: &str) -> Credit {
        self.reserved.get(group).copied().unwrap_or_default().clamp(Credit::ZERO, RESERVED_MAX)
    }
}

impl Catalogue {
    /// The most tokens of each metric that so much can pay for, at the lowest price on the list: what is reserved never
    /// waits for its limits.
    pub fn reserved_tokens(&self, key: RateKey, per_minute: Credit) -> TokenLimits {
        let service_tiers: &[ServiceTier] =
            if key.fast { &[ServiceTier::Fast] } else { &[ServiceTier::Standard, ServiceTier::Priority] };
        let versions = self.model(key.model).map_or(&[][..], |model| &model.prices);
        let prices = versions.iter().flat_map(|version: &PriceVersion| {
            service_tiers.iter().filter_map(|service_tier| version.price(*service_tier))
        });
        prices.fold([0; 3], |most, price| {
            let worth = worth(price, per_minute);
            let mut each = most.into_iter().zip(worth).map(|(most, tokens)| most.max(tokens));
            std::array::from_fn(|_| each.next().unwrap_or(0))
        })
    }
}

/// Prompt tokens, uncached ones, and generated ones that so much pays for.
fn worth(price: Price, per_minute: Credit) -> TokenLimits {
    let picos = u128::try_from(per_minute.nanos()).unwrap_or(0).saturating_mul(PICOS_PER_NANO);
    [price.prompt.min(price.cached), price.prompt, price.generated].map(|price| {
        let tokens = picos.checked_div(u128::from(price)).unwrap_or(u128::from(TOKENS_MAX));
        if picos == 0 { 0 } else { u64::try_from(tokens).unwrap_or(TOKENS_MAX).min(TOKENS_MAX) }
    })
}
