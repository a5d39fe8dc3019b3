//! How much is lent, to whom, for how long.

use super::*;
use crate::decision::terms::{Mode, Suspension};
use crate::pool::message::Refusal;

/// Sessions ask in turn: `(who, spend before, want, need)`, and hold afterwards what the last column says.
fn check(credits: &str, terms: Terms, turns: &[(usize, &str, &str, &str, &str)]) {
    let mut pool = pool_on(terms, credits);
    let mut askers: Vec<Asker> = (0..4).map(Asker::new).collect();
    for (turn, (who, spend, want, need, holds)) in turns.iter().enumerate() {
        askers[*who].spend(usd(spend), at(1));
        askers[*who].borrow(&mut pool, usd(want), usd(need), at(1));
        assert_eq!(askers[*who].rights(), usd(holds), "turn {turn}");
        let audit = audited(&pool);
        assert!(audit.used.plus(audit.leased) <= audit.credits_and_line, "turn {turn}");
    }
}

#[test]
fn a_grant_is_the_need_or_a_fair_share() {
    let prepaid = Terms::default;
    // Half of the room for one holder; a quarter of the rest for the second.
    check("100", prepaid(), &[(0, "0", "80", "0", "50"), (1, "0", "80", "0", "12.5")]);
    // What is wished for, where the share is larger.
    check("100", prepaid(), &[(0, "0", "10", "0", "10"), (0, "0", "10", "0", "10"), (0, "4", "10", "0", "10")]);
    // A need goes above the share, up to the last nano-dollar.
    check("100", prepaid(), &[(0, "0", "80", "80", "80"), (1, "0", "20", "20", "20"), (2, "0", "1", "1", "0")]);
    // Crumbs that would not reach the need stay in the pool, for somebody whom they help.
    check("100", prepaid(), &[(0, "0", "90", "90", "90"), (1, "0", "11", "11", "0"), (2, "0", "10", "10", "10")]);
    // The last dollar can be spent from any node.
    check("1", prepaid(), &[(0, "0", "1", "1", "1"), (0, "1", "0", "0", "0"), (1, "0", "0.01", "0.01", "0")]);
    // What is held already counts towards the need.
    check("10", prepaid(), &[(0, "0", "6", "6", "6"), (0, "0", "9", "9", "9"), (0, "2", "8", "8", "8")]);
    // Debt down to the credit line, and not further.
    let postpaid = Terms { mode: Mode::Postpaid, credit_line: usd("5"), ..Terms::default() };
    check("1", postpaid, &[(0, "0", "6", "6", "6"), (1, "0", "0.01", "0.01", "0")]);
}

#[test]
fn a_wish_is_capped_and_a_need_is_not() {
    let rules = PoolRules::default();
    let cases = [
        // credits, want, need, granted
        ("1000", "500", "0", "5"), // at most $5
        ("20", "20", "0", "2"),    // at most a tenth
        ("20", "20", "7", "7"),    // one dear request is served all the same
    ];
    for (credits, want, need, granted) in cases {
        let mut pool = pool(credits);
        let mut asker = Asker::new(1);
        let request = asker.ask(usd(want), usd(need), START);
        let reply = pool.sync(&asker.id, &request, &rules, START).unwrap();
        assert_eq!(reply.granted, usd(granted), "{credits} {want} {need}");
    }
}

#[test]
fn what_running_requests_hold_takes_nothing_from_what_is_lent_ahead() {
    let rules = PoolRules::default();
    let mut pool = pool("1000");
    let mut asker = Asker::new(1);
    let mut borrow = |want, need| {
        let request = asker.ask(usd(want), usd(need), START);
        pool.sync(&asker.id, &request, &rules, START).unwrap().granted
    };
    assert_eq!(borrow("50", "50"), usd("50"));
    assert_eq!(borrow("70", "50"), usd("55"));
    assert_eq!(borrow("70", "50"), usd("55"));
    assert_eq!(borrow("70", "57"), usd("60"));
}

#[test]
fn the_months_room_limits_what_is_lent_but_for_contracts() {
    let limit = Some(usd("10"));
    for (mode, lent) in [(Mode::Prepaid, "10"), (Mode::Postpaid, "10"), (Mode::Contract, "50")] {
        let mut pool = pool_on(Terms { mode, monthly_limit: limit, ..Terms::default() }, "100");
        let mut asker = Asker::new(1);
        asker.borrow(&mut pool, usd("10"), usd("10"), START);
        asker.spend(usd("6"), START);
        asker.borrow(&mut pool, usd("4"), usd("4"), START);
        asker.spend(usd("4"), START);
        let reply = asker.borrow(&mut pool, usd("40"), usd("40"), START);
        assert_eq!(reply.granted, usd(lent), "{mode:?}");
    }
}

#[test]
fn a_suspended_account_lends_nothing_and_says_so() {
    for suspension in [Suspension::FailedPayments, Suspension::Abuse] {
        let mut pool = pool_on(Terms { suspension, ..Terms::default() }, "100");
        let reply = Asker::new(1).borrow(&mut pool, usd("1"), usd("1"), START);
        assert_eq!((reply.granted, reply.available, reply.is_final), (Credit::ZERO, Credit::ZERO, true));
        assert_eq!(reply.terms.map(|terms| terms.suspension), Some(suspension));
    }
}

#[test]
fn declare_reports_and_lends_nothing() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("4"), usd("4"), START);
    asker.spend(usd("1"), START);
    let request = asker.declare(at(1));
    let reply = pool.sync(&asker.id, &request, &rules(), at(1)).unwrap();
    assert_eq!((reply.granted, pool.used, pool.leased), (usd("4"), usd("1"), usd("3")));
}

#[test]
fn a_hungry_session_makes_others_give_back_for_two_seconds() {
    let mut pool = pool("10");
    let (mut rich, mut poor) = (Asker::new(1), Asker::new(2));
    rich.borrow(&mut pool, usd("10"), usd("10"), START);
    let reply = poor.borrow(&mut pool, usd("1"), usd("1"), at(1));
    assert!(reply.is_final && !reply.recall);
    assert!(rich.borrow(&mut pool, usd("10"), usd("0"), at(2)).recall);
    assert!(!rich.borrow(&mut pool, usd("10"), usd("0"), at(3)).recall);
    rich.give_back(usd("9"));
    rich.borrow(&mut pool, usd("1"), usd("0"), at(3));
    assert_eq!(poor.borrow(&mut pool, usd("1"), usd("1"), at(3)).granted, usd("1"));
    // Where nobody holds anything, there is nothing to give back.
    let mut empty = super::pool("1");
    assert!(poor.clone().borrow(&mut empty, usd("9"), usd("9"), START).is_final);
    assert!(!Asker::new(3).borrow(&mut empty, Credit::ZERO, Credit::ZERO, START).recall);
}

#[test]
fn leases_are_short_and_syncs_frequent_where_credit_is_scarce() {
    let cases = [
        // credits, need, life of the lease, next sync in ms
        ("100", "0.01", 60, 1_500),
        ("1", "0.5", 10, 500),    // less than 20 such requests
        ("0.1", "0.01", 10, 500), // less than 20 typical requests
        ("0", "0.01", 10, 1_000), // only new credit helps
    ];
    for (credits, need, ttl, next) in cases {
        let reply = Asker::new(1).borrow(&mut pool(credits), usd(need), usd(need), START);
        let expected = (Duration::from_secs(ttl), Duration::from_millis(next));
        assert_eq!((reply.ttl, reply.next_sync), expected, "{credits} {need}");
    }
}

#[test]
fn a_whale_on_every_sidecar_is_slowed_down() {
    let mut pool = pool("1000000");
    let waits: Vec<_> = (0..3_000).map(|run| Asker::new(run).borrow(&mut pool, usd("1"), usd("0"), START)).collect();
    assert_eq!(waits[0].next_sync, Duration::from_millis(1_500));
    assert_eq!(waits[9].next_sync, Duration::from_secs(2));
    assert_eq!(waits[2_999].next_sync, Duration::from_secs(5));
    // Where credit is scarce, it has to be heard of sooner.
    let mut pool = super::pool("100");
    let waits: Vec<_> = (0..600).map(|run| Asker::new(run).borrow(&mut pool, usd("0.1"), usd("0"), START)).collect();
    assert_eq!(waits[599].next_sync, Duration::from_millis(600));
}

#[test]
fn what_running_requests_hold_makes_nothing_scarce() {
    let mut pool = pool("100");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("20"), usd("20"), START);
    let healthy = (Duration::from_secs(60), Duration::from_millis(1_500));
    let reply = asker.borrow(&mut pool, usd("20"), usd("20"), at(1));
    assert_eq!((reply.ttl, reply.next_sync), healthy);
}

type Spoil = fn(&mut SyncRequest, Credit);

#[test]
fn malformed_requests_change_nothing() {
    let (max, below) = (Credit::from_nanos(1 << 50), Credit::from_nanos(-1));
    let cases: [(&str, Spoil); 7] = [
        ("used", |request, amount| request.used = amount),
        ("returned", |request, amount| request.returned = amount),
        ("granted", |request, amount| request.granted_known = Credit::from_nanos(amount.nanos() * 4)),
        ("reclaimed", |request, amount| request.reclaimed_known = Credit::from_nanos(amount.nanos() * 4)),
        ("want", |request, amount| request.want = amount),
        ("need", |request, amount| (request.want, request.need) = (usd("1"), amount)),
        ("used before this month", |request, amount| request.used_before = amount),
    ];
    for (name, spoil) in cases {
        for amount in [max, below, Credit::from_nanos(i64::MAX / 4), Credit::from_nanos(i64::MIN / 4)] {
            let mut pool = pool("10");
            let mut asker = Asker::new(1);
            asker.borrow(&mut pool, usd("1"), usd("1"), START);
            let before = pool.clone();
            let mut request = asker.ask(usd("1"), usd("1"), at(hours(100)));
            spoil(&mut request, amount);
            let refusal = pool.sync(&asker.id, &request, &rules(), at(hours(100))).unwrap_err();
            assert_eq!((refusal, &pool), (Refusal::Malformed(name), &before), "{name} {amount:?}");
        }
    }
}

#[test]
fn inconsistent_requests_are_malformed() {
    let mut asker = Asker::new(1);
    let request = asker.ask(usd("1"), usd("2"), START);
    let refused = pool("10").sync(&asker.id, &request, &rules(), START);
    assert_eq!(refused, Err(Refusal::Malformed("need above want")));
    let request = SyncRequest { used_before: usd("1"), ..asker.ask(usd("1"), usd("1"), START) };
    let refused = pool("10").sync(&asker.id, &request, &rules(), START);
    assert_eq!(refused, Err(Refusal::Malformed("used before this month above used")));
}

#[test]
fn a_sum_that_no_account_can_have_is_refused() {
    let mut pool = pool("10");
    let most = Credit::from_nanos((1 << 50) - 1);
    let (mut taken, mut refused) = (0, 0);
    for run in 0..3_000 {
        let mut asker = Asker::new(run);
        let request = SyncRequest { used: most, ..asker.ask(Credit::ZERO, Credit::ZERO, START) };
        match pool.sync(&asker.id, &request, &rules(), START) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    audited(&pool);
    assert_eq!((taken, refused), (2_048, 952));
}

#[test]
fn a_counter_never_grows_beyond_its_range() {
    let mut pool = pool("3000000");
    let mut asker = Asker::new(1);
    let million = usd("1000000");
    asker.borrow(&mut pool, million, million, START);
    asker.spend(million, START);
    let reply = asker.borrow(&mut pool, million, million, START);
    assert_eq!(reply.granted, million, "the need does not fit into the generation's range any more");
    let rest = Credit::from_nanos((1 << 50) - 1).minus(million);
    assert_eq!(asker.borrow(&mut pool, rest, rest, START).granted, million.plus(rest));
}

#[test]
fn large_totals_keep_a_margin_for_stores_that_round() {
    for (credits, left) in [("4000000", "0"), ("5000000", "0.000008192")] {
        let mut pool = pool(credits);
        let all = usd(credits).nanos();
        for run in 0..10 {
            let share = Credit::from_nanos(all / 10).min(pool.room());
            Asker::new(run).borrow(&mut pool, share, share, START);
        }
        assert_eq!(usd(credits).minus(pool.leased), usd(left));
    }
}

#[test]
fn records_are_bounded_and_tombstones_give_way() {
    let few = PoolRules { sessions_max: 2, ..rules() };
    let mut pool = pool("10");
    let mut askers: Vec<Asker> = (0..3).map(Asker::new).collect();
    for asker in &mut askers[..2] {
        let request = asker.ask(usd("1"), usd("1"), START);
        pool.sync(&asker.id, &request, &few, START).unwrap();
    }
    let request = askers[2].ask(usd("1"), usd("1"), START);
    let before = pool.clone();
    assert_eq!(pool.sync(&askers[2].id, &request, &few, START), Err(Refusal::Crowded));
    assert_eq!(pool, before);
    let bye = SyncRequest { used: usd("1"), ..askers[0].bye(START) };
    pool.sync(&askers[0].id, &bye, &few, START).unwrap();
    pool.sync(&askers[2].id, &request, &few, START).unwrap();
    assert_eq!((audited(&pool).retired, pool.used), (usd("1"), usd("1")));
}

#[test]
fn a_pool_survives_being_written_down() {
    let mut pool = pool("10");
    let mut asker = Asker::new(1);
    asker.borrow(&mut pool, usd("4"), usd("4"), START);
    asker.spend(usd("1"), START);
    asker.borrow(&mut pool, usd("4"), usd("4"), at(hours(24 * 40)));
    let bytes = postcard::to_stdvec(&pool).unwrap();
    assert_eq!(postcard::from_bytes::<Pool>(&bytes).unwrap(), pool);
    assert!(bytes.len() < 300, "{} bytes", bytes.len());
}
