//! The operators' API: accounts, credits and keys, and how soon a change is felt.

use std::collections::BTreeSet;
use std::time::Duration;

use tollgate::transport::proto::tollgate as api;
use tonic::Code;

use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer};
use crate::harness::{Envoy, Request, Sidecar, Upstream, eventually, within};

/// A change is seen by every sidecar within so long.
const CHANGE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_account_is_made_found_and_changed() {
    let sidecar = Sidecar::start().await;
    let mut accounts = sidecar.accounts().await;
    let create = api::CreateAccountRequest { account: "acme".into(), terms: None, starter_credit: false };
    let made = accounts.create_account(create.clone()).await.unwrap().into_inner().account.unwrap();
    assert_eq!((made.mode(), made.payment_method, made.balance.as_str()), (api::Mode::Prepaid, false, "0"));
    assert_eq!(accounts.create_account(create).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(sidecar.look_up("acme").await, made);

    let change = api::UpdateAccountRequest {
        account: "acme".into(),
        version: made.version,
        terms: Some(api::TermsChange { monthly_limit: Some("12".into()), shadow: Some(true), ..payer() }),
    };
    let changed = accounts.update_account(change.clone()).await.unwrap().into_inner().account.unwrap();
    assert_eq!((changed.monthly_limit.as_deref(), changed.shadow, changed.payment_method), (Some("12"), true, true));
    assert!(changed.version > made.version);
    let late = accounts.update_account(change).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "the version is old: {late:?}");

    let unknown = api::GetAccountRequest { account: "nobody".into() };
    assert_eq!(accounts.get_account(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let sidecar = Sidecar::start().await;
    let mut accounts = sidecar.accounts().await;
    let names: BTreeSet<String> = (0..25).map(|number| format!("account-{number:02}")).collect();
    for name in &names {
        let create = api::CreateAccountRequest { account: name.clone(), terms: None, starter_credit: false };
        accounts.create_account(create).await.unwrap();
    }
    let mut found = Vec::new();
    let mut request = api::ListAccountsRequest { page_size: 10, page_token: String::new() };
    let mut sizes = Vec::new();
    loop {
        let page = accounts.list_accounts(request.clone()).await.unwrap().into_inner();
        sizes.push(page.accounts.len());
        found.extend(page.accounts.into_iter().map(|account| account.account));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(found, names.into_iter().collect::<Vec<_>>(), "in order of name, each once");
}

#[tokio::test]
async fn a_purchase_counts_once() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "").await;
    let purchased = api::CreditKind::Purchased;
    for _ in 0..3 {
        let account = sidecar.add_credits("acme", "p1", "10.000000001", purchased).await;
        assert_eq!((account.balance.as_str(), account.credits_purchased.as_str()), ("10.000000001", "10.000000001"));
    }
    let account = sidecar.add_credits("acme", "p2", "1", api::CreditKind::Promotional).await;
    assert_eq!((account.balance.as_str(), account.credits_promotional.as_str()), ("11.000000001", "1"));

    let mut accounts = sidecar.accounts().await;
    let request = |purchase: &str, amount: &str| api::AddCreditsRequest {
        account: "acme".into(),
        purchase_id: purchase.into(),
        amount: amount.into(),
        kind: purchased.into(),
        ..Default::default()
    };
    for (purchase, amount, code) in [
        ("p1", "11", Code::AlreadyExists),
        ("p3", "0", Code::InvalidArgument),
        ("p3", "-1", Code::InvalidArgument),
        ("p3", "1.0000000001", Code::InvalidArgument),
        ("p3", "1e3", Code::InvalidArgument),
        ("p3", "much", Code::InvalidArgument),
        ("p3", "99999999999999999999", Code::InvalidArgument),
        ("", "1", Code::InvalidArgument),
    ] {
        let status = accounts.add_credits(request(purchase, amount)).await.expect_err(amount);
        assert_eq!(status.code(), code, "{purchase:?} {amount:?}: {status:?}");
    }
    assert_eq!(sidecar.look_up("acme").await.balance, "11.000000001", "what is refused changes nothing");
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "10").await;
    let mut accounts = sidecar.accounts().await;
    let create = api::CreateApiKeyRequest { account: "acme".into(), label: "laptop".into() };
    let other = accounts.create_api_key(create).await.unwrap().into_inner();
    let list = api::ListApiKeysRequest { account: "acme".into() };
    let keys = accounts.list_api_keys(list.clone()).await.unwrap().into_inner().api_keys;
    assert_eq!(keys.len(), 2);
    assert!(!format!("{keys:?}").contains(&other.secret), "a key is shown once");

    assert_eq!(Request::chat(10).key(&other.secret).send(envoy.port).await.status, 200);
    let revoke = api::RevokeApiKeyRequest { account: "acme".into(), id: other.api_key.unwrap().id };
    accounts.revoke_api_key(revoke.clone()).await.unwrap();
    within(CHANGE, "the revoked key is refused", async || {
        (Request::chat(10).key(&other.secret).send(envoy.port).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(Request::chat(10).key(&key).send(envoy.port).await.status, 200, "the other key still works");
    assert_eq!(accounts.list_api_keys(list).await.unwrap().into_inner().api_keys.len(), 1);
    assert_eq!(accounts.revoke_api_key(revoke).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_key_that_is_revoked_on_one_sidecar_is_refused_by_the_others() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(other.check_port, &upstream).await;
    let key = one.account("acme", payer(), "10").await;
    eventually("both to listen", async || {
        let (_, listening): (String, usize) = redis.ask("PUBSUB NUMSUB tollgate:changed").await;
        (listening == 2).then_some(())
    })
    .await;
    assert_eq!(Request::chat(10).key(&key).send(envoy.port).await.status, 200);
    let mut accounts = one.accounts().await;
    let list = api::ListApiKeysRequest { account: "acme".into() };
    let id = accounts.list_api_keys(list).await.unwrap().into_inner().api_keys.remove(0).id;
    accounts.revoke_api_key(api::RevokeApiKeyRequest { account: "acme".into(), id }).await.unwrap();
    // Without word of it the owner would be believed for half a minute.
    within(CHANGE, "the revoked key is refused", async || {
        (Request::chat(10).key(&key).send(envoy.port).await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn credits_unblock_within_two_seconds() {
    let sidecar = Sidecar::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(sidecar.check_port, &upstream).await;
    let key = sidecar.account("acme", payer(), "").await;
    let chat = Request::chat(10).key(&key);
    for _ in 0..5 {
        assert_eq!(chat.send(envoy.port).await.status, 412);
    }
    sidecar.add_credits("acme", "p1", "5", api::CreditKind::Purchased).await;
    within(CHANGE, "credits unblock", async || (chat.send(envoy.port).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_suspension_is_felt_within_two_seconds() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut client = sidecar.admission().await;
    let mut accounts = sidecar.accounts().await;
    let mut number = 0;
    for (suspension, reason) in [
        (api::Suspension::Abuse, Some(api::Reason::AbuseBlock)),
        (api::Suspension::FailedPayments, Some(api::Reason::FailedPayments)),
        (api::Suspension::None, None),
    ] {
        let version = sidecar.look_up("acme").await.version;
        let terms = api::TermsChange { suspension: Some(suspension.into()), ..Default::default() };
        let change = api::UpdateAccountRequest { account: "acme".into(), version, terms: Some(terms) };
        accounts.update_account(change).await.unwrap();
        within(CHANGE, "a suspension", async || {
            number += 1;
            let answer = client.admit(ask("acme", &format!("r{number}"), 10)).await.unwrap().into_inner();
            let found = match answer.result.unwrap() {
                api::admit_response::Result::Denial(denial) => Some(denial.reason()),
                api::admit_response::Result::Admitted(_) => None,
            };
            (found == reason).then_some(())
        })
        .await;
    }
}
