//! Spend caps of users, end to end: set by an operator, denied with 402, shared by sidecars to the last nano-USD.

use std::time::Duration;

use rust_decimal::Decimal;
use tollgate::transport::proto::tollgate as api;
use tonic::Code;

use crate::harness::program::run;
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Envoy, Request, Sidecar, Upstream, eventually, within};

/// A change is seen by every sidecar within so long.
const CHANGE: Duration = Duration::from_secs(2);

fn capped(usd: &str) -> api::TermsChange {
    api::TermsChange { user_cap_default: Some(usd.into()), ..payer() }
}

fn ask_of(user: &str, request_id: &str, max_tokens: u32) -> api::AdmitRequest {
    api::AdmitRequest { user: user.into(), ..ask("acme", request_id, max_tokens) }
}

fn settlement(request_id: &str, usage: api::Usage) -> api::SettleRequest {
    let hold = api::Hold { account: "acme".into(), request_id: request_id.into(), attempt: 0 };
    api::SettleRequest { hold: Some(hold), usage: Some(usage), ..Default::default() }
}

async fn change(sidecar: &Sidecar, terms: api::TermsChange) -> Result<api::Account, tonic::Status> {
    let version = sidecar.look_up("acme").await.version;
    let request = api::UpdateAccountRequest { account: "acme".into(), version, terms: Some(terms) };
    Ok(sidecar.accounts().await.update_account(request).await?.into_inner().account.expect("an account"))
}

/// The users as the command shows them.
fn users(sidecar: &Sidecar, options: &[&str]) -> String {
    let at = format!("127.0.0.1:{}", sidecar.accounts_port);
    let (code, out, err) = run(tollgate().args(["account", "users", "acme", "--at", &at]).args(options));
    assert_eq!(code, 0, "{err}");
    out
}

/// Through Envoy: a user spends the cap, is told so with 402, and may go on when it is raised.
async fn a_cap_binds_through_envoy(sidecar: Sidecar) {
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    // 1,000 tokens at $0.60 for 1 M, and a short prompt.
    let key = sidecar.account("acme", capped("0.001"), "10").await;
    let chat = |user: &str| Request::chat(1_000).key(&key).header("x-user", user);
    let first = chat("alice").send(envoy.port).await;
    assert_eq!(first.status, 200, "{first}");
    let denied = chat("alice").send(envoy.port).await;
    assert_eq!(denied.status, 402, "{denied}");
    let error = denied.json()["error"].clone();
    assert_eq!((&error["code"], &error["metadata"]["reason"]), (&"PAYMENT_REQUIRED".into(), &"in_flight".into()));
    assert!(denied.header("retry-after").is_some(), "the first still runs, and may use less: {denied}");

    let other = chat("bob").send(envoy.port).await;
    assert_eq!(other.status, 200, "a cap is each user's own: {other}");
    let too_large = Request::chat(4_000).key(&key).header("x-user", "carol").send(envoy.port).await;
    assert_eq!(too_large.status, 402, "{too_large}");
    let metadata = too_large.json()["error"]["metadata"].clone();
    assert_eq!(metadata["reason"], "user_limit", "{too_large}");
    let affordable = metadata["affordable_max_tokens"].as_u64().expect("something is affordable");
    assert!((1_600..1_667).contains(&affordable), "{too_large}");
    assert!(metadata["resets_at"].as_str().is_some_and(|at| at.ends_with("-01T00:00:00Z")), "{too_large}");
    assert_eq!(too_large.header("retry-after"), None, "waiting does not help: {too_large}");

    change(&sidecar, api::TermsChange { user_cap_overrides: [("alice".into(), "1".into())].into(), ..payer() })
        .await
        .expect("a change");
    within(CHANGE, "a raised cap", async || {
        let answer = chat("alice").send(envoy.port).await;
        (answer.status == 200).then_some(())
    })
    .await;
    change(&sidecar, api::TermsChange { user_cap_overrides: [("alice".into(), "0".into())].into(), ..payer() })
        .await
        .expect("a change");
    within(CHANGE, "a blocked user", async || {
        let answer = chat("alice").send(envoy.port).await;
        (answer.status == 402 && answer.json()["error"]["metadata"]["reason"] == "user_limit").then_some(())
    })
    .await;
    let nameless = chat("").send(envoy.port).await;
    assert_eq!(nameless.status, 400, "nobody escapes a cap by a name that is none: {nameless}");
}

#[tokio::test]
async fn a_cap_binds_through_envoy_over_a_file() {
    a_cap_binds_through_envoy(Sidecar::with("identity.user_header = \"x-user\"").await).await;
}

#[tokio::test]
async fn a_cap_binds_through_envoy_over_redis() {
    let redis = Redis::start().await;
    a_cap_binds_through_envoy(Sidecar::on_with(&redis.url(), "identity.user_header = \"x-user\"").await).await;
}

/// Takes what there is of the cap, request by request; returns what it cost.
async fn spend_all(sidecar: &Sidecar, name: &str) -> Decimal {
    let mut admission = sidecar.admission().await;
    let (mut spent, mut vain) = (Decimal::ZERO, 0);
    for number in 0..10_000 {
        // $0.00015 for the prompt, and up to $0.0006.
        let max_tokens = if vain == 0 { 1_000 } else { 1 };
        let request = ask_of("alice", &format!("{name}-{number}"), max_tokens);
        let outcome = eventually("an outcome that stands", async || {
            let answer = admission.admit(request.clone()).await.expect("an answer").into_inner();
            let outcome = answer.result.expect("an outcome");
            let is_held = |denied: &api::Denial| denied.reason() == api::Reason::InFlight;
            let waits = matches!(&outcome, api::admit_response::Result::Denial(denied) if is_held(denied));
            (!waits).then_some(outcome)
        });
        match outcome.await {
            api::admit_response::Result::Admitted(admitted) => {
                vain = 0;
                let usage = api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: max_tokens };
                let settled = admission.settle(settlement(&request.request_id, usage)).await.expect("it is settled");
                let ended = settled.into_inner().ended.expect("how it ended");
                assert_eq!(ended.cost, admitted.cost, "all of it was used");
                spent += ended.cost.parse::<Decimal>().expect("an amount");
            }
            api::admit_response::Result::Denial(denied) => {
                vain += 1;
                assert_eq!(denied.reason(), api::Reason::UserLimit, "{denied:?}");
                if vain > 1 {
                    return spent;
                }
            }
        }
    }
    panic!("a cap that never ends");
}

#[tokio::test]
async fn sidecars_share_a_cap_to_the_last_request() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    one.account("acme", capped("0.02"), "10").await;
    let (first, second) = tokio::join!(spend_all(&one, "one"), spend_all(&other, "other"));
    let cap: Decimal = "0.02".parse().unwrap();
    let least: Decimal = "0.0001506".parse().unwrap();
    assert!(first + second <= cap, "{first} and {second}");
    assert!(cap - first - second < least, "what a request costs is not left: {first} and {second}");
    assert!(!first.is_zero() && !second.is_zero(), "both were served: {first} and {second}");
    let told = eventually("usage told", async || {
        let listed = users(&one, &["--json"]);
        let user: serde_json::Value = serde_json::from_str(&listed).ok()?;
        (user["month_used_usd"] == (first + second).normalize().to_string()).then_some(user)
    })
    .await;
    assert_eq!(
        (&told["user"], &told["cap_usd"], &told["cap_source"]),
        (&"alice".into(), &"0.02".into(), &"default".into())
    );
    eventually("the same of the account", async || {
        (one.look_up("acme").await.month_used == told["month_used_usd"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn operators_set_and_see_caps() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let at = format!("127.0.0.1:{}", sidecar.accounts_port);
    let update = |options: &[&str]| {
        let (code, out, err) = run(tollgate().args(["account", "update", "acme", "--at", &at]).args(options));
        (code, out + &err)
    };
    assert!(users(&sidecar, &[]).starts_with("No user has a cap"));
    let (code, said) = update(&[
        "--user-cap=5",
        "--user-group=research=50",
        "--user-group-add=research=carol",
        "--user-group-add=research=dave",
        "--user-group=interns=0.5",
        "--user-group-add=interns=dave",
        "--user-cap-of=alice=0",
    ]);
    assert_eq!(code, 0, "{said}");
    for row in ["cap of each user", "research: $50 for each of 2 members", "users with a cap of their own"] {
        assert!(said.contains(row), "{row} in {said}");
    }
    let mut admission = sidecar.admission().await;
    let admitted = admission.admit(ask_of("bob", "r1", 1_000)).await.unwrap().into_inner();
    assert!(matches!(admitted.result, Some(api::admit_response::Result::Admitted(_))), "{admitted:?}");
    let usage = api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 1_000 };
    admission.settle(settlement("r1", usage)).await.unwrap();
    let expected = "USER   SPENT THIS MONTH     CAP  FROM\n\
                    alice             $0.00   $0.00  override\n\
                    bob            $0.00075   $5.00  default\n\
                    carol             $0.00  $50.00  group research\n\
                    dave              $0.00  $50.00  group research\n";
    eventually("bob's spending", async || (users(&sidecar, &[]) == expected).then_some(())).await;

    let (code, said) = update(&["--no-user-group=research", "--user-cap-of=alice=none", "--user-cap=none"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        users(&sidecar, &[]).ends_with("dave             $0.00  $0.50  group interns\n"),
        "{}",
        users(&sidecar, &[])
    );

    for (terms, field) in [
        (capped("-1"), "terms.user_cap_default"),
        (capped("much"), "terms.user_cap_default"),
        (api::TermsChange { user_groups: [("new".into(), Default::default())].into(), ..payer() }, "terms.user_groups"),
        (api::TermsChange { remove_user_groups: vec!["new".into()], ..payer() }, "terms.remove_user_groups"),
        (
            api::TermsChange { user_cap_overrides: [("a\nb".into(), "1".into())].into(), ..payer() },
            "terms.user_cap_overrides",
        ),
    ] {
        let refused = change(&sidecar, terms).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(field), "{refused:?}");
    }
    let many = (0..=4_096).map(|number| format!("user-{number}")).collect();
    let group = api::UserGroupChange { cap: Some("1".into()), add_members: many, remove_members: Vec::new() };
    let refused = change(&sidecar, api::TermsChange { user_groups: [("many".into(), group)].into(), ..payer() }).await;
    assert!(refused.expect_err("too many").message().contains("at most 4096 in all"));
}

#[tokio::test]
async fn a_user_is_no_account() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", capped("1"), "10").await;
    let mut admission = sidecar.admission().await;
    admission.admit(ask_of("alice", "r1", 10)).await.expect("an answer");
    let refused = admission.admit(ask("acme/alice", "r2", 10)).await.expect_err("no account has this name");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let lists = api::ListAccountsRequest::default();
    let listed = sidecar.accounts().await.list_accounts(lists).await.unwrap().into_inner();
    assert_eq!(listed.accounts.len(), 1);
    let accounts = async || sidecar.metric("tollgate_accounts").await;
    let counted = eventually("a count", async || Some(accounts().await).filter(|count| *count > 0.0)).await;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted} accounts");
}
