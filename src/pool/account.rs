//! One account's pool: credits in, terms, and what its sessions hold and used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Event, Happening, RateReply, Refusal, SessionId, View};
use super::month::Months;
use super::rules::PoolRules;
use super::session::{Key, Record};
use super::topup::TopUp;
use super::when::{earlier, elapsed};
use crate::clock::UnixMs;
use crate::decision::catalogue::tier_of;
use crate::decision::terms::{Mode, Suspension, Terms, Tier};
use crate::decision::{Credit, Month};

/// Above this a store that counts in doubles may be off by a few nano-USD.
const EXACT_MAX: Credit = Credit::from_nanos(4_503_599_627_370_496);
/// What is never lent then: more than all rounding of a few sums up to [`Credit::MAX`].
const ROUNDING_MARGIN: Credit = Credit::from_nanos(8_192);

/// The shared truth of one account.
///
/// Invariants: `leased` is the sum of what the session records have outstanding, each `>= 0`; `used` is the sum of what
/// they used, plus `retired`. Store time never runs backwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub(super) account: Arc<str>,
    pub(super) created: UnixMs,
    /// The latest store time that was seen.
    pub(super) now: UnixMs,
    pub(super) terms: Arc<Terms>,
    pub(super) terms_version: u64,
    /// Ever credited.
    pub(super) promotional: Credit,
    /// Ever credited, refunds taken off.
    pub(super) purchased: Credit,
    /// What had been paid when credits last changed: what comes in free of charge later takes none of it away.
    pub(super) paid_before: Credit,
    pub(super) credit_version: u64,
    /// Usage of all sessions as reported, ever, less what reservations paid for.
    pub(super) used: Credit,
    /// Lent, and not reported as used or given back.
    pub(super) leased: Credit,
    /// Usage of sessions whose record is gone, less what reservations paid for.
    pub(super) retired: Credit,
    pub(super) months: Months,
    pub(super) sessions: BTreeMap<Key, Record>,
    pub(super) starving_until: UnixMs,
    pub(super) top_up: TopUp,
    /// Percents of the monthly limit announced in this month.
    pub(super) announced: Vec<u32>,
    /// Nothing was left, and that was announced.
    pub(super) depleted: bool,
    /// What is available fell to the balance alert, and that was announced; or there is nothing to announce.
    pub(super) low: bool,
    /// As last announced.
    pub(super) tier: Tier,
    pub(super) oddities: Oddities,
    /// Changes taken, ever.
    pub(super) ops: u64,
    pub(super) events: Vec<Event>,
}

/// What should not happen, summed up over an account's life. The first two are the terms of the overspend bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oddities {
    /// Usage that no grant covered: after a reclaim, on emergency credit, or of a broken session.
    pub beyond_grant: Credit,
    /// Grants that a session knew and this pool had forgotten.
    pub readopted: Credit,
    /// Rights taken back from silent sessions.
    pub reaped: Credit,
}

/// A pool as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub account: Arc<str>,
    pub terms: Arc<Terms>,
    pub terms_version: u64,
    pub credits_promotional: Credit,
    pub credits_purchased: Credit,
    pub credit_version: u64,
    pub used: Credit,
    pub leased: Credit,
    /// The part of `leased` whose lease ended.
    pub limbo: Credit,
    pub balance: Credit,
    pub lifetime_paid: Credit,
    pub tier: Tier,
    pub month: Month,
    pub month_used: Credit,
    /// Months that ended, oldest first.
    pub months_past: Vec<(Month, Credit)>,
    /// The purchase key of an auto top-up in flight.
    pub topup_pending: Option<String>,
    pub oddities: Oddities,
    pub created: UnixMs,
}

/// What is lent to one session, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub session: SessionId,
    pub generation: u32,
    /// Lent, and not reported as used or given back.
    pub outstanding: Credit,
    /// As last reported.
    pub used: Credit,
    /// It may still be spent.
    pub is_live: bool,
    /// How long ago the lease was renewed last.
    pub heard: Duration,
}

impl Pool {
    /// An account without credits, its terms at version 1.
    pub fn new(account: Arc<str>, terms: Terms, rules: &PoolRules, now: UnixMs) -> Self {
        Self {
            account,
            created: now,
            now,
            tier: tier_of(&rules.tiers, &terms, Credit::ZERO),
            terms: Arc::new(terms),
            terms_version: 1,
            promotional: Credit::ZERO,
            purchased: Credit::ZERO,
            paid_before: Credit::ZERO,
            credit_version: 0,
            used: Credit::ZERO,
            leased: Credit::ZERO,
            retired: Credit::ZERO,
            months: Months::starting(Month::of(now)),
            sessions: BTreeMap::new(),
            starving_until: UnixMs(0),
            top_up: TopUp::default(),
            announced: Vec::new(),
            depleted: true,
            low: true,
            oddities: Oddities::default(),
            ops: 0,
            events: Vec::new(),
        }
    }

    /// Sets the credits that ever came in. Taken only if `version` is newer, so a repetition adds nothing.
    ///
    /// False where it was not newer. Refused where a total is negative or above [`Credit::MAX`].
    pub fn credit(
        &mut self,
        version: u64,
        promotional: Credit,
        purchased: Credit,
        rules: &PoolRules,
        now: UnixMs,
    ) -> Result<bool, Refusal> {
        self.credit_under("", version, (promotional, purchased), rules, now)
    }

    /// As [`Pool::credit`], with the purchase's id: the one that auto top-up asked for ends the need, even where a refund in
    /// between has left less than it was to bring.
    pub fn credit_under(
        &mut self,
        purchase_id: &str,
        version: u64,
        (promotional, purchased): (Credit, Credit),
        rules: &PoolRules,
        now: UnixMs,
    ) -> Result<bool, Refusal> {
        let bounds = Credit::ZERO..=Credit::MAX;
        if !bounds.contains(&promotional) || !bounds.contains(&purchased) {
            return Err(Refusal::Malformed("credits in"));
        }
        if version <= self.credit_version {
            return Ok(false);
        }
        self.tick(now, rules);
        // Only what is paid back lowers what was paid.
        self.paid_before = if purchased < self.purchased { Credit::ZERO } else { self.lifetime_paid() };
        (self.credit_version, self.promotional, self.purchased) = (version, promotional, purchased);
        self.top_up_credited(purchase_id);
        self.rearm_balance_alert();
        self.changed(rules);
        Ok(true)
    }

    /// Replaces the terms. Taken only if `version` is newer; false where it is not.
    ///
    /// `terms.monthly_limit` is the limit in force: whoever stores it has capped it by the account's tier.
    pub fn configure(&mut self, version: u64, terms: Terms, rules: &PoolRules, now: UnixMs) -> bool {
        if version <= self.terms_version {
            return false;
        }
        self.tick(now, rules);
        self.top_up.configured(&self.terms, &terms);
        let rearm = self.terms.balance_alert != terms.balance_alert;
        (self.terms_version, self.terms) = (version, Arc::new(terms));
        if rearm {
            self.rearm_balance_alert();
        }
        self.forget_unreached_thresholds(rules);
        self.changed(rules);
        true
    }

    /// Takes off what reservations pay for of the usage that these replies were told of.
    ///
    /// `used` and what is summed up in it without a record, `retired`, become less by it, so that everything else sees only
    /// what is billed. It comes before [`Pool::sync`] is told of the usage, so nothing is announced that is paid for.
    pub fn cover(&mut self, rates: &[Result<RateReply, Refusal>], rules: &PoolRules, now: UnixMs) -> bool {
        let covered = rates.iter().flatten().fold(Credit::ZERO, |sum, rate| sum.plus(rate.covered));
        if !covered.is_positive() {
            return false;
        }
        self.tick(now, rules);
        self.used = self.used.minus(covered);
        self.retired = self.retired.minus(covered);
        self.months.used = self.months.used.minus(covered);
        self.ops = self.ops.saturating_add(1);
        true
    }

    /// What happened since this was last called, for the outbox that is written together with the pool.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How the account stands at `now`.
    pub fn view(&self, now: UnixMs) -> View {
        let month_ended = self.months.current < Month::of(now);
        View {
            balance: self.balance(),
            promotional_gone: self.promotional <= self.used,
            lifetime_paid: self.lifetime_paid(),
            purchased: self.purchased.is_positive(),
            month_used: if month_ended { Credit::ZERO } else { self.months.used },
            topup_pending: self.top_up.pending.as_ref().map(|pending| elapsed(pending.since, now)),
        }
    }

    pub fn summary(&self, now: UnixMs) -> Summary {
        let month = self.months.current.max(Month::of(now));
        Summary {
            account: Arc::clone(&self.account),
            terms: Arc::clone(&self.terms),
            terms_version: self.terms_version,
            credits_promotional: self.promotional,
            credits_purchased: self.purchased,
            credit_version: self.credit_version,
            used: self.used,
            leased: self.leased,
            limbo: self.limbo(now),
            balance: self.balance(),
            lifetime_paid: self.lifetime_paid(),
            tier: self.tier,
            month,
            month_used: self.view(now).month_used,
            months_past: self.months.past.clone(),
            topup_pending: self.top_up.pending.as_ref().map(|pending| pending.key.clone()),
            oddities: self.oddities,
            created: self.created,
        }
    }

    /// What is lent to sessions that did not say *bye*, in order of session.
    pub fn leases(&self, now: UnixMs) -> Vec<Leased> {
        let spoken = self.sessions.iter().filter(|(_, record)| !record.is_closed());
        let leased = |((session, generation), record): (&Key, &Record)| Leased {
            session: session.clone(),
            generation: *generation,
            outstanding: record.outstanding(),
            used: record.used,
            is_live: record.is_live(now),
            heard: elapsed(earlier(record.expires, record.ttl), now),
        };
        spoken.map(leased).collect()
    }

    /// Rights lent to sessions whose lease ended: spent and not reported, or unspent; nobody can tell.
    pub fn limbo(&self, now: UnixMs) -> Credit {
        let silent = self.sessions.values().filter(|record| record.is_open() && !record.is_live(now));
        silent.fold(Credit::ZERO, |sum, record| sum.plus(record.outstanding()))
    }

    /// `K`: the most that may be used in all.
    pub(super) fn credits_and_line(&self) -> Credit {
        let line = self.terms.credit_line.clamp(Credit::ZERO, Credit::MAX);
        self.promotional.plus(self.purchased).plus(line)
    }

    pub(super) fn balance(&self) -> Credit {
        self.promotional.plus(self.purchased).minus(self.used)
    }

    /// What is not used and not lent.
    pub(super) fn available(&self) -> Credit {
        self.balance().minus(self.leased)
    }

    /// The greatest of what was paid before, what was purchased, and what was used beyond promotional credit.
    pub(super) fn lifetime_paid(&self) -> Credit {
        self.paid_before.max(self.purchased).max(self.used.minus(self.promotional))
    }

    /// What may be lent at all: the least of credit and the month's room. Negative where too much is out.
    pub(super) fn room(&self) -> Credit {
        if self.terms.suspension != Suspension::None {
            return Credit::ZERO;
        }
        let total = self.credits_and_line();
        let margin = if EXACT_MAX < total.max(self.used) { ROUNDING_MARGIN } else { Credit::ZERO };
        let money = total.minus(self.used).minus(self.leased).minus(margin);
        match self.pausing_limit() {
            Some(limit) => money.min(limit.minus(self.months.used).minus(self.leased)),
            None => money,
        }
    }

    /// The monthly limit, where it pauses and does not only alert.
    fn pausing_limit(&self) -> Option<Credit> {
        let limit = self.terms.monthly_limit?.clamp(Credit::ZERO, Credit::MAX);
        (self.terms.mode != Mode::Contract).then_some(limit)
    }

    /// Moves store time on, which never runs back, and turns the month.
    pub(super) fn tick(&mut self, now: UnixMs, rules: &PoolRules) {
        self.now = self.now.max(now);
        if self.months.roll(Month::of(self.now), rules.months_kept) {
            self.announced.clear();
            self.top_up.month_turned();
        }
    }

    pub(super) fn changed(&mut self, rules: &PoolRules) {
        self.ops = self.ops.saturating_add(1);
        self.announce(rules);
    }

    pub(super) fn emit(&mut self, what: Happening) {
        self.events.push(Event { at: self.now, account: Arc::clone(&self.account), what });
    }
}
