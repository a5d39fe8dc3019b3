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
    /// Those of accounts that use several models, without the word that a vector keeps for its growth.
    more: Box<[ModelRate]>,
}

/// The token rates of one model, as used by one account.
#[derive(Clone, Debug)]
pub(super) struct ModelRate {
    pub(super) key: RateKey,
    pub(super) learned: Learned,
    pub(super) rate: Rate<3>,
}

/// Rates that were not used for so long are forgotten: what the pool lends lives for a second or two, so it would have to be
/// asked anyway.
const RATE_KEEP: Duration = Duration::from_secs(30);
/// What was learned of a model's answers is kept so long.
const LEARNED_KEEP: Duration = Duration::from_secs(30 * 60);

impl ModelRate {
    fn is_forgettable(&self, now: Time) -> bool {
        let keep = if self.learned.p95().is_some() { LEARNED_KEEP } else { RATE_KEEP };
        self.rate.is_quiet(keep, now)
    }
}

impl Rates {
    /// Reads a word of each part that most requests need.
    pub(super) fn fetch(&self) -> u64 {
        self.requests.as_ref().map_or(0, Rate::fetch) ^ self.first.as_ref().map_or(0, |model| model.rate.fetch())
    }

    pub(super) fn requests_or_new(&mut self, now: Time) -> &mut Rate<1> {
        self.requests.get_or_insert_with(|| Rate::new(now))
    }

    pub(super) fn models(&self) -> impl Iterator<Item = &ModelRate> {
        self.first.iter().chain(&*self.more)
    }

    pub(super) fn models_mut(&mut self) -> impl Iterator<Item = &mut ModelRate> {
        self.first.iter_mut().chain(&mut *self.more)
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
            let grown = std::mem::take(&mut self.more).into_iter().chain([new()]);
            self.more = grown.collect();
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

    /// Drops what was quiet for long, and the room it took. Returns whether anything is left.
    pub(super) fn forget_quiet(&mut self, now: Time) -> bool {
        self.first.take_if(|model| model.is_forgettable(now));
        if self.first.is_none() || self.more.iter().any(|model| model.is_forgettable(now)) {
            let more = std::mem::take(&mut self.more).into_iter().filter(|model| !model.is_forgettable(now));
            let mut kept = self.first.take().into_iter().chain(more);
            self.first = kept.next();
            self.more = kept.collect();
        }
        self.requests.take_if(|rate| rate.is_quiet(RATE_KEEP, now));
        self.first.is_some() || self.requests.is_some()
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
