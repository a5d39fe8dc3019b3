//! The metrics page: valid to promtool, scraped by a real Prometheus, and true.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::prometheus::Prometheus;
use crate::harness::sidecar::{ask, payer};
use crate::harness::{Request, Sidecar, eventually, tool};

#[tokio::test]
async fn promtool_finds_nothing_to_complain_about() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    sidecar.admission().await.admit(ask("acme", "r1", 100)).await.unwrap();
    let page = Request::get("/metrics").send(sidecar.http_port).await;
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{page}");
    let mut promtool = Command::new(tool("bin/promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&page.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{}", page.text());
    assert!(!page.text().contains("acme"), "no series is named after an account");
}

#[tokio::test]
async fn prometheus_scrapes_what_happened() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    for number in 0..3 {
        client.admit(ask("acme", &format!("r{number}"), 100)).await.unwrap();
    }
    client.admit(ask("nobody", "r9", 100)).await.unwrap();
    let prometheus = Prometheus::start(sidecar.http_port).await;
    for (query, value) in [
        ("up", "1"),
        (r#"sum(tollgate_decisions_total{outcome="admitted"})"#, "3"),
        (r#"tollgate_decisions_total{outcome="denied",reason="unknown_account"}"#, "1"),
        (r#"tollgate_decisions_total{outcome="denied",reason="monthly_limit"}"#, "0"),
        ("tollgate_holds_open", "3"),
        ("sum(tollgate_decision_seconds_count)", "4"),
    ] {
        let what = format!("{query} to be {value}");
        eventually(&what, async || (prometheus.value(query).await.as_deref() == Some(value)).then_some(())).await;
    }
    let targets = prometheus.get("/api/v1/targets").await;
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
}
