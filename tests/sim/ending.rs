//! The end of a history: everybody says bye, nothing is stranded, and everything is booked exactly once.

use std::sync::Arc;
use std::time::Duration;

use tollgate::decision::Credit;
use tollgate::decision::terms::{Mode, Suspension};
use tollgate::pool::message::UserCap;
use tollgate::pool::{Message, SessionId, SyncRequest, user_of};

use crate::client::Request;
use crate::event::{Event, Packet, Step};
use crate::truth::{Check, ensure};
use crate::world::{Account, World};

/// Longer than limbo, grace and every lease together.
const QUARANTINE: Duration = Duration::from_secs(25 * 3_600);

/// How long clients insist on what is left, and how often they ask.
const INSIST: Duration = Duration::from_secs(20);
const INSIST_EVERY: Duration = Duration::from_millis(500);

impl World {
    /// Everything is quiet. Whoever asks now, anywhere, can have all that is left.
    pub fn insist(&mut self) {
        self.set_pace(Duration::from_millis(400));
        self.queue.put(self.at + INSIST * 2, Event::Farewell);
        let living: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].takes_asks()).collect();
        if living.is_empty() || self.profile.tight_rates {
            return;
        }
        for account in 0..self.accounts.len() {
            let is_user = user_of(&self.accounts[account].name).is_some();
            if is_user || self.accounts[account].truth.rolled_back {
                continue;
            }
            let node = *self.rng.pick(&living);
            let left = self.lendable(account);
            if let Some(request) = Request::for_what_is_left(&mut self.rng, &self.profile, account, node, left) {
                self.requests.push(request);
                let request = self.requests.len() - 1;
                self.put_step(request, Duration::ZERO, Step::Insist { until: self.at + INSIST });
            }
        }
    }

    /// Asks until it is admitted.
    pub fn insist_on(&mut self, request: usize, until: Duration) -> Check {
        if self.requests[request].run.is_some() {
            self.seen.count("had what was left");
            return Ok(());
        }
        ensure(self.at < until, || format!("request {request} cannot have what is left"))?;
        self.requests[request].tries = 0;
        self.put_step(request, INSIST_EVERY, Step::Insist { until });
        self.ask(request)
    }

    /// What an account has, that neither a dead session nor a running request keeps.
    fn lendable(&self, account: usize) -> i64 {
        let Account { name, truth, .. } = &self.accounts[account];
        let summary = self.store.pool(name).summary(self.store.now(self.at));
        let terms = &summary.terms;
        if terms.suspension != Suspension::None {
            return 0;
        }
        let kept: i64 = truth.kept(account, &self.lives, &self.requests);
        let credits = summary.credits_purchased.plus(terms.credit_line).minus(summary.used).nanos();
        let limit = terms.monthly_limit.filter(|_| terms.mode != Mode::Contract);
        let room = limit.map_or(i64::MAX, |limit| limit.minus(summary.month_used).nanos());
        credits.min(room) - kept
    }

    pub fn farewell(&mut self) -> Check {
        self.over = true;
        for node in 0..self.nodes.len() {
            if self.nodes[node].up {
                self.say_bye(node)?;
            }
        }
        for account in 0..self.accounts.len() {
            self.check_books(account)?;
            self.check_living(account)?;
            self.check_returned(account)?;
        }
        Ok(())
    }

    /// What `serve` does at its end, over a network that works.
    fn say_bye(&mut self, node: usize) -> Check {
        let now = self.now_at(node);
        let in_flight = std::mem::take(&mut self.nodes[node].in_flight);
        let accounts: Vec<Arc<str>> = in_flight.into_values().collect();
        self.nodes[node].ledger.failed(&accounts, now);
        self.cut_off(self.nodes[node].life);
        for _ in 0..20 {
            let messages = self.nodes[node].ledger.collect_bye(now, 2);
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                self.deliver(node, message)?;
            }
        }
        Err(format!("session {} has still something to say", self.nodes[node].life))
    }

    fn deliver(&mut self, node: usize, message: Message) -> Check {
        let (life, sent) = (self.nodes[node].life, self.now_at(node));
        let place = self.account_of(&message.account);
        if let Some(sync) = &message.sync {
            self.accounts[place].truth.hear(life, sync, place, &self.requests)?;
        }
        let packet = Packet { number: 0, node, life, message: Arc::new(message), sent };
        self.note(|| format!("farewell: {packet:?}"));
        let reply = self.exchange(&packet)?;
        self.nodes[node].ledger.apply(vec![reply], sent, sent);
        Ok(())
    }

    /// Living sessions left nothing behind, and all they booked has arrived.
    fn check_living(&mut self, account: usize) -> Check {
        let truth = &self.accounts[account].truth;
        for (life, session) in self.lives.iter().enumerate().filter(|(_, session)| session.alive) {
            let said = |fault: String| format!("{} at node {}: {fault}", self.accounts[account].name, session.node);
            truth.check_left_behind(life).map_err(said)?;
            truth.check_reported(life, account, &self.requests).map_err(said)?;
        }
        Ok(())
    }

    /// After the quarantine all rights of dead sessions are back, and what is left can be lent to the last nano-USD.
    fn check_returned(&mut self, account: usize) -> Check {
        self.at += QUARANTINE;
        let stepped_back = Duration::from_secs(100 * 3_600);
        self.at += if self.profile.clock_steps { stepped_back } else { Duration::ZERO };
        let name = Arc::clone(&self.accounts[account].name);
        for seq in 1..=self.lives.len() as u64 {
            let message = Message {
                account: Arc::clone(&name),
                session: stranger(),
                sync: Some(self.hello(&name, seq)),
                rates: Vec::new(),
            };
            let packet =
                Packet { number: 0, node: 0, life: usize::MAX, message: Arc::new(message), sent: self.now_at(0) };
            self.exchange(&packet)?;
            self.check_books(account)?;
        }
        let now = self.store.now(self.at);
        let summary = self.store.pool(&name).summary(now);
        ensure(summary.leased == Credit::ZERO, || format!("{name}: {} are stranded", summary.leased))?;
        let left = Credit::from_nanos(self.lendable(account));
        if !left.is_positive() {
            return Ok(());
        }
        let seq = self.lives.len() as u64 + 1;
        let sync = SyncRequest { want: left, need: left, ..self.hello(&name, seq) };
        let message = Message { account: Arc::clone(&name), session: stranger(), sync: Some(sync), rates: Vec::new() };
        let packet = Packet { number: 0, node: 0, life: usize::MAX, message: Arc::new(message), sent: self.now_at(0) };
        let reply = self.exchange(&packet)?;
        let lent = reply.sync.map(|answer| answer.map(|answer| answer.granted));
        ensure(lent == Some(Ok(left)), || format!("{name}: {left} are left, and of them {lent:?} can be had"))
    }
}

impl World {
    /// A session's first words, which ask for nothing and leave a cap as it is.
    fn hello(&self, name: &str, seq: u64) -> SyncRequest {
        let terms = self.store.pool(name).summary(self.store.now(self.at)).terms;
        let limit = terms.monthly_limit.filter(|_| user_of(name).is_some());
        let cap = limit.map(|limit| UserCap { limit, reclaim_mode: terms.reclaim_mode });
        SyncRequest { cap, ..hello(seq) }
    }
}

fn stranger() -> SessionId {
    SessionId { node: "heir".into(), run: 1 }
}

fn hello(seq: u64) -> SyncRequest {
    SyncRequest { generation: 1, seq, ..SyncRequest::default() }
}
