//! When an account has something to say, and how much credit it should have at hand.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::account::Account;
use super::shard::Rules;
use crate::clock::Time;
use crate::decision::Credit;

/// The least time between two requests for credit that nobody waits for.
const ASK_GAP: Duration = Duration::from_millis(100);
/// Rights that were not used for so long go back, while the pool has plenty (before a lease of a minute has to be renewed for
/// it) and where it has little.
const IDLE_RETURN: Duration = Duration::from_secs(55);
const IDLE_RETURN_LOW: Duration = Duration::from_secs(3);
/// Fewer requests than this left in the pool is little.
pub(super) const LOW_REQUESTS: u32 = 20;
/// A stranger that nobody asked for in so long is forgotten.
pub(super) const STRANGER_KEEP: Duration = Duration::from_secs(10);
/// How many requests like the last one a lease covers at least, where the pool has plenty.
const REQUESTS_AHEAD: u32 = 32;

/// When an account has something to say; `None` while a message is in flight.
pub(super) fn due_at(account: &Account, rules: &Rules, now: Time) -> Option<Time> {
    if account.is_in_flight() {
        return None;
    }
    if account.terms.is_none() {
        return Some(stranger_due_at(account, now));
    }
    let every = period(account, rules);
    let rates = account.rates.as_ref().and_then(|rates| rates.due_at(every, now));
    [sync_due_at(account, rules, now), rates].into_iter().flatten().min()
}

/// Whether nobody will have used the account for a while at `at`, and nobody elsewhere needs what it has to say: that can wait
/// for what others in use need.
pub(super) fn is_idle_by(at: Time, account: &Account, rules: &Rules) -> bool {
    let is_awaited = account.open > 0 || account.recalled || account.lease.unreported() > Credit::ZERO;
    !is_awaited && account.used_at.time().after(period(account, rules)).after(IDLE_RETURN_LOW) < at
}

pub(super) fn stranger_due_at(account: &Account, now: Time) -> Time {
    if account.used_at.age(now) < STRANGER_KEEP {
        account.lease.asked.after(ASK_GAP)
    } else {
        account.used_at.time().max(account.lease.asked).after(STRANGER_KEEP)
    }
}

pub(super) fn period(account: &Account, rules: &Rules) -> Duration {
    rules.settings.sync_every.max(account.next_sync.duration())
}

pub(super) fn sync_due_at(account: &Account, rules: &Rules, now: Time) -> Option<Time> {
    let lease = &account.lease;
    let rare = account.rare();
    if rare.waiting.sum.is_positive() || account.touched || must_declare(account, rules) {
        return Some(Time::default());
    }
    let gap = lease.asked.after(ASK_GAP);
    let every = lease.asked.after(period(account, rules));
    // A closed record waits until its ended holds are forgotten.
    let bye_gap = if lease.seq > 0 { every } else { lease.asked.after(rules.settings.ended_keep) };
    let idle = account.used_at.age(now);
    let in_use = account.open > 0 || idle < lease.ttl.duration();
    let low = in_use && lease.free(now) < account.low_water.credit();
    let third = lease.ttl.duration().checked_div(3).unwrap_or_default();
    let renewal = lease.until.before(third).max(every);
    let idle_return = account.used_at.time().after(idle_return_after(account));
    let is_kept = account.open > 0 || (lease.unheld().is_positive() && lease.until < idle_return);
    [
        rare.closing.is_some().then_some(every),
        low.then_some(gap),
        (lease.unreported() > Credit::ZERO).then_some(every),
        is_kept.then_some(renewal),
        lease.unheld().is_positive().then_some(idle_return.max(gap)),
        (account.recalled && unneeded(account, rules).is_positive()).then_some(gap),
        (account.open == 0).then(|| account.used_at.time().after(rules.settings.idle_bye).max(bye_gap)),
    ]
    .into_iter()
    .flatten()
    .min()
}

pub(super) fn must_declare(account: &Account, rules: &Rules) -> bool {
    account.declared != rules.declared.load(Ordering::Relaxed)
}

pub(super) fn idle_return_after(account: &Account) -> Duration {
    let few = times(account.cost_recent.credit(), LOW_REQUESTS);
    if account.recalled || account.available < few { IDLE_RETURN_LOW } else { IDLE_RETURN }
}

/// Free rights to keep at hand: what is spent in two periods, or a few requests, within the catalogue's rule. A share of
/// the rest that is less than one request helps nobody here, and may help somebody elsewhere.
pub(super) fn ahead(account: &Account, rules: &Rules) -> Credit {
    let rule = rules.catalogue.lease;
    let spent = account.spend.over(period(account, rules).saturating_mul(2));
    let wanted = spent.max(times(account.cost_recent.credit(), REQUESTS_AHEAD)).min(rule.max);
    if account.lease.answered().is_none() {
        return wanted;
    }
    let lendable = account.available.plus(account.lease.unheld());
    let share = i128::from(lendable.nanos()).saturating_mul(i128::from(rule.max_percent)) / 100;
    let share = Credit::from_nanos(i64::try_from(share).unwrap_or(i64::MAX));
    if share < account.cost_recent.credit() { Credit::ZERO } else { wanted.min(share) }
}

pub(super) fn unneeded(account: &Account, rules: &Rules) -> Credit {
    account.lease.unheld().minus(ahead(account, rules)).at_least_zero()
}

pub(super) fn times(cost: Credit, count: u32) -> Credit {
    Credit::from_nanos(cost.nanos().saturating_mul(i64::from(count))).min(Credit::MAX)
}
