//! A fleet in virtual time: from a full balance, through trouble, to one that pays for nothing any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::UnixMs;
use tollgate::decision::Catalogue;
use tollgate::decision::terms::ReclaimMode;
use tollgate::pool::Reply;
use tollgate::pool::message::StepProposal;

use super::client::Request;
use super::plan::{Plan, USD};
use super::sidecar::{Packet, Sidecar};
use super::tally::{Grants, Tally};
use crate::mutants::{Mutant, Saboteur};
use crate::network::{Queue, Weather};
use crate::node::{MachineClock, before_month_end};
use crate::rng::Rng;
use crate::store::{Disk, Store};

/// Nobody was admitted for so long: nothing is left that anybody can use.
const QUIET: Duration = Duration::from_secs(20);
/// Leases that nobody holds any more have ended then; as have, in return mode, their quarantines.
const LEASES_END: Duration = Duration::from_secs(75);
const QUARANTINES_END: Duration = Duration::from_secs(150);

/// No run takes so long.
const TOO_LONG: Duration = Duration::from_secs(1_000);

pub enum Event {
    Arrive,
    Round {
        sidecar: usize,
        life: usize,
        regular: bool,
    },
    ToStore(Packet),
    FromStore(Packet, Box<Reply>),
    Propose(Box<StepProposal>),
    GiveUp {
        sidecar: usize,
        life: usize,
        number: u64,
    },
    /// A request waited for as long as one may.
    Late {
        request: usize,
    },
    Finish {
        request: usize,
    },
    Trouble,
    Heal {
        sidecar: usize,
    },
    Start {
        sidecar: usize,
    },
    Exit {
        sidecar: usize,
        life: usize,
        byes_left: u32,
    },
}

pub struct Fleet {
    pub plan: Plan,
    pub rng: Rng,
    pub at: Duration,
    pub queue: Queue<Event>,
    pub weather: Weather,
    pub catalogue: Arc<Catalogue>,
    pub store: Store,
    pub snapshot: Option<(Disk, Vec<Grants>)>,
    pub store_away_until: Duration,
    pub sidecars: Vec<Sidecar>,
    pub lives: usize,
    pub requests: Vec<Request>,
    /// Accounts by place; the first is the whale.
    pub names: Vec<Arc<str>>,
    pub places: BTreeMap<Arc<str>, usize>,
    pub tallies: Vec<Tally>,
    pub packets: u64,
    /// When troubles ended, because the whale had little left.
    pub calm_since: Option<Duration>,
    pub troubles: BTreeMap<&'static str, u64>,
    /// Of the whale's credit, in the end.
    pub unusable: i64,
    start: UnixMs,
}

impl Fleet {
    pub fn new(plan: Plan, seed: u64, mutant: Option<Mutant>) -> Self {
        let start = before_month_end(Duration::from_secs(20 * 86_400));
        let mut fleet = Self {
            plan,
            rng: Rng::new(seed),
            at: Duration::ZERO,
            queue: Queue::new(),
            weather: plan.trouble.weather,
            catalogue: plan.catalogue(),
            store: Store::new(start, Saboteur::new(mutant)),
            snapshot: None,
            store_away_until: Duration::ZERO,
            sidecars: Vec::new(),
            lives: 0,
            requests: Vec::new(),
            names: Vec::new(),
            places: BTreeMap::new(),
            tallies: Vec::new(),
            packets: 0,
            calm_since: None,
            troubles: BTreeMap::new(),
            unusable: 0,
            start,
        };
        for place in 0..=plan.tail {
            fleet.open_account(place);
        }
        for place in 0..plan.sidecars {
            let sidecar = fleet.new_sidecar(place);
            fleet.sidecars.push(sidecar);
            fleet.put_tick(place);
        }
        fleet.queue.put(Duration::ZERO, Event::Arrive);
        fleet.queue.put(Duration::ZERO, Event::Trouble);
        fleet
    }

    /// Accounts of the tail have between five cents and five dollars, so that many of them run out too.
    fn open_account(&mut self, place: usize) {
        let name: Arc<str> = if place == 0 { "whale".into() } else { format!("tail-{place}").into() };
        let small = i64::try_from(self.rng.magnitude(5, 500)).expect("some dollars") * USD / 100;
        let credits = if place == 0 { self.plan.credits } else { small };
        self.store.create(Arc::clone(&name), self.plan.terms(), self.at);
        self.store.credit(&name, credits, self.at);
        self.tallies.push(Tally::with_credits(credits));
        self.places.insert(Arc::clone(&name), place);
        self.names.push(name);
    }

    pub fn new_sidecar(&mut self, place: usize) -> Sidecar {
        let clock = MachineClock::draw(&mut self.rng, self.start);
        let life = self.lives;
        self.lives += 1;
        Sidecar::start(&mut self.rng, place, life, &self.catalogue, clock)
    }

    pub fn asks_per_second(&self) -> u64 {
        if self.plan.tail > 0 { self.plan.pace * 6 / 5 } else { self.plan.pace }
    }

    /// Runs until the whale's balance pays for nothing any more.
    pub fn run(&mut self) {
        while !self.is_over() {
            let (at, event) = self.queue.take().expect("asks never end");
            self.at = at;
            assert!(at < TOO_LONG, "it never ends: {:?}", self.tallies[0]);
            self.step(event);
        }
        self.unusable = self.unusable_now();
        while let Some((at, event)) = self.queue.take() {
            self.at = at.max(self.at);
            if let Event::Finish { request } = event {
                self.finish(request);
            }
        }
    }

    fn is_over(&self) -> bool {
        let settled = match self.plan.reclaim_mode {
            _ if self.plan.trouble.every.is_none() => Duration::ZERO,
            ReclaimMode::Limbo => LEASES_END,
            ReclaimMode::Return => QUARANTINES_END,
        };
        self.calm_since.is_some_and(|since| since + settled < self.at)
            && self.tallies[0].last.at + self.plan.lasts_max + QUIET < self.at
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Round { sidecar, life, regular } => self.round(sidecar, life, regular),
            Event::ToStore(packet) => self.reach_store(packet),
            Event::FromStore(packet, reply) => self.hear_store(&packet, *reply),
            Event::Propose(step) => self.store.propose(&step, self.at),
            Event::GiveUp { sidecar, life, number } => self.give_up(sidecar, life, number),
            Event::Late { request } => self.give_up_waiting(request),
            Event::Finish { request } => self.finish(request),
            Event::Trouble => self.suffer(),
            Event::Heal { sidecar } => self.heal(sidecar),
            Event::Start { sidecar } => self.start_again(sidecar),
            Event::Exit { sidecar, life, byes_left } => self.exit(sidecar, life, byes_left),
        }
    }

    /// `true spend <= K + under + reaped + rolled + open`, with what running requests may yet spend.
    pub fn check_contract(&self, account: usize) {
        let tally = &self.tallies[account];
        if tally.promised <= tally.credits + tally.allowed() {
            return;
        }
        let bound = tally.credits + self.allowed(account);
        assert!(tally.promised <= bound, "{} spent and promised {} of {bound}", self.names[account], tally.promised);
    }

    /// What the contract allows beyond an account's credits.
    pub fn allowed(&self, account: usize) -> i64 {
        let summary = self.store.pool(&self.names[account]).summary(self.store.now(self.at));
        let reaped = match self.plan.reclaim_mode {
            ReclaimMode::Limbo => 0,
            ReclaimMode::Return => summary.oddities.reaped.nanos(),
        };
        self.tallies[account].allowed() + reaped
    }

    /// Credit that nobody could use in the end, but for the rights of sessions that died with them. All usage that anybody
    /// can report has been reported by then.
    fn unusable_now(&self) -> i64 {
        let summary = self.store.pool(&self.names[0]).summary(self.store.now(self.at));
        (self.tallies[0].credits - summary.used.nanos() - summary.limbo.nanos()).max(0)
    }
}
