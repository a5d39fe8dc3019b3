//! One ask against one account: decide, then apply the charge, all under the shard's lock.

use std::hash::BuildHasher as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::account::Account;
use super::answer::{Answer, Checked, Limits, Verdict};
use super::compact::Place;
use super::hold::{Hold, HoldKey};
use super::holds::Sought;
use super::shard::{Rules, Shard};
use super::standing::{Asking, balance, limits, standing};
use super::users::{Asker, Payer};
use super::{Allowance, lease};
use crate::clock::{Now, Time};
use crate::decision::catalogue::GeneratedHold;
use crate::decision::terms::FailurePolicy;
use crate::decision::{
    Ask, Charge, Credit, Decision, Demand, Denial, Invalid, Prompt, Reason, Short, Standing, decide,
};

/// How soon to come back where nobody can vouch for the account.
const UNAVAILABLE_WAIT: Duration = Duration::from_secs(1);
/// Deadlines are looked at in whole seconds: first after so long, when most requests have ended, so that short ones leave
/// no long trail; then at least so often.
const DEADLINE_LOOK_FIRST: Duration = Duration::from_secs(1);
pub(super) const DEADLINE_LOOK_MAX: Duration = Duration::from_secs(8);

/// An ask with what follows from it alone.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) demand: &'a Demand,
    pub(super) hash: u64,
}

impl Shard {
    pub(super) fn check(&mut self, rules: &Rules, question: Question<'_>, now: Now) -> Checked {
        self.expire_due(rules, now.time);
        let name = question.ask.account;
        let Some(index) = self.find_hashed(question.hash, name) else {
            return self.check_stranger(rules, question, now);
        };
        let sought = self.holds.seek(HoldKey::new(index, question.ask.request_id));
        // One look at each part first, for a check that came alone: what follows then waits for all of them at once.
        self.fetch(std::iter::once(sought));
        let content = content(rules, question);
        if let Some(answer) = self.repeat(rules, &sought, question, content, now.time) {
            return Checked::Answered(answer);
        }
        let (user, asking) = self.asking(rules, index, question, now);
        let account = self.account_mut(index);
        let stood = account.and_then(|account| standing(account, rules, question.demand, asking, now.time));
        let Some(standing) = &stood else {
            if self.strangers.contains(name, now.time) {
                return Checked::Answered(nobody(Denial::of(Reason::UnknownAccount)));
            }
            self.await_load(rules, index, question.demand, now);
            return Checked::Unknown;
        };
        match decide(question.demand, standing, rules.catalogue.admission.generated_hold, now.time) {
            Decision::Deny(denial) => {
                if denial.reason == Reason::UserLimit {
                    self.doubt_user(rules, user, now.time);
                }
                let Some(account) = self.account_mut(index) else { return Checked::Unknown };
                let answer = denied(account, standing, question.demand, denial, now.time);
                if denial.retry_after.is_none() && account.is_stale(rules, now.time) {
                    account.ask_anew();
                    self.reschedule(rules, index, now.time);
                }
                Checked::Answered(answer)
            }
            Decision::Short(short) => {
                let Some(account) = self.account_mut(index) else { return Checked::Unknown };
                account.await_pool(question.demand, short, now.time);
                self.user_awaits(rules, user, question.demand, short, now.time);
                self.reschedule(rules, index, now.time);
                Checked::Short(short)
            }
            Decision::Admit(charge) => {
                Checked::Answered(self.admit(rules, &sought, question, content, &charge, (standing, user), now.time))
            }
        }
    }

    /// The user who asks, if there is a cap, and what else a decision looks at beside the account.
    fn asking(&mut self, rules: &Rules, index: u32, question: Question<'_>, now: Now) -> (Option<Place>, Asking) {
        let full = self.open.of_all(&rules.holds_open) >= rules.settings.holds_max;
        let payer = Payer { account: question.ask.account, hash: question.hash, user: question.ask.user };
        match self.asker(rules, index, payer, now) {
            Asker::Uncapped => (None, Asking { user: None, full }),
            Asker::User(place) => {
                let user = self.user_standing(place, question.demand, now.time);
                (Some(place), Asking { user, full })
            }
            Asker::Crowded => (None, Asking { user: None, full: true }),
        }
    }

    /// The pool brought nothing: the account's failure policy answers.
    pub(super) fn check_alone(
        &mut self,
        rules: &Rules,
        question: Question<'_>,
        allowance: Allowance,
        now: Now,
    ) -> Answer {
        let unavailable = Denial { retry_after: Some(UNAVAILABLE_WAIT), ..Denial::of(Reason::Unavailable) };
        let demand = question.demand;
        let short = match self.check(rules, question, now) {
            Checked::Answered(answer) => return answer,
            Checked::Unknown => return nobody(unavailable),
            Checked::Short(short) => short,
        };
        let index = self.find_hashed(question.hash, question.ask.account).expect("a short ask names a known account");
        let (user, asking) = self.asking(rules, index, question, now);
        let account = self.account_mut(index).expect("as above");
        let stood = standing(account, rules, question.demand, asking, now.time);
        let mut standing = stood.expect("a short ask names a loaded account");
        let of_user = standing.user.map_or(Credit::ZERO, |user| short.user.minus(user.rights));
        let lent = short.need.minus(standing.money.rights).max(of_user).at_least_zero();
        let account = self.account_mut(index).expect("as above");
        if !promise_alone(account, rules, lent, allowance) {
            return denied(account, &standing, demand, unavailable, now.time);
        }
        stand_alone(&mut standing, short, now.time);
        let decision = decide(demand, &standing, rules.catalogue.admission.generated_hold, now.time);
        if let Decision::Admit(charge) = decision {
            let content = content(rules, question);
            let sought = self.holds.seek(HoldKey::new(index, question.ask.request_id));
            return self.admit(rules, &sought, question, content, &charge, (&standing, user), now.time);
        }
        account.change_rare(|rare| rare.emergency = rare.emergency.minus(lent));
        rules.emergency_nanos.fetch_sub(lent.nanos().unsigned_abs(), Ordering::Relaxed);
        let denial = if let Decision::Deny(denial) = decision { denial } else { unavailable };
        denied(account, &standing, demand, denial, now.time)
    }

    fn check_stranger(&mut self, rules: &Rules, question: Question<'_>, now: Now) -> Checked {
        if self.strangers.contains(question.ask.account, now.time) {
            return Checked::Answered(nobody(Denial::of(Reason::UnknownAccount)));
        }
        if let Some(index) = self.find_or_add(rules, question.hash, question.ask.account, now) {
            self.await_load(rules, index, question.demand, now);
        }
        Checked::Unknown
    }

    /// Notes what an ask needs of an account that is not loaded, so that one round brings it all.
    fn await_load(&mut self, rules: &Rules, index: u32, demand: &Demand, now: Now) {
        let generated = match rules.catalogue.admission.generated_hold {
            GeneratedHold::ReserveMax | GeneratedHold::ReserveP95 => demand.out_max,
            GeneratedHold::Actual => 0,
        };
        let tokens = [demand.prompt, demand.uncached, generated];
        let short = Short { need: demand.cost, user: Credit::ZERO, requests: u64::from(demand.n), tokens };
        if let Some(account) = self.account_mut(index) {
            account.await_pool(demand, short, now.time);
        }
        self.reschedule(rules, index, now.time);
    }

    /// The answer that was given to this very ask before.
    fn repeat(
        &mut self,
        rules: &Rules,
        sought: &Sought,
        question: Question<'_>,
        content: u64,
        now: Time,
    ) -> Option<Answer> {
        let open = self.holds.place_of(sought).and_then(|place| self.holds.at(place)).map(|opened| &opened.hold);
        let open = open.map(|hold| (hold.content, hold.admitted(true)));
        let known = open.or_else(|| self.holds.past(sought, now).map(|past| (past.content, past.admitted())));
        let (known, admitted) = known?;
        let verdict = if known == content {
            Verdict::Admitted(admitted)
        } else {
            let denial = Denial::of(Reason::InvalidRequest);
            Verdict::Denied(Denial { invalid: Some(Invalid::OtherContent), ..denial })
        };
        let account = self.account_mut(sought.key.account)?;
        let standing = standing(account, rules, question.demand, Asking::default(), now)?;
        let limits = limits(&standing, question.demand.rate_key, None, now);
        Some(Answer { verdict, limits: Some(limits), balance: Some(balance(account)) })
    }

    /// Everything that changes when a request is admitted. Nothing here can fail.
    #[expect(clippy::too_many_arguments, reason = "one admission, gathered by its two callers")]
    fn admit(
        &mut self,
        rules: &Rules,
        sought: &Sought,
        question: Question<'_>,
        content: u64,
        charge: &Charge,
        (standing, user): (&Standing, Option<Place>),
        now: Time,
    ) -> Answer {
        let life = life_of(rules, question.ask);
        let index = sought.key.account;
        let account = self.accounts.get_mut(index).expect("admitted accounts are known");
        let mut hold = Hold::open(question.demand, charge, content, account.lease.month, life, now);
        hold.user = user;
        assert!(hold.cost <= standing.money.rights, "only rights of a live lease are promised");
        let mut taken = None;
        if !hold.is_shadow() {
            take(account, question.demand, charge, now);
            taken = Some((charge.requests, charge.tokens));
        }
        account.note_use(now);
        account.cost_recent = charge.cost.into();
        account.assert_invariants();
        let answer = Answer {
            verdict: Verdict::Admitted(hold.admitted(false)),
            limits: Some(limits(standing, question.demand.rate_key, taken, now)),
            balance: Some(balance(account)),
        };
        if standing.overloaded.is_some() {
            // A shadow account, which is let through where there is no place for another hold.
            return answer;
        }
        account.open = account.open.saturating_add(1);
        let look = look_at(hold.deadline, DEADLINE_LOOK_FIRST, now);
        let opened = self.holds.insert(sought, hold);
        self.deadlines_first.push_back((look, opened));
        self.open.up(&rules.holds_open);
        self.reschedule_used(rules, index, true, now);
        if let Some(place) = user {
            let rights = standing.user.map_or(Credit::ZERO, |user| user.rights);
            assert!(charge.shadow.is_some() || charge.cost <= rights, "as of the account, so of the user");
            self.open_for_user(rules, place, charge, now);
        }
        answer
    }
}

/// Takes credit and tokens for an admitted ask or an extension.
pub(super) fn take(account: &mut Account, demand: &Demand, charge: &Charge, now: Time) {
    account.lease.held = lease::sum(account.lease.held, charge.cost);
    if charge.requests > 0
        && let Some(rate) = account.requests_mut()
    {
        // Not counted as used: the limit of requests does not follow use.
        rate.take([charge.requests], now);
    }
    if let Some(model) = demand.rate_key.and_then(|key| account.model_mut(key)) {
        model.rate.take(charge.tokens, now);
    }
}

/// The second in which to look at a hold again, `longest` from now at most.
pub(super) fn look_at(deadline: Time, longest: Duration, now: Time) -> u64 {
    deadline.min(now.after(longest)).seconds_up()
}

/// An answer about an account that is not known here.
pub(super) const fn nobody(denial: Denial) -> Answer {
    Answer { verdict: Verdict::Denied(denial), limits: None, balance: None }
}

fn denied(account: &Account, standing: &Standing, demand: &Demand, denial: Denial, now: Time) -> Answer {
    let limits: Limits = limits(standing, demand.rate_key, None, now);
    Answer { verdict: Verdict::Denied(denial), limits: Some(limits), balance: Some(balance(account)) }
}

pub(super) fn life_of(rules: &Rules, ask: &Ask<'_>) -> Duration {
    ask.deadline.unwrap_or(rules.settings.hold_life).clamp(Duration::from_secs(1), rules.settings.hold_life_max)
}

/// Promises emergency credit, where the account's policy and what is left of it allow.
fn promise_alone(account: &mut Account, rules: &Rules, lent: Credit, allowance: Allowance) -> bool {
    let policy = account.terms.as_ref().map_or(FailurePolicy::Closed, |terms| terms.failure_policy);
    let in_all = lease::sum(account.rare().emergency, lent);
    let allowed = match policy {
        // A lease that suffices needs nobody's trust, however long its chunks of tokens are dead.
        FailurePolicy::Closed => !lent.is_positive(),
        FailurePolicy::Allowance => in_all <= allowance.account,
        FailurePolicy::Open => true,
    };
    let nanos = lent.nanos().unsigned_abs();
    let most = allowance.sidecar.at_least_zero().nanos().unsigned_abs();
    let promise = |promised: u64| promised.checked_add(nanos).filter(|promised| *promised <= most);
    let relaxed = Ordering::Relaxed;
    if !allowed || rules.emergency_nanos.fetch_update(relaxed, relaxed, promise).is_err() {
        return false;
    }
    account.change_rare(|rare| rare.emergency = in_all);
    true
}

/// Stands as if the pool had been asked for what was short, going by what it last said it could lend.
pub(super) fn stand_lent(standing: &mut Standing, short: Short, (available, of_user): (Credit, Credit), now: Time) {
    let lendable = lease::sum(standing.money.rights, available);
    standing.money.pool_may_help = false;
    let mut user_lendable = Credit::ZERO;
    if let Some(user) = &mut standing.user {
        user_lendable = lease::sum(user.rights, of_user);
        user.pool_may_help = false;
    }
    let (need, user) = (short.need.min(lendable), short.user.min(user_lendable));
    stand_alone(standing, Short { need, user, ..short }, now);
}

/// Stands as if the pool had lent what was short, as far as the rates as last heard have room.
fn stand_alone(standing: &mut Standing, short: Short, now: Time) {
    standing.money.rights = standing.money.rights.max(short.need);
    if let Some(user) = &mut standing.user {
        user.rights = user.rights.max(short.user);
    }
    let rates = standing.tokens.iter_mut().zip(short.tokens);
    for (rate, need) in rates.chain(std::iter::once((&mut standing.requests, short.requests))) {
        let room = rate.bucket.map_or(need, |bucket| bucket.room(rate.limit, now).saturating_add(rate.chunk));
        rate.chunk = rate.chunk.max(need.min(room));
        rate.bucket = rate.bucket.or(Some(crate::decision::rate::Bucket::EMPTY));
    }
}

/// Tells a repeated ask from another one under the same id. The price may have changed in between, the ask may not.
fn content(rules: &Rules, question: Question<'_>) -> u64 {
    let ask = question.ask;
    let prompt = match ask.prompt {
        Prompt::Tokens(tokens) => (0_u8, tokens),
        Prompt::Bytes(bytes) => (1, bytes),
    };
    let size = (prompt, ask.cached_tokens_hint, ask.max_tokens, ask.n, ask.capped);
    rules.hasher.hash_one((question.demand.model, ask.service_tier, ask.user, size))
}
