//! The store: the pool's law for every account, on a disk that may be lost and with a clock that may step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::UnixMs;
use tollgate::decision::Credit;
use tollgate::decision::terms::Terms;
use tollgate::pool::message::{Group, Happening, RateReply, RateRequest, StepProposal};
use tollgate::pool::{
    CreditKind, Message, Papers, Pool, PoolRules, RatePool, RateRules, Receipt, Refusal, Reply, SessionId,
};

use crate::mutants::{Call, Saboteur};

/// What a store keeps: what a failover may set back.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pools: BTreeMap<Arc<str>, Pool>,
    rates: BTreeMap<(Arc<str>, Group), RatePool>,
}

pub struct Store {
    pub disk: Disk,
    rules: PoolRules,
    rate_rules: RateRules,
    start: UnixMs,
    stepped_ms: i64,
    pub saboteur: Saboteur,
}

impl Store {
    pub fn new(start: UnixMs, saboteur: Saboteur) -> Self {
        let (rules, rate_rules) = (PoolRules::default(), RateRules::default());
        Self { disk: Disk::default(), rules, rate_rules, start, stepped_ms: 0, saboteur }
    }

    /// What the store's clock says.
    pub fn now(&self, at: Duration) -> UnixMs {
        let passed = u64::try_from(at.as_millis()).expect("some days");
        UnixMs((self.start.0 + passed).saturating_add_signed(self.stepped_ms))
    }

    pub fn step_clock(&mut self, millis: i64) {
        self.stepped_ms += millis;
    }

    pub fn create(&mut self, account: Arc<str>, terms: Terms, at: Duration) {
        let pool = Pool::new(Arc::clone(&account), terms, &self.rules, self.now(at));
        self.disk.pools.insert(account, pool);
    }

    pub fn create_user(&mut self, name: Arc<str>, at: Duration) {
        let pool = Pool::of_user(Arc::clone(&name), &self.rules, self.now(at));
        self.disk.pools.insert(name, pool);
    }

    pub fn pool(&self, account: &str) -> &Pool {
        self.disk.pools.get(account).expect("accounts are never deleted")
    }

    /// What happened to an account since this was last asked.
    pub fn take_events(&mut self, account: &str) -> Vec<Happening> {
        let pool = self.disk.pools.get_mut(account).expect("accounts are never deleted");
        pool.take_events().into_iter().map(|event| event.what).collect()
    }

    /// Says how much was purchased in all; repeating it changes nothing, and gives false.
    pub fn credit(&mut self, account: &str, purchased: i64, at: Duration) -> bool {
        let (now, total) = (self.now(at), Credit::from_nanos(purchased));
        let pool = self.disk.pools.get_mut(account).expect("accounts are never deleted");
        let before = pool.summary(now);
        let amount = total.minus(before.credits_purchased);
        let receipt = Receipt { kind: CreditKind::Purchased, amount, id: "id".into(), papers: Papers::default() };
        let version = before.credit_version + u64::from(amount != Credit::ZERO);
        pool.book(version, receipt, &self.rules, now).expect("a small purchase")
    }

    /// Replaces the terms, whatever they were.
    pub fn configure(&mut self, account: &str, terms: Terms, at: Duration) {
        let now = self.now(at);
        let pool = self.disk.pools.get_mut(account).expect("accounts are never deleted");
        let version = pool.summary(now).terms_version + 1;
        pool.configure(version, terms, &self.rules, now);
    }

    /// One message, as a store takes it: all of it in one step.
    pub fn exchange(&mut self, message: &Message, at: Duration) -> Reply {
        let now = self.now(at);
        let rates: Vec<_> =
            message.rates.iter().map(|rate| self.rate(&message.account, &message.session, rate, now)).collect();
        if let Some(pool) = self.disk.pools.get_mut(&message.account) {
            pool.cover(&rates, &self.rules, now);
        }
        let sync = message.sync.as_ref().map(|sync| match self.disk.pools.get_mut(&message.account) {
            Some(pool) => {
                let (account, session) = (&message.account, &message.session);
                self.saboteur.sync(pool, Call { account, session, sync, rules: &self.rules, now })
            }
            None => Err(Refusal::NoSuchAccount),
        });
        Reply { account: Arc::clone(&message.account), sync, rates }
    }

    /// New limits for one group, where nothing changed since they were worked out.
    pub fn propose(&mut self, step: &StepProposal, at: Duration) {
        let now = self.now(at);
        if let Some(pool) = self.disk.rates.get_mut(&(Arc::clone(&step.account), step.group.clone())) {
            pool.propose(step, &self.rate_rules, now);
        }
    }

    fn rate(
        &mut self,
        account: &Arc<str>,
        session: &SessionId,
        request: &RateRequest,
        now: UnixMs,
    ) -> Result<RateReply, Refusal> {
        let key = (Arc::clone(account), request.group.clone());
        if !self.disk.rates.contains_key(&key) {
            self.disk.rates.insert(key.clone(), RatePool::seeded(request, now)?);
        }
        let pool = self.disk.rates.get_mut(&key).expect("just seeded");
        pool.sync(session, request, &self.rate_rules, now)
    }
}
