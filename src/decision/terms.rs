//! What an account agreed to: how it pays, how far it may go, and what happens when nobody can vouch for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::credit::Credit;
use super::users::UserCaps;

/// How an account pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Credits first; when they are gone, usage pauses.
    #[default]
    Prepaid,
    /// Credits first, then debt down to the credit line; the monthly limit pauses.
    Postpaid,
    /// Like postpaid with a negotiated line; the monthly limit only alerts.
    Contract,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Suspension {
    #[default]
    None,
    FailedPayments,
    Abuse,
}

/// A spend tier: derived from the lifetime paid, or set by an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    #[default]
    None,
    One,
    Two,
    Three,
    Four,
    Unlimited,
}

/// What a request sees when there is no live lease and the store cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailurePolicy {
    /// `unavailable`: nobody can vouch.
    #[default]
    Closed,
    /// Emergency credit, then closed.
    Allowance,
    /// Admitted and counted.
    Open,
}

/// What becomes of a lease whose session fell silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReclaimMode {
    /// Kept aside for 24 h, so that a late report can never overspend.
    #[default]
    Limbo,
    /// Back in the pool at about twice the lease's life.
    Return,
}

/// Auto top-up: when `available` falls to `minimum`, buy `amount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpTerms {
    pub minimum: Credit,
    pub amount: Credit,
    /// The most to buy in one month; none if `None`.
    pub monthly_cap: Option<Credit>,
}

/// Percents that an account may have announced. Five with three digits each make a number that any store keeps exactly.
pub const ALERTS_MAX: usize = 5;

/// Tokens per minute for the three metrics, in the order of [`super::Metric`].
pub type TokenLimits = [u64; 3];

/// An account's configuration, as its pool holds it. `Default` is a prepaid account without a payment method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub mode: Mode,
    pub suspension: Suspension,
    pub payment_method: bool,
    pub billing_profile: bool,
    /// Overrides the tier that the lifetime paid would give.
    pub tier_override: Option<Tier>,
    /// The account's own monthly limit. Counts usage whether or not credits paid for it.
    pub monthly_limit: Option<Credit>,
    /// Percents of the monthly limit that are announced, at most [`ALERTS_MAX`] from 1 to 999; `None`: the pool's own.
    pub alert_percents: Option<Vec<u32>>,
    /// How far the balance may fall below zero; 0 for prepaid.
    pub credit_line: Credit,
    pub top_up: Option<TopUpTerms>,
    /// Where what is available falls to this, an event says so; none if `None`.
    pub balance_alert: Option<Credit>,
    pub failure_policy: FailurePolicy,
    pub reclaim_mode: ReclaimMode,
    /// Decide and count, never deny.
    pub shadow: bool,
    /// Tokens per minute that replace the adaptive limit, by model name (`"name"`, or `"name:fast"` for fast buckets).
    pub custom_limits: BTreeMap<Box<str>, TokenLimits>,
    /// What is paid for each minute, used or lost, by model name as above.
    pub reserved: BTreeMap<Box<str>, Credit>,
    /// Boxed, because few accounts have any.
    pub user_caps: Option<Box<UserCaps>>,
}
