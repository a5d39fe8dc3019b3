//! Auto top-up and alerts, from a sidecar that runs out of credit to a billing system that misbehaves.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tollgate::clock::Clock;
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use crate::harness::payee::{Call, Manner, Payee};
use crate::harness::program::{Program, run};
use crate::harness::redis::Redis;
use crate::harness::redises::{Cluster, certificates};
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Request, Sidecar, eventually, free_port, root, tool, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A cashier over a store that sidecars share.
struct Cashier {
    http_port: u16,
    program: Program,
    _folder: tempfile::TempDir,
}

impl Cashier {
    async fn start(store: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let (http_port, path) = (free_port(), folder.path().join("cashier.toml"));
        let config = format!("store = \"{store}\"\nlisten_http = \"127.0.0.1:{http_port}\"\n{settings}");
        fs::write(&path, config).expect("the folder is writable");
        let program = Program::start(tollgate().arg("cashier").arg("--config").arg(&path), folder.path());
        let cashier = Self { http_port, program, _folder: folder };
        eventually("a ready cashier", async || {
            let ready = Request::get("/readyz").try_send(http_port).await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
        cashier
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        let page = Request::get("/metrics").send(self.http_port).await.text();
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

/// Settings of a cashier with a payment webhook at a port, or an alerts webhook, or both.
fn hooks(payments: Option<u16>, alerts: Option<u16>, timeout: &str) -> String {
    let url = |name: &str, port: Option<u16>| {
        port.map(|port| format!("cashier.{name} = \"http://127.0.0.1:{port}/{name}\"\n")).unwrap_or_default()
    };
    let (payments, alerts) = (url("payment_url", payments), url("alerts_url", alerts));
    format!("{payments}{alerts}cashier.secret = \"{SECRET}\"\ncashier.timeout = \"{timeout}\"\n")
}

/// A payer whose credits are bought so many USD at a time.
fn topped_up(amount: &str, monthly_cap: Option<&str>) -> api::TermsChange {
    let top_up = api::TopUp { minimum: "0".into(), amount: amount.into(), monthly_cap: monthly_cap.map(Into::into) };
    api::TermsChange { top_up: Some(top_up), ..payer() }
}

/// Asks for a request that costs $0.00021 at most; why it may not run.
async fn denied(sidecar: &Sidecar, id: &str) -> Option<api::Reason> {
    let answer = sidecar.admission().await.admit(ask("acme", id, 100)).await.expect("an answer").into_inner();
    match answer.result {
        Some(Answer::Denial(denial)) => Some(denial.reason()),
        Some(Answer::Admitted(_)) => None,
        other => panic!("{other:?}"),
    }
}

async fn admits(sidecar: &Sidecar, id: &str, promised: Duration) {
    within(promised, "an admission", async || denied(sidecar, id).await.is_none().then_some(())).await;
}

/// On a machine that does other things.
const SOON: Duration = Duration::from_secs(30);
/// As promised for every node.
const PROMISED: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_yes_admits_on_every_sidecar_within_two_seconds() {
    let (redis, payee) = (Redis::start().await, Payee::start(&[Manner::WhenTold]).await);
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    let cashier = Cashier::start(&redis.url(), &hooks(Some(payee.port), None, "10s")).await;
    one.account("acme", topped_up("20", None), "").await;
    for sidecar in [&one, &other] {
        eventually("a purchase under way", async || {
            (denied(sidecar, "r").await == Some(api::Reason::TopupPending)).then_some(())
        })
        .await;
    }
    eventually("a call", async || (payee.calls().len() == 1).then_some(())).await;
    payee.tell();
    tokio::join!(admits(&one, "r1", PROMISED), admits(&other, "r2", PROMISED));
    let call = payee.calls().remove(0);
    assert_eq!(call.header("idempotency-key"), call.body["purchase_id"]);
    assert_eq!((&call.body["account"], &call.body["amount"]), (&"acme".into(), &"20".into()));
    assert_eq!(one.look_up("acme").await.credits_purchased, "20");
    let request = api::ListHistoryRequest { account: "acme".into(), ..Default::default() };
    let history = one.accounts().await.list_history(request).await.expect("a history").into_inner();
    let receipt = history.entries.iter().find(|entry| entry.kind() == api::HistoryKind::Purchase).expect("a receipt");
    assert_eq!((receipt.id.as_str().into(), &*receipt.reference), (call.body["purchase_id"].clone(), "ch_7"));
    assert_eq!(cashier.metric("tollgate_purchases_total{outcome=\"bought\"}").await, Some(1.0));
}

#[tokio::test]
async fn a_cashier_that_is_killed_while_it_buys_buys_nothing_twice() {
    let (redis, payee) = (Redis::start().await, Payee::start(&[Manner::Silence]).await);
    let sidecar = Sidecar::on(&redis.url()).await;
    let settings = hooks(Some(payee.port), None, "1s");
    let (mut first, second) =
        (Cashier::start(&redis.url(), &settings).await, Cashier::start(&redis.url(), &settings).await);
    second.program.signal("STOP");
    sidecar.account("acme", topped_up("20", None), "").await;
    denied(&sidecar, "r").await;
    eventually("the first call", async || (!payee.calls().is_empty()).then_some(())).await;
    first.program.kill();
    second.program.signal("CONT");
    admits(&sidecar, "r1", SOON).await;
    assert!(payee.calls().len() > 1, "one that died, one that booked");
    assert_eq!(payee.made().len(), 1, "both asked for the same purchase");
    assert_eq!(sidecar.look_up("acme").await.credits_purchased, "20");
}

#[tokio::test]
async fn whatever_is_no_answer_is_asked_again_under_the_same_key() {
    let manners = [Manner::Silence, Manner::Refuse(401), Manner::Half, Manner::Garbage, Manner::Twice];
    let payee = Payee::start(&manners).await;
    let sidecar = Sidecar::with(&hooks(Some(payee.port), None, "1s")).await;
    sidecar.account("acme", topped_up("20", None), "").await;
    admits(&sidecar, "r1", SOON).await;
    assert_eq!(payee.made().len(), 1);
    let bodies: Vec<String> = payee.calls().iter().map(|call| call.body.to_string()).collect();
    assert!(bodies.len() > 4 && bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(sidecar.look_up("acme").await.credits_purchased, "20");
    let unknown = Request::get("/metrics").send(sidecar.http_port).await.text();
    assert!(unknown.contains("tollgate_purchases_total{outcome=\"unknown\"} 4\n"), "{unknown}");
    let log = sidecar.program.stderr();
    assert!(log.contains("does it know cashier.secret") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn what_is_declined_waits_and_is_not_pending() {
    let (redis, payee) = (Redis::start().await, Payee::start(&[Manner::No]).await);
    let sidecar = Sidecar::on(&redis.url()).await;
    let mut cashier = Cashier::start(&redis.url(), &hooks(Some(payee.port), None, "1s")).await;
    sidecar.account("acme", topped_up("20", None), "").await;
    denied(&sidecar, "r").await;
    eventually("a decline", async || {
        (cashier.metric("tollgate_purchases_total{outcome=\"declined\"}").await == Some(1.0)).then_some(())
    })
    .await;
    eventually("no purchase under way", async || {
        (denied(&sidecar, "r").await == Some(api::Reason::CreditsDepleted)).then_some(())
    })
    .await;
    assert_eq!(sidecar.look_up("acme").await.topup_pending, None);
    assert_eq!(cashier.metric("tollgate_purchases_waiting").await, Some(1.0), "it is tried again in a minute");
    assert_eq!((payee.calls().len(), payee.made().len()), (1, 0));
    cashier.program.signal("TERM");
    assert!(cashier.program.end().await.success());
    assert!(cashier.program.stderr().contains("card expired"), "the log tells why");
}

#[tokio::test]
async fn no_more_is_bought_in_a_month_than_its_cap() {
    let payee = Payee::start(&[]).await;
    let sidecar = Sidecar::with(&hooks(Some(payee.port), None, "1s")).await;
    // So little that each purchase leaves the next one wanted.
    sidecar.account("acme", topped_up("0.0005", Some("0.0016")), "").await;
    admits(&sidecar, "r1", SOON).await;
    eventually("three purchases", async || (sidecar.look_up("acme").await.credits_purchased == "0.0015").then_some(()))
        .await;
    let mut number = 1;
    eventually("nothing left", async || {
        number += 1;
        let reason = denied(&sidecar, &format!("r{number}")).await;
        assert_ne!(reason, Some(api::Reason::TopupPending), "nothing more is wanted");
        reason
    })
    .await;
    assert_eq!(payee.made().len(), 3);
}

#[tokio::test]
async fn alerts_are_told_until_they_are_taken() {
    let (redis, hearer) = (Redis::start().await, Payee::start(&[Manner::Refuse(500)]).await);
    let sidecar = Sidecar::on(&redis.url()).await;
    let cashier = Cashier::start(&redis.url(), &hooks(None, Some(hearer.port), "1s")).await;
    let limits = api::TokenLimits { prompt: 10_000_000, uncached_prompt: 10_000_000, generated: 10_000_000 };
    let custom_limits = [("kimi-k3".to_owned(), limits)].into();
    let terms = api::TermsChange { monthly_limit: Some("1".into()), custom_limits, ..payer() };
    sidecar.account("acme", terms, "10").await;
    let budget = || {
        let is_budget = |call: &Call| call.body["type"].as_str().is_some_and(|name| name.starts_with("budget"));
        hearer.calls().into_iter().filter(is_budget).collect::<Vec<_>>()
    };
    let types = || budget().iter().map(|call| call.body["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    spend(&sidecar, 0..14, 4_000).await;
    eventually("an alert told twice", async || (types() == ["budget_80", "budget_80"]).then_some(())).await;
    // The last is settled above its hold, and above what was left of the month.
    spend(&sidecar, 14..16, 4_000).await;
    spend(&sidecar, 16..17, 1_000).await;
    eventually("another alert", async || (types() == ["budget_80", "budget_80", "budget_reached"]).then_some(())).await;
    let ids: Vec<String> = budget().iter().map(|call| call.header("idempotency-key").to_owned()).collect();
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(budget()[0].body["id"], *ids[0]);
    eventually("an empty outbox", async || {
        (cashier.metric("tollgate_events_waiting").await == Some(0.0)).then_some(())
    })
    .await;
    assert!(cashier.metric("tollgate_alerts_total{outcome=\"told\"}").await.is_some_and(|told| told > 1.0));
}

/// Holds credit for requests of so many generated tokens, and settles each at $0.06.
async fn spend(sidecar: &Sidecar, numbers: std::ops::Range<u32>, max_tokens: u32) {
    let mut client = sidecar.admission().await;
    for number in numbers {
        let id = format!("s{number}");
        client
            .admit(api::AdmitRequest { model: "kimi-k3".into(), ..ask("acme", &id, max_tokens) })
            .await
            .expect("an answer");
        let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 3_800 });
        let hold = Some(api::Hold { account: "acme".into(), request_id: id, attempt: 0 });
        client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await.expect("it is settled");
    }
}

#[tokio::test]
async fn a_cluster_has_work_on_every_server() {
    let (cluster, payee, hearer) = (Cluster::start().await, Payee::start(&[]).await, Payee::start(&[]).await);
    let sidecar = Sidecar::on(&cluster.url()).await;
    let _cashier = Cashier::start(&cluster.url(), &hooks(Some(payee.port), Some(hearer.port), "10s")).await;
    let names: Vec<String> = (0..12).map(|number| format!("a{number}")).collect();
    for name in &names {
        sidecar.account(name, topped_up("20", None), "").await;
        sidecar.admission().await.admit(ask(name, "r", 100)).await.expect("an answer");
    }
    eventually("twelve purchases", async || (payee.made().len() == names.len()).then_some(())).await;
    for name in &names {
        eventually("credits", async || (sidecar.look_up(name).await.credits_purchased == "20").then_some(())).await;
    }
    let told = || hearer.calls().iter().filter(|call| call.body["type"] == "topup_succeeded").count();
    eventually("twelve alerts", async || (told() >= names.len()).then_some(())).await;
}

#[tokio::test]
async fn the_example_takes_our_calls_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(tool("python/bin/python"));
    command.arg(root().join("examples/webhook.py")).args(["--port", &port.to_string(), "--books"]);
    command.arg(folder.path().join("books")).env("TOLLGATE_CASHIER_SECRET", SECRET);
    let example = Program::start(&mut command, folder.path());
    eventually("the example", async || example.stdout().contains("listens").then_some(())).await;
    let sidecar = Sidecar::with(&hooks(Some(port), Some(port), "10s")).await;
    sidecar.account("acme", topped_up("20", None), "").await;
    admits(&sidecar, "r1", SOON).await;
    let bought = |key: &str| example.stdout().lines().filter(|line| line.ends_with(&format!("({key})"))).count();
    assert_eq!(bought("acme.0.0"), 1, "{}", example.stdout());

    let now = Clock.now().unix.0 / 1_000;
    let body = r#"{"type":"purchase","purchase_id":"k","account":"acme","amount":"20","currency":"USD","attempt":0}"#;
    let more = body.replace("20", "2000");
    for (body, secret, sent, status) in [
        (body, "another", now, 401),
        (body, SECRET, now - 400, 401),
        (body, SECRET, now, 200),
        (body, SECRET, now, 200),
        (more.as_str(), SECRET, now, 409),
    ] {
        let request = Request::post("/", body).header("idempotency-key", "k");
        let request = request.header("tollgate-timestamp", &sent.to_string());
        let answer = request.header("tollgate-signature", &signature(secret, sent, body)).send(port).await;
        assert_eq!(answer.status, status, "{body} {secret} {sent}");
    }
    assert_eq!(bought("k"), 1, "{}", example.stdout());
}

fn signature(secret: &str, sent: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(format!("{sent}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold("v1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test]
async fn a_webhook_is_called_over_tls_where_it_can_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let payee = Payee::secure(folder.path()).await;
    let ca = folder.path().join("ca.pem").display().to_string();
    let trusting = |ca: &str| {
        let url = format!("https://127.0.0.1:{}/buy", payee.port);
        format!("cashier.payment_url = \"{url}\"\ncashier.secret = \"{SECRET}\"\ncashier.ca = \"{ca}\"\n")
    };
    let sidecar = Sidecar::with(&trusting(&ca)).await;
    sidecar.account("acme", topped_up("20", None), "").await;
    admits(&sidecar, "r1", SOON).await;
    assert_eq!(payee.made().len(), 1);

    let stranger = tempfile::tempdir().unwrap();
    certificates(stranger.path());
    let sidecar = Sidecar::with(&trusting(&stranger.path().join("ca.pem").display().to_string())).await;
    sidecar.account("acme", topped_up("20", None), "").await;
    denied(&sidecar, "r").await;
    eventually("a refusal to speak", async || {
        sidecar.program.stderr().contains("invalid peer certificate").then_some(())
    })
    .await;
    assert_eq!(payee.made().len(), 1);
}

#[test]
fn a_cashier_that_cannot_work_says_why() {
    for (args, said) in [
        (&["--store", "redis://127.0.0.1:1"][..], "set cashier.payment_url"),
        (
            &["--store", "here", "--cashier-alerts-url", "http://[::1]:1", "--cashier-secret", SECRET],
            "give `tollgate serve`",
        ),
        (&["--store", "here", "--cashier-payment-url", "http://[::1]:1"], "openssl rand -hex 32"),
        (&["--store", "here", "--cashier-payment-url", "http://pay.example"], "plain http to another machine"),
    ] {
        let (code, _, err) = run(tollgate().arg("cashier").args(args));
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(said) && !err.contains(SECRET), "{err}");
    }
}
