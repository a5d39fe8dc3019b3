//! The one hot operation: take what a session reports, lend what it needs, tell it how things stand.

use std::sync::Arc;
use std::time::Duration;

use super::account::Pool;
use super::message::{Happening, Refusal, SessionId, SyncReply, SyncRequest};
use super::month::split;
use super::rules::PoolRules;
use super::session::{Key, Merged, Record, Stage};
use super::when::{elapsed, later};
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::Suspension;

/// A session's own counters stay below this, 2^50 nano-USD (1.1 M USD); then it opens a new generation.
const COUNTER_MAX: Credit = Credit::from_nanos(1_125_899_906_842_624);
/// `G` and `C` as told may lie above it, where spending beyond a grant raised `G`.
const KNOWN_MAX: Credit = Credit::from_nanos(4_503_599_627_370_496);
/// What an account's sums stay below, 2^61: two of them and all credits fit in an `i64`.
const SUM_MAX: Credit = Credit::from_nanos(2_305_843_009_213_693_952);

impl Pool {
    /// Takes one request of one session. A repeated, reordered or late one changes nothing that counts.
    ///
    /// A refusal changes nothing at all.
    pub fn sync(
        &mut self,
        session: &SessionId,
        request: &SyncRequest,
        rules: &PoolRules,
        now: UnixMs,
    ) -> Result<SyncReply, Refusal> {
        validate(request)?;
        self.check_cap(request)?;
        let key = (session.clone(), request.generation);
        let merged = self.merged(&key, request, rules)?;
        self.tick(now, rules);
        self.take_cap(request);
        if merged.is_some() {
            self.make_way(&key, rules);
        }
        self.reap(&key, rules);
        let out = merged.as_ref().map(|merged| &merged.record).or(self.sessions.get(&key)).map(Record::outstanding);
        let lacking = request.need.minus(out.unwrap_or_default());
        let hungry = merged.is_some_and(|merged| self.take(&key, request, merged, rules));
        self.announce(rules);
        Ok(self.reply(&key, request, (hungry, lacking), rules))
    }

    /// What the session's record becomes; `None` where the request has nothing new to say to it.
    fn merged(&self, key: &Key, request: &SyncRequest, rules: &PoolRules) -> Result<Option<Merged>, Refusal> {
        let record = match self.sessions.get(key) {
            Some(record) if record.is_closed() => return closed(record, request),
            Some(record) if request.seq <= record.seq => return stale(record, request),
            Some(record) => *record,
            None => self.opened(key, request, rules)?,
        };
        let merged = record.merge(request);
        let leased = self.leased.minus(record.outstanding()).plus(merged.record.outstanding());
        if SUM_MAX < self.used.plus(merged.spent).max(leased) {
            return Err(Refusal::Malformed("usage or grants above what an account can have"));
        }
        Ok(Some(merged))
    }

    /// An empty record, unless this generation may have been counted into the pool already.
    fn opened(&self, key: &Key, request: &SyncRequest, rules: &PoolRules) -> Result<Record, Refusal> {
        let forgotten = request.silence.is_some_and(|silence| rules.tombstones < silence.saturating_mul(2));
        let outlived = self.generations(key).any(|generation| key.1 < generation);
        if forgotten || outlived {
            return Err(Refusal::NoSuchSession);
        }
        if rules.sessions_max <= self.sessions.len() && self.oldest_tombstone().is_none() {
            return Err(Refusal::Crowded);
        }
        Ok(Record::default())
    }

    fn generations(&self, (session, _): &Key) -> impl Iterator<Item = u32> {
        let all = (session.clone(), 0)..=(session.clone(), u32::MAX);
        self.sessions.range(all).map(|((_, generation), _)| *generation)
    }

    /// Replaces a record, and keeps the sums true.
    pub(super) fn put(&mut self, key: &Key, record: Record) {
        let old = self.sessions.insert(key.clone(), record).unwrap_or_default();
        self.used = self.used.minus(old.used).plus(record.used);
        self.leased = self.leased.minus(old.outstanding()).plus(record.outstanding());
    }

    /// Books what was reported and lends what is wished for. True where the need was not met.
    fn take(&mut self, key: &Key, request: &SyncRequest, merged: Merged, rules: &PoolRules) -> bool {
        let old = self.sessions.get(key).copied().unwrap_or_default();
        let split = split(&old, request, merged.spent, self.months.current);
        self.note_late(split.now_in);
        self.note_late(split.earlier);
        self.months.book(&split, rules.months_kept);
        self.oddities.beyond_grant = self.oddities.beyond_grant.plus(merged.beyond);
        if merged.beyond.is_positive() {
            self.emit(Happening::Overrun { amount: merged.beyond });
        }
        self.oddities.readopted = self.oddities.readopted.plus(merged.readopted);
        self.put(key, Record { month: split.month, used_before: split.used_before, ..merged.record });
        self.ops = self.ops.saturating_add(1);
        if request.bye {
            self.end(key, Stage::Closed(self.now));
            return false;
        }
        let lacking = request.need.minus(merged.record.outstanding());
        let hungry = self.lend(key, request, rules);
        self.renew(key, lacking, rules);
        hungry
    }

    /// `min(room, max(need - out, min(want - out, room / 2n)))`, where both what is lent at once for a wish and what a
    /// session has beyond its need are bounded; nothing where the need is not reached, which is true then.
    fn lend(&mut self, key: &Key, request: &SyncRequest, rules: &PoolRules) -> bool {
        if request.declare {
            return false;
        }
        let record = self.sessions.get(key).copied().unwrap_or_default();
        let (out, room) = (record.outstanding(), self.room().at_least_zero());
        let bound = rules.lease_max.min(room.divided_by(rules.lease_parts));
        let need = request.need.minus(out);
        let wish = need.plus(request.want.minus(request.need).min(bound)).min(bound);
        let share = room.divided_by(self.holders(key).saturating_mul(2));
        let counter_left = COUNTER_MAX.minus(Credit::from_nanos(1)).minus(record.granted);
        let most = need.max(wish.min(share)).min(room).min(counter_left).at_least_zero();
        let hungry = most < need;
        let grant = if hungry { Credit::ZERO } else { most };
        self.put(key, Record { granted: record.granted.plus(grant), ..record });
        if hungry && out < self.leased && self.terms.suspension == Suspension::None {
            self.starving_until = later(self.now, rules.starving);
        }
        hungry
    }

    /// Sessions whose lease lives, the asker among them.
    fn holders(&self, asker: &Key) -> u32 {
        let others = self.sessions.iter().filter(|(key, record)| *key != asker && record.is_live(self.now));
        u32::try_from(others.count()).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn renew(&mut self, key: &Key, lacking: Credit, rules: &PoolRules) {
        let (ttl, now) = (self.ttl(key, lacking, rules), self.now);
        if let Some(record) = self.sessions.get_mut(key) {
            record.renew(now, ttl);
        }
    }

    fn ttl(&self, asker: &Key, lacking: Credit, rules: &PoolRules) -> Duration {
        if self.is_scarce(asker, lacking, rules) { rules.ttl_scarce } else { rules.ttl }
    }

    /// A repeated request is never told of a longer life than the pool itself remembers.
    fn lease_left(&self, record: &Record) -> Duration {
        if record.is_open() { elapsed(self.now, record.expires) } else { Duration::ZERO }
    }

    /// Less is left than some requests of each holder, like the one that waits or typical ones. `lacking` is what the
    /// asker had too little for its need: what running requests hold is lent already and says nothing of the next one.
    fn is_scarce(&self, asker: &Key, lacking: Credit, rules: &PoolRules) -> bool {
        let requests = self.holders(asker).saturating_mul(rules.scarce_requests);
        self.room().divided_by(requests) < lacking.max(rules.request_typical)
    }

    fn reply(
        &self,
        key: &Key,
        request: &SyncRequest,
        (hungry, lacking): (bool, Credit),
        rules: &PoolRules,
    ) -> SyncReply {
        let record = self.sessions.get(key).expect("a request that was not refused has a record");
        let available = self.room().at_least_zero();
        let terms_differ = request.terms_known != self.terms_version && !self.is_user();
        SyncReply {
            generation: request.generation,
            seq: record.seq,
            granted: record.granted,
            reclaimed: record.reclaimed,
            ttl: self.lease_left(record).min(self.ttl(key, lacking, rules)),
            available,
            is_final: hungry || !available.is_positive(),
            recall: !hungry && self.now < self.starving_until,
            month: self.months.current,
            month_left: elapsed(self.now, self.months.current.end()),
            terms_version: self.terms_version,
            terms: terms_differ.then(|| Arc::clone(&self.terms)),
            view: self.view(self.now),
            ops: self.ops,
            next_sync: self.next_sync(key, lacking, record, rules),
        }
    }

    fn next_sync(&self, asker: &Key, lacking: Credit, record: &Record, rules: &PoolRules) -> Duration {
        let others_hold = record.outstanding() < self.leased && self.terms.suspension == Suspension::None;
        let (wait, spacing) = if !self.is_scarce(asker, lacking, rules) {
            (rules.next_sync_healthy, rules.sync_spacing_healthy)
        } else if self.room().is_positive() || others_hold {
            (rules.next_sync_scarce, rules.sync_spacing)
        } else {
            (rules.next_sync_blocked, rules.sync_spacing)
        };
        let fair = spacing.saturating_mul(self.holders(asker));
        wait.max(fair).min(rules.next_sync_max)
    }
}

fn validate(request: &SyncRequest) -> Result<(), Refusal> {
    let bounded = [
        (request.used, COUNTER_MAX, "used"),
        (request.returned, COUNTER_MAX, "returned"),
        (request.granted_known, KNOWN_MAX, "granted"),
        (request.reclaimed_known, KNOWN_MAX, "reclaimed"),
        (request.want, COUNTER_MAX, "want"),
        (request.need, COUNTER_MAX, "need"),
        (request.used_before, COUNTER_MAX, "used before this month"),
    ];
    for (amount, bound, name) in bounded {
        if amount < Credit::ZERO || bound <= amount {
            return Err(Refusal::Malformed(name));
        }
    }
    if request.want < request.need {
        return Err(Refusal::Malformed("need above want"));
    }
    if request.used < request.used_before {
        return Err(Refusal::Malformed("used before this month above used"));
    }
    Ok(())
}

/// A closed record is final: the last words may be repeated, anything else belongs to a new generation.
fn closed(record: &Record, request: &SyncRequest) -> Result<Option<Merged>, Refusal> {
    let borrows = record.seq < request.seq && request.want.is_positive() && !request.bye && !request.declare;
    if record.lacks(request) || borrows { Err(Refusal::NoSuchSession) } else { Ok(None) }
}

/// A late or repeated message says nothing new, unless two processes speak for one session.
fn stale(record: &Record, request: &SyncRequest) -> Result<Option<Merged>, Refusal> {
    if record.lacks(request) { Err(Refusal::Superseded) } else { Ok(None) }
}
