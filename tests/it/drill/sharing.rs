//! Sidecars that share an account: what one does not need, another gets.

use rust_decimal::Decimal;
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use super::{HURRIED, audit};
use crate::harness::redis::Redis;
use crate::harness::sidecar::ask;
use crate::harness::{Sidecar, eventually};
use crate::lifecycle::{spend, tireless};

/// Whether a request that holds $0.00015 and $0.0000006 for each generated token is admitted; it stays open.
async fn admitted(sidecar: &Sidecar, id: &str, max_tokens: u32) -> bool {
    let answer = sidecar.admission().await.admit(ask("acme", id, max_tokens)).await.expect("an answer");
    matches!(answer.into_inner().result, Some(Answer::Admitted(_)))
}

fn usd(text: &str) -> Decimal {
    text.parse().expect("USD")
}

#[tokio::test]
async fn what_one_does_not_need_goes_to_the_one_that_starves() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on_with(&redis.url(), HURRIED).await, Sidecar::on_with(&redis.url(), HURRIED).await);
    one.account("acme", tireless(), "1").await;
    for number in 0..40 {
        spend_some(&one, number).await;
    }
    let leased = eventually("a lease", async || {
        let leased = usd(&one.look_up("acme").await.leased);
        leased.is_sign_positive().then_some(leased)
    })
    .await;
    let balance = usd(&one.look_up("acme").await.balance);
    // More than is left without the other's lease.
    let most = (balance - leased / Decimal::TWO - Decimal::new(15, 5)) / Decimal::new(6, 7);
    let tokens = u32::try_from(most.trunc().mantissa()).expect("a number of tokens").min(120_000);
    let mut tries = 0;
    eventually("an admission on what was given back", async || {
        tries += 1;
        admitted(&other, &format!("large-{tries}"), tokens).await.then_some(())
    })
    .await;
    audit(&redis.url());
}

/// A request that costs $0.00021, tried until it is admitted.
async fn spend_some(sidecar: &Sidecar, number: u32) {
    let id = format!("small-{number}");
    eventually("an admission", async || admitted(sidecar, &id, 100).await.then_some(())).await;
    let hold = Some(api::Hold { account: "acme".into(), request_id: id, attempt: 0 });
    let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 });
    let request = api::SettleRequest { hold, usage, ..Default::default() };
    sidecar.admission().await.settle(request).await.expect("it is settled");
}

#[tokio::test]
async fn what_nobody_uses_goes_back_soon_where_little_is_left() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on(&redis.url()).await;
    sidecar.account("acme", tireless(), "0.002").await;
    spend(&sidecar, "acme", "only").await;
    eventually("nothing lent, everything told", async || {
        let account = sidecar.look_up("acme").await;
        (account.leased == "0" && account.used == "0.00021").then_some(())
    })
    .await;
    audit(&redis.url());
}

#[tokio::test]
async fn what_was_not_told_is_never_forgotten_for_another_account() {
    let mut redis = Redis::durable().await;
    let sidecar = Sidecar::on_with(&redis.url(), &format!("{HURRIED}\nbounds.accounts = 2")).await;
    for account in ["acme", "other", "late"] {
        sidecar.account(account, tireless(), "1").await;
    }
    for account in ["acme", "other"] {
        eventually("a lease", async || {
            let ask = api::AdmitRequest { max_tokens: Some(1), ..ask(account, "first", 1) };
            let answer = sidecar.admission().await.admit(ask).await.expect("an answer").into_inner();
            matches!(answer.result, Some(Answer::Admitted(_))).then_some(())
        })
        .await;
    }
    redis.program.kill();
    for account in ["acme", "other"] {
        spend(&sidecar, account, "untold").await;
    }
    for number in 0..20 {
        let answer = sidecar.admission().await.admit(ask("late", &format!("r{number}"), 100)).await;
        let answer = answer.expect("an answer").into_inner();
        let Some(Answer::Denial(denial)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(denial.reason(), api::Reason::Unavailable, "there is no place for it");
    }
    redis.start_again().await;
    for account in ["acme", "other"] {
        eventually("usage told", async || (sidecar.try_look_up(account).await?.used == "0.00021").then_some(())).await;
    }
    audit(&redis.url());
}
