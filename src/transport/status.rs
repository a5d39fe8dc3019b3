//! The one exhaustive table from reasons and failures to codes, bodies and sentences.
//!
//! A reason says which limit, a profile says how clients of a certain kind expect to hear of it. Balances are left out
//! unless they are switched on.

mod body;
pub(super) mod failure;
pub(super) mod faults;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tonic::Code;

use crate::clock::wait_seconds;
use crate::decision::{Amounts, Credit, Denial, Invalid, Reason};
use table::{TOO_LARGE, row};

/// How denials look to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Fireworks,
    /// Money denials are 429 with `insufficient_quota`, as OpenAI's clients expect.
    OpenAi,
    /// Money denials are 400, as Anthropic's clients expect.
    Anthropic,
}

impl Profile {
    pub const ALL: [Self; 3] = [Self::Fireworks, Self::OpenAi, Self::Anthropic];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fireworks => "fireworks",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// An error as a client of one profile expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    http: u16,
    /// `error.type`.
    kind: &'static str,
    /// `error.code`.
    code: Option<&'static str>,
}

/// One line of the table.
struct Row {
    grpc: Code,
    /// What is the case, as the start of a sentence.
    fact: &'static str,
    /// What helps, as an instruction that ends the sentence.
    remedy: &'static str,
    fireworks: Shape,
    openai: Shape,
    anthropic: Shape,
}

/// A denial, put into words and numbers for whoever sent the request.
#[derive(Clone, Debug)]
pub struct Told {
    pub reason: Reason,
    pub grpc: Code,
    pub http: u16,
    kind: &'static str,
    pub code: Option<&'static str>,
    /// One sentence: the limit, the numbers and the remedy.
    pub message: String,
    pub remedy: &'static str,
    /// There exactly when waiting helps.
    pub retry_after: Option<Duration>,
    pub limit: Option<Amount>,
    pub used: Option<Amount>,
    pub requested: Option<Amount>,
    /// RFC 3339, UTC.
    pub resets_at: Option<String>,
    pub affordable_max_tokens: Option<u64>,
    profile: Profile,
}

/// A number behind a denial, in its own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Usd(Credit),
    /// Tokens or requests, per minute where it is a limit.
    Count(u64),
}

/// Puts a denial into words. `model` is the model as it was asked for.
pub fn told(denial: &Denial, model: &str, profile: Profile, show_balance: bool) -> Told {
    let row = row(denial.reason);
    let (mut fact, mut remedy) = (row.fact, row.remedy);
    if let Some(invalid) = denial.invalid {
        (fact, remedy) = invalid_words(invalid);
    }
    if let Some((_, too_large, smaller)) = TOO_LARGE.iter().find(|(bucket, ..)| denial.bucket == Some(*bucket)) {
        (fact, remedy) = (too_large, smaller);
    }
    let mut told = Told::new(denial.reason, row, profile, remedy);
    told.retry_after = denial.retry_after;
    told.affordable_max_tokens = denial.affordable_max_tokens;
    told.resets_at = denial.resets_after.map(|month| format!("{}-01T00:00:00Z", month.next()));
    told.take_amounts(denial.amounts, show_balance || !reveals_balance(denial.reason));
    if denial.invalid == Some(Invalid::OtherContent) {
        told.grpc = Code::AlreadyExists;
    }
    let model = denial.invalid.is_some_and(names_model).then_some(model);
    told.message = told.sentence(fact, model);
    told
}

/// Puts what cannot be parsed into words.
pub fn told_invalid(fact: &str, remedy: &'static str, profile: Profile) -> Told {
    let mut told = Told::new(Reason::InvalidRequest, row(Reason::InvalidRequest), profile, remedy);
    told.message = told.sentence(fact, None);
    told
}

/// Whole seconds to wait, rounded up, and never none: a client that comes back at once would be denied again.
pub fn retry_seconds(wait: Duration) -> u64 {
    wait_seconds(wait).max(1)
}

impl Told {
    fn new(reason: Reason, row: &Row, profile: Profile, remedy: &'static str) -> Self {
        let Shape { http, kind, code } = match profile {
            Profile::Fireworks => row.fireworks,
            Profile::OpenAi => row.openai,
            Profile::Anthropic => row.anthropic,
        };
        let (limit, used, requested) = (None, None, None);
        let (retry_after, resets_at, affordable_max_tokens) = (None, None, None);
        let (grpc, message) = (row.grpc, String::new());
        Self {
            reason,
            grpc,
            http,
            kind,
            code,
            message,
            remedy,
            retry_after,
            limit,
            used,
            requested,
            resets_at,
            affordable_max_tokens,
            profile,
        }
    }

    fn take_amounts(&mut self, amounts: Amounts, all: bool) {
        let (limit, used, requested) = match amounts {
            Amounts::None => return,
            Amounts::Money { limit, used, requested } => {
                (Amount::Usd(limit), Amount::Usd(used), Amount::Usd(requested))
            }
            Amounts::Rate { limit, used, requested } => {
                (Amount::Count(limit.per_minute), Amount::Count(used), Amount::Count(requested))
            }
        };
        self.requested = Some(requested);
        if all {
            (self.limit, self.used) = (Some(limit), Some(used));
        }
    }

    /// `fact (numbers); remedy.`
    fn sentence(&self, fact: &str, model: Option<&str>) -> String {
        let mut text = String::with_capacity(256);
        text.push_str(fact);
        let mut opened = false;
        let mut add = |part: std::fmt::Arguments<'_>| {
            let separator = if opened { ", " } else { " (" };
            opened = true;
            write!(text, "{separator}{part}").expect("a String takes whatever is written");
        };
        if let Some(model) = model {
            add(format_args!("model {:?}", model.chars().take(64).collect::<String>()));
        }
        match self.limit {
            Some(limit @ Amount::Usd(_)) => add(format_args!("limit {limit}")),
            Some(limit @ Amount::Count(_)) => add(format_args!("limit {limit} per minute")),
            None => {}
        }
        if let Some(used) = self.used {
            add(format_args!("used {used}"));
        }
        if let Some(requested) = self.requested {
            add(format_args!("requested {requested}"));
        }
        if let Some(tokens) = self.affordable_max_tokens {
            add(format_args!("affordable max_tokens {tokens}"));
        }
        if let Some(resets_at) = &self.resets_at {
            add(format_args!("begins anew at {resets_at}"));
        }
        if let Some(wait) = self.retry_after {
            add(format_args!("retry after {} s", retry_seconds(wait)));
        }
        let end = if opened { ")" } else { "" };
        write!(text, "{end}; {}.", self.remedy).expect("a String takes whatever is written");
        text
    }
}

/// Money with its sign, for people.
impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usd(credit) => credit.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Amount {
    /// As our own API writes it: USD as a decimal, counts as they are.
    pub fn plain(self) -> String {
        match self {
            Self::Usd(credit) => credit.usd().to_string(),
            Self::Count(count) => count.to_string(),
        }
    }
}

/// Money as a decimal string in USD, so that no reader makes a float of it; counts as numbers.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Usd(credit) => serializer.collect_str(&credit.usd()),
            Self::Count(count) => serializer.serialize_u64(*count),
        }
    }
}

/// Whether limit and use of this reason are the balance, or tell it.
fn reveals_balance(reason: Reason) -> bool {
    match reason {
        Reason::StarterExhausted
        | Reason::CreditsDepleted
        | Reason::ExceedsBalance
        | Reason::TopUpPending
        | Reason::InFlight => true,
        Reason::InvalidRequest
        | Reason::UnknownAccount
        | Reason::AbuseBlock
        | Reason::FailedPayments
        | Reason::MonthlyLimit
        | Reason::ExceedsMonthRoom
        | Reason::UserLimit
        | Reason::ExceedsLimit
        | Reason::RequestsPerMinute
        | Reason::PromptTokensPerMinute
        | Reason::UncachedPromptTokensPerMinute
        | Reason::GeneratedTokensPerMinute
        | Reason::Overloaded
        | Reason::Unavailable => false,
    }
}

fn names_model(invalid: Invalid) -> bool {
    match invalid {
        Invalid::UnknownModel | Invalid::NoSuchTier | Invalid::NoPrice => true,
        Invalid::BadN | Invalid::AboveContext | Invalid::BadMaxTokens | Invalid::OtherContent => false,
    }
}

/// What is wrong with a request, and what to change.
fn invalid_words(invalid: Invalid) -> (&'static str, &'static str) {
    match invalid {
        Invalid::UnknownModel => ("The model is not offered", "name a model of the catalogue"),
        Invalid::NoSuchTier => ("The model is not offered in this service tier", "ask for another service_tier"),
        Invalid::NoPrice => ("The model has no price at this time", "ask the operator to price it"),
        Invalid::BadN => (
            "The number of completions is 0 or too large",
            "send at least 1, by n, best_of or the number of prompts, or fewer",
        ),
        Invalid::AboveContext => ("The prompt does not fit the model's context", "shorten the prompt"),
        Invalid::BadMaxTokens => ("max_tokens is 0 or above the model's context length", "send at least 1, or less"),
        Invalid::OtherContent => ("The request id was used for another request", "send a new request id"),
    }
}
