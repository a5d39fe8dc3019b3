//! What the gate answers, as messages of our own API.

use std::time::Duration;

use crate::clock::wait_millis;
use crate::decision::Reason;
use crate::decision::catalogue::Provenance;
use crate::ledger::{End, Ended, Limits, Remaining};
use crate::transport::proto::tollgate as api;
use crate::transport::status::{Amount, Told};

pub(super) fn denial_message(told: &Told) -> api::Denial {
    api::Denial {
        reason: reason(told.reason).into(),
        reason_name: told.reason.name().into(),
        code: told.code.unwrap_or_default().into(),
        message: told.message.clone(),
        http_status: told.http.into(),
        retry_after_ms: told.retry_after.map(wait_millis),
        limit: told.limit.map(Amount::plain),
        used: told.used.map(Amount::plain),
        requested: told.requested.map(Amount::plain),
        resets_at: told.resets_at.clone(),
        affordable_max_tokens: told.affordable_max_tokens.map(tokens_u32),
        remedy: told.remedy.into(),
    }
}

pub(super) fn ended_message(ended: Ended) -> api::Ended {
    let end = match ended.end {
        End::Settled => api::End::Settled,
        End::Released => api::End::Released,
        End::Expired => api::End::Expired,
    };
    api::Ended {
        end: end.into(),
        cost: ended.cost.usd().to_string(),
        overrun: ended.overrun.usd().to_string(),
        repeated: ended.repeated,
    }
}

pub(super) fn limits_message(limits: &Limits) -> api::Limits {
    let [prompt_tokens, uncached_prompt_tokens, generated_tokens] = match &limits.tokens {
        Some(tokens) => tokens.each_ref().map(|metric| Some(remaining_message(metric))),
        None => [None; 3],
    };
    let requests = Some(remaining_message(&limits.requests));
    api::Limits { requests, prompt_tokens, uncached_prompt_tokens, generated_tokens }
}

fn remaining_message(remaining: &Remaining) -> api::Remaining {
    api::Remaining {
        per_minute: remaining.limit.per_minute,
        remaining: remaining.remaining,
        reset_ms: wait_millis(remaining.reset),
    }
}

/// Tokens as the wire has them; what is more than it can say is as good as its largest.
pub(super) fn tokens_u32(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

pub(super) fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

pub(in crate::transport) fn reason(reason: Reason) -> api::Reason {
    match reason {
        Reason::InvalidRequest => api::Reason::InvalidRequest,
        Reason::UnknownAccount => api::Reason::UnknownAccount,
        Reason::AbuseBlock => api::Reason::AbuseBlock,
        Reason::FailedPayments => api::Reason::FailedPayments,
        Reason::StarterExhausted => api::Reason::StarterExhausted,
        Reason::MonthlyLimit => api::Reason::MonthlyLimit,
        Reason::ExceedsMonthRoom => api::Reason::ExceedsMonthRoom,
        Reason::UserLimit => api::Reason::UserLimit,
        Reason::CreditsDepleted => api::Reason::CreditsDepleted,
        Reason::ExceedsBalance => api::Reason::ExceedsBalance,
        Reason::ExceedsLimit => api::Reason::ExceedsLimit,
        Reason::TopUpPending => api::Reason::TopupPending,
        Reason::InFlight => api::Reason::InFlight,
        Reason::RequestsPerMinute => api::Reason::RequestsPerMinute,
        Reason::PromptTokensPerMinute => api::Reason::PromptTokensPerMinute,
        Reason::UncachedPromptTokensPerMinute => api::Reason::UncachedPromptTokensPerMinute,
        Reason::GeneratedTokensPerMinute => api::Reason::GeneratedTokensPerMinute,
        Reason::Overloaded => api::Reason::Overloaded,
        Reason::Unavailable => api::Reason::Unavailable,
    }
}

pub(in crate::transport) fn provenance(provenance: Provenance) -> api::Provenance {
    match provenance {
        Provenance::Catalogue => api::Provenance::Catalogue,
        Provenance::Account => api::Provenance::Account,
        Provenance::Tier => api::Provenance::Tier,
        Provenance::Override => api::Provenance::Override,
        Provenance::Custom => api::Provenance::Custom,
        Provenance::Adaptive => api::Provenance::Adaptive,
    }
}
