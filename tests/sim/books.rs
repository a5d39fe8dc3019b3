//! The store's books as they must be: one record for each session, kept from what was asked and what was answered.

use std::collections::BTreeMap;

use tollgate::decision::terms::ReclaimMode;
use tollgate::pool::{PoolRules, SessionId, SyncReply, SyncRequest};

use crate::truth::{Check, ensure};

/// A session's record for one account: the session, by its place in the world, and its generation.
pub type RecordKey = (usize, u32);

#[derive(Clone, Debug)]
struct Record {
    session: SessionId,
    seq: u64,
    granted: i64,
    used: i64,
    returned: i64,
    reclaimed: i64,
    /// By the store's clock.
    expires_ms: u64,
    ttl_ms: u64,
    /// Neither closed nor taken back from since it last spoke.
    open: bool,
}

/// The books of one account. A failover restores older ones together with the store.
#[derive(Clone, Debug, Default)]
pub struct Books {
    records: BTreeMap<RecordKey, Record>,
    /// The latest time that the store saw.
    store_ms: u64,
}

impl Record {
    fn new(session: &SessionId) -> Self {
        Self {
            session: session.clone(),
            seq: 0,
            granted: 0,
            used: 0,
            returned: 0,
            reclaimed: 0,
            expires_ms: 0,
            ttl_ms: 0,
            open: false,
        }
    }

    fn outstanding(&self) -> i64 {
        self.granted - self.used - self.returned - self.reclaimed
    }

    /// Spent by the session, or its right to spend.
    fn committed(&self) -> i64 {
        self.granted - self.returned - self.reclaimed
    }

    /// When its rights may be taken back, should it stay silent.
    fn due_ms(&self, mode: ReclaimMode, rules: &PoolRules) -> u64 {
        let limbo = u64::try_from(rules.limbo.as_millis()).expect("a day");
        let grace = u64::try_from(rules.grace.as_millis()).expect("seconds");
        let quarantine = if mode == ReclaimMode::Limbo { limbo } else { self.ttl_ms };
        self.expires_ms + quarantine + grace
    }

    fn take(&mut self, sync: &SyncRequest, reply: &SyncReply, store_ms: u64) {
        self.seq = sync.seq;
        self.used = self.used.max(sync.used.nanos());
        self.returned = self.returned.max(sync.returned.nanos());
        self.granted = reply.granted.nanos();
        self.reclaimed = reply.reclaimed.nanos();
        self.open = !sync.bye;
        let ttl_ms = u64::try_from(reply.ttl.as_millis()).expect("a minute");
        if !sync.bye && self.expires_ms < store_ms + ttl_ms {
            (self.expires_ms, self.ttl_ms) = (store_ms + ttl_ms, ttl_ms);
        }
    }
}

impl Books {
    /// Books of an account that was opened at this time.
    pub fn new(store_ms: u64) -> Self {
        Self { records: BTreeMap::new(), store_ms }
    }

    pub fn used(&self) -> i64 {
        self.records.values().map(|record| record.used).sum()
    }

    pub fn leased(&self) -> i64 {
        self.records.values().map(Record::outstanding).sum()
    }

    pub fn lives(&self) -> impl Iterator<Item = usize> {
        let lives: std::collections::BTreeSet<usize> = self.records.keys().map(|(life, _)| *life).collect();
        lives.into_iter()
    }

    pub fn used_by(&self, life: usize) -> i64 {
        self.of(life).map(|record| record.used).sum()
    }

    pub fn leased_by(&self, life: usize) -> i64 {
        self.of(life).map(Record::outstanding).sum()
    }

    /// The store speaks at `now_ms`; its time never runs back.
    pub fn tick(&mut self, now_ms: u64) {
        self.store_ms = self.store_ms.max(now_ms);
    }

    /// Takes what the store took, and says how much was lent with it.
    pub fn accept(
        &mut self,
        life: usize,
        session: &SessionId,
        sync: &SyncRequest,
        reply: &SyncReply,
    ) -> Result<i64, String> {
        let store_ms = self.store_ms;
        let record = self.records.entry((life, sync.generation)).or_insert_with(|| Record::new(session));
        let before = record.clone();
        if record.seq < sync.seq && reply.seq == sync.seq {
            record.take(sync, reply, store_ms);
        }
        let told = (reply.granted.nanos(), reply.reclaimed.nanos());
        ensure(told == (record.granted, record.reclaimed), || format!("told {told:?}, the books say {record:?}"))?;
        ensure(before.granted <= record.granted, || format!("a grant shrinks: {before:?}, {record:?}"))?;
        ensure(before.reclaimed <= record.reclaimed, || format!("a reclaim shrinks: {before:?}, {record:?}"))?;
        ensure(record.outstanding() >= 0, || format!("rights below nothing: {record:?}"))?;
        let known = before.granted.max(sync.granted_known.nanos());
        Ok(record.granted - known.max(record.used + record.returned + record.reclaimed))
    }

    /// Takes rights back from those that were silent for longest, as the store must have done before it served `asker`.
    pub fn reap(&mut self, amount: i64, mode: ReclaimMode, asker: RecordKey) -> Result<Vec<(usize, i64)>, String> {
        let rules = PoolRules::default();
        let silent = self.records.iter().filter(|(key, record)| record.open && **key != asker);
        let silent = silent.map(|(key, record)| (record.due_ms(mode, &rules), record.session.clone(), *key));
        let mut due: Vec<(u64, SessionId, RecordKey)> = silent.filter(|(at, ..)| *at <= self.store_ms).collect();
        due.sort_unstable_by(|one, other| (one.0, &one.1, one.2.1).cmp(&(other.0, &other.1, other.2.1)));
        due.truncate(rules.reap_max);
        let mut taken = Vec::new();
        for (_, _, key) in due {
            let record = self.records.get_mut(&key).expect("just listed");
            let gain = record.outstanding();
            record.reclaimed += gain;
            record.open = false;
            if gain > 0 {
                taken.push((key.0, gain));
            }
        }
        let sum: i64 = taken.iter().map(|(_, gain)| gain).sum();
        ensure(sum == amount, || format!("{amount} were taken back, and {taken:?} were due"))?;
        Ok(taken)
    }

    /// What sessions may have spent or may spend, and older books do not know of.
    pub fn forgotten(&self, found: &Self) -> i64 {
        let lost = |(key, record): (&RecordKey, &Record)| {
            let known = found.records.get(key).map_or(0, Record::committed);
            (record.committed() - known).max(0)
        };
        self.records.iter().map(lost).sum()
    }

    /// The books of the store under test say the same.
    pub fn check(&self, used: i64, leased: i64) -> Check {
        ensure(used == self.used(), || format!("the store booked {used} of {} reported", self.used()))?;
        ensure(leased == self.leased(), || format!("the store lent {leased}, its answers say {}", self.leased()))
    }

    fn of(&self, life: usize) -> impl Iterator<Item = &Record> {
        self.records.range((life, 0)..=(life, u32::MAX)).map(|(_, record)| record)
    }
}
