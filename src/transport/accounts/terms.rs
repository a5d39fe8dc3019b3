//! A change of terms, read field by field: what is absent stays as it is.

use rust_decimal::Decimal;
use tonic::Status;

use super::users;
use crate::decision::Credit;
use crate::decision::terms::{FailurePolicy, Mode, ReclaimMode, Suspension, Terms, Tier, TopUpTerms};
use crate::transport::proto::tollgate as api;

/// What removes an amount that may be absent.
pub(super) const NONE: &str = "none";

/// What a new account begins with: the defaults of the mode that it will have.
pub(super) fn initial(change: &api::TermsChange) -> Result<Terms, Status> {
    let mode = change.mode.map(mode).transpose()?.unwrap_or_default();
    Ok(Terms { mode, failure_policy: policy_of(mode), reclaim_mode: reclaim_of(mode), ..Terms::default() })
}

/// `terms` with `change` made, or what is wrong with it.
pub(super) fn changed(mut terms: Terms, change: api::TermsChange) -> Result<Terms, Status> {
    if let Some(value) = change.mode {
        terms.mode = mode(value)?;
    }
    if let Some(value) = change.suspension {
        terms.suspension = suspension(value)?;
    }
    if let Some(value) = change.tier_override {
        terms.tier_override = tier(value)?;
    }
    if let Some(value) = change.failure_policy {
        terms.failure_policy = failure_policy(value, terms.mode)?;
    }
    if let Some(value) = change.reclaim_mode {
        terms.reclaim_mode = reclaim_mode(value, terms.mode)?;
    }
    if let Some(usd) = change.monthly_limit {
        terms.monthly_limit = if usd == NONE { None } else { Some(credit("terms.monthly_limit", &usd)?) };
    }
    if let Some(usd) = change.credit_line {
        terms.credit_line = credit("terms.credit_line", &usd)?;
    }
    terms.payment_method = change.payment_method.unwrap_or(terms.payment_method);
    terms.billing_profile = change.billing_profile.unwrap_or(terms.billing_profile);
    terms.shadow = change.shadow.unwrap_or(terms.shadow);
    terms.top_up = top_up(terms.top_up, change.top_up, change.remove_top_up)?;
    let users = users::Change {
        default: change.user_cap_default,
        groups: change.user_groups,
        remove_groups: change.remove_user_groups,
        overrides: change.user_cap_overrides,
    };
    terms.user_caps = users::changed(terms.user_caps, users)?;
    for name in change.remove_custom_limits {
        terms.custom_limits.remove(name.as_str());
    }
    for (name, limits) in change.custom_limits {
        terms.custom_limits.insert(name.into(), [limits.prompt, limits.uncached_prompt, limits.generated]);
    }
    Ok(terms)
}

/// An exact amount of USD.
pub(super) fn credit(field: &str, usd: &str) -> Result<Credit, Status> {
    let decimal = Decimal::from_str_exact(usd)
        .map_err(|_| invalid(field, format!("{usd:?} is no amount; write USD as in 12.50")))?;
    Credit::from_usd(decimal).map_err(|error| invalid(field, format!("{usd} {error}")))
}

fn top_up(before: Option<TopUpTerms>, change: Option<api::TopUp>, remove: bool) -> Result<Option<TopUpTerms>, Status> {
    match (change, remove) {
        (None, false) => Ok(before),
        (None, true) => Ok(None),
        (Some(_), true) => Err(invalid("terms.remove_top_up", "is set together with terms.top_up; send one of them")),
        (Some(top_up), false) => Ok(Some(TopUpTerms {
            minimum: credit("terms.top_up.minimum", &top_up.minimum)?,
            amount: credit("terms.top_up.amount", &top_up.amount)?,
            monthly_cap: top_up.monthly_cap.map(|usd| credit("terms.top_up.monthly_cap", &usd)).transpose()?,
        })),
    }
}

fn mode(value: i32) -> Result<Mode, Status> {
    match api::Mode::try_from(value) {
        Ok(api::Mode::Prepaid) => Ok(Mode::Prepaid),
        Ok(api::Mode::Postpaid) => Ok(Mode::Postpaid),
        Ok(api::Mode::Contract) => Ok(Mode::Contract),
        Ok(api::Mode::Unspecified) | Err(_) => Err(unknown("terms.mode", "prepaid, postpaid or contract")),
    }
}

fn suspension(value: i32) -> Result<Suspension, Status> {
    match api::Suspension::try_from(value) {
        Ok(api::Suspension::None) => Ok(Suspension::None),
        Ok(api::Suspension::FailedPayments) => Ok(Suspension::FailedPayments),
        Ok(api::Suspension::Abuse) => Ok(Suspension::Abuse),
        Ok(api::Suspension::Unspecified) | Err(_) => Err(unknown("terms.suspension", "none, failed_payments or abuse")),
    }
}

fn tier(value: i32) -> Result<Option<Tier>, Status> {
    match api::Tier::try_from(value) {
        Ok(api::Tier::Unspecified) => Ok(None),
        Ok(api::Tier::None) => Ok(Some(Tier::None)),
        Ok(api::Tier::One) => Ok(Some(Tier::One)),
        Ok(api::Tier::Two) => Ok(Some(Tier::Two)),
        Ok(api::Tier::Three) => Ok(Some(Tier::Three)),
        Ok(api::Tier::Four) => Ok(Some(Tier::Four)),
        Ok(api::Tier::Unlimited) => Ok(Some(Tier::Unlimited)),
        Err(_) => Err(unknown("terms.tier_override", "none, one to four, unlimited, or unspecified")),
    }
}

fn failure_policy(value: i32, mode: Mode) -> Result<FailurePolicy, Status> {
    match api::FailurePolicy::try_from(value) {
        Ok(api::FailurePolicy::Unspecified) => Ok(policy_of(mode)),
        Ok(api::FailurePolicy::Closed) => Ok(FailurePolicy::Closed),
        Ok(api::FailurePolicy::Allowance) => Ok(FailurePolicy::Allowance),
        Ok(api::FailurePolicy::Open) => Ok(FailurePolicy::Open),
        Err(_) => Err(unknown("terms.failure_policy", "closed, allowance, open, or unspecified")),
    }
}

fn reclaim_mode(value: i32, mode: Mode) -> Result<ReclaimMode, Status> {
    match api::ReclaimMode::try_from(value) {
        Ok(api::ReclaimMode::Unspecified) => Ok(reclaim_of(mode)),
        Ok(api::ReclaimMode::Limbo) => Ok(ReclaimMode::Limbo),
        Ok(api::ReclaimMode::Return) => Ok(ReclaimMode::Return),
        Err(_) => Err(unknown("terms.reclaim_mode", "limbo, return, or unspecified")),
    }
}

fn policy_of(mode: Mode) -> FailurePolicy {
    match mode {
        Mode::Prepaid => FailurePolicy::Closed,
        Mode::Postpaid | Mode::Contract => FailurePolicy::Allowance,
    }
}

fn reclaim_of(mode: Mode) -> ReclaimMode {
    match mode {
        Mode::Prepaid => ReclaimMode::Limbo,
        Mode::Postpaid | Mode::Contract => ReclaimMode::Return,
    }
}

fn unknown(field: &str, known: &str) -> Status {
    invalid(field, format!("is not known here; send {known}"))
}

pub(super) fn invalid(field: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}
