//! Accounts behind one lock, with their holds and everything of them that waits for a time.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::LedgerSettings;
use super::account::{Account, Refused, Seen};
use super::due::{due_at, is_idle_by, period};
use super::holds::{HoldRef, Holds};
use super::pages::Pages;
use super::strangers::Strangers;
use super::tally::Tally;
use super::totals::{Counters, DeadLetter};
use super::wheel::Wheel;
use crate::clock::{Now, Time};
use crate::decision::Catalogue;
use crate::decision::terms::Terms;
use crate::pool::{SessionId, account_of, user_in, user_of};

/// Different terms that a shard keeps one copy of each. Most accounts share a handful.
const TERMS_MAX: usize = 128;

/// What all shards share: settings, and counts that bound the whole.
pub(super) struct Rules {
    pub(super) settings: LedgerSettings,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) session: SessionId,
    pub(super) hasher: foldhash::fast::RandomState,
    /// Accounts and users.
    pub(super) accounts: AtomicUsize,
    /// Users with a cap.
    pub(super) users: AtomicUsize,
    /// Accounts that are not loaded; at most as many as unknown names are remembered.
    pub(super) strangers: AtomicUsize,
    pub(super) holds_open: AtomicUsize,
    pub(super) holds_ended: AtomicUsize,
    /// How often every account has had to be declared, because a store forgot.
    pub(super) declared: AtomicU32,
    /// Emergency credit promised, in nano-USD, over all accounts, since their pools were last heard.
    pub(super) emergency_nanos: AtomicU64,
}

/// Where an account is, with half the hash of its name: a table that grows while everybody waits reads no account for it.
#[derive(Clone, Copy)]
struct Slot {
    half: u32,
    index: u32,
}

pub(super) struct Shard {
    table: hashbrown::HashTable<Slot>,
    pub(super) accounts: Pages<Account>,
    pub(super) holds: Holds,
    pub(super) open: Tally,
    pub(super) ended: Tally,
    /// New holds, in the order of their admission, with the second in which to look at them first.
    pub(super) deadlines_first: VecDeque<(u64, HoldRef)>,
    /// Holds that were open then, by the second in which to look at them again.
    pub(super) deadlines: Wheel<HoldRef>,
    /// Accounts for which somebody waits, or soon will; those in use, by the turn at which they have something to say; those that
    /// are idle by then; and those that wait to be loaded.
    pub(super) due_urgent: VecDeque<u32>,
    pub(super) due: Wheel<u32>,
    pub(super) due_idle: Wheel<u32>,
    pub(super) due_new: Wheel<u32>,
    pub(super) strangers: Strangers,
    terms: VecDeque<Arc<Terms>>,
    pub(super) counters: Counters,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Where the last search for accounts that did not say *bye* ended.
    pub(super) bye_from: u32,
}

impl Rules {
    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Where a user stands in the table, from where the account does: without putting their names together.
    pub(super) fn hash_user(&self, account: u64, user: &str) -> u64 {
        self.hasher.hash_one((account, user))
    }

    /// Where an account or a user stands in the table.
    pub(super) fn hash_entry(&self, name: &str) -> u64 {
        let account = self.hash(account_of(name));
        user_of(name).map_or(account, |user| self.hash_user(account, user))
    }

    /// Takes one of at most `max` places.
    pub(super) fn take_place(count: &AtomicUsize, max: usize) -> bool {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < max).then(|| taken.saturating_add(1)))
            .is_ok()
    }

    pub(super) fn leave_place(count: &AtomicUsize) {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shard {
    /// One of so many `shards`.
    pub(super) fn new(settings: &LedgerSettings, shards: usize) -> Self {
        let share = settings.unknown_max.checked_div(shards).unwrap_or(0);
        Self {
            table: hashbrown::HashTable::new(),
            accounts: Pages::new(),
            holds: Holds::new(),
            open: Tally::new(settings.holds_max, shards),
            ended: Tally::new(settings.ended_max, shards),
            deadlines_first: VecDeque::new(),
            deadlines: Wheel::new(),
            due_urgent: VecDeque::new(),
            due: Wheel::new(),
            due_idle: Wheel::new(),
            due_new: Wheel::new(),
            strangers: Strangers::new(share, settings.unknown_keep),
            terms: VecDeque::new(),
            counters: Counters::default(),
            dead_letters: Vec::new(),
            bye_from: 0,
        }
    }

    pub(super) fn find(&self, rules: &Rules, name: &str) -> Option<u32> {
        self.find_hashed(rules.hash(name), name)
    }

    /// As [`Shard::find`], also for a user.
    pub(super) fn find_entry(&self, rules: &Rules, name: &str) -> Option<u32> {
        self.find_hashed(rules.hash_entry(name), name)
    }

    pub(super) fn find_user(&self, hash: u64, account: &str, user: &str) -> Option<u32> {
        self.find_named(hash, |name| user_in(name, account) == Some(user))
    }

    pub(super) fn find_hashed(&self, hash: u64, name: &str) -> Option<u32> {
        self.find_named(hash, |other| *other == *name)
    }

    fn find_named(&self, hash: u64, is_named: impl Fn(&str) -> bool) -> Option<u32> {
        let half = half_of(hash);
        let is_it =
            |slot: &Slot| slot.half == half && self.account(slot.index).is_some_and(|account| is_named(&account.name));
        self.table.find(table_hash(half), is_it).map(|slot| slot.index)
    }

    pub(super) fn account(&self, index: u32) -> Option<&Account> {
        self.accounts.get(index)
    }

    /// The terms of a loaded account, and how it stands.
    pub(super) fn terms_and_view(&self, rules: &Rules, name: &str) -> Option<(Arc<Terms>, Seen)> {
        let account = self.account(self.find(rules, name)?)?;
        account.terms.as_ref().map(|terms| (Arc::clone(terms), account.view))
    }

    pub(super) fn account_mut(&mut self, index: u32) -> Option<&mut Account> {
        self.accounts.get_mut(index)
    }

    /// The account, as a stranger that waits to be loaded if it is new; `None` where there is no place for it.
    pub(super) fn find_or_add(&mut self, rules: &Rules, hash: u64, name: &str, now: Now) -> Option<u32> {
        if let Some(index) = self.find_hashed(hash, name) {
            return Some(index);
        }
        if !Rules::take_place(&rules.strangers, rules.settings.unknown_max) {
            return None;
        }
        if !Rules::take_place(&rules.accounts, rules.settings.accounts_max) {
            Rules::leave_place(&rules.strangers);
            return None;
        }
        Some(self.add(rules, hash, name, now))
    }

    /// Puts in an account or a user that is not known yet.
    pub(super) fn add(&mut self, rules: &Rules, hash: u64, name: &str, now: Now) -> u32 {
        let mut account = Account::new(name, now);
        account.declared = rules.declared.load(Ordering::Relaxed);
        let index = self.accounts.insert(account);
        let half = half_of(hash);
        self.table.insert_unique(table_hash(half), Slot { half, index }, |slot| table_hash(slot.half));
        index
    }

    /// Sees to it that an account is asked for. False where the store did not know it a moment ago.
    pub(super) fn want(&mut self, rules: &Rules, hash: u64, name: &str, now: Now) -> bool {
        if self.strangers.contains(name, now.time) {
            return false;
        }
        let Some(index) = self.find_or_add(rules, hash, name, now) else { return false };
        if let Some(account) = self.account_mut(index) {
            account.note_use(now.time);
        }
        self.reschedule(rules, index, now.time);
        true
    }

    /// Somebody changed the account in the store: what was refused or unknown may be otherwise now.
    pub(super) fn touch(&mut self, rules: &Rules, name: &str, now: Time) -> bool {
        self.strangers.forget(name);
        let Some(index) = self.find(rules, name) else { return false };
        if let Some(account) = self.account_mut(index) {
            account.ask_anew();
            account.change_rare(|rare| rare.refusal = Refused::default());
        }
        self.reschedule(rules, index, now);
        true
    }

    /// Looks again at when each of these accounts has something to say.
    pub(super) fn wake(&mut self, rules: &Rules, piece: Range<u32>, now: Time) {
        for index in piece {
            self.reschedule(rules, index, now);
        }
    }

    pub(super) fn remove(&mut self, rules: &Rules, index: u32) {
        let Some(account) = self.accounts.remove(index) else { return };
        assert!(account.open == 0, "holds name their account by its place");
        let hash = table_hash(half_of(rules.hash_entry(&account.name)));
        if let Ok(entry) = self.table.find_entry(hash, |slot| slot.index == index) {
            entry.remove();
        }
        if account.is_user() {
            Rules::leave_place(&rules.users);
        }
        if account.terms.is_none() {
            Rules::leave_place(&rules.strangers);
        }
        Rules::leave_place(&rules.accounts);
    }

    /// One copy of equal terms.
    pub(super) fn share(&mut self, terms: Arc<Terms>) -> Arc<Terms> {
        if let Some(known) = self.terms.iter().find(|known| **known == terms) {
            return Arc::clone(known);
        }
        self.terms.truncate(TERMS_MAX.saturating_sub(1));
        self.terms.push_front(Arc::clone(&terms));
        terms
    }

    /// As [`Shard::reschedule`], after an admission or an end. They make nothing due earlier than a period from now, unless
    /// there is something to be said at once, or rights or tokens were taken (`took`) and run low now; so an account in use is
    /// looked at once in a period, and not with every request.
    pub(super) fn reschedule_used(&mut self, rules: &Rules, index: u32, took: bool, now: Time) {
        let Some(account) = self.accounts.get(index) else { return };
        let soon = last_turn_of(now.after(period(account, rules)));
        let is_due_soon = account.due <= soon && !is_of_idle(account.due);
        if !account.is_in_flight() && (!is_due_soon || account.touched || (took && account.runs_low(now))) {
            self.reschedule(rules, index, now);
        }
    }

    /// Puts an account into the due list, at the time when it has something to say.
    pub(super) fn reschedule(&mut self, rules: &Rules, index: u32, now: Time) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        if account.due == AT_ONCE {
            return;
        }
        let Some(at) = due_at(account, rules, now) else { return };
        let is_idle = is_idle_by(at, account, rules);
        let turn = if at <= now && !is_idle { AT_ONCE } else { turn_after(at, is_idle) };
        // One that is used again leaves the idle ones, however long their turn is overdue.
        if turn < account.due || (is_of_idle(account.due) && !is_idle) {
            account.due = turn;
            match (account.terms.is_some(), is_idle) {
                (false, _) => self.due_new.push(turn, index),
                (true, true) => self.due_idle.push(turn, index),
                (true, false) if turn == AT_ONCE => self.due_urgent.push_back(index),
                (true, false) => self.due.push(turn, index),
            }
        }
    }
}

/// The half that says nothing of the shard: that is chosen by the other one.
fn half_of(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// A table looks at the lowest and the highest bits.
fn table_hash(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The turn of what is due now: somebody waits for it, or soon will.
pub(super) const AT_ONCE: u64 = 0;

/// Turns of the due lists: two for each 17 ms or so, an even one for accounts in use and an odd one for idle ones, so that a turn
/// names its list.
const fn turns_before(time: Time) -> u64 {
    (time.nanos() >> 24).saturating_mul(2)
}

/// The last turn that has come at `time`.
pub(super) const fn last_turn_of(time: Time) -> u64 {
    turns_before(time).saturating_add(1)
}

const fn is_of_idle(turn: u64) -> bool {
    turn % 2 == 1
}

/// The first turn that comes after `time`.
fn turn_after(time: Time, is_idle: bool) -> u64 {
    turns_before(time).saturating_add(2).saturating_add(u64::from(is_idle))
}
