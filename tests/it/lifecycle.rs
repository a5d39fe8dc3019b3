//! Starting, stopping and dying: what a restart keeps, and how a stop treats those who are still being served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admission_client::AdmissionClient;
use tonic::transport::Channel;

use crate::harness::program::Program;
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Request, Sidecar, eventually, free_port, within};

/// Waits until so much usage has reached the store, in USD.
pub async fn used_becomes(sidecar: &Sidecar, account: &str, usd: &str) {
    eventually(&format!("{usd} used by {account}"), async || {
        (sidecar.look_up(account).await.used == usd).then_some(())
    })
    .await;
}

/// Admits and settles a request that costs $0.00021.
pub async fn spend(sidecar: &Sidecar, account: &str, request_id: &str) {
    let mut client = sidecar.admission().await;
    let answer = client.admit(ask(account, request_id, 100)).await.expect("an answer").into_inner();
    assert!(matches!(answer.result, Some(api::admit_response::Result::Admitted(_))), "{answer:?}");
    let settled = client.settle(settlement(account, request_id)).await.expect("an answer").into_inner();
    assert_eq!(settled.ended.map(|ended| ended.cost).as_deref(), Some("0.00021"));
}

fn settlement(account: &str, request_id: &str) -> api::SettleRequest {
    api::SettleRequest {
        hold: Some(api::Hold { account: account.into(), request_id: request_id.into(), attempt: 0 }),
        usage: Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_sidecar_whose_store_is_gone_ends_in_time() {
    let redis = Redis::start().await;
    let mut sidecar = Sidecar::on_with(&redis.url(), "drain = \"1s\"").await;
    sidecar.account("acme", payer(), "10").await;
    spend(&sidecar, "acme", "r1").await;
    drop(redis);
    sidecar.program.signal("TERM");
    assert!(sidecar.program.end().await.success());
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let sidecar = Sidecar::start().await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)] {
        assert_eq!(Request::get(path).send(sidecar.http_port).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_stop_says_goodbye_and_keeps_everything() {
    let mut sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    spend(&sidecar, "acme", "r1").await;
    sidecar.program.signal("TERM");
    let status = sidecar.program.end().await;
    assert!(status.success(), "{status}");
    sidecar.start_again().await;
    let account = sidecar.look_up("acme").await;
    assert_eq!((account.used.as_str(), account.leased.as_str()), ("0.00021", "0"), "usage is told, the lease returned");
    assert_eq!(account.balance, "9.99979");
    spend(&sidecar, "acme", "r2").await;
    used_becomes(&sidecar, "acme", "0.00042").await;
}

#[tokio::test]
async fn a_stop_loses_nothing_that_was_acknowledged() {
    let mut sidecar = Sidecar::start().await;
    sidecar.account("acme", tireless(), "10").await;
    let settled = Arc::new(AtomicU32::new(0));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        callers.push(tokio::spawn(spend_on(sidecar.admission().await, caller, Arc::clone(&settled))));
    }
    let busy = async || {
        let ended = callers.iter().any(tokio::task::JoinHandle::is_finished);
        (ended || settled.load(Ordering::Relaxed) > 200).then_some(())
    };
    eventually("traffic", busy).await;
    sidecar.program.signal("TERM");
    for caller in callers {
        caller.await.expect("a caller ends with an error, not a panic");
    }
    let status = sidecar.program.end().await;
    assert!(status.success(), "{status}");
    sidecar.start_again().await;
    let account = sidecar.look_up("acme").await;
    assert_eq!(account.leased, "0", "everything was returned");
    let used: Decimal = account.used.parse().expect("USD");
    let booked = (used / Decimal::new(21, 5)).to_u32().expect("a small number");
    let settled = settled.load(Ordering::Relaxed);
    assert!((settled..=settled + CALLERS).contains(&booked), "{settled} were acknowledged, {booked} are booked");
}

const CALLERS: u32 = 4;

/// Pays, and has more tokens than the callers can spend: a fast sidecar would reach the usual limit within the test.
pub fn tireless() -> api::TermsChange {
    let limits = api::TokenLimits { prompt: 200_000_000, uncached_prompt: 50_000_000, generated: 2_000_000 };
    api::TermsChange { custom_limits: [("gpt-oss-120b".into(), limits)].into(), ..payer() }
}

/// Admits and settles until the sidecar does not answer any more.
async fn spend_on(mut client: AdmissionClient<Channel>, caller: u32, settled: Arc<AtomicU32>) {
    for number in 0.. {
        let id = format!("c{caller}-{number}");
        let Ok(answer) = client.admit(ask("acme", &id, 100)).await else { return };
        let answer = answer.into_inner();
        assert!(matches!(answer.result, Some(api::admit_response::Result::Admitted(_))), "{answer:?}");
        if client.settle(settlement("acme", &id)).await.is_err() {
            return;
        }
        settled.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_stop_is_quick_where_nothing_runs() {
    let mut sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    sidecar.program.signal("TERM");
    let exit = async || sidecar.program.ended();
    let status = within(Duration::from_secs(3), "the exit", exit).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut sidecar = Sidecar::start().await;
    let key = sidecar.account("acme", payer(), "10").await;
    spend(&sidecar, "acme", "r1").await;
    used_becomes(&sidecar, "acme", "0.00021").await;
    for number in 0..20 {
        let purchase = format!("p{number}");
        sidecar.add_credits("acme", &purchase, "1", api::CreditKind::Purchased).await;
    }
    sidecar.program.kill();
    sidecar.start_again().await;
    let account = sidecar.look_up("acme").await;
    assert_eq!((account.credits_purchased.as_str(), account.used.as_str()), ("30", "0.00021"));
    let repeated = sidecar.add_credits("acme", "p19", "1", api::CreditKind::Purchased).await;
    assert_eq!(repeated.credits_purchased, "30", "a purchase still counts once");
    let mut by_key = ask("acme", "r2", 100);
    by_key.who = Some(api::admit_request::Who::ApiKey(key));
    let answer = sidecar.admission().await.admit(by_key).await.unwrap().into_inner();
    assert!(matches!(answer.result, Some(api::admit_response::Result::Admitted(_))), "{answer:?}");
}

#[tokio::test]
async fn a_second_sidecar_cannot_take_the_store() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let folder = tempfile::tempdir().unwrap();
    let free = || format!("127.0.0.1:{}", free_port());
    let mut command = tollgate();
    command.arg("serve").arg("--config").arg(sidecar.folder.path().join("tollgate.toml"));
    command.args(["--listen", &free(), "--listen-accounts", &free(), "--listen-http", &free()]);
    command.arg("--listen-unix").arg(folder.path().join("other.sock"));
    let mut second = Program::start(&mut command, folder.path());
    let status = second.end().await;
    assert!(!status.success(), "two sidecars on one file would lose each other's writes");
    assert!(second.stderr().contains("store"), "{}", second.stderr());
    sidecar.look_up("acme").await;
}
