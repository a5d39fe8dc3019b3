//! Reserved throughput as this sidecar knows it: what usage cost is told with the rates, and the pool takes off what is
//! paid for already. Accounts without reservations have nothing of it.

use super::account::{Account, FlightGroup};
use super::lease::sum;
use super::shard::Rules;
use super::standing::group_name;
use crate::decision::reserved::RESERVED_MAX;
use crate::decision::terms::{Terms, TokenLimits};
use crate::decision::{Credit, RateKey};
use crate::pool::message::{RateRequest, Reservation};

/// More than this told, and a new generation of the group opens.
const PRICED_FULL: Credit = Credit::from_nanos(1 << 42);

/// What usage of one group cost, ever in a generation of its rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Priced {
    key: RateKey,
    generation: u32,
    cost: Credit,
}

impl Account {
    /// Counts what usage cost, where a reservation may pay for it. It is told at once and together with the usage of the
    /// lease, so that the minute is right and nobody sees one without the other.
    pub(super) fn count_priced(&mut self, key: RateKey, cost: Credit) {
        if self.terms.as_deref().is_none_or(|terms| terms.reserved.is_empty()) {
            return;
        }
        let Some(rate) = self.model_mut(key).map(|model| &mut model.rate) else { return };
        rate.press();
        let generation = rate.generation();
        self.touched = true;
        let mine = self.priced_mut();
        let place = mine.iter().position(|priced| priced.key == key).unwrap_or_else(|| {
            mine.push(Priced { key, generation, cost: Credit::ZERO });
            mine.len().saturating_sub(1)
        });
        let priced = mine.get_mut(place).expect("found or pushed just now");
        priced.enter(generation);
        priced.cost = sum(priced.cost, cost).min(RESERVED_MAX.minus(Credit::from_nanos(1)));
    }

    /// Says with each group what its usage cost.
    pub(super) fn tell_priced(&mut self, groups: &mut [FlightGroup], requests: &mut [RateRequest]) {
        for priced in self.priced_iter_mut() {
            let ours = groups.iter_mut().zip(requests.iter_mut()).find(|(group, _)| group.key == Some(priced.key));
            let Some((group, request)) = ours else { continue };
            priced.enter(request.generation);
            (group.priced, request.priced) = (priced.cost, priced.cost);
        }
    }

    /// Another generation of a group begins with what was not told in the one before.
    pub(super) fn carry_priced(&mut self, key: RateKey, told: Credit, generation: u32) {
        for priced in self.priced_iter_mut().filter(|priced| priced.key == key && priced.generation != generation) {
            (priced.generation, priced.cost) = (generation, priced.cost.minus(told).at_least_zero());
        }
    }
}

impl Priced {
    /// What a generation that nobody carried over had to tell is told no more: it is billed in full.
    fn enter(&mut self, generation: u32) {
        if self.generation != generation {
            (self.generation, self.cost) = (generation, Credit::ZERO);
        }
    }
}

/// So much was told that the next generation should open.
pub(super) fn is_full(told: Credit) -> bool {
    PRICED_FULL < told
}

/// What an account reserved of a model, if anything.
pub(super) fn reservation(rules: &Rules, terms: &Terms, key: RateKey) -> Option<Reservation> {
    if terms.reserved.is_empty() {
        return None;
    }
    let per_minute = terms.reserved_for(&group_name(rules, key));
    let tokens = rules.catalogue.reserved_tokens(key, per_minute);
    per_minute.is_positive().then_some(Reservation { per_minute, tokens })
}

/// Tokens per minute that a reservation adds to the limits of a model.
pub(super) fn reserved_tokens(rules: &Rules, terms: &Terms, key: RateKey) -> TokenLimits {
    reservation(rules, terms, key).map_or([0; 3], |reservation| reservation.tokens)
}

/// The limits with `more` on top of each.
pub(super) fn raised(mut limits: TokenLimits, more: TokenLimits) -> TokenLimits {
    limits.iter_mut().zip(more).for_each(|(limit, more)| *limit = limit.saturating_add(more));
    limits
}

/// The limits without `more` on top of each.
pub(super) fn lowered(mut limits: TokenLimits, more: TokenLimits) -> TokenLimits {
    limits.iter_mut().zip(more).for_each(|(limit, more)| *limit = limit.saturating_sub(more));
    limits
}
