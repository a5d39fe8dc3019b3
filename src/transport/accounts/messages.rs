//! Records of accounts and keys, as messages of our own API.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::users::caps_message;
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{FailurePolicy, Mode, ReclaimMode, Suspension, Terms, Tier, TokenLimits, TopUpTerms};
use crate::reconcile::store::{AccountRecord, CreditKind, KeyRecord, Lot};
use crate::transport::proto::tollgate as api;

pub(super) fn account_message(record: AccountRecord) -> api::Account {
    let Terms { mode, suspension, payment_method, billing_profile, tier_override, .. } = record.terms;
    let Terms { failure_policy, reclaim_mode, shadow, .. } = record.terms;
    api::Account {
        account: record.account.to_string(),
        version: record.terms_version,
        created_at: rfc3339(record.created),
        mode: mode_message(mode).into(),
        suspension: suspension_message(suspension).into(),
        payment_method,
        billing_profile,
        tier_override: tier_override.map_or(api::Tier::Unspecified, tier_message).into(),
        monthly_limit: record.terms.monthly_limit.map(usd),
        credit_line: usd(record.terms.credit_line),
        top_up: record.terms.top_up.map(top_up_message),
        failure_policy: failure_policy_message(failure_policy).into(),
        reclaim_mode: reclaim_mode_message(reclaim_mode).into(),
        shadow,
        custom_limits: record.terms.custom_limits.into_iter().map(limits_message).collect(),
        credits_promotional: usd(record.credits_promotional),
        credits_purchased: usd(record.credits_purchased),
        used: usd(record.used),
        balance: usd(record.balance),
        leased: usd(record.leased),
        limbo: usd(record.limbo),
        lifetime_paid: usd(record.lifetime_paid),
        month: record.month.to_string(),
        month_used: usd(record.month_used),
        topup_pending: record.topup_pending,
        user_caps: record.terms.user_caps.map(|caps| caps_message(*caps)),
        tier: tier_message(record.tier).into(),
        balance_alert: record.terms.balance_alert.map(usd),
        lots: record.lots.into_iter().map(lot_message).collect(),
        month_limit: record.month_limit.map(usd),
        reserved: record.terms.reserved.into_iter().map(|(name, credit)| (name.into(), usd(credit))).collect(),
        alert_percents: record.terms.alert_percents.map(|percents| api::AlertPercents { percents }),
    }
}

fn lot_message(lot: Lot) -> api::Lot {
    api::Lot { kind: kind_message(lot.kind).into(), amount: usd(lot.amount), left: usd(lot.left) }
}

fn kind_message(kind: CreditKind) -> api::CreditKind {
    match kind {
        CreditKind::Promotional => api::CreditKind::Promotional,
        CreditKind::Purchased => api::CreditKind::Purchased,
        CreditKind::Adjustment => api::CreditKind::Adjustment,
        CreditKind::Refund => api::CreditKind::Refund,
    }
}

pub(super) fn key_message(record: KeyRecord) -> api::ApiKey {
    api::ApiKey { id: record.id, label: record.label, created_at: rfc3339(record.created) }
}

pub(super) fn rfc3339(instant: UnixMs) -> String {
    let seconds = i64::try_from(instant.0 / 1_000).unwrap_or(i64::MAX);
    let instant = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    instant.format(&Rfc3339).unwrap_or_default()
}

pub(in crate::transport) fn usd(credit: Credit) -> String {
    credit.usd().to_string()
}

fn top_up_message(top_up: TopUpTerms) -> api::TopUp {
    api::TopUp { minimum: usd(top_up.minimum), amount: usd(top_up.amount), monthly_cap: top_up.monthly_cap.map(usd) }
}

fn limits_message((name, [prompt, uncached_prompt, generated]): (Box<str>, TokenLimits)) -> (String, api::TokenLimits) {
    (name.into(), api::TokenLimits { prompt, uncached_prompt, generated })
}

pub(in crate::transport) fn mode_message(mode: Mode) -> api::Mode {
    match mode {
        Mode::Prepaid => api::Mode::Prepaid,
        Mode::Postpaid => api::Mode::Postpaid,
        Mode::Contract => api::Mode::Contract,
    }
}

pub(in crate::transport) fn suspension_message(suspension: Suspension) -> api::Suspension {
    match suspension {
        Suspension::None => api::Suspension::None,
        Suspension::FailedPayments => api::Suspension::FailedPayments,
        Suspension::Abuse => api::Suspension::Abuse,
    }
}

pub(in crate::transport) fn tier_message(tier: Tier) -> api::Tier {
    match tier {
        Tier::None => api::Tier::None,
        Tier::One => api::Tier::One,
        Tier::Two => api::Tier::Two,
        Tier::Three => api::Tier::Three,
        Tier::Four => api::Tier::Four,
        Tier::Unlimited => api::Tier::Unlimited,
    }
}

fn failure_policy_message(policy: FailurePolicy) -> api::FailurePolicy {
    match policy {
        FailurePolicy::Closed => api::FailurePolicy::Closed,
        FailurePolicy::Allowance => api::FailurePolicy::Allowance,
        FailurePolicy::Open => api::FailurePolicy::Open,
    }
}

fn reclaim_mode_message(mode: ReclaimMode) -> api::ReclaimMode {
    match mode {
        ReclaimMode::Limbo => api::ReclaimMode::Limbo,
        ReclaimMode::Return => api::ReclaimMode::Return,
    }
}
