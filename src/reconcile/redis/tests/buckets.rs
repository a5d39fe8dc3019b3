//! The whole state of a group's buckets, as the law in Rust and as the scripts keep it, in one shape.

use std::collections::BTreeMap;

use redis::Value;
use serde::Deserialize;

use super::super::answer::{Answer, list, text, whole};
use super::super::rates;
use crate::decision::Credit;
use crate::decision::adaptive::Adaptive;
use crate::pool::{RatePool, RateRules};

/// A minute or an instant, and tokens of each metric.
type Four = (u64, [u64; 3]);

/// As `RatePool` is written, field by field.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Buckets {
    now: u64,
    limits: [u64; 3],
    burst_seconds: u32,
    /// Level and when that was so.
    buckets: [(u128, u64); 3],
    version: u64,
    states: Option<[Adaptive; 3]>,
    /// The current minute, its tokens, and those that ended.
    minutes: (u64, [u64; 3], Vec<Four>),
    /// Per minute, tokens; what was covered.
    reserved: Option<((Credit, [u64; 3]), Credit)>,
    sessions: BTreeMap<(String, u128), Borrower>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Borrower {
    generation: u32,
    seq: u64,
    granted: [u64; 3],
    debt: [u64; 3],
    returned: [u64; 3],
    used: [u64; 3],
    priced: Credit,
    heard: u64,
    at_hand: [u64; 3],
    at_hand_until: u64,
    chunks: Vec<Four>,
    late: Four,
}

pub fn of_pool(pool: &RatePool) -> Buckets {
    postcard::from_bytes(&postcard::to_stdvec(pool).unwrap()).unwrap()
}

/// As `dump_rates.lua` tells it. The scripts settle chunks and forget sessions when they next look at them; here that is
/// done as the law does it at once. Also checks what a group's state says of its sessions.
pub fn of_dump(dump: Value, rules: &RateRules) -> Buckets {
    let mut dump = list(dump).unwrap();
    let mut state = dump.list().unwrap();
    let now = state.whole().unwrap();
    let (burst_seconds, version) = (state.whole().unwrap(), state.whole().unwrap());
    let states = match state.value().unwrap() {
        Value::Nil => None,
        written => Some(rates::states(&text(&written).unwrap()).unwrap()),
    };
    let limits = three(&mut state);
    let (tokens, parts, since) = (three(&mut state), three(&mut state), three(&mut state));
    let bucket = |metric: usize| {
        let level = u128::from(tokens[metric]) * 60_000_000_000 + u128::from(parts[metric]) * 1_000_000;
        (level, since[metric] * 1_000_000)
    };
    let (minute, used) = (state.whole().unwrap(), three(&mut state));
    let minutes = (minute, used, fours(state.list().unwrap()));
    let turned: u64 = state.whole().unwrap();
    state.pass(1).unwrap();
    let reserved = state.next().filter(|reserved| *reserved != Value::Nil).map(|reserved| {
        let mut reserved = list(reserved).unwrap();
        ((nanos(&mut reserved), three(&mut reserved)), nanos(&mut reserved))
    });
    let settled = now - u64::try_from(rules.chunk_settle.as_millis()).unwrap();
    let keep = u64::try_from(rules.session_keep.as_millis()).unwrap();
    let mut sessions = BTreeMap::new();
    let mut records = dump.list().unwrap();
    while let Some(name) = records.next() {
        let mut borrower = borrower(records.list().unwrap());
        borrower.settle(settled);
        if turned.saturating_sub(borrower.heard) <= keep {
            let name = text(&name).unwrap();
            let (node, run) = name.rsplit_once(' ').unwrap();
            sessions.insert((node.to_owned(), u128::from_str_radix(run, 16).unwrap()), borrower);
        }
    }
    Buckets {
        now,
        limits,
        burst_seconds,
        buckets: [bucket(0), bucket(1), bucket(2)],
        version,
        states,
        minutes,
        reserved,
        sessions,
    }
}

fn three(answer: &mut Answer) -> [u64; 3] {
    [answer.whole().unwrap(), answer.whole().unwrap(), answer.whole().unwrap()]
}

fn nanos(answer: &mut Answer) -> Credit {
    Credit::from_nanos(answer.whole().unwrap())
}

fn fours(mut flat: Answer) -> Vec<Four> {
    let mut fours = Vec::new();
    while let Some(first) = flat.next() {
        fours.push((whole(&first).unwrap(), three(&mut flat)));
    }
    fours
}

fn borrower(mut record: Answer) -> Borrower {
    Borrower {
        generation: record.whole().unwrap(),
        seq: record.whole().unwrap(),
        granted: three(&mut record),
        debt: three(&mut record),
        returned: three(&mut record),
        used: three(&mut record),
        heard: record.whole().unwrap(),
        at_hand: three(&mut record),
        at_hand_until: record.whole().unwrap(),
        late: (record.whole().unwrap(), three(&mut record)),
        chunks: fours(record.list().unwrap()),
        priced: record
            .next()
            .map_or(Credit::ZERO, |cost| Credit::from_nanos(i64::try_from(whole(&cost).unwrap()).unwrap())),
    }
}

impl Borrower {
    fn settle(&mut self, then: u64) {
        while self.chunks.first().is_some_and(|(at, _)| *at <= then) {
            let (at, tokens) = self.chunks.remove(0);
            let late_at = if self.late.1 == [0; 3] { at } else { self.late.0 };
            self.late = (late_at, [0, 1, 2].map(|metric| self.late.1[metric] + tokens[metric]));
        }
    }
}
