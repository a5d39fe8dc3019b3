//! Every reason of the law, reached through real calls and through a real Envoy: how accounts pay, and what stops them.

use envoy_types::pb::envoy::service::auth::v3 as theirs;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use serde_json::{Value, json};
use tollgate::transport::proto::tollgate as api;
use tonic::Code;

use crate::harness::redis::Redis;
use crate::harness::sidecar::{channel, payer};
use crate::harness::{Envoy, Request, Sidecar, Upstream, eventually};

/// How an account is set up, what it asks, and which reason it is told.
struct Case {
    account: &'static str,
    terms: api::TermsChange,
    /// The catalogue's starter credit.
    starter: bool,
    /// USD; none if empty.
    purchased: &'static str,
    before: Before,
    model: &'static str,
    max_tokens: u32,
    reason: &'static str,
}

/// What was done before the ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// So many generated tokens of kimi-k3 were settled, at $15 a million.
    Spent(u32),
    /// The same ask runs already.
    Held,
    /// The same ask was made until it was denied, and all of them run.
    Flooded,
}

/// What each reason looks like, as law.md has it: HTTP, gRPC, error code, whether waiting helps, and what stands in the body.
type Row = (&'static str, u16, Code, &'static str, bool, &'static [&'static str]);

const MONEY: &[&str] = &["requested"];
const AFFORDABLE: &[&str] = &["requested", "affordable_max_tokens"];
const MONTH: &[&str] = &["limit", "used", "requested", "resets_at"];
const RATE: &[&str] = &["limit", "used", "requested"];

const TABLE: &[Row] = &[
    ("invalid_request", 400, Code::InvalidArgument, "invalid_request_error", false, &[]),
    ("unknown_account", 401, Code::Unauthenticated, "", false, &[]),
    ("abuse_block", 412, Code::FailedPrecondition, "PRECONDITION_FAILED", false, &[]),
    ("failed_payments", 412, Code::FailedPrecondition, "PRECONDITION_FAILED", false, &[]),
    ("starter_exhausted", 412, Code::FailedPrecondition, "PRECONDITION_FAILED", false, MONEY),
    ("monthly_limit", 412, Code::FailedPrecondition, "MONTHLY_SPEND_LIMIT_EXCEEDED", false, MONTH),
    (
        "exceeds_month_room",
        402,
        Code::FailedPrecondition,
        "PAYMENT_REQUIRED",
        false,
        &["limit", "used", "requested", "resets_at", "affordable_max_tokens"],
    ),
    ("credits_depleted", 412, Code::FailedPrecondition, "CREDIT_DEPLETED", false, MONEY),
    ("exceeds_balance", 402, Code::FailedPrecondition, "PAYMENT_REQUIRED", false, AFFORDABLE),
    (
        "exceeds_limit",
        429,
        Code::FailedPrecondition,
        "REQUEST_TOO_LARGE_FOR_LIMIT",
        false,
        &["limit", "used", "requested", "affordable_max_tokens"],
    ),
    ("topup_pending", 402, Code::ResourceExhausted, "PAYMENT_REQUIRED", true, MONEY),
    ("in_flight", 402, Code::ResourceExhausted, "PAYMENT_REQUIRED", true, MONEY),
    ("requests_per_minute", 429, Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED", true, RATE),
    ("prompt_tokens_per_minute", 429, Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED", true, RATE),
    ("uncached_prompt_tokens_per_minute", 429, Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED", true, RATE),
    ("generated_tokens_per_minute", 429, Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED", true, RATE),
    ("overloaded", 503, Code::Unavailable, "SERVICE_OVERLOADED", true, &[]),
    ("unavailable", 503, Code::Unavailable, "ADMISSION_UNAVAILABLE", true, &[]),
];

const MODEL: &str = "gpt-oss-120b";
/// A little more than a dollar of kimi-k3.
const DOLLAR: u32 = 66_667;

fn case(account: &'static str, reason: &'static str) -> Case {
    Case {
        account,
        terms: payer(),
        starter: false,
        purchased: "10",
        before: Before::Nothing,
        model: MODEL,
        max_tokens: 10,
        reason,
    }
}

fn usd(amount: &str) -> Option<String> {
    Some(amount.to_owned())
}

fn suspended(suspension: api::Suspension) -> api::TermsChange {
    api::TermsChange { suspension: Some(suspension.into()), ..payer() }
}

/// Pays later, up to $50 of debt.
fn later(mode: api::Mode, monthly_limit: Option<&str>) -> api::TermsChange {
    let monthly_limit = monthly_limit.map(str::to_owned);
    api::TermsChange { mode: Some(mode.into()), credit_line: usd("50"), monthly_limit, ..payer() }
}

fn limits(prompt: u64, uncached_prompt: u64, generated: u64) -> api::TermsChange {
    let limits = api::TokenLimits { prompt, uncached_prompt, generated };
    api::TermsChange { custom_limits: [(MODEL.to_owned(), limits)].into(), ..payer() }
}

/// How accounts pay, from prepaid to contract, and why they are stopped.
fn of_money() -> Vec<Case> {
    let none = api::TermsChange::default;
    let (postpaid, contract) = (api::Mode::Postpaid, api::Mode::Contract);
    let top_up = Some(api::TopUp { minimum: "0.5".into(), amount: "5".into(), monthly_cap: None });
    let spent = Before::Spent;
    vec![
        Case { terms: suspended(api::Suspension::Abuse), ..case("abuser", "abuse_block") },
        Case { terms: suspended(api::Suspension::FailedPayments), ..case("debtor", "failed_payments") },
        Case { terms: none(), purchased: "", ..case("never-had-any", "starter_exhausted") },
        Case { terms: none(), starter: true, purchased: "", ..case("starter", "") },
        Case {
            terms: none(),
            starter: true,
            purchased: "",
            before: spent(DOLLAR),
            ..case("guest", "starter_exhausted")
        },
        Case { starter: true, purchased: "", before: spent(DOLLAR), ..case("new-payer", "credits_depleted") },
        Case { purchased: "1", before: spent(DOLLAR), ..case("prepaid", "credits_depleted") },
        Case { purchased: "0.002", max_tokens: 100_000, ..case("poor", "exceeds_balance") },
        Case { purchased: "1", before: spent(DOLLAR), terms: later(postpaid, None), ..case("owes", "") },
        Case {
            purchased: "",
            before: spent(50 * DOLLAR),
            terms: later(contract, None),
            ..case("spent", "credits_depleted")
        },
        Case { before: spent(DOLLAR), terms: later(postpaid, Some("1")), ..case("month", "monthly_limit") },
        // What was given counts for the month and not for the tier: $49 are paid, and the second tier needs $50.
        Case {
            starter: true,
            purchased: "40",
            before: spent(50 * DOLLAR),
            terms: later(postpaid, None),
            ..case("tier-one", "monthly_limit")
        },
        Case { purchased: "50", before: spent(50 * DOLLAR), terms: later(postpaid, None), ..case("tier-two", "") },
        Case {
            before: spent(66_000),
            terms: later(postpaid, Some("1")),
            max_tokens: 100_000,
            ..case("month-room", "exceeds_month_room")
        },
        Case { before: spent(DOLLAR), terms: later(contract, Some("1")), ..case("contract", "") },
        Case {
            purchased: "1",
            before: spent(DOLLAR),
            terms: api::TermsChange { top_up, ..payer() },
            ..case("top-up", "topup_pending")
        },
        Case {
            purchased: "0.01",
            before: Before::Held,
            max_tokens: 12_000,
            terms: limits(10_000_000, 10_000_000, 10_000_000),
            ..case("busy", "in_flight")
        },
    ]
}

fn of_requests_and_rates() -> Vec<Case> {
    let flood = |account, reason, terms| Case { terms, before: Before::Flooded, ..case(account, reason) };
    let much = 10_000_000;
    vec![
        Case { model: "no-such-model", ..case("strange", "invalid_request") },
        Case { terms: limits(much, much, 60), max_tokens: 61, ..case("small", "exceeds_limit") },
        flood("unfunded", "requests_per_minute", api::TermsChange::default()),
        flood("prompt", "prompt_tokens_per_minute", limits(6_000, much, much)),
        flood("uncached", "uncached_prompt_tokens_per_minute", limits(much, 6_000, much)),
        Case { max_tokens: 1_000, ..flood("generated", "generated_tokens_per_minute", limits(much, much, 3_000)) },
    ]
}

/// A sidecar with an Envoy before it.
struct Bench {
    sidecar: Sidecar,
    upstream: Upstream,
    envoy: Envoy,
}

impl Bench {
    async fn of(sidecar: Sidecar) -> Self {
        let upstream = Upstream::start().await;
        let envoy = Envoy::start(sidecar.check_port, &upstream).await;
        Self { sidecar, upstream, envoy }
    }

    /// Sets the case up and returns a key of its account.
    async fn set_up(&self, case: &Case) -> String {
        let mut accounts = self.sidecar.accounts().await;
        let request = api::CreateAccountRequest {
            account: case.account.into(),
            terms: Some(case.terms.clone()),
            starter_credit: case.starter,
        };
        accounts.create_account(request).await.expect("a new account");
        if !case.purchased.is_empty() {
            self.sidecar.add_credits(case.account, "first", case.purchased, api::CreditKind::Purchased).await;
        }
        let request = api::CreateApiKeyRequest { account: case.account.into(), label: "test".into() };
        let key = accounts.create_api_key(request).await.expect("a new key").into_inner().secret;
        if let Before::Spent(tokens) = case.before {
            self.spend(case.account, tokens).await;
        }
        key
    }

    /// Books usage that has no hold here, in pieces that one request can have.
    async fn spend(&self, account: &str, mut tokens: u32) {
        let mut client = self.sidecar.admission().await;
        for number in 0.. {
            let generated_tokens = tokens.min(1_000_000);
            let hold = Some(api::Hold { account: account.into(), request_id: format!("spent-{number}"), attempt: 0 });
            let usage = Some(api::Usage { generated_tokens, ..Default::default() });
            let model = "kimi-k3".to_owned();
            let settle = api::SettleRequest { hold, usage, model, ..Default::default() };
            client.settle(settle).await.expect("usage is booked");
            tokens -= generated_tokens;
            if tokens == 0 {
                break;
            }
        }
        eventually("usage in the books", async || (self.sidecar.look_up(account).await.used != "0").then_some(()))
            .await;
    }

    /// Asks by our own API until it is told the reason. What is admitted is released, unless the case floods.
    async fn admits(&self, case: &Case) {
        let mut client = self.sidecar.admission().await;
        let keeps = matches!(case.before, Before::Flooded);
        if case.before == Before::Held {
            client.admit(ask(case, "held")).await.expect("an answer");
        }
        let mut number = 0;
        let denial = eventually(case.account, async || {
            number += 1;
            let request = ask(case, &format!("r{number}"));
            let hold =
                Some(api::Hold { account: case.account.into(), request_id: request.request_id.clone(), attempt: 0 });
            match client.admit(request).await.expect("an answer").into_inner().result.expect("a result") {
                api::admit_response::Result::Denial(denial) => {
                    (denial.reason_name == case.reason).then_some(Some(denial))
                }
                api::admit_response::Result::Admitted(_) if case.reason.is_empty() => Some(None),
                api::admit_response::Result::Admitted(_) => {
                    if !keeps {
                        client.release(api::ReleaseRequest { hold }).await.expect("it is open");
                    }
                    None
                }
            }
        })
        .await;
        let Some(denial) = denial else { return };
        let (_, http, _, code, waits, _) = row(case.reason);
        assert_eq!((denial.http_status, &*denial.code), (u32::from(http), code), "{denial:?}");
        assert_eq!(denial.retry_after_ms.is_some(), waits, "{denial:?}");
        assert!(!denial.remedy.is_empty() && denial.message.len() > 20, "{denial:?}");
    }

    /// Asks as Envoy does, on the wire: the status that Envoy reads.
    async fn checks(&self, case: &Case, key: &str) {
        let mut client = AuthorizationClient::new(channel(self.sidecar.check_port).await);
        let headers = [("authorization", format!("Bearer {key}")), ("x-request-id", "of-the-proxy".to_owned())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        let http = HttpRequest { headers, body: body(case), ..Default::default() };
        let request = Some(theirs::attribute_context::Request { http: Some(http), ..Default::default() });
        let attributes = Some(theirs::AttributeContext { request, ..Default::default() });
        let answer = client.check(theirs::CheckRequest { attributes }).await.expect("an answer").into_inner();
        let (_, http, grpc, ..) = row(case.reason);
        let code = Code::from_i32(answer.status.expect("a status").code);
        assert_eq!(code, grpc, "{}", case.account);
        match answer.http_response.expect("what to tell the client") {
            HttpResponse::DeniedResponse(denied) => {
                assert_eq!(denied.status.map(|status| status.code), Some(http.into()), "{}", case.account);
            }
            // Our own trouble: Envoy's failure mode decides, and this is shown where it denies.
            other @ (HttpResponse::OkResponse(_) | HttpResponse::ErrorResponse(_)) => {
                assert_eq!(http, 503, "{}: {other:?}", case.account)
            }
        }
    }

    /// Asks through Envoy: what a client sees.
    async fn shows(&self, case: &Case, key: &str) {
        let (reason, http, _, code, waits, fields) = row(case.reason);
        let served = self.upstream.served();
        let answer = Request::post("/v1/chat/completions", body(case)).key(key).send(self.envoy.port).await;
        assert_eq!(answer.status, http, "{}: {answer}", case.account);
        let error = &answer.json()["error"];
        let code = if code.is_empty() { Value::Null } else { json!(code) };
        assert_eq!((&error["code"], &error["metadata"]["reason"]), (&code, &json!(reason)), "{answer}");
        assert_eq!(answer.header("retry-after").is_some(), waits, "{answer}");
        assert_eq!(answer.header("x-should-retry"), Some(if waits { "true" } else { "false" }), "{answer}");
        for field in ["limit", "used", "requested", "resets_at", "affordable_max_tokens"] {
            let is_there = error["metadata"][field] != Value::Null;
            assert_eq!(is_there, fields.contains(&field), "{}, {field}: {answer}", case.account);
        }
        assert_eq!(error["metadata"]["retry_after_ms"] != Value::Null, waits, "{answer}");
        assert!(error["metadata"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{answer}");
        assert_eq!(self.upstream.served(), served, "what is denied does not reach the inference server");
    }

    async fn check(&self, case: &Case) {
        let key = self.set_up(case).await;
        self.admits(case).await;
        if case.reason.is_empty() {
            let answer = Request::post("/v1/chat/completions", body(case)).key(&key).send(self.envoy.port).await;
            assert_eq!(answer.status, 200, "{}: {answer}", case.account);
        } else {
            self.checks(case, &key).await;
            self.shows(case, &key).await;
        }
    }
}

fn row(reason: &str) -> Row {
    *TABLE.iter().find(|row| row.0 == reason).unwrap_or_else(|| panic!("no row for {reason}"))
}

fn ask(case: &Case, request_id: &str) -> api::AdmitRequest {
    api::AdmitRequest {
        model: case.model.into(),
        ..crate::harness::sidecar::ask(case.account, request_id, case.max_tokens)
    }
}

/// The same for Envoy: a prompt of some 1,000 tokens.
fn body(case: &Case) -> String {
    let message = json!({"role": "user", "content": "word ".repeat(1_000)});
    json!({"model": case.model, "max_tokens": case.max_tokens, "messages": [message]}).to_string()
}

#[tokio::test]
async fn how_accounts_pay_decides_what_stops_them() {
    let bench = Bench::of(Sidecar::start().await).await;
    for case in of_money() {
        bench.check(&case).await;
    }
}

#[tokio::test]
async fn the_same_is_so_over_redis() {
    let redis = Redis::start().await;
    let bench = Bench::of(Sidecar::on(&redis.url()).await).await;
    for case in of_money() {
        bench.check(&case).await;
    }
}

#[tokio::test]
async fn rates_and_requests_have_their_reasons() {
    let bench = Bench::of(Sidecar::start().await).await;
    for case in of_requests_and_rates() {
        bench.check(&case).await;
    }
    let nobody = case("nobody", "unknown_account");
    bench.admits(&nobody).await;
    bench.checks(&nobody, "tg_nobodys").await;
    bench.shows(&nobody, "tg_nobodys").await;
}

#[tokio::test]
async fn trouble_of_ours_has_its_reasons() {
    let bench = Bench::of(Sidecar::with("bounds.holds = 1").await).await;
    bench.check(&Case { before: Before::Held, ..case("second", "overloaded") }).await;

    let bench = Bench::of(Sidecar::start().await).await;
    let cut_off = case("cut-off", "unavailable");
    let key = bench.set_up(&cut_off).await;
    bench.sidecar.program.limit_files("8192:unlimited");
    bench.admits(&cut_off).await;
    bench.checks(&cut_off, &key).await;
    bench.shows(&cut_off, &key).await;
    bench.sidecar.program.limit_files("unlimited:unlimited");
}

#[test]
fn every_reason_is_reached() {
    let cases = of_money().into_iter().chain(of_requests_and_rates());
    let mut reached: Vec<&str> = cases.map(|case| case.reason).filter(|reason| !reason.is_empty()).collect();
    reached.extend(["unknown_account", "overloaded", "unavailable"]);
    for (reason, ..) in TABLE {
        assert!(reached.contains(reason), "no case leads to {reason}");
    }
}

#[tokio::test]
async fn debt_is_paid_first_and_a_raise_resumes_what_credits_do_not() {
    let sidecar = Sidecar::start().await;
    let bench = Bench::of(sidecar).await;
    let owes = Case {
        purchased: "",
        terms: later(api::Mode::Postpaid, None),
        before: Before::Spent(DOLLAR),
        ..case("owes", "")
    };
    bench.check(&owes).await;
    let account = bench.sidecar.add_credits("owes", "second", "0.400005", api::CreditKind::Purchased).await;
    assert_eq!(account.balance, "-0.6", "$1.000005 were owed");

    let month = Case {
        terms: later(api::Mode::Postpaid, Some("1")),
        before: Before::Spent(DOLLAR),
        ..case("month", "monthly_limit")
    };
    bench.check(&month).await;
    bench.sidecar.add_credits("month", "second", "10", api::CreditKind::Purchased).await;
    bench.admits(&month).await;
    let mut accounts = bench.sidecar.accounts().await;
    let raise = |limit: &str, version| api::UpdateAccountRequest {
        account: "month".into(),
        version,
        terms: Some(api::TermsChange { monthly_limit: usd(limit), ..Default::default() }),
    };
    let version = bench.sidecar.look_up("month").await.version;
    let above = accounts.update_account(raise("51", version)).await.expect_err("above the tier's maximum");
    assert_eq!(above.code(), Code::InvalidArgument, "{above:?}");
    accounts.update_account(raise("2", version)).await.expect("within it");
    bench.admits(&Case { reason: "", ..month }).await;
}
