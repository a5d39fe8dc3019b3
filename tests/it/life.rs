//! The month's limit and reserved throughput of the real binary, over gRPC and the command line, on both kinds of store.

use std::time::Duration;

use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;
use tonic::Code;

use crate::harness::program::run;
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Sidecar, eventually, within};

/// A change is seen by every sidecar within so long.
const CHANGE: Duration = Duration::from_secs(2);

/// Asks and settles $0.15 worth of prompt; why it was denied.
async fn spend(sidecar: &Sidecar, id: &mut u32) -> Option<api::Reason> {
    *id += 1;
    let mut client = sidecar.admission().await;
    let prompt = Some(api::admit_request::Prompt::PromptTokens(50_000));
    let asked = api::AdmitRequest { model: "kimi-k3".into(), prompt, ..ask("acme", &format!("r{id}"), 1) };
    match client.admit(asked).await.expect("an answer").into_inner().result {
        Some(Answer::Admitted(_)) => {
            let hold = Some(api::Hold { account: "acme".into(), request_id: format!("r{id}"), attempt: 0 });
            let usage = Some(api::Usage { prompt_tokens: 50_000, cached_tokens: 0, generated_tokens: 0 });
            client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await.expect("it is settled");
            None
        }
        Some(Answer::Denial(denial)) => Some(denial.reason()),
        other => panic!("{other:?}"),
    }
}

async fn change(sidecar: &Sidecar, terms: api::TermsChange) -> Result<api::Account, tonic::Status> {
    let version = sidecar.look_up("acme").await.version;
    let request = api::UpdateAccountRequest { account: "acme".into(), version, terms: Some(terms) };
    Ok(sidecar.accounts().await.update_account(request).await?.into_inner().account.expect("an account"))
}

fn limit(usd: &str) -> api::TermsChange {
    api::TermsChange { monthly_limit: Some(usd.into()), ..Default::default() }
}

async fn month_pauses_and_resumes(sidecar: &Sidecar) {
    let mut id = 0;
    sidecar.account("acme", api::TermsChange { monthly_limit: Some("1".into()), ..payer() }, "100").await;
    let paused = |reason| matches!(reason, Some(api::Reason::MonthlyLimit | api::Reason::ExceedsMonthRoom));
    for next in ["2", "none"] {
        eventually("a pause", async || paused(spend(sidecar, &mut id).await).then_some(())).await;
        sidecar.add_credits("acme", &format!("p{next}"), "5", api::CreditKind::Purchased).await;
        assert!(paused(spend(sidecar, &mut id).await), "credits do not resume");
        change(sidecar, limit(next)).await.expect("a limit");
        within(CHANGE, "a raise resumes", async || spend(sidecar, &mut id).await.is_none().then_some(())).await;
    }
    // No more than what the limit of tokens has room for.
    for _ in 0..3 {
        assert_eq!(spend(sidecar, &mut id).await, None, "nothing is left of the limit");
    }
    let account = sidecar.look_up("acme").await;
    assert_eq!((account.monthly_limit, account.alert_percents), (None, None));
}

#[tokio::test]
async fn a_monthly_limit_is_set_raised_and_cleared() {
    month_pauses_and_resumes(&Sidecar::start().await).await;
    let redis = Redis::start().await;
    month_pauses_and_resumes(&Sidecar::on(&redis.url()).await).await;
}

#[tokio::test]
async fn alerts_are_an_accounts_own() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "").await;
    let own = |percents: &[u32]| api::TermsChange {
        alert_percents: Some(api::AlertPercents { percents: percents.to_vec() }),
        ..Default::default()
    };
    for wrong in [&[0][..], &[1_000], &[50, 50], &[1, 2, 3, 4, 5, 6]] {
        let refused = change(&sidecar, own(wrong)).await.expect_err("no percents");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("terms.alert_percents"), "{refused:?}");
    }
    let changed = change(&sidecar, own(&[50, 90])).await.expect("two percents");
    assert_eq!(changed.alert_percents.expect("its own").percents, [50, 90]);
    let at = format!("127.0.0.1:{}", sidecar.accounts_port);
    let (code, said, wrong) = run(tollgate().args(["account", "show", "acme", "--at", &at]));
    assert!(code == 0 && said.contains("50 %, 90 %"), "{said}{wrong}");
    let (code, ..) = run(tollgate().args(["account", "update", "acme", "--alert-at", "usual", "--at", &at]));
    assert_eq!((code, sidecar.look_up("acme").await.alert_percents), (0, None));
}

/// The limit of uncached prompt tokens, as an answer tells it.
async fn uncached_limit(sidecar: &Sidecar) -> Option<u64> {
    let asked = Some(api::AdmitRequest { model: "kimi-k3".into(), ..ask("acme", "probe", 1) });
    let answer = sidecar.admission().await.explain(api::ExplainRequest { ask: asked }).await.ok()?.into_inner();
    Some(answer.answer?.limits?.uncached_prompt_tokens?.per_minute)
}

/// $3 a minute are paid for: of thirty requests of $0.15 in a minute, what comes above twenty is billed.
async fn a_reservation_pays(mut sidecar: Sidecar) {
    sidecar.account("acme", payer(), "100").await;
    let at = format!("127.0.0.1:{}", sidecar.accounts_port);
    let mut id = 0;
    assert_eq!(spend(&sidecar, &mut id).await, None);
    let before = eventually("the limit of a new account", async || uncached_limit(&sidecar).await).await;
    let (code, said, wrong) =
        run(tollgate().args(["account", "update", "acme", "--reserve", "kimi-k3=3", "--at", &at]));
    assert!(code == 0 && said.contains("kimi-k3: $3 a minute"), "{said}{wrong}");
    within(CHANGE, "a larger limit", async || (uncached_limit(&sidecar).await? == before + 1_000_000).then_some(()))
        .await;
    let check = format!("127.0.0.1:{}", sidecar.check_port);
    let (_, said, _) = run(tollgate().args(["explain", "--account", "acme", "--model", "kimi-k3", "--at", &check]));
    let of_reservation = "catalogue  where the catalogue has every limit start, and 1000000 a minute reserved on top";
    let told = said.lines().find(|line| line.starts_with("uncached prompt tokens")).unwrap_or_default();
    assert!(told.ends_with(of_reservation), "{said}");
    for _ in 0..30 {
        eventually("an admission", async || spend(&sidecar, &mut id).await.is_none().then_some(())).await;
    }
    sidecar.program.signal("TERM");
    assert!(sidecar.program.end().await.success());
    sidecar.start_again().await;
    let account = sidecar.look_up("acme").await;
    let billed: f64 = account.used.parse().expect("USD");
    // Where a minute ended meanwhile, two of them paid.
    assert!((0.15..=1.65).contains(&billed), "31 requests of $0.15, of which $3 are paid for: {account:?}");

    let (code, _, wrong) =
        run(tollgate().args(["account", "update", "acme", "--reserve", "kimi-k3=9000", "--at", &at]));
    assert!(code != 0 && wrong.contains("--reserve"), "{wrong}");
    let (code, ..) = run(tollgate().args(["account", "update", "acme", "--no-reserve", "kimi-k3", "--at", &at]));
    assert_eq!((code, sidecar.look_up("acme").await.reserved.len()), (0, 0));
}

#[tokio::test]
async fn a_reservation_pays_for_its_part_of_each_minute() {
    a_reservation_pays(Sidecar::start().await).await;
    let redis = Redis::start().await;
    a_reservation_pays(Sidecar::on(&redis.url()).await).await;
}
