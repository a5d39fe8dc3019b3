//! The rates of an account that is in use: of its requests, and of the tokens of each model.

use std::time::Duration;

use super::chunk::Rate;
use crate::clock::Time;
use crate::decision::RateKey;
use crate::decision::estimate::Learned;

/// All rates of an account in one piece, because most accounts that are used at all use one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    pub(super) requests: Option<Rate<1>>,
    first: Option<ModelRate>,
    more: Vec<ModelRate>,
}

/// The token rates of one model, as used by one account.
#[derive(Clone, Debug)]
pub(super) struct ModelRate {
    pub(super) key: RateKey,
    pub(super) learned: Learned,
    pub(super) rate: Rate<3>,
}

impl Rates {
    pub(super) fn requests_or_new(&mut self, now: Time) -> &mut Rate<1> {
        self.requests.get_or_insert_with(|| Rate::new(now))
    }

    pub(super) fn models(&self) -> impl Iterator<Item = &ModelRate> {
        self.first.iter().chain(&self.more)
    }

    pub(super) fn models_mut(&mut self) -> impl Iterator<Item = &mut ModelRate> {
        self.first.iter_mut().chain(&mut self.more)
    }

    pub(super) fn model_mut(&mut self, key: RateKey) -> Option<&mut ModelRate> {
        self.models_mut().find(|model| model.key == key)
    }

    pub(super) fn model_or_new(&mut self, key: RateKey, now: Time) -> &mut ModelRate {
        let new = || ModelRate { key, learned: Learned::default(), rate: Rate::new(now) };
        if self.first.as_ref().is_none_or(|first| first.key == key) {
            return self.first.get_or_insert_with(new);
        }
        let place = self.more.iter().position(|model| model.key == key).unwrap_or_else(|| {
            self.more.reserve_exact(1);
            self.more.push(new());
            self.more.len().saturating_sub(1)
        });
        self.more.get_mut(place).expect("found or pushed just now")
    }

    /// Credit aside, something is nearly used up.
    pub(super) fn run_low(&self, now: Time) -> bool {
        self.requests.as_ref().is_some_and(|rate| rate.runs_low(now))
            || self.models().any(|model| model.rate.runs_low(now))
    }

    /// When something should be said of any of them.
    pub(super) fn due_at(&self, every: Duration, now: Time) -> Option<Time> {
        let requests = self.requests.as_ref().and_then(|rate| rate.due_at(every, now));
        requests.into_iter().chain(self.models().filter_map(|model| model.rate.due_at(every, now))).min()
    }

    /// Drops models that were quiet for `long`, and the room they took.
    pub(super) fn forget_quiet(&mut self, long: Duration, now: Time) {
        self.first.take_if(|model| model.rate.is_quiet(long, now));
        self.more.retain(|model| !model.rate.is_quiet(long, now));
        self.first = self.first.take().or_else(|| self.more.pop());
        self.more.shrink_to_fit();
    }

    /// Counts what is left of dead chunks as given back.
    pub(super) fn bury_dead(&mut self, now: Time) {
        self.requests.iter_mut().for_each(|rate| rate.bury_dead(now));
        self.models_mut().for_each(|model| model.rate.bury_dead(now));
    }

    pub(super) fn ask_anew(&mut self) {
        self.requests.iter_mut().for_each(Rate::ask_anew);
        self.models_mut().for_each(|model| model.rate.ask_anew());
    }

    pub(super) fn assert_invariants(&self) {
        self.requests.iter().for_each(Rate::assert_invariants);
        self.models().for_each(|model| model.rate.assert_invariants());
    }
}
