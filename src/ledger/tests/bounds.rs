//! Every map has a bound, and nothing a stranger sends grows it.

use super::world::{ACCOUNT, World, check_in, settings};
use crate::ledger::LedgerSettings;
use crate::pool::Message;

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

#[test]
fn an_account_in_use_does_not_wait_for_new_ones() {
    let mut world = World::new();
    for line in ["pay 10", "serve r1 1000+500", "settle r1 1000/0/500"] {
        world.event(line);
    }
    for name in 0..50 {
        world.ledger.want(&format!("a{name}"), world.now);
    }
    world.event("wait 6s");
    for name in 50..100 {
        world.ledger.want(&format!("a{name}"), world.now);
    }
    let is_new = |message: &&Message| &*message.account != ACCOUNT;
    let messages = world.ledger.collect(world.now, 8);
    assert_eq!((messages.len(), messages.iter().filter(is_new).count()), (8, 7));
}

#[test]
fn an_account_in_use_does_not_wait_for_what_idle_users_give_back() {
    let mut world = World::new();
    for line in ["pay 10", "terms cap=1"] {
        world.event(line);
    }
    for user in 0..20 {
        assert!(world.event(&format!("serve r{user} 1000+500 user=u{user}")).starts_with("admitted"));
        world.event(&format!("settle r{user} 1000/0/500"));
    }
    for line in ["wait 5s", "round", "wait 49900ms", "serve r 1000+500", "settle r 1000/0/500", "wait 6s"] {
        world.event(line);
    }
    let is_in_use = |message: &&Message| &*message.account == ACCOUNT;
    let messages = world.ledger.collect(world.now, 4);
    assert_eq!((messages.len(), messages.iter().filter(is_in_use).count()), (4, 1));
}

/// What is kept of each account, of its requests and of each model it uses, in bytes. A step up here costs every account.
#[test]
fn what_is_kept_of_an_account_stays_small() {
    use crate::ledger::account::Account;
    use crate::ledger::chunk::Rate;
    use crate::ledger::rates::{ModelRate, Rates};
    assert_eq!((size_of::<Account>(), size_of::<Option<Account>>()), (256, 256));
    let rates = (size_of::<Rate<1>>(), size_of::<ModelRate>(), size_of::<Rates>());
    assert_eq!(rates, (112, 248, 376), "from 378 on the allocator takes 448 for it: it rounds up 7 bytes more");
}
