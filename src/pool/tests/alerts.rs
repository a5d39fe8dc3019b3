//! What others hear of: each thing once for each cause, in the step that caused it.

use super::*;
use crate::decision::catalogue::{Catalogue, FIREWORKS_2026_10};
use crate::decision::terms::{Mode, Suspension, Tier, TopUpTerms};
use crate::pool::message::Happening;

fn tiers() -> PoolRules {
    PoolRules { tiers: Catalogue::parse(FIREWORKS_2026_10).unwrap().tiers, ..rules() }
}

/// What was told since this was asked last.
fn told(pool: &mut Pool) -> String {
    let told = pool.take_events().into_iter().map(|event| match event.what {
        Happening::BalanceLow { threshold, available } => format!("low {threshold}: {available}"),
        Happening::TierChanged { from, to } => format!("{from:?} to {to:?}"),
        Happening::Overrun { amount } => format!("overrun {amount}"),
        Happening::TopUpSucceeded { key, .. } => format!("bought {key}"),
        Happening::TopUpFailed { key, declines, retry_at, .. } => {
            format!("declined {key} {declines} {:?}", retry_at.map(|at| (at.0 - START.0) / 1_000))
        }
        what @ (Happening::TopUpNeeded { .. }
        | Happening::Depleted
        | Happening::MonthThreshold { .. }
        | Happening::Suspended { .. }) => what.name().into_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// One step, and what it tells.
enum Do {
    Credit(&'static str, &'static str),
    Borrow(&'static str),
    /// In all.
    Use(&'static str),
    Terms(Terms),
    Decline(&'static str, u64),
}

fn check(terms: Terms, steps: Vec<(Do, &str)>) {
    let (rules, mut pool, mut asker) = (tiers(), Pool::new("acme".into(), terms, &tiers(), START), Asker::new(1));
    let mut version = 1;
    for (number, (step, expected)) in steps.into_iter().enumerate() {
        version += 1;
        match step {
            Do::Credit(promotional, purchased) => {
                assert!(pool.credit(version, usd(promotional), usd(purchased), &rules, START).unwrap());
            }
            Do::Borrow(most) => asker.borrow_by(&mut pool, usd(most), &rules, START),
            Do::Use(all) => {
                asker.said.used = usd(all);
                asker.said.returned = asker.said.granted_known.minus(usd(all)).at_least_zero();
                asker.borrow_by(&mut pool, Credit::ZERO, &rules, START);
            }
            Do::Terms(terms) => assert!(pool.configure(pool.terms_version + 1, terms, &rules, START)),
            Do::Decline(key, second) => drop(pool.top_up_failed(key, &rules, at(second))),
        }
        assert_eq!(told(&mut pool), expected, "step {number}");
    }
}

fn payer() -> Terms {
    Terms { payment_method: true, billing_profile: true, ..Terms::default() }
}

#[test]
fn a_low_balance_is_told_once_until_credits_come_in() {
    let alert = |usd_text| Terms { balance_alert: Some(usd(usd_text)), ..Terms::default() };
    check(
        alert("5"),
        vec![
            (Do::Credit("0", "4"), ""),
            (Do::Credit("0", "12"), ""),
            (Do::Borrow("6.9"), ""),
            (Do::Borrow("7"), "low $5.00: $5.00"),
            (Do::Use("1"), ""),
            (Do::Borrow("7"), ""),
            (Do::Use("8"), ""),
            (Do::Credit("0", "13"), ""),
            (Do::Credit("0", "14"), ""),
            (Do::Use("9"), "overrun $1.00, low $5.00: $5.00"),
            (Do::Terms(Terms { shadow: true, ..alert("5") }), ""),
            (Do::Terms(alert("4")), ""),
            (Do::Use("10"), "overrun $1.00, low $4.00: $4.00"),
            (Do::Terms(Terms::default()), ""),
            (Do::Use("13"), "overrun $3.00"),
        ],
    );
}

#[test]
fn a_tier_follows_what_was_paid_and_falls_only_by_a_refund() {
    let line = Terms { mode: Mode::Postpaid, credit_line: usd("9999"), ..payer() };
    check(
        line.clone(),
        vec![
            (Do::Credit("0", "49.999999999"), ""),
            (Do::Credit("0", "50"), "One to Two"),
            (Do::Use("500"), "overrun $500.00, Two to Three"),
            (Do::Credit("460", "50"), ""),
            (Do::Credit("460", "49"), "Three to Two, budget_80, budget_reached"),
            (Do::Credit("460", "5000"), "Two to Four"),
            (Do::Terms(Terms { tier_override: Some(Tier::Unlimited), ..line.clone() }), "Four to Unlimited"),
            (Do::Terms(Terms { billing_profile: false, ..line.clone() }), "Unlimited to Four"),
            (Do::Credit("460", "0"), "Four to None, budget_80, budget_reached"),
            (Do::Terms(line), "None to One"),
        ],
    );
}

#[test]
fn a_top_up_ends_well_or_is_declined_until_payments_have_failed() {
    let top_up = TopUpTerms { minimum: usd("5"), amount: usd("20"), monthly_cap: None };
    let terms = Terms { top_up: Some(top_up), ..payer() };
    check(
        terms.clone(),
        vec![
            (Do::Credit("0", "10"), ""),
            (Do::Use("5"), "overrun $5.00, topup_needed"),
            (Do::Credit("0", "20"), ""),
            (Do::Credit("0", "30"), "bought acme.2.0"),
            (Do::Use("25"), "overrun $20.00, topup_needed"),
            (Do::Decline("acme.2.0", 0), ""),
            (Do::Decline("acme.5.0", 0), "declined acme.5.0 1 Some(60)"),
            (Do::Decline("acme.5.0", 0), ""),
            (Do::Decline("acme.5.1", 60), ""),
        ],
    );
    let rules = PoolRules { top_up_waits: vec![], ..tiers() };
    let mut pool = Pool::new("acme".into(), terms, &rules, START);
    pool.credit(1, Credit::ZERO, usd("5"), &rules, START).unwrap();
    assert_eq!(told(&mut pool), "topup_needed");
    assert!(pool.top_up_failed("acme.1.0", &rules, START));
    assert_eq!(told(&mut pool), "declined acme.1.0 1 None, suspended");
    assert_eq!(pool.terms.suspension, Suspension::FailedPayments);
}
