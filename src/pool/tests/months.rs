//! Usage by month, the thresholds, and how an account is seen.

use super::*;
use crate::decision::Month;
use crate::pool::message::Happening;

const OCTOBER: Month = Month::from_yyyymm(202_610);
const NOVEMBER: Month = Month::from_yyyymm(202_611);
const IN_NOVEMBER: u64 = 27 * 86_400;

/// One session reports `(month, used, used before that month)` in turn, in November by the store's clock. Afterwards
/// October and November have what the last columns say.
fn check(reports: &[(u32, &str, &str, &str, &str)]) {
    let mut pool = pool("1000");
    let mut asker = Asker::new(1);
    pool.tick(at(IN_NOVEMBER), &rules());
    for (index, (month, used, before, october, november)) in reports.iter().enumerate() {
        asker.said.month = Month::from_yyyymm(*month);
        (asker.said.used, asker.said.used_before) = (usd(used), usd(before));
        let request = asker.ask(Credit::ZERO, Credit::ZERO, at(IN_NOVEMBER));
        pool.sync(&asker.id, &request, &rules(), at(IN_NOVEMBER)).unwrap();
        let past = pool.months.past.iter().find(|(month, _)| *month == OCTOBER).map(|(_, used)| *used);
        assert_eq!((past, pool.months.used), (Some(usd(october)), usd(november)), "report {index}");
    }
}

#[test]
fn usage_belongs_to_the_month_of_admission() {
    // The session moves on with the store.
    check(&[(202_610, "5", "0", "5", "0"), (202_611, "9", "7", "7", "2"), (202_611, "10", "7", "7", "3")]);
    // A settlement that comes in late grows what was used before.
    check(&[(202_611, "9", "7", "7", "2"), (202_611, "12", "10", "10", "2"), (202_611, "13", "10", "10", "3")]);
    // A session that has not noticed the new month reports for the old one.
    check(&[(202_610, "5", "0", "5", "0"), (202_610, "8", "0", "8", "0"), (202_611, "8", "8", "8", "0")]);
    // A month that the store has not reached is the store's month.
    check(&[(202_612, "5", "4", "0", "5"), (202_611, "7", "4", "2", "5"), (202_611, "9", "4", "4", "5")]);
    // So is an unknown one.
    check(&[(0, "5", "0", "0", "5"), (202_611, "6", "0", "0", "6")]);
    // A session whose month runs back: the difference goes where it says.
    check(&[(202_611, "5", "0", "0", "5"), (202_610, "8", "0", "3", "5"), (202_611, "9", "3", "3", "6")]);
}

#[test]
fn a_new_month_has_its_full_room_again_and_leases_stay_counted() {
    let mut pool = pool_on(Terms { monthly_limit: Some(usd("10")), ..Terms::default() }, "100");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("10"), usd("10"), START);
    asker.spend(usd("8"), START);
    assert_eq!(asker.borrow(&mut pool, usd("2"), usd("2"), START).available, Credit::ZERO);
    // Adding credits does not resume; the month's turn does.
    pool.credit(2, Credit::ZERO, usd("500"), &rules(), at(1)).unwrap();
    assert_eq!(asker.borrow(&mut pool, usd("2"), usd("2"), at(1)).available, Credit::ZERO);
    let reply = asker.borrow(&mut pool, usd("2"), usd("2"), at(IN_NOVEMBER));
    assert_eq!((reply.month, reply.available, reply.view.month_used), (NOVEMBER, usd("8"), Credit::ZERO));
    assert_eq!(pool.months.past, [(OCTOBER, usd("8"))]);
    let end = Duration::from_millis(NOVEMBER.end().0 - at(IN_NOVEMBER).0);
    assert_eq!(reply.month_left, end);
}

#[test]
fn raising_the_limit_resumes() {
    let limited = |limit| Terms { monthly_limit: Some(usd(limit)), ..Terms::default() };
    let mut pool = pool_on(limited("1"), "100");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("1"), usd("1"), START);
    asker.spend(usd("1"), START);
    assert_eq!(asker.borrow(&mut pool, usd("1"), usd("1"), START).granted, usd("1"));
    pool.configure(2, limited("5"), &rules(), at(1));
    assert_eq!(asker.borrow(&mut pool, usd("1"), usd("1"), at(1)).granted, usd("2"));
}

#[test]
fn past_months_are_bounded() {
    let mut pool = pool("1000");
    let mut asker = Asker::new(1);
    for month in 0..30 {
        asker.said.used = usd("1").plus(asker.said.used);
        asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(month * 86_400 * 31));
    }
    assert_eq!(pool.months.past.len(), rules().months_kept);
    assert!(pool.months.past.is_sorted());
}

fn thresholds(pool: &mut Pool) -> Vec<u32> {
    let percent = |what| if let Happening::MonthThreshold { percent, .. } = what { Some(percent) } else { None };
    pool.take_events().into_iter().filter_map(|event| percent(event.what)).collect()
}

#[test]
fn each_threshold_is_announced_once_a_month() {
    let limited = |limit| Terms { monthly_limit: Some(usd(limit)), ..Terms::default() };
    let mut pool = pool_on(limited("10"), "100");
    let mut asker = Asker::new(1);
    let mut use_up_to = |pool: &mut Pool, used, now| {
        asker.turn_month(Month::of(now));
        asker.said.used = usd(used);
        asker.borrow(pool, Credit::ZERO, Credit::ZERO, now);
        thresholds(pool)
    };
    assert_eq!(use_up_to(&mut pool, "7.99", at(1)), [0_u32; 0]);
    assert_eq!(use_up_to(&mut pool, "8", at(1)), [80]);
    assert_eq!(use_up_to(&mut pool, "9.99", at(1)), [0_u32; 0]);
    assert_eq!(use_up_to(&mut pool, "11", at(1)), [100]);
    assert_eq!(use_up_to(&mut pool, "12", at(1)), [0_u32; 0]);
    // A raised limit is a new one, lowering it back is news too.
    pool.configure(2, limited("14"), &rules(), at(1));
    assert_eq!(thresholds(&mut pool), [0_u32; 0]);
    assert_eq!(use_up_to(&mut pool, "14", at(1)), [100]);
    pool.configure(3, limited("1000"), &rules(), at(1));
    assert_eq!(use_up_to(&mut pool, "814", at(IN_NOVEMBER)), [80]);
}

#[test]
fn depletion_is_announced_once_until_credits_come() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    let mut depleted = |pool: &mut Pool, used| {
        asker.said.used = usd(used);
        asker.borrow(pool, Credit::ZERO, Credit::ZERO, at(1));
        pool.take_events().iter().filter(|event| event.what == Happening::Depleted).count()
    };
    assert_eq!([depleted(&mut pool, "9"), depleted(&mut pool, "10"), depleted(&mut pool, "11")], [0, 1, 0]);
    pool.credit(2, Credit::ZERO, usd("20"), &rules(), at(1)).unwrap();
    assert_eq!([depleted(&mut pool, "12"), depleted(&mut pool, "20")], [0, 1]);
}

#[test]
fn the_view_tells_what_was_paid_and_what_is_owed() {
    // promotional, purchased, used: balance, promotional gone, lifetime paid
    let cases = [
        ("1", "0", "0.5", "0.5", false, "0"),
        ("1", "0", "1", "0", true, "0"),
        ("1", "50", "11", "40", true, "50"),
        ("1", "50", "81", "-30", true, "80"),
        ("0", "0", "0", "0", true, "0"),
    ];
    for (promotional, purchased, used, balance, gone, paid) in cases {
        let mut pool = Pool::new("acme".into(), Terms::default(), &rules(), START);
        pool.credit(1, usd(promotional), usd(purchased), &rules(), START).unwrap();
        let mut asker = Asker::new(1);
        asker.said.used = usd(used);
        let view = asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, START).view;
        assert_eq!((view.balance, view.promotional_gone, view.lifetime_paid), (usd(balance), gone, usd(paid)));
        assert_eq!(view.purchased, usd(purchased).is_positive());
        let summary = pool.summary(at(IN_NOVEMBER));
        assert_eq!((summary.balance, summary.month, summary.month_used), (view.balance, NOVEMBER, Credit::ZERO));
    }
}
