//! Tollgate as a whole: many real sidecars, the real pool as store, a seed, faults, and a simpler model beside it.
//!
//! A seed is a history: accounts, sidecars, clients and faults are drawn from it, and the same seed is the same history.
//! After every step the contract of the pool's protocol is checked, reckoned apart from the code under test; in the end
//! nobody may keep what nobody uses, and all usage is booked once. Wrong protocols, wired around the real code, must fail.
//!
//! `TOLLGATE_SIM_HISTORIES=n cargo test --release --test sim -- --ignored long --nocapture` runs more of them and prints
//! the seeds that fail; `TOLLGATE_SIM_SEED=n`, alone, replays one and prints what happened.

mod asking;
mod books;
mod catalogue;
mod client;
mod ending;
mod event;
mod faults;
mod fleet;
mod life;
mod misfortune;
mod mutants;
mod network;
mod node;
mod rng;
mod rounds;
mod running;
mod store;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mutants::Mutant;
use world::{Seen, World};

/// What the histories must have seen.
const EXPECTED: [&str; 42] = [
    "abuse_block",
    "admitted",
    "asked again",
    "clock step",
    "crash",
    "credits added",
    "credits_depleted",
    "cut",
    "exceeds_balance",
    "exceeds_limit",
    "exceeds_month_room",
    "exited unheard",
    "extended",
    "extension refused",
    "finished again",
    "freeze",
    "generated_tokens_per_minute",
    "had what was left",
    "idle",
    "in_flight",
    "leave",
    "monthly_limit",
    "orphaned",
    "overrun",
    "reclaimed",
    "refused",
    "released",
    "replies in time",
    "replies late or twice",
    "requests_per_minute",
    "rolled back",
    "rounds given up",
    "said bye to all",
    "settled",
    "settled elsewhere",
    "settled late",
    "snapshot",
    "terms changed",
    "user_limit",
    "vanished",
    "waited in vain",
    "weather",
];

/// How much of a failed history is shown.
const TAIL_LINES: usize = 60;

/// Runs one history. What must not be, and what panicked, comes back as a sentence.
fn history(seed: u64, mutant: Option<Mutant>) -> Result<Seen, String> {
    let mut world = World::new(seed, mutant, false);
    run(&mut world).map(|()| world.seen)
}

fn run(world: &mut World) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
    })
}

/// The same history again, with its log.
fn log_of(seed: u64, mutant: Option<Mutant>) -> String {
    let mut world = World::new(seed, mutant, true);
    let outcome = run(&mut world);
    let head = format!("{:?}\n", world.profile);
    head + &world.log.take().expect("it was logged") + &format!("{outcome:?}\n")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Runs histories with these seeds, and panics at the first that fails.
fn histories(seeds: std::ops::Range<u64>) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds {
        match history(seed, None) {
            Ok(more) => seen.add(&more),
            Err(fault) => panic!("seed {seed}: {fault}\n{}", tail(&log_of(seed, None))),
        }
    }
    seen
}

/// Histories in the default run, in parts that run side by side.
const HISTORIES: u64 = 20_000;

#[test]
fn no_history_of_the_first_half_overspends_or_strands() {
    check_seen(&histories(0..HISTORIES / 2));
}

#[test]
fn no_history_of_the_second_half_overspends_or_strands() {
    check_seen(&histories(HISTORIES / 2..HISTORIES));
}

/// What did not happen was not tested.
fn check_seen(seen: &Seen) {
    let missing: Vec<&&str> =
        EXPECTED.iter().filter(|what| seen.0.get(**what).is_none_or(|times| *times < 5)).collect();
    assert!(missing.is_empty(), "these hardly ever happened: {missing:?} in {seen:?}");
}

/// How many histories a mutant may survive.
const MUTANT_HISTORIES: u64 = 5_000;

/// Runs histories of a mutant until one fails, which must be for one of these reasons.
fn check_mutant(mutant: Mutant, reasons: &[&str]) {
    let faults = (0..MUTANT_HISTORIES).filter_map(|seed| history(seed, Some(mutant)).err().map(|fault| (seed, fault)));
    let (seed, fault) = faults.into_iter().next().unwrap_or_else(|| panic!("{mutant:?} survived"));
    println!("{mutant:?} fails with seed {seed}: {fault}");
    assert!(reasons.iter().any(|reason| fault.contains(reason)), "{mutant:?} failed otherwise, seed {seed}: {fault}");
}

#[test]
fn adding_what_messages_say_counts_twice() {
    // What it counts too much may also close a record whose requests still run.
    check_mutant(Mutant::Deltas, &["the store booked", "cannot have what is left", "gave back 0 of 0"]);
}

#[test]
fn forgetting_ended_sessions_counts_twice() {
    check_mutant(Mutant::NoTombstone, &["the store booked"]);
}

#[test]
fn lending_without_looking_overspends() {
    check_mutant(Mutant::NoPoolCheck, &["spent and promised"]);
}

#[test]
fn lending_to_users_without_their_cap_overspends_it() {
    check_mutant(Mutant::NoCap, &["spent and promised"]);
}

#[test]
fn a_lease_counted_from_receipt_is_spent_after_it_was_taken_back() {
    check_mutant(Mutant::LeaseFromReceipt, &["admitted on rights that the store took back"]);
}

#[expect(clippy::disallowed_methods, reason = "a test's own settings; no room reads them")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a whole number"))
}

/// Every kind of fault that these histories have, by its words, with the first seed and how many there are.
fn survey(seeds: std::ops::Range<u64>) -> (BTreeMap<String, (u64, u64)>, Seen) {
    let (mut faults, mut seen) = (BTreeMap::new(), Seen::default());
    for seed in seeds {
        match history(seed, None) {
            Ok(more) => seen.add(&more),
            Err(fault) => {
                let words: String = fault.chars().filter(|letter| !letter.is_ascii_digit()).take(80).collect();
                faults.entry(words).or_insert((seed, 0)).1 += 1;
            }
        }
    }
    (faults, seen)
}

/// Replays one history with its log where only `TOLLGATE_SIM_SEED` is set; else runs `TOLLGATE_SIM_HISTORIES` from there.
#[test]
#[ignore = "runs for as long as one asks for; see the top of this file"]
fn long() {
    let (seed, count) = (setting("TOLLGATE_SIM_SEED"), setting("TOLLGATE_SIM_HISTORIES"));
    if let (Some(seed), None) = (seed, count) {
        println!("{}", log_of(seed, None));
        return;
    }
    let (from, count) = (seed.unwrap_or(0), count.unwrap_or(200_000));
    let middle = from + count / 2;
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| survey(from..middle));
        let other = survey(middle..from + count);
        (one.join().expect("faults are caught"), other)
    });
    println!("{:#?}\n{:#?}", one.1, other.1);
    assert!(one.0.is_empty() && other.0.is_empty(), "(first seed, times) by fault: {:#?} {:#?}", one.0, other.0);
}
