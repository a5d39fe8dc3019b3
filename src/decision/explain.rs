//! Each limit on its own: how it stands towards a demand, and what it says, whatever the others say.

use std::time::Duration;

use super::catalogue::GeneratedHold;
use super::reason::{Amounts, Denial, Metric};
use super::standing::Standing;
use super::{Demand, Findings, money, throughput};
use crate::clock::Time;

/// A limit that a demand is measured against, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Month,
    User,
    /// Credits and credit line.
    Credit,
    Requests,
    Tokens(Metric),
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    pub bound: Bound,
    /// Money: the limit, what was used of it, and what the request may cost. Rates: the limit, what the pool's bucket holds,
    /// and what the request needs.
    pub amounts: Amounts,
    pub says: Says,
    /// Until all of it is there again; of rates alone.
    pub empty_after: Option<Duration>,
}

/// What one limit says to a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Yes,
    /// The pool would have to lend more first.
    AskPool,
    No(Denial),
}

/// Every limit that there is for this account and demand. Changes nothing.
pub fn explain(demand: &Demand, standing: &Standing, hold: GeneratedHold, now: Time) -> Vec<Finding> {
    let promise = money::promise(demand, standing);
    let need = throughput::need(demand, standing, hold, promise.out_max);
    let said = |denial: Option<Denial>| denial.map_or(Says::Yes, Says::No);
    let mut findings = Vec::new();
    let mut money_says = |bound, amounts, says| {
        findings.push(Finding { bound, amounts, says, empty_after: None });
    };
    if let Some(limit) = standing.month.limit {
        let amounts = Amounts::Money { limit, used: standing.month.spent, requested: promise.cost };
        money_says(Bound::Month, amounts, said(money::month(demand, standing)));
    }
    if let Some(user) = standing.user {
        let used = user.spent.plus(user.held);
        let amounts = Amounts::Money { limit: user.cap, used, requested: promise.cost };
        let mut asked = Findings::default();
        let denial = money::user(demand, standing, promise, user, &mut asked);
        let says = if asked.short.user.is_positive() { Says::AskPool } else { said(denial) };
        money_says(Bound::User, amounts, says);
    }
    let limit = standing.money.available().at_least_zero();
    let amounts = Amounts::Money { limit, used: standing.money.held, requested: promise.cost };
    let mut asked = Findings::default();
    let denial = money::balance(demand, standing, promise, &mut asked);
    let says = if asked.short.need.is_positive() { Says::AskPool } else { said(denial) };
    money_says(Bound::Credit, amounts, says);
    findings.extend(throughput::explain(demand, standing, need, now));
    findings
}
