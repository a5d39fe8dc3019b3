//! From TOML to a [`Catalogue`], with every fault at once.
//!
//! A value that is missing or wrong leaves a fault behind and is read as a default, so that the rest can be judged too;
//! no catalogue comes out where there is any fault.

use std::time::Duration;

use super::models::models;
use super::{
    AdaptiveRule, AdmissionRule, Catalogue, Controller, GeneratedHold, LeaseRule, ModelId, RateRule, RequestRule, Size,
    TierRule,
};
use crate::decision::credit::Credit;
use crate::decision::terms::{Tier, TokenLimits};
use crate::fields::{Faults, Field, Fields, Reader};

/// Far above any real limit, and far below where a sum of a few would overflow.
const PER_MINUTE_MAX: u64 = 1_000_000_000_000;
const BURST_SECONDS_MAX: u64 = 3_600;
const N_MAX: u64 = 1_024;
const MINUTE: Duration = Duration::from_secs(60);
const HISTORY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Every limit remembers at most so many bins, in every store.
const HISTORY_BINS_MAX: u64 = 1_000;

pub(super) fn catalogue(text: &str) -> Result<Catalogue, Faults> {
    let reader = Reader::default();
    let read = whole_file(reader.parse(text));
    reader.finish(read)
}

fn whole_file(mut file: Fields<'_>) -> Option<Catalogue> {
    let name = file.required("name").text();
    let starter_credit = credit(&file.required("starter_credit"));
    let tiers = tiers(&file.required("tier"));
    let requests = file.required("requests").fields().map(requests);
    let rates = file.required("rates").fields().map(rates);
    let sizes = sizes(&file.required("size"));
    let admission = file.required("admission").fields().map(admission);
    let lease = file.required("lease").fields().map(lease);
    let models = models(&file.required("model"), &sizes);
    file.end();
    let names = models.iter().zip(0_u16..).map(|(model, index)| (model.name.clone(), ModelId(index)));
    Some(Catalogue {
        name: name?.into(),
        context_tokens_max: models.iter().map(|model| model.context_tokens).max().unwrap_or(0),
        by_name: names.collect(),
        models,
        tiers,
        requests: requests?,
        rates: rates?,
        sizes,
        admission: admission?,
        lease: lease?,
        starter_credit: starter_credit?,
    })
}

const TIERS: [(&str, Tier); 6] = [
    ("none", Tier::None),
    ("1", Tier::One),
    ("2", Tier::Two),
    ("3", Tier::Three),
    ("4", Tier::Four),
    ("unlimited", Tier::Unlimited),
];

/// All six in order; what a higher one needs is at least what a lower one does.
fn tiers(field: &Field<'_>) -> Vec<TierRule> {
    let Some(tables) = field.tables() else { return Vec::new() };
    if tables.len() != TIERS.len() {
        field.fault(format!("has {} tiers; write all six: {}", tables.len(), TIERS.map(|(name, _)| name).join(", ")));
    }
    let mut needed = Credit::ZERO;
    let rules = tables.into_iter().zip(TIERS).map(|(fields, named)| tier(fields, named, &mut needed));
    rules.collect()
}

fn tier(mut fields: Fields<'_>, (name, tier): (&'static str, Tier), needed: &mut Credit) -> TierRule {
    fields.required("name").word(&[name]);
    let needs = unless(&mut fields, "operator_only", "needs_paid", credit);
    let needs_billing = fields.required("needs_billing").boolean().unwrap_or_default();
    let monthly_limit_max = unless(&mut fields, "no_monthly_limit_max", "monthly_limit_max", credit);
    let ceiling_percent = unless(&mut fields, "no_ceiling", "ceiling_percent", |field| field.whole(0..=100));
    if needs.is_some_and(|needs| needs < *needed) {
        fields.fault("needs_paid", "is less than a lower tier needs; let it grow from tier to tier");
    }
    *needed = needs.unwrap_or(*needed).max(*needed);
    fields.end();
    TierRule { tier, needs, needs_billing, monthly_limit_max, ceiling_percent }
}

/// A bound that must be written, or waived in so many words: what was forgotten never means "no limit".
fn unless<'a, T>(
    fields: &mut Fields<'a>,
    waiver: &'static str,
    name: &'static str,
    read: impl FnOnce(&Field<'a>) -> Option<T>,
) -> Option<T> {
    if fields.optional(waiver).boolean() != Some(true) {
        return read(&fields.required(name));
    }
    let field = fields.optional(name);
    if field.is_there() {
        field.fault(format!("contradicts {waiver} = true; remove one of them"));
    }
    None
}

fn requests(mut fields: Fields<'_>) -> RequestRule {
    let rule = RequestRule {
        per_minute: per_minute(&fields.required("per_minute")),
        unfunded_per_minute: per_minute(&fields.required("unfunded_per_minute")),
        burst_seconds: burst_seconds(&mut fields),
    };
    fields.end();
    rule
}

fn rates(mut fields: Fields<'_>) -> RateRule {
    let rule = RateRule {
        controller: fields.required("controller").fields().map_or(Controller::Fixed, controller),
        burst_seconds: burst_seconds(&mut fields),
        start: token_limits(&fields.required("start")),
        floor: token_limits(&fields.required("floor")),
    };
    if rule.floor.iter().zip(&rule.start).any(|(floor, start)| floor > start) {
        fields.fault("floor", "is above the start; a limit cannot start below its floor");
    }
    fields.end();
    rule
}

fn controller(mut fields: Fields<'_>) -> Controller {
    let kind = fields.required("kind").word(&["adaptive", "fixed"]);
    let controller = match kind {
        Some("adaptive") => Controller::Adaptive(adaptive(&mut fields)),
        _ => Controller::Fixed,
    };
    // What belongs to a kind that was misspelt is not to be called unknown.
    if kind.is_some() {
        fields.end();
    }
    controller
}

fn adaptive(fields: &mut Fields<'_>) -> AdaptiveRule {
    let rule = AdaptiveRule {
        increase_above_percent: percent(fields, "increase_above_percent", 1, 100),
        increase_to_percent: percent(fields, "increase_to_percent", 101, 1_000),
        increase_every: whole_minutes(fields, "increase_every"),
        decrease_below_percent: percent(fields, "decrease_below_percent", 1, 100),
        decrease_to_percent: percent(fields, "decrease_to_percent", 1, 99),
        decrease_every: whole_minutes(fields, "decrease_every"),
        decrease_guard_percent: percent(fields, "decrease_guard_percent", 1, 100),
        history: whole_minutes(fields, "history"),
        history_bin: whole_minutes(fields, "history_bin"),
        reset_after_idle: whole_minutes(fields, "reset_after_idle"),
    };
    let bins = rule.history.as_secs().checked_div(rule.history_bin.as_secs()).unwrap_or(1);
    if !(1..=HISTORY_BINS_MAX).contains(&bins) {
        fields.fault("history_bin", format!("cuts the history into {bins} bins; choose 1 to {HISTORY_BINS_MAX}"));
    }
    rule
}

/// Ascending in parameters; the last one, and only it, has no bound.
fn sizes(field: &Field<'_>) -> Vec<Size> {
    let mut sizes: Vec<Size> = Vec::new();
    let Some(tables) = field.tables() else { return sizes };
    let last = tables.len().saturating_sub(1);
    if tables.is_empty() {
        field.fault("is empty; write at least one size, the last of them without a bound");
    }
    for (index, mut fields) in tables.into_iter().enumerate() {
        let size = size(&mut fields, index == last);
        if !size.name.is_empty() && sizes.iter().any(|other| other.name == size.name) {
            fields.fault("name", "was used before; give each size a name of its own");
        }
        let below = sizes.last().and_then(|smaller| smaller.parameters_below_billion);
        if size.parameters_below_billion.is_some_and(|bound| below.is_some_and(|below| bound <= below)) {
            fields.fault("parameters_below_billion", "overlaps the size before; order sizes from small to large");
        }
        fields.end();
        sizes.push(size);
    }
    sizes
}

fn size(fields: &mut Fields<'_>, is_last: bool) -> Size {
    let name = fields.required("name").text().unwrap_or_default().into();
    let bound =
        if is_last { fields.optional("parameters_below_billion") } else { fields.required("parameters_below_billion") };
    if is_last && bound.is_there() {
        bound.fault("bounds the last size; remove it, so that large and unknown models have a size");
    }
    let parameters_below_billion = bound.whole(1..=1_000_000);
    Size { name, parameters_below_billion, ceiling: token_limits(&fields.required("ceiling")) }
}

fn admission(mut fields: Fields<'_>) -> AdmissionRule {
    let generated_hold = fields.required("generated_hold");
    let rule = AdmissionRule {
        n_max: fields.required("n_max").whole(1..=N_MAX).unwrap_or_default(),
        dust_tokens: fields.required("dust_tokens").whole(0..=1_000_000).unwrap_or_default(),
        generated_hold: match generated_hold.word(&["reserve_max", "reserve_p95", "actual"]) {
            Some("reserve_p95") => GeneratedHold::ReserveP95,
            Some("actual") => GeneratedHold::Actual,
            _ => GeneratedHold::ReserveMax,
        },
    };
    fields.end();
    rule
}

fn lease(mut fields: Fields<'_>) -> LeaseRule {
    let max = fields.required("max");
    let rule =
        LeaseRule { max: credit(&max).unwrap_or_default(), max_percent: percent(&mut fields, "max_percent", 1, 100) };
    if rule.max == Credit::ZERO {
        max.fault("lends nothing; write the most that one sidecar may borrow, as in \"5.00\"");
    }
    fields.end();
    rule
}

/// An amount of USD that is not negative.
fn credit(field: &Field<'_>) -> Option<Credit> {
    let read = Credit::from_usd(field.decimal()?);
    match read {
        Ok(credit) if credit >= Credit::ZERO => return Some(credit),
        Ok(_) => field.fault("is negative; write 0 or more"),
        Err(error) => field.fault(error.to_string()),
    }
    None
}

fn token_limits(field: &Field<'_>) -> TokenLimits {
    let Some(mut fields) = field.fields() else { return TokenLimits::default() };
    let limits = ["prompt", "uncached", "generated"].map(|metric| per_minute(&fields.required(metric)));
    fields.end();
    limits
}

fn per_minute(field: &Field<'_>) -> u64 {
    field.whole(1..=PER_MINUTE_MAX).unwrap_or_default()
}

fn burst_seconds(fields: &mut Fields<'_>) -> u32 {
    fields.required("burst_seconds").whole(1..=BURST_SECONDS_MAX).unwrap_or_default()
}

fn percent(fields: &mut Fields<'_>, name: &'static str, least: u64, most: u64) -> u32 {
    fields.required(name).whole(least..=most).unwrap_or_default()
}

/// Limits move on minute ticks.
fn whole_minutes(fields: &mut Fields<'_>, name: &'static str) -> Duration {
    let field = fields.required(name);
    let duration = field.duration(MINUTE..=HISTORY_MAX).unwrap_or(MINUTE);
    if !duration.as_millis().is_multiple_of(MINUTE.as_millis()) {
        field.fault("is no whole number of minutes; limits move on minute ticks");
    }
    duration
}
