//! From what was asked to what it may take: tokens, cost and rates, before anything runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Model, ModelId};
use super::credit::Credit;
use super::price::{Price, Usage};
use super::reason::{Denial, Invalid, Reason};
use crate::clock::UnixMs;

/// Which service the request pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceTier {
    #[default]
    Standard,
    /// Shares the rate buckets of standard, at its own price.
    Priority,
    /// Has rate buckets and a price of its own.
    Fast,
    /// Half price, no token rates; the money checks stay.
    Batch,
}

impl ServiceTier {
    pub const ALL: [Self; 4] = [Self::Standard, Self::Priority, Self::Fast, Self::Batch];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Priority => "priority",
            Self::Fast => "fast",
            Self::Batch => "batch",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// How large the prompt is, as far as the asker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Tokens, counted or well estimated.
    Tokens(u64),
    /// Bytes of the body; divided by the model's bytes per token.
    Bytes(u64),
}

/// Names the hold: a digest of the request id, and which attempt at it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    /// The first 128 bits of the SHA-256 of the id, or the id itself where it is a UUID.
    pub digest: u128,
    pub attempt: u32,
}

/// One check, parsed.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub account: &'a str,
    pub user: Option<&'a str>,
    pub model: &'a str,
    pub service_tier: ServiceTier,
    pub prompt: Prompt,
    /// How many prompt tokens are likely cached; lowers the need of the uncached rate, never the hold.
    pub cached_tokens_hint: Option<u64>,
    pub max_tokens: Option<u64>,
    /// Completions for this prompt, at least 1.
    pub n: u32,
    pub request_id: RequestId,
    /// How long the hold lives without a sign of life; the ledger's default if `None`.
    pub deadline: Option<Duration>,
    /// Admit with fewer `max_tokens` rather than deny for money.
    pub capped: bool,
}

/// Which buckets a request drains: those of its model, or the model's fast ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RateKey {
    pub model: ModelId,
    pub fast: bool,
}

/// What an ask may take at most: everything that can be said without looking at the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    pub model: ModelId,
    pub service_tier: ServiceTier,
    /// `None` for batch, which skips the token rates.
    pub rate_key: Option<RateKey>,
    /// The price version in force at admission.
    pub price: Price,
    pub n: u32,
    pub prompt: u64,
    pub uncached: u64,
    /// The prompt's size is a guess from bytes, so no limit may be enforced on it alone.
    pub prompt_estimated: bool,
    /// `n x min(max_tokens or the default cap, the model's max output, context length - prompt)`.
    pub out_max: u64,
    /// The asker named `max_tokens`; else `out_max` is the model's default and binds nobody.
    pub out_asked: bool,
    /// `prompt x p_prompt + out_max x p_generated`, as if nothing were cached.
    pub cost: Credit,
    /// The catalogue's `dust_tokens`.
    pub dust_tokens: u64,
    pub capped: bool,
}

impl Demand {
    /// As `cost` with one generated token for each completion: the least that a capped ask can use.
    pub fn cost_min(&self) -> Credit {
        self.price.cost_rounded_up(Usage { prompt: self.prompt, cached: 0, generated: u64::from(self.n) })
    }

    /// Below this, what is left counts as nothing.
    pub fn dust(&self) -> Credit {
        self.price.cost_rounded_up(Usage { generated: self.dust_tokens, ..Usage::default() })
    }

    /// The least money that is of any use to the asker.
    pub fn least(&self) -> Credit {
        if self.capped { self.cost_min() } else { self.cost }
    }
}

impl Catalogue {
    /// What `ask` may take, or an `invalid_request` denial.
    pub fn demand(&self, ask: &Ask<'_>, now: UnixMs) -> Result<Demand, Denial> {
        let (id, model) = self.model_named(ask.model).ok_or_else(|| invalid(Invalid::UnknownModel))?;
        let prices = model.price_version(now).ok_or_else(|| invalid(Invalid::NoPrice))?;
        let price = prices.price(ask.service_tier).ok_or_else(|| invalid(Invalid::NoSuchTier))?;
        if !(1..=self.admission.n_max).contains(&ask.n) {
            return Err(invalid(Invalid::BadN));
        }
        let prompt = prompt_tokens(ask.prompt, model)?;
        let n = u64::from(ask.n);
        let out_max = output_tokens_max(ask.max_tokens, model, prompt)?.saturating_mul(n);
        let rate_key = RateKey { model: id, fast: ask.service_tier == ServiceTier::Fast };
        Ok(Demand {
            model: id,
            service_tier: ask.service_tier,
            rate_key: (ask.service_tier != ServiceTier::Batch).then_some(rate_key),
            price,
            n: ask.n,
            prompt,
            uncached: prompt.saturating_sub(ask.cached_tokens_hint.unwrap_or(0)),
            prompt_estimated: matches!(ask.prompt, Prompt::Bytes(_)),
            out_max,
            out_asked: ask.max_tokens.is_some(),
            cost: price.cost_rounded_up(Usage { prompt, cached: 0, generated: out_max }),
            dust_tokens: self.admission.dust_tokens,
            capped: ask.capped,
        })
    }

    fn model_named(&self, name: &str) -> Option<(ModelId, &Model)> {
        let id = self.model_id(name)?;
        Some((id, self.model(id)?))
    }
}

/// The size of a prompt that leaves room for at least one token.
///
/// A count that does not fit is invalid. A guess is not: whether it fits is for the inference server to find out, so a
/// guess stops at the largest prompt there can be.
fn prompt_tokens(prompt: Prompt, model: &Model) -> Result<u64, Denial> {
    let most = model.context_tokens.saturating_sub(1);
    match prompt {
        Prompt::Tokens(tokens) if tokens > most => Err(invalid(Invalid::AboveContext)),
        Prompt::Tokens(tokens) => Ok(tokens),
        Prompt::Bytes(bytes) => {
            let per_token = u128::from(model.bytes_per_token_milli.max(1));
            let tokens = u128::from(bytes).saturating_mul(1_000).div_ceil(per_token);
            Ok(u64::try_from(tokens).unwrap_or(u64::MAX).min(most))
        }
    }
}

/// What one completion may generate at most.
fn output_tokens_max(asked: Option<u64>, model: &Model, prompt: u64) -> Result<u64, Denial> {
    if asked.is_some_and(|tokens| tokens == 0 || tokens > model.context_tokens) {
        return Err(invalid(Invalid::BadMaxTokens));
    }
    let wanted = asked.unwrap_or(model.output_tokens_default);
    Ok(wanted.min(model.output_tokens_max).min(model.context_tokens.saturating_sub(prompt)))
}

fn invalid(what: Invalid) -> Denial {
    Denial { invalid: Some(what), ..Denial::of(Reason::InvalidRequest) }
}

/// The learned 95th percentile of generated tokens, for one account and model: an exponential histogram in a few bytes.
///
/// Bounded, forgetful, and never below what would let an idle key run: with fewer than 20 samples it knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Samples in each power-of-two class: class `i` holds counts below `16 << i`, the last one also all above. Halved
    /// when one overflows.
    classes: [u8; 14],
}

/// With fewer samples, one outlier would be the 95th percentile.
const SAMPLES_MIN: u32 = 20;

impl Learned {
    pub fn observe(&mut self, generated: u64) {
        let significant = u64::BITS.saturating_sub(generated.leading_zeros());
        let last = self.classes.len().saturating_sub(1);
        let class = usize::try_from(significant.saturating_sub(4)).unwrap_or(last).min(last);
        if self.classes.get(class) == Some(&u8::MAX) {
            self.classes = self.classes.map(|count| count >> 1);
        }
        if let Some(count) = self.classes.get_mut(class) {
            *count = count.saturating_add(1);
        }
    }

    /// An upper bound of the 95th percentile, or `None` before there are enough samples, or where it has no bound.
    pub fn p95(&self) -> Option<u64> {
        let total: u32 = self.classes.iter().map(|count| u32::from(*count)).sum();
        if total < SAMPLES_MIN {
            return None;
        }
        let (_open, closed) = self.classes.split_last()?;
        let mut below = 0_u32;
        let mut bound = 16_u64;
        for count in closed {
            below = below.saturating_add(u32::from(*count));
            if below.saturating_mul(100) >= total.saturating_mul(95) {
                return Some(bound.saturating_sub(1));
            }
            bound = bound.saturating_mul(2);
        }
        None
    }
}
