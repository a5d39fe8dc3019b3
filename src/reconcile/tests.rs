//! The loop: who waits, who shares a round, and what a store that is away does to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bench::{Away, ask, ledger, runtime};
use super::embedded::Embedded;
use super::store::{Rules, Store};
use super::waiting::Waiting;
use super::{Asked, RoundSettings, Rounds, jittered};
use crate::clock::Clock;
use crate::decision::Credit;
use crate::decision::terms::Terms;
use crate::ledger::{Checked, Verdict};
use crate::reconcile::store::{CreditKind, Papers, Purchase};

fn rounds(store: Arc<dyn Store>) -> Arc<Rounds> {
    let settings = RoundSettings { every: Duration::from_hours(1), ..RoundSettings::default() };
    Arc::new(Rounds::new(Arc::new(ledger()), store, Clock, settings))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_hundred_who_lack_the_same_account_share_one_round() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(&folder.path().join("store.redb"), Rules::default(), || Clock.now()).unwrap());
    let rounds = rounds(store.clone());
    runtime().block_on(async {
        store.create_account("acme".into(), Terms { payment_method: true, ..Terms::default() }).await.unwrap();
        let amount = Credit::from_nanos(100_000_000_000);
        let purchase = Purchase {
            account: "acme".into(),
            id: "1".into(),
            amount,
            kind: CreditKind::Purchased,
            papers: Papers::default(),
        };
        store.add_credits(purchase).await.unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..100 {
            assert!(matches!(rounds.ledger.check(&ask("acme", number), Clock.now()), Checked::Unknown));
            let rounds = rounds.clone();
            asking.spawn(async move { rounds.ask("acme", soon()).await });
        }
        // Everybody is in the queue before the loop runs for the first time.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let asked = async { asking.join_all().await };
        let asked = tokio::select! {
            asked = asked => asked,
            () = rounds.run(std::future::pending()) => unreachable!("never told to stop"),
        };
        assert_eq!(asked, [Asked::Answered; 100]);
        assert_eq!(rounds.waiting.begin(), 2, "one exchange was made, and this begins the second");
        for number in 0..100 {
            let checked = rounds.ledger.check(&ask("acme", number), Clock.now());
            assert!(
                matches!(&checked, Checked::Answered(answer) if matches!(answer.verdict, Verdict::Admitted(_))),
                "{number}: {checked:?}"
            );
        }
    });
}

#[test]
fn who_comes_during_an_exchange_is_answered_by_the_next_one_of_the_same_round() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(&folder.path().join("store.redb"), Rules::default(), || Clock.now()).unwrap();
    let settings = RoundSettings { batch_max: 1, ..RoundSettings::default() };
    let rounds = Rounds::new(Arc::new(ledger()), Arc::new(store), Clock, settings);
    assert!(rounds.ledger.want("early", Clock.now()));
    runtime().block_on(async {
        // Polled for the first time when the store has been asked about the other one.
        let late = async {
            assert!(rounds.ledger.want("late", Clock.now()));
            rounds.ask("late", soon()).await
        };
        let (said, asked) = tokio::join!(rounds.say_what_is_due(), late);
        said.unwrap();
        assert_eq!(asked, Asked::Answered);
    });
}

#[test]
fn a_store_that_is_away_fails_who_waits_and_then_nobody_waits_for_it() {
    let rounds = rounds(Arc::new(Away));
    let ask = async {
        rounds.ledger.want("acme", Clock.now());
        assert_eq!(rounds.ask("acme", soon()).await, Asked::Failed);
        rounds.ledger.want("acme", Clock.now());
        assert_eq!(rounds.ask("acme", soon()).await, Asked::Failed, "the next try is in an hour");
    };
    runtime().block_on(async {
        tokio::select! {
            () = ask => {}
            () = rounds.run(std::future::pending()) => unreachable!("never told to stop"),
        }
    });
    assert_eq!(rounds.pool_age(), None);
}

#[test]
fn nobody_waits_beyond_the_deadline() {
    let rounds = rounds(Arc::new(Away));
    let asked = runtime().block_on(rounds.ask("acme", Instant::now() + Duration::from_millis(1)));
    assert_eq!(asked, Asked::Late);
}

#[test]
fn a_farewell_to_a_store_that_is_away_ends_at_its_deadline() {
    let rounds = rounds(Arc::new(Away));
    runtime().block_on(async {
        assert!(rounds.farewell(soon()).await, "nothing was ever said to it");
        rounds.ledger.want("acme", Clock.now());
        rounds.say_what_is_due().await.unwrap_err();
        rounds.farewell(Instant::now() + Duration::from_millis(5)).await;
    });
}

#[test]
fn only_those_who_came_before_a_round_hear_of_it() {
    let waiting = Waiting::new(10);
    let mut before = waiting.register("a", soon()).unwrap();
    let round = waiting.begin();
    let mut after = waiting.register("a", soon()).unwrap();
    waiting.said(round);
    assert_eq!(before.try_recv(), Ok(Asked::Answered));
    assert!(after.try_recv().is_err());
    waiting.answered(round, &["a".into()]);
    assert!(after.try_recv().is_err());
    waiting.answered(waiting.begin(), &["a".into()]);
    assert_eq!(after.try_recv(), Ok(Asked::Answered));
}

#[test]
fn nobody_waits_long_for_a_store_that_stands_still() {
    let waiting = Waiting::new(1_000_000);
    let may_wait = |deadline| waiting.register("a", deadline).is_some();
    assert!(may_wait(Instant::now()), "nothing is asked yet");
    waiting.begin();
    while may_wait(Instant::now()) {}
    assert!(may_wait(soon()), "it has not been silent for so long");
    waiting.failed(Instant::now());
    let round = waiting.begin();
    assert!(!may_wait(Instant::now()), "trying again is no answer");
    waiting.said(round);
    assert!(may_wait(Instant::now()));
}

#[test]
fn waiters_are_bounded_and_their_places_come_free() {
    let waiting = Waiting::new(2);
    let mut held: Vec<_> = ["a", "b"].map(|account| waiting.register(account, soon()).unwrap()).into();
    assert!(waiting.register("c", soon()).is_none());
    waiting.answered(waiting.begin(), &["a".into(), "x".into()]);
    held.extend(waiting.register("c", soon()));
    assert!(waiting.register("d", soon()).is_none());
    waiting.failed(Instant::now());
    assert!(held.into_iter().skip(1).all(|mut woken| woken.try_recv() == Ok(Asked::Failed)));
    assert!(waiting.register("d", soon()).is_some());
}

#[test]
fn pauses_grow_with_failures_up_to_a_bound_and_never_vanish() {
    let rounds = Rounds::new(Arc::new(ledger()), Arc::new(Away), Clock, RoundSettings::default());
    let millis = |failures| rounds.pause_max(failures).as_millis();
    assert_eq!([0, 1, 2, 3, 6, 7, u32::MAX].map(millis), [200, 200, 400, 800, 5_000, 5_000, 5_000]);
    for _ in 0..100 {
        let pause = jittered(Duration::from_millis(200));
        assert!((Duration::from_millis(150)..=Duration::from_millis(200)).contains(&pause), "{pause:?}");
    }
}
