//! What sessions and pools say to each other: absolute, cumulative counters, never differences.
//!
//! A counter only grows and is merged with `max`, so a message that is lost, repeated or reordered changes nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::decision::adaptive::Adaptive;
use crate::decision::terms::{ReclaimMode, Suspension, Terms, Tier, TokenLimits};
use crate::decision::{Credit, Month};

/// One run of one sidecar: the node's name and 128 random bits. A restart is a new session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    pub node: Arc<str>,
    pub run: u128,
}

/// Everything a sidecar says about one account in one round, applied in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Or a user with a cap, named as [`super::pool_of_user`] does: a pool of its own, without rates.
    pub account: Arc<str>,
    pub session: SessionId,
    pub sync: Option<SyncRequest>,
    pub rates: Vec<RateRequest>,
}

/// What the pool answers to one [`Message`], in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub account: Arc<str>,
    pub sync: Option<Result<SyncReply, Refusal>>,
    pub rates: Vec<Result<RateReply, Refusal>>,
}

/// Why a pool did not take a request. Nothing was changed, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such account")]
    NoSuchAccount,
    /// The session's record is gone and may have been counted into the pool already.
    #[error("no such session: its record was retired; open a new generation")]
    NoSuchSession,
    /// A counter is out of range, or runs backwards where it must not.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The account has as many sessions as a pool remembers, and none of them ended.
    #[error("too many sessions of this account; try again later")]
    Crowded,
    /// A newer request of this very session was already taken by another process: a clone.
    #[error("superseded: another process speaks for this session")]
    Superseded,
    /// The account's record, or what was answered of it.
    #[error("unreadable: the account is damaged, or another version of the program wrote it")]
    Unreadable,
}

impl Reply {
    /// As if each request of `message` was refused.
    pub fn refused(message: &Message, refusal: Refusal) -> Self {
        Self {
            account: Arc::clone(&message.account),
            sync: message.sync.is_some().then_some(Err(refusal)),
            rates: message.rates.iter().map(|_| Err(refusal)).collect(),
        }
    }
}

/// Money: rights held, used and wanted by one session of one account.
///
/// Invariant: `used + returned + reclaimed_known <= granted_known`, except for spending beyond a grant, which is booked
/// and counted. The default says nothing and asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// Grows when a session's record for this account is closed and opened again.
    pub generation: u32,
    /// Grows with every request; a retry is a new one with current values.
    pub seq: u64,
    /// `U`: spent by this session, ever.
    pub used: Credit,
    /// `R`: given back by this session, ever.
    pub returned: Credit,
    /// `G` as last heard.
    pub granted_known: Credit,
    /// `C` as last heard.
    pub reclaimed_known: Credit,
    /// Rights to hold afterwards, beyond what is used.
    pub want: Credit,
    /// The least rights that help a waiting request, in all; at most `want`.
    pub need: Credit,
    /// The month this session believes in.
    pub month: Month,
    /// The part of `used` that belongs to months before `month`.
    pub used_before: Credit,
    /// The version of the terms this session has; 0 for none.
    pub terms_known: u64,
    /// Age of the last reply taken from this record; `None` before there was one.
    pub silence: Option<Duration>,
    /// Report only: lend nothing.
    pub declare: bool,
    /// Close this record: `used` is final, everything outstanding goes back to the pool.
    pub bye: bool,
    /// Of a user, by the terms `terms_known`; `None` for an account.
    pub cap: Option<UserCap>,
}

/// What a user may spend in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCap {
    /// [`Credit::MAX`] for none.
    pub limit: Credit,
    /// As the account has it.
    pub reclaim_mode: ReclaimMode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    pub generation: u32,
    /// Of the newest request that was taken. `granted` and `reclaimed` count only where this is the asker's newest.
    pub seq: u64,
    pub granted: Credit,
    pub reclaimed: Credit,
    /// How long the lease lives, counted from the sending of the request.
    pub ttl: Duration,
    /// What the pool could still lend after this.
    pub available: Credit,
    /// Asking again soon for more will not help: everything lendable was lent.
    pub is_final: bool,
    /// Others starve: give back what is not needed.
    pub recall: bool,
    pub month: Month,
    /// Until the month ends.
    pub month_left: Duration,
    pub terms_version: u64,
    /// The terms, where the asker's version is another.
    pub terms: Option<Arc<Terms>>,
    pub view: View,
    /// Changes taken by this pool, ever; a smaller number than seen before means that the store forgot.
    pub ops: u64,
    /// When to sync again.
    pub next_sync: Duration,
}

/// How the account stands, for reasons and answers; never for promising money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Credits in minus usage of all sessions as reported. Negative where something is owed.
    pub balance: Credit,
    pub promotional_gone: bool,
    pub lifetime_paid: Credit,
    /// Ever purchased.
    pub purchased: bool,
    /// Usage that counts in this month.
    pub month_used: Credit,
    /// How long an auto top-up has been in flight.
    pub topup_pending: Option<Duration>,
}

/// Which bucket group of an account: its requests, or the tokens of a model (`"name"`, fast ones `"name:fast"`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Group {
    /// One bucket, in the first place of each array.
    Requests,
    Model(Arc<str>),
}

/// Tokens lent, charged and given back by one session for one group; three metrics each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRequest {
    pub group: Group,
    /// Names the session's counters; a new one starts from zeros.
    pub generation: u32,
    pub seq: u64,
    /// Granted as last heard, ever.
    pub granted_known: [u64; 3],
    /// Charged beyond what was granted, ever.
    pub debt: [u64; 3],
    /// Granted or charged, and given back, ever.
    pub returned: [u64; 3],
    /// Settled tokens, ever; feeds the adaptive limit.
    pub used: [u64; 3],
    /// What they cost, ever, told where the account has reservations: these may cover it.
    pub priced: Credit,
    /// Lent tokens that this session may still use, before this request brings more.
    pub at_hand: [u64; 3],
    /// Tokens to lend by this very request: what would serve the next second.
    pub want: [u64; 3],
    /// The least to lend by this very request, or nothing; at most `want`.
    pub need: [u64; 3],
    /// Limits to start with if the group is new.
    pub seed: [u64; 3],
    /// The burst in force from now on.
    pub burst_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateReply {
    pub group: Group,
    pub generation: u32,
    /// Of the request that this answers.
    pub seq: u64,
    /// Ever.
    pub granted: [u64; 3],
    /// Granted by this very call: the only tokens that live. They die [`RateReply::chunk_life`] after sending.
    pub fresh: [u64; 3],
    pub chunk_life: Duration,
    /// Limits in force, per minute, without what is reserved on top.
    pub limits: TokenLimits,
    pub reserved: Option<Reservation>,
    /// The part of what was newly told as priced that the reservation pays for.
    pub covered: Credit,
    pub burst_seconds: u32,
    /// Levels after this call, in the units of [`crate::decision::rate`].
    pub levels: [u128; 3],
    pub version: u64,
    /// Minutes have ended since the last adaptive step: run it and propose the result.
    pub due: Option<StepDue>,
}

/// What is paid for each minute, used or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub per_minute: Credit,
    /// Tokens per minute that it adds to the limits.
    pub tokens: TokenLimits,
}

/// What an adaptive step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDue {
    pub version: u64,
    /// `None` before the first step.
    pub states: Option<Arc<[Adaptive; 3]>>,
    /// Minutes (since 1970) that ended and had traffic, oldest first, with the tokens settled in each. At most 8.
    pub minutes: Vec<(u64, [u64; 3])>,
    /// The minute that runs now.
    pub current_minute: u64,
}

/// The result of an adaptive step; taken only if the group's version is still `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepProposal {
    pub account: Arc<str>,
    pub group: Group,
    pub version: u64,
    /// `None` where no step was due and only the reservation is another.
    pub states: Option<[Adaptive; 3]>,
    /// Limits to enforce from now on, and what is reserved on top.
    pub limits: TokenLimits,
    pub reserved: Option<Reservation>,
}

/// A purchase that somebody has to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub account: Arc<str>,
    /// Names the purchase, however often it is asked for.
    pub key: String,
    pub amount: Credit,
    /// Purchases for this need that were declined before.
    pub attempt: u32,
    /// How long it has been wanted.
    pub age: Duration,
}

/// Something that others must hear of, written in the same step that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: UnixMs,
    pub account: Arc<str>,
    pub what: Happening,
}

/// What happened. Each is told once for each cause, in the step that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// Buy `amount` under this key, once. The key is `account.credit version.attempt`.
    TopUpNeeded {
        key: String,
        amount: Credit,
    },
    /// As much as was asked for under this key was bought.
    TopUpSucceeded {
        key: String,
        amount: Credit,
    },
    /// The purchase under this key was declined, which makes `declines` in a row. The next is asked for after `retry_at`; without
    /// one auto top-up was turned off.
    TopUpFailed {
        key: String,
        amount: Credit,
        declines: u32,
        retry_at: Option<UnixMs>,
    },
    /// Credits, without what is used or lent, fell to `threshold`. Again only after credits came in.
    BalanceLow {
        threshold: Credit,
        available: Credit,
    },
    /// Nothing is left to use, credit line included.
    Depleted,
    /// Usage crossed so many percent of the monthly limit.
    MonthThreshold {
        month: Month,
        percent: u32,
    },
    TierChanged {
        from: Tier,
        to: Tier,
    },
    /// So much was reported as used that no lease covered: settled above the hold by more than the lease had, served on
    /// emergency credit, or said by a session whose rights were taken back. What a lease covers is not seen here.
    Overrun {
        amount: Credit,
    },
    /// Payments failed until none will be tried, and usage pauses.
    Suspended {
        why: Suspension,
    },
}

impl Happening {
    /// The name by which others know it: `balance_low`, `budget_80`, `budget_reached`.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::TopUpNeeded { .. } => "topup_needed",
            Self::TopUpSucceeded { .. } => "topup_succeeded",
            Self::TopUpFailed { .. } => "topup_failed",
            Self::BalanceLow { .. } => "balance_low",
            Self::Depleted => "depleted",
            Self::MonthThreshold { percent: 100, .. } => "budget_reached",
            Self::MonthThreshold { percent, .. } => return Cow::Owned(format!("budget_{percent}")),
            Self::TierChanged { .. } => "tier_changed",
            Self::Overrun { .. } => "overrun",
            Self::Suspended { .. } => "suspended",
        })
    }
}
