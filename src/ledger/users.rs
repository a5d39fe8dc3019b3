//! Users with a spend cap: entries beside their account, under the same lock, each with a lease of its own.
//!
//! A request of such a user needs rights of both and is charged to both, all or nothing. A user without a cap has no entry
//! and costs nothing.

use std::sync::Arc;

use super::account::{Account, Refused};
use super::check::Question;
use super::compact::Place;
use super::lease::{Lease, sum};
use super::shard::{Rules, Shard};
use crate::clock::{Now, Time};
use crate::decision::standing::UserStanding;
use crate::decision::terms::{ReclaimMode, Terms};
use crate::decision::{Charge, Credit, Demand, Month, Short};
use crate::pool::message::UserCap;
use crate::pool::{pool_of_user, user_of};

/// Who asks, as far as a cap goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// Nobody with a cap.
    Uncapped,
    User(Place),
    /// A user with a cap, for whom there is no place here.
    Crowded,
}

/// Who pays, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Payer<'a> {
    pub(super) account: &'a str,
    /// Of the account's name.
    pub(super) hash: u64,
    pub(super) user: Option<&'a str>,
}

/// What an entry takes over from its account.
struct Parent {
    terms: Arc<Terms>,
    version: u64,
    month: Month,
    month_end: Time,
}

impl Shard {
    /// The entry of the user who asks, made if it is new, as the account's newest terms have it.
    pub(super) fn asker(&mut self, rules: &Rules, index: u32, payer: Payer<'_>, now: Now) -> Asker {
        let Some(user) = payer.user else { return Asker::Uncapped };
        let terms = self.account(index).and_then(|account| account.terms.as_deref());
        let caps = terms.and_then(|terms| terms.user_caps.as_deref());
        if caps.and_then(|caps| caps.in_force(user)).is_none() {
            return Asker::Uncapped;
        }
        let hash = rules.hash_user(payer.hash, user);
        let known = self.find_user(hash, payer.account, user);
        let Some(place) = known.or_else(|| self.add_user(rules, hash, pool_of_user(payer.account, user), now)) else {
            return Asker::Crowded;
        };
        self.follow_parent(place, index, now.time);
        Asker::User(Place::of(place))
    }

    /// How the user of a hold, or one who asks, stands.
    pub(super) fn user_standing(&mut self, place: Place, demand: &Demand, now: Time) -> Option<UserStanding> {
        let user = self.account_mut(place.index())?;
        user.roll_over(now);
        user.stand_as_user(demand, now)
    }

    /// How a check would find the user who asks, and what the user's pool could lend; nothing is touched.
    pub(super) fn look_at_user(
        &self,
        rules: &Rules,
        account: &Account,
        question: Question<'_>,
        now: Now,
    ) -> Option<(UserStanding, Credit)> {
        let user = question.ask.user?;
        let cap = account.terms.as_deref()?.user_caps.as_deref()?.in_force(user)?;
        let known = self.find_user(rules.hash_user(question.hash, user), question.ask.account, user);
        let mut entry = match known.and_then(|place| self.account(place)) {
            Some(entry) => entry.clone(),
            // Of somebody who was not seen here nothing is known; all of the cap may be left.
            None => {
                let mut entry = Account::new(&pool_of_user(question.ask.account, user), now);
                entry.available = cap;
                entry
            }
        };
        entry.follow(Parent::of(account)?, now.time);
        Some((entry.stand_as_user(question.demand, now.time)?, entry.available))
    }

    /// Brings a hold's user up to what the account's terms say by now, and into the account's month.
    pub(super) fn follow_parent(&mut self, user: u32, account: u32, now: Time) {
        if let Some(parent) = self.account_mut(account) {
            parent.roll_over(now);
        }
        let (Some(beside), Some(parent)) = (self.account(user), self.account(account)) else { return };
        if beside.follows(parent) {
            return;
        }
        let Some(parent) = Parent::of(parent) else { return };
        if let Some(user) = self.account_mut(user) {
            user.follow(parent, now);
        }
    }

    /// Notes what a request lacks of its user's rights, so that the next message asks for it.
    pub(super) fn user_awaits(
        &mut self,
        rules: &Rules,
        place: Option<Place>,
        demand: &Demand,
        short: Short,
        now: Time,
    ) {
        let Some(place) = place.filter(|_| short.user.is_positive()) else { return };
        if let Some(user) = self.account_mut(place.index()) {
            // A request is never made smaller for a cap's sake: less than all of it is of no use.
            let whole = Demand { capped: false, ..*demand };
            user.await_pool(&whole, Short { need: short.user, ..Short::default() }, now);
        }
        self.reschedule(rules, place.index(), now);
    }

    /// A permanent denial of a user stands on what its pool last said: where that is old, it is heard again.
    pub(super) fn doubt_user(&mut self, rules: &Rules, place: Option<Place>, now: Time) {
        let Some(place) = place else { return };
        if let Some(user) = self.account_mut(place.index()).filter(|user| user.is_stale(rules, now)) {
            user.touched = true;
            self.reschedule(rules, place.index(), now);
        }
    }

    /// Takes credit of the user for an admitted ask, whose hold is counted.
    pub(super) fn open_for_user(&mut self, rules: &Rules, place: Place, charge: &Charge, now: Time) {
        let user = self.user_mut(place);
        user.open = user.open.saturating_add(1);
        self.take_of_user(rules, place, charge, now);
    }

    /// Takes credit of the user for an admitted ask or an extension.
    pub(super) fn take_of_user(&mut self, rules: &Rules, place: Place, charge: &Charge, now: Time) {
        let user = self.user_mut(place);
        if charge.shadow.is_none() {
            user.lease.held = sum(user.lease.held, charge.cost);
            user.cost_recent = charge.cost.into();
        }
        user.note_use(now);
        user.assert_invariants();
        self.reschedule_used(rules, place.index(), true, now);
    }

    /// Ends what a request held of its user, and books what it cost.
    pub(super) fn end_for_user(&mut self, rules: &Rules, place: Place, held: Credit, cost: (Credit, Month), now: Time) {
        let keep = rules.settings.ended_keep;
        let user = self.user_mut(place);
        user.lease.held = user.lease.held.minus(held);
        user.open = user.open.checked_sub(1).expect("every open hold of a user is counted");
        user.remember_until(now.after(keep));
        self.book_for_user(rules, place, cost, now);
    }

    /// Books what a request cost, or what it cost more than was booked before.
    pub(super) fn book_for_user(&mut self, rules: &Rules, place: Place, (cost, month): (Credit, Month), now: Time) {
        let user = self.user_mut(place);
        user.roll_over(now);
        user.lease.book(cost, month);
        user.note_use(now);
        user.assert_invariants();
        // It may have overrun what was held.
        self.reschedule_used(rules, place.index(), true, now);
    }

    /// Books usage of a request that has no hold here: all of it may lie beyond what the user's pool lent.
    pub(super) fn book_without_hold(
        &mut self,
        rules: &Rules,
        (index, user): (u32, Option<&str>),
        cost: (Credit, Month),
        now: Now,
    ) {
        let Some(account) = self.account(index).map(|account| account.name.clone()) else { return };
        let payer = Payer { account: &account, hash: rules.hash(&account), user };
        if let Asker::User(place) = self.asker(rules, index, payer, now) {
            self.book_for_user(rules, place, cost, now.time);
        }
    }

    fn user_mut(&mut self, place: Place) -> &mut Account {
        self.account_mut(place.index()).expect("a user outlives the holds that name it")
    }

    fn add_user(&mut self, rules: &Rules, hash: u64, name: String, now: Now) -> Option<u32> {
        if !Rules::take_place(&rules.users, rules.settings.accounts_max / 2) {
            return None;
        }
        if !Rules::take_place(&rules.accounts, rules.settings.accounts_max) {
            Rules::leave_place(&rules.users);
            return None;
        }
        Some(self.add(rules, hash, &name, now))
    }
}

impl Parent {
    fn of(account: &Account) -> Option<Self> {
        let Lease { month, month_end, .. } = account.lease;
        Some(Self { terms: Arc::clone(account.terms.as_ref()?), version: account.terms_version(), month, month_end })
    }
}

impl Account {
    /// What a user may spend, by the terms it follows; `None` for an account.
    pub(super) fn cap(&self) -> Option<UserCap> {
        let user = user_of(&self.name)?;
        let terms = self.terms.as_deref();
        let limit = terms.and_then(|terms| terms.user_caps.as_deref()).and_then(|caps| caps.in_force(user));
        let reclaim_mode = terms.map_or(ReclaimMode::default(), |terms| terms.reclaim_mode);
        // Somebody whose cap was removed while a request runs has all there is.
        Some(UserCap { limit: limit.unwrap_or(Credit::MAX), reclaim_mode })
    }

    fn stand_as_user(&self, demand: &Demand, now: Time) -> Option<UserStanding> {
        Some(UserStanding {
            cap: self.cap()?.limit,
            spent: self.view.month_used.plus(self.lease.month_unreported()),
            held: self.lease.held,
            rights: self.lease.free(now),
            pool_may_help: !self.rare().refusal.covers(demand.least(), now),
        })
    }

    /// Whether a user is where its account is.
    fn follows(&self, parent: &Self) -> bool {
        let terms = self.terms.as_ref().zip(parent.terms.as_ref());
        let are_same = terms.is_some_and(|(own, parents)| Arc::ptr_eq(own, parents));
        are_same && self.terms_version() == parent.terms_version() && parent.lease.month <= self.lease.month
    }

    /// Follows the account into its month and its terms. What was lent under a higher cap goes back.
    fn follow(&mut self, parent: Parent, now: Time) {
        self.roll_over(now);
        if self.lease.month < parent.month {
            self.lease.enter(parent.month, parent.month_end);
            self.view.month_used = Credit::ZERO;
        }
        let before = self.cap();
        let is_new = self.terms.replace(parent.terms).is_none();
        self.set_terms_version(parent.version);
        let (before, after) = (before.map(|cap| cap.limit), self.cap().map(|cap| cap.limit));
        if is_new || before == after {
            return;
        }
        if after < before {
            self.lease.give_back(self.lease.unheld());
        }
        self.touched = true;
        self.change_rare(|rare| rare.refusal = Refused::default());
    }
}
