//! Lots, and the history that they and usage leave: its sum is the balance, whatever happens.

use proptest::prelude::*;

use super::*;
use crate::decision::Month;
use crate::decision::terms::{Mode, TopUpTerms};

/// A pool of these totals (promotional, purchased, adjusted, refunded) of which so much was used.
fn with_credits(totals: [&str; 4], used: &str) -> Pool {
    let mut pool = Pool::new("acme".into(), Terms::default(), &rules(), START);
    let kinds = [CreditKind::Promotional, CreditKind::Purchased, CreditKind::Adjustment, CreditKind::Refund];
    for (version, (kind, amount)) in (1..).zip(kinds.into_iter().zip(totals)) {
        pool.book(version, receipt(kind, usd(amount)), &rules(), START).unwrap();
    }
    let mut asker = Asker::new(1);
    asker.said.used = usd(used);
    asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, START);
    pool
}

#[test]
fn usage_takes_promotional_credit_first_and_a_refund_takes_bought_credit() {
    // promotional, purchased, adjusted, refunded; used: what is left of each lot, and the balance
    let cases = [
        (["1", "0", "0", "0"], "0.4", "Promotional $0.60", "0.6"),
        (["1", "10", "0", "0"], "3", "Promotional $0.00, Purchased $8.00", "8"),
        (["1", "10", "2", "0"], "2", "Promotional $0.00, Adjustment $1.00, Purchased $10.00", "11"),
        (["5", "10", "-2", "0"], "1", "Promotional $2.00, Adjustment $0.00, Purchased $10.00", "12"),
        (["1", "10", "0", "4"], "3", "Promotional $0.00, Purchased $4.00, Refund $0.00", "4"),
        (["0", "10", "0", "10"], "3", "Purchased $0.00, Refund $0.00", "-3"),
    ];
    for (totals, used, left, balance) in cases {
        let summary = with_credits(totals, used).summary(START);
        let lots: Vec<String> = summary.lots.iter().map(|lot| format!("{:?} {}", lot.kind, lot.left)).collect();
        assert_eq!((lots.join(", ").as_str(), summary.balance), (left, usd(balance)), "{totals:?}");
    }
}

#[test]
fn no_lot_falls_below_nothing_or_grows_beyond_the_largest() {
    for (kind, amount, is_fine) in [
        (CreditKind::Refund, "10", true),
        (CreditKind::Refund, "10.01", false),
        (CreditKind::Promotional, "-1", false),
        (CreditKind::Purchased, "999999990", true),
        (CreditKind::Purchased, "999999990.000000001", false),
        (CreditKind::Adjustment, "-1000000000", true),
    ] {
        let mut pool = pool("10");
        let before = pool.clone();
        let booked = pool.book(2, receipt(kind, usd(amount)), &rules(), START);
        assert_eq!(booked.is_ok(), is_fine, "{kind:?} {amount}");
        assert!(is_fine || pool == before, "a refusal changes nothing");
    }
}

#[test]
fn a_month_is_settled_when_it_closes_and_late_usage_corrects_it() {
    let mut pool = with_credits(["0", "10", "0", "0"], "3");
    pool.take_entries();
    let november = at(27 * 86_400);
    let mut asker = Asker::new(1);
    asker.said.used = usd("4");
    (asker.said.seq, asker.said.month) = (1, Month::of(november));
    asker.said.used_before = usd("3.5");
    asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, november);
    assert_eq!(pool.summary(november).month_used, usd("0.5"));
    asker.said.used = usd("5");
    (asker.said.seq, asker.said.used_before) = (2, usd("4.25"));
    asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, november);
    let october = Month::of(START);
    let mut lines = |now| {
        pool.settle(&rules(), now);
        let open = (pool.months.used, pool.open_usage());
        let lines: Vec<Booking> = pool.take_entries().into_iter().map(|entry| entry.what).collect();
        (lines, open)
    };
    let settled = Booking::Month { month: october, used: usd("3") };
    let hour_later = UnixMs(november.0 + 3_600_000);
    assert_eq!(lines(UnixMs(hour_later.0 - 1)), (vec![settled], (usd("0.75"), usd("2"))));
    let corrected = Booking::Late { month: october, used: usd("1.25") };
    assert_eq!(lines(hour_later), (vec![corrected], (usd("0.75"), usd("0.75"))));
}

#[test]
fn a_postpaid_account_has_its_tiers_limit_where_its_own_is_higher() {
    use crate::decision::catalogue::{Catalogue, FIREWORKS_2026_10};
    let rules = PoolRules { tiers: Catalogue::parse(FIREWORKS_2026_10).unwrap().tiers, ..rules() };
    let postpaid = |own: Option<&str>| Terms {
        mode: Mode::Postpaid,
        payment_method: true,
        billing_profile: true,
        credit_line: usd("1000"),
        monthly_limit: own.map(usd),
        ..Terms::default()
    };
    for (own, paid, refunded, limit) in [
        (None, "0", "0", "50"),
        (None, "50", "0", "500"),
        (Some("400"), "50", "0", "400"),
        (Some("400"), "50", "0.01", "50"),
        (Some("20"), "0", "0", "20"),
    ] {
        let mut pool = Pool::new("acme".into(), postpaid(own), &rules, START);
        pool.book(1, receipt(CreditKind::Purchased, usd(paid)), &rules, START).unwrap();
        pool.book(2, receipt(CreditKind::Refund, usd(refunded)), &rules, START).unwrap();
        assert_eq!(pool.summary(START).month_limit, Some(usd(limit)), "{own:?} {paid} {refunded}");
        assert_eq!(pool.room(), usd(limit));
    }
}

#[test]
fn a_refund_takes_its_own_amount_off_what_was_paid_and_no_more() {
    // Bought at first, used, promotional credit that covers the usage, refunded: what counts as paid.
    for (bought, used, promotional, refunded, paid) in [
        ("10", "600", "600", "0.01", "599.99"),
        ("10", "600", "600", "10", "590"),
        ("10", "600", "0", "10", "600"),
        ("60", "0", "0", "20", "40"),
        ("60", "60", "60", "60", "0"),
        ("60", "40", "100", "60", "0"),
    ] {
        let terms = Terms { mode: Mode::Postpaid, credit_line: usd("1000"), ..Terms::default() };
        let (mut pool, mut asker) = (pool_on(terms, bought), Asker::new(1));
        asker.said.used = usd(used);
        asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, START);
        pool.book(2, receipt(CreditKind::Promotional, usd(promotional)), &rules(), START).unwrap();
        pool.book(3, receipt(CreditKind::Refund, usd(refunded)), &rules(), START).unwrap();
        assert_eq!(pool.lifetime_paid(), usd(paid), "{bought} {used} {promotional} {refunded}");
    }
}

proptest! {
    #[test]
    fn the_sum_of_the_history_is_the_balance(
        steps in prop::collection::vec((0..7u8, -20..40i64, 0..20u64), 1..80),
    ) {
        let top_up = TopUpTerms { minimum: usd("3"), amount: usd("5"), monthly_cap: None };
        let terms = Terms { payment_method: true, top_up: Some(top_up), ..Terms::default() };
        let (mut pool, mut asker, mut now) = (Pool::new("acme".into(), terms, &rules(), START), Asker::new(1), START);
        for (version, (step, dollars, days)) in (1..).zip(steps) {
            let amount = Credit::from_nanos(dollars * 1_000_000_000);
            let kind = match step {
                0 => Some(CreditKind::Promotional),
                1 => Some(CreditKind::Purchased),
                2 => Some(CreditKind::Adjustment),
                3 => Some(CreditKind::Refund),
                _ => None,
            };
            if let Some(kind) = kind {
                let before = pool.history;
                let booked = pool.book(version, receipt(kind, amount), &rules(), now);
                prop_assert_eq!(booked.is_ok(), before < pool.history);
            }
            if step == 4 {
                now = UnixMs(now.0 + days * 86_400_000);
            }
            if step == 5 {
                asker.said.used = asker.said.used.plus(amount.at_least_zero());
                asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, now);
            }
            if step == 6 && let Some(key) = pool.summary(now).topup_pending {
                pool.top_up_failed(&key, &rules(), now);
            }
            let sum = pool.entries.iter().fold(Credit::ZERO, |sum, entry| sum.plus(entry.amount()));
            prop_assert_eq!(sum.minus(pool.open_usage()), pool.balance());
            prop_assert!(pool.entries.iter().zip(1..).all(|(entry, number)| entry.number == number));
            let lots = pool.summary(now).lots;
            let left = lots.iter().fold(Credit::ZERO, |sum, lot| sum.plus(lot.left));
            prop_assert_eq!(left, pool.balance().at_least_zero());
        }
    }
}
