//! The ports on real sockets: a request from its check to its settlement, probes, and what reflection tells.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3 as theirs;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::accounts::Operators;
use super::http::{Pages, serve_http};
use super::proto::tollgate as api;
use super::proto::tollgate::accounts_client::AccountsClient;
use super::proto::tollgate::admission_client::AdmissionClient;
use super::serve::{Health, Listener, bind_tcp, bind_unix, serve_accounts, serve_main};
use super::settings::{TransportSettings, WireSettings};
use super::wire::Wire;
use crate::clock::Clock;
use crate::decision::Catalogue;
use crate::decision::catalogue::FIREWORKS_2026_10;
use crate::gate::{Gate, GateParts, GateSettings};
use crate::ledger::{Ledger, LedgerSettings};
use crate::pool::SessionId;
use crate::reconcile::accounts::Accounts;
use crate::reconcile::embedded::Embedded;
use crate::reconcile::keys::Keys;
use crate::reconcile::store::{Rules, Store};
use crate::reconcile::{RoundSettings, Rounds};

/// A sidecar whose tasks run on the test's own runtime and end with it.
struct Sidecar {
    main: Channel,
    accounts: Channel,
    ready: watch::Sender<super::http::Unready>,
    _folder: tempfile::TempDir,
}

fn patient() -> WireSettings {
    WireSettings { call_life: Duration::from_secs(30), ..WireSettings::default() }
}

fn ledger_settings() -> LedgerSettings {
    LedgerSettings {
        workers: 1,
        accounts_max: 100,
        holds_max: 100,
        ended_max: 100,
        ended_keep: Duration::from_secs(900),
        hold_life: Duration::from_secs(300),
        hold_life_max: Duration::from_secs(3_600),
        unknown_max: 100,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(200),
        idle_bye: Duration::from_secs(3_600),
    }
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn start(wire_settings: WireSettings) -> Sidecar {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock;
    let embedded = Embedded::open(&folder.path().join("store"), Rules::default(), move || clock.now()).unwrap();
    let store: Arc<dyn Store> = Arc::new(embedded);
    let catalogue = Arc::new(Catalogue::parse(FIREWORKS_2026_10).unwrap());
    let session = SessionId { node: "test".into(), run: 1 };
    let ledger = Arc::new(Ledger::new(ledger_settings(), catalogue.clone(), session.clone()));
    let rounds = Arc::new(Rounds::new(ledger.clone(), store.clone(), clock, RoundSettings::default()));
    let keys = Arc::new(Keys::new(store.clone(), clock, crate::reconcile::keys::KeySettings::default()));
    let parts = GateParts {
        ledger: ledger.clone(),
        rounds: rounds.clone(),
        keys: keys.clone(),
        catalogue: catalogue.clone(),
        session,
        clock,
    };
    // A busy machine may take longer than a request would wait.
    let patient = GateSettings { pool_wait: Duration::from_secs(20), ..GateSettings::default() };
    let gate = Arc::new(Gate::new(parts, patient));
    let settings = TransportSettings { wire: wire_settings, ..TransportSettings::default() };
    let wire = Arc::new(Wire::new(gate.clone(), settings));
    let operators = Operators {
        accounts: Arc::new(Accounts { store, catalogue, ledger, rounds: rounds.clone(), keys: keys.clone(), clock }),
        gate,
    };

    let (ready, readiness) = watch::channel(Some("starting".into()));
    let health = Health::unready().await;
    let (main, accounts) = (bind_tcp(loopback(), true).unwrap(), bind_tcp(loopback(), false).unwrap());
    let addresses = (main.local_addr().unwrap(), accounts.local_addr().unwrap());
    let (main_health, follower) = (health.clone(), health.clone());
    tokio::spawn(async move { rounds.run(std::future::pending()).await });
    tokio::spawn(async move { keys.run(std::future::pending()).await });
    tokio::spawn(async move { follower.follow(readiness).await });
    tokio::spawn(async move { serve_main(wire, &main_health, Listener::Tcp(main), std::future::pending()).await });
    tokio::spawn(
        async move { serve_accounts(operators, &wire_settings, &health, accounts, std::future::pending()).await },
    );
    Sidecar { main: channel(addresses.0).await, accounts: channel(addresses.1).await, ready, _folder: folder }
}

impl Sidecar {
    /// An account with credits, and a key of it.
    async fn account(&self, name: &str, usd: &str) -> String {
        let mut accounts = AccountsClient::new(self.accounts.clone());
        let terms = api::TermsChange { payment_method: Some(true), billing_profile: Some(true), ..Default::default() };
        let create = api::CreateAccountRequest { account: name.into(), terms: Some(terms), ..Default::default() };
        accounts.create_account(create).await.unwrap();
        let credits = api::AddCreditsRequest {
            account: name.into(),
            purchase_id: "p1".into(),
            amount: usd.into(),
            kind: api::CreditKind::Purchased.into(),
            ..Default::default()
        };
        accounts.add_credits(credits).await.unwrap();
        let key = api::CreateApiKeyRequest { account: name.into(), label: "test".into() };
        accounts.create_api_key(key).await.unwrap().into_inner().secret
    }

    async fn check(&self, key: &str, request_id: &str, body: &str) -> HttpResponse {
        let bearer = format!("Bearer {key}");
        let headers =
            [("authorization", &*bearer), ("x-request-id", request_id), ("x-tollgate-account", "somebody-else")];
        let headers = headers.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let http = HttpRequest { headers, body: body.into(), ..Default::default() };
        let request = Some(theirs::attribute_context::Request { http: Some(http), ..Default::default() });
        let attributes = Some(theirs::AttributeContext { request, ..Default::default() });
        let mut client = AuthorizationClient::new(self.main.clone());
        client.check(theirs::CheckRequest { attributes }).await.unwrap().into_inner().http_response.unwrap()
    }
}

fn value_of<'a>(headers: &'a [HeaderValueOption], name: &str) -> Option<&'a str> {
    let mut headers = headers.iter().filter_map(|option| option.header.as_ref());
    headers.find(|header| header.key == name).map(|header| header.value.as_str())
}

const BODY: &str = r#"{"model":"gpt-oss-120b","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_request_is_checked_and_settled() {
    let sidecar = start(patient()).await;
    let key = sidecar.account("acme", "10").await;
    let HttpResponse::OkResponse(ok) = sidecar.check(&key, "r1", BODY).await else { panic!("it may run") };
    assert_eq!(value_of(&ok.headers, "x-tollgate-account").unwrap(), "acme");
    assert_eq!(value_of(&ok.headers, "x-tollgate-request-id").unwrap(), "r1");
    assert_eq!(value_of(&ok.headers, "x-tollgate-max-tokens").unwrap(), "100");
    assert_eq!(value_of(&ok.response_headers_to_add, "x-ratelimit-remaining-requests").unwrap(), "5999");

    let mut admission = AdmissionClient::new(sidecar.main.clone());
    let hold = Some(api::Hold { account: "acme".into(), request_id: "r1".into(), attempt: 0 });
    let usage = Some(api::Usage { prompt_tokens: 20, cached_tokens: 0, generated_tokens: 100 });
    let settle = api::SettleRequest { hold: hold.clone(), usage, ..Default::default() };
    let ended = admission.settle(settle.clone()).await.unwrap().into_inner().ended.unwrap();
    // 20 prompt tokens at $0.15 and 100 generated ones at $0.60 for a million.
    assert_eq!((ended.cost.as_str(), ended.end(), ended.repeated), ("0.000063", api::End::Settled, false));
    assert!(admission.settle(settle).await.unwrap().into_inner().ended.unwrap().repeated);
    let late = admission.release(api::ReleaseRequest { hold }).await.unwrap().into_inner().ended.unwrap();
    assert_eq!((late.end(), late.repeated), (api::End::Settled, true), "the first end stays");
}

#[tokio::test]
async fn a_request_is_turned_away_with_its_reason() {
    let sidecar = start(patient()).await;
    let key = sidecar.account("acme", "0.001").await;
    let dear = BODY.replace("100", "10000");
    for (key, body, http, reason) in [
        (key.as_str(), dear.as_str(), 402, "exceeds_balance"),
        ("nobodys", BODY, 401, "unknown_account"),
        (&key, r#"{"model":"no-such"}"#, 400, "invalid_request"),
        (&key, "{}", 400, "invalid_request"),
    ] {
        let HttpResponse::DeniedResponse(denied) = sidecar.check(key, "", body).await else { panic!("{reason}") };
        let said: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
        assert_eq!(denied.status.unwrap().code, http, "{said}");
        assert_eq!(said["error"]["metadata"]["reason"], reason, "{said}");
    }
}

#[tokio::test]
async fn our_own_api_answers_and_explains() {
    let sidecar = start(patient()).await;
    let key = sidecar.account("acme", "10").await;
    let mut admission = AdmissionClient::new(sidecar.main.clone());
    let ask = api::AdmitRequest {
        who: Some(api::admit_request::Who::ApiKey(key)),
        model: "gpt-oss-120b".into(),
        prompt: Some(api::admit_request::Prompt::PromptTokens(1_000)),
        max_tokens: Some(100),
        request_id: "r1".into(),
        ..Default::default()
    };
    let answer = admission.admit(ask.clone()).await.unwrap().into_inner();
    let limits = answer.limits.unwrap();
    assert_eq!(limits.requests.unwrap().per_minute, 6_000);
    assert_eq!(limits.generated_tokens.unwrap().per_minute, 36_000);
    assert_eq!(answer.balance, None, "balances are not shown");
    let Some(api::admit_response::Result::Admitted(admitted)) = answer.result else { panic!() };
    assert_eq!((admitted.account.as_str(), admitted.cost.as_str(), admitted.max_tokens), ("acme", "0.00021", 100));
    let unknown = api::AdmitRequest { model: "no-such".into(), request_id: String::new(), ..ask.clone() };
    let explained = admission.explain(api::ExplainRequest { ask: Some(unknown) }).await.unwrap().into_inner();
    let explained = explained.answer.unwrap().result;
    let Some(api::admit_response::Result::Denial(denial)) = explained else { panic!("{explained:?}") };
    assert_eq!((denial.reason(), denial.http_status), (api::Reason::InvalidRequest, 400), "{denial:?}");

    let other = api::AdmitRequest { max_tokens: Some(99), ..ask.clone() };
    assert_eq!(admission.admit(other).await.unwrap_err().code(), Code::AlreadyExists);
    for (ask, part) in [
        (api::AdmitRequest { who: None, ..ask.clone() }, "account"),
        (api::AdmitRequest { prompt: None, ..ask.clone() }, "prompt_tokens"),
        (api::AdmitRequest { request_id: String::new(), ..ask.clone() }, "request_id"),
        (api::AdmitRequest { model: String::new(), ..ask.clone() }, "model"),
        (api::AdmitRequest { service_tier: 99, ..ask }, "service_tier"),
    ] {
        let status = admission.admit(ask).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{}", status.message());
    }
}

#[tokio::test]
async fn too_much_at_once_is_overloaded() {
    let sidecar = start(WireSettings { asks_max: 0, ..patient() }).await;
    let HttpResponse::DeniedResponse(denied) = sidecar.check("k", "r1", BODY).await else { panic!("no room") };
    assert_eq!(denied.status.unwrap().code, 503);
    assert_eq!(value_of(&denied.headers, "retry-after").unwrap(), "1");
}

#[tokio::test]
async fn health_follows_readiness() {
    let sidecar = start(patient()).await;
    let mut health = HealthClient::new(sidecar.main.clone());
    let request = HealthCheckRequest { service: "envoy.service.auth.v3.Authorization".into() };
    let mut states = health.watch(request).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    sidecar.ready.send_replace(None);
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    sidecar.ready.send_replace(Some("draining".into()));
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn reflection_tells_of_our_own_service_on_each_port() {
    let sidecar = start(patient()).await;
    for (port, ours) in [(&sidecar.main, "tollgate.v1.Admission"), (&sidecar.accounts, "tollgate.v1.Accounts")] {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let mut client = ServerReflectionClient::new(port.clone());
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert_eq!(names, [ours, "grpc.reflection.v1.ServerReflection"]);
    }
}

#[tokio::test]
async fn the_http_port_has_probes_and_metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || metrics::gauge!("shown").set(1.0));
    let (ready, readiness) = watch::channel(Some("the store was never reached".into()));
    let listener = bind_tcp(loopback(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let (_warn, warnings) = watch::channel(vec!["slow disk".into()]);
    let pages = Pages { metrics: handle, ready: readiness, warnings };
    tokio::spawn(serve_http(pages, listener, std::future::pending()));
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let got = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        got.await.unwrap()
    };
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    let unready = get("/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("the store was never reached"), "{unready}");
    ready.send_replace(None);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("shown 1"), "{metrics}");
    assert!(get("/other").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_unix_socket_is_taken_over_only_from_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let first = bind_unix(&path).unwrap();
    assert!(bind_unix(&path).is_err(), "somebody listens");
    drop(first);
    drop(bind_unix(&path).expect("nobody listens"));
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(bind_unix(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
