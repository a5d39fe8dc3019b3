//! Money lent to this session for one account: cumulative counters, and the month they are counted in.

use std::time::Duration;

use super::account::Counted;
use super::compact::Millis;
use crate::clock::{Now, Time};
use crate::decision::{Credit, Month};

/// The most usage that one record can be told of, below 2^50 nano-USD; the rest goes to the next generation.
const TOLD_MAX: Credit = Credit::from_nanos((1 << 50) - 1);

/// The counters of one session record. All of them only grow within a generation.
///
/// What always holds: what is promised here, `used + held`, stays within `granted - returned - reclaimed`, except for
/// tokens that were generated beyond their hold and for emergency credit; both are counted.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) generation: u32,
    /// Of the newest request that was sent.
    pub(super) seq: u32,
    pub(super) granted: Credit,
    pub(super) used: Credit,
    pub(super) returned: Credit,
    pub(super) reclaimed: Credit,
    /// Promised to running requests.
    pub(super) held: Credit,
    /// Rights may be promised only before this point.
    pub(super) until: Time,
    pub(super) ttl: Millis,
    /// When the newest reply was taken; the origin before there was one in this generation.
    answered: Time,
    /// When the newest request was sent.
    pub(super) asked: Time,
    pub(super) month: Month,
    pub(super) month_end: Time,
    /// The part of `used` that belongs to months before `month`.
    pub(super) used_before: Credit,
    /// `used` as it was in the request that the account's view answers.
    pub(super) used_answered: Credit,
    /// The part of it that belongs to `month`.
    pub(super) month_answered: Credit,
}

impl Lease {
    /// A record that was never spoken of. Generations follow the clock, so that a forgotten one never comes back.
    pub(super) fn new(now: Now) -> Self {
        let month = Month::of(now.unix);
        Self {
            generation: generation_at(now.time),
            seq: 0,
            granted: Credit::ZERO,
            used: Credit::ZERO,
            returned: Credit::ZERO,
            reclaimed: Credit::ZERO,
            held: Credit::ZERO,
            until: Time::default(),
            ttl: Millis::ZERO,
            answered: Time::default(),
            asked: Time::default(),
            month,
            month_end: now.time.after(Duration::from_millis(month.end().0.saturating_sub(now.unix.0))),
            used_before: Credit::ZERO,
            used_answered: Credit::ZERO,
            month_answered: Credit::ZERO,
        }
    }

    /// When the newest reply was taken; `None` before there was one in this generation.
    pub(super) fn answered(&self) -> Option<Time> {
        (self.answered != Time::default()).then_some(self.answered)
    }

    /// Takes a reply to what was sent at `sent`: from then on a lease lives.
    pub(super) fn hear(&mut self, granted: Credit, reclaimed: Credit, ttl: Duration, sent: Time, now: Time) {
        self.granted = self.granted.max(granted);
        self.reclaimed = self.reclaimed.max(reclaimed);
        self.ttl = Millis::of(ttl);
        self.until = sent.after(ttl);
        self.answered = now;
    }

    pub(super) fn is_live(&self, now: Time) -> bool {
        now < self.until
    }

    /// Rights that no hold occupies, live or not; zero after an overrun.
    pub(super) fn unheld(&self) -> Credit {
        let rights = self.granted.minus(self.returned).minus(self.reclaimed).minus(self.used);
        rights.minus(self.held).at_least_zero()
    }

    /// Rights that may be promised now.
    pub(super) fn free(&self, now: Time) -> Credit {
        if self.is_live(now) { self.unheld() } else { Credit::ZERO }
    }

    /// Spent by this session and not yet in the account's view.
    pub(super) fn unreported(&self) -> Credit {
        self.used.minus(self.used_answered)
    }

    /// Spent in this month.
    pub(super) fn month_used(&self) -> Credit {
        self.used.minus(self.used_before)
    }

    /// Spent in this month and not yet in the account's view.
    pub(super) fn month_unreported(&self) -> Credit {
        self.month_used().minus(self.month_answered).at_least_zero()
    }

    /// Books what a request of `month` cost.
    pub(super) fn book(&mut self, cost: Credit, month: Month) {
        self.used = sum(self.used, cost);
        if month < self.month {
            self.used_before = sum(self.used_before, cost);
        }
    }

    /// Gives free rights back; they are not ours from here on.
    pub(super) fn give_back(&mut self, rights: Credit) {
        assert!(rights <= self.unheld(), "only rights that no hold occupies are given back");
        self.returned = self.returned.plus(rights);
    }

    /// Enters the month that holds `now`. True where it is another one.
    pub(super) fn roll_over(&mut self, now: Time) -> bool {
        let month = self.month;
        while now >= self.month_end {
            let next = self.month.next();
            let length = Duration::from_millis(next.end().0.saturating_sub(next.start().0));
            self.enter(next, self.month_end.after(length.max(Duration::from_secs(1))));
        }
        self.month > month
    }

    /// Enters `month`: all that was used so far belongs to months before it.
    pub(super) fn enter(&mut self, month: Month, end: Time) {
        self.month = month;
        self.month_end = end;
        self.used_before = self.used;
        self.month_answered = Credit::ZERO;
    }

    /// Usage as it is to be told now.
    pub(super) fn counted(&self) -> Counted {
        let used = self.used.min(TOLD_MAX);
        Counted { used, used_before: self.used_before.min(used), month: self.month }
    }

    /// Opens a new record that starts with what was used since `told`.
    pub(super) fn reopen_after(&mut self, told: Counted, now: Time) {
        let used = self.used.minus(told.used);
        let before = if told.month == self.month { told.used_before } else { told.used };
        let used_before = self.used_before.minus(before).at_least_zero().min(used);
        self.reopen(used, used_before, now);
    }

    /// Opens a new record that starts with usage the old one never heard of.
    pub(super) fn reopen(&mut self, used: Credit, used_before: Credit, now: Time) {
        self.generation = self.generation.saturating_add(1).max(generation_at(now));
        self.seq = 0;
        self.granted = Credit::ZERO;
        self.returned = Credit::ZERO;
        self.reclaimed = Credit::ZERO;
        self.used = used;
        self.used_before = used_before;
        self.used_answered = Credit::ZERO;
        self.month_answered = Credit::ZERO;
        self.until = Time::default();
        self.answered = Time::default();
    }
}

/// Seconds on this session's clock, from 1: later is greater, also for an account that was forgotten in between.
pub(super) fn generation_at(now: Time) -> u32 {
    u32::try_from(now.seconds()).unwrap_or(u32::MAX).saturating_add(1)
}

/// A sum that stops at the ends of the number: booked usage comes from outside and must never panic.
pub(super) fn sum(one: Credit, other: Credit) -> Credit {
    let most = Credit::MAX.nanos();
    Credit::from_nanos(one.nanos().saturating_add(other.nanos()).clamp(most.saturating_neg(), most))
}
