//! Auto top-up: one purchase for each need.
//!
//! The purchase's key is a function of the pool's state, so whoever notices the same need, again or after a store forgot
//! its last second, asks for the same purchase.

use serde::{Deserialize, Serialize};

use super::account::Pool;
use super::message::{Happening, Wanted};
use super::rules::PoolRules;
use super::when::{elapsed, later};
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{Suspension, Terms, TopUpTerms};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopUp {
    pub pending: Option<Pending>,
    /// Purchases that were declined since credits last came in; part of the key.
    pub attempt: u32,
    /// Declines since credits last came in or the terms of payment changed; tells the wait.
    pub declines: u32,
    /// Not before this.
    pub retry_at: UnixMs,
    /// In this month.
    pub bought: Credit,
}

/// A purchase that was asked for and not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub key: String,
    pub since: UnixMs,
    pub amount: Credit,
    /// The purchased total that shows it was made.
    pub done_at: Credit,
}

impl TopUp {
    /// A change in how the account pays starts the waits anew; turning auto top-up off forgets what is in flight.
    pub fn configured(&mut self, old: &Terms, new: &Terms) {
        let pays = |terms: &Terms| (terms.top_up, terms.payment_method, terms.suspension);
        if pays(old) != pays(new) {
            (self.declines, self.retry_at) = (0, UnixMs(0));
        }
        if new.top_up.is_none() {
            self.pending = None;
        }
    }

    pub fn month_turned(&mut self) {
        self.bought = Credit::ZERO;
    }
}

impl Pool {
    /// Ends the pending purchase where it was made, or as much was bought. A smaller purchase by hand leaves it in flight, and so
    /// does what is no purchase, whatever its id.
    pub(super) fn top_up_credited(&mut self) {
        let purchased = self.credits.purchased;
        let is_made = |pending: &mut Pending| pending.done_at <= purchased;
        let Some(pending) = self.top_up.pending.take_if(is_made) else {
            return;
        };
        let bought = self.top_up.bought.plus(pending.amount).min(Credit::MAX);
        self.top_up = TopUp { bought, ..TopUp::default() };
        self.emit(Happening::TopUpSucceeded { key: pending.key, amount: pending.amount });
    }

    /// The purchase under `key` was declined. False where another one, or none, is pending.
    ///
    /// The next attempt waits longer; when no wait is left, auto top-up ends and the account is `failed_payments`.
    pub fn top_up_failed(&mut self, key: &str, rules: &PoolRules, now: UnixMs) -> bool {
        let Some(pending) = self.top_up.pending.take_if(|pending| pending.key == key) else {
            return false;
        };
        self.tick(now, rules);
        let wait = usize::try_from(self.top_up.declines).ok().and_then(|declines| rules.top_up_waits.get(declines));
        self.top_up.attempt = self.top_up.attempt.saturating_add(1);
        self.top_up.declines = self.top_up.declines.saturating_add(1);
        let retry_at = wait.map(|wait| later(self.now, *wait));
        let (amount, declines) = (pending.amount, self.top_up.declines);
        self.emit(Happening::TopUpFailed { key: pending.key, amount, declines, retry_at });
        match retry_at {
            Some(retry_at) => self.top_up.retry_at = retry_at,
            None => self.suspend_for_failed_payments(),
        }
        self.changed(rules);
        true
    }

    /// The purchase in flight, asked for anew where the wait after a decline is over.
    pub fn look_at_top_up(&mut self, rules: &PoolRules, now: UnixMs) -> Option<Wanted> {
        self.tick(now, rules);
        self.announce(rules);
        let (account, attempt, now) = (self.account.clone(), self.top_up.attempt, self.now);
        let wanted = |Pending { key, since, amount, .. }: &Pending| Wanted {
            account,
            key: key.clone(),
            amount: *amount,
            attempt,
            age: elapsed(*since, now),
        };
        self.top_up.pending.as_ref().map(wanted)
    }

    /// When a declined purchase may be asked for again; `None` where it will not be.
    pub fn top_up_retry_at(&self) -> Option<UnixMs> {
        let is_over = self.top_up.pending.is_some() || self.top_up.declines == 0 || self.top_up_terms().is_none();
        (!is_over).then_some(self.top_up.retry_at)
    }

    /// Asks for a purchase where what is available has fallen to the minimum and none is in flight.
    pub(super) fn request_top_up(&mut self, rules: &PoolRules) {
        let Some(terms) = self.top_up_terms().filter(|terms| self.needs_top_up(terms, rules)) else {
            return;
        };
        let amount = terms.amount;
        let key = format!("{}.{}.{}", self.account, self.credit_version, self.top_up.attempt);
        let done_at = self.credits.purchased.plus(amount);
        self.top_up.pending = Some(Pending { key: key.clone(), since: self.now, amount, done_at });
        self.emit(Happening::TopUpNeeded { key, amount });
    }

    /// The terms of auto top-up, where it can buy at all.
    fn top_up_terms(&self) -> Option<TopUpTerms> {
        let able = self.terms.payment_method && self.terms.suspension == Suspension::None;
        self.terms.top_up.filter(|terms| able && Credit::ZERO < terms.amount && terms.amount <= Credit::MAX)
    }

    fn needs_top_up(&self, terms: &TopUpTerms, rules: &PoolRules) -> bool {
        let capped = terms.monthly_cap.is_some_and(|cap| cap < self.top_up.bought.plus(terms.amount));
        self.top_up.pending.is_none()
            && self.top_up.retry_at <= self.now
            && !capped
            && self.available() <= terms.minimum.max(rules.dust)
    }

    fn suspend_for_failed_payments(&mut self) {
        let terms = std::sync::Arc::make_mut(&mut self.terms);
        terms.suspension = Suspension::FailedPayments;
        terms.top_up = None;
        self.terms_version = self.terms_version.saturating_add(1);
        self.emit(Happening::Suspended { why: Suspension::FailedPayments });
    }
}
