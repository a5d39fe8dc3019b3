//! Holds are found under their own keys, open ones until they end, ended ones until they are forgotten.

use std::collections::BTreeSet;

use crate::clock::{Now, Time};
use crate::decision::{Month, Price, RequestId};
use crate::ledger::account::Account;
use crate::ledger::answer::End;
use crate::ledger::chains::NUMBER_MAX;
use crate::ledger::ended::Row;
use crate::ledger::hold::{Hold, HoldKey, Late, Past};
use crate::ledger::holds::Holds;

const NOW: Time = Time::from_nanos(0);
const UNTIL: Time = Time::from_nanos(1_000_000_000);

fn key(number: u64) -> HoldKey {
    HoldKey::new(7, RequestId { digest: number.into(), attempt: 1 })
}

fn hold() -> Hold {
    Hold::absent(Price::default(), None, Month::of(Now::default().unix), NOW)
}

/// A hold that ended.
fn ended(end: End) -> (Past, Late) {
    let mut account = Account::new("a", Now::default());
    account.open = 1;
    let mut hold = hold();
    (hold.end(&mut account, end, None, NOW), hold.late())
}

/// Each ended hold is found under its own key until it is the oldest and forgotten, however the row grew meanwhile.
#[test]
fn ended_holds_are_found_until_they_are_forgotten() {
    // Few different hashes make long chains.
    let hash = |sought: &HoldKey| {
        (0..200).position(|number| key(number) == *sought).map_or(0, |place| place % 5).try_into().unwrap()
    };
    let mut row = Row::new();
    for number in 0..200 {
        let (past, late) = ended(End::Expired);
        row.push((key(number), hash(&key(number))), (past, Some(late)), UNTIL, hash);
        if number % 3 == 0 {
            row.forget_oldest();
        }
    }
    for number in 0..200 {
        let is_kept = number >= 67;
        let settled = row.settle(&key(number), hash(&key(number)), NOW).map(|(_, expired)| expired.is_some());
        assert_eq!(settled, is_kept.then_some(true), "hold {number}");
        let again = row.settle(&key(number), hash(&key(number)), NOW).map(|(_, expired)| expired.is_some());
        assert_eq!(again, is_kept.then_some(false), "hold {number}");
    }
}

/// After so many that their numbers begin anew, too.
#[test]
fn ended_holds_are_found_when_their_counts_begin_again() {
    let most = u64::from(NUMBER_MAX);
    let hash = |sought: &HoldKey| if *sought == key(most - 1) { 3 } else { 4 };
    let mut row = Row::new();
    for number in 0..most + 10 {
        row.push((key(number), hash(&key(number))), (ended(End::Settled).0, None), UNTIL, hash);
        if number >= 20 {
            row.forget_oldest();
        }
    }
    let found: Vec<bool> =
        (most - 15..most + 10).map(|number| row.get(&key(number), hash(&key(number)), NOW).is_some()).collect();
    assert_eq!(found.iter().filter(|is_found| **is_found).count(), 20);
    assert!(found.iter().skip(5).all(|is_found| *is_found), "{found:?}");
}

/// Each open hold is found under its own key until it ends, in whatever order they end, and no other one in its place.
#[test]
fn open_holds_are_found_until_they_end() {
    const MANY: u64 = 3_000;
    let mut holds = Holds::new();
    let mut open = BTreeSet::new();
    let mut longest = 0;
    for step in 0..20 * MANY {
        // Each number opens and ends again and again, in an order of its own each time.
        let number = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let number = number % MANY;
        let sought = holds.seek(key(number));
        assert_eq!(holds.place_of(&sought).is_some(), open.contains(&number), "{number} after {step} steps");
        if let Some(place) = holds.place_of(&sought) {
            assert!(holds.at(place).is_some_and(|opened| opened.key == sought.key));
            holds.remove(&sought, place);
            open.remove(&number);
        } else {
            let mut hold = hold();
            hold.content = number;
            holds.insert(&sought, hold);
            open.insert(number);
        }
        longest = longest.max(open.len());
    }
    assert!(longest > 1_000, "only {longest} were ever open together");
    for number in 0..MANY {
        let sought = holds.seek(key(number));
        let content = holds.place_of(&sought).and_then(|place| holds.at(place)).map(|opened| opened.hold.content);
        assert_eq!(content, open.contains(&number).then_some(number));
    }
}
