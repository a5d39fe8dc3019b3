//! Terms, written for people and other versions of this program, and as the numbers that the law looks at.

use crate::decision::Credit;
use crate::decision::terms::{ALERTS_MAX, Mode, ReclaimMode, Suspension, Terms, Tier, TopUpTerms};
use crate::reconcile::store::StoreError;

/// Terms as JSON.
pub(super) fn written(terms: &Terms) -> String {
    serde_json::to_string(terms).expect("terms are plain values with names for keys")
}

pub(super) fn read(text: &str) -> Result<Terms, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("terms: {error}")))
}

/// In the order of the terms' places in `lua/state.lua`: amounts are USD and nano-USD.
pub(super) fn numbers(terms: &Terms) -> String {
    let bounded = |credit: Credit| credit.clamp(Credit::ZERO, Credit::MAX);
    let limit_kind = match (terms.monthly_limit, terms.mode) {
        (None, _) => 0,
        (Some(_), Mode::Prepaid | Mode::Postpaid) => 1,
        (Some(_), Mode::Contract) => 2,
    };
    let top_up = buying(terms);
    let nothing = TopUpTerms { minimum: Credit::ZERO, amount: Credit::ZERO, monthly_cap: None };
    let TopUpTerms { minimum, amount, monthly_cap } = top_up.unwrap_or(nothing);
    let numbers = [
        i64::from(terms.suspension != Suspension::None).to_string(),
        i64::from(terms.reclaim_mode == ReclaimMode::Return).to_string(),
        amount_text(bounded(terms.credit_line)),
        limit_kind.to_string(),
        amount_text(bounded(terms.monthly_limit.unwrap_or_default())),
        i64::from(top_up.is_some()).to_string(),
        amount_text(minimum),
        amount_text(amount),
        i64::from(monthly_cap.is_some()).to_string(),
        amount_text(monthly_cap.unwrap_or_default()),
        i64::from(terms.payment_method && terms.billing_profile).to_string(),
        terms.tier_override.map_or("-1".into(), |tier| tier_number(tier).to_string()),
        i64::from(terms.balance_alert.is_some()).to_string(),
        amount_text(terms.balance_alert.unwrap_or_default()),
        percents_number(terms).to_string(),
        i64::from(terms.mode == Mode::Postpaid).to_string(),
    ];
    numbers.join(" ")
}

/// The account's own percents in one number, the first in its last three digits; 0 where it has none of its own, and a
/// number without digits where nothing is announced.
fn percents_number(terms: &Terms) -> i64 {
    let Some(percents) = &terms.alert_percents else { return 0 };
    let digits = |number: i64, percent: &u32| number * 1_000 + i64::from(*percent).clamp(1, 999);
    if percents.is_empty() { -1 } else { percents.iter().take(ALERTS_MAX).rev().fold(0, digits) }
}

/// The terms after payments failed for good.
pub(super) fn failed_payments(terms: Terms) -> Terms {
    Terms { suspension: Suspension::FailedPayments, top_up: None, ..terms }
}

/// Whether a change of terms changes how the account pays, so that the waits of auto top-up start anew.
pub(super) fn changes_payment(old: &Terms, new: &Terms) -> bool {
    let pays = |terms: &Terms| (terms.top_up, terms.payment_method, terms.suspension);
    pays(old) != pays(new)
}

/// Tiers in order, as the scripts know them.
pub(super) const TIERS: [Tier; 6] = [Tier::None, Tier::One, Tier::Two, Tier::Three, Tier::Four, Tier::Unlimited];

pub(super) fn tier_number(tier: Tier) -> usize {
    TIERS.iter().position(|known| *known == tier).expect("every tier is listed")
}

pub(super) fn tier_of_number(number: usize) -> Option<Tier> {
    TIERS.get(number).copied()
}

/// USD and nano-USD, the latter at least zero.
pub(super) fn amount_text(credit: Credit) -> String {
    let usd = 1_000_000_000;
    format!("{} {}", credit.nanos().div_euclid(usd), credit.nanos().rem_euclid(usd))
}

/// The terms of auto top-up, where it can buy at all.
fn buying(terms: &Terms) -> Option<TopUpTerms> {
    let able = terms.payment_method && terms.suspension == Suspension::None;
    terms.top_up.filter(|terms| able && Credit::ZERO < terms.amount && terms.amount <= Credit::MAX)
}
