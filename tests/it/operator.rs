//! What an operator types and sees: the account command, its live view, and why a request is admitted or denied.

use std::process::Command;

use serde_json::Value;
use tollgate::transport::proto::tollgate as api;

use crate::harness::program::{Program, run};
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Sidecar, eventually};

/// `tollgate account …` against a sidecar.
fn account(sidecar: &Sidecar, words: &str) -> Command {
    let mut command = tollgate();
    command.arg("account").args(words.split(' ')).arg("--at").arg(format!("127.0.0.1:{}", sidecar.accounts_port));
    command
}

/// What it printed, which is one JSON object.
fn told(command: &mut Command) -> Value {
    let (code, out, err) = run(command.arg("--json"));
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn explain(sidecar: &Sidecar, words: &str) -> Command {
    let mut command = tollgate();
    command.arg("explain").args(words.split(' ')).arg("--at").arg(format!("127.0.0.1:{}", sidecar.check_port));
    command
}

#[tokio::test]
async fn a_life_is_led_from_the_command_line() {
    let sidecar = Sidecar::start().await;
    let made = told(&mut account(&sidecar, "create acme --payment-method --billing-profile --monthly-limit 50"));
    assert_eq!((&made["mode"], &made["monthly_limit_usd"]), (&"prepaid".into(), &"50".into()), "{made}");
    let credited = told(&mut account(&sidecar, "credit acme 25 --purchase-id p1"));
    assert_eq!(credited["balance_usd"], "25", "{credited}");
    let set = told(&mut account(&sidecar, "set acme --mode postpaid --credit-line 100"));
    assert_eq!((&set["mode"], &set["credit_line_usd"]), (&"postpaid".into(), &"100".into()), "{set}");
    for (words, suspended) in [
        ("suspend acme --for abuse", Value::from("abuse")),
        ("suspend acme --for failed-payments", Value::from("failed_payments")),
        ("resume acme", Value::Null),
    ] {
        let told = told(&mut account(&sidecar, words));
        assert_eq!(told["suspended"], suspended, "{words}: {told}");
    }
    let (code, out, err) = run(&mut account(&sidecar, "set acme --monthly-limit 1.5 --credit-line much"));
    assert_eq!(code, 1, "{out}{err}");
    for flag in ["--monthly-limit: ", "--credit-line: "] {
        assert!(err.contains(flag), "{err}");
    }
    let (_, list, _) = run(&mut account(&sidecar, "list"));
    assert!(list.contains("acme") && list.contains("$25.00"), "{list}");
}

#[tokio::test]
async fn an_account_is_looked_into_while_it_runs() {
    let sidecar = Sidecar::with("node = \"here\"").await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    client.admit(ask("acme", "r1", 100)).await.expect("an answer");
    for _ in 0..3 {
        let strange = api::AdmitRequest { model: "no-such-model".into(), user: "ann".into(), ..ask("acme", "r2", 1) };
        client.admit(strange).await.expect("an answer");
    }
    let shown = told(&mut account(&sidecar, "show acme"));
    assert_eq!((&shown["answered_by"], &shown["tier_in_force"]), (&"here".into(), &"one".into()), "{shown}");
    assert_eq!((&shown["held_here_usd"], &shown["requests_running_here"]), (&"0.00021".into(), &1.into()), "{shown}");
    let lease = &shown["leases"][0];
    assert_eq!((&lease["node"], &lease["live"]), (&"here".into(), &true.into()), "{shown}");
    let lent: f64 = lease["outstanding_usd"].as_str().expect("USD").parse().expect("a number");
    assert!(lent >= 0.000_21, "{shown}");
    let generated =
        shown["limits"].as_array().expect("limits").iter().find(|limit| limit["limit"] == "generated tokens");
    let generated = generated.unwrap_or_else(|| panic!("no generated tokens: {shown}"));
    assert_eq!((&generated["per_minute"], &generated["from"]), (&36_000.into(), &"catalogue".into()), "{shown}");
    assert!(generated["used"].as_u64().is_some_and(|used| used <= 100), "what is lent is not used: {shown}");
    let denied = &shown["denials"][0];
    let names = (&denied["reason"], &denied["model"], &denied["user"], &denied["times"]);
    assert_eq!(names, (&"invalid_request".into(), &"no-such-model".into(), &"ann".into(), &3.into()), "{shown}");

    let (code, table, err) = run(&mut account(&sidecar, "show acme"));
    assert_eq!(code, 0, "{err}");
    for words in ["NODE", "PER MINUTE", "DENIED", "invalid_request", "gpt-oss-120b"] {
        assert!(table.contains(words), "no {words} in\n{table}");
    }
}

#[tokio::test]
async fn a_view_into_a_pipe_goes_on_line_by_line() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let watching = Program::start(&mut account(&sidecar, "show acme --watch"), sidecar.folder.path());
    eventually("a first line", async || watching.stdout().starts_with("acme balance $10.00 ").then_some(())).await;
    sidecar.add_credits("acme", "p2", "5", api::CreditKind::Purchased).await;
    let lines = eventually("a line with more", async || {
        let lines = watching.stdout();
        lines.contains("acme balance $15.00 ").then_some(lines)
    })
    .await;
    assert!(!lines.contains('\x1b'), "a pipe is no terminal: {lines:?}");
}

#[tokio::test]
async fn the_leases_of_all_nodes_are_told() {
    let redis = Redis::start().await;
    let mut sidecars = Vec::new();
    for node in ["one", "two"] {
        sidecars.push(Sidecar::on_with(&redis.url(), &format!("node = \"{node}\"")).await);
    }
    sidecars[0].account("acme", payer(), "10").await;
    for (sidecar, request) in sidecars.iter().zip(["r1", "r2"]) {
        sidecar.admission().await.admit(ask("acme", request, 100)).await.expect("an answer");
    }
    let inspect = async |sidecar: &Sidecar| {
        let request = api::InspectAccountRequest { account: "acme".into() };
        sidecar.accounts().await.inspect_account(request).await.expect("it is there").into_inner()
    };
    redis.ask::<()>("CONFIG RESETSTAT").await;
    let seen = inspect(&sidecars[0]).await;
    let asked: String = redis.ask("INFO commandstats").await;
    assert!(asked.contains("cmdstat_hgetall:") && !asked.contains("cmdstat_lrange:"), "no history is read: {asked}");
    let nodes: Vec<&str> = seen.leases.iter().map(|lease| lease.node.as_str()).collect();
    assert_eq!(nodes, ["one", "two"], "{seen:?}");
    assert!(seen.leases.iter().all(|lease| lease.live && lease.heard_ms < 30_000), "{seen:?}");
    assert_eq!(seen.here.expect("it was used here").held, "0.00021", "the other's hold is not ours");
    assert_eq!((seen.node.as_str(), seen.denials.len()), ("one", 0));

    let gone = sidecars.pop().expect("two");
    gone.program.signal("TERM");
    eventually("one lease", async || (inspect(&sidecars[0]).await.leases.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn why_a_request_is_denied_is_told_limit_by_limit() {
    let sidecar = Sidecar::with("answer.show_balances = true").await;
    let limits = api::TokenLimits { prompt: 500, uncached_prompt: 100_000, generated: 60 };
    let terms = api::TermsChange {
        monthly_limit: Some("20".into()),
        custom_limits: [("gpt-oss-120b".to_owned(), limits)].into(),
        ..payer()
    };
    sidecar.account("acme", terms, "10").await;
    sidecar.admission().await.admit(ask("acme", "r1", 10)).await.expect("an answer");
    let words = "--account acme --model gpt-oss-120b --prompt-tokens 400 --max-tokens 50 --json";
    let (code, out, err) = run(&mut explain(&sidecar, words));
    assert_eq!(code, 0, "{out}{err}");
    let admitted: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&admitted["mode"], &admitted["tier"]), (&"prepaid".into(), &"one".into()), "{admitted}");

    let words = "--account acme --model gpt-oss-120b --prompt-tokens 600 --max-tokens 61 --json";
    let (code, out, err) = run(&mut explain(&sidecar, words));
    assert_eq!(code, 3, "{out}{err}");
    let explained: Value = serde_json::from_str(&out).expect("JSON");
    let rows: Vec<[&str; 3]> = explained["limits"]
        .as_array()
        .expect("limits")
        .iter()
        .map(|row| ["limit", "says", "from"].map(|name| row[name].as_str().expect("a word")))
        .collect();
    let expected = [
        ["month", "yes", "account"],
        ["credit", "yes", "account"],
        ["requests", "yes", "catalogue"],
        ["prompt tokens", "exceeds_limit", "custom"],
        ["uncached prompt tokens", "yes", "custom"],
        ["generated tokens", "exceeds_limit", "custom"],
    ];
    assert_eq!(rows, expected, "{explained}");
    let credit = &explained["limits"][1];
    assert_eq!((&credit["most_usd"], &credit["asked_usd"]), (&"10".into(), &"0.0001266".into()), "{explained}");
    let account = sidecar.look_up("acme").await;
    assert_eq!(account.used, "0");
}
