//! Sidecars that share accounts over a real Redis server.

use std::time::Duration;

use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer};
use crate::harness::{Sidecar, eventually, within};

/// 1,000 prompt tokens at $0.15 and 100 generated ones at $0.60 per million, in nano-USD.
const COST_NANOS: i64 = 210_000;

#[tokio::test]
async fn two_sidecars_spend_one_balance_to_the_last_request() {
    let redis = Redis::start().await;
    let (mut one, mut other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    one.account("acme", payer(), "0.02").await;
    let affordable = 20_000_000 / COST_NANOS;
    let mut admitted = [0, 0];
    eventually("a denial for lack of credit on both", async || {
        let denials = [spend(&one, &mut admitted[0], "one").await, spend(&other, &mut admitted[1], "other").await];
        denials
            .iter()
            .all(|reason| matches!(reason, Some(api::Reason::CreditsDepleted | api::Reason::ExceedsBalance)))
            .then_some(())
    })
    .await;
    assert!(admitted[0] > 0 && admitted[1] > 0, "both spend: {admitted:?}");
    assert_eq!(admitted[0] + admitted[1], affordable, "not one request more than was paid for, and none less");
    for sidecar in [&mut one, &mut other] {
        sidecar.program.signal("TERM");
        assert!(sidecar.program.end().await.success());
    }
    let third = Sidecar::on(&redis.url()).await;
    let account = third.look_up("acme").await;
    assert_eq!(
        (account.used.as_str(), account.leased.as_str()),
        ("0.01995", "0"),
        "all usage is told, all leases are back"
    );
}

/// Asks until it is denied, each request settled in full. The reason of the denial.
async fn spend(sidecar: &Sidecar, admitted: &mut i64, name: &str) -> Option<api::Reason> {
    let mut client = sidecar.admission().await;
    let id = format!("{name}-{admitted}");
    match client.admit(ask("acme", &id, 100)).await.expect("an answer").into_inner().result {
        Some(Answer::Admitted(_)) => {
            *admitted += 1;
            let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 });
            let hold = Some(api::Hold { account: "acme".into(), request_id: id, attempt: 0 });
            client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await.expect("it is settled");
            None
        }
        Some(Answer::Denial(denial)) => Some(denial.reason()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_changed_at_one_sidecar_is_true_at_the_other() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    one.account("acme", payer(), "").await;
    let mut admitted = 0;
    let denied = spend(&other, &mut admitted, "before").await;
    assert_eq!(denied, Some(api::Reason::CreditsDepleted));
    one.add_credits("acme", "second", "5", api::CreditKind::Purchased).await;
    one.add_credits("acme", "second", "5", api::CreditKind::Purchased).await;
    within(Duration::from_secs(10), "an admission after credits came", async || {
        spend(&other, &mut admitted, "after").await.is_none().then_some(())
    })
    .await;
    assert_eq!(other.look_up("acme").await.balance, "5", "a purchase that is told twice counts once");
}

#[tokio::test]
async fn leases_serve_on_while_the_server_stands_still() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on(&redis.url()).await;
    sidecar.account("acme", payer(), "5").await;
    let mut admitted = 0;
    assert_eq!(spend(&sidecar, &mut admitted, "r").await, None);
    redis.program.signal("STOP");
    assert_eq!(spend(&sidecar, &mut admitted, "r").await, None, "a lease needs no store");
    redis.program.signal("CONT");
    eventually("usage told after the server went on", async || {
        (sidecar.look_up("acme").await.used == "0.00042").then_some(())
    })
    .await;
}
