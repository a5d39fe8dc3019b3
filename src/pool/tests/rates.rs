//! Chunks of one exact bucket: tables.

use super::*;
use crate::decision::adaptive::{Adaptive, Bounds};
use crate::decision::rate::UNITS_PER_TOKEN;
use crate::pool::message::{Group, RateReply, RateRequest, Refusal, SessionId, StepProposal};

const MINUTE: u64 = 60;

fn session(run: u128) -> SessionId {
    SessionId { node: "node".into(), run }
}

/// 600 tokens a minute of the first metric: ten a second.
pub fn blank(seq: u64) -> RateRequest {
    RateRequest {
        group: Group::Model("kimi-k3".into()),
        generation: 0,
        seq,
        granted_known: [0; 3],
        debt: [0; 3],
        returned: [0; 3],
        used: [0; 3],
        priced: Credit::ZERO,
        at_hand: [0; 3],
        want: [0; 3],
        need: [0; 3],
        seed: [600, 6_000, 60],
        burst_seconds: 60,
    }
}

fn asks(seq: u64, want: u64, need: u64) -> RateRequest {
    RateRequest { want: [want, 0, 0], need: [need, 0, 0], ..blank(seq) }
}

fn group() -> RatePool {
    RatePool::seeded(&blank(0), START).unwrap()
}

fn sync(pool: &mut RatePool, run: u128, request: &RateRequest, now: UnixMs) -> RateReply {
    pool.sync(&session(run), request, &RateRules::default(), now).unwrap()
}

fn level(reply: &RateReply) -> u64 {
    u64::try_from(reply.levels[0] / UNITS_PER_TOKEN).unwrap()
}

#[test]
fn a_chunk_is_the_need_or_a_fair_share() {
    // (session, want, need) in turn; what each gets of 600
    let cases: [&[(u128, u64, u64, u64)]; 5] = [
        &[(1, 100, 10, 100), (1, 1_000, 0, 250)],
        &[(1, 1_000, 0, 300), (2, 1_000, 0, 75), (3, 1_000, 0, 37)],
        &[(1, 600, 600, 600), (2, 1, 1, 0), (2, 1, 0, 0)],
        &[(1, 500, 500, 500), (2, 200, 101, 0), (3, 200, 100, 100)],
        &[(1, 700, 601, 0), (1, 50, 50, 50)],
    ];
    for turns in cases {
        let mut pool = group();
        for (seq, (run, want, need, fresh)) in turns.iter().enumerate() {
            let granted_known = [turns[..seq].iter().filter(|turn| turn.0 == *run).map(|turn| turn.3).sum(), 0, 0];
            let request = RateRequest { granted_known, ..asks(seq as u64 + 1, *want, *need) };
            assert_eq!(sync(&mut pool, *run, &request, START).fresh, [*fresh, 0, 0], "{turns:?} {seq}");
        }
    }
}

#[test]
fn a_chunk_covers_as_many_lives_of_its_demand_as_leave_little_out() {
    // (what another session holds, want); tokens and life. Ten tokens a second is little.
    let cases = [
        ((0, 1), (10, 10)),
        ((0, 2), (10, 10)),
        ((0, 3), (9, 10)),
        ((0, 10), (10, 10)),
        ((0, 11), (11, 1)),
        ((4, 3), (6, 10)),
        ((4, 6), (6, 10)),
        ((4, 7), (7, 1)),
    ];
    for ((other, want), expected) in cases {
        let mut pool = group();
        let granted_known = sync(&mut pool, 1, &asks(1, other, 0), START).granted;
        sync(&mut pool, 1, &RateRequest { at_hand: [other, 0, 0], granted_known, ..blank(2) }, START);
        let reply = sync(&mut pool, 2, &asks(1, want, 0), START);
        assert_eq!((reply.fresh[0], reply.chunk_life.as_secs()), expected, "{other} {want}");
    }
}

#[test]
fn a_need_that_fails_in_one_metric_takes_from_none() {
    let mut pool = group();
    let request = RateRequest { want: [10, 10, 61], need: [10, 10, 61], ..blank(1) };
    let reply = sync(&mut pool, 1, &request, START);
    assert_eq!((reply.fresh, reply.levels), ([0; 3], [0; 3]));
}

#[test]
fn repeated_late_and_lost_messages_change_nothing() {
    let mut pool = group();
    let first = asks(1, 100, 100);
    sync(&mut pool, 1, &first, START);
    let before = pool.clone();
    let reply = sync(&mut pool, 1, &first, START);
    assert_eq!((reply.fresh, reply.granted, &pool), ([0; 3], [100, 0, 0], &before));
    // The reply was lost: the chunk never lived, and asking again does not charge it twice.
    for seq in 2..20 {
        assert_eq!(level(&sync(&mut pool, 1, &asks(seq, 100, 100), START)), 100);
    }
    // An overtaken request is too late.
    assert_eq!(sync(&mut pool, 1, &asks(5, 100, 100), START).fresh, [0; 3]);
}

#[test]
fn what_comes_back_is_refunded_and_debt_is_charged() {
    let mut pool = group();
    sync(&mut pool, 1, &asks(1, 100, 100), START);
    let known = RateRequest { granted_known: [100, 0, 0], ..blank(2) };
    // request, level afterwards
    let turns = [
        (RateRequest { returned: [40, 0, 0], ..known.clone() }, 60),
        (RateRequest { returned: [40, 0, 0], debt: [5, 0, 0], seq: 3, ..known.clone() }, 65),
        (RateRequest { returned: [105, 0, 0], debt: [5, 0, 0], seq: 4, ..known.clone() }, 0),
        (RateRequest { returned: [105, 0, 0], debt: [905, 0, 0], seq: 5, ..known.clone() }, 900),
    ];
    for (request, after) in turns {
        assert_eq!(level(&sync(&mut pool, 1, &request, START)), after, "{}", request.seq);
    }
    // In debt: it drains at ten a second.
    assert_eq!(level(&sync(&mut pool, 2, &asks(1, 1, 1), at(10))), 800);
}

#[test]
fn a_chunk_that_comes_back_late_has_drained() {
    // Lent at 0, all of it back after so many seconds; the level before and after, with 300 charged by another meanwhile.
    for (seconds, before, after) in [(1, 590, 290), (2, 580, 300), (10, 500, 300), (29, 310, 300)] {
        let mut pool = group();
        sync(&mut pool, 1, &asks(1, 300, 300), START);
        let other = RateRequest { debt: [300, 0, 0], ..blank(1) };
        sync(&mut pool, 2, &other, START);
        assert_eq!(level(&sync(&mut pool, 2, &other, at(seconds))), before);
        let back = RateRequest { granted_known: [300, 0, 0], returned: [300, 0, 0], ..blank(2) };
        assert_eq!(level(&sync(&mut pool, 1, &back, at(seconds))), after, "{seconds}");
    }
}

#[test]
fn a_session_that_was_forgotten_is_adopted_as_it_is() {
    let told = RateRequest {
        granted_known: [5_000, 0, 0],
        debt: [400, 0, 0],
        returned: [300, 0, 0],
        used: [5_000, 0, 0],
        ..asks(77, 10, 10)
    };
    let mut pool = group();
    assert_eq!(sync(&mut pool, 1, &told, START).granted, [5_010, 0, 0]);
    assert_eq!(level(&sync(&mut pool, 1, &told, START)), 10);
    // Silent for more than an hour, and back: as if it had never been away.
    let later = at(3_720);
    let back = RateRequest { granted_known: [5_010, 0, 0], debt: [600, 0, 0], seq: 78, ..told.clone() };
    sync(&mut pool, 2, &blank(1), later);
    assert_eq!(level(&sync(&mut pool, 1, &back, later)), 10);
    // One that was never answered starts from zero: its debt counts.
    let fresh = RateRequest { debt: [7, 0, 0], ..blank(1) };
    assert_eq!(level(&sync(&mut group(), 3, &fresh, START)), 7);
}

#[test]
fn a_new_generation_starts_from_zero_and_ends_the_old_one() {
    let mut pool = group();
    sync(&mut pool, 1, &RateRequest { debt: [50, 0, 0], ..asks(9, 10, 10) }, START);
    let next = RateRequest { generation: 1, debt: [5, 0, 0], ..asks(1, 10, 10) };
    assert_eq!(level(&sync(&mut pool, 1, &next, START)), 75);
    let old = pool.sync(&session(1), &asks(10, 1, 1), &RateRules::default(), START);
    assert_eq!(old, Err(Refusal::NoSuchSession));
}

#[test]
fn malformed_requests_change_nothing() {
    let huge = [1 << 50, 0, 0];
    let cases = [
        ("granted", RateRequest { granted_known: huge, ..blank(2) }),
        ("debt", RateRequest { debt: huge, ..blank(2) }),
        ("returned", RateRequest { returned: [0, 0, u64::MAX], ..blank(2) }),
        ("used", RateRequest { used: huge, ..blank(2) }),
        ("want", RateRequest { want: huge, ..blank(2) }),
        ("need", RateRequest { need: huge, ..blank(2) }),
        ("seed", RateRequest { seed: huge, ..blank(2) }),
        ("need above want", asks(2, 1, 2)),
        ("burst seconds", RateRequest { burst_seconds: 0, ..blank(2) }),
        ("returned more than was granted or charged", RateRequest { returned: [1, 0, 0], ..blank(2) }),
    ];
    for (name, request) in cases {
        let mut pool = group();
        sync(&mut pool, 1, &asks(1, 10, 10), START);
        let before = pool.clone();
        let refused = pool.sync(&session(1), &request, &RateRules::default(), at(100));
        assert_eq!((refused, &pool), (Err(Refusal::Malformed(name)), &before), "{name}");
        if name == "burst seconds" || name == "seed" {
            assert_eq!(RatePool::seeded(&request, START), Err(Refusal::Malformed(name)));
        }
    }
}

#[test]
fn a_group_is_seeded_once_and_its_burst_follows_the_asker() {
    let mut pool = group();
    sync(&mut pool, 1, &asks(1, 600, 600), START);
    let request = RateRequest { seed: [9_000; 3], burst_seconds: 120, granted_known: [600, 0, 0], ..asks(2, 601, 0) };
    let reply = sync(&mut pool, 1, &request, START);
    assert_eq!((reply.limits, reply.burst_seconds, reply.fresh), ([600, 6_000, 60], 120, [300, 0, 0]));
}

#[test]
fn the_envelope_of_requests_has_no_steps() {
    let mut pool = group();
    let request = |seq| RateRequest { group: Group::Requests, ..uses(seq, seq * 100) };
    sync(&mut pool, 1, &request(1), START);
    let reply = sync(&mut pool, 1, &request(2), at(2 * MINUTE));
    assert_eq!((reply.due.clone(), reply.version), (None, 1));
    assert!(pool.propose(&proposal(&reply, [6_000, 0, 0]), &RateRules::default(), at(2 * MINUTE)));
    assert_eq!(sync(&mut pool, 1, &request(3), at(2 * MINUTE)).limits, [6_000, 0, 0]);
}

#[test]
fn sessions_are_bounded() {
    let few = RateRules { sessions_max: 2, ..RateRules::default() };
    let mut pool = group();
    for run in 0..10 {
        pool.sync(&session(run), &asks(1, 1, 1), &few, at(run as u64)).unwrap();
    }
    // Those that are remembered know the request already; what one of them holds is out.
    let fresh = [9, 8, 7].map(|run| pool.sync(&session(run), &asks(1, 1, 1), &few, at(10)).unwrap().fresh[0]);
    assert_eq!(fresh, [0, 0, 9]);
}

fn uses(seq: u64, used: u64) -> RateRequest {
    RateRequest { used: [used, 0, 0], ..blank(seq) }
}

fn proposal(reply: &RateReply, limits: [u64; 3]) -> StepProposal {
    let bounds = Bounds { start: 600, floor: 150, ceiling: None, pinned: false };
    let states = [(); 3].map(|()| Adaptive::start(bounds, 0));
    StepProposal {
        account: "acme".into(),
        group: reply.group.clone(),
        version: reply.version,
        states: Some(states),
        limits,
        reserved: None,
    }
}

#[test]
fn minutes_with_traffic_are_offered_until_a_step_is_taken() {
    let rules = RateRules::default();
    let first = START.0 / 60_000;
    let mut pool = group();
    sync(&mut pool, 1, &uses(1, 100), START);
    sync(&mut pool, 2, &uses(1, 11), at(1));
    assert_eq!(sync(&mut pool, 1, &uses(2, 130), at(2)).due, None);
    // The minute ended; nothing came in the one after it.
    let reply = sync(&mut pool, 1, &uses(3, 130), at(2 * MINUTE));
    let due = reply.due.clone().unwrap();
    assert_eq!((due.minutes, due.states, due.current_minute), (vec![(first, [141, 0, 0])], None, first + 2));
    assert_eq!(due.version, reply.version);
    // A minute that ends between offer and proposal makes the offer stale.
    let mut raced = pool.clone();
    sync(&mut raced, 1, &uses(4, 140), at(2 * MINUTE));
    assert!(!raced.propose(&proposal(&reply, [1; 3]), &rules, at(3 * MINUTE)));
    // Two propose; one is taken.
    assert!(pool.propose(&proposal(&reply, [750, 6_000, 60]), &rules, at(2 * MINUTE)));
    assert!(!pool.propose(&proposal(&reply, [940, 6_000, 60]), &rules, at(2 * MINUTE)));
    let reply = sync(&mut pool, 1, &uses(4, 130), at(2 * MINUTE));
    assert_eq!((reply.due, reply.limits), (None, [750, 6_000, 60]));
    sync(&mut pool, 1, &uses(5, 140), at(2 * MINUTE));
    let due = sync(&mut pool, 1, &uses(6, 140), at(3 * MINUTE)).due.unwrap();
    assert!(due.states.is_some());
}

#[test]
fn a_changed_limit_keeps_the_debt_in_tokens() {
    let mut pool = group();
    sync(&mut pool, 1, &asks(1, 600, 600), START);
    let reply = sync(&mut pool, 2, &blank(1), at(30));
    assert_eq!(level(&reply), 300);
    assert!(pool.propose(&proposal(&reply, [1_200, 1, 1]), &RateRules::default(), at(30)));
    assert_eq!(level(&sync(&mut pool, 2, &blank(2), at(30))), 300);
    assert_eq!(level(&sync(&mut pool, 2, &blank(3), at(40))), 100);
    assert!(!pool.propose(&proposal(&reply, [u64::MAX; 3]), &RateRules::default(), at(40)));
}

#[test]
fn minutes_that_nobody_steps_are_bounded_and_never_grow() {
    let mut pool = group();
    let mut last = None;
    for minute in 0..20u64 {
        let used = 100 * (minute + 1) + if minute == 12 { 50 } else { 0 };
        last = sync(&mut pool, 1, &uses(minute + 1, used), at(minute * MINUTE)).due;
    }
    let minutes = last.unwrap().minutes;
    assert_eq!((minutes.len(), minutes[7]), (8, (START.0 / 60_000 + 18, [150, 0, 0])));
    assert!(minutes[..7].iter().all(|(_, used)| *used == [100, 0, 0]));
}

#[test]
fn a_group_survives_being_written_down() {
    let mut pool = group();
    sync(&mut pool, 1, &asks(1, 100, 100), START);
    let reply = sync(&mut pool, 1, &uses(2, 100), START);
    pool.propose(&proposal(&reply, [1; 3]), &RateRules::default(), at(1));
    let bytes = postcard::to_stdvec(&pool).unwrap();
    assert_eq!(postcard::from_bytes::<RatePool>(&bytes).unwrap(), pool);
}
