//! Adaptive steps that this sidecar proposes: the store compares and sets, the law stays here.

use super::account::has_credits;
use super::reserved::reservation;
use super::shard::Rules;
use super::standing::custom_limits;
use crate::clock::UnixMs;
use crate::decision::adaptive::{Adaptive, Bounds, Minute};
use crate::decision::terms::{Terms, Tier, TokenLimits};
use crate::decision::{Catalogue, Credit, RateKey};
use crate::pool::Reply;
use crate::pool::message::{Group, RateReply, Reservation, StepProposal};

/// What the limits of an account follow from.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    terms: &'a Terms,
    tier: Tier,
    pub(super) requests_per_minute: u64,
}

impl<'a> Facts<'a> {
    pub(super) fn new(rules: &Rules, terms: &'a Terms, tier: Tier, balance: Credit) -> Self {
        let requests = rules.catalogue.requests_limit(terms, has_credits(terms, balance));
        Self { terms, tier, requests_per_minute: requests.per_minute }
    }
}

/// The steps that a reply makes due: minutes that ended, and limits that are not what the terms say.
pub(super) fn proposals(rules: &Rules, facts: Facts<'_>, reply: &Reply, now: UnixMs, steps: &mut Vec<StepProposal>) {
    for rate in reply.rates.iter().flatten() {
        let step = match &rate.group {
            Group::Requests => requests_step(facts, rate, now),
            Group::Model(name) => model_step(rules, facts, name, rate, now),
        };
        if let Some((states, limits, reserved)) = step {
            let version = rate.due.as_ref().map_or(rate.version, |due| due.version);
            let account = std::sync::Arc::clone(&reply.account);
            steps.push(StepProposal { account, group: rate.group.clone(), version, states, limits, reserved });
        }
    }
}

/// The limits in force, brought to where the terms and the tier say that they may be.
pub(super) fn bounded(rules: &Rules, facts: Facts<'_>, key: RateKey, limits: TokenLimits) -> TokenLimits {
    within(limits, model_bounds(rules, facts, key))
}

/// States, unless no step is due; limits; and what is reserved on top.
type Step = (Option<[Adaptive; 3]>, TokenLimits, Option<Reservation>);

/// The limit of requests is fixed: it changes with the terms alone.
fn requests_step(facts: Facts<'_>, rate: &RateReply, now: UnixMs) -> Option<Step> {
    let limits = [facts.requests_per_minute, 0, 0];
    let starts = || limits.map(|limit| Adaptive::start(fixed(limit), minute_of(now)));
    (rate.limits != limits).then(|| (Some(starts()), limits, None))
}

fn model_step(rules: &Rules, facts: Facts<'_>, name: &str, rate: &RateReply, now: UnixMs) -> Option<Step> {
    let key = key_of(&rules.catalogue, name)?;
    let (bounds, reserved) = (model_bounds(rules, facts, key), reservation(rules, facts.terms, key));
    let Some(due) = &rate.due else {
        let limits = within(rate.limits, bounds);
        let states = (rate.limits != limits).then(|| starting(bounds, limits, minute_of(now)));
        let is_other = states.is_some() || rate.reserved != reserved;
        return is_other.then_some((states, limits, reserved));
    };
    let first = due.minutes.first().map_or(due.current_minute, |(minute, _)| *minute);
    let mut states = match &due.states {
        Some(states) => <[Adaptive; 3]>::clone(states),
        None => bounds.map(|bounds| Adaptive::start(bounds, first)),
    };
    for (minute, used) in due.minutes.iter().copied() {
        for ((state, bounds), used) in states.iter_mut().zip(bounds).zip(used) {
            *state = state.step(&rules.catalogue.rates, bounds, minute, used);
        }
    }
    let mut limits = [0; 3];
    for ((limit, state), bounds) in limits.iter_mut().zip(&states).zip(bounds) {
        *limit = state.effective(bounds);
    }
    Some((Some(states), limits, reserved))
}

/// The bounds of a model's limits for one account: its own limits, or what its tier gives.
fn model_bounds(rules: &Rules, facts: Facts<'_>, key: RateKey) -> [Bounds; 3] {
    if let Some(custom) = custom_limits(rules, facts.terms, key) {
        return custom.map(fixed);
    }
    let pinned = reservation(rules, facts.terms, key).is_some();
    let rates = &rules.catalogue.rates;
    let ceilings = rules.catalogue.ceiling(key.model, facts.tier);
    std::array::from_fn(|place| Bounds {
        start: rates.start.get(place).copied().unwrap_or(0),
        floor: rates.floor.get(place).copied().unwrap_or(0),
        ceiling: ceilings.and_then(|ceilings| ceilings.get(place).copied()),
        pinned,
    })
}

/// The model behind a group's name, as [`super::standing::group_name`] gives it.
fn key_of(catalogue: &Catalogue, name: &str) -> Option<RateKey> {
    let (name, fast) = name.strip_suffix(":fast").map_or((name, false), |name| (name, true));
    catalogue.model_id(name).map(|model| RateKey { model, fast })
}

/// States that begin at `limits`: where limits came from is not told unless a step is due.
fn starting(bounds: [Bounds; 3], limits: TokenLimits, minute: Minute) -> [Adaptive; 3] {
    let mut starts = bounds;
    for (bounds, limit) in starts.iter_mut().zip(limits) {
        bounds.start = limit;
    }
    starts.map(|bounds| Adaptive::start(bounds, minute))
}

fn within(mut limits: TokenLimits, bounds: [Bounds; 3]) -> TokenLimits {
    for (limit, bounds) in limits.iter_mut().zip(bounds) {
        *limit = (*limit).min(bounds.ceiling.unwrap_or(u64::MAX)).max(bounds.floor);
    }
    limits
}

const fn fixed(limit: u64) -> Bounds {
    Bounds { start: limit, floor: limit, ceiling: Some(limit), pinned: true }
}

const fn minute_of(now: UnixMs) -> Minute {
    now.0 / 60_000
}
