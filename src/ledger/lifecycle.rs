//! What happens to a hold after its admission: reports, extensions, and its one end.

use std::time::Duration;

use super::answer::{End, Ended, Extended, HoldError, WithoutHold};
use super::check::{DEADLINE_LOOK_MAX, look_at, take};
use super::hold::{Hold, HoldKey, Late, Past, check_usage};
use super::holds::Sought;
use super::shard::{Rules, Shard};
use super::standing::{Asking, standing};
use crate::clock::{Now, Time};
use crate::decision::{Decision, Demand, RateKey, RequestId, ServiceTier, Usage, decide};

/// The most holds that one call expires, and the most ended ones it forgets.
const EXPIRE_MAX: usize = 64;
/// Of them, those that are fetched together: no more than the nearest cache has room for.
const AHEAD: usize = 16;

impl Shard {
    pub(super) fn report(
        &mut self,
        rules: &Rules,
        key: HoldKey,
        usage: Usage,
        now: Time,
    ) -> Result<Duration, HoldError> {
        check_usage(&rules.catalogue, usage)?;
        let sought = self.holds.seek(key);
        let open = self.place_if_open(rules, &sought, now);
        let Some(hold) = open.and_then(|place| self.holds.at_mut(place)) else {
            return Err(self.not_open(&sought, now));
        };
        let account = self.accounts.get_mut(key.account).expect("an account outlives its holds");
        hold.progress(account, usage, now)?;
        hold.renew(now);
        account.note_use(now);
        account.assert_invariants();
        let life = hold.life();
        self.reschedule(rules, key.account, now);
        Ok(life)
    }

    pub(super) fn extend(&mut self, rules: &Rules, key: HoldKey, more: u64, now: Time) -> Result<Extended, HoldError> {
        check_usage(&rules.catalogue, Usage { generated: more, ..Usage::default() })?;
        let sought = self.holds.seek(key);
        let open = self.place_if_open(rules, &sought, now);
        let Some(hold) = open.and_then(|place| self.holds.at_mut(place)) else {
            return Err(self.not_open(&sought, now));
        };
        check_usage(
            &rules.catalogue,
            Usage { generated: hold.out_max_extended().saturating_add(more), ..Usage::default() },
        )?;
        let (demand, user) = (extension(hold, more), hold.user);
        let user_standing = user.and_then(|place| {
            self.follow_parent(place.index(), key.account, now);
            self.user_standing(place, &demand, now)
        });
        let account = self.accounts.get_mut(key.account).expect("an account outlives its holds");
        let Some(mut standing) = standing(account, rules, &demand, Asking { user: user_standing, full: false }, now)
        else {
            return Err(HoldError::UnknownAccount);
        };
        standing.generated_p95 = None;
        let hold = open.and_then(|place| self.holds.at_mut(place)).expect("found above");
        let extended = match decide(&demand, &standing, rules.catalogue.admission.generated_hold, now) {
            Decision::Deny(denial) => Extended::Refused(denial),
            Decision::Short(short) => {
                account.await_pool(&demand, short, now);
                self.user_awaits(rules, user, &demand, short, now);
                Extended::Short(short)
            }
            Decision::Admit(charge) => {
                if charge.shadow.is_none() {
                    assert!(charge.cost <= standing.money.rights, "only rights of a live lease are promised");
                    take(account, &demand, &charge, now);
                }
                hold.extend(&charge, more);
                hold.renew(now);
                account.note_use(now);
                account.assert_invariants();
                let out_max = hold.out_max_extended();
                if let Some(place) = user {
                    self.take_of_user(rules, place, &charge, now);
                }
                Extended::Granted { out_max }
            }
        };
        self.reschedule(rules, key.account, now);
        Ok(extended)
    }

    pub(super) fn settle(&mut self, rules: &Rules, key: HoldKey, usage: Usage, now: Time) -> Result<Ended, HoldError> {
        check_usage(&rules.catalogue, usage)?;
        let sought = self.holds.seek(key);
        if let Some(place) = self.place_if_open(rules, &sought, now) {
            return Ok(self.end(rules, &sought, place, (End::Settled, Some(usage)), now));
        }
        let (past, expired) = self.holds.settle_past(&sought, now).ok_or(HoldError::NotFound)?;
        let Some(expired) = expired else { return Ok(Ended { repeated: true, ..past.ended() }) };
        let account = self.accounts.get_mut(key.account).expect("an account outlives its holds");
        account.roll_over(now);
        let (user, month) = (expired.user, expired.month);
        let (settled, more) = past.settle_late(expired, account, usage, now);
        account.note_use(now);
        account.assert_invariants();
        if let Some(place) = user {
            self.book_for_user(rules, place, (more, month), now);
        }
        self.counters.late_settles = self.counters.late_settles.saturating_add(1);
        // Nothing was held for it any more: all of it may lie beyond what the pool lent.
        self.counters.count_overrun(more);
        self.reschedule(rules, key.account, now);
        Ok(settled)
    }

    /// Books usage of a request that has no hold here, and remembers it as ended.
    pub(super) fn settle_without_hold(
        &mut self,
        rules: &Rules,
        key: HoldKey,
        usage: Usage,
        fallback: WithoutHold<'_>,
        now: Now,
    ) -> Result<Ended, HoldError> {
        check_usage(&rules.catalogue, usage)?;
        let model = rules.catalogue.model_id(fallback.model).ok_or(HoldError::NotFound)?;
        let priced = rules.catalogue.model(model).and_then(|model| model.price(fallback.service_tier, now.unix));
        let price = priced.ok_or(HoldError::NotFound)?;
        let account = self.accounts.get_mut(key.account).ok_or(HoldError::UnknownAccount)?;
        account.roll_over(now.time);
        let rate_key = match fallback.service_tier {
            ServiceTier::Standard | ServiceTier::Priority => Some(RateKey { model, fast: false }),
            ServiceTier::Fast => Some(RateKey { model, fast: true }),
            ServiceTier::Batch => None,
        };
        let mut hold = Hold::absent(price, rate_key, account.lease.month, now.time);
        account.open = account.open.saturating_add(1);
        self.open.up(&rules.holds_open);
        let past = hold.end(account, End::Settled, Some(usage), now.time);
        let cost = (past.ended().cost, hold.month);
        self.book_without_hold(rules, (key.account, fallback.user), cost, now);
        let sought = self.holds.seek(key);
        Ok(self.remember(rules, &sought, (past, None), now.time))
    }

    pub(super) fn release(&mut self, rules: &Rules, key: HoldKey, now: Time) -> Result<Ended, HoldError> {
        let sought = self.holds.seek(key);
        if let Some(place) = self.place_if_open(rules, &sought, now) {
            return Ok(self.end(rules, &sought, place, (End::Released, None), now));
        }
        let past = self.holds.past(&sought, now).ok_or(HoldError::NotFound)?;
        Ok(Ended { repeated: true, ..past.ended() })
    }

    /// Ends holds whose deadline passed, at most [`EXPIRE_MAX`]; what is left over is found where it is used.
    pub(super) fn expire_due(&mut self, rules: &Rules, now: Time) -> bool {
        let second = now.seconds();
        for number in 0..EXPIRE_MAX {
            let first = self.deadlines_first.pop_front_if(|(look, _)| *look <= second);
            let Some((_, opened)) = first.or_else(|| self.deadlines.pop(second)) else { return false };
            if number % AHEAD == 0 {
                self.fetch_expiring(second, AHEAD);
            }
            match self.holds.opened(opened) {
                Some(hold) if hold.hold.is_past(now) => self.expire(rules, hold.key, now),
                Some(hold) => self.deadlines.push(look_at(hold.hold.deadline, DEADLINE_LOOK_MAX, now), opened),
                None => {}
            }
        }
        true
    }

    /// Why a hold that is not open cannot be changed.
    fn not_open(&self, sought: &Sought, now: Time) -> HoldError {
        self.holds.past(sought, now).map_or(HoldError::NotFound, |past| HoldError::Ended(past.ended()))
    }

    /// Where a hold is, if it is open; one past its deadline ends here.
    fn place_if_open(&mut self, rules: &Rules, sought: &Sought, now: Time) -> Option<u32> {
        let place = self.holds.place_of(sought)?;
        if self.holds.at(place).is_some_and(|opened| opened.hold.is_past(now)) {
            self.expire(rules, sought.key, now);
            return None;
        }
        Some(place)
    }

    pub(super) fn expire(&mut self, rules: &Rules, key: HoldKey, now: Time) {
        let sought = self.holds.seek(key);
        let Some(place) = self.holds.place_of(&sought) else { return };
        self.end(rules, &sought, place, (End::Expired, None), now);
        self.counters.expired = self.counters.expired.saturating_add(1);
    }

    /// The one end of an open hold: with the usage that is told, or what was reported last.
    fn end(&mut self, rules: &Rules, sought: &Sought, at: u32, end: (End, Option<Usage>), now: Time) -> Ended {
        let hold = self.holds.at_mut(at).expect("its place was looked up just now");
        let account = self.accounts.get_mut(sought.key.account).expect("an account outlives its holds");
        account.roll_over(now);
        let (end, usage) = end;
        let past = hold.end(account, end, usage, now);
        let expired = (end == End::Expired).then(|| hold.late());
        let (user, held, month) = (hold.user, hold.cost, hold.month);
        self.holds.remove(sought, at);
        if let Some(place) = user {
            self.end_for_user(rules, place, held, (past.ended().cost, month), now);
        }
        self.remember(rules, sought, (past, expired), now)
    }

    /// What follows from the end of a hold: it is booked already, and is remembered and counted.
    fn remember(&mut self, rules: &Rules, sought: &Sought, past: (Past, Option<Late>), now: Time) -> Ended {
        let account = self.accounts.get_mut(sought.key.account).expect("an account outlives its holds");
        let ended = past.0.ended();
        let until = now.after(rules.settings.ended_keep);
        account.remember_until(until);
        if ended.end != End::Expired {
            account.note_use(now);
        }
        account.assert_invariants();
        self.open.down(&rules.holds_open);
        self.counters.count_overrun(ended.overrun);
        self.make_room_for_ended(rules);
        self.holds.remember(sought, past, until);
        self.ended.up(&rules.holds_ended);
        self.reschedule_used(rules, sought.key.account, ended.overrun.is_positive(), now);
        ended
    }

    /// Forgets the oldest ended holds, two at most, until there is room for one more. Those past their time wait for
    /// a sweep: it reads them in a row, where here each would have to be waited for.
    fn make_room_for_ended(&mut self, rules: &Rules) {
        for _ in 0..2 {
            if self.ended.here() == 0 || self.ended.of_all(&rules.holds_ended) < rules.settings.ended_max {
                return;
            }
            self.holds.forget_oldest();
            self.ended.down(&rules.holds_ended);
        }
    }

    /// Ends holds past their life, and forgets at most `max` ended ones and `max` unknown names past their time. Returns
    /// whether more may be left.
    pub(super) fn sweep(&mut self, rules: &Rules, now: Time, max: usize) -> bool {
        let expired = self.expire_due(rules, now);
        let forgotten = self.forget_ended(rules, now, max);
        self.strangers.sweep(now, max) || expired || forgotten
    }

    fn forget_ended(&mut self, rules: &Rules, now: Time, max: usize) -> bool {
        for _ in 0..max {
            if self.holds.oldest().is_none_or(|until| now < until) {
                return false;
            }
            self.holds.forget_oldest();
            self.ended.down(&rules.holds_ended);
        }
        true
    }

    /// The hold of a request, where the account is known.
    pub(super) fn key(&self, rules: &Rules, account: &str, id: RequestId) -> Option<HoldKey> {
        self.find(rules, account).map(|account| HoldKey::new(account, id))
    }
}

/// What `more` generated tokens may take, at the hold's own price.
fn extension(hold: &Hold, more: u64) -> Demand {
    let cost = hold.price.cost_rounded_up(Usage { generated: more, ..Usage::default() });
    let model = hold.rate_key.map_or(crate::decision::ModelId(0), |key| key.model);
    Demand {
        model,
        service_tier: if hold.rate_key.is_some() { ServiceTier::Standard } else { ServiceTier::Batch },
        rate_key: hold.rate_key,
        price: hold.price,
        n: 0,
        prompt: 0,
        uncached: 0,
        prompt_estimated: false,
        out_max: more,
        out_asked: true,
        cost,
        dust_tokens: 0,
        capped: false,
    }
}
