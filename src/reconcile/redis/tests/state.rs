//! The whole state of an account, as the law in Rust and as the scripts keep it, in one shape.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::Value;
use serde::Deserialize;

use super::super::answer::{Answer, list, text, whole};
use super::super::packed::Numbers;
use super::super::terms::tier_of_number;
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{Mode, ReclaimMode, Terms, Tier};
use crate::pool::message::Event;
use crate::pool::{Credits, Entry, Pool};

type Key = ((String, u128), u32);

/// As `Pool` is written, field by field.
#[derive(Debug, PartialEq, Deserialize)]
pub struct State {
    account: String,
    created: u64,
    pub now: u64,
    terms: Terms,
    terms_version: u64,
    credits: Credits,
    paid: Credit,
    credit_version: u64,
    used: Credit,
    leased: Credit,
    retired: Credit,
    months: (u32, Credit, Vec<(u32, Credit)>),
    sessions: BTreeMap<Key, Record>,
    starving_until: u64,
    top_up: TopUp,
    announced: Vec<u32>,
    depleted: bool,
    low: bool,
    tier: Tier,
    /// Of the scripts' state it is the limit in force; of the law's it becomes that.
    limit_max: Option<Credit>,
    /// Beyond the grant, adopted again, reaped.
    oddities: (Credit, Credit, Credit),
    ops: u64,
    /// Month, since when, how much.
    late: Option<(u32, u64, Credit)>,
    history: u64,
    entries: Vec<Entry>,
    events: Vec<Event>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Record {
    seq: u64,
    /// Granted, used, returned, reclaimed.
    counters: (Credit, Credit, Credit, Credit),
    month: u32,
    used_before: Credit,
    expires: u64,
    ttl: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum Stage {
    Open,
    Reaped(u64),
    Closed(u64),
}

#[derive(Debug, PartialEq, Deserialize)]
struct TopUp {
    pending: Option<(String, u64, Credit, Credit)>,
    attempt: u32,
    declines: u32,
    retry_at: u64,
    bought: Credit,
}

impl State {
    /// No purchase is in flight, and none was declined that is to be tried again.
    pub fn buys_nothing(&self) -> bool {
        self.top_up.pending.is_none() && self.top_up.retry_at <= self.now
    }
}

pub fn of_pool(pool: &Pool) -> State {
    let state: State = postcard::from_bytes(&postcard::to_stdvec(pool).unwrap()).unwrap();
    State { limit_max: pool.summary(UnixMs(state.now)).month_limit, ..state }
}

/// As `dump.lua` tells it. Also checks that every list agrees with the records.
pub fn of_dump(account: &str, dump: Value) -> State {
    let mut dump = list(dump).unwrap();
    let mut state = dump.list().unwrap();
    let terms = match dump.value().unwrap() {
        Value::Nil => None,
        written => Some(serde_json::from_str(&text(&written).unwrap()).unwrap()),
    };
    let sessions = records(dump.list().unwrap());
    check_lists(&sessions, &mut dump);
    let mut next = || state.number().unwrap().try_into().unwrap();
    let (_schema, created, now, ops): (u64, u64, u64, u64) = (next(), next(), next(), next());
    let (terms_version, credit_version) = (next(), next());
    let mut money = || state.credit().unwrap();
    let (total, given, used, leased, retired) = (money(), money(), money(), money(), money());
    let (month, month_used) = (state.whole().unwrap(), state.credit().unwrap());
    let months = (month, month_used, past(state.list().unwrap()));
    let starving_until = state.whole().unwrap();
    let announced = state.list().unwrap().map(|percent| whole(&percent).unwrap().try_into().unwrap()).collect();
    let depleted = state.is_set().unwrap();
    let oddities = (state.credit().unwrap(), state.credit().unwrap(), state.credit().unwrap());
    let (attempt, declines, retry_at) = (state.whole().unwrap(), state.whole().unwrap(), state.whole().unwrap());
    let bought = state.credit().unwrap();
    let pending = pending(account, state.list().unwrap());
    // What the law looks at of the terms, and when the first record ends.
    let of_terms: Vec<Value> = (0..15).map(|_| state.value().unwrap()).collect();
    let mut of_limit = list(Value::Array(of_terms[4..7].to_vec())).unwrap();
    let has_limit = of_limit.number().unwrap() > 0;
    let limit_max = Some(of_limit.credit().unwrap()).filter(|_| has_limit);
    let terms = terms.unwrap_or_else(|| user_terms(&mut list(Value::Array(of_terms)).unwrap()));
    state.pass(1).unwrap();
    let (paid, tier) = (state.credit().unwrap(), tier_of_number(state.whole().unwrap()).unwrap());
    state.pass(2).unwrap();
    let low = state.is_set().unwrap();
    state.pass(7).unwrap();
    state.pass(1).unwrap();
    let mut lots = state.list().unwrap();
    let mut lot = || lots.credit().unwrap();
    let credits = Credits { promotional: lot(), purchased: lot(), adjusted: lot(), refunded: lot() };
    assert_eq!((total, given), (credits.total(), credits.given()));
    assert_eq!(state.is_set().unwrap(), credits.purchased.is_positive());
    let history = state.whole().unwrap();
    let late = late(state.list().unwrap());
    State {
        account: account.into(),
        created,
        now,
        terms,
        terms_version,
        credits,
        paid,
        credit_version,
        used,
        leased,
        retired,
        months,
        sessions,
        starving_until,
        top_up: TopUp { pending, attempt, declines, retry_at, bought },
        announced,
        depleted,
        low,
        tier,
        limit_max,
        oddities,
        ops,
        late,
        history,
        entries: Vec::new(),
        events: Vec::new(),
    }
}

/// What a user's state says of the terms: its cap.
fn user_terms(state: &mut Answer) -> Terms {
    let (suspended, returns) = (state.is_set().unwrap(), state.is_set().unwrap());
    let (credit_line, kind, limit) = (state.credit().unwrap(), state.number().unwrap(), state.credit().unwrap());
    assert!(!suspended && kind == 1, "a cap pauses");
    let reclaim_mode = if returns { ReclaimMode::Return } else { ReclaimMode::Limbo };
    Terms { mode: Mode::Postpaid, credit_line, monthly_limit: Some(limit), reclaim_mode, ..Terms::default() }
}

fn past(mut flat: Answer) -> Vec<(u32, Credit)> {
    let mut past = Vec::new();
    while let Some(month) = flat.next() {
        past.push((whole(&month).unwrap().try_into().unwrap(), flat.credit().unwrap()));
    }
    past
}

fn late(mut late: Answer) -> Option<(u32, u64, Credit)> {
    let month = whole(&late.next()?).unwrap().try_into().unwrap();
    Some((month, late.whole().unwrap(), late.credit().unwrap()))
}

fn pending(account: &str, mut pending: Answer) -> Option<(String, u64, Credit, Credit)> {
    let since = whole(&pending.next()?).unwrap();
    let (version, attempt) = (pending.number().unwrap(), pending.number().unwrap());
    let (amount, done_at) = (pending.credit().unwrap(), pending.credit().unwrap());
    Some((format!("{account}.{version}.{attempt}"), since, amount, done_at))
}

fn records(mut flat: Answer) -> BTreeMap<Key, Record> {
    let mut records = BTreeMap::new();
    while let Some(name) = flat.next() {
        records.insert(key(&text(&name).unwrap()), record(flat.list().unwrap()));
    }
    records
}

fn record(mut record: Answer) -> Record {
    let seq = record.whole().unwrap();
    let mut money = || record.nanos().unwrap();
    let counters = (money(), money(), money(), money());
    let (month, used_before) = (record.whole().unwrap(), record.nanos().unwrap());
    let (expires, ttl) = (record.whole().unwrap(), record.millis().unwrap());
    let (stage, ended) = (record.number().unwrap(), record.whole().unwrap());
    let stage = match stage {
        0 => Stage::Open,
        1 => Stage::Reaped(ended),
        2 => Stage::Closed(ended),
        other => panic!("stage {other}"),
    };
    Record { seq, counters, month, used_before, expires, ttl, stage }
}

fn key(name: &str) -> Key {
    let mut parts = name.rsplitn(3, ' ');
    let generation = u32::from_str_radix(parts.next().unwrap(), 16).unwrap();
    let run = u128::from_str_radix(parts.next().unwrap(), 16).unwrap();
    ((parts.next().unwrap().into(), run), generation)
}

/// Open records stand in two lists, tombstones in another, and every generation in its session's.
fn check_lists(sessions: &BTreeMap<Key, Record>, dump: &mut Answer) {
    let open = |score: fn(&Record) -> u64| -> BTreeSet<(Key, u64)> {
        let open = sessions.iter().filter(|(_, record)| record.stage == Stage::Open);
        open.map(|(key, record)| (key.clone(), score(record))).collect()
    };
    let by_expiry = open(|record| record.expires);
    let by_life = open(|record| record.expires + u64::try_from(record.ttl.as_millis()).unwrap());
    let ended = sessions.iter().filter_map(|(key, record)| match record.stage {
        Stage::Open => None,
        Stage::Reaped(at) | Stage::Closed(at) => Some((key.clone(), at)),
    });
    assert_eq!(scores(dump.list().unwrap()), by_expiry);
    assert_eq!(scores(dump.list().unwrap()), by_life);
    assert_eq!(scores(dump.list().unwrap()), ended.collect());
    let mut generations = dump.list().unwrap();
    let mut found = BTreeSet::new();
    while let Some(session) = generations.next() {
        for generation in generations.list().unwrap() {
            let name = format!("{} {:08x}", text(&session).unwrap(), whole(&generation).unwrap());
            assert!(found.insert(key(&name)), "{name} twice");
        }
    }
    assert_eq!(found, sessions.keys().cloned().collect());
}

fn scores(mut flat: Answer) -> BTreeSet<(Key, u64)> {
    let mut scores = BTreeSet::new();
    while let Some(name) = flat.next() {
        let score = flat.text().unwrap().parse().unwrap();
        scores.insert((key(&text(&name).unwrap()), score));
    }
    scores
}
