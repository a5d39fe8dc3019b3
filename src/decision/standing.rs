//! How an account stands at the moment of a decision: plain values, gathered under the account's lock.

use std::time::Duration;

use super::credit::Credit;
use super::month::Month;
use super::rate::{Bucket, Limit};
use super::terms::{Mode, Suspension};

/// Everything a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub mode: Mode,
    pub suspension: Suspension,
    pub payment_method: bool,
    pub shadow: bool,
    pub money: Money,
    pub month: MonthStanding,
    pub user: Option<UserStanding>,
    /// Costs `n`.
    pub requests: RateStanding,
    /// In the order of [`super::Metric`]; not looked at for batch.
    pub tokens: [RateStanding; 3],
    /// The learned 95th percentile of generated tokens, where known.
    pub generated_p95: Option<u64>,
    /// The inference node sheds load: for how long to stay away.
    pub overloaded: Option<Duration>,
}

/// Credit, as far as this sidecar knows it.
#[derive(Clone, Copy, Debug)]
pub struct Money {
    /// Rights of a live lease that no hold occupies. The only money that may be promised.
    pub rights: Credit,
    /// Credits in minus usage, with this sidecar's own unreported usage taken off. Negative where something is owed.
    pub balance: Credit,
    /// How far the balance may fall below zero.
    pub credit_line: Credit,
    /// All promotional credit is used up, or there never was any.
    pub promotional_gone: bool,
    /// The account ever had purchased credits.
    pub purchased: bool,
    /// How long an auto top-up has been in flight.
    pub topup_pending: Option<Duration>,
    /// Asking the pool for more may help: it was not refused this much a moment ago.
    pub pool_may_help: bool,
    /// Held by requests that run here.
    pub held: Credit,
}

/// The monthly limit and what counts against it.
#[derive(Clone, Copy, Debug)]
pub struct MonthStanding {
    pub month: Month,
    /// The limit that pauses; `None` for contract accounts and where none is set.
    pub limit: Option<Credit>,
    pub spent: Credit,
}

/// A user's spend cap inside the account.
#[derive(Clone, Copy, Debug)]
pub struct UserStanding {
    pub cap: Credit,
    /// In this month, as far as this sidecar knows.
    pub spent: Credit,
    /// Held by requests of this user that run here.
    pub held: Credit,
    /// What the user's own pool lent and no hold occupies: no more of the cap may be promised.
    pub rights: Credit,
    /// Asking that pool for more may help: it was not refused this much a moment ago.
    pub pool_may_help: bool,
}

/// One bucket: what of it is lent to this sidecar, and the pool's level as last heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateStanding {
    /// The limit in force; before the pool was heard, the one that new buckets start with (or 0: not known).
    pub limit: Limit,
    /// Tokens of a live chunk that are left.
    pub chunk: u64,
    /// The pool's level, `chunk` included; `None` before the pool was heard.
    pub bucket: Option<Bucket>,
}
