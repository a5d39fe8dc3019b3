//! Adaptive limits, live: usage arrives at different sidecars, and limits grow, shrink and are forgotten as published.

use std::time::Duration;

use tollgate::decision::catalogue::FIREWORKS_2026_10;
use tollgate::decision::terms::{Terms, Tier};
use tollgate::decision::{Catalogue, Usage};

use super::town::{DAY, MODEL, OCTOBER, SECOND, Town, unlimited};

const SIDECARS: usize = 3;
/// What nobody waits for is told by then.
const HEARD_AFTER: Duration = Duration::from_secs(6);

/// A town where token limits start at `start` tokens a minute, and may shrink to a quarter of that.
fn town(start: [u64; 3], terms: Terms) -> Town {
    let mut catalogue = Catalogue::parse(FIREWORKS_2026_10).expect("the shipped catalogue is valid");
    catalogue.rates.start = start;
    catalogue.rates.floor = start.map(|limit| limit / 4);
    Town::new(SIDECARS as u128, catalogue, terms, OCTOBER)
}

/// Uses `tokens` of the model's prompt in this minute, in requests on one sidecar after another, and lets the minute end.
/// The limits that the last answer told.
fn minute(town: &mut Town, prompt: u64, uncached: u64, generated: u64) -> [u64; 3] {
    const REQUEST_MAX: u64 = 200_000;
    let requests = prompt.max(generated * 4).div_ceil(REQUEST_MAX).max(SIDECARS as u64);
    let part = |tokens: u64, at: u64| tokens * (at + 1) / requests - tokens * at / requests;
    let mut limits = [0; 3];
    for at in 0..requests {
        let usage = Usage {
            prompt: part(prompt, at),
            cached: part(prompt, at) - part(uncached, at).min(part(prompt, at)),
            generated: part(generated, at),
        };
        let sidecar = usize::try_from(at).expect("a few") % SIDECARS;
        limits = town.run(sidecar, MODEL, usage).unwrap_or_else(|denial| panic!("{denial:?} at {:?}", town.at()));
        town.pass(Duration::from_millis(40_000 / requests));
    }
    town.pass_to_second(55);
    town.pass_to_second(0);
    town.pass(SECOND);
    limits
}

/// Lets minutes pass in each of which so much is used, and notes the prompt limit whenever it is another one: with the
/// minute in which it was heard of first, counted from 0.
fn changes(town: &mut Town, minutes: u64, mut used: impl FnMut(u64) -> [u64; 3]) -> Vec<(u64, u64)> {
    let mut seen = vec![(0, limits(town)[0])];
    for _ in 0..minutes {
        let now = seen.last().expect("the first").1;
        let [prompt, uncached, generated] = used(now);
        minute(town, prompt, uncached, generated);
        let limit = limits(town)[0];
        if limit != now {
            seen.push((town.at().as_secs() / 60, limit));
        }
    }
    seen
}

fn values(changes: &[(u64, u64)]) -> Vec<u64> {
    changes.iter().map(|(_, limit)| *limit).collect()
}

/// The limits as every sidecar tells them once each heard of the pool.
fn limits(town: &mut Town) -> [u64; 3] {
    let mut told = Vec::new();
    for _ in 0..2 {
        told = (0..SIDECARS).map(|sidecar| town.run(sidecar, MODEL, Usage::default()).expect("of no size")).collect();
        town.pass(HEARD_AFTER);
    }
    assert!(told.iter().all(|limits| *limits == told[0]), "sidecars differ: {told:?}");
    told[0]
}

fn use_one_token(town: &mut Town, sidecar: usize) {
    town.run(sidecar, MODEL, Usage { prompt: 1, ..Usage::default() }).expect("one token fits");
    town.pass(HEARD_AFTER);
}

fn tier(tier: Tier) -> Terms {
    Terms { tier_override: Some(tier), ..unlimited() }
}

#[test]
fn a_limit_in_use_grows_by_a_quarter_each_quarter_of_an_hour() {
    let mut town = town([1_000_000; 3], unlimited());
    let seen = changes(&mut town, 61, |limit| [limit * 6 / 10, 0, 0]);
    assert_eq!(values(&seen), [1_000_000, 1_250_000, 1_562_500, 1_953_125, 2_441_406]);
    assert_eq!(seen.last().expect("several").0, 60);
}

#[test]
fn the_way_to_the_ceiling_takes_nine_steps() {
    let mut town = town([3_600_000, 900_000, 36_000], tier(Tier::Three));
    let seen = changes(&mut town, 160, |limit| [limit * 51 / 100, 0, 0]);
    assert_eq!((seen.len(), seen[0].1), (10, 3_600_000));
    assert_eq!(seen[9], (135, 21_600_000), "{seen:?}");
}

#[test]
fn half_of_a_limit_is_not_more_than_half() {
    let mut town = town([1_000_000; 3], unlimited());
    assert_eq!(values(&changes(&mut town, 40, |_| [500_000, 0, 0])), [1_000_000]);
    assert_eq!(values(&changes(&mut town, 2, |_| [500_001, 0, 0])), [1_000_000, 1_250_000]);
}

#[test]
fn a_limit_that_is_hardly_used_shrinks_after_three_days() {
    const DAY: u64 = 1_440;
    let mut town = town([10_000_000; 3], unlimited());
    let seen = changes(&mut town, 10 * DAY, |_| [1_000_000, 0, 0]);
    let expected = [10_000_000, 8_000_000, 6_400_000, 5_120_000, 4_096_000, 3_276_800, 2_621_440];
    assert_eq!(values(&seen), expected);
    let days: Vec<u64> = seen.iter().map(|(minute, _)| minute / DAY).collect();
    assert_eq!(days, [0, 3, 4, 5, 6, 7, 8], "{seen:?}");
}

#[test]
fn more_than_three_idle_days_bring_the_start_back() {
    // After three days without more, one decrease is due, and not the start.
    for (idle, expected) in [(3 * DAY, 2_441_406 * 4 / 5), (3 * DAY + SECOND, 1_000_000)] {
        let mut town = town([1_000_000; 3], unlimited());
        changes(&mut town, 61, |limit| [limit * 6 / 10, 0, 0]);
        // The pool hears of the last traffic just before its minute ends, and of the next one so much later.
        town.pass_to_second(53);
        town.pass(SECOND * 9 / 10);
        use_one_token(&mut town, 0);
        town.pass(idle - HEARD_AFTER);
        use_one_token(&mut town, 1);
        town.pass(60 * SECOND);
        assert_eq!(limits(&mut town)[0], expected, "after {idle:?}");
    }
}

#[test]
fn metrics_move_alone() {
    let mut town = town([1_000_000; 3], unlimited());
    changes(&mut town, 31, |_| [600_000, 100_000, 500_001]);
    assert_eq!(limits(&mut town), [1_250_000, 1_000_000, 1_250_000]);
}

#[test]
fn a_tier_raises_the_ceiling_and_not_the_limit() {
    let start = [21_000_000, 900_000, 36_000];
    let mut town = town(start, tier(Tier::One));
    assert_eq!(limits(&mut town), start);
    town.change(tier(Tier::Three));
    assert_eq!(limits(&mut town), start);
    let grown = changes(&mut town, 17, |_| [11_000_000, 0, 0]);
    assert_eq!(values(&grown), [21_000_000, 21_600_000]);
}

#[test]
fn custom_limits_neither_move_nor_are_forgotten() {
    let custom = |limits| Terms { custom_limits: [(MODEL.into(), limits)].into(), ..unlimited() };
    let mut town = town([1_000_000; 3], custom([700_000, 600_000, 500_000]));
    changes(&mut town, 20, |_| [650_000, 0, 0]);
    town.pass(3 * DAY + SECOND);
    assert_eq!(limits(&mut town), [700_000, 600_000, 500_000]);
    town.change(custom([800_000, 600_000, 500_000]));
    assert_eq!(limits(&mut town), [800_000, 600_000, 500_000]);
    // From here on it follows use again.
    town.change(unlimited());
    assert_eq!(values(&changes(&mut town, 17, |limit| [limit * 6 / 10, 0, 0])), [800_000, 1_000_000]);
}
