//! Our own API, as an inference server calls it: a request from its check to its end, and every call twice.

use tollgate::transport::proto::tollgate as api;
use tonic::Code;

use crate::harness::Sidecar;
use crate::harness::sidecar::{ask, payer};

type Client = api::admission_client::AdmissionClient<tonic::transport::Channel>;

/// Admits, and fails where it is denied.
async fn admit(client: &mut Client, ask: api::AdmitRequest) -> api::Admitted {
    match client.admit(ask).await.expect("an answer").into_inner().result {
        Some(api::admit_response::Result::Admitted(admitted)) => admitted,
        other => panic!("not admitted: {other:?}"),
    }
}

/// Asks, and fails where it is admitted.
async fn denied(client: &mut Client, ask: api::AdmitRequest) -> api::Denial {
    match client.admit(ask).await.expect("an answer").into_inner().result {
        Some(api::admit_response::Result::Denial(denial)) => denial,
        other => panic!("not denied: {other:?}"),
    }
}

fn hold(account: &str, request_id: &str) -> Option<api::Hold> {
    Some(api::Hold { account: account.into(), request_id: request_id.into(), attempt: 0 })
}

fn usage(prompt_tokens: u32, cached_tokens: u32, generated_tokens: u32) -> Option<api::Usage> {
    Some(api::Usage { prompt_tokens, cached_tokens, generated_tokens })
}

fn settlement(account: &str, request_id: &str, usage: Option<api::Usage>) -> api::SettleRequest {
    api::SettleRequest { hold: hold(account, request_id), usage, ..Default::default() }
}

#[tokio::test]
async fn a_request_lives_from_admit_to_settle() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;

    let admitted = admit(&mut client, ask("acme", "r1", 100)).await;
    assert_eq!(admitted.cost, "0.00021", "1,000 x $0.15 and 100 x $0.60 per million");
    assert_eq!((admitted.max_tokens, admitted.capped, admitted.repeated), (100, false, false));
    let again = admit(&mut client, ask("acme", "r1", 100)).await;
    assert_eq!(again, api::Admitted { repeated: true, hold_life_ms: again.hold_life_ms, ..admitted });

    let report = api::ReportRequest { hold: hold("acme", "r1"), usage: usage(1_000, 400, 50) };
    for _ in 0..2 {
        assert!(client.report(report.clone()).await.unwrap().into_inner().hold_life_ms > 0);
    }

    let more = api::ExtendRequest { hold: hold("acme", "r1"), more_tokens: 100 };
    let extended = client.extend(more).await.unwrap().into_inner().result;
    let expected = api::extend_response::Result::Extension(api::Extension { max_tokens: 200 });
    assert_eq!(extended, Some(expected));

    let settle = settlement("acme", "r1", usage(1_000, 400, 150));
    let first = client.settle(settle.clone()).await.unwrap().into_inner().ended.unwrap();
    assert_eq!(first.cost, "0.000186", "600 x $0.15, 400 x $0.015 and 150 x $0.60 per million");
    assert_eq!((first.end(), first.overrun.as_str(), first.repeated), (api::End::Settled, "0", false));
    let second = client.settle(settle).await.unwrap().into_inner().ended.unwrap();
    assert_eq!(second, api::Ended { repeated: true, ..first.clone() });
    let release = api::ReleaseRequest { hold: hold("acme", "r1") };
    let released = client.release(release).await.unwrap().into_inner().ended.unwrap();
    assert_eq!(released, api::Ended { repeated: true, ..first }, "what is settled stays settled");
}

#[tokio::test]
async fn a_released_request_costs_nothing() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    admit(&mut client, ask("acme", "r1", 100)).await;
    for repeated in [false, true] {
        let release = api::ReleaseRequest { hold: hold("acme", "r1") };
        let ended = client.release(release).await.unwrap().into_inner().ended.unwrap();
        let expected = api::Ended { end: api::End::Released.into(), cost: "0".into(), overrun: "0".into(), repeated };
        assert_eq!(ended, expected);
    }
    crate::lifecycle::used_becomes(&sidecar, "acme", "0").await;
}

#[tokio::test]
async fn usage_above_the_hold_is_booked_in_full() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    admit(&mut client, ask("acme", "r1", 100)).await;
    let settle = settlement("acme", "r1", usage(1_000, 0, 1_100));
    let ended = client.settle(settle).await.unwrap().into_inner().ended.unwrap();
    assert_eq!((ended.cost.as_str(), ended.overrun.as_str()), ("0.00081", "0.0006"));
    crate::lifecycle::used_becomes(&sidecar, "acme", "0.00081").await;
}

#[tokio::test]
async fn usage_without_a_hold_is_booked_by_its_model() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    admit(&mut client, ask("acme", "r1", 100)).await;
    let unknown = settlement("acme", "r2", usage(1_000, 0, 100));
    let refused = client.settle(unknown.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let named = api::SettleRequest { model: "gpt-oss-120b".into(), ..unknown };
    for repeated in [false, true] {
        let ended = client.settle(named.clone()).await.unwrap().into_inner().ended.unwrap();
        assert_eq!((ended.cost.as_str(), ended.repeated), ("0.00021", repeated));
    }
}

#[tokio::test]
async fn explain_answers_like_admit_and_changes_nothing() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    admit(&mut client, ask("acme", "r1", 100)).await;
    let held = sidecar.metric("tollgate_holds_open").await;
    for _ in 0..3 {
        let request = api::ExplainRequest { ask: Some(ask("acme", "", 100)) };
        let answer = client.explain(request).await.unwrap().into_inner().answer.unwrap();
        let Some(api::admit_response::Result::Admitted(admitted)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(admitted.cost, "0.00021");
    }
    assert_eq!(sidecar.metric("tollgate_holds_open").await.to_bits(), held.to_bits());
    let mut strange = ask("acme", "", 100);
    strange.model = "no-such-model".into();
    let request = api::ExplainRequest { ask: Some(strange) };
    let answer = client.explain(request).await.unwrap().into_inner().answer.unwrap();
    let Some(api::admit_response::Result::Denial(denial)) = answer.result else { panic!("{answer:?}") };
    assert_eq!(denial.reason(), api::Reason::InvalidRequest);
}

#[tokio::test]
async fn denials_are_answers() {
    let sidecar = Sidecar::start().await;
    sidecar.account("poor", payer(), "0.002").await;
    let mut client = sidecar.admission().await;
    let cases = [
        (ask("nobody", "r1", 100), api::Reason::UnknownAccount, 401, ""),
        (ask("poor", "r2", 100_000), api::Reason::ExceedsBalance, 402, "PAYMENT_REQUIRED"),
        (
            api::AdmitRequest { n: Some(0), ..ask("poor", "r3", 1) },
            api::Reason::InvalidRequest,
            400,
            "invalid_request_error",
        ),
    ];
    for (ask, reason, status, code) in cases {
        let denial = denied(&mut client, ask).await;
        assert_eq!((denial.reason(), denial.http_status, denial.code.as_str()), (reason, status, code), "{denial:?}");
        assert_eq!(denial.retry_after_ms, None, "waiting does not help: {denial:?}");
        assert!(!denial.message.is_empty() && !denial.remedy.is_empty(), "{denial:?}");
    }
    let capped = api::AdmitRequest { capped: true, ..ask("poor", "r4", 100_000) };
    let admitted = admit(&mut client, capped).await;
    assert_eq!((admitted.capped, admitted.max_tokens), (true, 3_083), "($0.002 - $0.00015) / $0.60 per million");
}

#[tokio::test]
async fn errors_name_the_field() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    admit(&mut client, ask("acme", "r1", 100)).await;
    for (ask, code, word) in [
        (api::AdmitRequest { who: None, ..ask("acme", "r2", 1) }, Code::InvalidArgument, "account"),
        (api::AdmitRequest { prompt: None, ..ask("acme", "r2", 1) }, Code::InvalidArgument, "prompt"),
        (ask("acme", "", 1), Code::InvalidArgument, "request_id"),
        (ask(&"a".repeat(129), "r2", 1), Code::InvalidArgument, "account"),
        (ask("acme", &"a".repeat(257), 1), Code::InvalidArgument, "request_id"),
        (ask("acme", "r1", 101), Code::AlreadyExists, "request id"),
    ] {
        let status = client.admit(ask.clone()).await.expect_err(&format!("{ask:?}"));
        assert_eq!(status.code(), code, "{ask:?}");
        assert!(status.message().contains(word), "{word} is not in {:?}", status.message());
    }
    let backwards = api::ReportRequest { hold: hold("acme", "r1"), usage: usage(1_000, 1_001, 0) };
    assert_eq!(client.report(backwards).await.unwrap_err().code(), Code::InvalidArgument);
    let nowhere = api::ReportRequest { hold: hold("acme", "r9"), usage: usage(1, 0, 0) };
    assert_eq!(client.report(nowhere).await.unwrap_err().code(), Code::NotFound);
}
