//! Every map has a bound, and nothing a stranger sends grows it.

use std::time::Duration;

use super::world::{World, check_in, settings};
use crate::ledger::LedgerSettings;

#[test]
fn unknown_names_are_bounded_and_forgotten() {
    let mut world = World::with(LedgerSettings { unknown_max: 8, accounts_max: 16, workers: 0, ..settings() });
    for name in 0..100 {
        world.event(&format!("ask r1 10+10 account=a{name}"));
        world.event("round");
    }
    let totals = world.ledger.totals(world.now);
    assert_eq!((totals.accounts, totals.unknown), (0, 8));
    world.event("wait 6s");
    world.event("sweep");
    assert_eq!(world.ledger.totals(world.now).unknown, 0);
}

#[test]
fn strangers_that_wait_are_bounded_and_forgotten() {
    let mut world = World::with(LedgerSettings { unknown_max: 16, ..settings() });
    for name in 0..100 {
        assert_eq!(world.event(&format!("ask r1 10+10 account=a{name}")), "unknown");
    }
    assert_eq!(world.ledger.totals(world.now).accounts, 16);
    assert!(!world.ledger.want("one-more", world.now));
    world.event("lose request");
    world.event("wait 20s");
    world.event("round");
    assert_eq!(world.ledger.totals(world.now).accounts, 0);
}

#[test]
fn holds_are_bounded() {
    let mut world = World::with(LedgerSettings { holds_max: 2, ..settings() });
    check_in(
        &mut world,
        "pay 10
         serve r1 1000+500 => admitted $0.005 out 500
         serve r2 1000+500 => admitted $0.005 out 500
         serve r3 1000+500 => denied overloaded wait 1s
         ask r2 1000+500 => admitted $0.005 out 500 again
         settle r1 1000/0/500
         serve r3 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn a_shadow_account_opens_no_holds_beyond_the_bound() {
    let mut world = World::with(LedgerSettings { holds_max: 1, ..settings() });
    check_in(
        &mut world,
        "pay 10
         terms shadow=yes
         serve r1 1000+500 => admitted $0.005 out 500
         serve r2 1000+500 => admitted $0.00 out 500 but for overloaded
         serve r2 1000+500 => admitted $0.00 out 500 but for overloaded
         settle r2 1000/0/500 => not found",
    );
    assert_eq!(world.ledger.totals(world.now).holds_open, 1);
}

#[test]
fn ended_holds_are_bounded_and_the_oldest_go_first() {
    let mut world = World::with(LedgerSettings { ended_max: 2, ..settings() });
    check_in(
        &mut world,
        "pay 10
         serve r1 1000+500
         serve r2 1000+500
         serve r3 1000+500
         settle r1 1000/0/500
         settle r2 1000/0/500
         settle r3 1000/0/500
         counts => accounts 1 open 0 ended 2
         settle r1 1000/0/500 => not found
         settle r2 1000/0/500 => settled $0.005 again",
    );
}

#[test]
fn a_message_batch_is_bounded_and_nobody_starves() {
    let world = World::new();
    for name in 0..50 {
        world.ledger.want(&format!("a{name}"), world.now);
    }
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let messages = world.ledger.collect(world.now, 10);
        assert_eq!(messages.len(), 10);
        names.extend(messages.into_iter().map(|message| message.account));
    }
    assert_eq!(names.len(), 50);
    assert!(world.ledger.collect(world.now, 10).is_empty());
}

/// What is kept of each account, of its requests and of each model it uses, in bytes. A step up here costs every account.
#[test]
fn what_is_kept_of_an_account_stays_small() {
    use crate::ledger::account::Account;
    use crate::ledger::chunk::Rate;
    use crate::ledger::rates::{ModelRate, Rates};
    assert_eq!((size_of::<Account>(), size_of::<Option<Account>>()), (256, 256));
    let rates = (size_of::<Rate<1>>(), size_of::<ModelRate>(), size_of::<Rates>());
    assert_eq!(rates, (112, 248, 384), "the allocator's next size is 448");
}

/// Each ended hold is found under its own key until it is the oldest and forgotten, however the row grew meanwhile.
#[test]
fn ended_holds_are_found_until_they_are_forgotten() {
    use crate::clock::Now;
    use crate::decision::{Month, Price, RequestId};
    use crate::ledger::account::Account;
    use crate::ledger::answer::End;
    use crate::ledger::ended::Row;
    use crate::ledger::hold::{Hold, HoldKey};
    let now = Now::default();
    let key = |number: u128| HoldKey::new(7, RequestId { digest: number, attempt: 1 });
    // Few different hashes make long chains.
    let hash = |sought: &HoldKey| {
        (0..200).position(|number| key(number) == *sought).map_or(0, |place| place % 5).try_into().unwrap()
    };
    let mut row = Row::new();
    for number in 0..200_u128 {
        let mut account = Account::new("a", now);
        account.open = 1;
        let mut hold = Hold::absent(Price::default(), None, Month::of(now.unix), now.time);
        let past = hold.end(&mut account, End::Expired, None, now.time);
        row.push(key(number), (past, Some(hold.late())), now.time.after(Duration::from_secs(1)), hash);
        if number % 3 == 0 {
            row.forget_oldest();
        }
    }
    for number in 0..200_u128 {
        let is_kept = number >= 67;
        let settled = row.settle(&key(number), hash(&key(number)), now.time).map(|(_, expired)| expired.is_some());
        assert_eq!(settled, is_kept.then_some(true), "hold {number}");
        let again = row.settle(&key(number), hash(&key(number)), now.time).map(|(_, expired)| expired.is_some());
        assert_eq!(again, is_kept.then_some(false), "hold {number}");
    }
}

/// After so many that their numbers begin anew, too.
#[test]
fn ended_holds_are_found_when_their_counts_begin_again() {
    use crate::clock::Now;
    use crate::decision::{Month, Price, RequestId};
    use crate::ledger::account::Account;
    use crate::ledger::answer::End;
    use crate::ledger::chains::NUMBER_MAX;
    use crate::ledger::ended::Row;
    use crate::ledger::hold::{Hold, HoldKey};
    let now = Now::default();
    let until = now.time.after(Duration::from_secs(1));
    let key = |number: u32| HoldKey::new(7, RequestId { digest: number.into(), attempt: 1 });
    let hash = |sought: &HoldKey| if *sought == key(NUMBER_MAX - 1) { 3 } else { 4 };
    let mut row = Row::new();
    for number in 0..NUMBER_MAX + 10 {
        let mut account = Account::new("a", now);
        account.open = 1;
        let past = Hold::absent(Price::default(), None, Month::of(now.unix), now.time);
        let past = past.clone().end(&mut account, End::Settled, None, now.time);
        row.push(key(number), (past, None), until, hash);
        if number >= 20 {
            row.forget_oldest();
        }
    }
    let found: Vec<bool> = (NUMBER_MAX - 15..NUMBER_MAX + 10)
        .map(|number| row.get(&key(number), hash(&key(number)), now.time).is_some())
        .collect();
    assert_eq!(found.iter().filter(|is_found| **is_found).count(), 20);
    assert!(found.iter().skip(5).all(|is_found| *is_found), "{found:?}");
}

/// Each open hold is found under its own key until it ends, in whatever order they end, and no other one in its place.
#[test]
fn open_holds_are_found_until_they_end() {
    use crate::clock::Now;
    use crate::decision::{Month, Price, RequestId};
    use crate::ledger::hold::{Hold, HoldKey};
    use crate::ledger::holds::Holds;
    const MANY: u64 = 3_000;
    let now = Now::default();
    let mut holds = Holds::new();
    let seek =
        |holds: &Holds, number: u64| holds.seek(HoldKey::new(7, RequestId { digest: u128::from(number), attempt: 1 }));
    let mut open = std::collections::BTreeSet::new();
    let mut longest = 0;
    for step in 0..20 * MANY {
        // Each number opens and ends again and again, in an order of its own each time.
        let number = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let number = number % MANY;
        let sought = seek(&holds, number);
        assert_eq!(holds.place_of(&sought).is_some(), open.contains(&number), "{number} after {step} steps");
        if let Some(place) = holds.place_of(&sought) {
            assert!(holds.at(place).is_some_and(|opened| opened.key == sought.key));
            holds.remove(&sought, place);
            open.remove(&number);
        } else {
            let mut hold = Hold::absent(Price::default(), None, Month::of(now.unix), now.time);
            hold.content = number;
            holds.insert(&sought, hold);
            open.insert(number);
        }
        longest = longest.max(open.len());
    }
    assert!(longest > 1_000, "only {longest} were ever open together");
    for number in 0..MANY {
        let sought = seek(&holds, number);
        let content = holds.place_of(&sought).and_then(|place| holds.at(place)).map(|opened| opened.hold.content);
        assert_eq!(content, open.contains(&number).then_some(number));
    }
}
