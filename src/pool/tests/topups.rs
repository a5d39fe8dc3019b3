//! Auto top-up: one purchase for each need.

use super::*;
use crate::decision::terms::{Suspension, TopUpTerms};
use crate::pool::message::Happening;

fn terms() -> Terms {
    let top_up = TopUpTerms { minimum: usd("5"), amount: usd("20"), monthly_cap: None };
    Terms { payment_method: true, top_up: Some(top_up), ..Terms::default() }
}

fn keys(pool: &mut Pool) -> Vec<String> {
    let key =
        |what| if let Happening::TopUpNeeded { key, amount } = what { Some(format!("{key} {amount}")) } else { None };
    pool.take_events().into_iter().filter_map(|event| key(event.what)).collect()
}

/// A pool of $10 of which $6 are used: the need has arisen.
fn needy() -> (Pool, Asker) {
    let (mut pool, mut asker) = (pool_on(terms(), "10"), Asker::new(1));
    asker.borrow(&mut pool, usd("4"), usd("4"), START);
    assert_eq!(keys(&mut pool), [""; 0]);
    asker.borrow(&mut pool, usd("6"), usd("6"), START);
    (pool, asker)
}

fn use_more(pool: &mut Pool, asker: &mut Asker, now: UnixMs) -> Vec<String> {
    asker.said.used = asker.said.used.plus(usd("0.01"));
    asker.borrow(pool, Credit::ZERO, Credit::ZERO, now);
    keys(pool)
}

#[test]
fn one_need_is_one_key_however_many_notice_it() {
    let (mut pool, mut asker) = needy();
    let older = pool.clone();
    assert_eq!(keys(&mut pool), ["acme.1.0 $20.00"]);
    for second in 1..10 {
        assert_eq!(use_more(&mut pool, &mut asker, at(second)), [""; 0]);
    }
    assert_eq!(pool.view(at(10)).topup_pending, Some(Duration::from_secs(10)));
    assert_eq!(pool.summary(at(10)).topup_pending.as_deref(), Some("acme.1.0"));
    // A store that forgot notices the same need under the same key.
    let mut forgetful = pool_on(terms(), "10");
    assert_eq!(use_more(&mut forgetful, &mut asker.clone(), at(11)), ["acme.1.0 $20.00"]);
    assert_eq!(keys(&mut older.clone()), ["acme.1.0 $20.00"]);
    // The purchase ends it; the next need has a new key.
    pool.credit(2, Credit::ZERO, usd("30"), &rules(), at(12)).unwrap();
    assert_eq!((use_more(&mut pool, &mut asker, at(12)), pool.view(at(12)).topup_pending), (vec![], None));
    asker.said.used = usd("26");
    asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(13));
    assert_eq!(keys(&mut pool), ["acme.2.0 $20.00"]);
}

#[test]
fn nothing_is_bought_where_it_may_not_be() {
    let top_up = terms().top_up;
    let capped = top_up.map(|top_up| TopUpTerms { monthly_cap: Some(usd("19.99")), ..top_up });
    let free = top_up.map(|top_up| TopUpTerms { amount: Credit::ZERO, ..top_up });
    let cases = [
        (terms(), 1),
        (Terms { payment_method: false, ..terms() }, 0),
        (Terms { suspension: Suspension::Abuse, ..terms() }, 0),
        (Terms { top_up: None, ..terms() }, 0),
        (Terms { top_up: capped, ..terms() }, 0),
        (Terms { top_up: free, ..terms() }, 0),
    ];
    for (terms, bought) in cases {
        let mut pool = pool_on(terms.clone(), "10");
        let mut asker = Asker::new(1);
        asker.said.used = usd("6");
        assert_eq!(use_more(&mut pool, &mut asker, START).len(), bought, "{terms:?}");
    }
}

#[test]
fn a_monthly_cap_counts_what_was_bought_and_starts_anew() {
    let top_up = terms().top_up.map(|top_up| TopUpTerms { monthly_cap: Some(usd("50")), ..top_up });
    let mut pool = pool_on(Terms { top_up, ..terms() }, "10");
    let mut asker = Asker::new(1);
    let mut bought = 0;
    for version in 2..10 {
        asker.said.used = asker.said.used.plus(usd("20"));
        asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(version));
        if !keys(&mut pool).is_empty() {
            bought += 1;
            pool.credit(version, Credit::ZERO, usd("10").plus(usd(&(bought * 20).to_string())), &rules(), at(version))
                .unwrap();
            bought += u64::try_from(keys(&mut pool).len()).unwrap() * 100;
        }
    }
    assert_eq!(bought, 2);
    let november = at(27 * 86_400);
    assert_eq!(use_more(&mut pool, &mut asker, november).len(), 1);
}

#[test]
fn declines_wait_longer_and_then_turn_it_off() {
    let (mut pool, mut asker) = needy();
    let mut now = 0;
    for (attempt, wait) in [(0, 60), (1, 300), (2, 1_800)] {
        let key = format!("acme.1.{attempt}");
        assert_eq!(keys(&mut pool), [format!("{key} $20.00")]);
        assert!(!pool.top_up_failed("acme.1.9", &rules(), at(now)));
        assert!(pool.top_up_failed(&key, &rules(), at(now)));
        assert!(!pool.top_up_failed(&key, &rules(), at(now)), "said twice");
        assert_eq!(use_more(&mut pool, &mut asker, at(now + wait - 1)), [""; 0]);
        now += wait;
        asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(now));
    }
    assert_eq!(keys(&mut pool), ["acme.1.3 $20.00"]);
    assert!(pool.top_up_failed("acme.1.3", &rules(), at(now)));
    assert_eq!((pool.terms.suspension, pool.terms.top_up), (Suspension::FailedPayments, None));
    assert_eq!(pool.terms_version, 2);
    assert_eq!(use_more(&mut pool, &mut asker, at(now + hours(9))), [""; 0]);
    // Another card: it begins anew, under a key that was not declined before.
    assert!(pool.configure(3, terms(), &rules(), at(now + hours(10))));
    assert_eq!(keys(&mut pool), ["acme.1.4 $20.00"]);
    assert!(pool.top_up_failed("acme.1.4", &rules(), at(now + hours(10))));
    assert_eq!(pool.terms.suspension, Suspension::None);
}

#[test]
fn a_smaller_purchase_by_hand_leaves_the_pending_one_in_flight() {
    let (mut pool, mut asker) = needy();
    assert_eq!(keys(&mut pool).len(), 1);
    pool.credit(2, usd("1"), usd("10"), &rules(), at(1)).unwrap();
    pool.credit(3, usd("1"), usd("11"), &rules(), at(1)).unwrap();
    assert_eq!(use_more(&mut pool, &mut asker, at(2)), [""; 0]);
    assert!(pool.view(at(2)).topup_pending.is_some());
    pool.credit(4, usd("1"), usd("31"), &rules(), at(3)).unwrap();
    assert_eq!(pool.view(at(3)).topup_pending, None);
}

#[test]
fn the_purchase_that_was_asked_for_ends_the_need_whatever_was_refunded() {
    let (mut pool, mut asker) = needy();
    assert_eq!(keys(&mut pool), ["acme.1.0 $20.00"]);
    let bought = |id: &str, amount| Receipt { id: id.into(), ..receipt(CreditKind::Purchased, usd(amount)) };
    pool.book(2, receipt(CreditKind::Refund, usd("3")), &rules(), at(1)).unwrap();
    for kind in [CreditKind::Promotional, CreditKind::Adjustment, CreditKind::Refund, CreditKind::Purchased] {
        let mut confused = pool.clone();
        confused.book(3, Receipt { kind, ..bought("acme.1.0", "1") }, &rules(), at(1)).unwrap();
        assert!(confused.view(at(1)).topup_pending.is_some(), "{kind:?} under its key");
    }
    pool.book(3, bought("another", "19.999999999"), &rules(), at(2)).unwrap();
    assert!(pool.view(at(2)).topup_pending.is_some());
    let mut grown = pool.clone();
    grown.book(4, bought("a third", "0.000000001"), &rules(), at(3)).unwrap();
    assert_eq!(grown.view(at(3)).topup_pending, None, "as much was bought");
    pool.book(4, receipt(CreditKind::Refund, usd("26")), &rules(), at(3)).unwrap();
    pool.book(5, bought("acme.1.0", "20"), &rules(), at(3)).unwrap();
    assert_eq!(pool.view(at(3)).topup_pending, None);
    assert_eq!(use_more(&mut pool, &mut asker, at(4)), [""; 0]);
}

#[test]
fn a_need_that_was_declined_is_looked_at_when_its_wait_is_over() {
    let (mut pool, _) = needy();
    let wanted = pool.look_at_top_up(&rules(), at(7)).unwrap();
    assert_eq!((wanted.key.as_str(), wanted.attempt, wanted.age), ("acme.1.0", 0, Duration::from_secs(7)));
    assert!(pool.top_up_failed("acme.1.0", &rules(), at(8)));
    assert_eq!(pool.top_up_retry_at(), Some(at(68)));
    assert_eq!(pool.look_at_top_up(&rules(), at(67)), None);
    let again = pool.look_at_top_up(&rules(), at(68)).unwrap();
    assert_eq!((again.key.as_str(), again.attempt, again.age), ("acme.1.1", 1, Duration::ZERO));
    assert_eq!(pool.top_up_retry_at(), None);
}

#[test]
fn turning_it_off_forgets_what_is_in_flight_and_on_again_asks_under_the_same_key() {
    let (mut pool, _) = needy();
    assert_eq!(keys(&mut pool), ["acme.1.0 $20.00"]);
    pool.configure(2, Terms { top_up: None, ..terms() }, &rules(), at(1));
    assert_eq!(pool.view(at(1)).topup_pending, None);
    pool.configure(3, terms(), &rules(), at(2));
    assert_eq!(keys(&mut pool), ["acme.1.0 $20.00"]);
}
