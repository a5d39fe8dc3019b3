//! One account's pool: credits in, terms, and what its sessions hold and used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::credits::{Credits, Lot};
use super::history::{Booking, Entry, Late, Receipt, money_changes};
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
    pub(super) credits: Credits,
    /// What had been paid when credits last changed, at least what was purchased: what comes in free of charge later takes
    /// none of it away.
    pub(super) paid: Credit,
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
    /// What the tier allows a postpaid account as its monthly limit.
    pub(super) limit_max: Option<Credit>,
    pub(super) oddities: Oddities,
    /// Changes taken, ever.
    pub(super) ops: u64,
    pub(super) late: Option<Late>,
    /// Lines of its history, ever.
    pub(super) history: u64,
    pub(super) entries: Vec<Entry>,
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
    /// Of each kind, promotional first.
    pub lots: Vec<Lot>,
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
    /// The monthly limit in force: for postpaid no more than the tier allows.
    pub month_limit: Option<Credit>,
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
        let tier = tier_of(&rules.tiers, &terms, Credit::ZERO);
        Self {
            account,
            created: now,
            now,
            tier,
            limit_max: limit_max(rules, tier),
            terms: Arc::new(terms),
            terms_version: 1,
            credits: Credits::default(),
            paid: Credit::ZERO,
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
            late: None,
            history: 0,
            entries: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Books what came in or goes back. Taken only if `version` is newer, so a repetition adds nothing.
    ///
    /// False where it was not newer. Refused where an account cannot have as much, or as little.
    pub fn book(&mut self, version: u64, receipt: Receipt, rules: &PoolRules, now: UnixMs) -> Result<bool, Refusal> {
        let credits = self.credits.with(receipt.kind, receipt.amount).ok_or(Refusal::Malformed("credits in"))?;
        if version <= self.credit_version {
            return Ok(false);
        }
        self.tick(now, rules);
        // Only what is paid back lowers what was paid, and by no more than that.
        let before = self.lifetime_paid().minus(credits.less_paid_than(&self.credits));
        (self.credit_version, self.credits, self.paid) = (version, credits, before.max(credits.paid()));
        self.keep(Booking::Credits(receipt));
        self.top_up_credited();
        self.rearm_balance_alert();
        self.changed(rules);
        Ok(true)
    }

    /// Replaces the terms. Taken only if `version` is newer; false where it is not.
    pub fn configure(&mut self, version: u64, terms: Terms, rules: &PoolRules, now: UnixMs) -> bool {
        if version <= self.terms_version {
            return false;
        }
        self.tick(now, rules);
        self.top_up.configured(&self.terms, &terms);
        if let Some(changes) = money_changes(&self.terms, &terms) {
            self.keep(Booking::Terms(changes));
        }
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
            promotional_gone: self.credits.given() <= self.used,
            lifetime_paid: self.lifetime_paid(),
            purchased: self.credits.purchased.is_positive(),
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
            credits_promotional: self.credits.promotional,
            credits_purchased: self.credits.purchased,
            lots: self.credits.lots(self.used),
            credit_version: self.credit_version,
            used: self.used,
            leased: self.leased,
            limbo: self.limbo(now),
            balance: self.balance(),
            lifetime_paid: self.lifetime_paid(),
            tier: self.tier,
            month,
            month_used: self.view(now).month_used,
            month_limit: self.limit_in_force(),
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
        self.credits.total().plus(line)
    }

    pub(super) fn balance(&self) -> Credit {
        self.credits.total().minus(self.used)
    }

    /// What is not used and not lent.
    pub(super) fn available(&self) -> Credit {
        self.balance().minus(self.leased)
    }

    /// The greatest of what was paid before, what was purchased, and what was used beyond credit free of charge.
    pub(super) fn lifetime_paid(&self) -> Credit {
        self.paid.max(self.used.minus(self.credits.given()))
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
        let limit = self.limit_in_force()?.clamp(Credit::ZERO, Credit::MAX);
        (self.terms.mode != Mode::Contract).then_some(limit)
    }

    /// The account's own monthly limit, and for postpaid no more than the tier allows.
    pub(super) fn limit_in_force(&self) -> Option<Credit> {
        let most = self.limit_max.filter(|_| self.terms.mode == Mode::Postpaid);
        self.terms.monthly_limit.into_iter().chain(most).min()
    }

    /// Moves store time on, which never runs back, and turns the month.
    pub(super) fn tick(&mut self, now: UnixMs, rules: &PoolRules) {
        self.now = self.now.max(now);
        self.keep_late_if_due();
        let (month, used) = (self.months.current, self.months.used);
        if self.months.roll(Month::of(self.now), rules.months_kept) {
            if used != Credit::ZERO {
                self.keep(Booking::Month { month, used });
            }
            self.announced.clear();
            self.top_up.month_turned();
        }
    }

    pub(super) fn changed(&mut self, rules: &PoolRules) {
        self.ops = self.ops.saturating_add(1);
        self.announce(rules);
    }

    pub(super) fn emit(&mut self, what: Happening) {
        if what.is_kept() {
            self.keep(Booking::Happened(what.clone()));
        }
        self.events.push(Event { at: self.now, account: Arc::clone(&self.account), what });
    }
}

/// What a tier allows a postpaid account as its monthly limit.
pub(super) fn limit_max(rules: &PoolRules, tier: Tier) -> Option<Credit> {
    rules.tiers.iter().find(|rule| rule.tier == tier)?.monthly_limit_max
}
