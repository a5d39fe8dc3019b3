//! One exact bucket for each metric, from which sessions borrow chunks that live for a second or, where little is out, ten.
//!
//! A chunk is charged when it is granted. So in any window what all sessions take together is at most what the bucket lets
//! through, `capacity + limit x window`, and what they held when it began: chunks of the last second, or no more than the
//! limit brings in one. A chunk's rest may come back in full for as long again, that of a small one for a minute, in which it
//! counts as out. However many they are, the bound is `capacity + limit x (window + 3 s)`.

mod borrower;
mod level;
mod minutes;
mod valid;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Group, RateReply, RateRequest, Refusal, Reservation, SessionId, StepDue, StepProposal};
use super::rules::RateRules;
use super::when::{bucket_time, earlier, elapsed, later, minute};
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::adaptive::Adaptive;
use crate::decision::rate::{Bucket, Limit};
use crate::decision::reserved::{RESERVED_MAX, covered, uncovered_tokens};
use crate::decision::terms::TokenLimits;
use borrower::{Borrower, News};
use level::{brought_tokens, drained_tokens, take_back};
use minutes::{Minutes, Turn};
use valid::{LIMIT_MAX, validate};

/// The buckets of one group of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatePool {
    /// The latest store time that was seen; it never runs backwards.
    now: UnixMs,
    limits: TokenLimits,
    burst_seconds: u32,
    buckets: [Bucket; 3],
    /// Names the adaptive states, the limits and the ended minutes: a change in any of them is a new version.
    version: u64,
    states: Option<Arc<[Adaptive; 3]>>,
    minutes: Minutes,
    /// What is reserved, and what it covered in the current minute.
    reserved: Option<(Reservation, Credit)>,
    sessions: BTreeMap<SessionId, Borrower>,
}

impl RatePool {
    /// Empty buckets of `seed` tokens per minute each. A group that exists is not seeded again.
    fn new(seed: TokenLimits, burst_seconds: u32, now: UnixMs) -> Self {
        Self {
            now,
            limits: seed,
            burst_seconds,
            buckets: [Bucket::EMPTY; 3],
            version: 1,
            states: None,
            minutes: Minutes::starting(minute(now)),
            reserved: None,
            sessions: BTreeMap::new(),
        }
    }

    /// The group's buckets before anybody asked for them, or why `request` cannot found them.
    pub fn seeded(request: &RateRequest, now: UnixMs) -> Result<Self, Refusal> {
        validate(request)?;
        Ok(Self::new(request.seed, request.burst_seconds, now))
    }

    /// Takes one request of one session. A repeated, reordered or late one changes nothing and brings nothing.
    ///
    /// A refusal changes nothing at all.
    pub fn sync(
        &mut self,
        session: &SessionId,
        request: &RateRequest,
        rules: &RateRules,
        now: UnixMs,
    ) -> Result<RateReply, Refusal> {
        validate(request)?;
        let known = self.sessions.get(session);
        if known.is_some_and(|known| request.generation < known.generation) {
            return Err(Refusal::NoSuchSession);
        }
        let is_new = known.is_none_or(|known| (known.generation, known.seq) < (request.generation, request.seq));
        self.tick(now, rules);
        let (loan, covered) =
            if is_new { self.take(session, request, rules) } else { (Loan::none(rules), Credit::ZERO) };
        Ok(self.reply(session, request, loan, covered))
    }

    /// Takes the result of an adaptive step, if nothing changed since the step was offered.
    pub fn propose(&mut self, proposal: &StepProposal, rules: &RateRules, now: UnixMs) -> bool {
        if !is_sane(proposal) || proposal.version != self.version {
            return false;
        }
        self.tick(now, rules);
        if proposal.version != self.version {
            return false;
        }
        self.drain();
        self.limits = proposal.limits;
        let covered = self.reserved.map_or(Credit::ZERO, |(_, covered)| covered);
        self.reserved = proposal.reserved.map(|reserved| (reserved, covered));
        if let Some(states) = &proposal.states {
            self.states = Some(Arc::new(states.clone()));
            self.minutes.forget_ended();
        }
        self.version = self.version.saturating_add(1);
        true
    }

    /// Moves store time on, settles chunks that did not come back, and closes the minute that ended.
    fn tick(&mut self, now: UnixMs, rules: &RateRules) {
        self.now = self.now.max(now);
        let then = earlier(self.now, rules.chunk_settle);
        self.sessions.values_mut().for_each(|borrower| borrower.settle(then));
        match self.minutes.turn(minute(self.now), rules.minutes_max) {
            Turn::Same => return,
            Turn::Idle => {}
            Turn::Busy => self.version = self.version.saturating_add(1),
        }
        // What was reserved for the minute that ended and not used is lost.
        self.reserved.iter_mut().for_each(|(_, covered)| *covered = Credit::ZERO);
        let now = self.now;
        self.sessions.retain(|_, borrower| elapsed(borrower.heard, now) <= rules.session_keep);
    }

    /// The burst is the catalogue's, and the newest asker knows it. Limits change by proposals alone.
    fn adopt_burst(&mut self, burst_seconds: u32) {
        if burst_seconds != self.burst_seconds {
            self.drain();
            self.burst_seconds = burst_seconds;
        }
    }

    /// What is due drains at the old limits, before they change: what is left is debt in tokens, whatever the new ones are.
    fn drain(&mut self) {
        let now = bucket_time(self.now);
        self.each_bucket([0; 3], |bucket, limit, _| *bucket = Bucket::with_level(bucket.level(limit, now), now));
    }

    /// What is lent, and what the reservation covers of what was used.
    fn take(&mut self, session: &SessionId, request: &RateRequest, rules: &RateRules) -> (Loan, Credit) {
        self.make_way(session, request.generation, rules);
        let now = self.now;
        let borrower = self.sessions.entry(session.clone()).or_insert_with(|| Borrower::starting(request));
        let news = borrower.take(request, now, earlier(now, rules.small_settle));
        self.adopt_burst(request.burst_seconds);
        self.apply(&news, rules);
        let covered = self.cover(news.priced);
        // The envelope of requests is fixed: no step waits for its minutes.
        if request.group != Group::Requests {
            self.minutes.add(news.used.map(|tokens| uncovered_tokens(tokens, news.priced, covered)));
        }
        let loan = self.lend(session, request, rules);
        if let Some(borrower) = self.sessions.get_mut(session) {
            borrower.borrow(loan.tokens, loan.is_small, now, later(now, loan.life));
        }
        (loan, covered)
    }

    /// What of newly reported usage is paid for already, from what is left of this minute's reservation.
    fn cover(&mut self, priced: Credit) -> Credit {
        let Some((reserved, before)) = &mut self.reserved else { return Credit::ZERO };
        let covered = covered(priced, reserved.per_minute, *before);
        *before = before.plus(covered);
        covered
    }

    /// Gives back first and charges then, so that an empty bucket swallows no charge.
    fn apply(&mut self, news: &News, rules: &RateRules) {
        let (now, age) = (bucket_time(self.now), elapsed(news.late.at, self.now));
        let lent = self.sessions.values().fold([0; 3], |sum, one| each(sum, one.lent(), u64::saturating_add));
        let limits = self.limits_now();
        for (((bucket, limit), tokens), lent) in self.buckets.iter_mut().zip(limits).zip(news.back).zip(lent) {
            take_back(bucket, limit, tokens, lent, rules.chunk_settle, now);
        }
        self.each_bucket(news.late.tokens, |bucket, limit, tokens| {
            bucket.refund(limit, tokens.saturating_sub(drained_tokens(limit, age)), now);
        });
        self.each_bucket(news.refund, |bucket, limit, tokens| bucket.refund(limit, tokens, now));
        self.each_bucket(news.charge, |bucket, limit, tokens| bucket.charge(limit, tokens, now));
    }

    /// At least the need, where it fits in every bucket; then the want, up to a fair share of the room. As many lives' worth of
    /// it as leave little out are lent for longer.
    fn lend(&mut self, session: &SessionId, request: &RateRequest, rules: &RateRules) -> Loan {
        let now = bucket_time(self.now);
        let [a, b, c] = &self.buckets;
        let [la, lb, lc] = self.limits_now();
        let room = [a.room(la, now), b.room(lb, now), c.room(lc, now)];
        if request.need.iter().zip(room).any(|(need, room)| room < *need) {
            return Loan::none(rules);
        }
        let parts = self.borrowers(session, rules).saturating_mul(2);
        let lent = |want: [u64; 3]| {
            let share = each(room, want, |room, want| want.min(room.checked_div(parts).unwrap_or(0)));
            each(share, request.need, u64::max)
        };
        let (out, brought) = (self.out(rules), self.limits_now().map(|limit| brought_tokens(limit, rules.chunk_life)));
        let left = each(brought, out, u64::saturating_sub);
        let lives = each(left, request.want, |left, want| left.checked_div(want).unwrap_or(u64::MAX));
        let lives = lives.into_iter().fold(rules.small_lives(), u64::min).max(1);
        let for_long = lent(request.want.map(|want| want.saturating_mul(lives)));
        let all_out = each(out, for_long, u64::saturating_add);
        let loan = if all_out.iter().zip(brought).all(|(out, brought)| *out <= brought) {
            Loan { tokens: for_long, life: rules.chunk_life_small, is_small: true }
        } else {
            Loan { tokens: lent(request.want), life: rules.chunk_life, is_small: false }
        };
        self.each_bucket(loan.tokens, |bucket, limit, tokens| bucket.charge(limit, tokens, now));
        loan
    }

    /// What all sessions together hold: little, while it is no more than the limit brings in a chunk's life.
    fn out(&self, rules: &RateRules) -> [u64; 3] {
        let then = earlier(self.now, rules.small_settle);
        let at_hand = self.sessions.values().map(|borrower| borrower.at_hand(then));
        at_hand.fold([0; 3], |sum, one| each(sum, one, u64::saturating_add))
    }

    /// Sessions heard of a moment ago, the asker among them.
    fn borrowers(&self, asker: &SessionId, rules: &RateRules) -> u64 {
        let is_near = |heard: UnixMs| elapsed(heard, self.now) <= rules.heard_within;
        let others = self.sessions.iter().filter(|(id, borrower)| *id != asker && is_near(borrower.heard));
        u64::try_from(others.count()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Drops an older generation; where there are too many sessions, drops the one that is silent for longest.
    fn make_way(&mut self, session: &SessionId, generation: u32, rules: &RateRules) {
        let known = self.sessions.get(session);
        if known.is_some_and(|known| known.generation != generation) {
            self.sessions.remove(session);
        } else if known.is_none() && rules.sessions_max <= self.sessions.len() {
            let oldest = self.sessions.iter().min_by_key(|(id, borrower)| (borrower.heard, *id));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.sessions.remove(&id);
            }
        }
    }

    /// Does the same to the bucket of each metric.
    fn each_bucket(&mut self, tokens: [u64; 3], change: impl Fn(&mut Bucket, Limit, u64)) {
        let limits = self.limits_now();
        for ((bucket, limit), tokens) in self.buckets.iter_mut().zip(limits).zip(tokens) {
            change(bucket, limit, tokens);
        }
    }

    fn limits_now(&self) -> [Limit; 3] {
        let reserved = self.reserved.map_or([0; 3], |(reserved, _)| reserved.tokens);
        let limits = each(self.limits, reserved, u64::saturating_add);
        limits.map(|limit| Limit { per_minute: limit.min(LIMIT_MAX), burst_seconds: self.burst_seconds })
    }

    fn reply(&self, session: &SessionId, request: &RateRequest, loan: Loan, covered: Credit) -> RateReply {
        let now = bucket_time(self.now);
        let [a, b, c] = &self.buckets;
        let [la, lb, lc] = self.limits_now();
        RateReply {
            group: request.group.clone(),
            generation: request.generation,
            seq: request.seq,
            granted: self.sessions.get(session).map_or([0; 3], |borrower| borrower.granted),
            fresh: loan.tokens,
            chunk_life: loan.life,
            limits: self.limits,
            reserved: self.reserved.map(|(reserved, _)| reserved),
            covered,
            burst_seconds: self.burst_seconds,
            levels: [a.level(la, now), b.level(lb, now), c.level(lc, now)],
            version: self.version,
            due: self.step_due(),
        }
    }

    fn step_due(&self) -> Option<StepDue> {
        let minutes = self.minutes.ended().to_vec();
        let (version, current_minute) = (self.version, self.minutes.current());
        let states = self.states.clone();
        (!minutes.is_empty()).then_some(StepDue { version, states, minutes, current_minute })
    }
}

fn is_sane(proposal: &StepProposal) -> bool {
    let Reservation { per_minute, tokens } = proposal.reserved.unwrap_or_default();
    let are_small = proposal.limits.iter().chain(&tokens).all(|limit| *limit < LIMIT_MAX);
    are_small && (Credit::ZERO..=RESERVED_MAX).contains(&per_minute)
}

/// Tokens lent by one call, and how long they live.
#[derive(Clone, Copy)]
struct Loan {
    tokens: [u64; 3],
    life: Duration,
    is_small: bool,
}

impl Loan {
    const fn none(rules: &RateRules) -> Self {
        Self { tokens: [0; 3], life: rules.chunk_life, is_small: false }
    }
}

/// The same for each metric.
pub(super) fn each(left: [u64; 3], right: [u64; 3], f: impl Fn(u64, u64) -> u64) -> [u64; 3] {
    let ([a, b, c], [x, y, z]) = (left, right);
    [f(a, x), f(b, y), f(c, z)]
}
