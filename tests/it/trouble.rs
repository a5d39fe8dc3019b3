//! When things break: the store cannot write, the sidecar freezes. What a request sees, and that it passes.

use serde_json::json;
use tollgate::transport::proto::tollgate as api;
use tonic::Code;

use crate::harness::envoy::PATIENT;
use crate::harness::sidecar::payer;
use crate::harness::{Envoy, Request, Sidecar, Upstream, eventually};
use crate::lifecycle::{spend, used_becomes};

/// Small enough that no page of the store can be written, large enough for the log.
const FULL: &str = "8192:unlimited";

#[tokio::test]
async fn leases_serve_on_while_the_disk_is_full() {
    let mut sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let known = sidecar.account("known", payer(), "10").await;
    let other = sidecar.account("other", payer(), "10").await;
    let chat = |key: &str| Request::chat(10).key(key);
    for number in 0..20 {
        spend(&sidecar, "known", &format!("r{number}")).await;
    }
    used_becomes(&sidecar, "known", "0.0042").await;
    eventually("a lease for the next requests", async || (sidecar.look_up("known").await.leased != "0").then_some(()))
        .await;

    sidecar.program.limit_files(FULL);
    let credits = api::AddCreditsRequest {
        account: "known".into(),
        purchase_id: "p1".into(),
        amount: "1".into(),
        kind: api::CreditKind::Purchased.into(),
        ..Default::default()
    };
    let refused = sidecar.accounts().await.add_credits(credits.clone()).await.expect_err("it cannot be kept");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(Request::get("/livez").send(sidecar.http_port).await.status, 200, "a restart would not help");
    for _ in 0..5 {
        let answer = chat(&known).send(envoy.port).await;
        assert_eq!(answer.status, 200, "what was leased is spent from memory: {answer}");
    }
    let answer = chat(&other).send(envoy.port).await;
    assert_eq!(answer.status, 503, "nobody can vouch, and that is no fault of the client: {answer}");
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["metadata"]["reason"]),
        (&json!("ADMISSION_UNAVAILABLE"), &json!("unavailable"))
    );
    assert!((1..=5).contains(&answer.number("retry-after")), "{answer}");
    assert_eq!(answer.header("x-should-retry"), Some("true"), "{answer}");

    sidecar.program.limit_files("unlimited:unlimited");
    eventually("an admission", async || (chat(&other).send(envoy.port).await.status == 200).then_some(())).await;
    let account = sidecar.accounts().await.add_credits(credits).await.expect("it can be kept").into_inner();
    assert_eq!(account.account.expect("an account").credits_purchased, "11", "the refused purchase was not half done");
    sidecar.program.signal("TERM");
    assert!(sidecar.program.end().await.success(), "it ends in peace");
}

#[tokio::test]
async fn trouble_passes_or_stops_as_envoy_was_told() {
    let upstream = Upstream::start().await;
    for (fails_open, status) in [("false", 503), ("true", 200)] {
        let sidecar = Sidecar::start().await;
        let change = ("failure_mode_allow: false", &*format!("failure_mode_allow: {fails_open}"));
        let envoy = Envoy::with(sidecar.check_port, &upstream, &[PATIENT, change]).await;
        let key = sidecar.account("acme", payer(), "10").await;
        sidecar.program.limit_files(FULL);
        let answer = Request::chat(10).key(&key).send(envoy.port).await;
        assert_eq!(answer.status, status, "failure_mode_allow: {fails_open}: {answer}");
        let stranger = Request::chat(10).send(envoy.port).await;
        assert_eq!(stranger.status, 401, "a denial is no trouble, and never passes: {stranger}");
    }
}

#[tokio::test]
async fn a_frozen_sidecar_is_not_waited_for() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::with(sidecar.check_port, &upstream, &[]).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let chat = Request::chat(10).key(&key);
    eventually("an admission", async || (chat.send(envoy.port).await.status == 200).then_some(())).await;
    sidecar.program.signal("STOP");
    let begin = tokio::time::Instant::now();
    let answer = chat.send(envoy.port).await;
    assert_eq!(answer.status, 503, "{answer}");
    assert!(
        begin.elapsed().as_secs() < 2,
        "Envoy gives up after a quarter of a second, not after {:?}",
        begin.elapsed()
    );
    sidecar.program.signal("CONT");
    eventually("an admission", async || (chat.send(envoy.port).await.status == 200).then_some(())).await;
}
