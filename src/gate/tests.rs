//! One request through the real ledger, loop and store; only a store that is away is played.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Gate, GateParts, GateSettings, KeyOwner};
use crate::clock::Clock;
use crate::decision::explain::{Bound, Says};
use crate::decision::terms::{FailurePolicy, Terms, Tier};
use crate::decision::{Ask, Credit, Metric, Prompt, Reason, ServiceTier, Usage};
use crate::ledger::{Answer, End, HoldError, Ledger, Verdict, WhyLimit, WithoutHold};
use crate::reconcile::accounts::Accounts;
use crate::reconcile::bench::{Away, ask, catalogue, id, ledger, runtime, session};
use crate::reconcile::embedded::Embedded;
use crate::reconcile::keys::{KeySettings, Keys, digest_of};
use crate::reconcile::store::{CreditKind, Papers, Purchase, Rules, Store};
use crate::reconcile::{RoundSettings, Rounds};

/// A whole sidecar over one store file, without its sockets.
struct Sidecar {
    gate: Gate,
    accounts: Accounts,
    rounds: Arc<Rounds>,
    keys: Arc<Keys>,
}

impl Sidecar {
    fn new(store: Arc<dyn Store>) -> Self {
        Self::with_ledger(Arc::new(ledger()), store)
    }

    fn with_ledger(ledger: Arc<Ledger>, store: Arc<dyn Store>) -> Self {
        let (clock, catalogue) = (Clock, catalogue());
        // Only nudges start rounds, so that no test passes by luck of a tick.
        let paced = RoundSettings { every: Duration::from_hours(1), ..RoundSettings::default() };
        let rounds = Arc::new(Rounds::new(ledger.clone(), store.clone(), clock, paced));
        let keys = Arc::new(Keys::new(store.clone(), clock, KeySettings::default()));
        let parts = GateParts {
            ledger: ledger.clone(),
            rounds: rounds.clone(),
            keys: keys.clone(),
            catalogue: catalogue.clone(),
            session: session(),
            clock,
        };
        // A busy machine may take longer than a request would wait.
        let patient = GateSettings { pool_wait: Duration::from_secs(20), ..GateSettings::default() };
        let accounts = Accounts { store, catalogue, ledger, rounds: rounds.clone(), keys: keys.clone(), clock };
        Self { gate: Gate::new(parts, patient), accounts, rounds, keys }
    }

    /// Runs `test` beside the loops.
    async fn run<T>(&self, test: impl Future<Output = T>) -> T {
        tokio::select! {
            tested = test => tested,
            () = self.rounds.run(std::future::pending()) => unreachable!("never told to stop"),
            () = self.keys.run(std::future::pending()) => unreachable!("never told to stop"),
        }
    }

    async fn with_credit(&self, account: &str, dollars: i64) {
        let terms = Terms { payment_method: true, billing_profile: true, ..Terms::default() };
        self.accounts.create(account, terms, false).await.unwrap();
        if dollars > 0 {
            self.accounts.add_credits(purchase(account, dollars)).await.unwrap();
        }
    }
}

fn embedded(folder: &tempfile::TempDir) -> Arc<Embedded> {
    let store = Embedded::open(&folder.path().join("store.redb"), Rules::default(), || Clock.now());
    Arc::new(store.unwrap())
}

/// Runs a test on one thread against a store file of its own.
fn with_sidecar<F: Future<Output = ()>>(test: impl FnOnce(Arc<Sidecar>, Arc<Embedded>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = embedded(&folder);
    let sidecar = Arc::new(Sidecar::new(store.clone()));
    runtime().block_on(sidecar.run(test(sidecar.clone(), store)));
}

fn purchase(account: &str, dollars: i64) -> Purchase {
    let amount = Credit::from_nanos(dollars * 1_000_000_000);
    Purchase {
        account: account.into(),
        id: format!("{account}-{dollars}"),
        amount,
        kind: CreditKind::Purchased,
        papers: Papers::default(),
    }
}

const USED: Usage = Usage { prompt: 1_000, cached: 0, generated: 100 };

fn reason(answer: &Answer) -> Option<Reason> {
    match answer.verdict {
        Verdict::Admitted(_) => None,
        Verdict::Denied(denial) => Some(denial.reason),
    }
}

#[test]
fn an_account_that_nobody_created_is_unknown() {
    with_sidecar(async |sidecar, _| {
        for number in 0..3 {
            assert_eq!(reason(&sidecar.gate.check(&ask("nobody", number)).await), Some(Reason::UnknownAccount));
        }
        assert_eq!(reason(&sidecar.gate.explain(&ask("nobody", 9)).await.answer), Some(Reason::UnknownAccount));
        assert_eq!(reason(&sidecar.gate.explain(&ask("no-one", 9)).await.answer), Some(Reason::UnknownAccount));
    });
}

#[test]
fn a_first_ask_is_admitted_in_the_round_it_waits_for() {
    with_sidecar(async |sidecar, store| {
        sidecar.with_credit("acme", 10).await;
        assert_eq!(reason(&sidecar.gate.check(&ask("acme", 1)).await), None);
        let ended = sidecar.gate.settle("acme", id(1), USED, None).await.unwrap();
        assert_eq!((ended.end, ended.cost), (End::Settled, Credit::from_nanos(4_500_000)));
        assert!(sidecar.rounds.farewell(Instant::now() + Duration::from_secs(20)).await);
        let record = store.account("acme".into()).await.unwrap();
        assert_eq!((record.used, record.leased), (ended.cost, Credit::ZERO));
    });
}

#[test]
fn a_hundred_first_asks_are_all_admitted() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 10).await;
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..100 {
            let sidecar = sidecar.clone();
            asking.spawn(async move { reason(&sidecar.gate.check(&ask("acme", number)).await) });
        }
        assert_eq!(asking.join_all().await, vec![None; 100]);
    });
}

#[test]
fn credit_is_spent_to_the_end_and_not_beyond() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 1).await;
        let mut admitted = 0;
        let mut last = None;
        for number in 0..70 {
            let ask = Ask { prompt: Prompt::Tokens(5_000), ..ask("acme", number) };
            last = reason(&sidecar.gate.check(&ask).await);
            admitted += i32::from(last.is_none());
        }
        // 60 holds of 0.0165 USD are 0.99 USD.
        assert_eq!((admitted, last), (60, Some(Reason::InFlight)));
    });
}

#[test]
fn credits_unblock_at_once() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 0).await;
        assert_eq!(reason(&sidecar.gate.check(&ask("acme", 1)).await), Some(Reason::CreditsDepleted));
        sidecar.accounts.add_credits(purchase("acme", 5)).await.unwrap();
        let began = Instant::now();
        while reason(&sidecar.gate.check(&ask("acme", 2)).await).is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "still blocked");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_account_created_after_it_was_asked_for_is_known_at_once() {
    with_sidecar(async |sidecar, _| {
        assert_eq!(reason(&sidecar.gate.check(&ask("acme", 1)).await), Some(Reason::UnknownAccount));
        sidecar.with_credit("acme", 5).await;
        let began = Instant::now();
        while reason(&sidecar.gate.check(&ask("acme", 2)).await).is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "still unknown");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn explaining_changes_nothing() {
    with_sidecar(async |sidecar, store| {
        sidecar.with_credit("acme", 10).await;
        assert_eq!(reason(&sidecar.gate.explain(&ask("acme", 1)).await.answer), None);
        assert_eq!(sidecar.gate.release("acme", id(1)), Err(HoldError::NotFound));
        let dear = Ask { max_tokens: Some(10_000), n: 100, ..ask("acme", 2) };
        let explained = sidecar.gate.explain(&dear).await;
        assert_eq!(reason(&explained.answer), Some(Reason::ExceedsBalance));
        let says_no = |limit: &&WhyLimit| matches!(limit.finding.says, Says::No(_));
        let against: Vec<Bound> =
            explained.why.unwrap().limits.iter().filter(says_no).map(|limit| limit.finding.bound).collect();
        assert_eq!(against, [Bound::Credit, Bound::Tokens(Metric::Generated)], "each limit speaks for itself");
        // Whatever was wanted of the pool would have been asked for by now.
        sidecar.rounds.nudge();
        sidecar.rounds.ask("acme", Instant::now() + Duration::from_secs(20)).await;
        let (record, leases) = store.inspect("acme".into()).await.unwrap();
        assert_eq!((record.used, record.leased), (Credit::ZERO, Credit::ZERO));
        assert!(leases.iter().all(|lease| lease.outstanding == Credit::ZERO), "{leases:?}");
        let (here, denials) = sidecar.gate.inspect("acme");
        let here = here.unwrap();
        assert_eq!((here.free, here.held, here.holds, here.models.len()), (Credit::ZERO, Credit::ZERO, 0, 0));
        assert_eq!(denials, []);
    });
}

#[test]
fn what_was_denied_is_remembered_for_its_account() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 1).await;
        let dear = Ask { max_tokens: Some(10_000), n: 100, user: Some("ann"), ..ask("acme", 2) };
        for _ in 0..3 {
            assert_eq!(reason(&sidecar.gate.check(&dear).await), Some(Reason::ExceedsBalance));
        }
        let (here, denials) = sidecar.gate.inspect("acme");
        assert_eq!(here.unwrap().tier, Tier::One);
        let [noted] = &denials[..] else { panic!("{denials:?}") };
        assert_eq!((noted.denial.reason, noted.count), (Reason::ExceedsBalance, 3));
        assert_eq!((&*noted.account, &*noted.model, &*noted.user), ("acme", "kimi-k3", "ann"));
        assert_eq!(sidecar.gate.inspect("other").1, []);
    });
}

#[test]
fn usage_of_an_account_that_is_not_loaded_is_booked() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 10).await;
        let fallback = Some(WithoutHold { model: "kimi-k3", service_tier: ServiceTier::Standard, user: None });
        assert_eq!(sidecar.gate.settle("acme", id(1), USED, None).await, Err(HoldError::UnknownAccount));
        let ended = sidecar.gate.settle("acme", id(1), USED, fallback).await.unwrap();
        assert_eq!(ended.cost, Credit::from_nanos(4_500_000));
        let nobody = sidecar.gate.settle("nobody", id(1), USED, fallback).await;
        assert_eq!(nobody, Err(HoldError::UnknownAccount));
    });
}

#[test]
fn without_the_store_strangers_are_unavailable_and_leases_serve_on() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(ledger());
    let sidecar = Sidecar::with_ledger(ledger.clone(), embedded(&folder));
    let away = Sidecar::with_ledger(ledger, Arc::new(Away));
    runtime().block_on(async {
        let with_store = async {
            sidecar.with_credit("acme", 10).await;
            assert_eq!(reason(&sidecar.gate.check(&ask("acme", 1)).await), None);
            sidecar.gate.release("acme", id(1)).unwrap();
        };
        sidecar.run(with_store).await;
        let without_store = async {
            let answer = away.gate.check(&ask("beta", 1)).await;
            let Verdict::Denied(denial) = answer.verdict else { panic!("nobody vouches for beta") };
            assert_eq!((denial.reason, denial.retry_after), (Reason::Unavailable, Some(Duration::from_secs(1))));
            assert_eq!(reason(&away.gate.check(&ask("acme", 2)).await), None, "the lease has room for it");
            assert_eq!(away.gate.owner_of([1; 32]).await, KeyOwner::Unavailable);
        };
        away.run(without_store).await;
    });
}

#[test]
fn without_the_store_the_failure_policy_answers_when_the_lease_is_spent() {
    for (policy, expected) in [(FailurePolicy::Closed, Some(Reason::Unavailable)), (FailurePolicy::Allowance, None)] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(ledger());
        let sidecar = Sidecar::with_ledger(ledger.clone(), embedded(&folder));
        let away = Sidecar::with_ledger(ledger, Arc::new(Away));
        let terms = Terms { payment_method: true, failure_policy: policy, ..Terms::default() };
        runtime().block_on(async {
            let with_store = async {
                sidecar.accounts.create("acme", terms, false).await.unwrap();
                sidecar.accounts.add_credits(purchase("acme", 100)).await.unwrap();
                assert_eq!(reason(&sidecar.gate.check(&ask("acme", 1)).await), None);
            };
            sidecar.run(with_store).await;
            // Far more than one lease holds, and less than the allowance.
            let large = Ask { prompt: Prompt::Tokens(200_000), ..ask("acme", 2) };
            assert_eq!(reason(&away.run(away.gate.check(&large)).await), expected, "{policy:?}");
        });
    }
}

#[test]
fn a_key_opens_its_account_until_it_is_revoked() {
    with_sidecar(async |sidecar, _| {
        sidecar.with_credit("acme", 1).await;
        assert_eq!(sidecar.gate.owner_of(digest_of("tg_guess")).await, KeyOwner::Nobody);
        let key = sidecar.accounts.create_key("acme", "laptop").await.unwrap();
        assert!(key.key.starts_with("tg_") && key.key.len() == 67, "{}", key.key);
        assert!(!format!("{key:?}").contains(&key.key));
        assert_eq!(sidecar.gate.owner_of(digest_of(&key.key)).await, KeyOwner::Account("acme".into()));
        sidecar.accounts.revoke_key("acme", &key.record.id).await.unwrap();
        assert_eq!(sidecar.gate.owner_of(digest_of(&key.key)).await, KeyOwner::Nobody);
    });
}

#[test]
fn every_answer_is_counted_under_its_reason() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place, "counters are found by this");
    }
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        crate::telemetry::describe();
        with_sidecar(async |sidecar, _| {
            sidecar.with_credit("acme", 10).await;
            sidecar.gate.check(&ask("nobody", 1)).await;
            sidecar.gate.check(&ask("acme", 1)).await;
            sidecar.gate.check(&ask("acme", 2)).await;
            sidecar.gate.settle("acme", id(1), USED, None).await.unwrap();
            sidecar.gate.owner_of([1; 32]).await;
        });
    });
    let page = recorder.handle().render();
    for line in [
        "tollgate_decisions_total{outcome=\"admitted\",reason=\"none\"} 2",
        "tollgate_decisions_total{outcome=\"denied\",reason=\"unknown_account\"} 1",
        "tollgate_decisions_total{outcome=\"shadowed\",reason=\"overloaded\"} 0",
        "tollgate_decision_seconds_count 3",
        "tollgate_settled_to_held_ratio_sum 1",
        "tollgate_keys_unknown_total 1",
        "tollgate_rounds_total{result=\"failed\"} 0",
        "tollgate_store_forgot_total 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in:\n{page}");
    }
}
