//! Why a request would be admitted or denied, limit by limit, as messages of our own API.

use super::messages::{denial_message, provenance};
use crate::clock::wait_millis;
use crate::decision::catalogue::Provenance;
use crate::decision::explain::{Bound, Finding, Says};
use crate::decision::{Amounts, Ask, Metric, Month};
use crate::ledger::{Why, WhyLimit};
use crate::transport::accounts::messages::{mode_message, suspension_message, tier_message};
use crate::transport::proto::tollgate as api;
use crate::transport::status::Amount;
use crate::transport::wire::Wire;

/// The answer, and everything that it was made of.
pub(super) fn explain_response(
    wire: &Wire,
    ask: &Ask<'_>,
    answer: api::AdmitResponse,
    why: Option<&Why>,
) -> api::ExplainResponse {
    let Some(why) = why else { return api::ExplainResponse { answer: Some(answer), ..Default::default() } };
    api::ExplainResponse {
        answer: Some(answer),
        limits: why.limits.iter().map(|limit| limit_message(wire, ask, why, limit)).collect(),
        mode: word(mode_message(why.mode).as_str_name(), "MODE_"),
        tier: tier(why),
        suspension: word(suspension_message(why.suspension).as_str_name(), "SUSPENSION_"),
        shadow: why.shadow,
    }
}

fn limit_message(wire: &Wire, ask: &Ask<'_>, why: &Why, limit: &WhyLimit) -> api::ExplainedLimit {
    let Finding { bound, amounts, says, empty_after } = limit.finding;
    let (most, used, requested) = plain(amounts);
    let is_told = bound != Bound::Credit || wire.settings.answer.show_balances;
    let denial = match says {
        Says::Yes | Says::AskPool => None,
        Says::No(denial) => Some(denial_message(&wire.told(&denial, ask.model))),
    };
    api::ExplainedLimit {
        kind: kind(bound).into(),
        denial,
        limit: is_told.then_some(most),
        used: is_told.then_some(used),
        requested,
        provenance: provenance(limit.provenance).into(),
        why: in_words(limit, why),
        reset_ms: empty_after.map(wait_millis),
        resets_at: matches!(bound, Bound::Month | Bound::User).then(|| begins(why.month.next())),
    }
}

/// Limit, use and request as our own API writes them.
fn plain(amounts: Amounts) -> (String, String, String) {
    match amounts {
        Amounts::None => Default::default(),
        Amounts::Money { limit, used, requested } => {
            let usd = |credit| Amount::Usd(credit).plain();
            (usd(limit), usd(used), usd(requested))
        }
        Amounts::Rate { limit, used, requested } => {
            (limit.per_minute.to_string(), used.to_string(), requested.to_string())
        }
    }
}

fn kind(bound: Bound) -> api::LimitKind {
    match bound {
        Bound::Month => api::LimitKind::Month,
        Bound::User => api::LimitKind::User,
        Bound::Credit => api::LimitKind::Credit,
        Bound::Requests => api::LimitKind::Requests,
        Bound::Tokens(Metric::Prompt) => api::LimitKind::PromptTokens,
        Bound::Tokens(Metric::Uncached) => api::LimitKind::UncachedPromptTokens,
        Bound::Tokens(Metric::Generated) => api::LimitKind::GeneratedTokens,
    }
}

fn in_words(limit: &WhyLimit, why: &Why) -> String {
    let base = base_in_words(limit.provenance, limit.finding.bound, why);
    if limit.reserved > 0 { format!("{base}, and {} a minute reserved on top", limit.reserved) } else { base }
}

/// Where a limit comes from, without what the account reserved.
fn base_in_words(provenance: Provenance, bound: Bound, why: &Why) -> String {
    match (provenance, bound) {
        (Provenance::Catalogue, Bound::Requests) if why.funded => {
            "the catalogue's, for accounts with a payment method and credits".into()
        }
        (Provenance::Catalogue, Bound::Requests) => {
            "the catalogue's, for accounts without a payment method or without credits".into()
        }
        (Provenance::Catalogue, _) => "where the catalogue has every limit start".into(),
        (Provenance::Account, Bound::Credit) => "credits and credit line, less what was used".into(),
        (Provenance::Account, _) => "the account's own".into(),
        (Provenance::Tier, _) => format!("the most that tier {} allows", tier(why)),
        (Provenance::Override, _) => format!("the most that tier {} allows, which an operator set", tier(why)),
        (Provenance::Custom, _) => "set for this account and model".into(),
        (Provenance::Adaptive, _) => "follows use".into(),
    }
}

fn tier(why: &Why) -> String {
    word(tier_message(why.tier).as_str_name(), "TIER_")
}

/// `TIER_TWO` as `two`.
fn word(name: &str, tag: &str) -> String {
    name.trim_start_matches(tag).to_lowercase()
}

/// The first instant of a month.
fn begins(month: Month) -> String {
    format!("{month}-01T00:00:00Z")
}
