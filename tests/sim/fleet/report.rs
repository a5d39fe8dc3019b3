//! What came of a run, beside its bounds, as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tollgate::decision::Credit;
use tollgate::decision::terms::FailurePolicy;

use super::plan::Plan;
use super::run::Fleet;

pub struct Outcome {
    pub plan: Plan,
    /// Store calls for 1,000 requests of the whale, up to the last one that was admitted.
    calls_per_mille: u64,
    admitted: u64,
    unusable: i64,
    unusable_max: i64,
    overspent: i64,
    overspent_max: i64,
    /// The worst window of the whale's rate limits, in percent of its bound.
    window_percent: u128,
    denied: BTreeMap<&'static str, u64>,
    troubles: BTreeMap<&'static str, u64>,
}

impl Outcome {
    pub fn of(plan: Plan, seed: u64) -> Self {
        let mut fleet = Fleet::new(plan, seed, None);
        fleet.run();
        let whale = &fleet.tallies[0];
        let request = whale.held_ever / i64::try_from(whale.now.admitted).expect("some hundred thousand");
        let accounts = || 0..fleet.tallies.len();
        let overspent_max: i64 = accounts().map(|account| fleet.allowed(account)).sum();
        let emergency: i64 = fleet.tallies.iter().map(|tally| tally.alone).sum();
        assert!(emergency == 0 || plan.failure_policy == FailurePolicy::Allowance, "closed means closed");
        Self {
            plan,
            calls_per_mille: whale.last.calls * 1_000 / whale.last.asked,
            admitted: whale.now.admitted,
            unusable: fleet.unusable,
            unusable_max: request.max(plan.credits / 10_000),
            overspent: fleet.tallies.iter().map(super::tally::Tally::overspent).sum(),
            overspent_max,
            window_percent: whale.worst_percent(&plan),
            denied: whale.denied.clone(),
            troubles: fleet.troubles.clone(),
        }
    }

    pub fn is_met(&self) -> bool {
        self.calls_are_few()
            && self.all_is_usable()
            && self.overspent <= self.overspent_max
            && self.window_percent <= 100
    }

    fn calls_are_few(&self) -> bool {
        self.plan.bounds.calls_per_mille.is_none_or(|most| self.calls_per_mille <= most)
    }

    fn all_is_usable(&self) -> bool {
        !self.plan.bounds.usable || self.unusable <= self.unusable_max
    }
}

pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 5]| {
        let [name, calls, unusable, overspent, met] = cells;
        writeln!(text, "| {name:<44} | {calls:>15} | {unusable:>39} | {overspent:>25} | {met:>7} |")
            .expect("a string takes everything");
    };
    line(["a balance run to zero", "calls/request", "unusable at exhaustion", "overspend", "met"]);
    for outcome in outcomes {
        let bound = outcome.plan.bounds.calls_per_mille.map_or_else(|| "-".to_owned(), thousandths);
        let calls = format!("{} ({bound})", thousandths(outcome.calls_per_mille));
        let unusable = format!(
            "{} = {} ({})",
            usd(outcome.unusable),
            share(outcome.unusable, outcome.plan.credits),
            usd(outcome.unusable_max)
        );
        let overspent = format!("{} ({})", usd(outcome.overspent), usd(outcome.overspent_max));
        line([outcome.plan.name, &calls, &unusable, &overspent, if outcome.is_met() { "yes" } else { "NO" }]);
    }
    for outcome in outcomes {
        let Outcome { plan, admitted, denied, troubles, window_percent, .. } = outcome;
        let windows = format!("rates up to {window_percent} % of their bound");
        writeln!(text, "{}: {admitted} admitted, {denied:?}, {troubles:?}, {windows}", plan.name)
            .expect("a string takes everything");
    }
    text
}

fn thousandths(count: u64) -> String {
    format!("{}.{:03}", count / 1_000, count % 1_000)
}

fn usd(nanos: i64) -> String {
    Credit::from_nanos(nanos).to_string()
}

/// In percent, to four digits.
fn share(part: i64, whole: i64) -> String {
    let millionths = i128::from(part) * 1_000_000 / i128::from(whole);
    format!("{}.{:04} %", millionths / 10_000, millionths % 10_000)
}
