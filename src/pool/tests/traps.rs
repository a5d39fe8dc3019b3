//! The ways in which a first version of such a protocol goes wrong, one test for each.

use super::*;
use crate::pool::message::Refusal;
use crate::pool::session::Stage;

#[test]
fn a_repeated_late_or_lost_message_changes_nothing() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    let first = asker.ask(usd("2"), usd("2"), START);
    pool.sync(&asker.id, &first, &rules(), START).unwrap();
    // The reply was lost; the retry is a new request with current values.
    let second = asker.ask(usd("2"), usd("2"), at(1));
    let reply = pool.sync(&asker.id, &second, &rules(), at(1)).unwrap();
    assert_eq!((reply.granted, pool.leased), (usd("2"), usd("2")));
    let before = pool.clone();
    for (request, seq) in [(first, 2), (second, 2), (first, 2)] {
        let reply = pool.sync(&asker.id, &request, &rules(), at(1)).unwrap();
        assert_eq!((reply.seq, &pool), (seq, &before));
    }
}

#[test]
fn a_repeated_request_does_not_lengthen_the_lease() {
    let mut pool = pool("1");
    let mut asker = Asker::new(1);
    let request = asker.ask(usd("0.5"), usd("0.5"), START);
    assert_eq!(pool.sync(&asker.id, &request, &rules(), START).unwrap().ttl, Duration::from_secs(10));
    pool.credit(2, Credit::ZERO, usd("1000"), &rules(), at(4)).unwrap();
    assert_eq!(pool.sync(&asker.id, &request, &rules(), at(4)).unwrap().ttl, Duration::from_secs(6));
}

#[test]
fn a_shorter_lease_does_not_end_a_longer_one_whose_holder_did_not_hear() {
    let mut pool = pool_on(returning(), "1000");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("10"), usd("10"), START);
    pool.credit(2, Credit::ZERO, usd("10.1"), &rules(), at(1)).unwrap();
    let request = asker.ask(usd("10"), usd("10"), at(1));
    assert_eq!(pool.sync(&asker.id, &request, &rules(), at(1)).unwrap().ttl, Duration::from_secs(10));
    Asker::new(2).borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(59));
    assert_eq!(asker.spend(usd("10"), at(59)), usd("10"));
    assert_eq!(pool.leased, usd("10"));
}

#[test]
fn a_cut_off_sidecar_that_finished_and_could_not_report_never_overspends_in_limbo() {
    let mut pool = pool("10");
    let (mut cut_off, mut other) = (Asker::new(1), Asker::new(2));
    cut_off.borrow(&mut pool, usd("10"), usd("10"), START);
    cut_off.spend(usd("10"), at(5));
    other.borrow(&mut pool, usd("1"), usd("1"), at(hours(23)));
    assert_eq!((other.rights(), pool.limbo(at(hours(23)))), (Credit::ZERO, usd("10")));
    cut_off.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(hours(23)));
    assert_eq!((pool.used, pool.oddities.beyond_grant), (usd("10"), Credit::ZERO));
}

#[test]
fn silent_rights_come_back_when_the_mode_says_so() {
    // mode, seconds after the end of the lease, rights that came back
    let (limbo, back) = (ReclaimMode::Limbo, ReclaimMode::Return);
    let cases = [
        (back, 61, "0"),
        (back, 62, "10"),
        (limbo, 62, "0"),
        (limbo, hours(24) + 1, "0"),
        (limbo, hours(24) + 2, "10"),
    ];
    for (reclaim_mode, seconds, expected) in cases {
        let mut pool = pool_on(Terms { reclaim_mode, ..Terms::default() }, "1000");
        Asker::new(1).borrow(&mut pool, usd("10"), usd("10"), START);
        Asker::new(2).borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(60 + seconds));
        assert_eq!(usd("10").minus(pool.leased), usd(expected), "{reclaim_mode:?} {seconds}");
        assert_eq!(pool.oddities.reaped, usd(expected));
    }
}

#[test]
fn a_late_report_of_a_reaped_session_is_counted_once() {
    let mut pool = pool_on(returning(), "100");
    let (mut late, mut other) = (Asker::new(1), Asker::new(2));
    late.borrow(&mut pool, usd("10"), usd("10"), START);
    late.spend(usd("7"), START);
    other.borrow(&mut pool, usd("1"), usd("1"), at(hours(50)));
    assert_eq!((audited(&pool).tombstones, pool.used), (1, Credit::ZERO));
    for _ in 0..3 {
        late.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(hours(50)));
        assert_eq!((pool.used, late.rights()), (usd("7"), Credit::ZERO));
        assert_eq!((pool.leased, pool.oddities.beyond_grant), (usd("1"), usd("7")));
    }
    // It may go on in the same generation.
    late.borrow(&mut pool, usd("2"), usd("2"), at(hours(50)));
    assert_eq!((late.rights(), pool.leased), (usd("2"), usd("3")));
    audited(&pool);
}

#[test]
fn holders_are_counted_by_live_leases_not_by_records() {
    let mut pool = pool("100");
    for run in 10..30 {
        Asker::new(run).borrow(&mut pool, Credit::ZERO, Credit::ZERO, START);
    }
    // Twenty sessions died an hour ago; their records wait in limbo.
    let reply = Asker::new(1).borrow(&mut pool, usd("100"), Credit::ZERO, at(hours(1)));
    assert_eq!((reply.granted, audited(&pool).sessions_open), (usd("50"), 21));
}

#[test]
fn bye_after_a_lost_reply_strands_nothing() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    let request = asker.ask(usd("6"), usd("6"), START);
    pool.sync(&asker.id, &request, &rules(), START).unwrap();
    let bye = asker.bye(at(1));
    pool.sync(&asker.id, &bye, &rules(), at(1)).unwrap();
    assert_eq!((pool.leased, pool.room(), audited(&pool).tombstones), (Credit::ZERO, usd("10"), 1));
    // Said again, it changes nothing; nor does a message that was overtaken.
    let before = pool.clone();
    pool.sync(&asker.id, &bye, &rules(), at(1)).unwrap();
    pool.sync(&asker.id, &request, &rules(), at(1)).unwrap();
    let again = asker.bye(at(1));
    pool.sync(&asker.id, &again, &rules(), at(1)).unwrap();
    assert_eq!(pool, before);
}

#[test]
fn a_closed_generation_takes_nothing_new() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("6"), usd("6"), START);
    let bye = asker.bye(START);
    pool.sync(&asker.id, &bye, &rules(), START).unwrap();
    let before = pool.clone();
    let wishes = asker.ask(usd("1"), Credit::ZERO, at(1));
    let spends = SyncRequest { used: usd("1"), ..asker.ask(Credit::ZERO, Credit::ZERO, at(1)) };
    for request in [wishes, spends] {
        assert_eq!(pool.sync(&asker.id, &request, &rules(), at(1)), Err(Refusal::NoSuchSession));
        assert_eq!(pool, before);
    }
    // A new generation starts from zero, and the old one is not needed as a tombstone any more.
    asker.reopen();
    asker.borrow(&mut pool, usd("1"), usd("1"), at(2));
    assert_eq!((pool.leased, pool.sessions.len()), (usd("1"), 1));
    assert_eq!(pool.sync(&asker.id, &bye, &rules(), at(2)), Err(Refusal::NoSuchSession));
}

#[test]
fn a_record_that_was_forgotten_long_ago_is_not_counted_again() {
    let mut pool = pool("100");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("5"), usd("5"), START);
    asker.spend(usd("3"), START);
    let bye = asker.bye(START);
    pool.sync(&asker.id, &bye, &rules(), START).unwrap();
    let later = at(hours(72));
    Asker::new(2).borrow(&mut pool, Credit::ZERO, Credit::ZERO, later);
    assert_eq!((audited(&pool).tombstones, pool.used, pool.retired), (0, usd("3"), usd("3")));
    let before = pool.clone();
    assert_eq!(asker.try_borrow(&mut pool, usd("1"), usd("1"), later), Err(Refusal::NoSuchSession));
    assert_eq!(pool, before);
}

#[test]
fn a_pool_that_forgot_is_healed_by_the_next_message() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("2"), usd("2"), START);
    let older = pool.clone();
    asker.spend(usd("2"), START);
    asker.borrow(&mut pool, usd("5"), usd("5"), at(1));
    for mut forgetful in [older, super::pool("10")] {
        let mut asker = asker.clone();
        assert!(forgetful.ops < pool.ops);
        let request = asker.declare(at(2));
        let reply = forgetful.sync(&asker.id, &request, &rules(), at(2)).unwrap();
        assert_eq!((reply.granted, forgetful.used, forgetful.leased), (usd("7"), usd("2"), usd("5")));
        assert!(forgetful.oddities.readopted.is_positive());
        audited(&forgetful);
    }
}

#[test]
fn grants_made_again_after_a_rollback_are_bounded_by_what_was_lost() {
    let mut pool = pool("10");
    let older = pool.clone();
    let (mut first, mut second) = (Asker::new(1), Asker::new(2));
    first.borrow(&mut pool, usd("8"), usd("8"), START);
    pool = older;
    second.borrow(&mut pool, usd("8"), usd("8"), at(1));
    first.borrow(&mut pool, usd("8"), usd("8"), at(2));
    assert_eq!((pool.leased, pool.oddities.readopted), (usd("16"), usd("8")));
    // Nobody gets more before the forgotten grant is worked off.
    assert!(Asker::new(3).borrow(&mut pool, usd("1"), usd("1"), at(2)).is_final);
}

#[test]
fn two_processes_with_one_session_are_told() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("4"), usd("4"), START);
    let mut clone = asker.clone();
    clone.spend(usd("3"), START);
    asker.spend(usd("1"), START);
    asker.borrow(&mut pool, usd("4"), usd("4"), at(1));
    let before = pool.clone();
    assert_eq!(clone.try_borrow(&mut pool, usd("4"), usd("4"), at(1)), Err(Refusal::Superseded));
    assert_eq!(pool, before);
}

#[test]
fn spending_beyond_a_grant_is_booked_in_full_and_counted() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("4"), usd("4"), START);
    asker.said.used = usd("13");
    let reply = asker.borrow(&mut pool, usd("1"), usd("1"), at(1));
    assert_eq!((pool.used, pool.leased, pool.oddities.beyond_grant), (usd("13"), Credit::ZERO, usd("9")));
    assert_eq!((reply.available, reply.view.balance), (Credit::ZERO, usd("-3")));
    assert_eq!(asker.rights(), Credit::ZERO);
    audited(&pool);
}

#[test]
fn a_call_reaps_at_most_four_and_the_earliest_first() {
    let mut pool = pool_on(returning(), "100");
    for run in 0..10 {
        Asker::new(run).borrow(&mut pool, usd("1"), usd("1"), at(10 - run as u64));
    }
    let mut asker = Asker::new(99);
    for reaped in [4, 8, 10, 10] {
        asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, at(1_000));
        assert_eq!(audited(&pool).tombstones, reaped);
    }
    let first = pool.sessions.values().filter(|record| matches!(record.stage, Stage::Reaped(_))).count();
    assert_eq!(first, 10);
}

#[test]
fn store_time_never_runs_back() {
    let mut pool = pool_on(returning(), "100");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("1"), usd("1"), at(1_000));
    asker.borrow(&mut pool, usd("1"), usd("1"), at(0));
    let expires = pool.sessions.values().map(|record| record.expires).max();
    assert_eq!((pool.now, expires), (at(1_000), Some(at(1_060))));
}

#[test]
fn credit_is_absolute_and_versioned() {
    let mut pool = pool("10");
    let before = pool.clone();
    assert_eq!(pool.credit(1, usd("5"), usd("50"), &rules(), at(1)), Ok(false));
    assert_eq!(pool, before);
    assert_eq!(pool.credit(5, usd("1"), usd("30"), &rules(), at(1)), Ok(true));
    assert_eq!(pool.credit(4, usd("1"), usd("20"), &rules(), at(1)), Ok(false));
    assert_eq!(pool.credits_and_line(), usd("31"));
    for bad in [Credit::from_nanos(-1), Credit::MAX.plus(Credit::from_nanos(1))] {
        assert_eq!(pool.credit(9, bad, usd("1"), &rules(), at(1)), Err(Refusal::Malformed("credits in")));
        assert_eq!(pool.credit(9, usd("1"), bad, &rules(), at(1)), Err(Refusal::Malformed("credits in")));
    }
    assert!(pool.configure(2, returning(), &rules(), at(1)));
    assert!(!pool.configure(2, Terms::default(), &rules(), at(1)));
    assert_eq!(pool.terms.reclaim_mode, ReclaimMode::Return);
}

#[test]
fn terms_are_sent_where_the_asker_has_others() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    for (known, sent) in [(0, true), (1, false), (2, true)] {
        asker.said.terms_known = known;
        assert_eq!(asker.borrow(&mut pool, Credit::ZERO, Credit::ZERO, START).terms.is_some(), sent, "{known}");
    }
}
