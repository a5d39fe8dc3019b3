//! The table itself: for each reason its gRPC code, its words, and its shape in each profile.

use tonic::Code;

use super::{Row, Shape};
use crate::decision::Reason;

pub(super) const fn row(reason: Reason) -> &'static Row {
    match reason {
        Reason::InvalidRequest => &INVALID_REQUEST,
        Reason::UnknownAccount => &UNKNOWN_ACCOUNT,
        Reason::AbuseBlock => &ABUSE_BLOCK,
        Reason::FailedPayments => &FAILED_PAYMENTS,
        Reason::StarterExhausted => &STARTER_EXHAUSTED,
        Reason::MonthlyLimit => &MONTHLY_LIMIT,
        Reason::ExceedsMonthRoom => &EXCEEDS_MONTH_ROOM,
        Reason::UserLimit => &USER_LIMIT,
        Reason::CreditsDepleted => &CREDITS_DEPLETED,
        Reason::ExceedsBalance => &EXCEEDS_BALANCE,
        Reason::ExceedsLimit => &EXCEEDS_LIMIT,
        Reason::TopUpPending => &TOPUP_PENDING,
        Reason::InFlight => &IN_FLIGHT,
        Reason::RequestsPerMinute => &REQUESTS_PER_MINUTE,
        Reason::PromptTokensPerMinute => &PROMPT_TOKENS_PER_MINUTE,
        Reason::UncachedPromptTokensPerMinute => &UNCACHED_PROMPT_TOKENS_PER_MINUTE,
        Reason::GeneratedTokensPerMinute => &GENERATED_TOKENS_PER_MINUTE,
        Reason::Overloaded => &OVERLOADED,
        Reason::Unavailable => &UNAVAILABLE,
    }
}

const INVALID_REQUEST: Row = Row {
    grpc: Code::InvalidArgument,
    fact: "The request cannot be served as it is",
    remedy: "change the request",
    fireworks: shape(400, "invalid_request_error", "invalid_request_error"),
    openai: shape(400, "invalid_request_error", "invalid_request_error"),
    anthropic: bare(400, "invalid_request_error"),
};

const UNKNOWN_ACCOUNT: Row = Row {
    grpc: Code::Unauthenticated,
    fact: "No account belongs to this request",
    remedy: "send a valid API key as \"authorization: Bearer KEY\"",
    fireworks: bare(401, "authentication_error"),
    openai: shape(401, "invalid_request_error", "invalid_api_key"),
    anthropic: bare(401, "authentication_error"),
};

const ABUSE_BLOCK: Row = suspended("The account is blocked", "write to support");
const FAILED_PAYMENTS: Row =
    suspended("The account is suspended because payments failed", "replace the payment method or pay what is owed");
const STARTER_EXHAUSTED: Row =
    suspended("The starter credit is used up and there is no payment method", "add a payment method and credits");

const MONTHLY_LIMIT: Row = money(
    shape(412, "billing_error", "MONTHLY_SPEND_LIMIT_EXCEEDED"),
    "The monthly limit is reached",
    "raise the monthly limit; adding credits does not help",
);
const EXCEEDS_MONTH_ROOM: Row = money(
    PAYMENT_REQUIRED,
    "The request may cost more than is left of the monthly limit",
    "lower max_tokens or raise the monthly limit",
);
const USER_LIMIT: Row = money(
    PAYMENT_REQUIRED,
    "The request may cost more than is left of this user's spend limit",
    "have the account's owner raise the user's limit",
);
const CREDITS_DEPLETED: Row = money(
    shape(412, "billing_error", "CREDIT_DEPLETED"),
    "The account has no credits left",
    "add credits or turn auto top-up on",
);
const EXCEEDS_BALANCE: Row = money(
    PAYMENT_REQUIRED,
    "The request may cost more than the credits that are left",
    "lower max_tokens or add credits",
);

/// What no wait makes room for and what helps, by the reason that a wait would have.
pub(super) const TOO_LARGE: &[(Reason, &str, &str)] = &[
    (
        Reason::RequestsPerMinute,
        "The request counts as more requests at once than their limit ever allows",
        "lower n, best_of or the number of prompts; waiting does not help",
    ),
    (
        Reason::PromptTokensPerMinute,
        "The request has more prompt tokens at once than their limit ever allows",
        "shorten the prompt; waiting does not help",
    ),
    (
        Reason::UncachedPromptTokensPerMinute,
        "The request has more uncached prompt tokens at once than their limit ever allows",
        "shorten the prompt; waiting does not help",
    ),
    (
        Reason::GeneratedTokensPerMinute,
        "The request may generate more tokens at once than their limit ever allows",
        "lower max_tokens or n; waiting does not help",
    ),
];

const EXCEEDS_LIMIT: Row = Row {
    grpc: Code::FailedPrecondition,
    fact: "The request needs more at once than its rate limit ever allows",
    remedy: "send a smaller request; waiting does not help",
    fireworks: shape(429, "rate_limit_error", "REQUEST_TOO_LARGE_FOR_LIMIT"),
    openai: shape(429, "tokens", "request_too_large_for_limit"),
    anthropic: bare(429, "rate_limit_error"),
};

const TOPUP_PENDING: Row = later(
    "The account is short of credits and a purchase is under way",
    "send the request again when the purchase has gone through",
);
const IN_FLIGHT: Row = later(
    "Requests that still run hold the money that this one needs",
    "send the request again when some of them have ended",
);

const REQUESTS_PER_MINUTE: Row = rate("requests", "The limit of requests per minute is reached");
const PROMPT_TOKENS_PER_MINUTE: Row = rate("tokens", "The limit of prompt tokens per minute is reached");
const UNCACHED_PROMPT_TOKENS_PER_MINUTE: Row =
    rate("tokens", "The limit of prompt tokens per minute that are not cached is reached");
const GENERATED_TOKENS_PER_MINUTE: Row = rate("tokens", "The limit of generated tokens per minute is reached");

const OVERLOADED: Row = trouble("overloaded_error", "SERVICE_OVERLOADED", "The service sheds load");
const UNAVAILABLE: Row =
    trouble("api_error", "ADMISSION_UNAVAILABLE", "Nobody can vouch for the account at this moment");

const PAYMENT_REQUIRED: Shape = shape(402, "billing_error", "PAYMENT_REQUIRED");

/// The account itself is stopped.
const fn suspended(fact: &'static str, remedy: &'static str) -> Row {
    Row {
        grpc: Code::FailedPrecondition,
        fact,
        remedy,
        fireworks: shape(412, "billing_error", "PRECONDITION_FAILED"),
        openai: shape(429, "insufficient_quota", "billing_not_active"),
        anthropic: bare(400, "invalid_request_error"),
    }
}

/// Too little money, and waiting does not mend it.
const fn money(fireworks: Shape, fact: &'static str, remedy: &'static str) -> Row {
    Row {
        grpc: Code::FailedPrecondition,
        fact,
        remedy,
        fireworks,
        openai: shape(429, "insufficient_quota", "insufficient_quota"),
        anthropic: bare(400, "invalid_request_error"),
    }
}

/// Too little money, for a while.
const fn later(fact: &'static str, remedy: &'static str) -> Row {
    Row {
        grpc: Code::ResourceExhausted,
        fact,
        remedy,
        fireworks: PAYMENT_REQUIRED,
        openai: shape(429, "insufficient_quota", "insufficient_quota_for_now"),
        anthropic: bare(429, "rate_limit_error"),
    }
}

const fn rate(openai_kind: &'static str, fact: &'static str) -> Row {
    Row {
        grpc: Code::ResourceExhausted,
        fact,
        remedy: "wait, then send the request again",
        fireworks: shape(429, "rate_limit_error", "RATE_LIMIT_EXCEEDED"),
        openai: shape(429, openai_kind, "rate_limit_exceeded"),
        anthropic: bare(429, "rate_limit_error"),
    }
}

/// Ours or the inference server's trouble, never the client's.
const fn trouble(kind: &'static str, code: &'static str, fact: &'static str) -> Row {
    Row {
        grpc: Code::Unavailable,
        fact,
        remedy: "wait, then send the request again",
        fireworks: shape(503, kind, code),
        openai: shape(503, "server_error", code),
        anthropic: bare(503, kind),
    }
}

const fn shape(http: u16, kind: &'static str, code: &'static str) -> Shape {
    Shape { http, kind, code: Some(code) }
}

const fn bare(http: u16, kind: &'static str) -> Shape {
    Shape { http, kind, code: None }
}
