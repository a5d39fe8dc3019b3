//! What a pool remembers of one session: four counters that only grow, and until when its lease lives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{SessionId, SyncRequest};
use super::when::later;
use crate::clock::UnixMs;
use crate::decision::{Credit, Month};

/// A session's record is found by the session and its generation.
pub(super) type Key = (SessionId, u32);

/// Invariant: `used + returned + reclaimed <= granted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of the newest request that was taken.
    pub seq: u64,
    /// `G`. Raised to cover what was spent beyond it.
    pub granted: Credit,
    /// `A`: `U` as last reported.
    pub used: Credit,
    /// `R`
    pub returned: Credit,
    /// `C`
    pub reclaimed: Credit,
    /// The month that the session's usage goes to.
    pub month: Month,
    /// The part of `used` that belongs to months before `month`.
    pub used_before: Credit,
    /// Until when the session may spend its rights; never earlier than it was told.
    pub expires: UnixMs,
    /// The life of the lease that ends at `expires`.
    pub ttl: Duration,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    #[default]
    Open,
    /// Fell silent, and its rights were taken back. It may speak again.
    Reaped(UnixMs),
    /// Said *bye*. What it reported is final.
    Closed(UnixMs),
}

/// A record after a request, and what was out of order on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged {
    pub record: Record,
    /// Newly reported usage.
    pub spent: Credit,
    /// The part of it that no grant covered.
    pub beyond: Credit,
    /// Grants that the session knows and this pool had forgotten.
    pub readopted: Credit,
}

impl Record {
    /// Rights that are lent: `G - A - R - C`.
    pub fn outstanding(&self) -> Credit {
        self.granted.minus(self.used).minus(self.returned).minus(self.reclaimed)
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed(_))
    }

    /// When the record became a tombstone.
    pub fn ended(&self) -> Option<UnixMs> {
        match self.stage {
            Stage::Open => None,
            Stage::Reaped(at) | Stage::Closed(at) => Some(at),
        }
    }

    pub fn is_live(&self, now: UnixMs) -> bool {
        self.is_open() && now < self.expires
    }

    /// The request says something that this record does not know.
    pub fn lacks(&self, request: &SyncRequest) -> bool {
        self.used < request.used
            || self.returned < request.returned
            || self.granted < request.granted_known
            || self.reclaimed < request.reclaimed_known
    }

    /// Takes the greater of every counter. Repeating it, or doing it in another order, comes to the same.
    pub fn merge(&self, request: &SyncRequest) -> Merged {
        let used = self.used.max(request.used);
        let returned = self.returned.max(request.returned);
        let reclaimed = self.reclaimed.max(request.reclaimed_known);
        let known = self.granted.max(request.granted_known);
        let granted = known.max(used.plus(returned).plus(reclaimed));
        Merged {
            record: Self { seq: request.seq, granted, used, returned, reclaimed, stage: Stage::Open, ..*self },
            spent: used.minus(self.used),
            beyond: granted.minus(known),
            readopted: known.minus(self.granted),
        }
    }

    /// Takes all rights back.
    #[must_use]
    pub fn ended_as(self, stage: Stage) -> Self {
        Self { reclaimed: self.reclaimed.plus(self.outstanding()), stage, ..self }
    }

    /// Lives for `ttl` from `now`, and no shorter than was promised before. What lives for three quarters of that anyway is
    /// left as it is: stores keep lists in order of this instant, and moving in them is work.
    pub fn renew(&mut self, now: UnixMs, ttl: Duration) {
        let most = ttl.saturating_mul(3).checked_div(4).unwrap_or(ttl);
        if self.expires <= later(now, most) {
            (self.expires, self.ttl) = (later(now, ttl), ttl);
        }
    }
}
