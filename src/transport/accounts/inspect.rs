//! How an account stands at this moment, as messages of our own API.

use std::time::Duration;

use super::messages::{tier_message, usd};
use crate::clock::{Time, wait_millis};
use crate::gate::Noted;
use crate::ledger::{Here, LimitHere, ModelHere};
use crate::reconcile::store::Leased;
use crate::transport::admission::messages::{provenance, reason};
use crate::transport::proto::tollgate as api;

pub(super) fn lease_message(lease: Leased) -> api::Lease {
    api::Lease {
        node: lease.session.node.to_string(),
        run: format!("{:032x}", lease.session.run),
        outstanding: usd(lease.outstanding),
        used: usd(lease.used),
        live: lease.is_live,
        heard_ms: millis(lease.heard),
    }
}

pub(super) fn here_message(here: Here) -> api::Here {
    api::Here {
        tier: tier_message(here.tier).into(),
        balance: usd(here.balance),
        month_used: usd(here.month_used),
        free: usd(here.free),
        lease_left_ms: millis(here.lease_left),
        held: usd(here.held),
        holds: here.holds,
        oldest_hold_ms: here.oldest.map(millis),
        unreported: usd(here.unreported),
        requests: Some(limit_message(&here.requests)),
        models: here.models.into_iter().map(model_message).collect(),
    }
}

pub(super) fn denial_message(noted: &Noted, now: Time) -> api::RecentDenial {
    api::RecentDenial {
        ago_ms: millis(now.since(noted.at)),
        reason: reason(noted.denial.reason).into(),
        reason_name: noted.denial.reason.name().into(),
        model: noted.model.to_string(),
        user: noted.user.to_string(),
        count: noted.count,
        retry_after_ms: noted.denial.retry_after.map(wait_millis),
    }
}

fn model_message(model: ModelHere) -> api::ModelLimits {
    let [prompt_tokens, uncached_prompt_tokens, generated_tokens] =
        model.tokens.each_ref().map(|limit| Some(limit_message(limit)));
    api::ModelLimits { model: model.model, prompt_tokens, uncached_prompt_tokens, generated_tokens }
}

fn limit_message(limit: &LimitHere) -> api::LimitHere {
    api::LimitHere {
        per_minute: limit.limit.per_minute,
        level: limit.level,
        at_hand: limit.at_hand,
        reset_ms: wait_millis(limit.empty_after),
        provenance: provenance(limit.provenance).into(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
