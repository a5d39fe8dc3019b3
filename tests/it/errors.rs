//! What a program reads of a failed call: every field at fault, the reason, and whether to come back.

use tollgate::transport::proto::tollgate as api;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::Sidecar;
use crate::harness::sidecar::{ask, payer};

/// The fields at fault, in order, of a request that is told of all of them at once.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!((status.code(), &*reason(status)), (Code::InvalidArgument, "INVALID_REQUEST"), "{status:?}");
    let faults = status.get_details_bad_request().expect("google.rpc.BadRequest").field_violations;
    for fault in &faults {
        assert!(status.message().contains(&format!("{}: {}", fault.field, fault.description)), "{status:?}");
    }
    faults.into_iter().map(|fault| fault.field).collect()
}

/// `google.rpc.ErrorInfo`, which every failure has.
fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("google.rpc.ErrorInfo");
    assert_eq!(info.domain, "tollgate", "{status:?}");
    info.reason
}

fn failed<T: std::fmt::Debug>(result: Result<tonic::Response<T>, Status>) -> Status {
    result.expect_err("it cannot be done")
}

#[tokio::test]
async fn every_fault_of_a_request_is_told_at_once() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "").await;
    let mut accounts = sidecar.accounts().await;
    let (strange, wrong) = ("no name".to_owned(), "1e3".to_owned());
    let top_up = api::TopUp { minimum: "-".into(), amount: "0.0000000001".into(), monthly_cap: Some("x".into()) };
    let terms = api::TermsChange {
        suspension: Some(99),
        monthly_limit: Some("1.5".into()),
        credit_line: Some(wrong.clone()),
        top_up: Some(top_up),
        custom_limits: [("no-such-model".to_owned(), api::TokenLimits::default())].into(),
        ..Default::default()
    };
    let of_terms = [
        "terms.suspension",
        "terms.credit_line",
        "terms.top_up.minimum",
        "terms.top_up.amount",
        "terms.top_up.monthly_cap",
    ];
    let of_values = ["terms.monthly_limit", "terms.custom_limits"];
    let create =
        api::CreateAccountRequest { account: strange.clone(), terms: Some(terms.clone()), starter_credit: false };
    let status = failed(accounts.create_account(create).await);
    assert_eq!(fields(&status), [&of_terms[..], &["account"], &of_values[..]].concat());

    let update = api::UpdateAccountRequest { account: "acme".into(), version: 0, terms: Some(terms.clone()) };
    let status = failed(accounts.update_account(update).await);
    assert_eq!(fields(&status), [&["version"], &of_terms[..], &of_values[..]].concat());
    let update = api::UpdateAccountRequest { account: strange.clone(), version: 0, terms: None };
    assert_eq!(fields(&failed(accounts.update_account(update).await)), ["account", "version", "terms"]);

    let credits = api::AddCreditsRequest {
        account: strange.clone(),
        purchase_id: String::new(),
        amount: wrong,
        kind: 0,
        ..Default::default()
    };
    let status = failed(accounts.add_credits(credits).await);
    assert_eq!(fields(&status), ["kind", "amount", "account", "purchase_id"]);
    let account = strange.clone();
    assert_eq!(fields(&failed(accounts.get_account(api::GetAccountRequest { account }).await)), ["account"]);
    let request = api::CreateApiKeyRequest { account: strange.clone(), label: "\n".into() };
    assert_eq!(fields(&failed(accounts.create_api_key(request).await)), ["account", "label"]);
    let request = api::ListApiKeysRequest { account: strange.clone() };
    assert_eq!(fields(&failed(accounts.list_api_keys(request).await)), ["account"]);
    let request = api::RevokeApiKeyRequest { account: strange, id: String::new() };
    assert_eq!(fields(&failed(accounts.revoke_api_key(request).await)), ["account", "id"]);
}

#[tokio::test]
async fn an_inference_server_hears_of_every_fault_too() {
    let sidecar = Sidecar::start().await;
    let mut client = sidecar.admission().await;
    let nothing = api::AdmitRequest { user: "\n".into(), service_tier: 77, ..Default::default() };
    let all = ["who", "model", "user", "prompt", "service_tier"];
    let status = failed(client.admit(nothing.clone()).await);
    assert_eq!(fields(&status), [&["request_id"], &all[..]].concat());
    let status = failed(client.explain(api::ExplainRequest { ask: Some(nothing) }).await);
    assert_eq!(fields(&status), all.map(|field| format!("ask.{field}")));
    assert_eq!(fields(&failed(client.explain(api::ExplainRequest { ask: None }).await)), ["ask"]);

    let hold = Some(api::Hold { account: "no name".into(), request_id: String::new(), attempt: 0 });
    let of_hold = ["hold.account", "hold.request_id"];
    let status = failed(client.report(api::ReportRequest { hold: hold.clone(), usage: None }).await);
    assert_eq!(fields(&status), [&of_hold[..], &["usage"]].concat());
    let status = failed(client.extend(api::ExtendRequest { hold: hold.clone(), more_tokens: 0 }).await);
    assert_eq!(fields(&status), [&of_hold[..], &["more_tokens"]].concat());
    let settle = api::SettleRequest { hold: hold.clone(), service_tier: 77, ..Default::default() };
    assert_eq!(fields(&failed(client.settle(settle).await)), [&of_hold[..], &["service_tier", "usage"]].concat());
    assert_eq!(fields(&failed(client.release(api::ReleaseRequest { hold }).await)), of_hold);
    assert_eq!(fields(&failed(client.release(api::ReleaseRequest { hold: None }).await)), ["hold"]);

    sidecar.account("acme", payer(), "10").await;
    client.admit(ask("acme", "r1", 10)).await.expect("an answer");
    let hold = Some(api::Hold { account: "acme".into(), request_id: "r1".into(), attempt: 0 });
    let usage = Some(api::Usage { prompt_tokens: 1, cached_tokens: 2, generated_tokens: 0 });
    let status = failed(client.report(api::ReportRequest { hold, usage }).await);
    assert_eq!(fields(&status), ["usage.cached_tokens"]);
}

#[tokio::test]
async fn every_failure_has_a_reason_and_tells_whether_to_come_back() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let (mut accounts, mut client) = (sidecar.accounts().await, sidecar.admission().await);
    let create = api::CreateAccountRequest { account: "acme".into(), terms: None, starter_credit: false };
    let (acme, nobody) = ("acme".to_owned(), "nobody".to_owned());
    let credits = |amount: &str, id: &str| api::AddCreditsRequest {
        account: "acme".into(),
        purchase_id: id.into(),
        amount: amount.into(),
        kind: api::CreditKind::Purchased.into(),
        ..Default::default()
    };
    let refund = |amount: &str, of: &str| api::AddCreditsRequest {
        kind: api::CreditKind::Refund.into(),
        refund_of: of.into(),
        ..credits(amount, "4")
    };
    let change = api::UpdateAccountRequest { account: acme.clone(), version: 77, terms: Some(payer()) };
    let revoke = api::RevokeApiKeyRequest { account: acme, id: "k".into() };
    client.admit(ask("acme", "r1", 10)).await.expect("an answer");
    client.admit(ask("acme", "r2", 10)).await.expect("an answer");
    let hold = |id: &str| Some(api::Hold { account: "acme".into(), request_id: id.into(), attempt: 0 });
    client.release(api::ReleaseRequest { hold: hold("r2") }).await.expect("it is open");
    let report = |id: &str| api::ReportRequest { hold: hold(id), usage: Some(api::Usage::default()) };
    let statuses = [
        (failed(accounts.create_account(create).await), Code::AlreadyExists, "ACCOUNT_EXISTS"),
        (
            failed(accounts.get_account(api::GetAccountRequest { account: nobody }).await),
            Code::NotFound,
            "NO_SUCH_ACCOUNT",
        ),
        (failed(accounts.update_account(change).await), Code::Aborted, "VERSION_CONFLICT"),
        (failed(accounts.add_credits(credits("11", "first")).await), Code::AlreadyExists, "PURCHASE_DIFFERS"),
        (failed(accounts.add_credits(credits("999999999", "2")).await), Code::FailedPrecondition, "TOO_MUCH_CREDIT"),
        (failed(accounts.add_credits(refund("1", "4")).await), Code::NotFound, "NO_SUCH_PURCHASE"),
        (failed(accounts.add_credits(refund("11", "first")).await), Code::FailedPrecondition, "REFUND_TOO_LARGE"),
        (failed(accounts.revoke_api_key(revoke).await), Code::NotFound, "NO_SUCH_KEY"),
        (failed(client.admit(ask("acme", "r1", 11)).await), Code::AlreadyExists, "REQUEST_ID_REUSED"),
        (failed(client.report(report("r3")).await), Code::NotFound, "NO_SUCH_HOLD"),
        (failed(client.report(report("r2")).await), Code::FailedPrecondition, "HOLD_ENDED"),
    ];
    for (status, code, named) in statuses {
        assert_eq!((status.code(), &*reason(&status)), (code, named), "{status:?}");
        assert!(status.get_details_retry_info().is_none(), "waiting does not help: {status:?}");
    }
    sidecar.program.limit_files("8192:unlimited");
    let status = failed(accounts.add_credits(credits("1", "3")).await);
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "STORE_UNAVAILABLE"), "{status:?}");
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{status:?}");
    sidecar.program.limit_files("unlimited:unlimited");
}
