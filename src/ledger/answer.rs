//! What the ledger answers: verdicts, limits, and how holds end.

use std::time::Duration;

use crate::decision::catalogue::Provenance;
use crate::decision::explain::Finding;
use crate::decision::rate::Limit;
use crate::decision::terms::{Mode, Suspension, Tier};
use crate::decision::{Credit, Denial, Month, Reason, ServiceTier, Short};

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

/// What a check would come to, and why.
#[derive(Clone, Debug)]
pub struct Explained {
    pub answer: Answer,
    /// `None` where there is nothing to look at: nobody's request, or one that cannot be served.
    pub why: Option<Why>,
}

/// What a decision looked at.
#[derive(Clone, Debug)]
pub struct Why {
    pub mode: Mode,
    pub suspension: Suspension,
    pub tier: Tier,
    pub shadow: bool,
    /// The account has a payment method and something to spend: it may send more requests.
    pub funded: bool,
    /// The month that monthly limits count in.
    pub month: Month,
    /// Every limit that there is, in the order in which they are looked at.
    pub limits: Vec<WhyLimit>,
}

#[derive(Clone, Debug)]
pub struct WhyLimit {
    pub finding: Finding,
    /// Of the limit without what is reserved.
    pub provenance: Provenance,
    /// Tokens a minute of it that the account reserved.
    pub reserved: u64,
}

/// How an account stands in this sidecar.
#[derive(Clone, Debug)]
pub struct Here {
    pub tier: Tier,
    /// As last heard, with what was spent here since taken off.
    pub balance: Credit,
    pub month_used: Credit,
    /// Rights that no hold occupies and that may be promised now.
    pub free: Credit,
    /// How long they may be; zero where the lease has ended.
    pub lease_left: Duration,
    pub held: Credit,
    /// Holds that are open.
    pub holds: u32,
    /// Age of the oldest of them.
    pub oldest: Option<Duration>,
    /// Spent and not yet in the pool's books.
    pub unreported: Credit,
    pub requests: LimitHere,
    /// Models in use.
    pub models: Vec<ModelHere>,
}

/// The token limits of one model.
#[derive(Clone, Debug)]
pub struct ModelHere {
    /// `name`, or `name:fast`.
    pub model: String,
    /// In the order of [`crate::decision::Metric`].
    pub tokens: [LimitHere; 3],
}

/// One rate, as known here.
#[derive(Clone, Copy, Debug)]
pub struct LimitHere {
    pub limit: Limit,
    pub provenance: Provenance,
    /// How full the pool's bucket is, in tokens or requests; what is lent is part of it.
    pub level: u64,
    /// Lent to this sidecar and not used yet.
    pub at_hand: u64,
    /// Until the bucket is empty.
    pub empty_after: Duration,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Settled,
    Released,
    Expired,
}

impl End {
    /// The word for it in answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
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
