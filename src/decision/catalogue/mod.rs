//! The validated tiers, models and prices: every number of the law is data in here, never a constant in code.
//!
//! A catalogue is read from TOML by [`Catalogue::parse`], which reports every fault at once with its path in the file.

mod models;
mod provenance;
mod read;

pub use provenance::Provenance;

use std::time::Duration;

use super::credit::Credit;
use super::estimate::ServiceTier;
use super::price::Price;
use super::rate::Limit;
use super::terms::{Mode, Terms, Tier, TokenLimits};
use crate::clock::UnixMs;

/// The catalogue that is shipped and used where no other is configured.
pub const FIREWORKS_2026_10: &str = include_str!("../../../catalogue/fireworks-2026-10.toml");

/// A model by its place in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub u16);

#[derive(Clone, Debug)]
pub struct Catalogue {
    pub name: Box<str>,
    pub models: Vec<Model>,
    pub tiers: Vec<TierRule>,
    pub requests: RequestRule,
    pub rates: RateRule,
    pub sizes: Vec<Size>,
    pub admission: AdmissionRule,
    pub lease: LeaseRule,
    pub starter_credit: Credit,
    /// The longest context of all `models`.
    context_tokens_max: u64,
    /// Model names, sorted, with their place in `models`.
    pub(super) by_name: hashbrown::HashMap<Box<str>, ModelId, foldhash::fast::RandomState>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub name: Box<str>,
    /// Index into `sizes`.
    pub size: usize,
    pub context_tokens: u64,
    pub output_tokens_max: u64,
    /// What a request without `max_tokens` may generate.
    pub output_tokens_default: u64,
    /// Bytes per token in thousandths: 4,000 is 4 bytes a token.
    pub bytes_per_token_milli: u32,
    /// Ascending by `effective_at`; never empty.
    pub prices: Vec<PriceVersion>,
}

/// The prices of one model from an instant on. A service tier without a price is not offered.
#[derive(Clone, Debug)]
pub struct PriceVersion {
    pub effective_at: UnixMs,
    pub standard: Option<Price>,
    pub priority: Option<Price>,
    pub fast: Option<Price>,
    pub batch: Option<Price>,
}

/// What a tier needs and gives. In ascending order of tier; every tier is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierRule {
    pub tier: Tier,
    /// Lifetime paid that reaches it; `None` where only an operator sets it.
    pub needs: Option<Credit>,
    /// Whether payment method and billing profile are needed.
    pub needs_billing: bool,
    /// The most a postpaid account's monthly limit may be; `None` is no maximum.
    pub monthly_limit_max: Option<Credit>,
    /// Share of the rate ceiling in percent; 0 leaves the starting limit only; `None` is no ceiling.
    pub ceiling_percent: Option<u32>,
}

/// The envelope of requests per minute, one for each account.
#[derive(Clone, Copy, Debug)]
pub struct RequestRule {
    /// Without a payment method or without credits.
    pub unfunded_per_minute: u64,
    pub per_minute: u64,
    pub burst_seconds: u32,
}

/// How token limits start, move and end.
#[derive(Clone, Copy, Debug)]
pub struct RateRule {
    pub controller: Controller,
    pub burst_seconds: u32,
    /// `D`: where every limit starts.
    pub start: TokenLimits,
    /// `F`: the least a limit may shrink to.
    pub floor: TokenLimits,
}

/// How a limit follows use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Adaptive(AdaptiveRule),
    /// Limits stay where they start, within the ceiling.
    Fixed,
}

/// The numbers of the adaptive controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveRule {
    pub increase_above_percent: u32,
    pub increase_to_percent: u32,
    pub increase_every: Duration,
    pub decrease_below_percent: u32,
    pub decrease_to_percent: u32,
    pub decrease_every: Duration,
    /// The last minute must be below this share of the decreased limit.
    pub decrease_guard_percent: u32,
    pub history: Duration,
    pub history_bin: Duration,
    pub reset_after_idle: Duration,
}

/// A class of models by parameters, with its rate ceilings.
#[derive(Clone, Debug)]
pub struct Size {
    pub name: Box<str>,
    /// Below this many parameters (in thousand millions); `None` is no bound ("large or unknown").
    pub parameters_below_billion: Option<u64>,
    pub ceiling: TokenLimits,
}

/// How holds are reckoned.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRule {
    pub n_max: u32,
    /// What remains below the price of so many generated tokens counts as nothing.
    pub dust_tokens: u64,
    pub generated_hold: GeneratedHold,
}

/// What an admission charges to the generated rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedHold {
    /// `out_max`.
    ReserveMax,
    /// The smaller of `out_max` and the learned 95th percentile.
    ReserveP95,
    /// Nothing; charged as produced.
    Actual,
}

/// How much credit a session may borrow at once.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRule {
    pub max: Credit,
    /// Of what is available.
    pub max_percent: u32,
}

impl Catalogue {
    /// Reads a catalogue, or every fault in it with its path.
    pub fn parse(text: &str) -> Result<Self, crate::fields::Faults> {
        read::catalogue(text)
    }

    pub fn model_id(&self, name: &str) -> Option<ModelId> {
        self.by_name.get(name).copied()
    }

    /// The most prompt tokens that a request can have, and the most generated ones, whatever its model.
    pub fn tokens_max(&self) -> (u64, u64) {
        let most = self.context_tokens_max;
        (most, most.saturating_mul(u64::from(self.admission.n_max.max(1))))
    }

    pub fn model(&self, id: ModelId) -> Option<&Model> {
        self.models.get(usize::from(id.0))
    }

    pub fn tier_rule(&self, tier: Tier) -> Option<&TierRule> {
        self.tiers.iter().find(|rule| rule.tier == tier)
    }

    /// The tier of an account: its override, else the highest whose needs are met.
    pub fn tier(&self, terms: &Terms, lifetime_paid: Credit) -> Tier {
        tier_of(&self.tiers, terms, lifetime_paid)
    }

    /// The monthly limit in force: the account's own, and for postpaid never above the tier's maximum.
    ///
    /// This is the limit that pauses; a contract's limit only alerts, so a contract has none here.
    pub fn monthly_limit(&self, terms: &Terms, tier: Tier) -> Option<Credit> {
        match terms.mode {
            Mode::Contract => None,
            Mode::Prepaid => terms.monthly_limit,
            Mode::Postpaid => {
                let most = self.tier_rule(tier).and_then(|rule| rule.monthly_limit_max);
                terms.monthly_limit.into_iter().chain(most).min()
            }
        }
    }

    /// The rate ceiling `C` of a model in a tier: `size ceiling x tier share`, at least the start; `None` is none.
    ///
    /// What the catalogue does not know gets the start, never "no ceiling".
    pub fn ceiling(&self, model: ModelId, tier: Tier) -> Option<TokenLimits> {
        let percent = match self.tier_rule(tier) {
            Some(rule) => rule.ceiling_percent?,
            None => 0,
        };
        let size = self.model(model).and_then(|model| self.sizes.get(model.size));
        let [prompt, uncached, generated] = size.map_or([0; 3], |size| size.ceiling);
        let [start_prompt, start_uncached, start_generated] = self.rates.start;
        Some([
            percent_of(prompt, percent).max(start_prompt),
            percent_of(uncached, percent).max(start_uncached),
            percent_of(generated, percent).max(start_generated),
        ])
    }

    /// The requests per minute of an account. `has_credits`: the balance or the credit line leaves something to spend.
    pub fn requests_limit(&self, terms: &Terms, has_credits: bool) -> Limit {
        let rule = &self.requests;
        let funded = terms.payment_method && has_credits;
        let per_minute = if funded { rule.per_minute } else { rule.unfunded_per_minute };
        Limit { per_minute, burst_seconds: rule.burst_seconds }
    }
}

impl Model {
    /// The price in force at `now` for a service tier.
    pub fn price(&self, service_tier: ServiceTier, now: UnixMs) -> Option<Price> {
        self.price_version(now)?.price(service_tier)
    }

    /// The newest prices that are in force at `now`.
    pub(super) fn price_version(&self, now: UnixMs) -> Option<&PriceVersion> {
        self.prices.iter().rfind(|version| version.effective_at <= now)
    }
}

impl PriceVersion {
    pub fn price(&self, service_tier: ServiceTier) -> Option<Price> {
        match service_tier {
            ServiceTier::Standard => self.standard,
            ServiceTier::Priority => self.priority,
            ServiceTier::Fast => self.fast,
            ServiceTier::Batch => self.batch,
        }
    }
}

/// `percent` of `value`, rounded down.
pub(super) fn percent_of(value: u64, percent: u32) -> u64 {
    let share = u128::from(value).saturating_mul(u128::from(percent)) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The tier of an account by these rules: its override, else the highest whose needs are met.
pub fn tier_of(rules: &[TierRule], terms: &Terms, lifetime_paid: Credit) -> Tier {
    let billable = terms.payment_method && terms.billing_profile;
    let reached =
        |rule: &&TierRule| rule.needs.is_some_and(|needs| lifetime_paid >= needs) && (billable || !rule.needs_billing);
    let derived = || rules.iter().rfind(reached).map_or(Tier::None, |rule| rule.tier);
    terms.tier_override.unwrap_or_else(derived)
}
