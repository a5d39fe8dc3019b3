//! Limits per minute: refused until the wait that was told is over, then admitted; asking in vain costs nothing.

use std::time::Duration;

use tokio::time::Instant;
use tollgate::transport::proto::tollgate as api;

use crate::harness::sidecar::payer;
use crate::harness::{Envoy, Request, Response, Sidecar, Upstream, eventually};

/// What a wait may be off by: two trips through Envoy and a round with the pool, on a busy machine.
const SLACK: Duration = Duration::from_millis(700);

/// Asks until it is admitted: how long that took since `denied` came.
async fn until_admitted(request: &Request, port: u16) -> Duration {
    let begin = Instant::now();
    eventually("an admission", async || {
        let answer = request.send(port).await;
        assert!(matches!(answer.status, 200 | 429), "{answer}");
        (answer.status == 200).then_some(())
    })
    .await;
    begin.elapsed()
}

/// The wait that a denial tells, after looking whether its headers and body agree.
fn told_wait(denied: &Response, reason: &str) -> Duration {
    assert_eq!(denied.status, 429, "{denied}");
    let error = &denied.json()["error"];
    assert_eq!(
        (&error["metadata"]["reason"], &error["code"]),
        (&reason.into(), &"RATE_LIMIT_EXCEEDED".into()),
        "{denied}"
    );
    assert_eq!(denied.header("x-should-retry"), Some("true"), "{denied}");
    assert_eq!(denied.header("x-ratelimit-over-limit"), Some("yes"), "{denied}");
    let wait = error["metadata"]["retry_after_ms"].as_u64().expect("a wait");
    assert_eq!(denied.number("retry-after"), wait.div_ceil(1_000).max(1), "whole seconds, rounded up: {denied}");
    Duration::from_millis(wait)
}

#[tokio::test]
async fn ten_requests_a_minute_without_a_payment_method() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("starter", api::TermsChange::default(), "").await;
    sidecar.add_credits("starter", "gift", "1", api::CreditKind::Promotional).await;
    let chat = Request::chat(10).key(&key);
    let first = until_known(&chat, envoy.port).await;
    assert_eq!(first.number("x-ratelimit-limit-requests"), 10, "{first}");
    assert_eq!(first.number("x-ratelimit-remaining-requests"), 9, "{first}");
    let mut admitted = 1;
    let denied = loop {
        let answer = chat.send(envoy.port).await;
        if answer.status != 200 {
            break answer;
        }
        admitted += 1;
    };
    told_wait(&denied, "requests_per_minute");
    let at_once = admitted;
    // The limits of a new account are in force after a round; a wait that was told before may be too short.
    let begin = Instant::now();
    let wait = eventually("limits that are in force", async || {
        let answer = chat.send(envoy.port).await;
        if answer.status == 200 {
            admitted += 1;
            return None;
        }
        let wait = told_wait(&answer, "requests_per_minute");
        (begin.elapsed() > Duration::from_secs(1)).then_some(wait)
    })
    .await;
    // What a chunk lent before the account was known may come on top, once, before the first denial or after it.
    assert!(10 <= at_once && admitted <= 11, "{at_once} were admitted at once, {admitted} in all: {denied}");
    assert!(wait <= Duration::from_secs(6), "one request drains in six seconds: {wait:?}");
    let waited = until_admitted(&chat, envoy.port).await;
    assert!(waited + SLACK >= wait && waited <= wait + SLACK, "told {wait:?}, admitted after {waited:?}");
}

/// The first answer that is no 412: credits may take a moment to be felt.
async fn until_known(request: &Request, port: u16) -> Response {
    eventually("credits that are felt", async || {
        let answer = request.send(port).await;
        (answer.status != 412).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn generated_tokens_drain_as_told() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    // 20 generated tokens a second, 1,200 at once.
    let limits = api::TokenLimits { prompt: 1_000_000, uncached_prompt: 1_000_000, generated: 1_200 };
    let custom_limits = [("gpt-oss-120b".to_owned(), limits)].into();
    let key = sidecar.account("acme", api::TermsChange { custom_limits, ..payer() }, "10").await;
    let large = Request::chat(1_200).key(&key).send(envoy.port).await;
    assert_eq!(large.status, 200, "{large}");
    assert_eq!(large.number("x-ratelimit-remaining-tokens-generated"), 0, "{large}");
    assert_eq!(large.header("x-ratelimit-over-limit"), Some("no"), "{large}");

    let small = Request::chat(60).key(&key);
    let denied = small.send(envoy.port).await;
    let wait = told_wait(&denied, "generated_tokens_per_minute");
    assert!(wait <= Duration::from_secs(3), "60 tokens drain in three seconds: {wait:?}");
    let waited = until_admitted(&small, envoy.port).await;
    assert!(waited + SLACK >= wait && waited <= wait + SLACK, "told {wait:?}, admitted after {waited:?}");
}

#[tokio::test]
async fn fast_requests_have_limits_of_their_own() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let limits = api::TokenLimits { prompt: 1_000_000, uncached_prompt: 1_000_000, generated: 60 };
    let custom_limits = [("glm-5.3".to_owned(), limits)].into();
    let key = sidecar.account("acme", api::TermsChange { custom_limits, ..payer() }, "10").await;
    let body =
        |tier: &str| format!(r#"{{"model":"glm-5.3","max_tokens":60,"service_tier":"{tier}","prompt":"Hello"}}"#);
    let post = |tier: &str| Request::post("/v1/completions", body(tier)).key(&key);
    assert_eq!(post("standard").send(envoy.port).await.status, 200);
    assert_eq!(post("standard").send(envoy.port).await.status, 429);
    let fast = post("fast").send(envoy.port).await;
    assert_eq!(fast.status, 200, "{fast}");
    assert_ne!(fast.number("x-ratelimit-limit-tokens-generated"), 60, "{fast}");
}
