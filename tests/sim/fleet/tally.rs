//! One account reckoned apart from the code under test: what is spent and promised, and what the contract allows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Plan;

/// What the store granted to each record, to tell what a rollback forgets.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    by_record: BTreeMap<(usize, u32), i64>,
    sum: i64,
}

/// How far a run was when something happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub at: Duration,
    pub asked: u64,
    pub admitted: u64,
    /// Messages to the store: one script call at most for each.
    pub calls: u64,
}

/// A bucket that drains at its limit: its highest level shows the worst window of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// In tokens x 60 s, in millionths.
    level: u128,
    highest: u128,
    at: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub credits: i64,
    /// What was spent, and what running requests hold on top.
    pub promised: i64,
    pub promised_max: i64,
    /// Actual above the hold.
    pub under: i64,
    /// Granted, forgotten by the store, and granted again perhaps.
    pub rolled: i64,
    /// Emergency credit, promised while the store was away.
    pub alone: i64,
    pub held_ever: i64,
    pub grants: Grants,
    pub now: Progress,
    /// At the last admission.
    pub last: Progress,
    pub denied: BTreeMap<&'static str, u64>,
    pub requests: Window,
    pub prompt: Window,
}

impl Grants {
    pub fn hear(&mut self, life: usize, generation: u32, granted: i64) {
        let known = self.by_record.entry((life, generation)).or_default();
        self.sum += (granted - *known).max(0);
        *known = granted.max(*known);
    }

    /// Goes back to `found`, and says how much was granted since.
    pub fn roll_back(&mut self, found: &Self) -> i64 {
        let forgotten = self.sum - found.sum;
        *self = found.clone();
        forgotten
    }
}

impl Window {
    pub fn take(&mut self, tokens: u64, per_minute: u64, at: Duration) {
        let drained = u128::from(per_minute) * (at - self.at).as_micros();
        self.level = self.level.saturating_sub(drained) + u128::from(tokens) * 60_000_000;
        self.highest = self.highest.max(self.level);
        self.at = at;
    }

    /// In any window no more than `capacity + limit x (window + 3 s)` may be taken, with a minute's burst. The worst one,
    /// in percent of that.
    pub fn worst_percent(&self, per_minute: u64) -> u128 {
        (self.highest * 100).div_ceil(u128::from(per_minute) * 63_000_000)
    }
}

impl Tally {
    pub fn with_credits(credits: i64) -> Self {
        Self { credits, ..Self::default() }
    }

    pub fn promise(&mut self, hold: i64, alone: i64, at: Duration) {
        self.promised += hold;
        self.promised_max = self.promised_max.max(self.promised);
        self.held_ever += hold;
        self.alone += alone;
        self.now.admitted += 1;
        self.last = Progress { at, ..self.now };
    }

    pub fn spend(&mut self, hold: i64, cost: i64) {
        self.promised += cost - hold;
        self.promised_max = self.promised_max.max(self.promised);
        self.under += (cost - hold).max(0);
    }

    pub fn deny(&mut self, reason: &'static str) {
        *self.denied.entry(reason).or_default() += 1;
    }

    pub fn overspent(&self) -> i64 {
        (self.promised_max - self.credits).max(0)
    }

    /// What the contract allows beyond the credits, but for rights that were taken back.
    pub fn allowed(&self) -> i64 {
        self.under + self.rolled + self.alone
    }

    /// The worst window of all, in percent of what its limit allows.
    pub fn worst_percent(&self, plan: &Plan) -> u128 {
        let requests = self.requests.worst_percent(plan.requests_per_minute());
        requests.max(self.prompt.worst_percent(plan.prompt_per_minute()))
    }
}
