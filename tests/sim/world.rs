//! One history: sidecars, a store and clients in virtual time, stepped event by event and checked after each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Now;
use tollgate::decision::terms::{Mode, Terms};
use tollgate::decision::{Catalogue, Credit};
use tollgate::pool::{pool_of_user, user_in, user_of};

use crate::books::Books;
use crate::catalogue::catalogue;
use crate::client::Request;
use crate::event::{Event, Step};
use crate::faults::{Fault, Profile, USERS};
use crate::mutants::{Mutant, Saboteur};
use crate::network::{Queue, Weather};
use crate::node::{MachineClock, Node};
use crate::rng::Rng;
use crate::store::{Disk, Store};
use crate::truth::{Check, Truth, ensure};

/// More events than any history has.
const EVENTS_MAX: u32 = 50_000;

/// One run of one sidecar.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub node: usize,
    pub alive: bool,
}

pub struct Account {
    pub name: Arc<str>,
    pub truth: Truth,
}

/// What happened, so that a test can say that it did.
#[derive(Clone, Debug, Default)]
pub struct Seen(pub BTreeMap<&'static str, u64>);

pub struct World {
    pub rng: Rng,
    pub profile: Profile,
    pub at: Duration,
    pub queue: Queue<Event>,
    pub weather: Weather,
    /// The longest gap between two rounds of a sidecar.
    pub pace: Duration,
    pub turns: u64,
    pub over: bool,
    pub catalogue: Arc<Catalogue>,
    pub nodes: Vec<Node>,
    pub lives: Vec<Life>,
    pub store: Store,
    pub accounts: Vec<Account>,
    pub requests: Vec<Request>,
    /// The store's books are compared step by step; else the contract alone counts, and the books in the end.
    pub books_count: bool,
    pub snapshot: Option<(Disk, Vec<Books>)>,
    pub packets: u64,
    pub seen: Seen,
    pub log: Option<String>,
}

/// Every other account has caps.
pub fn has_caps(account: usize) -> bool {
    account.is_multiple_of(2)
}

/// A user as an account without end, but for the month.
fn terms_of(user: &str, terms: &Terms) -> Terms {
    let monthly_limit = terms.user_caps.as_ref().and_then(|caps| caps.in_force(user));
    Terms { mode: Mode::Postpaid, credit_line: Credit::MAX, monthly_limit, ..Terms::default() }
}

impl Seen {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, logged: bool) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::draw(&mut rng);
        let saboteur = Saboteur::new(mutant);
        let mut world = Self {
            at: Duration::ZERO,
            queue: Queue::new(),
            weather: profile.weather,
            pace: Duration::from_millis(400),
            turns: profile.turns,
            over: false,
            catalogue: catalogue(profile.tight_rates),
            nodes: Vec::new(),
            lives: Vec::new(),
            store: Store::new(profile.start, saboteur),
            accounts: Vec::new(),
            requests: Vec::new(),
            books_count: mutant.is_none(),
            snapshot: None,
            packets: 0,
            seen: Seen::default(),
            log: logged.then(String::new),
            rng,
            profile,
        };
        world.open_accounts();
        world.start_nodes();
        world.queue.put(Duration::ZERO, Event::Turn);
        world
    }

    /// Runs the history to its end, or to the first thing that must not be.
    pub fn run(&mut self) -> Check {
        let mut events = 0;
        while !self.over {
            events += 1;
            ensure(events < EVENTS_MAX, || "it never ends".to_owned())?;
            let (at, event) = self.queue.take().expect("a history ends by itself");
            if let Some(later) = self.frozen(&event, at) {
                self.queue.put(later, event);
                continue;
            }
            self.at = self.at.max(at);
            self.mark_lapsed();
            if !matches!(event, Event::Turn | Event::Round { .. } | Event::GiveUpRound { .. }) {
                self.note(|| format!("{event:?}"));
            }
            self.step(event)?;
            if !self.over {
                self.check()?;
            }
        }
        Ok(())
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            writeln!(log, "{:>12.6} {}", self.at.as_secs_f64(), line()).expect("a string takes everything");
        }
    }

    pub fn now_at(&self, node: usize) -> Now {
        self.nodes[node].clock.at(self.at)
    }

    fn open_accounts(&mut self) {
        for place in 0..self.profile.accounts {
            let terms = self.profile.terms(&mut self.rng, has_caps(usize::try_from(place).expect("a few")));
            let terms = Terms { suspension: Default::default(), ..terms };
            let name: Arc<str> = format!("account-{place}").into();
            let mut truth = Truth::new(&terms, self.profile.exact, self.store.now(self.at).0);
            let credits = self.profile.credits(&mut self.rng);
            truth.add_credits(credits);
            self.note(|| format!("{name} has {credits} and {terms:?}"));
            self.store.create(Arc::clone(&name), terms, self.at);
            self.store.credit(&name, credits, self.at);
            self.accounts.push(Account { name, truth });
        }
        for account in (0..self.accounts.len()).filter(|account| has_caps(*account)) {
            let parent = Arc::clone(&self.accounts[account].name);
            let terms = Arc::clone(&self.store.pool(&parent).summary(self.store.now(self.at)).terms);
            for user in USERS {
                let name: Arc<str> = pool_of_user(&parent, user).into();
                let truth = Truth::new(&terms_of(user, &terms), self.profile.exact, self.store.now(self.at).0);
                self.store.create_user(Arc::clone(&name), self.at);
                self.accounts.push(Account { name, truth });
            }
        }
    }

    /// Users of an account, by their place among the accounts.
    pub fn users_of(&self, account: usize) -> Vec<usize> {
        let account = &self.accounts[account].name;
        let are_its = |(_, other): &(usize, &Account)| user_in(&other.name, account).is_some();
        self.accounts.iter().enumerate().filter(are_its).map(|(place, _)| place).collect()
    }

    /// The account's terms change what its users may spend.
    pub fn agree_with_users(&mut self, account: usize, terms: &Terms) {
        for place in self.users_of(account) {
            let user = &mut self.accounts[place];
            user.truth.agree(&terms_of(user_of(&user.name).expect("a user"), terms));
        }
    }

    fn start_nodes(&mut self) {
        for place in 0..usize::try_from(self.profile.nodes).expect("a few") {
            let clock = MachineClock::draw(&mut self.rng, self.profile.start);
            let node = Node::start(&mut self.rng, place, place, &self.catalogue, clock);
            self.nodes.push(node);
            self.lives.push(Life { node: place, alive: true });
            self.put_round(place);
        }
    }

    pub fn put_round(&mut self, node: usize) {
        let pace = u64::try_from(self.pace.as_millis()).expect("a few hours");
        let gap = Duration::from_millis(self.rng.between(pace / 4, pace));
        self.nodes[node].rounds += 1;
        let Node { life, rounds, .. } = self.nodes[node];
        self.queue.put(self.at + gap, Event::Round { node, life, turn: Some(rounds) });
    }

    /// Sidecars run rounds at most so far apart from now on.
    pub fn set_pace(&mut self, pace: Duration) {
        let faster = pace < self.pace;
        self.pace = pace;
        if faster {
            (0..self.nodes.len()).for_each(|node| self.put_round(node));
        }
    }

    /// When a frozen sidecar gets to an event.
    fn frozen(&self, event: &Event, at: Duration) -> Option<Duration> {
        let node = match event {
            Event::Round { node, .. } | Event::GiveUpRound { node, .. } => *node,
            Event::FromStore(packet, ..) => packet.node,
            Event::Client { request, .. } => self.requests[*request].node,
            Event::Turn | Event::ToStore(_) | Event::Change(_) | Event::Calm | Event::Insist | Event::Farewell => {
                return None;
            }
        };
        let until = self.nodes[node].frozen_until;
        (at < until).then_some(until)
    }

    fn step(&mut self, event: Event) -> Check {
        match event {
            Event::Turn => self.turn(),
            Event::Round { node, life, turn } => self.round(node, life, turn),
            Event::ToStore(packet) => self.reach_store(packet),
            Event::FromStore(packet, reply, answered) => self.hear_store(&packet, *reply, answered),
            Event::GiveUpRound { node, life, number } => {
                self.give_up_round(node, life, number);
                Ok(())
            }
            Event::Client { request, step } => self.client(request, step),
            Event::Change(change) => self.change(change),
            Event::Calm => {
                self.become_calm();
                Ok(())
            }
            Event::Insist => {
                self.insist();
                Ok(())
            }
            Event::Farewell => self.farewell(),
        }
    }

    fn turn(&mut self) -> Check {
        if self.turns == 0 {
            self.queue.put(self.at, Event::Calm);
            return Ok(());
        }
        self.turns -= 1;
        self.set_pace(Duration::from_millis(400));
        let mut gap = self.rng.magnitude(1, u64::try_from(self.profile.gap_max.as_millis()).expect("seconds"));
        if self.rng.chance(self.profile.fault_per_mille) {
            let fault = Fault::draw(&mut self.rng, &self.profile);
            self.note(|| format!("{fault:?}"));
            gap += u64::try_from(self.suffer(fault).as_millis()).expect("days");
        } else {
            self.new_request()?;
        }
        self.queue.put(self.at + Duration::from_millis(gap), Event::Turn);
        Ok(())
    }

    fn new_request(&mut self) -> Check {
        let account = self.rng.index(usize::try_from(self.profile.accounts).expect("a few"));
        let node = self.rng.index(self.nodes.len());
        let mut request = Request::draw(&mut self.rng, &self.profile, account, node);
        let users = self.users_of(account);
        if !users.is_empty() && self.rng.chance(700) {
            let place = *self.rng.pick(&users);
            request.user = user_of(&self.accounts[place].name).map(|user| (place, user.into()));
        }
        self.requests.push(request);
        let request = self.requests.len() - 1;
        self.queue.put(self.at, Event::Client { request, step: Step::Ask });
        Ok(())
    }

    fn check(&self) -> Check {
        for (place, account) in self.accounts.iter().enumerate() {
            let said = |fault: String| format!("{}: {fault}", account.name);
            account.truth.check(place, &self.requests).map_err(said)?;
            if self.books_count {
                account.truth.check_lent(place, &self.requests).map_err(said)?;
                self.check_books(place)?;
            }
        }
        Ok(())
    }

    /// The store's books agree with themselves, and with what was asked and answered.
    pub fn check_books(&self, account: usize) -> Check {
        let account = &self.accounts[account];
        let said = |fault: String| format!("{}: {fault}", account.name);
        let audit = self.store.pool(&account.name).audit().map_err(|drift| said(drift.to_string()))?;
        account.truth.books.check(audit.used.nanos(), audit.leased.nanos()).map_err(said)
    }

    /// Holds whose time has passed by their sidecar's clock may be dropped by it from now on.
    fn mark_lapsed(&mut self) {
        for request in &mut self.requests {
            let Some(run) = request.run.as_ref().filter(|run| run.ended.is_none() && !run.lapsed) else { continue };
            let node = &self.nodes[self.lives[run.life].node];
            if node.life == run.life && node.up && run.ends <= node.clock.at(self.at).time {
                request.lapse();
            }
        }
    }

    pub fn is_current(&self, node: usize, life: usize) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }
}
