//! The monthly limit, live: two sidecars share it, pause at it, and go on in the next month.

use std::time::Duration;

use tollgate::clock::UnixMs;
use tollgate::decision::catalogue::FIREWORKS_2026_10;
use tollgate::decision::terms::{Mode, Terms};
use tollgate::decision::{Catalogue, Credit, Month, Reason, Usage};
use tollgate::ledger::Verdict;
use tollgate::pool::message::Happening;

use super::town::{DAY, MODEL, OCTOBER, SECOND, Town, unlimited};

const SIDECARS: usize = 2;
const NOVEMBER: Month = Month::from_yyyymm(202_611);

fn usd(usd: i64) -> Credit {
    Credit::from_nanos(usd * 1_000_000_000)
}

fn limited(limit: i64) -> Terms {
    Terms { mode: Mode::Prepaid, credit_line: Credit::ZERO, monthly_limit: Some(usd(limit)), ..unlimited() }
}

/// An hour before October ends, with $100 of credits.
fn town(terms: Terms) -> Town {
    let catalogue = Catalogue::parse(FIREWORKS_2026_10).expect("the shipped catalogue is valid");
    let start = UnixMs(OCTOBER.0 + 31 * 86_400_000 - 3_600_000);
    let mut town = Town::new(SIDECARS as u128, catalogue, terms, start);
    town.credit(usd(100));
    town
}

const fn prompt(tokens: u64) -> Usage {
    Usage { prompt: tokens, cached: 0, generated: 0 }
}

/// Spends on one sidecar and the other, in smaller and smaller requests, until each says no; both for the same reason.
fn spend_all(town: &mut Town) -> Reason {
    let mut reasons = Vec::new();
    for tokens in [100_000, 10_000, 1_000, 100, 10, 1] {
        reasons.clear();
        for sidecar in 0..SIDECARS {
            let denial = loop {
                match town.run(sidecar, MODEL, prompt(tokens)) {
                    Ok(_) => town.pass(SECOND / 10),
                    Err(denial) if denial.retry_after.is_some() => town.pass(2 * SECOND),
                    Err(denial) => break denial,
                }
            };
            reasons.push(denial.reason);
        }
        // What one sidecar holds too much of comes to the other.
        town.pass(20 * SECOND);
    }
    assert_eq!(reasons[0], reasons[1]);
    reasons[0]
}

fn percents(town: &mut Town) -> Vec<u32> {
    let percent = |what| {
        let Happening::MonthThreshold { percent, .. } = what else { return None };
        Some(percent)
    };
    town.store.take_events(super::town::ACCOUNT).into_iter().filter_map(percent).collect()
}

fn runs_everywhere(town: &mut Town) -> bool {
    (0..SIDECARS).all(|sidecar| town.run(sidecar, MODEL, prompt(1_000)).is_ok())
}

#[test]
fn a_limit_pauses_until_it_is_raised_or_the_month_ends() {
    let mut town = town(limited(3));
    assert_eq!(spend_all(&mut town), Reason::MonthlyLimit);
    assert_eq!(percents(&mut town), [80, 100]);
    let spent = town.summary().month_used;
    assert!(usd(3).minus(spent) <= Credit::from_nanos(15_000_000) && spent <= usd(3), "{spent}");

    town.credit(usd(200));
    assert_eq!(spend_all(&mut town), Reason::MonthlyLimit, "credits do not resume");

    town.change(limited(5));
    assert!(runs_everywhere(&mut town), "a raise resumes");
    assert_eq!(spend_all(&mut town), Reason::MonthlyLimit);
    assert_eq!(percents(&mut town), [80, 100], "of the raised limit");

    let spent = town.summary().month_used;
    town.pass(Duration::from_secs(3_600));
    town.pass(2 * SECOND);
    assert!(runs_everywhere(&mut town), "another month resumes");
    town.pass(6 * SECOND);
    let summary = town.summary();
    assert_eq!(
        (summary.month, summary.months_past.as_slice()),
        (NOVEMBER, &[(Month::from_yyyymm(202_610), spent)][..])
    );
    assert_eq!(summary.month_used, usd(6).divided_by(1_000));
    spend_all(&mut town);
    assert_eq!(percents(&mut town), [80, 100], "once more in another month");
}

#[test]
fn a_cleared_limit_resumes() {
    let mut town = town(limited(1));
    assert_eq!(spend_all(&mut town), Reason::MonthlyLimit);
    town.change(Terms { monthly_limit: None, ..limited(1) });
    assert!(runs_everywhere(&mut town));
}

#[test]
fn usage_belongs_to_the_month_in_which_it_was_admitted() {
    let mut town = town(limited(3));
    town.pass(Duration::from_secs(3_590));
    for sidecar in 0..SIDECARS {
        let answer = town.ask(sidecar, 1 << 100, MODEL, prompt(100_000));
        assert!(matches!(answer.verdict, Verdict::Admitted(_)));
    }
    // One settles before the other sidecar enters the month, one a day later.
    town.pass(12 * SECOND);
    town.settle(0, 1 << 100, prompt(100_000));
    town.run(1, MODEL, prompt(10_000)).expect("November is empty");
    town.pass(60 * SECOND);
    town.settle(1, 1 << 100, prompt(100_000));
    town.pass(DAY);
    town.pass(10 * SECOND);
    let summary = town.summary();
    assert_eq!(summary.months_past, [(Month::from_yyyymm(202_610), usd(6).divided_by(10))]);
    assert_eq!((summary.month, summary.month_used), (NOVEMBER, usd(3).divided_by(100)));
}

#[test]
fn a_contract_is_told_and_goes_on() {
    let mut town = town(Terms { mode: Mode::Contract, alert_percents: Some(vec![50, 150]), ..limited(1) });
    for request in 0..8 {
        town.run(request % SIDECARS, MODEL, prompt(100_000)).expect("a contract's limit does not pause");
        town.pass(2 * SECOND);
    }
    town.pass(6 * SECOND);
    assert_eq!(percents(&mut town), [50, 150]);
}

#[test]
fn an_account_is_told_at_its_own_percents_once_each() {
    let mut town = town(Terms { alert_percents: Some(vec![90, 25]), ..limited(1) });
    let mut told = Vec::new();
    for request in 0..30 {
        town.run(request % SIDECARS, MODEL, prompt(10_000)).expect("below the limit");
        town.pass(2 * SECOND);
        for percent in percents(&mut town) {
            told.push((percent, town.summary().month_used));
        }
    }
    let cents = |cents| usd(cents).divided_by(100);
    let (percents_told, used): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    assert_eq!(percents_told, [25, 90]);
    assert!(cents(25) <= used[0] && used[0] <= cents(31), "{used:?}");
    assert!(cents(90) <= used[1], "{used:?}");
    // What was announced under other percents is not announced again.
    town.change(Terms { alert_percents: Some(vec![80, 25]), ..limited(1) });
    assert_eq!(percents(&mut town), [80]);
    town.change(Terms { alert_percents: Some(vec![25, 90]), ..limited(1) });
    assert_eq!(percents(&mut town), [0; 0]);
}
