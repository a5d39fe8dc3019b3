//! What goes wrong in a fleet: sidecars cut off, killed or replaced, a store that forgets or is away.

use std::time::Duration;

use super::run::{Event, Fleet};
use super::tally::Grants;
use crate::network::Weather;
use crate::node::Cut;

/// How often a leaving sidecar says its byes before it exits, heard or not.
const BYES_MAX: u32 = 5;
const BYE_EVERY: Duration = Duration::from_millis(600);
/// Nobody was admitted for so long.
const STUCK: Duration = Duration::from_secs(10);
/// What runs has ended by then.
const DRAIN: Duration = Duration::from_secs(10);

impl Fleet {
    /// The next trouble. Where the whale has less than a fiftieth left, or all of that in limbo, all is well from then on.
    pub fn suffer(&mut self) {
        let whale = &self.tallies[0];
        if whale.credits - whale.credits / 50 <= whale.promised || whale.last.at + STUCK < self.at {
            self.become_calm();
            return;
        }
        let Some(every) = self.plan.trouble.every else {
            self.queue.put(self.at + Duration::from_millis(100), Event::Trouble);
            return;
        };
        let gap = u64::try_from(every.as_micros()).expect("some seconds");
        self.queue.put(self.at + Duration::from_micros(self.rng.between(0, 2 * gap)), Event::Trouble);
        let sidecar = self.rng.index(self.sidecars.len());
        match self.rng.between(0, 19) {
            0 => self.cut_many(),
            1 if self.plan.trouble.rollbacks => self.roll_back(),
            2..=7 if self.plan.trouble.rollbacks => self.take_snapshot(),
            8 if self.plan.trouble.outages => self.lose_store(),
            9..=12 => self.cut(sidecar),
            13 | 14 => self.leave(sidecar),
            15 | 16 => self.crash(sidecar),
            _ => {}
        }
    }

    fn become_calm(&mut self) {
        self.calm_since = Some(self.at);
        self.weather = Weather::CALM;
        self.store_away_until = self.at;
        (0..self.sidecars.len()).for_each(|sidecar| self.heal(sidecar));
    }

    fn count(&mut self, what: &'static str) {
        *self.troubles.entry(what).or_default() += 1;
    }

    fn cut(&mut self, sidecar: usize) {
        self.count("cuts");
        self.sidecars[sidecar].cut = *self.rng.pick(&[Cut::Both, Cut::ToStore, Cut::FromStore]);
        let lasts = Duration::from_millis(self.rng.magnitude(500, 120_000));
        self.queue.put(self.at + lasts, Event::Heal { sidecar });
    }

    /// A twentieth of the fleet, as when a rack is cut off.
    fn cut_many(&mut self) {
        let first = self.rng.index(self.sidecars.len());
        let count = self.sidecars.len() / 20 + 1;
        (first..first + count).for_each(|place| self.cut(place % self.sidecars.len()));
    }

    pub fn heal(&mut self, sidecar: usize) {
        self.sidecars[sidecar].cut = Cut::None;
    }

    fn crash(&mut self, sidecar: usize) {
        if self.sidecars[sidecar].up {
            self.count("crashes");
            self.stop(sidecar);
        }
    }

    fn stop(&mut self, sidecar: usize) {
        self.sidecars[sidecar].up = false;
        let back = Duration::from_millis(self.rng.between(500, 10_000));
        self.queue.put(self.at + back, Event::Start { sidecar });
    }

    pub fn start_again(&mut self, sidecar: usize) {
        let cut = self.sidecars[sidecar].cut;
        self.sidecars[sidecar] = self.new_sidecar(sidecar);
        self.sidecars[sidecar].cut = cut;
        self.put_tick(sidecar);
    }

    /// Takes no more asks, and says bye when what runs has ended.
    fn leave(&mut self, sidecar: usize) {
        if !self.sidecars[sidecar].up || self.sidecars[sidecar].leaving {
            return;
        }
        self.count("leaves");
        self.sidecars[sidecar].leaving = true;
        self.sidecars[sidecar].waiting.clear();
        let life = self.sidecars[sidecar].life;
        self.queue.put(self.at + DRAIN, Event::Exit { sidecar, life, byes_left: BYES_MAX });
    }

    pub fn exit(&mut self, sidecar: usize, life: usize, byes_left: u32) {
        if !self.is_current(sidecar, life) {
            return;
        }
        let byes = self.sidecars[sidecar].ledger.collect_bye(self.now_at(sidecar), 1_000);
        let done = byes.is_empty() && self.sidecars[sidecar].in_flight.is_empty();
        if done || byes_left == 0 {
            self.stop(sidecar);
            return;
        }
        byes.into_iter().for_each(|message| self.send(sidecar, message));
        self.queue.put(self.at + BYE_EVERY, Event::Exit { sidecar, life, byes_left: byes_left - 1 });
    }

    fn take_snapshot(&mut self) {
        let grants: Vec<Grants> = self.tallies.iter().map(|tally| tally.grants.clone()).collect();
        self.snapshot = Some((self.store.disk.clone(), grants));
    }

    /// A failover to an older copy.
    fn roll_back(&mut self) {
        let Some((disk, grants)) = self.snapshot.take() else { return };
        self.count("rollbacks");
        self.store.disk = disk;
        for (tally, found) in self.tallies.iter_mut().zip(&grants) {
            tally.rolled += tally.grants.roll_back(found);
        }
    }

    fn lose_store(&mut self) {
        self.count("outages");
        self.store_away_until = self.at + Duration::from_millis(self.rng.between(1_000, 20_000));
    }

    pub fn is_store_away(&self) -> bool {
        self.at < self.store_away_until
    }
}
