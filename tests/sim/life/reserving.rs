//! Reserved throughput, live: several sidecars share one reservation, and each dollar of it is used once or lost.

use std::time::Duration;

use tollgate::decision::catalogue::FIREWORKS_2026_10;
use tollgate::decision::terms::Terms;
use tollgate::decision::{Catalogue, Credit, Usage};

use super::town::{ACCOUNT, MODEL, OCTOBER, SECOND, Town, unlimited};

const SIDECARS: usize = 3;

fn cents(cents: i64) -> Credit {
    Credit::from_nanos(cents * 10_000_000)
}

fn reserved(usd: i64) -> Terms {
    Terms { reserved: [(MODEL.into(), cents(usd * 100))].into(), ..unlimited() }
}

fn town(start: [u64; 3], terms: Terms) -> Town {
    let mut catalogue = Catalogue::parse(FIREWORKS_2026_10).expect("the shipped catalogue is valid");
    catalogue.requests.per_minute = 100_000;
    catalogue.rates.start = start;
    catalogue.rates.floor = start.map(|limit| limit / 4);
    let mut town = Town::new(SIDECARS as u128, catalogue, terms, OCTOBER);
    for sidecar in 0..SIDECARS {
        town.run(sidecar, MODEL, Usage::default()).expect("nothing is hardly ever too much");
    }
    town.pass_to_second(1);
    town
}

/// So many requests in this minute, on one sidecar after another; what was billed for them when the minute had ended.
fn minute(town: &mut Town, requests: u32, usage: Usage) -> Credit {
    let before = town.summary();
    for request in 0..requests {
        let sidecar = usize::try_from(request).expect("a few") % SIDECARS;
        town.run(sidecar, MODEL, usage).unwrap_or_else(|denial| panic!("{denial:?} at {:?}", town.at()));
        town.pass(Duration::from_secs(40) / requests);
    }
    town.pass_to_second(50);
    town.pass_to_second(0);
    town.pass(SECOND);
    let after = town.summary();
    let billed = after.used.minus(before.used);
    assert_eq!(after.month_used.minus(before.month_used), billed);
    assert_eq!(before.balance.minus(after.balance), billed);
    billed
}

/// A request that costs three cents: what the price of uncached tokens makes of ten thousand.
const THREE_CENTS: Usage = Usage { prompt: 10_000, cached: 0, generated: 0 };

#[test]
fn a_minute_within_the_reservation_is_paid_for_and_a_larger_one_pays_the_rest() {
    let mut town = town([40_000_000; 3], Terms { monthly_limit: Some(cents(100)), ..reserved(10) });
    let usual = Usage { prompt: 55_000, cached: 50_000, generated: 200 };
    assert_eq!(minute(&mut town, 300, usual), Credit::ZERO);
    assert!(town.store.take_events(ACCOUNT).is_empty(), "nothing is announced of what is paid for");
    assert_eq!(minute(&mut town, 400, THREE_CENTS), cents(200));
    // What one minute does not use is not there in the next.
    assert_eq!(minute(&mut town, 1, THREE_CENTS), Credit::ZERO);
    assert_eq!(minute(&mut town, 400, THREE_CENTS), cents(200));
    // A change counts from then on.
    town.change(reserved(4));
    town.pass_to_second(1);
    assert_eq!(minute(&mut town, 300, THREE_CENTS), cents(500));
    town.change(unlimited());
    town.pass_to_second(1);
    assert_eq!(minute(&mut town, 300, THREE_CENTS), cents(900));
}

#[test]
fn other_models_and_batch_are_no_part_of_it() {
    let mut town = town([40_000_000; 3], reserved(10));
    let before = town.summary().used;
    town.run(0, "qwen-3.8-max", THREE_CENTS).expect("there is credit");
    town.pass(10 * SECOND);
    assert_eq!(town.summary().used.minus(before), cents(2));
}

#[test]
fn lost_replies_neither_cover_twice_nor_lose_anything() {
    let mut town = town([40_000_000; 3], reserved(10));
    town.loses_replies = true;
    for _ in 0..5 {
        assert_eq!(minute(&mut town, 400, THREE_CENTS), cents(200));
    }
}

#[test]
fn counters_that_are_full_begin_anew() {
    let mut town = town([4_000_000_000; 3], reserved(8_000));
    // $0.75 each, so that one sidecar after another tells of more than it can in one generation.
    let large = Usage { prompt: 250_000, cached: 0, generated: 0 };
    for _ in 0..3 {
        assert_eq!(minute(&mut town, 10_000, large), Credit::ZERO);
    }
}

/// The limits as every sidecar tells them once each heard of the pool.
fn limits(town: &mut Town) -> [u64; 3] {
    let mut told = Vec::new();
    for _ in 0..2 {
        told = (0..SIDECARS).map(|sidecar| town.run(sidecar, MODEL, Usage::default()).expect("of no size")).collect();
        town.pass(6 * SECOND);
    }
    assert!(told.iter().all(|limits| *limits == told[0]), "sidecars differ: {told:?}");
    told[0]
}

#[test]
fn limits_are_larger_by_what_is_reserved() {
    let start = [3_600_000, 900_000, 36_000];
    let more = [33_333_333, 3_333_333, 666_666];
    let raised = |limits: [u64; 3]| [0, 1, 2].map(|metric| limits[metric] + more[metric]);
    let mut town = town(start, unlimited());
    assert_eq!(limits(&mut town), start);
    town.change(reserved(10));
    assert_eq!(limits(&mut town), raised(start));
    let custom = [1_000_000, 900_000, 800_000];
    town.change(Terms { custom_limits: [(MODEL.into(), custom)].into(), ..reserved(10) });
    assert_eq!(limits(&mut town), raised(custom));
    town.change(Terms { custom_limits: [(MODEL.into(), custom)].into(), ..unlimited() });
    assert_eq!(limits(&mut town), custom);
}

#[test]
fn only_what_exceeds_the_reservation_makes_limits_grow() {
    let mut town = town([1_000_000; 3], reserved(10));
    // $9.90, and 3.3 M uncached tokens, each minute.
    for _ in 0..20 {
        minute(&mut town, 33, Usage { prompt: 100_000, cached: 0, generated: 0 });
    }
    assert_eq!(limits(&mut town)[1], 4_333_333);
    // $12, of which $2 are 0.67 M tokens: a quarter of an hour of that is growth.
    for _ in 0..16 {
        minute(&mut town, 40, Usage { prompt: 100_000, cached: 0, generated: 0 });
    }
    assert_eq!(limits(&mut town)[1], 4_583_333);
}
