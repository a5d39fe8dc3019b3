//! What a rate pool remembers of one session: cumulative counters, and the chunks that may still come back.

use serde::{Deserialize, Serialize};

use super::super::message::RateRequest;
use super::each;
use crate::clock::UnixMs;
use crate::decision::Credit;

/// Chunks that may still come back, of one session. An asker has one or two; of more, the oldest counts as used.
const CHUNKS_MAX: usize = 8;

/// What one session borrowed, charged, gave back and used, ever, in its newest generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Borrower {
    pub generation: u32,
    pub seq: u64,
    pub granted: [u64; 3],
    debt: [u64; 3],
    returned: [u64; 3],
    used: [u64; 3],
    priced: Credit,
    pub heard: UnixMs,
    /// What this session may still use, and until when at most.
    at_hand: [u64; 3],
    at_hand_until: UnixMs,
    /// Oldest first.
    chunks: Vec<Chunk>,
    /// Chunks that settled as used since the session was last heard.
    late: Chunk,
}

/// Tokens lent at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub at: UnixMs,
    pub tokens: [u64; 3],
}

/// What a request changes in the buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Tokens of chunks that come back in time, or whose reply was lost.
    pub back: [u64; 3],
    /// Tokens of chunks that come back after they settled, lent at the time given here.
    pub late: Chunk,
    /// Charged before, and not used after all.
    pub refund: [u64; 3],
    /// Tokens that exist already and were not charged yet.
    pub charge: [u64; 3],
    /// Settled tokens, and what they cost.
    pub used: [u64; 3],
    pub priced: Credit,
}

impl Borrower {
    /// A session that was not known before. One that knows of grants was forgotten here: its counters are adopted as they
    /// are, and what it did in between is lost rather than counted twice.
    pub fn starting(request: &RateRequest) -> Self {
        if request.granted_known == [0; 3] {
            return Self { generation: request.generation, ..Self::default() };
        }
        Self {
            generation: request.generation,
            granted: request.granted_known,
            debt: request.debt,
            returned: request.returned,
            used: request.used,
            priced: request.priced,
            ..Self::default()
        }
    }

    /// Takes a newer request: the greater of each counter, and what that changes.
    ///
    /// A chunk that the asker does not know of by its next request never lived: it is taken back. What was at hand of chunks that
    /// died at or before `then` has drained.
    pub fn take(&mut self, request: &RateRequest, now: UnixMs, then: UnixMs) -> News {
        let drained = if self.at_hand_until <= then { self.at_hand } else { [0; 3] };
        let unheard = each(self.granted, request.granted_known, u64::saturating_sub);
        let returned = advance(&mut self.returned, request.returned);
        let charge = advance(&mut self.debt, request.debt);
        let used = advance(&mut self.used, request.used);
        let priced = request.priced.minus(self.priced).at_least_zero();
        self.priced = self.priced.plus(priced);
        (self.seq, self.granted, self.heard) = (request.seq, request.granted_known, now);
        self.at_hand = request.at_hand;
        let mut rest = each(returned, unheard, u64::saturating_add);
        let mut back = [0; 3];
        for chunk in &mut self.chunks {
            back = each(back, move_tokens(&mut rest, &mut chunk.tokens), u64::saturating_add);
        }
        let late = Chunk { at: self.late.at, tokens: move_tokens(&mut rest, &mut self.late.tokens) };
        self.late = Chunk::default();
        News { back, late, refund: each(rest, drained, u64::saturating_sub), charge, used, priced }
    }

    /// Notes a grant that lives until `until`. The rest of a small one may come back in full while it counts as out.
    pub fn borrow(&mut self, tokens: [u64; 3], is_small: bool, now: UnixMs, until: UnixMs) {
        self.granted = each(self.granted, tokens, u64::saturating_add);
        if tokens == [0; 3] {
            return;
        }
        self.at_hand = each(self.at_hand, tokens, u64::saturating_add);
        self.at_hand_until = self.at_hand_until.max(until);
        if is_small {
            return;
        }
        self.chunks.push(Chunk { at: now, tokens });
        if CHUNKS_MAX < self.chunks.len() {
            self.settle_oldest();
        }
    }

    /// Counts chunks that were lent at or before `then` as used.
    pub fn settle(&mut self, then: UnixMs) {
        while self.chunks.first().is_some_and(|chunk| chunk.at <= then) {
            self.settle_oldest();
        }
    }

    /// Tokens that this session may still use, or give back in full: of chunks that died after `then`.
    pub fn at_hand(&self, then: UnixMs) -> [u64; 3] {
        if then < self.at_hand_until { self.at_hand } else { [0; 3] }
    }

    /// Tokens of chunks that may still come back.
    pub fn lent(&self) -> [u64; 3] {
        self.chunks.iter().fold([0; 3], |sum, chunk| each(sum, chunk.tokens, u64::saturating_add))
    }

    fn settle_oldest(&mut self) {
        let chunk = self.chunks.remove(0);
        let at = if self.late.tokens == [0; 3] { chunk.at } else { self.late.at };
        self.late = Chunk { at, tokens: each(self.late.tokens, chunk.tokens, u64::saturating_add) };
    }
}

/// Sets a counter to the greater value; how far it moved is the result.
fn advance(counter: &mut [u64; 3], reported: [u64; 3]) -> [u64; 3] {
    let old = *counter;
    *counter = each(old, reported, u64::max);
    each(*counter, old, u64::saturating_sub)
}

/// Takes as much of `wanted` from `from` as there is, off both.
fn move_tokens(wanted: &mut [u64; 3], from: &mut [u64; 3]) -> [u64; 3] {
    let moved = each(*wanted, *from, u64::min);
    *wanted = each(*wanted, moved, u64::saturating_sub);
    *from = each(*from, moved, u64::saturating_sub);
    moved
}
