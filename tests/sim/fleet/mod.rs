//! A fleet over one store: real sidecars and the real pool, trouble of every kind, and a balance run to zero.
//!
//! `cargo test --release --test sim fleet -- --ignored --nocapture` runs it with 1,000 sidecars and prints what it cost,
//! what was left and what was overspent, each beside its bound. A smaller fleet is part of every test run.

mod client;
mod plan;
mod report;
mod run;
mod sidecar;
mod tally;
mod trouble;

use std::time::Duration;

use tollgate::decision::terms::{FailurePolicy, ReclaimMode};

use plan::{Bounds, Plan, Trouble, USD};
use report::Outcome;
use run::Fleet;

use crate::mutants::Mutant;

/// The efficiency of 20 sidecars with 200 requests/s on one account, and what 100 of them leave.
const EFFICIENCY: [Plan; 5] = [
    Plan { name: "20 sidecars, $20", bounds: Bounds { calls_per_mille: Some(400), usable: true }, ..Plan::CALM },
    Plan {
        name: "20 sidecars, $500",
        credits: 500 * USD,
        bounds: Bounds { calls_per_mille: Some(50), usable: true },
        ..Plan::CALM
    },
    Plan { name: "100 sidecars, $20", sidecars: 100, ..Plan::CALM },
    Plan { name: "100 sidecars, $20, long requests", sidecars: 100, lasts_max: Duration::from_secs(40), ..Plan::CALM },
    Plan {
        name: "50 sidecars, $150, five times its limits",
        sidecars: 50,
        pace: 400,
        credits: 150 * USD,
        headroom_percent: 20,
        ..Plan::CALM
    },
];

const CHAOS: Plan = Plan {
    name: "1,000 sidecars in chaos, limbo",
    sidecars: 1_000,
    pace: 2_000,
    credits: 2_000 * USD,
    tail: 2_000,
    trouble: Trouble::CHAOS,
    ..Plan::CALM
};

/// Every kind of trouble at once, in as many reclaim modes and failure policies as there are.
const TROUBLES: [Plan; 4] = [
    CHAOS,
    Plan {
        name: "1,000 sidecars in chaos, return",
        reclaim_mode: ReclaimMode::Return,
        trouble: Trouble { overruns: true, ..Trouble::CHAOS },
        ..CHAOS
    },
    Plan {
        name: "1,000 sidecars in chaos, rollbacks",
        trouble: Trouble { rollbacks: true, ..Trouble::CHAOS },
        ..CHAOS
    },
    Plan {
        name: "1,000 sidecars in chaos, outages, allowance",
        failure_policy: FailurePolicy::Allowance,
        trouble: Trouble { outages: true, ..Trouble::CHAOS },
        ..CHAOS
    },
];

/// Fifty sidecars instead of a thousand, and as much trouble for each.
fn small(plan: Plan) -> Plan {
    let name = plan.name.replacen("1,000", "50", 1).leak();
    let trouble = Trouble { every: Some(Duration::from_millis(500)), ..plan.trouble };
    Plan { name, sidecars: 50, pace: 200, credits: 60 * USD, tail: 100, trouble, ..plan }
}

/// Runs plans, prints what came of them, and panics where that is not what must be.
fn check(plans: &[Plan], seed: u64) {
    let outcomes: Vec<Outcome> = plans.iter().map(|plan| Outcome::of(*plan, seed)).collect();
    println!("{}", report::table(&outcomes));
    let missed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.is_met()).map(|outcome| outcome.plan.name).collect();
    assert!(missed.is_empty(), "bounds were not met: {missed:?}");
}

#[test]
fn a_balance_is_spent_to_the_last_request_with_few_store_calls() {
    check(&EFFICIENCY, 1);
}

#[test]
fn a_small_fleet_in_trouble_keeps_the_contract_and_leaves_nothing() {
    check(&TROUBLES.map(small), 1);
}

#[test]
#[should_panic(expected = "spent and promised")]
fn a_fleet_that_lends_without_looking_overspends() {
    Fleet::new(small(CHAOS), 1, Some(Mutant::NoPoolCheck)).run();
}

/// `TOLLGATE_SIM_SEED` picks another run.
#[test]
#[ignore = "a minute or more; see the top of this file"]
fn fleet() {
    let seed = crate::setting("TOLLGATE_SIM_SEED").unwrap_or(1);
    check(&EFFICIENCY, seed);
    check(&TROUBLES, seed);
}
