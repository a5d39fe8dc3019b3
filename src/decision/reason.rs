//! Why an ask is denied, in the order in which reasons are given.

use std::time::Duration;

use super::credit::Credit;
use super::month::Month;
use super::rate::Limit;

/// A rate that an ask is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    Prompt,
    Uncached,
    Generated,
}

impl Metric {
    pub const ALL: [Self; 3] = [Self::Prompt, Self::Uncached, Self::Generated];

    /// The reason to wait for this rate.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Prompt => Reason::PromptTokensPerMinute,
            Self::Uncached => Reason::UncachedPromptTokensPerMinute,
            Self::Generated => Reason::GeneratedTokensPerMinute,
        }
    }
}

/// Why a request may not run. Declared in order: permanent reasons first, then those that waiting mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    InvalidRequest,
    UnknownAccount,
    AbuseBlock,
    FailedPayments,
    StarterExhausted,
    MonthlyLimit,
    ExceedsMonthRoom,
    UserLimit,
    CreditsDepleted,
    ExceedsBalance,
    ExceedsLimit,
    TopUpPending,
    InFlight,
    RequestsPerMinute,
    PromptTokensPerMinute,
    UncachedPromptTokensPerMinute,
    GeneratedTokensPerMinute,
    Overloaded,
    Unavailable,
}

impl Reason {
    /// Every reason, in order; metrics register one series for each.
    pub const ALL: [Self; 19] = [
        Self::InvalidRequest,
        Self::UnknownAccount,
        Self::AbuseBlock,
        Self::FailedPayments,
        Self::StarterExhausted,
        Self::MonthlyLimit,
        Self::ExceedsMonthRoom,
        Self::UserLimit,
        Self::CreditsDepleted,
        Self::ExceedsBalance,
        Self::ExceedsLimit,
        Self::TopUpPending,
        Self::InFlight,
        Self::RequestsPerMinute,
        Self::PromptTokensPerMinute,
        Self::UncachedPromptTokensPerMinute,
        Self::GeneratedTokensPerMinute,
        Self::Overloaded,
        Self::Unavailable,
    ];

    /// The word for this reason on the wire, in metrics and in docs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnknownAccount => "unknown_account",
            Self::AbuseBlock => "abuse_block",
            Self::FailedPayments => "failed_payments",
            Self::StarterExhausted => "starter_exhausted",
            Self::MonthlyLimit => "monthly_limit",
            Self::ExceedsMonthRoom => "exceeds_month_room",
            Self::UserLimit => "user_limit",
            Self::CreditsDepleted => "credits_depleted",
            Self::ExceedsBalance => "exceeds_balance",
            Self::ExceedsLimit => "exceeds_limit",
            Self::TopUpPending => "topup_pending",
            Self::InFlight => "in_flight",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::PromptTokensPerMinute => "prompt_tokens_per_minute",
            Self::UncachedPromptTokensPerMinute => "uncached_prompt_tokens_per_minute",
            Self::GeneratedTokensPerMinute => "generated_tokens_per_minute",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is wrong with a request itself, so that the answer can say what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    UnknownModel,
    /// The model is not offered in this service tier.
    NoSuchTier,
    /// The model has no price at this time.
    NoPrice,
    /// `n` is 0 or above the catalogue's `n_max`.
    BadN,
    /// Prompt (plus at least one token) above the context length.
    AboveContext,
    /// `max_tokens` is 0 or above the context length.
    BadMaxTokens,
    /// The hold of the same request id and attempt was asked for with other content.
    OtherContent,
}

/// An answer that says no. Not an error.
///
/// `retry_after` is there exactly when waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: Reason,
    pub retry_after: Option<Duration>,
    /// What the limit, the use and the request were, in the unit of the reason.
    pub amounts: Amounts,
    /// The most `max_tokens` that would pass, where fewer tokens would help.
    pub affordable_max_tokens: Option<u64>,
    /// The month after which the limit begins anew, where that is so.
    pub resets_after: Option<Month>,
    /// Which bucket `exceeds_limit` is about, named by the reason that a wait for it would have.
    pub bucket: Option<Reason>,
    pub invalid: Option<Invalid>,
}

/// The numbers behind a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amounts {
    #[default]
    None,
    /// For a month or a user: the cap, and what was spent of it. For the balance: balance and credit line, and what
    /// requests hold of them here.
    Money { limit: Credit, used: Credit, requested: Credit },
    /// Tokens or requests.
    Rate { limit: Limit, used: u64, requested: u64 },
}

impl Denial {
    /// A denial with nothing but its reason.
    pub const fn of(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: None,
            amounts: Amounts::None,
            affordable_max_tokens: None,
            resets_after: None,
            bucket: None,
            invalid: None,
        }
    }
}
