//! What the pools answered. Only the reply to the newest request counts; everything else changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account::{Account, Flight, FlightGroup, Refused, Seen};
use super::chunk::Rate;
use super::compact::{LowBits, Millis};
use super::due::ahead;
use super::lease::sum;
use super::propose::{Facts, bounded};
use super::reserved::{is_full, lowered, raised, reserved_tokens};
use super::shard::{Rules, Shard};
use super::standing::group_name;
use super::words::{Heard, Waits};
use crate::clock::{Now, Time};
use crate::decision::terms::{Terms, Tier};
use crate::decision::{Credit, RateKey};
use crate::pool::message::{Group, RateReply};
use crate::pool::{Refusal, Reply, SyncReply};

/// The two readings of the clock around a round.
#[derive(Clone, Copy)]
pub(super) struct Round {
    pub(super) sent: Time,
    pub(super) now: Now,
}

impl Shard {
    /// True where the reply shows that its store forgot something: every account must be declared.
    pub(super) fn apply(&mut self, rules: &Rules, reply: Reply, round: Round) -> bool {
        let Some(index) = self.find_entry(rules, &reply.account) else { return false };
        let Some(account) = self.account_mut(index) else { return false };
        let Some(flight) = account.land_if(|lease, flight| answers(lease, flight, &reply)) else {
            return false;
        };
        self.hear_rates(rules, index, &flight, &reply.rates, round);
        let forgot = match reply.sync {
            None => false,
            Some(Ok(sync)) => self.hear(rules, index, &flight, sync, round),
            Some(Err(refusal)) => {
                self.hear_refusal(rules, index, refusal, round.now);
                false
            }
        };
        if let Some(account) = self.account_mut(index) {
            expect_limits(account, rules, &flight, round.now.time);
        }
        self.forget_or_go_on(rules, index, &flight, round.now);
        forgot
    }

    fn hear(&mut self, rules: &Rules, index: u32, flight: &Flight, mut reply: SyncReply, round: Round) -> bool {
        let terms = reply.terms.take().map(|terms| self.share(terms));
        let Some(account) = self.account_mut(index) else { return false };
        if reply.seq > u64::from(account.lease.seq) {
            reopen(account, round.now.time);
            self.counters.clones = self.counters.clones.saturating_add(1);
            return false;
        }
        if let Some(terms) = terms {
            if account.terms.replace(terms).is_none() {
                Rules::leave_place(&rules.strangers);
            } else {
                account.ask_limits_anew();
            }
            account.set_terms_version(reply.terms_version);
        }
        let ops = LowBits::of(reply.ops);
        let forgot = account.ops != LowBits::default() && ops.is_below(account.ops);
        account.ops = ops;
        account.declared = flight.declared;
        take_lease(account, rules, flight, &reply, round);
        account.lease.used_answered = flight.counted.used;
        rules.emergency_nanos.fetch_sub(account.rare().emergency.nanos().unsigned_abs(), Ordering::Relaxed);
        account.change_rare(|rare| rare.emergency = Credit::ZERO);
        let free = account.lease.free(round.now.time);
        account.low_water = ahead(account, rules).min(free).divided_by(2).into();
        believe_refusal(account, flight, (free, reply.is_final), round.now.time);
        account.assert_invariants();
        if forgot {
            self.counters.forgotten = self.counters.forgotten.saturating_add(1);
        }
        forgot
    }

    fn hear_refusal(&mut self, rules: &Rules, index: u32, refusal: Refusal, now: Now) {
        let Some(account) = self.account_mut(index) else { return };
        account.lease.asked = now.time;
        match refusal {
            // What becomes of the account decides over its users.
            Refusal::NoSuchAccount if account.is_user() => reopen(account, now.time),
            Refusal::NoSuchAccount => {
                if account.terms.take().is_some() {
                    rules.strangers.fetch_add(1, Ordering::Relaxed);
                }
                account.set_terms_version(0);
                reopen(account, now.time);
                let name = account.name.clone();
                self.strangers.remember(&name, now.time);
            }
            Refusal::NoSuchSession => {
                let lost = account.lease.unreported();
                account.change_rare(|rare| rare.closing = None);
                account.lease.reopen(Credit::ZERO, Credit::ZERO, now.time);
                if lost.is_positive() {
                    let name = account.shared_name();
                    self.count_dead_letter(name, lost);
                }
            }
            Refusal::Superseded => {
                reopen(account, now.time);
                self.counters.clones = self.counters.clones.saturating_add(1);
            }
            Refusal::Crowded | Refusal::Unreadable => {}
            Refusal::Malformed(_) => self.counters.malformed = self.counters.malformed.saturating_add(1),
        }
    }

    fn hear_rates(
        &mut self,
        rules: &Rules,
        index: u32,
        flight: &Flight,
        replies: &[Result<RateReply, Refusal>],
        round: Round,
    ) {
        let mut malformed = 0_u64;
        let Some(account) = self.account_mut(index) else { return };
        for (place, group) in flight.groups.iter().enumerate() {
            let is_ours = |reply: &&Result<RateReply, Refusal>| is_of(rules, group.key, reply);
            let reply = replies.get(place).filter(is_ours);
            if let Some(Err(Refusal::Malformed(_))) = reply {
                malformed = malformed.saturating_add(1);
            }
            let Some(key) = group.key else {
                account.requests_mut().into_iter().for_each(|rate| hear_rate(rate, group, reply, round));
                continue;
            };
            if let Some(model) = account.model_mut(key) {
                hear_rate(&mut model.rate, group, reply, round);
                let generation = model.rate.generation();
                account.carry_priced(key, group.priced, generation);
            }
        }
        self.counters.malformed = self.counters.malformed.saturating_add(malformed);
    }

    /// After a *bye* the record is closed: the account is forgotten, or goes on in a new generation.
    fn forget_or_go_on(&mut self, rules: &Rules, index: u32, flight: &Flight, now: Now) {
        let Some(account) = self.account_mut(index) else { return };
        let closed = flight.bye && account.lease.answered() == Some(now.time) && account.lease.seq > 0;
        if closed {
            account.change_rare(|rare| rare.closing = None);
            account.lease.reopen_after(flight.counted, now.time);
        }
        let is_unknown =
            account.terms.is_none() && self.strangers.contains(&account_name(self.account(index)), now.time);
        let Some(account) = self.account_mut(index) else { return };
        let waits = account.rare().waiting.sum.is_positive();
        if account.is_settled(now.time) && ((closed && !waits) || is_unknown) {
            self.remove(rules, index);
        } else {
            self.reschedule(rules, index, now.time);
        }
    }

    /// The round brought no reply: everything that was said is said again, with the values of then.
    pub(super) fn failed(&mut self, rules: &Rules, name: &str, now: Time) {
        let Some(index) = self.find_entry(rules, name) else { return };
        let Some(account) = self.account_mut(index) else { return };
        let Some(flight) = account.land_if(|_, _| true) else { return };
        if flight.synced {
            account.lease.asked = Time::default();
            // It may have given rights back, which nobody else can use before the pool hears of it.
            account.touched = true;
            account.change_rare(|rare| rare.waiting.join(flight.waited));
        }
        for group in &flight.groups {
            if let Some(key) = group.key {
                account.model_mut(key).into_iter().for_each(|model| model.rate.say_again(group.waited));
                continue;
            }
            let Waits { most: [most, ..], sum: [sum, ..] } = group.waited;
            let waited = Waits { most: [most], sum: [sum] };
            account.requests_mut().into_iter().for_each(|rate| rate.say_again(waited));
        }
        self.reschedule(rules, index, now);
    }
}

fn account_name(account: Option<&Account>) -> Arc<str> {
    account.map_or_else(|| Arc::from(""), Account::shared_name)
}

/// Whether a reply belongs to the message in flight, and not to an older one that was given up.
fn answers(lease: &super::lease::Lease, flight: &Flight, reply: &Reply) -> bool {
    match (&reply.sync, flight.synced) {
        (None, false) | (Some(Err(_)), true) => true,
        (Some(Ok(sync)), true) => {
            sync.generation == lease.generation && (sync.seq >= u64::from(lease.seq) || closes(flight, sync))
        }
        (None, true) | (Some(_), false) => false,
    }
}

/// A record that was closed already answers with the request that closed it, and with no lease.
fn closes(flight: &Flight, reply: &SyncReply) -> bool {
    flight.bye && reply.ttl.is_zero()
}

/// A new generation that begins with what the old one never reported.
fn reopen(account: &mut Account, now: Time) {
    account.change_rare(|rare| rare.closing = None);
    let lease = &mut account.lease;
    let used = lease.unreported();
    let used_before = used.minus(lease.month_unreported()).at_least_zero();
    lease.reopen(used, used_before, now);
}

fn take_lease(account: &mut Account, rules: &Rules, flight: &Flight, reply: &SyncReply, round: Round) {
    let now = round.now.time;
    account.available = reply.available;
    account.next_sync = Millis::of(reply.next_sync);
    account.recalled = reply.recall;
    let tier = |terms: &Arc<Terms>| rules.catalogue.tier(terms, reply.view.lifetime_paid);
    account.view = Seen::of(&reply.view, account.terms.as_ref().map_or(Tier::None, tier));
    let lease = &mut account.lease;
    lease.hear(reply.granted, reply.reclaimed, reply.ttl, round.sent, now);
    if reply.month > lease.month {
        lease.enter(reply.month, now.after(reply.month_left));
    } else if reply.month < lease.month {
        account.view.month_used = Credit::ZERO;
    } else {
        lease.month_end = now.after(reply.month_left);
        if flight.counted.month == lease.month {
            lease.month_answered = flight.counted.used.minus(flight.counted.used_before);
        }
    }
}

/// Asks waited and the pool lent too little: what it does not have need not be asked for again for a while.
///
/// Where the pool could lend more, asks that came since took what was free.
fn believe_refusal(account: &mut Account, flight: &Flight, (free, is_final): (Credit, bool), now: Time) {
    account.change_rare(|rare| rare.refusal = Refused::default());
    let beyond = sum(sum(free, account.available), Credit::from_nanos(1));
    if is_final && free < flight.waited.least {
        account.refuse(beyond.min(flight.waited.least), now);
        // Crumbs that help nobody here may add up to a request elsewhere. Who starves is not told that others do.
        account.recalled = true;
    } else if free < flight.waited.sum {
        account.refuse(beyond, now);
    }
}

/// Compares the limits of the groups that were heard with what the terms say.
fn expect_limits(account: &mut Account, rules: &Rules, flight: &Flight, now: Time) {
    let Some(terms) = account.terms.clone() else { return };
    let facts = Facts::new(rules, &terms, account.view.tier, account.view.balance);
    for group in &flight.groups {
        let Some(key) = group.key else {
            let requests = account.requests_mut().into_iter();
            requests.for_each(|rate| rate.expect_limits([facts.requests_per_minute], now));
            continue;
        };
        if let Some(rate) = account.model_mut(key).map(|model| &mut model.rate)
            && let Some(limits) = rate.limits()
        {
            let reserved = reserved_tokens(rules, &terms, key);
            rate.expect_limits(raised(bounded(rules, facts, key, lowered(limits, reserved)), reserved), now);
        }
    }
}

/// Whether a reply is about this group. A late one may be of another round, and counts what another group lent.
fn is_of(rules: &Rules, key: Option<RateKey>, reply: &Result<RateReply, Refusal>) -> bool {
    match (key, reply.as_ref().map(|reply| &reply.group)) {
        (None, Ok(Group::Requests)) | (_, Err(_)) => true,
        (Some(key), Ok(Group::Model(name))) => **name == *group_name(rules, key),
        (None, Ok(Group::Model(_))) | (Some(_), Ok(Group::Requests)) => false,
    }
}

fn hear_rate<const N: usize>(
    rate: &mut Rate<N>,
    told: &FlightGroup,
    reply: Option<&Result<RateReply, Refusal>>,
    round: Round,
) {
    match reply {
        Some(Ok(reply)) if reply.generation == rate.generation() && reply.seq == rate.seq() => {
            let until = round.sent.after(reply.chunk_life);
            rate.hear(heard(reply), reply.burst_seconds, until, round.now.time);
            let used = std::array::from_fn(|place| told.used.get(place).copied().unwrap_or(0));
            rate.renew_if_full(used, is_full(told.priced), round.now.time);
        }
        Some(Err(Refusal::NoSuchSession | Refusal::Superseded | Refusal::Malformed(_))) => rate.reopen(round.now.time),
        Some(Ok(_) | Err(Refusal::NoSuchAccount | Refusal::Crowded | Refusal::Unreadable)) | None => rate.unheard(),
    }
}

/// The first `N` places of a reply.
fn heard<const N: usize>(reply: &RateReply) -> [Heard; N] {
    let limits = raised(reply.limits, reply.reserved.map_or([0; 3], |reserved| reserved.tokens));
    std::array::from_fn(|place| Heard {
        granted: reply.granted.get(place).copied().unwrap_or(0),
        fresh: reply.fresh.get(place).copied().unwrap_or(0),
        per_minute: limits.get(place).copied().unwrap_or(0),
        level: reply.levels.get(place).copied().unwrap_or(0),
    })
}
