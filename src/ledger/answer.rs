//! What the ledger answers: verdicts, limits, and how holds end.

use std::time::Duration;

use crate::decision::rate::Limit;
use crate::decision::{Credit, Denial, Reason, ServiceTier, Short};

/// What a check came to here.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "on the hot path the large one is the common one")]
pub enum Checked {
    Answered(Answer),
    /// The account is not loaded. Ask the pool for it, then check again.
    Unknown,
    /// The lease or a chunk does not suffice. Ask the pool once, then check again. The need is noted already.
    Short(Short),
}

#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub verdict: Verdict,
    /// Limits net of holds, for the answer's headers; `None` where the account is not known.
    pub limits: Option<Limits>,
    pub balance: Option<Credit>,
}

#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    Admitted(Admitted),
    Denied(Denial),
}

/// A request that may run, and the hold that was opened for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub cost: Credit,
    /// The most tokens it may generate, over all completions.
    pub out_max: u64,
    /// `out_max` is less than was asked for.
    pub capped: bool,
    /// How long the hold lives without a sign of life.
    pub life: Duration,
    /// The same ask was answered before; this is that answer.
    pub repeated: bool,
    /// What would have denied it, were the account not a shadow.
    pub shadow: Option<Reason>,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests: Remaining,
    /// In the order of [`crate::decision::Metric`]; `None` for batch.
    pub tokens: Option<[Remaining; 3]>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Remaining {
    pub limit: Limit,
    /// What could be taken now, holds taken off.
    pub remaining: u64,
    /// Until the bucket is empty (all of the limit is there again).
    pub reset: Duration,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Settled,
    Released,
    Expired,
}

/// The result of a settle or a release, and of every repetition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub end: End,
    pub cost: Credit,
    /// What the hold was; zero where there was none.
    pub held: Credit,
    /// The part of `cost` above the hold.
    pub overrun: Credit,
    pub repeated: bool,
}

/// Why a hold cannot be changed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    #[error("no such hold; it was never opened here, or it ended long ago")]
    NotFound,
    #[error("the hold ended already")]
    Ended(Ended),
    #[error("usage runs backwards: report totals since the request began")]
    Backwards,
    #[error("cached tokens exceed prompt tokens")]
    CachedAbovePrompt,
    #[error("the account is not known here")]
    UnknownAccount,
    #[error("tokens exceed what one request can have")]
    TooLarge,
}

/// What a settle needs to know where the hold is not (or no longer) known here: usage is booked all the same.
#[derive(Clone, Copy, Debug)]
pub struct WithoutHold<'a> {
    pub model: &'a str,
    pub service_tier: ServiceTier,
    pub user: Option<&'a str>,
}

/// What came of an extension.
#[derive(Clone, Copy, Debug)]
pub enum Extended {
    /// The most it may now generate, over all completions.
    Granted { out_max: u64 },
    /// Stop with `finish_reason: length`.
    Refused(Denial),
    /// Ask the pool once, then try again.
    Short(Short),
}
