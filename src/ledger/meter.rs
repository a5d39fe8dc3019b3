//! One metric of one group: what was lent of it, charged and given back, and the pool's level as last heard.

use super::compact::{Level, small};
use crate::clock::Time;
use crate::decision::rate::{Bucket, Limit};

/// One metric of a group: its cumulative counters, its live tokens, and the pool's level.
///
/// What always holds: `returned <= granted + debt`. Counters have 32 bits and stop there: long before, as soon as the pool
/// was heard, [`Meter::is_full`] asks for a new generation. What lives for a second or two stops there too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    pub(super) per_minute: u64,
    pub(super) granted: u32,
    pub(super) debt: u32,
    pub(super) returned: u32,
    pub(super) used: u32,
    /// The pool's level as last heard, with what was charged and given back here since; as of the group's time.
    pub(super) level: Level,
    /// Charged since the newest message, less what was given back since.
    untold: i32,
    /// Tokens of the newest chunk, and of the one before it.
    pub(super) fresh: u32,
    pub(super) old: u32,
    /// Tokens charged in the last full second, and in this one.
    pub(super) demand: u32,
    pub(super) recent: u32,
}

/// More than this in a counter, and a new generation opens.
const COUNTER_MAX: u32 = 1 << 31;

impl Meter {
    pub(super) fn next_second(&self) -> u64 {
        u64::from(self.demand.max(self.recent))
    }

    /// What is left of the chunks that are not dead, of the newest and the one before it.
    pub(super) fn live(&self, (fresh_dead, old_dead): (bool, bool)) -> u64 {
        let fresh = if fresh_dead { 0 } else { self.fresh };
        let old = if old_dead { 0 } else { self.old };
        u64::from(fresh).saturating_add(u64::from(old))
    }

    /// Takes admitted tokens from the chunks, the older first; returns what they do not hold.
    pub(super) fn take(&mut self, tokens: u64) -> u64 {
        self.recent = self.recent.saturating_add(small(tokens));
        let from_old = self.old.min(small(tokens));
        let rest = tokens.saturating_sub(u64::from(from_old));
        let from_fresh = self.fresh.min(small(rest));
        self.old = self.old.saturating_sub(from_old);
        self.fresh = self.fresh.saturating_sub(from_fresh);
        rest.saturating_sub(u64::from(from_fresh))
    }

    pub(super) fn charge(&mut self, tokens: u64) {
        if tokens > 0 {
            self.debt = self.debt.saturating_add(small(tokens));
            self.level.add(tokens);
            self.untold = self.untold.saturating_add_unsigned(small(tokens));
        }
    }

    /// At most what was granted or charged in this generation: the pool forgot what came before it.
    pub(super) fn give_back(&mut self, tokens: u64) {
        let tokens = tokens.min(self.owed().saturating_sub(u64::from(self.returned)));
        if tokens > 0 {
            self.returned = self.returned.saturating_add(small(tokens));
            self.level.take(tokens);
            self.untold = self.untold.saturating_sub_unsigned(small(tokens));
        }
    }

    /// Takes a lower limit, and gives back what was lent beyond its burst, as far as that is still here.
    pub(super) fn lower(&mut self, limit: Limit, now: Time) {
        if self.per_minute <= limit.per_minute {
            return;
        }
        self.per_minute = limit.per_minute;
        let used = Bucket::with_level(self.level.units(), now).used(limit, now);
        let beyond = small(used.saturating_sub(limit.capacity()));
        let from_fresh = self.fresh.min(beyond);
        let from_old = self.old.min(beyond.saturating_sub(from_fresh));
        self.fresh = self.fresh.saturating_sub(from_fresh);
        self.old = self.old.saturating_sub(from_old);
        self.give_back(u64::from(from_fresh).saturating_add(u64::from(from_old)));
    }

    /// What may go back at most: what was granted or charged.
    pub(super) fn owed(&self) -> u64 {
        u64::from(self.granted).saturating_add(u64::from(self.debt))
    }

    /// A counter has come half the way it can go.
    pub(super) fn is_full(&self) -> bool {
        self.granted.max(self.debt).max(self.returned).max(self.used) > COUNTER_MAX
    }

    /// As [`Meter::reopen`], but what the pool has not heard is counted anew: what is owed, and what was used beyond `told`.
    pub(super) fn renew(&mut self, told: u64) {
        let debt = u32::try_from(self.untold).unwrap_or(0);
        let used = self.used.saturating_sub(small(told));
        let level = self.level;
        self.reopen();
        (self.debt, self.used, self.level, self.untold) = (debt, used, level, i32::try_from(debt).unwrap_or(i32::MAX));
    }

    /// Starts from zeros; how much is asked for stays known.
    pub(super) fn reopen(&mut self) {
        *self = Self { per_minute: self.per_minute, demand: self.demand, ..Self::default() };
    }

    /// The pool should soon hear of it: tokens are owed, or more went back than the limit brings in half a second.
    pub(super) fn is_pressing(&self) -> bool {
        self.untold > 0 || u64::from(self.untold.unsigned_abs()) > self.per_minute / 120
    }

    /// What the message says now is told.
    pub(super) fn tell(&mut self) {
        self.untold = 0;
    }

    /// Takes the level that the pool had when it answered; it had not heard what is untold.
    pub(super) fn hear_level(&mut self, units: u128) {
        self.level = Level::of(units);
        let tokens = u64::from(self.untold.unsigned_abs());
        if self.untold < 0 {
            self.level.take(tokens);
        } else {
            self.level.add(tokens);
        }
    }
}
