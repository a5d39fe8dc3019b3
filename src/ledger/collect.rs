//! What is due to be said to the pools. Accounts wait in order of when they have something to say; nothing is scanned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::account::{Account, Flight, FlightGroup, Waiting};
use super::chunk::SEQ_MAX;
use super::due::{
    STRANGER_KEEP, ahead, idle_return_after, must_declare, period, stranger_due_at, sync_due_at, unneeded,
};
use super::lease::sum;
use super::rates::Rates;
use super::shard::{AT_ONCE, Rules, Shard, last_turn_of};
use super::standing::{custom_limits, group_name};
use super::words::{Said, Waits};
use crate::clock::Time;
use crate::decision::Credit;
use crate::decision::rate::Limit;
use crate::pool::message::{Group, RateRequest};
use crate::pool::{Message, SyncRequest};

/// A session's counters stay below this many nano-USD, then a new generation opens.
const COUNTER_MAX: Credit = Credit::from_nanos(1 << 49);

/// How many accounts are looked at before checks have their turn.
const PIECE: usize = 32;

/// Who has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Accounts that are loaded, for which somebody waits, or soon will.
    Urgent,
    /// Others that are loaded and in use.
    InUse,
    /// Accounts that wait to be loaded.
    New,
    /// Accounts that give back what nobody used, or renew it.
    Idle,
}

impl Shard {
    /// Looks at the next accounts that are due, so many at most, and adds what they say to `messages`, up to `max` in all.
    /// Returns whether more may be due.
    pub(super) fn collect(
        &mut self,
        rules: &Rules,
        who: Who,
        now: Time,
        max: usize,
        messages: &mut Vec<Message>,
    ) -> bool {
        for _ in 0..PIECE {
            if messages.len() >= max {
                return true;
            }
            let popped = match who {
                Who::Urgent => self.due_urgent.pop_front().map(|index| (AT_ONCE, index)),
                Who::InUse => self.due.pop(last_turn_of(now)),
                Who::New => self.due_new.pop(last_turn_of(now)),
                Who::Idle => self.due_idle.pop(last_turn_of(now)),
            };
            let Some((turn, index)) = popped else { return false };
            let Some(account) = self.accounts.get_mut(index) else { continue };
            if account.due != turn {
                continue;
            }
            account.due = u64::MAX;
            if is_forgettable(account, rules, now) {
                self.remove(rules, index);
                continue;
            }
            match say(account, rules, now) {
                Some(message) => messages.push(message),
                None => self.reschedule(rules, index, now),
            }
        }
        true
    }

    /// Adds *bye* for accounts that did not say it, up to `max` messages. What still runs is ended first.
    pub(super) fn collect_bye(&mut self, rules: &Rules, now: Time, max: usize, messages: &mut Vec<Message>) {
        let open: Vec<_> = self.holds.open_keys().collect();
        for key in open {
            self.expire(rules, key, now);
        }
        let mut reached = 0;
        for (at, account) in self.accounts.iter_mut().skip_while(|(at, _)| *at < self.bye_from) {
            if messages.len() >= max {
                reached = at;
                break;
            }
            if account.is_in_flight() || is_unspoken(account) {
                continue;
            }
            messages.push(say_bye(account, rules, now));
        }
        self.bye_from = reached;
    }
}

/// A stranger that nobody asks for, or an account whose record was closed long ago.
fn is_forgettable(account: &Account, rules: &Rules, now: Time) -> bool {
    let keep = if account.terms.is_none() { STRANGER_KEEP } else { rules.settings.idle_bye };
    let idle = account.used_at.age(now) >= keep;
    idle && account.lease.seq == 0 && !account.is_in_flight() && account.is_settled(now)
}

/// No pool has a record of it, and there is nothing to put into one.
fn is_unspoken(account: &Account) -> bool {
    account.lease.seq == 0 && account.lease.unreported() == Credit::ZERO
}

/// What an account has to say now, if anything.
fn say(account: &mut Account, rules: &Rules, now: Time) -> Option<Message> {
    account.roll_over(now);
    if account.open == 0 {
        account.rates.take_if(|rates| !rates.forget_quiet(now));
    }
    let every = period(account, rules);
    let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
    let is_stranger = account.terms.is_none();
    let sync_due = if is_stranger { Some(stranger_due_at(account, now)) } else { sync_due_at(account, rules, now) };
    let limit = account.requests_limit(rules);
    let mut flight = flight(account);
    let mut messages = Vec::new();
    // What would soon have to be said by itself goes along.
    let ahead = if is_due(sync_due) { every } else { Duration::ZERO };
    let mut rates = account.rates.as_deref_mut();
    if let Some(rate) = rates.as_mut().and_then(|rates| rates.requests.as_mut())
        && rate.is_due(every, ahead, now)
    {
        let (waited, said) = (rate.waiting(), rate.say(ahead, false, now));
        flight.groups.push(requests_in_flight(waited, &said));
        messages.push(requests_message(rules, limit, said));
    }
    for model in rates.into_iter().flat_map(Rates::models_mut) {
        if model.rate.is_due(every, ahead, now) {
            let (waited, said) = (model.rate.waiting(), model.rate.say(ahead, false, now));
            flight.groups.push(FlightGroup { key: Some(model.key), waited, used: said.used, priced: Credit::ZERO });
            let terms = account.terms.as_deref();
            let custom = terms.and_then(|terms| custom_limits(rules, terms, model.key));
            let seed = custom.unwrap_or(rules.catalogue.rates.start);
            messages.push(model_message(rules, group_name(rules, model.key), seed, said));
        }
    }
    let sync = is_due(sync_due).then(|| {
        let idle = account.used_at.age(now) >= rules.settings.idle_bye && account.open == 0 && account.lease.seq > 0;
        let lease = &account.lease;
        let is_full = lease.granted.max(lease.used) > COUNTER_MAX || lease.seq > SEQ_MAX;
        // A pool may have lent to a stranger without being heard.
        let is_unwanted = is_stranger && account.used_at.age(now) >= STRANGER_KEEP;
        let bye = account.rare().closing.is_some() || is_full || if is_stranger { is_unwanted } else { idle };
        if is_unwanted {
            account.change_rare(|rare| rare.waiting = Waiting::default());
        }
        flight.synced = true;
        flight.bye = bye;
        sync_message(account, rules, bye, &mut flight, now)
    });
    if sync.is_none() && messages.is_empty() {
        return None;
    }
    account.tell_priced(&mut flight.groups, &mut messages);
    account.set_out(flight);
    Some(Message { account: account.shared_name(), session: rules.session.clone(), sync, rates: messages })
}

fn say_bye(account: &mut Account, rules: &Rules, now: Time) -> Message {
    account.roll_over(now);
    let mut flight = flight(account);
    flight.synced = true;
    flight.bye = true;
    let limit = account.requests_limit(rules);
    let mut messages = Vec::new();
    let mut rates = account.rates.as_deref_mut();
    if let Some(rate) = rates.as_mut().and_then(|rates| rates.requests.as_mut()) {
        let (waited, said) = (rate.waiting(), rate.say(Duration::ZERO, true, now));
        flight.groups.push(requests_in_flight(waited, &said));
        messages.push(requests_message(rules, limit, said));
    }
    for model in rates.into_iter().flat_map(Rates::models_mut) {
        let (waited, said) = (model.rate.waiting(), model.rate.say(Duration::ZERO, true, now));
        flight.groups.push(FlightGroup { key: Some(model.key), waited, used: said.used, priced: Credit::ZERO });
        messages.push(model_message(rules, group_name(rules, model.key), rules.catalogue.rates.start, said));
    }
    let sync = sync_message(account, rules, true, &mut flight, now);
    account.tell_priced(&mut flight.groups, &mut messages);
    account.set_out(flight);
    Message { account: account.shared_name(), session: rules.session.clone(), sync: Some(sync), rates: messages }
}

fn flight(account: &Account) -> Flight {
    Flight {
        synced: false,
        bye: false,
        counted: account.lease.counted(),
        waited: Waiting::default(),
        declared: account.declared,
        groups: Vec::new(),
    }
}

fn requests_in_flight(waited: Waits<1>, said: &Said<1>) -> FlightGroup {
    let Waits { most: [most], sum: [sum] } = waited;
    let [used] = said.used;
    FlightGroup {
        key: None,
        waited: Waits { most: [most, 0, 0], sum: [sum, 0, 0] },
        used: [used, 0, 0],
        priced: Credit::ZERO,
    }
}

fn sync_message(account: &mut Account, rules: &Rules, bye: bool, flight: &mut Flight, now: Time) -> SyncRequest {
    let declare = must_declare(account, rules) && !bye;
    flight.declared = rules.declared.load(Ordering::Relaxed);
    if bye {
        let counted = account.rare().closing.unwrap_or_else(|| account.lease.counted());
        account.change_rare(|rare| rare.closing = Some(counted));
        flight.counted = counted;
        account.lease.until = Time::default();
    } else {
        return_idle(account, rules, now);
    }
    account.sample_spend(now);
    let closing = bye || declare;
    let waits = account.rare().waiting;
    let waiting = waits.need(sum(account.available, account.lease.unheld()));
    let held = account.lease.held;
    let keep = if account.used_at.age(now) < idle_return_after(account) { ahead(account, rules) } else { Credit::ZERO };
    let want = sum(held, keep.max(waiting).max(waits.sum.min(rules.catalogue.lease.max)));
    let need = sum(held, waiting);
    if !closing {
        flight.waited = waits;
        account.change_rare(|rare| rare.waiting = Waiting::default());
    }
    account.touched = false;
    account.recalled = false;
    let (terms_known, cap) = (account.terms_version(), account.cap());
    let lease = &mut account.lease;
    lease.seq = lease.seq.saturating_add(1);
    lease.asked = now;
    SyncRequest {
        generation: lease.generation,
        seq: u64::from(lease.seq),
        used: flight.counted.used,
        returned: lease.returned,
        granted_known: lease.granted,
        reclaimed_known: lease.reclaimed,
        want: if closing { Credit::ZERO } else { want },
        need: if closing { Credit::ZERO } else { need },
        month: flight.counted.month,
        used_before: flight.counted.used_before,
        terms_known,
        silence: lease.answered().map(|answered| now.since(answered)),
        declare,
        bye,
        cap,
    }
}

/// Gives back what was not used for long, and what others need more.
fn return_idle(account: &mut Account, rules: &Rules, now: Time) {
    let idle = account.used_at.age(now) >= idle_return_after(account);
    let least = account.rare().waiting.least;
    // Neither these rights nor all that the pool has suffices for what waits: with what others give back, somebody's may.
    let is_crumb = sum(account.available, account.lease.unheld()) < least;
    let back = match (idle || is_crumb, account.recalled) {
        (true, _) => account.lease.unheld(),
        (false, true) => unneeded(account, rules),
        (false, false) => Credit::ZERO,
    };
    account.lease.give_back(back);
}

fn requests_message(rules: &Rules, limit: Option<Limit>, said: Said<1>) -> RateRequest {
    let rule = rules.catalogue.requests;
    // An account that is not loaded yet is most likely one that pays; the first reply tells.
    let seed = limit.map_or(rule.per_minute, |limit| limit.per_minute);
    let first = |values: [u64; 1]| {
        let [value] = values;
        [value, 0, 0]
    };
    RateRequest {
        group: Group::Requests,
        generation: said.generation,
        seq: said.seq,
        granted_known: first(said.granted_known),
        debt: first(said.debt),
        returned: first(said.returned),
        used: first(said.used),
        priced: Credit::ZERO,
        at_hand: first(said.at_hand),
        want: first(said.want),
        need: first(said.need),
        seed: [seed, 0, 0],
        burst_seconds: rule.burst_seconds,
    }
}

fn model_message(rules: &Rules, name: String, seed: [u64; 3], said: Said<3>) -> RateRequest {
    RateRequest {
        group: Group::Model(Arc::from(name)),
        generation: said.generation,
        seq: said.seq,
        granted_known: said.granted_known,
        debt: said.debt,
        returned: said.returned,
        used: said.used,
        priced: Credit::ZERO,
        at_hand: said.at_hand,
        want: said.want,
        need: said.need,
        seed,
        burst_seconds: rules.catalogue.rates.burst_seconds,
    }
}
