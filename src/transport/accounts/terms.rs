//! A change of terms, read field by field: what is absent stays as it is.

use rust_decimal::Decimal;

use super::users;
use crate::decision::Credit;
use crate::decision::terms::{FailurePolicy, Mode, ReclaimMode, Suspension, Terms, Tier, TopUpTerms};
use crate::reconcile::accounts::FieldFault;
use crate::transport::proto::tollgate as api;
use crate::transport::status::faults::Faults;

/// What removes an amount that may be absent.
pub(super) const NONE: &str = "none";

/// What else may be wrong with terms depends on it.
pub(super) const MODE: &str = "terms.mode";

/// What a new account begins with: the defaults of the mode that it will have.
pub(super) fn initial(change: &api::TermsChange) -> Terms {
    let mode = change.mode.and_then(|value| mode(value).ok()).unwrap_or_default();
    Terms { mode, failure_policy: policy_of(mode), reclaim_mode: reclaim_of(mode), ..Terms::default() }
}

/// `terms` with `change` made, as far as it is without fault; what is wrong with it is noted.
pub(super) fn changed(mut terms: Terms, change: api::TermsChange, faults: &mut Faults) -> Terms {
    set(&mut terms.mode, change.mode.map(mode), faults);
    set(&mut terms.suspension, change.suspension.map(suspension), faults);
    set(&mut terms.tier_override, change.tier_override.map(tier), faults);
    set(&mut terms.failure_policy, change.failure_policy.map(|value| failure_policy(value, terms.mode)), faults);
    set(&mut terms.reclaim_mode, change.reclaim_mode.map(|value| reclaim_mode(value, terms.mode)), faults);
    let limit =
        |field: &'static str| move |usd: String| if usd == NONE { Ok(None) } else { credit(field, &usd).map(Some) };
    set(&mut terms.monthly_limit, change.monthly_limit.map(limit("terms.monthly_limit")), faults);
    set(&mut terms.balance_alert, change.balance_alert.map(limit("terms.balance_alert")), faults);
    set(&mut terms.credit_line, change.credit_line.map(|usd| credit("terms.credit_line", &usd)), faults);
    terms.payment_method = change.payment_method.unwrap_or(terms.payment_method);
    terms.billing_profile = change.billing_profile.unwrap_or(terms.billing_profile);
    terms.shadow = change.shadow.unwrap_or(terms.shadow);
    terms.top_up = top_up(terms.top_up, change.top_up, change.remove_top_up, faults);
    let users = users::Change {
        default: change.user_cap_default,
        groups: change.user_groups,
        remove_groups: change.remove_user_groups,
        overrides: change.user_cap_overrides,
    };
    terms.user_caps = users::changed(terms.user_caps, users, faults);
    let alerts = alerts(terms.alert_percents.take(), change.alert_percents, change.remove_alert_percents, faults);
    terms.alert_percents = alerts;
    for name in change.remove_custom_limits {
        terms.custom_limits.remove(name.as_str());
    }
    for (name, limits) in change.custom_limits {
        terms.custom_limits.insert(name.into(), [limits.prompt, limits.uncached_prompt, limits.generated]);
    }
    for name in change.remove_reserved {
        terms.reserved.remove(name.as_str());
    }
    for (name, usd) in change.reserved {
        if let Some(credit) = faults.take(credit("terms.reserved", &usd)) {
            terms.reserved.insert(name.into(), credit);
        }
    }
    terms
}

/// An exact amount of USD.
pub(super) fn credit(field: &'static str, usd: &str) -> Result<Credit, FieldFault> {
    let decimal = Decimal::from_str_exact(usd)
        .map_err(|_| invalid(field, format!("{usd:?} is no amount; write USD as in 50")))?;
    Credit::from_usd(decimal).map_err(|error| invalid(field, format!("{usd} {error}")))
}

/// Takes a value that was sent; one that is at fault leaves what was there.
fn set<T>(term: &mut T, sent: Option<Result<T, FieldFault>>, faults: &mut Faults) {
    if let Some(value) = sent.and_then(|value| faults.take(value)) {
        *term = value;
    }
}

fn alerts(
    before: Option<Vec<u32>>,
    change: Option<api::AlertPercents>,
    remove: bool,
    faults: &mut Faults,
) -> Option<Vec<u32>> {
    let Some(sent) = change else { return before.filter(|_| !remove) };
    if remove {
        faults.add("terms.remove_alert_percents", "is set together with terms.alert_percents; send one of them");
    }
    Some(sent.percents)
}

fn top_up(
    before: Option<TopUpTerms>,
    change: Option<api::TopUp>,
    remove: bool,
    faults: &mut Faults,
) -> Option<TopUpTerms> {
    let Some(sent) = change else { return before.filter(|_| !remove) };
    if remove {
        faults.add("terms.remove_top_up", "is set together with terms.top_up; send one of them");
    }
    let minimum = faults.take(credit("terms.top_up.minimum", &sent.minimum));
    let amount = faults.take(credit("terms.top_up.amount", &sent.amount));
    let cap = sent.monthly_cap.map(|usd| faults.take(credit("terms.top_up.monthly_cap", &usd)));
    let (Some(minimum), Some(amount)) = (minimum, amount) else { return before };
    Some(TopUpTerms { minimum, amount, monthly_cap: cap.flatten() })
}

fn mode(value: i32) -> Result<Mode, FieldFault> {
    match api::Mode::try_from(value) {
        Ok(api::Mode::Prepaid) => Ok(Mode::Prepaid),
        Ok(api::Mode::Postpaid) => Ok(Mode::Postpaid),
        Ok(api::Mode::Contract) => Ok(Mode::Contract),
        Ok(api::Mode::Unspecified) | Err(_) => Err(unknown(MODE, "prepaid, postpaid or contract")),
    }
}

fn suspension(value: i32) -> Result<Suspension, FieldFault> {
    match api::Suspension::try_from(value) {
        Ok(api::Suspension::None) => Ok(Suspension::None),
        Ok(api::Suspension::FailedPayments) => Ok(Suspension::FailedPayments),
        Ok(api::Suspension::Abuse) => Ok(Suspension::Abuse),
        Ok(api::Suspension::Unspecified) | Err(_) => Err(unknown("terms.suspension", "none, failed_payments or abuse")),
    }
}

fn tier(value: i32) -> Result<Option<Tier>, FieldFault> {
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

fn failure_policy(value: i32, mode: Mode) -> Result<FailurePolicy, FieldFault> {
    match api::FailurePolicy::try_from(value) {
        Ok(api::FailurePolicy::Unspecified) => Ok(policy_of(mode)),
        Ok(api::FailurePolicy::Closed) => Ok(FailurePolicy::Closed),
        Ok(api::FailurePolicy::Allowance) => Ok(FailurePolicy::Allowance),
        Ok(api::FailurePolicy::Open) => Ok(FailurePolicy::Open),
        Err(_) => Err(unknown("terms.failure_policy", "closed, allowance, open, or unspecified")),
    }
}

fn reclaim_mode(value: i32, mode: Mode) -> Result<ReclaimMode, FieldFault> {
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

fn unknown(field: &'static str, known: &str) -> FieldFault {
    invalid(field, format!("is not known here; send {known}"))
}

pub(super) fn invalid(field: &'static str, message: String) -> FieldFault {
    FieldFault { field, message }
}
