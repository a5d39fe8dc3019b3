//! The limits per minute: requests of the account, tokens of its model.

use std::time::Duration;

use super::catalogue::GeneratedHold;
use super::estimate::ServiceTier;
use super::explain::{Bound, Finding, Says};
use super::rate::Wait;
use super::reason::{Amounts, Denial, Metric, Reason};
use super::standing::{RateStanding, Standing};
use super::{Demand, Findings};
use crate::clock::Time;

/// What an admission takes from the buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub requests: u64,
    /// What must fit, in the order of [`Metric`].
    pub tokens: [u64; 3],
    /// What is charged; differs from `tokens` only where output is charged as it is produced.
    pub charged: [u64; 3],
}

/// What the demand needs of each rate, with `out_max` tokens to generate at most.
///
/// An idle key is never denied by an estimate alone: where a need is a guess (a prompt measured in bytes, a learned
/// percentile, a default cap that nobody asked for) it is at most what an empty bucket holds, and usage is trued up.
pub(super) fn need(demand: &Demand, standing: &Standing, hold: GeneratedHold, out_max: u64) -> Need {
    let n = u64::from(demand.n);
    if demand.service_tier == ServiceTier::Batch {
        return Need { requests: n, tokens: [0; 3], charged: [0; 3] };
    }
    let learned = standing.generated_p95.filter(|p95| hold == GeneratedHold::ReserveP95 && *p95 < out_max);
    let [prompt_rate, uncached_rate, generated_rate] = &standing.tokens;
    let prompt = guessed(demand.prompt, demand.prompt_estimated, prompt_rate);
    let uncached = guessed(demand.uncached, demand.prompt_estimated, uncached_rate);
    let reserved = guessed(learned.unwrap_or(out_max), learned.is_some() || !demand.out_asked, generated_rate);
    let (generated, charged) = match hold {
        GeneratedHold::ReserveMax | GeneratedHold::ReserveP95 => (reserved, reserved),
        // Charged as produced: one token must fit, so that a bucket in debt still makes its account wait.
        GeneratedHold::Actual => (1, 0),
    };
    Need { requests: n, tokens: [prompt, uncached, generated], charged: [prompt, uncached, charged] }
}

pub(super) fn check(demand: &Demand, standing: &Standing, need: Need, now: Time, findings: &mut Findings) {
    for (metric, needed, rate) in buckets(standing, need) {
        match fit(rate, needed, now) {
            Fit::Fits => {}
            Fit::Short => findings.short.add(metric, needed),
            Fit::After(wait) => findings.deny(later(metric, needed, rate, wait, now)),
            Fit::Never => findings.deny(never(demand, metric, needed, rate, now)),
        }
    }
}

/// What each bucket says that the demand drains.
pub(super) fn explain(demand: &Demand, standing: &Standing, need: Need, now: Time) -> Vec<Finding> {
    let finding = |(metric, needed, rate): (Option<Metric>, u64, &RateStanding)| Finding {
        bound: metric.map_or(Bound::Requests, Bound::Tokens),
        amounts: amounts(rate, needed, now),
        says: match fit(rate, needed, now) {
            Fit::Fits => Says::Yes,
            Fit::Short => Says::AskPool,
            Fit::After(wait) => Says::No(later(metric, needed, rate, wait, now)),
            Fit::Never => Says::No(never(demand, metric, needed, rate, now)),
        },
        empty_after: rate.bucket.map(|bucket| bucket.empty_after(rate.limit, now)),
    };
    let is_drained = |(metric, ..): &(Option<Metric>, _, _)| metric.is_none() || demand.rate_key.is_some();
    buckets(standing, need).into_iter().filter(is_drained).map(finding).collect()
}

/// Each bucket with what is needed of it: the account's requests, then the metrics of its model. Of several that are too
/// small the first is named, so the generated one only where no other is: then fewer tokens help.
fn buckets(standing: &Standing, need: Need) -> [(Option<Metric>, u64, &RateStanding); 4] {
    let [prompt, uncached, generated] = need.tokens;
    let [prompt_rate, uncached_rate, generated_rate] = &standing.tokens;
    [
        (None, need.requests, &standing.requests),
        (Some(Metric::Prompt), prompt, prompt_rate),
        (Some(Metric::Uncached), uncached, uncached_rate),
        (Some(Metric::Generated), generated, generated_rate),
    ]
}

fn later(metric: Option<Metric>, needed: u64, rate: &RateStanding, wait: Duration, now: Time) -> Denial {
    Denial { retry_after: Some(wait), amounts: amounts(rate, needed, now), ..Denial::of(reason_of(metric)) }
}

fn never(demand: &Demand, metric: Option<Metric>, needed: u64, rate: &RateStanding, now: Time) -> Denial {
    Denial {
        amounts: amounts(rate, needed, now),
        affordable_max_tokens: affordable_max_tokens(demand, metric, rate),
        bucket: Some(reason_of(metric)),
        ..Denial::of(Reason::ExceedsLimit)
    }
}

fn reason_of(metric: Option<Metric>) -> Reason {
    metric.map_or(Reason::RequestsPerMinute, Metric::reason)
}

/// How a need fits what is lent of a bucket and what the pool could lend.
enum Fit {
    Fits,
    /// The pool could lend more, or was not heard yet.
    Short,
    After(Duration),
    Never,
}

fn fit(rate: &RateStanding, need: u64, now: Time) -> Fit {
    let missing = need.saturating_sub(rate.chunk);
    // Before the pool was heard, the limit here is a guess: it neither denies nor makes wait.
    match rate.bucket {
        None if missing == 0 => Fit::Fits,
        None => Fit::Short,
        Some(_) if !rate.limit.can_hold(need) => Fit::Never,
        Some(_) if missing == 0 => Fit::Fits,
        Some(bucket) => match bucket.wait(rate.limit, missing, now) {
            Wait::Now => Fit::Short,
            Wait::After(wait) => Fit::After(wait),
            Wait::Never => Fit::Never,
        },
    }
}

fn amounts(rate: &RateStanding, requested: u64, now: Time) -> Amounts {
    let used = rate.bucket.map_or(0, |bucket| bucket.used(rate.limit, now));
    Amounts::Rate { limit: rate.limit, used, requested }
}

fn affordable_max_tokens(demand: &Demand, metric: Option<Metric>, rate: &RateStanding) -> Option<u64> {
    let capacity = (metric == Some(Metric::Generated)).then(|| rate.limit.capacity())?;
    capacity.checked_div(u64::from(demand.n)).filter(|tokens| *tokens > 0)
}

/// A need, kept within what an empty bucket holds where it is a guess; at least a token, so that a limit of 0 denies.
///
/// Before the pool was heard the limit is at best the one that new buckets start with; that much may be asked for at
/// once. A limit that is not known at all bounds nothing.
fn guessed(need: u64, is_guess: bool, rate: &RateStanding) -> u64 {
    let is_bounded = rate.bucket.is_some() || rate.limit.per_minute > 0;
    if is_guess && is_bounded { need.min(rate.limit.capacity().max(1)) } else { need }
}
