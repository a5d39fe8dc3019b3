//! Sums over all accounts, for metrics, and usage that no pool would take.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lease::sum;
use super::shard::{Rules, Shard};
use crate::clock::Time;
use crate::decision::Credit;

/// Dead letters kept for the log, in each shard; further ones are only counted.
const DEAD_LETTERS_MAX: usize = 256;

/// Sums over all accounts, for metrics. Never by account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub accounts: u64,
    /// Users with a cap; no other number here counts them.
    pub users: u64,
    pub holds_open: u64,
    pub holds_ended: u64,
    pub held: Credit,
    /// Rights of live leases, holds taken off.
    pub leased_free: Credit,
    /// Emergency credit promised since the pools were last heard.
    pub emergency: Credit,
    /// Names remembered because the store did not know them.
    pub unknown: u64,
    /// Counters, ever.
    pub expired: u64,
    pub overrun: Credit,
    pub late_settles: u64,
    /// Replies that showed another process speaking for this session.
    pub clones: u64,
    /// Requests that a pool found malformed: a bug here or there.
    pub malformed: u64,
    /// Times that a store was found to have forgotten.
    pub forgotten: u64,
    /// Usage that was booked nowhere, because a store had retired the session.
    pub dead_letters: u64,
    pub dead_letters_cost: Credit,
}

/// Usage that was booked nowhere: the pool had retired this session's record for the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub account: Arc<str>,
    pub cost: Credit,
}

/// Counters of one shard, ever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) expired: u64,
    pub(super) overrun: Credit,
    pub(super) late_settles: u64,
    pub(super) clones: u64,
    pub(super) malformed: u64,
    pub(super) forgotten: u64,
    dead_letters: u64,
    dead_letters_cost: Credit,
}

impl Counters {
    pub(super) fn count_overrun(&mut self, overrun: Credit) {
        self.overrun = sum(self.overrun, overrun);
    }
}

impl Shard {
    pub(super) fn count_dead_letter(&mut self, account: Arc<str>, cost: Credit) {
        self.counters.dead_letters = self.counters.dead_letters.saturating_add(1);
        self.counters.dead_letters_cost = sum(self.counters.dead_letters_cost, cost);
        if self.dead_letters.len() < DEAD_LETTERS_MAX {
            self.dead_letters.push(DeadLetter { account, cost });
        }
    }

    pub(super) fn add_counters_to(&self, totals: &mut Totals) {
        let add = |one: &mut u64, other: u64| *one = one.saturating_add(other);
        let counters = &self.counters;
        add(&mut totals.holds_open, u64::try_from(self.open.here()).unwrap_or(u64::MAX));
        add(&mut totals.holds_ended, u64::try_from(self.ended.here()).unwrap_or(u64::MAX));
        add(&mut totals.expired, counters.expired);
        add(&mut totals.late_settles, counters.late_settles);
        add(&mut totals.clones, counters.clones);
        add(&mut totals.malformed, counters.malformed);
        add(&mut totals.forgotten, counters.forgotten);
        add(&mut totals.dead_letters, counters.dead_letters);
        add(&mut totals.unknown, u64::try_from(self.strangers.len()).unwrap_or(u64::MAX));
        totals.overrun = sum(totals.overrun, counters.overrun);
        totals.dead_letters_cost = sum(totals.dead_letters_cost, counters.dead_letters_cost);
    }

    /// Adds what these accounts have.
    pub(super) fn add_accounts_to(&self, totals: &mut Totals, piece: Range<u32>, now: Time) {
        let accounts = piece.filter_map(|index| self.accounts.get(index));
        for account in accounts.filter(|account| !account.is_user()) {
            totals.held = sum(totals.held, account.lease.held);
            totals.leased_free = sum(totals.leased_free, account.lease.free(now));
            totals.emergency = sum(totals.emergency, account.rare().emergency);
        }
    }
}

impl Totals {
    pub(super) fn of_all(rules: &Rules) -> Self {
        let count = |count: &std::sync::atomic::AtomicUsize| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        let users = count(&rules.users);
        Self { accounts: count(&rules.accounts).saturating_sub(users), users, ..Self::default() }
    }
}
