//! This sidecar's state: accounts, leases, chunks and holds, in memory, behind one lock for each shard.
//!
//! Synchronous, bounded, no I/O; time is an argument. Only the ledger changes anything here: it gathers a standing, asks
//! [`crate::decision::decide`], and applies the charge under the same lock.
//!
//! What always holds, for every account: `used + held <= granted - returned` for money that was promised, and a denial
//! leaves every counter as it was.
#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "money and tokens: every step that could wrap, round or panic is spelled out"
)]

mod account;
mod ahead;
mod answer;
mod apply;
mod chains;
mod check;
mod chunk;
mod collect;
mod compact;
mod due;
mod ended;
mod hold;
mod holds;
mod lease;
mod lifecycle;
mod locks;
mod look;
mod meter;
mod pages;
mod propose;
mod rates;
mod reserved;
mod shard;
mod standing;
mod strangers;
mod tally;
mod totals;
mod users;
mod wheel;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

pub use answer::{
    Admitted, Answer, Checked, End, Ended, Explained, Extended, Here, HoldError, LimitHere, Limits, ModelHere,
    Remaining, Verdict, Why, WhyLimit, WithoutHold,
};
pub use totals::{DeadLetter, Totals};

use crate::clock::{Now, Time};
use crate::decision::{Ask, Catalogue, Credit, RequestId, Usage};
use crate::pool::message::{StepProposal, View};
use crate::pool::{Message, Reply, SessionId};
use account::Seen;
use apply::Round;
use check::{Question, nobody};
use collect::Who;
use locks::Locked;
use propose::Facts;
use shard::{Rules, Shard};

/// How many ended holds and unknown names a sweep forgets before checks have their turn, and how often in each shard.
const SWEEP_PIECE: usize = 64;
const SWEEP_PIECES: usize = 128;
/// Accounts that are visited before checks have their turn.
const PIECE: u32 = 256;
/// Shards for each thread that decides: so few that what every check touches of one stays in the nearest cache.
const SHARDS_PER_WORKER: usize = 4;
const SHARDS_MAX: usize = 1_024;

/// The most holds, open ones or ended ones, that settings may allow.
pub const HOLDS_MAX: u64 = 10_000_000;

/// Bounds of a ledger. Each limit is there so that no map grows with what strangers send.
#[derive(Clone, Copy, Debug)]
pub struct LedgerSettings {
    /// Threads that decide at the same time. With 0, whatever is said comes in the same order in each run.
    pub workers: usize,
    /// Accounts, and users with a cap, who take half of the places at most.
    pub accounts_max: usize,
    /// Holds open at once, over all accounts; above it the answer is `overloaded`.
    pub holds_max: usize,
    /// Ended holds that are remembered, over all accounts; the oldest go first.
    pub ended_max: usize,
    /// How long an ended hold is remembered.
    pub ended_keep: Duration,
    /// How long a hold lives without a sign of life, where the ask does not say.
    pub hold_life: Duration,
    /// The longest life that an ask may name.
    pub hold_life_max: Duration,
    /// Names that the store did not know, remembered so that a flood costs it nothing; and, as many again, names that
    /// wait to be looked up.
    pub unknown_max: usize,
    pub unknown_keep: Duration,
    /// How often an account with something to say is synced.
    pub sync_every: Duration,
    /// An account that was not used for so long is closed with *bye* and forgotten.
    pub idle_bye: Duration,
}

/// Emergency credit that may be promised while no pool can be reached, until it is heard again.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// For one account whose failure policy is an allowance.
    pub account: Credit,
    /// For all accounts of this sidecar, open ones too.
    pub sidecar: Credit,
}

/// All accounts of one session.
pub struct Ledger {
    shards: Vec<Locked>,
    rules: Rules,
    /// Where the next collection begins, so that no shard waits behind another for ever.
    turn: std::sync::atomic::AtomicUsize,
}

impl Ledger {
    pub fn new(settings: LedgerSettings, catalogue: Arc<Catalogue>, session: SessionId) -> Self {
        let count = settings.workers.saturating_mul(SHARDS_PER_WORKER).clamp(1, SHARDS_MAX).next_power_of_two();
        let rules = Rules {
            settings,
            catalogue,
            session,
            hasher: foldhash::fast::RandomState::default(),
            accounts: 0.into(),
            users: 0.into(),
            strangers: 0.into(),
            holds_open: 0.into(),
            holds_ended: 0.into(),
            declared: 0.into(),
            emergency_nanos: 0.into(),
        };
        let shards = (0..count).map(|_| Locked::new(Shard::new(&settings, count))).collect();
        Self { shards, rules, turn: 0.into() }
    }

    /// Decides an ask and, where it is admitted, opens its hold. The same ask again gives the same answer.
    pub fn check(&self, ask: &Ask<'_>, now: Now) -> Checked {
        match self.rules.catalogue.demand(ask, now.unix) {
            Err(denial) => Checked::Answered(nobody(denial)),
            Ok(demand) => {
                let hash = self.rules.hash(ask.account);
                self.shard(hash).check(&self.rules, Question { ask, demand: &demand, hash }, now)
            }
        }
    }

    /// What a check of this ask would come to, and why. Changes nothing; `None` where the account is not loaded.
    pub fn explain(&self, ask: &Ask<'_>, now: Now) -> Option<Explained> {
        match self.rules.catalogue.demand(ask, now.unix) {
            Err(denial) => Some(Explained { answer: nobody(denial), why: None }),
            Ok(demand) => {
                let hash = self.rules.hash(ask.account);
                self.shard(hash).explain(&self.rules, Question { ask, demand: &demand, hash }, now)
            }
        }
    }

    /// How an account stands here. Changes nothing; `None` where it is not loaded.
    pub fn inspect(&self, account: &str, now: Now) -> Option<Here> {
        self.shard_of(account).inspect(&self.rules, account, now.time)
    }

    /// As [`Ledger::check`], where the pool was asked and brought nothing: the account's failure policy answers.
    pub fn check_alone(&self, ask: &Ask<'_>, allowance: Allowance, now: Now) -> Answer {
        match self.rules.catalogue.demand(ask, now.unix) {
            Err(denial) => nobody(denial),
            Ok(demand) => {
                let hash = self.rules.hash(ask.account);
                let question = Question { ask, demand: &demand, hash };
                self.shard(hash).check_alone(&self.rules, question, allowance, now)
            }
        }
    }

    /// Takes totals since the request began, renews the hold's life and trues the rates up.
    pub fn report(&self, account: &str, id: RequestId, usage: Usage, now: Now) -> Result<Duration, HoldError> {
        let mut shard = self.shard_of(account);
        let key = shard.key(&self.rules, account, id).ok_or(HoldError::UnknownAccount)?;
        shard.report(&self.rules, key, usage, now.time)
    }

    /// Holds `more` generated tokens on top.
    pub fn extend(&self, account: &str, id: RequestId, more: u64, now: Now) -> Result<Extended, HoldError> {
        let mut shard = self.shard_of(account);
        let key = shard.key(&self.rules, account, id).ok_or(HoldError::UnknownAccount)?;
        shard.extend(&self.rules, key, more, now.time)
    }

    /// Books what was used, in full. With `fallback`, usage of a hold that is not known here is booked too.
    pub fn settle(
        &self,
        account: &str,
        id: RequestId,
        usage: Usage,
        fallback: Option<WithoutHold<'_>>,
        now: Now,
    ) -> Result<Ended, HoldError> {
        let mut shard = self.shard_of(account);
        let key = shard.key(&self.rules, account, id).ok_or(HoldError::UnknownAccount)?;
        match (shard.settle(&self.rules, key, usage, now.time), fallback) {
            (Err(HoldError::NotFound), Some(fallback)) => {
                shard.settle_without_hold(&self.rules, key, usage, fallback, now)
            }
            (result, _) => result,
        }
    }

    /// Ends a hold without usage; tokens that were reported already are booked all the same.
    pub fn release(&self, account: &str, id: RequestId, now: Now) -> Result<Ended, HoldError> {
        let mut shard = self.shard_of(account);
        let key = shard.key(&self.rules, account, id).ok_or(HoldError::UnknownAccount)?;
        shard.release(&self.rules, key, now.time)
    }

    /// Notes that an account should be loaded; the next round asks for it.
    ///
    /// False where the store was asked a moment ago and did not know it, or too many accounts are known here.
    pub fn want(&self, account: &str, now: Now) -> bool {
        let hash = self.rules.hash(account);
        self.shard(hash).want(&self.rules, hash, account, now)
    }

    /// Makes an account due at once, because somebody changed it in the store. False where it is not known here.
    pub fn touch(&self, account: &str, now: Now) -> bool {
        self.shard_of(account).touch(&self.rules, account, now.time)
    }

    /// What is due to be said, at most `max` messages. No scan: accounts wait in order of when they are due.
    ///
    /// What somebody waits for goes before what accounts in use will need, then come new accounts and, at last, idle ones. Of
    /// eight places or more none of the four can take all while others have something to say, so none waits for ever, however much
    /// the store is behind. An account stays in flight until [`Ledger::apply`] or [`Ledger::failed`] is called for it.
    pub fn collect(&self, now: Now, max: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        let first = u64::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let part = |eighths: usize| max.saturating_mul(eighths).div_ceil(8);
        let places = [(Who::Urgent, part(3)), (Who::InUse, part(5)), (Who::New, part(7)), (Who::Idle, max)];
        // What one kind leaves the others take.
        let left = [(Who::Urgent, max), (Who::InUse, max), (Who::New, max)];
        for (who, max) in places.into_iter().chain(left) {
            self.collect_of(who, first, now.time, max, &mut messages);
        }
        messages
    }

    /// Adds what these have to say, up to `max` messages in all, from all shards in turn, this one `first`.
    fn collect_of(&self, who: Who, first: u64, now: Time, max: usize, messages: &mut Vec<Message>) {
        let mut turns: Vec<u64> = (first..).take(self.shards.len()).collect();
        while messages.len() < max && !turns.is_empty() {
            turns.retain(|turn| {
                let shard = self.at(*turn);
                let more = shard.lock().collect(&self.rules, who, now, max, messages);
                shard.give_way();
                more
            });
        }
    }

    /// Takes the pool's replies to messages sent at `sent`.
    pub fn apply(&self, replies: Vec<Reply>, sent: Now, now: Now) {
        let mut forgot = false;
        for reply in replies {
            let shard = self.at_entry(&reply.account);
            forgot |= shard.lock().apply(&self.rules, reply, Round { sent: sent.time, now });
            shard.give_way();
        }
        if forgot {
            self.declare_all(now.time);
        }
    }

    /// The round brought no reply for these accounts: nothing was lost, they are due again.
    pub fn failed(&self, accounts: &[Arc<str>], now: Now) {
        for account in accounts {
            self.at_entry(account).lock().failed(&self.rules, account, now.time);
        }
    }

    /// Adaptive steps to propose after a round: minutes that ended, and limits that are not what the terms say.
    pub fn proposals(&self, replies: &[Reply], now: Now) -> Vec<StepProposal> {
        let mut steps = Vec::new();
        for reply in replies.iter().filter(|reply| !reply.rates.is_empty()) {
            let known = self.shard_of(&reply.account).terms_and_view(&self.rules, &reply.account);
            let heard = reply.sync.as_ref().and_then(|sync| sync.as_ref().ok());
            let terms = heard.and_then(|heard| heard.terms.as_ref()).or(known.as_ref().map(|(terms, _)| terms));
            let Some(terms) = terms else { continue };
            let tier = |view: &View| self.rules.catalogue.tier(terms, view.lifetime_paid);
            let view = heard.map(|heard| Seen::of(&heard.view, tier(&heard.view)));
            if let Some(view) = view.or(known.as_ref().map(|(_, view)| *view)) {
                let facts = Facts::new(&self.rules, terms, view.tier, view.balance);
                propose::proposals(&self.rules, facts, reply, now.unix, &mut steps);
            }
        }
        steps
    }

    /// The last messages of this session: *bye* for every account, in batches of at most `max`; empty when all is said.
    ///
    /// Requests that still run are ended with what they last reported.
    pub fn collect_bye(&self, now: Now, max: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for shard in &self.shards {
            shard.lock().collect_bye(&self.rules, now.time, max, &mut messages);
        }
        messages
    }

    /// Frees memory: holds past their life, forgotten names, accounts long idle. Bounded work each call.
    pub fn sweep(&self, now: Now) {
        for shard in &self.shards {
            for _ in 0..SWEEP_PIECES {
                let more = shard.lock().sweep(&self.rules, now.time, SWEEP_PIECE);
                shard.give_way();
                if !more {
                    break;
                }
            }
        }
    }

    pub fn totals(&self, now: Now) -> Totals {
        let mut totals = Totals::of_all(&self.rules);
        for shard in &self.shards {
            shard.lock().add_counters_to(&mut totals);
        }
        self.in_pieces(|shard, piece| shard.add_accounts_to(&mut totals, piece, now.time));
        totals
    }

    /// Usage that was booked nowhere since the last call, for the log. Bounded; [`Totals`] counts all of it.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shards.iter().flat_map(|shard| std::mem::take(&mut shard.lock().dead_letters)).collect()
    }

    /// A store forgot something, or may have: every account says what it knows before it asks for anything.
    pub fn declare_all(&self, now: Time) {
        self.rules.declared.fetch_add(1, Ordering::Relaxed);
        self.in_pieces(|shard, piece| shard.wake(&self.rules, piece, now));
    }

    /// Visits all accounts by their places, some at a time, so that no check waits for long.
    fn in_pieces(&self, mut visit: impl FnMut(&mut Shard, Range<u32>)) {
        for shard in &self.shards {
            let (mut from, mut end) = (0, u32::MAX);
            while from < end {
                let mut held = shard.lock();
                end = held.accounts.end();
                let to = from.saturating_add(PIECE).min(end);
                visit(&mut held, from..to);
                drop(held);
                shard.give_way();
                from = to;
            }
        }
    }

    fn shard_of(&self, account: &str) -> MutexGuard<'_, Shard> {
        self.shard(self.rules.hash(account))
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.at(hash >> 32).lock()
    }

    /// Where an account is, or a user: beside the account, so that one lock is held for both.
    fn at_entry(&self, name: &str) -> &Locked {
        self.at(self.rules.hash(crate::pool::account_of(name)) >> 32)
    }

    fn at(&self, turn: u64) -> &Locked {
        self.shards.get(self.place_of(turn)).expect("the number of shards is a power of two, at least one")
    }

    fn place_of(&self, turn: u64) -> usize {
        let mask = self.shards.len().saturating_sub(1);
        usize::try_from(turn & u64::try_from(mask).unwrap_or(0)).unwrap_or(0)
    }
}
