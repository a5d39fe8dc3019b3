//! Requests through a real Envoy: what a client sees of each decision, and what reaches the inference server.

use serde_json::{Value, json};
use tollgate::transport::proto::tollgate as api;

use crate::harness::envoy::PATIENT;
use crate::harness::sidecar::{ask, payer};
use crate::harness::{Envoy, Request, Response, Sidecar, Upstream};

/// Who asks in a case: terms, credits purchased and given.
struct Account {
    name: &'static str,
    terms: api::TermsChange,
    purchased: &'static str,
    promotional: &'static str,
}

fn account(name: &'static str, purchased: &'static str) -> Account {
    Account { name, terms: payer(), purchased, promotional: "" }
}

fn suspended(name: &'static str, suspension: api::Suspension) -> Account {
    let terms = api::TermsChange { suspension: Some(suspension.into()), ..payer() };
    Account { name, terms, purchased: "10", promotional: "" }
}

/// One generated token a second, 60 at once.
fn slow(name: &'static str) -> Account {
    let limits = api::TokenLimits { prompt: 100_000, uncached_prompt: 100_000, generated: 60 };
    let custom_limits = [("gpt-oss-120b".to_owned(), limits)].into();
    Account { name, terms: api::TermsChange { custom_limits, ..payer() }, purchased: "10", promotional: "" }
}

#[tokio::test]
async fn what_is_admitted_tells_its_limits() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let answer = Request::chat(100).key(&key).send(envoy.port).await;
    assert_eq!(answer.status, 200, "{answer}");
    for (header, value) in [
        ("x-ratelimit-limit-requests", 6_000),
        ("x-ratelimit-remaining-requests", 5_999),
        ("x-ratelimit-limit-tokens-prompt", 3_600_000),
        ("x-ratelimit-limit-tokens-cache-adjusted-prompt", 900_000),
        ("x-ratelimit-limit-tokens-generated", 36_000),
        ("x-ratelimit-remaining-tokens-generated", 35_900),
    ] {
        assert_eq!(answer.number(header), value, "{header} in {answer}");
    }
    let remaining = answer.number("x-ratelimit-remaining-tokens-prompt");
    assert!((3_599_000..3_600_000).contains(&remaining), "the prompt is short and estimated: {answer}");
    assert!(answer.number("x-ratelimit-reset-requests") <= 60, "{answer}");
    assert_eq!(answer.header("x-ratelimit-over-limit"), Some("no"), "{answer}");
    let policy = answer.header("ratelimit-policy").expect("RateLimit-Policy");
    assert!(policy.contains("\"requests\";q=6000;w=60"), "{policy}");
    assert!(policy.contains("\"generated\";q=36000;w=60"), "{policy}");
    let nearest = answer.header("ratelimit").expect("RateLimit");
    assert!(nearest.starts_with("\"generated\";r=35900;t="), "{nearest}");
    assert_eq!(answer.header("retry-after"), None);
    assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 36), "{answer}");
    assert_eq!(answer.header("x-tollgate-account"), None, "what is ours stays inside: {answer}");
}

#[tokio::test]
async fn denials_look_as_promised() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let starter = Account { name: "starter", terms: api::TermsChange::default(), purchased: "", promotional: "" };
    let chat = Request::chat;
    for (account, request, status, kind, code, reason) in [
        (account("depleted", ""), chat(10), 412, "billing_error", json!("CREDIT_DEPLETED"), "credits_depleted"),
        (starter, chat(10), 412, "billing_error", json!("PRECONDITION_FAILED"), "starter_exhausted"),
        (
            suspended("abuser", api::Suspension::Abuse),
            chat(10),
            412,
            "billing_error",
            json!("PRECONDITION_FAILED"),
            "abuse_block",
        ),
        (
            suspended("debtor", api::Suspension::FailedPayments),
            chat(10),
            412,
            "billing_error",
            json!("PRECONDITION_FAILED"),
            "failed_payments",
        ),
        (account("poor", "0.002"), chat(100_000), 402, "billing_error", json!("PAYMENT_REQUIRED"), "exceeds_balance"),
        (slow("slow"), chat(61), 429, "rate_limit_error", json!("REQUEST_TOO_LARGE_FOR_LIMIT"), "exceeds_limit"),
        (
            account("strange", "1"),
            Request::post("/v1/completions", r#"{"model":"no-such-model"}"#),
            400,
            "invalid_request_error",
            json!("invalid_request_error"),
            "invalid_request",
        ),
        (
            account("torn", "1"),
            Request::post("/v1/completions", "not even JSON"),
            400,
            "invalid_request_error",
            json!("invalid_request_error"),
            "invalid_request",
        ),
    ] {
        let key = sidecar.account(account.name, account.terms, account.purchased).await;
        assert_eq!(account.promotional, "");
        let answer = request.key(&key).send(envoy.port).await;
        assert_eq!(answer.status, status, "{}: {answer}", account.name);
        let error = &answer.json()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!(kind), &code), "{answer}");
        assert_eq!((&error["param"], &error["metadata"]["reason"]), (&Value::Null, &json!(reason)), "{answer}");
        no_use_waiting(&answer);
    }
    assert_eq!(upstream.served(), 0, "what is denied does not reach the inference server");
}

/// A denial that waiting does not mend must not invite a retry.
fn no_use_waiting(answer: &Response) {
    let body = answer.json();
    assert_eq!(answer.header("retry-after"), None, "{answer}");
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{answer}");
    assert_eq!(body["error"]["metadata"]["retry_after_ms"], Value::Null, "{answer}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{answer}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 20), "{answer}");
}

#[tokio::test]
async fn whoever_is_not_known_is_turned_away() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let chat = || Request::chat(10);
    for request in [
        chat(),
        chat().key("tg-no-such-key"),
        chat().key(""),
        chat().key(&"k".repeat(10_000)),
        chat().header("authorization", "Basic YWNtZTphY21l"),
        chat().header("authorization", &key),
        chat().header("x-tollgate-account", "acme"),
        chat().key("tg-no-such-key").header("x-api-key", &key),
    ] {
        let answer = request.send(envoy.port).await;
        assert_eq!(answer.status, 401, "{request:?}: {answer}");
        no_use_waiting(&answer);
    }
    assert_eq!(upstream.served(), 0);
    for request in
        [chat().key(&key), chat().header("x-api-key", &key), chat().header("authorization", &format!("bearer {key}"))]
    {
        assert_eq!(request.send(envoy.port).await.status, 200, "{request:?}");
    }
}

#[tokio::test]
async fn the_affordable_bound_is_exact() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("poor", payer(), "0.002").await;
    let large = Request::chat(100_000).key(&key).send(envoy.port).await;
    assert_eq!(large.status, 402, "{large}");
    let affordable = large.json()["error"]["metadata"]["affordable_max_tokens"].as_u64().expect("a bound");
    // $0.002 buys 3,333 generated tokens; the prompt takes a few.
    assert!((3_200..3_333).contains(&affordable), "{large}");
    let above = Request::chat(affordable + 1).key(&key).send(envoy.port).await;
    assert_eq!(above.status, 402, "{above}");
    let at = Request::chat(affordable).key(&key).send(envoy.port).await;
    assert_eq!(at.status, 200, "{at}");
}

#[tokio::test]
async fn a_client_cannot_name_the_account() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    sidecar.account("victim", payer(), "10").await;
    let chosen = "11111111-2222-4333-8444-555555555555";
    let answer = Request::chat(10)
        .key(&key)
        .header("x-tollgate-account", "victim")
        .header("X-Tollgate-Hold", "stolen")
        .header("x-request-id", chosen)
        .send(envoy.port)
        .await;
    assert_eq!(answer.status, 200, "{answer}");
    let body = answer.json();
    let reached = body["echo"]["headers"].as_object().expect("headers");
    assert_eq!(reached["x-tollgate-account"], "acme", "{reached:?}");
    assert!(!reached.values().any(|value| value == "stolen" || value == "victim"), "{reached:?}");
    assert_ne!(reached["x-request-id"], chosen, "a hold's name is not the client's to choose");

    let mut client = sidecar.admission().await;
    let id = reached["x-request-id"].as_str().expect("an id").to_owned();
    for (account, known) in [("victim", false), ("acme", true)] {
        let hold = Some(api::Hold { account: account.into(), request_id: id.clone(), attempt: 0 });
        let released = client.release(api::ReleaseRequest { hold }).await;
        assert_eq!(released.is_ok(), known, "{account}: {released:?}");
    }
}

#[tokio::test]
async fn what_envoy_admits_the_inference_server_settles() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let answer = Request::chat(100).key(&key).send(envoy.port).await;
    let body = answer.json();
    let header = |name: &str| body["echo"]["headers"][name].as_str().unwrap_or_else(|| panic!("no {name}: {answer}"));
    let settle = api::SettleRequest {
        hold: Some(api::Hold {
            account: header("x-tollgate-account").into(),
            request_id: header("x-request-id").into(),
            attempt: 0,
        }),
        usage: Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 }),
        ..Default::default()
    };
    let ended = sidecar.admission().await.settle(settle).await.unwrap().into_inner().ended.unwrap();
    assert_eq!((ended.end(), ended.cost.as_str()), (api::End::Settled, "0.00021"));
    crate::lifecycle::used_becomes(&sidecar, "acme", "0.00021").await;
}

#[tokio::test]
async fn a_body_that_envoy_cut_off_is_decided_right() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let prompt = "x".repeat(400_000);
    let whole = json!({"model": "gpt-oss-120b", "max_tokens": 7, "prompt": prompt}).to_string();
    // serde_json sorts members; write the two orders out.
    let first = format!(r#"{{"model":"gpt-oss-120b","max_tokens":7,"prompt":"{prompt}"}}"#);
    let last = format!(r#"{{"prompt":"{prompt}","max_tokens":7,"model":"gpt-oss-120b"}}"#);
    assert_eq!(first.len(), whole.len());
    let post = |body: &str| Request::post("/v1/completions", body).key(&key);

    let answer = post(&first).send(envoy.port).await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.json()["echo"]["body_bytes"], first.len(), "the inference server gets all of it");
    assert_eq!(answer.number("x-ratelimit-remaining-tokens-generated"), 36_000 - 7, "{answer}");
    let left = answer.number("x-ratelimit-remaining-tokens-prompt");
    let estimated = 3_600_000 - left;
    assert!(
        (66_000..200_000).contains(&estimated),
        "all 400,000 bytes are estimated, not what Envoy showed: {estimated}"
    );

    let answer = post(&last).send(envoy.port).await;
    assert_eq!(answer.status, 400, "a model that nobody saw cannot be priced: {answer}");
    assert_eq!(answer.json()["error"]["metadata"]["reason"], "invalid_request", "{answer}");
    assert_eq!(upstream.served(), 1);
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let pipe = format!("pipe: {{path: {}}}", sidecar.socket().display());
    let tcp = "socket_address: {address: 127.0.0.1, port_value: 7300}";
    let envoy = Envoy::with(sidecar.check_port, &upstream, &[PATIENT, (tcp, &pipe)]).await;
    let key = sidecar.account("acme", payer(), "10").await;
    assert_eq!(Request::chat(10).key(&key).send(envoy.port).await.status, 200);
    assert_eq!(Request::chat(10).send(envoy.port).await.status, 401);
}

#[tokio::test]
async fn without_a_sidecar_envoy_does_as_it_was_told() {
    let upstream = Upstream::start().await;
    for (fails_open, gone) in [("false", 503), ("true", 200)] {
        let mut sidecar = Sidecar::start().await;
        let change = ("failure_mode_allow: false", &*format!("failure_mode_allow: {fails_open}"));
        let envoy = Envoy::with(sidecar.check_port, &upstream, &[PATIENT, change]).await;
        let key = sidecar.account("acme", payer(), "10").await;
        assert_eq!(Request::chat(10).key(&key).send(envoy.port).await.status, 200);
        sidecar.program.kill();
        let answer = Request::chat(10).key(&key).send(envoy.port).await;
        assert_eq!(answer.status, gone, "failure_mode_allow: {fails_open}: {answer}");
        assert_eq!(envoy.counter("http.inference.ext_authz.error").await, 1);
    }
}

#[tokio::test]
async fn other_profiles_speak_as_their_clients_expect() {
    let upstream = Upstream::start().await;
    for (profile, status, kind, code) in [
        ("openai", 429, "insufficient_quota", json!("insufficient_quota")),
        ("anthropic", 400, "invalid_request_error", Value::Null),
    ] {
        let sidecar = Sidecar::with(&format!("answer.profile = \"{profile}\"")).await;
        let envoy = Envoy::start(sidecar.check_port, &upstream).await;
        let key = sidecar.account("acme", payer(), "").await;
        let answer = Request::chat(10).key(&key).send(envoy.port).await;
        assert_eq!(answer.status, status, "{answer}");
        let error = &answer.json()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!(kind), &code), "{answer}");
        no_use_waiting(&answer);
    }
}

#[tokio::test]
async fn a_monthly_limit_pauses_and_credits_do_not_help() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let terms = api::TermsChange { monthly_limit: Some("1".into()), ..payer() };
    let key = sidecar.account("acme", terms, "10").await;
    let mut client = sidecar.admission().await;
    let dear = api::AdmitRequest { model: "kimi-k3".into(), ..ask("acme", "r1", 10) };
    let admitted = client.admit(dear).await.unwrap().into_inner();
    assert!(matches!(admitted.result, Some(api::admit_response::Result::Admitted(_))), "{admitted:?}");
    let settle = api::SettleRequest {
        hold: Some(api::Hold { account: "acme".into(), request_id: "r1".into(), attempt: 0 }),
        usage: Some(api::Usage { prompt_tokens: 10_000, cached_tokens: 0, generated_tokens: 65_000 }),
        ..Default::default()
    };
    let ended = client.settle(settle).await.unwrap().into_inner().ended.unwrap();
    assert_eq!(ended.cost, "1.005");
    for round in 0..2 {
        let answer = Request::chat(10).key(&key).send(envoy.port).await;
        assert_eq!(answer.status, 412, "{round}: {answer}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "MONTHLY_SPEND_LIMIT_EXCEEDED", "{answer}");
        assert_eq!(error["metadata"]["limit"], "1", "{answer}");
        let resets = error["metadata"]["resets_at"].as_str().unwrap_or_default();
        assert!(resets.ends_with("-01T00:00:00Z"), "{answer}");
        no_use_waiting(&answer);
        sidecar.add_credits("acme", "more", "10", api::CreditKind::Purchased).await;
    }
}
