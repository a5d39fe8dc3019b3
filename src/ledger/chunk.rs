//! Tokens lent to this session for about a second, and what it says about them.

use std::time::Duration;

use super::compact::{Base, Moment, small};
use super::lease::generation_at;
use super::meter::Meter;
use super::words::{DIRTY, FRESH_SMALL, Heard, Marks, OLD_SMALL, PRESSING, Said, Waits};
use crate::clock::Time;
use crate::decision::rate::{Bucket, Limit};
use crate::decision::standing::RateStanding;

/// How long before a chunk in use dies another one is asked for.
pub(super) const REFILL_AHEAD: Duration = Duration::from_millis(400);
/// The least time between two requests that nobody waits for.
const REFILL_GAP: Duration = Duration::from_millis(100);
/// News that make little difference to others wait so long.
const REPORT_SMALL: Duration = Duration::from_secs(5);
/// Demand is measured over so long, and a bucket that was not used for so long is not refilled.
const SECOND: Duration = Duration::from_secs(1);
/// After so long a silence the pool may have dropped the session's counters: a new generation opens.
const SILENCE: Duration = Duration::from_secs(30 * 60);
/// As it does after so many messages: one each tenth of a second for six years.
pub(super) const SEQ_MAX: u32 = 1 << 31;

/// A group of buckets: one for requests, three for the tokens of a model.
#[derive(Clone, Debug)]
pub(super) struct Rate<const N: usize> {
    meters: [Meter; N],
    /// What asks wait for; few wait at any time.
    waiting: Option<Box<Waits<N>>>,
    /// When the levels were as they are, exactly.
    level_at: Time,
    /// What the moments count from.
    base: Base,
    fresh_until: Moment,
    old_until: Moment,
    /// When the newest reply was taken; the origin before there was one in this generation.
    answered: Moment,
    asked: Moment,
    used_at: Moment,
    second: Moment,
    generation: u32,
    seq: u32,
    burst_seconds: u16,
    marks: Marks,
    off: Off,
}

/// Whether the pool's limits are what the terms say. Where they are not, a proposal is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    No,
    /// First heard of with the newest reply: what became of the proposal is heard as soon as possible.
    Newly,
    Still,
}

impl<const N: usize> Rate<N> {
    pub(super) fn new(now: Time) -> Self {
        let base = Base::new(now);
        Self {
            meters: [Meter::default(); N],
            waiting: None,
            level_at: Time::default(),
            base,
            fresh_until: Moment::default(),
            old_until: Moment::default(),
            answered: Moment::default(),
            asked: Moment::default(),
            used_at: base.mark(now),
            second: base.mark(now),
            generation: generation_at(now),
            seq: 0,
            burst_seconds: 0,
            marks: Marks::default(),
            off: Off::No,
        }
    }

    /// Reads a word of each part.
    pub(super) fn fetch(&self) -> u64 {
        self.meters.iter().fold(self.level_at.nanos() ^ u64::from(self.seq), |seen, meter| seen ^ meter.per_minute)
    }

    /// How the buckets stand, after what is left of dead chunks went back; `None` before the pool was heard.
    pub(super) fn standing(&mut self, now: Time) -> Option<[RateStanding; N]> {
        self.bury_dead(now);
        let standing = |meter: &Meter| RateStanding {
            limit: Limit { per_minute: meter.per_minute, burst_seconds: u32::from(self.burst_seconds) },
            chunk: meter.live((false, false)), // What is dead was buried.
            bucket: Some(Bucket::with_level(meter.level.units(), self.level_at)),
        };
        self.is_heard().then(|| self.meters.each_ref().map(standing))
    }

    /// The pool answered in this generation.
    fn is_heard(&self) -> bool {
        self.answered != Moment::default()
    }

    /// Now as a moment. The base moves on first, where it lies far back.
    fn mark(&mut self, now: Time) -> Moment {
        if let Some(next) = self.base.next(now) {
            let kept = [&mut self.fresh_until, &mut self.old_until, &mut self.answered, &mut self.asked];
            for moment in kept.into_iter().chain([&mut self.used_at, &mut self.second]) {
                *moment = self.base.carry(*moment, next);
            }
            self.base = next;
        }
        self.base.mark(now)
    }

    /// How long ago something was.
    fn since(&self, moment: Moment, now: Time) -> Duration {
        self.base.mark(now).since(moment)
    }

    /// Whether the chunks, the newest and the one before it, are dead.
    fn are_dead(&self, now: Time) -> (bool, bool) {
        let now = self.base.mark(now);
        (now >= self.fresh_until, now >= self.old_until)
    }

    fn at_hand(&self, now: Time) -> [u64; N] {
        let dead = self.are_dead(now);
        std::array::from_fn(|place| self.meters.get(place).map_or(0, |meter| meter.live(dead)))
    }

    /// Lets the levels drain up to `now`, before anything changes them.
    fn drain(&mut self, now: Time) {
        let nanos = now.nanos().saturating_sub(self.level_at.nanos());
        if nanos == 0 {
            return;
        }
        for meter in &mut self.meters {
            meter.level.drain(u128::from(meter.per_minute).saturating_mul(u128::from(nanos)));
        }
        self.level_at = now;
    }

    /// Counts what is left of dead chunks as given back.
    fn bury_dead(&mut self, now: Time) {
        let (fresh_dead, old_dead) = self.are_dead(now);
        let is_left = |meter: &Meter| (fresh_dead && meter.fresh > 0) || (old_dead && meter.old > 0);
        if !self.meters.iter().any(is_left) {
            return;
        }
        self.drain(now);
        let is_pressing = (fresh_dead && !self.marks.has(FRESH_SMALL)) || (old_dead && !self.marks.has(OLD_SMALL));
        self.marks.put(PRESSING, is_pressing || self.marks.has(PRESSING));
        self.marks.put(DIRTY, true);
        for meter in &mut self.meters {
            let fresh = if fresh_dead { std::mem::take(&mut meter.fresh) } else { 0 };
            let old = if old_dead { std::mem::take(&mut meter.old) } else { 0 };
            meter.give_back(u64::from(fresh).saturating_add(u64::from(old)));
        }
    }

    /// Takes tokens that were admitted on [`Rate::standing`] at this same `now`, by which no dead chunk is left: from the
    /// older one first. What they do not hold becomes debt.
    pub(super) fn take(&mut self, tokens: [u64; N], now: Time) {
        self.used_at = self.mark(now);
        self.turn_second(self.used_at);
        let mut owed = tokens;
        self.meters.iter_mut().zip(&mut owed).for_each(|(meter, tokens)| *tokens = meter.take(*tokens));
        // What chunks held is told when the next ones are asked for; what they did not hold, soon.
        if owed != [0; N] {
            self.drain(now);
            self.meters.iter_mut().zip(owed).for_each(|(meter, owed)| meter.charge(owed));
            self.marks.put(DIRTY, true);
        }
    }

    /// Makes up for the difference between what was charged and what it came to.
    pub(super) fn true_up(&mut self, charged: [u64; N], actual: [u64; N], now: Time) {
        if charged == actual {
            return;
        }
        self.drain(now);
        for ((meter, charged), actual) in self.meters.iter_mut().zip(charged).zip(actual) {
            meter.charge(actual.saturating_sub(charged));
            meter.give_back(charged.saturating_sub(actual));
        }
        self.marks.put(DIRTY, true);
    }

    /// Counts settled tokens, which feed the adaptive limit.
    pub(super) fn count_used(&mut self, tokens: [u64; N]) {
        if tokens == [0; N] {
            return;
        }
        for (meter, tokens) in self.meters.iter_mut().zip(tokens) {
            meter.used = meter.used.saturating_add(small(tokens));
        }
        self.marks.put(DIRTY, true);
    }

    /// What there is to say is said as soon as may be.
    pub(super) const fn press(&mut self) {
        self.marks.put(DIRTY | PRESSING, true);
    }

    /// Notes what a waiting ask needs.
    pub(super) fn await_tokens(&mut self, need: [u64; N], now: Time) {
        self.used_at = self.mark(now);
        self.await_too(Waits { most: need, sum: need });
    }

    fn await_too(&mut self, waits: Waits<N>) {
        let mine = self.waiting.get_or_insert_with(|| Box::new(Waits { most: [0; N], sum: [0; N] }));
        mine.most.iter_mut().zip(waits.most).for_each(|(mine, most)| *mine = (*mine).max(most));
        mine.sum.iter_mut().zip(waits.sum).for_each(|(mine, sum)| *mine = mine.saturating_add(sum));
    }

    fn turn_second(&mut self, now: Moment) {
        let passed = now.since(self.second);
        if passed < SECOND {
            return;
        }
        let quiet = passed >= SECOND.saturating_mul(2);
        for meter in &mut self.meters {
            meter.demand = if quiet { 0 } else { meter.recent };
            meter.recent = 0;
        }
        self.second = now;
    }

    fn is_awaited(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waits| waits.most != [0; N])
    }

    /// A chunk that is in use runs low.
    pub(super) fn runs_low(&self, now: Time) -> bool {
        let dead = self.are_dead(now);
        self.meters.iter().any(|meter| meter.live(dead) < meter.next_second() / 2)
    }

    /// When something should be said of this group: at once for waiting asks, ahead of need while it is used, and
    /// otherwise what changed, every `every`.
    pub(super) fn due_at(&self, every: Duration, now: Time) -> Option<Time> {
        if self.is_awaited() {
            return Some(Time::default());
        }
        let asked = self.base.time(self.asked);
        let (fresh_until, old_until) = (self.base.time(self.fresh_until), self.base.time(self.old_until));
        let gap = asked.after(REFILL_GAP);
        let refill = self.is_in_use(now).then(|| {
            let ahead = fresh_until.before(REFILL_AHEAD);
            if self.runs_low(now) { gap } else { ahead.max(gap) }
        });
        let news = self.marks.has(DIRTY).then(|| self.report_at(gap, every));
        let buries = [
            (fresh_until, self.marks.has(FRESH_SMALL), self.meters.iter().any(|meter| meter.fresh > 0)),
            (old_until, self.marks.has(OLD_SMALL), self.meters.iter().any(|meter| meter.old > 0)),
        ];
        let bury = buries.into_iter().filter(|(.., is_left)| *is_left).map(|(until, is_small, _)| {
            // The rest of a small chunk comes back in full whenever it does, that of another one only for a while.
            until.max(if is_small { asked.after(every.max(REPORT_SMALL)) } else { gap })
        });
        [refill, news].into_iter().flatten().chain(bury).min()
    }

    /// When news is told that nobody waits for.
    fn report_at(&self, gap: Time, every: Duration) -> Time {
        if self.marks.has(PRESSING) || self.off == Off::Newly {
            return gap;
        }
        let soon = self.off == Off::Still || self.meters.iter().any(Meter::is_pressing);
        self.base.time(self.asked).after(if soon { every } else { every.max(REPORT_SMALL) })
    }

    /// Something should be said now, or within `ahead` as things go.
    pub(super) fn is_due(&self, every: Duration, ahead: Duration, now: Time) -> bool {
        let is_short = !ahead.is_zero() && self.is_in_use(now) && self.is_short_within(ahead, now);
        is_short || self.due_at(every, now).is_some_and(|at| at <= now.after(ahead))
    }

    fn is_in_use(&self, now: Time) -> bool {
        let needed = self.meters.iter().any(|meter| meter.next_second() > 0);
        needed && self.since(self.used_at, now) < SECOND && self.is_heard()
    }

    /// Tokens at hand may run low within `ahead`.
    fn is_short_within(&self, ahead: Duration, now: Time) -> bool {
        let seconds = ahead.as_secs().saturating_add(2);
        let dead = self.are_dead(now);
        self.meters.iter().any(|meter| meter.live(dead) < meter.next_second().saturating_mul(seconds))
    }

    /// What to say now, and to ask for if it would be short within `ahead`; asks that waited are answered by it. With
    /// `closing` nothing is asked for.
    pub(super) fn say(&mut self, ahead: Duration, closing: bool, now: Time) -> Said<N> {
        self.bury_dead(now);
        let mark = self.mark(now);
        self.turn_second(mark);
        if (self.is_heard() && self.since(self.answered, now) > SILENCE) || self.seq > SEQ_MAX {
            self.reopen(now);
        }
        self.seq = self.seq.saturating_add(1);
        self.asked = self.mark(now);
        self.marks.put(DIRTY | PRESSING, false);
        let in_use = self.since(self.used_at, now) < SECOND && !closing;
        let refills = !ahead.is_zero() && self.is_short_within(ahead, now);
        let (fresh_ending, old_ending) = self.are_dead(now.after(REFILL_AHEAD.max(ahead)));
        let waits = self.waiting.take().map_or(Waits { most: [0; N], sum: [0; N] }, |waits| *waits);
        if closing {
            self.drain(now);
        }
        let (is_heard, burst_seconds, level_at) = (self.is_heard(), u32::from(self.burst_seconds), self.level_at);
        let at_hand = if closing { [0; N] } else { self.at_hand(now) };
        let mut want = [0; N];
        let mut need = [0; N];
        let asked = want.iter_mut().zip(&mut need).zip(waits.most.into_iter().zip(waits.sum));
        for (meter, ((want, need), (most, sum))) in self.meters.iter_mut().zip(asked) {
            if closing {
                let (fresh, old) = (std::mem::take(&mut meter.fresh), std::mem::take(&mut meter.old));
                meter.give_back(u64::from(fresh).saturating_add(u64::from(old)));
            }
            let fresh = if fresh_ending { 0 } else { meter.fresh };
            let old = if old_ending { 0 } else { meter.old };
            let lasting = u64::from(fresh).saturating_add(u64::from(old));
            if in_use {
                let limit = Limit { per_minute: meter.per_minute, burst_seconds };
                let bucket = Bucket::with_level(meter.level.units(), level_at);
                // The pool lends all that is needed or nothing, so asks that wait together need no more than there is.
                let room = if is_heard { bucket.room(limit, now) } else { 0 };
                *need = most.max(sum.min(room)).saturating_sub(lasting);
                let wanted = meter.next_second().max(sum);
                *want = if refills { wanted } else { wanted.saturating_sub(lasting) }.max(*need);
            }
            meter.tell();
        }
        Said {
            generation: self.generation,
            seq: u64::from(self.seq),
            granted_known: self.meters.map(|meter| u64::from(meter.granted)),
            debt: self.meters.map(|meter| u64::from(meter.debt)),
            returned: self.meters.map(|meter| u64::from(meter.returned)),
            used: self.used(),
            at_hand,
            want,
            need,
        }
    }

    /// Settled tokens, ever in this generation.
    pub(super) fn used(&self) -> [u64; N] {
        self.meters.map(|meter| u64::from(meter.used))
    }

    /// Takes the reply to the newest request. Tokens whose own reply was lost are given back.
    pub(super) fn hear(&mut self, heard: [Heard; N], burst_seconds: u32, until: Time, now: Time) {
        self.bury_dead(now);
        let fresh_any = heard.iter().any(|heard| heard.fresh > 0);
        let was_old = self.meters.iter().any(|meter| meter.old > 0);
        self.burst_seconds = u16::try_from(burst_seconds).unwrap_or(u16::MAX);
        self.level_at = now;
        for (meter, heard) in self.meters.iter_mut().zip(heard) {
            meter.per_minute = heard.per_minute;
            meter.hear_level(heard.level);
            // What does not fit into the counter is told as not known, and the pool takes it back.
            let granted = small(heard.granted);
            let lent = u64::from(granted.saturating_sub(meter.granted));
            meter.granted = meter.granted.max(granted);
            let mut rest = lent;
            if fresh_any {
                let fresh = small(heard.fresh.min(lent));
                rest = lent.saturating_sub(u64::from(fresh));
                // What is left of two chunks becomes one: an ask may wait for all of it together.
                (meter.old, meter.fresh) = (meter.old.saturating_add(meter.fresh), fresh);
            }
            if rest > 0 {
                meter.give_back(rest);
                self.marks.put(DIRTY, true);
            }
        }
        if fresh_any {
            let (was_small, is_small) = (self.marks.has(OLD_SMALL), self.marks.has(FRESH_SMALL));
            self.old_until = if was_old { self.old_until.min(self.fresh_until) } else { self.fresh_until };
            self.marks.put(OLD_SMALL, is_small && (was_small || !was_old));
        }
        self.answered = self.mark(now);
        if fresh_any {
            self.fresh_until = self.base.mark(until);
            self.marks.put(FRESH_SMALL, self.since(self.asked, until) > SECOND.saturating_mul(2));
        }
    }

    /// Opens a new generation where a counter has grown large, or another one is full, after the pool heard all that was said: `told` were used then.
    ///
    /// What is at hand counts as used: its grant belongs to the old counters.
    pub(super) fn renew_if_full(&mut self, told: [u64; N], is_other_full: bool, now: Time) {
        if !is_other_full && !self.meters.iter().any(Meter::is_full) {
            return;
        }
        self.drain(now);
        self.open_generation(now);
        for (meter, told) in self.meters.iter_mut().zip(told) {
            meter.renew(told);
        }
        self.marks.put(DIRTY, true);
        self.asked = Moment::default();
    }

    /// The limits as last heard; `None` before the pool was heard.
    pub(super) fn limits(&self) -> Option<[u64; N]> {
        self.is_heard().then(|| self.meters.map(|meter| meter.per_minute))
    }

    /// Takes what the newest limits should be: where they are not, the pool is asked until they are. Lower ones count here at
    /// once.
    pub(super) fn expect_limits(&mut self, expected: [u64; N], now: Time) {
        self.off = match (self.limits() == Some(expected), self.off) {
            (true, _) => Off::No,
            (false, Off::No) => Off::Newly,
            (false, Off::Newly | Off::Still) => Off::Still,
        };
        if self.off != Off::No {
            self.marks.put(DIRTY, true);
            self.lower_limits(expected, now);
        }
    }

    /// Drains no faster than the pool will from now on, so that no wait is told too short; what was lent beyond that goes back.
    fn lower_limits(&mut self, expected: [u64; N], now: Time) {
        self.drain(now);
        let burst_seconds = u32::from(self.burst_seconds);
        for (meter, per_minute) in self.meters.iter_mut().zip(expected) {
            meter.lower(Limit { per_minute, burst_seconds }, now);
        }
    }

    /// The pool's limits may be others now: they are heard at once.
    pub(super) fn ask_anew(&mut self) {
        (self.off, self.asked) = (Off::No, Moment::default());
        self.marks.put(DIRTY, true);
    }

    /// The pool did not take it: say it again, in a while.
    pub(super) fn unheard(&mut self) {
        self.marks.put(DIRTY, true);
    }

    /// The message or its reply was lost: say it again at once, also what asks waited for.
    pub(super) fn say_again(&mut self, waited: Waits<N>) {
        self.marks.put(DIRTY, true);
        self.asked = Moment::default();
        if waited.most != [0; N] {
            self.await_too(waited);
        }
    }

    /// What asks wait for.
    pub(super) fn waiting(&self) -> Waits<N> {
        self.waiting.as_deref().copied().unwrap_or(Waits { most: [0; N], sum: [0; N] })
    }

    /// Starts new counters from zeros, with nothing lent.
    pub(super) fn reopen(&mut self, now: Time) {
        self.open_generation(now);
        self.answered = Moment::default();
        for meter in &mut self.meters {
            meter.reopen();
        }
    }

    fn open_generation(&mut self, now: Time) {
        self.generation = self.generation.saturating_add(1).max(generation_at(now));
        self.seq = 0;
    }

    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn seq(&self) -> u64 {
        u64::from(self.seq)
    }

    /// Nothing was taken or said for `long`, and nothing is left to say.
    pub(super) fn is_quiet(&self, long: Duration, now: Time) -> bool {
        let is_told = !self.marks.has(DIRTY) && self.meters.iter().all(|meter| meter.fresh == 0 && meter.old == 0);
        is_told && self.since(self.used_at.max(self.asked), now) >= long
    }

    /// Panics where a counter is impossible.
    pub(super) fn assert_invariants(&self) {
        for meter in &self.meters {
            assert!(u64::from(meter.returned) <= meter.owed(), "no more tokens go back than were granted or charged");
        }
    }
}
