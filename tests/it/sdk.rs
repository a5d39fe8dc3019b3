//! OpenAI's own SDK through Envoy: which exceptions people catch, and when their SDK tries again.

use std::process::Command;

use serde_json::Value;
use tollgate::transport::proto::tollgate as api;

use crate::harness::program::run;
use crate::harness::sidecar::payer;
use crate::harness::{Envoy, Sidecar, Upstream, root, tool};

/// What the SDK made of requests, each a name, a key and `max_tokens`, in order.
async fn ask(port: u16, requests: &[(&str, &str, u32)]) -> Vec<Value> {
    let mut command = Command::new(tool("python/bin/python"));
    command.arg(root().join("tests/it/sdk.py")).arg(format!("http://127.0.0.1:{port}/v1"));
    command.args(requests.iter().map(|(name, key, max_tokens)| format!("{name}={key}={max_tokens}")));
    let (code, out, err) = tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
    assert_eq!(code, 0, "{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn an_sdk_retries_where_waiting_helps_and_only_there() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    // 40 generated tokens a second: 60 are there again after 1.5 s.
    let custom = |generated| {
        let limits = api::TokenLimits { prompt: 100_000, uncached_prompt: 100_000, generated };
        api::TermsChange { custom_limits: [("gpt-oss-120b".to_owned(), limits)].into(), ..payer() }
    };
    let depleted = sidecar.account("depleted", payer(), "").await;
    let tiny = sidecar.account("tiny", custom(30), "10").await;
    let busy = sidecar.account("busy", custom(2_400), "10").await;
    let requests = [
        ("all at once", &*busy, 2_400),
        ("a little more", &busy, 60),
        ("stranger", "tg-nobody", 60),
        ("depleted", &depleted, 60),
        ("tiny", &tiny, 60),
    ];
    let told = ask(envoy.port, &requests).await;
    let [first, busy, stranger, depleted, tiny] = &told[..] else { panic!("{told:?}") };

    assert_eq!((&first["content"], &first["attempts"]), (&"Hello.".into(), &1.into()), "{first}");
    assert_eq!((&busy["content"], &busy["attempts"]), (&"Hello.".into(), &2.into()), "one wait was enough: {busy}");
    assert!(busy["waited_s"].as_f64().is_some_and(|waited| waited > 0.9), "it waited as told: {busy}");
    for (denied, error, status, code) in [
        (stranger, "AuthenticationError", 401, Value::Null),
        (depleted, "APIStatusError", 412, "CREDIT_DEPLETED".into()),
        (tiny, "RateLimitError", 429, "REQUEST_TOO_LARGE_FOR_LIMIT".into()),
    ] {
        assert_eq!((&denied["error"], &denied["status"], &denied["code"]), (&error.into(), &status.into(), &code));
        assert_eq!(denied["attempts"], 1, "waiting does not help, so nobody should: {denied}");
        assert!(denied["message"].as_str().is_some_and(|message| message.len() > 20), "{denied}");
    }
}
