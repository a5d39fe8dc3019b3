//! The limits in money: the month, the user, the balance; and how far an ask may be capped to fit them.

use std::time::Duration;

use super::credit::Credit;
use super::price::Usage;
use super::reason::{Amounts, Denial, Reason};
use super::standing::{Money, Standing, UserStanding};
use super::{Demand, Findings};

/// What is to be held, if nothing denies it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub cost: Credit,
    pub out_max: u64,
}

/// What the demand takes: all of it, or as much as can be paid where the ask may be capped.
///
/// While the pool may lend more, "can be paid" looks at the balance that is not held here, so that the pool is asked
/// for what there is; after that at the rights alone. A balance that counts as nothing is not shared out: it shall be
/// found depleted.
pub(super) fn promise(demand: &Demand, standing: &Standing) -> Promise {
    let whole = Promise { cost: demand.cost, out_max: demand.out_max };
    let money = &standing.money;
    let available = money.available();
    if !demand.capped || is_dust(demand, available) {
        return whole;
    }
    let payable = if money.pool_may_help { money.rights.max(available.minus(money.held)) } else { money.rights };
    let payable = standing.month_room().map_or(payable, |room| payable.min(room));
    let Some(affordable) = demand.price.affordable_beside(demand.prompt, payable) else { return whole };
    // One token for each completion is the least of any use; where that is too much, the checks will say so.
    let out_max = affordable.max(u64::from(demand.n)).min(demand.out_max);
    let usage = Usage { prompt: demand.prompt, cached: 0, generated: out_max };
    Promise { cost: demand.price.cost_rounded_up(usage), out_max }
}

pub(super) fn check(demand: &Demand, standing: &Standing, promise: Promise, findings: &mut Findings) {
    let denials = [
        month(demand, standing),
        standing.user.and_then(|cap| user(demand, standing, promise, cap, findings)),
        balance(demand, standing, promise, findings),
    ];
    denials.into_iter().flatten().for_each(|denial| findings.deny(denial));
}

/// What the monthly limit says.
pub(super) fn month(demand: &Demand, standing: &Standing) -> Option<Denial> {
    let limit = standing.month.limit?;
    let room = standing.month_room()?;
    let amounts = Amounts::Money { limit, used: standing.month.spent, requested: demand.cost };
    let denial = |reason| Denial { amounts, resets_after: Some(standing.month.month), ..Denial::of(reason) };
    if !room.is_positive() || is_dust(demand, room) {
        return Some(denial(Reason::MonthlyLimit));
    }
    (room < demand.least()).then(|| Denial {
        affordable_max_tokens: affordable_max_tokens(demand, standing),
        ..denial(Reason::ExceedsMonthRoom)
    })
}

/// What the user's cap says: as far as it is known here, it denies for good; what the user's own pool did not lend is in use
/// elsewhere.
pub(super) fn user(
    demand: &Demand,
    standing: &Standing,
    promise: Promise,
    user: UserStanding,
    findings: &mut Findings,
) -> Option<Denial> {
    let amounts = |used| Amounts::Money { limit: user.cap, used, requested: promise.cost };
    if user.spent >= user.cap || user.spent.plus(promise.cost) > user.cap {
        return Some(Denial {
            amounts: amounts(user.spent),
            affordable_max_tokens: affordable_max_tokens(demand, standing),
            resets_after: Some(standing.month.month),
            ..Denial::of(Reason::UserLimit)
        });
    }
    let rights = user.rights.at_least_zero();
    if promise.cost <= rights {
        return None;
    }
    if user.pool_may_help {
        findings.short.user = promise.cost;
        return None;
    }
    let retry_after = Some(in_flight_wait(rights.plus(user.held) >= promise.cost));
    Some(Denial { retry_after, amounts: amounts(user.spent.plus(user.held)), ..Denial::of(Reason::InFlight) })
}

/// Whether rights cover it, else whether the pool is to be asked, else why not.
pub(super) fn balance(
    demand: &Demand,
    standing: &Standing,
    promise: Promise,
    findings: &mut Findings,
) -> Option<Denial> {
    let money = &standing.money;
    let rights = money.rights.at_least_zero();
    if promise.cost <= rights {
        return None;
    }
    if money.pool_may_help {
        findings.short.need = promise.cost;
        return None;
    }
    let available = money.available();
    let depleted = !available.is_positive() || is_dust(demand, available);
    let amounts = Amounts::Money { limit: available.at_least_zero(), used: money.held, requested: demand.cost };
    let denial = |reason| Denial { amounts, ..Denial::of(reason) };
    if !depleted && available >= demand.least() {
        let retry_after = Some(in_flight_wait(rights.plus(money.held) >= promise.cost));
        return Some(Denial { retry_after, ..denial(Reason::InFlight) });
    }
    if let Some(age) = money.topup_pending {
        // The longer a purchase takes, the longer it may still take.
        let wait = age.clamp(TOPUP_WAIT_MIN, TOPUP_WAIT_MAX);
        return Some(Denial { retry_after: Some(wait), ..denial(Reason::TopUpPending) });
    }
    if depleted && !standing.payment_method && !money.purchased {
        return Some(denial(Reason::StarterExhausted));
    }
    if depleted {
        return Some(denial(Reason::CreditsDepleted));
    }
    let affordable_max_tokens = affordable_max_tokens(demand, standing);
    Some(Denial { affordable_max_tokens, ..denial(Reason::ExceedsBalance) })
}

/// What requests of this sidecar hold comes back as they end, every second or so.
const IN_FLIGHT_HERE_WAIT: Duration = Duration::from_secs(1);
/// What others hold comes back through the pool.
const IN_FLIGHT_ELSEWHERE_WAIT: Duration = Duration::from_secs(5);
const TOPUP_WAIT_MIN: Duration = Duration::from_secs(5);
const TOPUP_WAIT_MAX: Duration = Duration::from_secs(60);

const fn in_flight_wait(is_here: bool) -> Duration {
    if is_here { IN_FLIGHT_HERE_WAIT } else { IN_FLIGHT_ELSEWHERE_WAIT }
}

/// A remainder so small that it counts as used up, unless it covers the demand.
fn is_dust(demand: &Demand, remainder: Credit) -> bool {
    remainder < demand.cost && remainder < demand.dust()
}

/// The most `max_tokens` for each completion that month, user and balance all have room for; `None` where none has.
fn affordable_max_tokens(demand: &Demand, standing: &Standing) -> Option<u64> {
    let user_room = standing.user.map(|user| user.cap.minus(user.spent));
    let rooms = standing.month_room().into_iter().chain(user_room);
    let room = rooms.fold(standing.money.available(), Credit::min);
    let in_all = demand.price.affordable_beside(demand.prompt, room)?;
    in_all.checked_div(u64::from(demand.n)).filter(|tokens| *tokens > 0)
}

impl Money {
    /// What the account could spend in all, holds included.
    pub(super) fn available(&self) -> Credit {
        self.balance.plus(self.credit_line)
    }
}

impl Standing {
    /// What the monthly limit leaves; `None` is no limit.
    fn month_room(&self) -> Option<Credit> {
        self.month.limit.map(|limit| limit.minus(self.month.spent))
    }
}
