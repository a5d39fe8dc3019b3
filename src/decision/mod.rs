//! The law of one request: values and a time in, everything that would change or why not out.
//!
//! Pure: no clock, lock, I/O, async, log, metric or float. Deciding changes nothing; the ledger applies a [`Charge`].
#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "money and tokens: every step that could wrap, round or panic is spelled out"
)]

pub mod adaptive;
pub mod catalogue;
pub mod credit;
pub mod estimate;
pub mod explain;
mod money;
pub mod month;
pub mod price;
pub mod rate;
pub mod reason;
pub mod reserved;
pub mod standing;
pub mod terms;
mod throughput;
pub mod users;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, ModelId};
pub use credit::Credit;
pub use estimate::{Ask, Demand, Prompt, RateKey, RequestId, ServiceTier};
pub use month::Month;
pub use price::{Price, Usage};
pub use reason::{Amounts, Denial, Invalid, Metric, Reason};
pub use standing::Standing;

use std::cmp::Reverse;
use std::time::Duration;

use crate::clock::Time;
use catalogue::GeneratedHold;
use terms::Suspension;

/// What one decision comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may run: everything that changes when it does.
    Admit(Charge),
    /// It may not, and why.
    Deny(Denial),
    /// This sidecar cannot say without more from the pool.
    Short(Short),
}

/// Everything that changes when a request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Credit to hold.
    pub cost: Credit,
    /// Requests to take from the account's envelope.
    pub requests: u64,
    /// Tokens to take from each bucket; zeros for batch.
    pub tokens: [u64; 3],
    /// The most tokens it may generate in all, after capping.
    pub out_max: u64,
    /// `out_max` is less than was asked for.
    pub capped: bool,
    /// A shadow account: the reason that would have denied it. Nothing is held then.
    pub shadow: Option<Reason>,
}

/// What the pool would have to lend for a decision to be possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    /// The least credit that helps, in all; zero if credit suffices.
    pub need: Credit,
    /// The least credit that the user's own pool has to lend, in all; zero if what it lent suffices.
    pub user: Credit,
    pub requests: u64,
    pub tokens: [u64; 3],
}

impl Short {
    /// Notes a shortage of one metric, or of requests.
    fn add(&mut self, metric: Option<Metric>, need: u64) {
        let [prompt, uncached, generated] = &mut self.tokens;
        let short = match metric {
            None => &mut self.requests,
            Some(Metric::Prompt) => prompt,
            Some(Metric::Uncached) => uncached,
            Some(Metric::Generated) => generated,
        };
        *short = need;
    }
}

/// Decides `demand` against `standing`: every limit is evaluated, then the first reason in order is given.
///
/// Among reasons that waiting mends, the one with the longest wait is given, so that one wait is enough. The pools of the
/// account and of its user are asked for credit before a reason is given that comes after a lack of credit, because that
/// lack may hide behind the shortage; the pool is asked for tokens only where nothing else denies.
pub fn decide(demand: &Demand, standing: &Standing, hold: GeneratedHold, now: Time) -> Decision {
    let promise = money::promise(demand, standing);
    let need = throughput::need(demand, standing, hold, promise.out_max);
    let mut findings = Findings::default();
    findings.suspension(standing.suspension);
    money::check(demand, standing, promise, &mut findings);
    throughput::check(demand, standing, need, now, &mut findings);
    if let Some(wait) = standing.overloaded {
        let wait = wait.clamp(OVERLOADED_WAIT_MIN, OVERLOADED_WAIT_MAX);
        findings.deny(Denial { retry_after: Some(wait), ..Denial::of(Reason::Overloaded) });
    }
    let charge = Charge {
        cost: promise.cost,
        requests: need.requests,
        tokens: need.charged,
        out_max: promise.out_max,
        capped: promise.out_max < demand.out_max,
        shadow: None,
    };
    match findings.choose() {
        Some(Decision::Deny(denial)) if standing.shadow => Decision::Admit(shadowed(demand, denial.reason)),
        Some(decision) => decision,
        None => Decision::Admit(charge),
    }
}

/// Long enough for a queue to move, short enough that a recovered node is used again.
const OVERLOADED_WAIT_MIN: Duration = Duration::from_secs(1);
const OVERLOADED_WAIT_MAX: Duration = Duration::from_secs(5);

/// A shadow account runs what it may not, and nothing is held: its limits would fill with what they do not allow.
fn shadowed(demand: &Demand, reason: Reason) -> Charge {
    Charge {
        cost: Credit::ZERO,
        requests: 0,
        tokens: [0; 3],
        out_max: demand.out_max,
        capped: false,
        shadow: Some(reason),
    }
}

/// What the limits said, each on its own.
#[derive(Debug, Default)]
struct Findings {
    /// The first in order of the denials that waiting does not mend.
    permanent: Option<Denial>,
    /// The one with the longest wait of those that waiting mends; of equal ones the first in order.
    transient: Option<Denial>,
    /// Of all that tell how many tokens would do, the least: fewer satisfy the others too.
    affordable_max_tokens: Option<u64>,
    /// A limit denies for good, however few tokens are generated.
    is_hopeless: bool,
    short: Short,
}

impl Findings {
    fn suspension(&mut self, suspension: Suspension) {
        match suspension {
            Suspension::None => {}
            Suspension::FailedPayments => self.deny(Denial::of(Reason::FailedPayments)),
            Suspension::Abuse => self.deny(Denial::of(Reason::AbuseBlock)),
        }
    }

    fn deny(&mut self, denial: Denial) {
        let least = self.affordable_max_tokens.into_iter().chain(denial.affordable_max_tokens).min();
        self.affordable_max_tokens = least;
        let is_for_good = denial.retry_after.is_none();
        self.is_hopeless |= is_for_good && denial.affordable_max_tokens.is_none();
        let given = if is_for_good { &mut self.permanent } else { &mut self.transient };
        let rank = |denial: &Denial| (denial.retry_after, Reverse(denial.reason));
        if given.is_none_or(|given| rank(&denial) > rank(&given)) {
            *given = Some(denial);
        }
    }

    /// The answer, or `None` where nothing speaks against admission.
    fn choose(self) -> Option<Decision> {
        let Short { need, user, .. } = self.short;
        match self.permanent.as_ref().or(self.transient.as_ref()) {
            Some(denial) if need.max(user).is_positive() && Reason::CreditsDepleted <= denial.reason => {
                Some(Decision::Short(Short { need, user, ..Short::default() }))
            }
            Some(denial) => {
                let is_told = denial.affordable_max_tokens.is_some() && !self.is_hopeless;
                let least = self.affordable_max_tokens.filter(|_| is_told);
                Some(Decision::Deny(Denial { affordable_max_tokens: least, ..*denial }))
            }
            None => (self.short != Short::default()).then_some(Decision::Short(self.short)),
        }
    }
}
