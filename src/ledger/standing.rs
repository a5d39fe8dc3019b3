//! How an account stands at this moment: the values that a decision looks at.

use std::time::Duration;

use super::account::{Account, has_credits};
use super::answer::{Limits, Remaining};
use super::reserved::{raised, reserved_tokens};
use super::shard::Rules;
use crate::clock::Time;
use crate::decision::rate::Limit;
use crate::decision::standing::{Money, MonthStanding, RateStanding, UserStanding};
use crate::decision::terms::{Terms, TokenLimits};
use crate::decision::{Credit, Demand, RateKey, Standing};

/// How long to stay away where this sidecar has no place for another hold.
const OVERLOADED_WAIT: Duration = Duration::from_secs(1);

/// What a decision looks at beside the account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    /// The user who asks, if there is a cap.
    pub(super) user: Option<UserStanding>,
    /// There is no place for another hold.
    pub(super) full: bool,
}

/// Gathers everything that a decision on `demand` looks at. `None` where the account is not loaded.
pub(super) fn standing(
    account: &mut Account,
    rules: &Rules,
    demand: &Demand,
    asking: Asking,
    now: Time,
) -> Option<Standing> {
    account.roll_over(now);
    let terms = account.terms.as_deref()?;
    let requests_limit = rules.catalogue.requests_limit(terms, has_credits(terms, account.view.balance));
    let mut rates = account.rates.as_deref_mut();
    let requests = rates.as_mut().and_then(|rates| rates.requests.as_mut()?.standing(now));
    let [mut requests] = requests.unwrap_or([unheard(requests_limit)]);
    bound(&mut requests, requests_limit.per_minute, now);
    let custom = demand.rate_key.and_then(|key| custom_limits(rules, terms, key));
    let reserved = || demand.rate_key.map_or([0; 3], |key| reserved_tokens(rules, terms, key));
    let model = demand.rate_key.and_then(|key| rates?.model_mut(key));
    let (generated_p95, heard) = model.map_or((None, None), |model| (model.learned.p95(), model.rate.standing(now)));
    let mut tokens = heard.unwrap_or_else(|| {
        let burst_seconds = rules.catalogue.rates.burst_seconds;
        let expected = raised(custom.unwrap_or(rules.catalogue.rates.start), reserved());
        expected.map(|per_minute| unheard(Limit { per_minute, burst_seconds }))
    });
    if let Some(custom) = custom {
        let bounds = raised(custom, reserved());
        tokens.iter_mut().zip(bounds).for_each(|(tokens, per_minute)| bound(tokens, per_minute, now));
    }
    Some(Standing {
        mode: terms.mode,
        suspension: terms.suspension,
        payment_method: terms.payment_method,
        shadow: terms.shadow,
        money: money(account, terms, demand, now),
        month: MonthStanding {
            month: account.lease.month,
            limit: rules.catalogue.monthly_limit(terms, account.view.tier),
            spent: account.view.month_used.plus(account.lease.month_unreported()),
        },
        user: asking.user,
        requests,
        tokens,
        generated_p95,
        overloaded: asking.full.then_some(OVERLOADED_WAIT),
    })
}

/// A bucket of which the pool was not heard.
const fn unheard(limit: Limit) -> RateStanding {
    RateStanding { limit, chunk: 0, bucket: None }
}

fn money(account: &Account, terms: &Terms, demand: &Demand, now: Time) -> Money {
    let heard = account.lease.answered().unwrap_or(now);
    let rights = account.lease.free(now);
    let helpful = if demand.capped {
        // Whatever the pool adds helps an ask that may be capped, if it is more than dust.
        super::lease::sum(rights, demand.dust()).max(demand.cost_min())
    } else {
        demand.cost
    };
    Money {
        rights,
        balance: balance(account),
        credit_line: terms.credit_line,
        promotional_gone: account.view.promotional_gone,
        purchased: account.view.purchased,
        topup_pending: account.view.topup_pending.map(|pending| pending.duration().saturating_add(now.since(heard))),
        pool_may_help: !account.rare().refusal.covers(helpful.min(demand.cost), now),
        held: account.lease.held,
    }
}

/// The balance in the account's view, with what was spent here since taken off.
pub(super) fn balance(account: &Account) -> Credit {
    account.view.balance.minus(account.lease.unreported())
}

/// The terms are newer than the pool's limit where they allow less, until a proposal is taken. What the pool lent by its
/// own limit beyond what the terms allow is left to go back.
fn bound(rate: &mut RateStanding, per_minute: u64, now: Time) {
    if rate.limit.per_minute <= per_minute {
        return;
    }
    rate.limit.per_minute = per_minute;
    let Some(bucket) = &mut rate.bucket else { return };
    let beyond = bucket.used(rate.limit, now).saturating_sub(rate.limit.capacity()).min(rate.chunk);
    rate.chunk = rate.chunk.saturating_sub(beyond);
    bucket.refund(rate.limit, beyond, now);
}

/// The limits that an operator set for this account and model.
pub(super) fn custom_limits(rules: &Rules, terms: &Terms, key: RateKey) -> Option<TokenLimits> {
    if terms.custom_limits.is_empty() {
        return None;
    }
    terms.custom_limits.get(&*group_name(rules, key)).copied()
}

/// A model's name on the wire; its fast buckets have one of their own.
pub(super) fn group_name(rules: &Rules, key: RateKey) -> String {
    let name = rules.catalogue.model(key.model).map_or("", |model| &*model.name);
    if key.fast { format!("{name}:fast") } else { name.to_owned() }
}

/// Limits net of holds, for an answer's headers.
pub(super) fn limits(
    standing: &Standing,
    rate_key: Option<RateKey>,
    taken: Option<(u64, [u64; 3])>,
    now: Time,
) -> Limits {
    let (requests, tokens) = taken.unwrap_or_default();
    let mut remaining = [Remaining::default(); 3];
    for ((remaining, rate), taken) in remaining.iter_mut().zip(&standing.tokens).zip(tokens) {
        *remaining = left(rate, taken, now);
    }
    Limits { requests: left(&standing.requests, requests, now), tokens: rate_key.map(|_| remaining) }
}

/// What is left of a bucket after `taken` came out of its chunk.
fn left(rate: &RateStanding, taken: u64, now: Time) -> Remaining {
    let limit = rate.limit;
    let Some(bucket) = rate.bucket else {
        return Remaining { limit, remaining: limit.capacity().saturating_sub(taken), reset: Duration::ZERO };
    };
    // What is lent drains from the bucket while it is still here, so the two may be more than there can be.
    let room = bucket.room(limit, now).saturating_add(rate.chunk).min(limit.capacity());
    let remaining = room.saturating_sub(taken);
    Remaining { limit, remaining, reset: bucket.empty_after(limit, now) }
}
