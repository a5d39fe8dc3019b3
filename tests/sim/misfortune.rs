//! Faults as they strike, changes that people make, and how misfortunes end.

use std::time::Duration;

use crate::books::Books;
use crate::event::{Change, Event};
use crate::faults::Fault;
use crate::network::Weather;
use crate::node::{Cut, MachineClock, Node};
use crate::truth::Check;
use crate::world::{World, has_caps};

/// How often a leaving sidecar says its byes before it exits, heard or not.
const BYES_MAX: u32 = 5;
const BYE_EVERY: Duration = Duration::from_millis(600);

impl World {
    /// Brings a fault about, and says how long it keeps everybody from asking.
    pub fn suffer(&mut self, fault: Fault) -> Duration {
        self.seen.count(fault.name());
        match fault {
            Fault::Weather(weather) => self.weather = weather,
            Fault::Cut { node, cut, lasts } => {
                self.nodes[node].cut = cut;
                self.put_change(lasts, Change::Heal { node });
            }
            Fault::Freeze { node, lasts, idle } => {
                let until = self.nodes[node].frozen_until;
                self.nodes[node].frozen_until = until.max(self.at + lasts);
                return if idle { lasts * 9 / 10 } else { Duration::ZERO };
            }
            Fault::Crash { node, back } => self.crash(node, back),
            Fault::Leave { node, back } => self.leave(node, back),
            Fault::Snapshot => self.take_snapshot(),
            Fault::Rollback => self.roll_back(),
            Fault::StepClock { millis } => self.step_clock(millis),
            Fault::AddCredits { account, nanos } => {
                self.accounts[account].truth.add_credits(nanos);
                self.redeliver(account);
            }
            Fault::ChangeTerms { account } => self.change_terms(account),
            Fault::Idle { lasts } => {
                self.pace = (lasts / 40).max(self.pace);
                return lasts;
            }
        }
        Duration::ZERO
    }

    pub fn change(&mut self, change: Change) -> Check {
        match change {
            Change::Heal { node } => self.nodes[node].cut = Cut::None,
            Change::Start { node } => self.start_again(node),
            Change::Exit { node, life, back, byes_left } => return self.exit(node, life, back, byes_left),
            Change::Redeliver { account } => self.redeliver(account),
        }
        Ok(())
    }

    /// The process is gone in the middle of everything.
    fn crash(&mut self, node: usize, back: Option<Duration>) {
        if !self.nodes[node].up {
            return;
        }
        self.nodes[node].up = false;
        let life = self.nodes[node].life;
        self.lives[life].alive = false;
        self.orphan(life);
        if let Some(back) = back {
            self.put_change(back, Change::Start { node });
        }
    }

    /// The process takes no more asks, and exits when what runs had time to end.
    fn leave(&mut self, node: usize, back: Option<Duration>) {
        if !self.nodes[node].up || self.nodes[node].leaving {
            return;
        }
        self.nodes[node].leaving = true;
        self.nodes[node].waiting.clear();
        let grace = Duration::from_millis(self.rng.between(0, 30_000));
        let life = self.nodes[node].life;
        self.put_change(grace, Change::Exit { node, life, back, byes_left: BYES_MAX });
    }

    fn exit(&mut self, node: usize, life: usize, back: Option<Duration>, byes_left: u32) -> Check {
        if !self.is_current(node, life) {
            return Ok(());
        }
        let frozen = self.at < self.nodes[node].frozen_until;
        let runs = self.profile.exact && self.runs_on(life);
        if frozen || runs {
            self.put_change(BYE_EVERY, Change::Exit { node, life, back, byes_left });
            return Ok(());
        }
        let byes = self.nodes[node].ledger.collect_bye(self.now_at(node), 8);
        self.cut_off(life);
        let done = byes.is_empty() && self.nodes[node].in_flight.is_empty();
        if done || byes_left == 0 {
            self.seen.count(if done { "said bye to all" } else { "exited unheard" });
            self.crash(node, back);
            return Ok(());
        }
        for message in byes {
            self.send(node, message)?;
        }
        self.put_change(BYE_EVERY, Change::Exit { node, life, back, byes_left: byes_left - 1 });
        Ok(())
    }

    fn runs_on(&self, life: usize) -> bool {
        self.requests.iter().filter_map(|request| request.run.as_ref()).any(|run| run.life == life && !run.over)
    }

    /// A sidecar that says bye ends every hold: what is produced after that is covered by nothing.
    pub fn cut_off(&mut self, life: usize) {
        for request in &mut self.requests {
            if request.run.as_ref().is_some_and(|run| run.life == life && run.ended.is_none() && !run.lapsed) {
                request.lapse();
            }
        }
    }

    fn start_again(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let life = self.lives.len();
        let clock = MachineClock::draw(&mut self.rng, self.profile.start);
        let cut = self.nodes[node].cut;
        self.nodes[node] = Node::start(&mut self.rng, node, life, &self.catalogue, clock);
        self.nodes[node].cut = cut;
        self.lives.push(crate::world::Life { node, alive: true });
        self.put_round(node);
    }

    fn take_snapshot(&mut self) {
        let books: Vec<Books> = self.accounts.iter().map(|account| account.truth.books.clone()).collect();
        self.snapshot = Some((self.store.disk.clone(), books));
    }

    /// A failover to an older copy. What was sold is said again; what was agreed may be lost.
    fn roll_back(&mut self) {
        let Some((disk, books)) = self.snapshot.clone() else { return };
        self.seen.count("rolled back");
        self.store.disk = disk;
        for (account, found) in self.accounts.iter_mut().zip(books) {
            account.truth.roll_back(found);
            // A change of terms may be lost; those that are found are in force.
            account.truth.agree(&self.store.pool(&account.name).summary(self.store.now(self.at)).terms);
        }
        for account in 0..self.accounts.len() {
            let after = Duration::from_millis(self.rng.magnitude(1, 10_000));
            self.put_change(after, Change::Redeliver { account });
        }
    }

    fn redeliver(&mut self, account: usize) {
        let account = &mut self.accounts[account];
        if self.store.credit(&account.name, account.truth.credits(), self.at) {
            account.truth.books.tick(self.store.now(self.at).0);
        }
    }

    fn step_clock(&mut self, millis: i64) {
        self.store.step_clock(millis);
        if millis > 0 {
            self.accounts.iter_mut().for_each(|account| account.truth.mislead());
        }
    }

    fn change_terms(&mut self, account: usize) {
        let terms = self.profile.terms(&mut self.rng, has_caps(account));
        self.note(|| format!("account {account} agrees to {terms:?}"));
        self.agree_with_users(account, &terms);
        let account = &mut self.accounts[account];
        account.truth.agree(&terms);
        self.store.configure(&account.name, terms, self.at);
        account.truth.books.tick(self.store.now(self.at).0);
    }

    /// Faults stop. What runs comes to its end, and the longest hold passes.
    pub fn become_calm(&mut self) {
        self.weather = Weather::CALM;
        self.set_pace(Duration::from_secs(8));
        for node in 0..self.nodes.len() {
            self.nodes[node].cut = Cut::None;
        }
        let unfinished = self
            .requests
            .iter()
            .any(|request| request.run.as_ref().is_some_and(|run| run.ended.is_none() && !run.lapsed && !run.orphaned));
        let after = Duration::from_secs(if unfinished { 1_000 } else { 300 });
        self.queue.put(self.at + after, Event::Insist);
    }
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Weather(_) => "weather",
            Self::Cut { .. } => "cut",
            Self::Freeze { .. } => "freeze",
            Self::Crash { .. } => "crash",
            Self::Leave { .. } => "leave",
            Self::Snapshot => "snapshot",
            Self::Rollback => "rollback",
            Self::StepClock { .. } => "clock step",
            Self::AddCredits { .. } => "credits added",
            Self::ChangeTerms { .. } => "terms changed",
            Self::Idle { .. } => "idle",
        }
    }
}
