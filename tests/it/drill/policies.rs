//! Failure policies, each while Redis is away.

use rust_decimal::Decimal;
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use super::audit;
use crate::harness::redis::Redis;
use crate::harness::sidecar::ask;
use crate::harness::{Envoy, Request, Sidecar, Upstream, eventually};
use crate::lifecycle::tireless;

/// Enough for two requests of $0.00021 in each account, for five in all of a sidecar.
const EMERGENCY: &str = "check.pool_wait = \"50ms\"\nemergency.account = \"0.00042\"\nemergency.sidecar = \"0.00105\"";

/// Asks for requests under new ids until one is denied, `most` at most: how many were admitted, and the denial.
async fn spend(sidecar: &Sidecar, account: &str, round: &str, most: u32) -> (u32, Option<api::Denial>) {
    let mut client = sidecar.admission().await;
    for number in 0..most {
        let request_id = format!("{round}-{number}");
        let answer = client.admit(ask(account, &request_id, 100)).await.expect("an answer").into_inner();
        if let Some(Answer::Denial(denial)) = answer.result {
            return (number, Some(denial));
        }
        let hold = Some(api::Hold { account: account.into(), request_id, attempt: 0 });
        let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 });
        client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await.expect("it is settled");
    }
    (most, None)
}

/// An account whose sidecar knows its terms and has no lease of it: one request was made, and the rest went back.
async fn known(sidecar: &Sidecar, account: &str, policy: api::FailurePolicy) -> String {
    let terms = api::TermsChange { failure_policy: Some(policy.into()), ..tireless() };
    let key = sidecar.account(account, terms, "0.0005").await;
    eventually("an admission", async || (spend(sidecar, account, "before", 1).await.0 == 1).then_some(())).await;
    key
}

/// Waits until so much emergency credit is on the metrics page.
async fn emergency_becomes(sidecar: &Sidecar, usd: f64) {
    eventually(&format!("${usd} of emergency credit"), async || {
        ((sidecar.metric("tollgate_emergency_usd").await - usd).abs() < 1e-9).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_account_gets_its_policy_while_redis_is_away() {
    use api::FailurePolicy::{Allowance, Closed, Open};
    let mut redis = Redis::durable().await;
    let sidecar = Sidecar::on_with(&redis.url(), EMERGENCY).await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let policies = [("closed", Closed), ("trusted", Allowance), ("trusted-too", Allowance), ("internal", Open)];
    let mut keys = Vec::new();
    for (account, policy) in policies {
        keys.push(known(&sidecar, account, policy).await);
    }
    for (account, _) in policies {
        eventually("an idle lease given back", async || {
            let account = sidecar.look_up(account).await;
            (account.leased == "0" && account.used == "0.00021").then_some(())
        })
        .await;
    }

    redis.program.kill();
    let away = async |account, most| spend(&sidecar, account, "away", most).await;
    let unavailable = |denial: Option<api::Denial>| {
        let denial = denial.expect("a denial");
        assert_eq!((denial.reason(), denial.http_status), (api::Reason::Unavailable, 503), "{denial:?}");
        assert!(denial.retry_after_ms.is_some(), "{denial:?}");
    };
    let (admitted, denial) = away("closed", 9).await;
    assert_eq!(admitted, 0, "nobody vouches");
    unavailable(denial);
    let answer = Request::chat(10).key(&keys[0]).send(envoy.port).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"ADMISSION_UNAVAILABLE".into()), "{answer}");
    let (admitted, denial) = away("trusted", 9).await;
    assert_eq!(admitted, 2, "up to the account's cap");
    unavailable(denial);
    let (admitted, denial) = away("internal", 2).await;
    assert_eq!((admitted, denial), (2, None), "open");
    let (admitted, denial) = away("trusted-too", 9).await;
    assert_eq!(admitted, 1, "up to the sidecar's cap");
    unavailable(denial);
    let (_, denial) = away("nobody-knows", 1).await;
    unavailable(denial);
    emergency_becomes(&sidecar, 0.00105).await;

    redis.start_again().await;
    for (account, used) in
        [("closed", "0.00021"), ("trusted", "0.00063"), ("trusted-too", "0.00042"), ("internal", "0.00063")]
    {
        eventually(&format!("{used} used by {account}"), async || {
            (sidecar.try_look_up(account).await?.used == used).then_some(())
        })
        .await;
    }
    emergency_becomes(&sidecar, 0.0).await;
    audit(&redis.url());
    let over: Decimal = sidecar.look_up("trusted").await.balance.parse().expect("USD");
    assert_eq!(over, Decimal::new(-13, 5), "beyond its credits by no more than the emergency credit");
}
