//! Wrong protocols, wired around the real code: each must fail the simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate::clock::{Now, UnixMs};
use tollgate::decision::Credit;
use tollgate::pool::message::UserCap;
use tollgate::pool::{
    CreditKind, Message, Papers, Pool, PoolRules, Receipt, Refusal, SessionId, SyncReply, SyncRequest,
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Sidecars say what they used since the last answer, and the store adds it.
    Deltas,
    /// The store forgets sessions that ended, and takes them for new ones when they speak again.
    NoTombstone,
    /// The store lends without looking at what is left.
    NoPoolCheck,
    /// A lease counts from the reply's arrival, not from the request's sending.
    LeaseFromReceipt,
    /// The store lends to users whatever their cap says.
    NoCap,
}

/// One request on its way to a pool.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub account: &'a Arc<str>,
    pub session: &'a SessionId,
    pub sync: &'a SyncRequest,
    pub rules: &'a PoolRules,
    pub now: UnixMs,
}

type Answer = Result<SyncReply, Refusal>;
type Record = (Arc<str>, SessionId, u32);

/// Stands between the network and a pool, and plays a mutant's part; without one it only passes on.
#[derive(Debug)]
pub struct Saboteur {
    mutant: Option<Mutant>,
    /// Usage that was answered, and the sum that the store made of what it was told.
    answered: BTreeMap<Record, Credit>,
    added: BTreeMap<Record, Credit>,
    /// How often a session was forgotten.
    forgotten: BTreeMap<Record, u128>,
}

impl Call<'_> {
    fn record(&self) -> Record {
        (Arc::clone(self.account), self.session.clone(), self.sync.generation)
    }

    fn to(&self, pool: &mut Pool) -> Answer {
        pool.sync(self.session, self.sync, self.rules, self.now)
    }
}

impl Saboteur {
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, answered: BTreeMap::new(), added: BTreeMap::new(), forgotten: BTreeMap::new() }
    }

    pub fn sync(&mut self, pool: &mut Pool, call: Call<'_>) -> Answer {
        match self.mutant {
            Some(Mutant::Deltas) => self.add_delta(pool, call),
            Some(Mutant::NoTombstone) => self.forget_ended(pool, call),
            Some(Mutant::NoPoolCheck) => lend_unchecked(pool, call),
            Some(Mutant::NoCap) => lend_beyond_caps(pool, call),
            Some(Mutant::LeaseFromReceipt) | None => call.to(pool),
        }
    }

    /// When a sidecar believes that it sent the request which a reply answers.
    pub fn sent(&self, sent: Now, received: Now) -> Now {
        if self.mutant == Some(Mutant::LeaseFromReceipt) { received } else { sent }
    }

    /// A session took the reply to `message`: the next difference starts there.
    pub fn acknowledged(&mut self, message: &Message) {
        let Some(sync) = message.sync.as_ref().filter(|_| self.mutant == Some(Mutant::Deltas)) else { return };
        let key = (Arc::clone(&message.account), message.session.clone(), sync.generation);
        let answered = self.answered.entry(key).or_default();
        *answered = (*answered).max(sync.used);
    }

    fn add_delta(&mut self, pool: &mut Pool, call: Call<'_>) -> Answer {
        let answered = self.answered.get(&call.record()).copied().unwrap_or_default();
        let sum = self.added.entry(call.record()).or_default();
        *sum = sum.plus(call.sync.used.minus(answered).at_least_zero());
        let sync = SyncRequest { used: *sum, used_before: Credit::ZERO, ..*call.sync };
        Call { sync: &sync, ..call }.to(pool)
    }

    fn forget_ended(&mut self, pool: &mut Pool, call: Call<'_>) -> Answer {
        let times = self.forgotten.entry(call.record()).or_default();
        let alias = |times: u128| SessionId { run: call.session.run.wrapping_add(times), ..call.session.clone() };
        let remembered = match (Call { session: &alias(*times), ..call }).to(&mut pool.clone()) {
            Ok(reply) => call.sync.reclaimed_known < reply.reclaimed && !call.sync.bye,
            Err(refusal) => refusal == Refusal::NoSuchSession,
        };
        *times += u128::from(remembered);
        Call { session: &alias(*times), ..call }.to(pool)
    }
}

/// As if no user had a cap.
fn lend_beyond_caps(pool: &mut Pool, call: Call<'_>) -> Answer {
    let cap = call.sync.cap.map(|cap| UserCap { limit: cap.limit.plus(Credit::from_nanos(1_000_000_000_000)), ..cap });
    Call { sync: &SyncRequest { cap, ..*call.sync }, ..call }.to(pool)
}

/// As if credits without end were there while the pool looks.
fn lend_unchecked(pool: &mut Pool, call: Call<'_>) -> Answer {
    let before = pool.summary(call.now);
    let adjust = |pool: &mut Pool, version: u64, nanos: i64| {
        let (kind, amount) = (CreditKind::Adjustment, Credit::from_nanos(nanos));
        let receipt = Receipt { kind, amount, id: "id".into(), papers: Papers::default() };
        pool.book(version, receipt, call.rules, call.now).expect("a sane amount");
    };
    adjust(pool, before.credit_version + 1, 1_000_000_000_000);
    let answer = call.to(pool);
    adjust(pool, before.credit_version + 2, -1_000_000_000_000);
    answer.map(|reply| SyncReply { view: pool.view(call.now), ..reply })
}
