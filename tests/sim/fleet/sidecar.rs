//! One sidecar of a fleet: a real ledger with its clock and link, and what its loop says to the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Now;
use tollgate::decision::Catalogue;
use tollgate::ledger::{Ledger, LedgerSettings};
use tollgate::pool::{Message, Reply, SessionId};

use super::client::ALLOWANCE;
use super::run::{Event, Fleet};
use crate::node::{Cut, MachineClock};
use crate::rng::Rng;

/// Messages in one round.
const ROUND_MAX: usize = 256;
/// How long a message waits for its reply.
const REPLY_WAIT: Duration = Duration::from_millis(500);
/// From one round to the next, in milliseconds: 200 less up to a quarter.
const TICK_MS: [u64; 2] = [150, 200];

pub struct Sidecar {
    pub ledger: Ledger,
    /// Which run of a process this is; a restart is a new one.
    pub life: usize,
    pub up: bool,
    pub leaving: bool,
    pub cut: Cut,
    pub clock: MachineClock,
    pub in_flight: BTreeMap<u64, Arc<str>>,
    /// Requests that wait for the pool, with their accounts.
    pub waiting: Vec<(usize, usize)>,
    nudged: bool,
    /// Emergency credit promised to each account since its pool was last heard, in nano-USD.
    trusted: BTreeMap<usize, i64>,
}

/// A message on its way.
#[derive(Clone)]
pub struct Packet {
    number: u64,
    pub sidecar: usize,
    life: usize,
    account: usize,
    message: Arc<Message>,
    sent: Now,
}

impl Sidecar {
    pub fn start(rng: &mut Rng, place: usize, life: usize, catalogue: &Arc<Catalogue>, clock: MachineClock) -> Self {
        let session = SessionId { node: format!("node-{place}").into(), run: u128::from(rng.draw()) };
        Self {
            ledger: Ledger::new(settings(), Arc::clone(catalogue), session),
            life,
            up: true,
            leaving: false,
            cut: Cut::None,
            clock,
            in_flight: BTreeMap::new(),
            waiting: Vec::new(),
            nudged: false,
            trusted: BTreeMap::new(),
        }
    }

    /// Emergency credit stays within the allowance.
    pub fn trust(&mut self, account: usize, lent: i64) {
        let trusted = self.trusted.entry(account).or_default();
        *trusted += lent;
        assert!(*trusted <= ALLOWANCE.account.nanos(), "{trusted} were promised without the pool");
    }
}

impl Fleet {
    pub fn now_at(&self, sidecar: usize) -> Now {
        self.sidecars[sidecar].clock.at(self.at)
    }

    pub fn is_current(&self, sidecar: usize, life: usize) -> bool {
        self.sidecars[sidecar].up && self.sidecars[sidecar].life == life
    }

    pub fn put_tick(&mut self, sidecar: usize) {
        let gap = Duration::from_millis(self.rng.between(TICK_MS[0], TICK_MS[1]));
        let life = self.sidecars[sidecar].life;
        self.queue.put(self.at + gap, Event::Round { sidecar, life, regular: true });
    }

    /// Has a round begin at once, as a waiting request does.
    pub fn nudge(&mut self, sidecar: usize) {
        let life = self.sidecars[sidecar].life;
        if !std::mem::replace(&mut self.sidecars[sidecar].nudged, true) {
            self.queue.put(self.at + Duration::from_micros(100), Event::Round { sidecar, life, regular: false });
        }
    }

    pub fn round(&mut self, sidecar: usize, life: usize, regular: bool) {
        if !self.is_current(sidecar, life) {
            return;
        }
        let now = self.now_at(sidecar);
        if regular {
            self.sidecars[sidecar].ledger.sweep(now);
            self.put_tick(sidecar);
        } else {
            self.sidecars[sidecar].nudged = false;
        }
        let messages = self.sidecars[sidecar].ledger.collect(now, ROUND_MAX);
        messages.into_iter().for_each(|message| self.send(sidecar, message));
    }

    /// Puts a message on its way, whatever becomes of it.
    pub fn send(&mut self, sidecar: usize, message: Message) {
        let (life, sent) = (self.sidecars[sidecar].life, self.now_at(sidecar));
        let account = self.places[&message.account];
        self.tallies[account].now.calls += 1;
        self.packets += 1;
        let number = self.packets;
        self.sidecars[sidecar].in_flight.insert(number, Arc::clone(&message.account));
        let packet = Packet { number, sidecar, life, account, message: Arc::new(message), sent };
        if matches!(self.sidecars[sidecar].cut, Cut::None | Cut::FromStore) && !self.is_store_away() {
            for delay in self.weather.travel(&mut self.rng) {
                self.queue.put(self.at + delay, Event::ToStore(packet.clone()));
            }
        }
        self.queue.put(self.at + REPLY_WAIT, Event::GiveUp { sidecar, life, number });
    }

    pub fn reach_store(&mut self, packet: Packet) {
        let reply = self.store.exchange(&packet.message, self.at);
        if let (Some(Ok(answer)), Some(sync)) = (&reply.sync, &packet.message.sync) {
            let granted = answer.granted.nanos();
            self.tallies[packet.account].grants.hear(packet.life, sync.generation, granted);
        }
        if matches!(self.sidecars[packet.sidecar].cut, Cut::None | Cut::ToStore) && !self.is_store_away() {
            for delay in self.weather.travel(&mut self.rng) {
                self.queue.put(self.at + delay, Event::FromStore(packet.clone(), Box::new(reply.clone())));
            }
        }
    }

    pub fn hear_store(&mut self, packet: &Packet, reply: Reply) {
        let sidecar = packet.sidecar;
        if !self.is_current(sidecar, packet.life) {
            return;
        }
        // The loop drops the replies of rounds that it gave up.
        if self.sidecars[sidecar].in_flight.remove(&packet.number).is_none() {
            return;
        }
        if reply.sync.is_some() {
            self.sidecars[sidecar].trusted.remove(&packet.account);
        }
        let now = self.now_at(sidecar);
        let steps = self.sidecars[sidecar].ledger.proposals(std::slice::from_ref(&reply), now);
        self.sidecars[sidecar].ledger.apply(vec![reply], packet.sent, now);
        self.ask_those_who_wait(sidecar, packet.account);
        // Who has nothing left to spend has another limit of requests, which some sidecar proposes.
        self.tallies[packet.account].now.calls += steps.len() as u64;
        steps.into_iter().for_each(|step| self.queue.put(self.at, Event::Propose(Box::new(step))));
    }

    pub fn give_up(&mut self, sidecar: usize, life: usize, number: u64) {
        if !self.is_current(sidecar, life) {
            return;
        }
        if let Some(account) = self.sidecars[sidecar].in_flight.remove(&number) {
            let now = self.now_at(sidecar);
            self.sidecars[sidecar].ledger.failed(&[account], now);
        }
    }
}

/// As `serve` has them, but for bounds of memory.
fn settings() -> LedgerSettings {
    LedgerSettings {
        workers: 0,
        accounts_max: 1_000,
        holds_max: 10_000,
        ended_max: 100,
        ended_keep: Duration::from_secs(60),
        hold_life: Duration::from_secs(600),
        hold_life_max: Duration::from_secs(3_600),
        unknown_max: 100,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(200),
        idle_bye: Duration::from_secs(3_600),
    }
}
