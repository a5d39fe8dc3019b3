//! The life of an account: lots, receipts and tiers, through the real binary over each store.

use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::Value as Json;
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use crate::audit::audit;
use crate::harness::program::run;
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Sidecar, within};
use crate::lifecycle::{spend, used_becomes};

/// What the command line says, and whether it was content.
fn account(sidecar: &Sidecar, words: &[&str]) -> (i32, String) {
    let at = format!("127.0.0.1:{}", sidecar.accounts_port);
    let (code, out, err) = run(tollgate().arg("account").args(words).args(["--at", &at]));
    (code, out + &err)
}

/// The history as programs read it, oldest first.
fn lines(sidecar: &Sidecar) -> Vec<Json> {
    let (code, text) = account(sidecar, &["history", "acme", "--oldest-first", "--json"]);
    assert_eq!(code, 0, "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What happened, and what it added to the balance.
fn told(lines: &[Json]) -> Vec<(&str, &str)> {
    lines.iter().map(|line| (line["what"].as_str().unwrap_or(""), line["amount_usd"].as_str().unwrap_or(""))).collect()
}

#[tokio::test]
async fn every_receipt_is_found_again_in_a_file() {
    let mut sidecar = Sidecar::start().await;
    receipts(&sidecar).await;
    let before = lines(&sidecar);
    sidecar.program.signal("TERM");
    assert!(sidecar.program.end().await.success());
    let store = sidecar.folder.path().join("store").display().to_string();
    assert_eq!(audit(&store), (0, "1 accounts, 0 with drift\n".into()));
    sidecar.start_again().await;
    assert_eq!(lines(&sidecar), before);
}

#[tokio::test]
async fn every_receipt_is_found_again_on_a_server_and_none_can_be_changed_unnoticed() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on(&redis.url()).await;
    receipts(&sidecar).await;
    settles(&redis, &sidecar).await;
    assert_eq!(audit(&redis.url()), (0, "1 accounts, 0 with drift\n".into()));
    let key = redis.key("h:acme").await;
    let change = |from: &str, to: &str| {
        format!("redis.call('LSET', KEYS[1], 0, (string.gsub(redis.call('LINDEX', KEYS[1], 0), '{from}', '{to}')))")
    };
    for (script, said) in [
        (change("60000000000", "61000000000"), "acme: credits are $65.50, but the history comes to $66.50\n"),
        (change("61000000000", "60000000000"), "1 accounts, 0 with drift\n"),
        (
            "redis.call('LSET', KEYS[1], -1, redis.call('LINDEX', KEYS[1], -2))".into(),
            "acme: usage of months that ended ",
        ),
        ("redis.call('RPOP', KEYS[1])".into(), "acme: the history has 11 lines of 12\n"),
        (change("credit", "debit"), "acme: "),
    ] {
        redis.run::<()>(&script, &key).await;
        let (code, found) = audit(&redis.url());
        assert!(found.starts_with(said), "{script}: {found}");
        assert_eq!(code, if said.starts_with("acme") { 3 } else { 0 }, "{script}: {found}");
    }
}

/// As if the account's month were the last one: whoever looks at its history finds it settled.
async fn settles(redis: &Redis, sidecar: &Sidecar) {
    let back = "local a = cmsgpack.unpack(redis.call('GET', KEYS[1]))
        local month = a[17] - 1
        if month % 100 == 0 then month = month - 88 end
        a[17] = month
        redis.call('SET', KEYS[1], cmsgpack.pack(a))
        return string.format('%d-%02d', math.floor(month / 100), month % 100)";
    let month: String = redis.run(back, &redis.key("a:acme").await).await;
    let mut lines = lines(sidecar);
    let last = lines.pop().expect("a line");
    assert_eq!((told(std::slice::from_ref(&last)), &last["month"]), (vec![("settlement", "-0.00021")], &month.into()));
    assert_eq!((lines.len(), sidecar.look_up("acme").await.month_used.as_str()), (11, "0"));
}

async fn receipts(sidecar: &Sidecar) {
    sidecar.account("acme", payer(), "").await;
    let credit = |usd: &str, id: &str, more: &[&str]| {
        account(sidecar, &[&["credit", "acme", usd, "--purchase-id", id], more].concat())
    };
    for (usd, id, more, said) in [
        ("60", "p1", &["--reference", "ch_1"][..], "purchased $60.00 $60.00"),
        ("2", "g1", &["--kind", "promotional", "--note", "welcome"], "promotional $2.00 $2.00"),
        ("-1.5", "a1", &["--kind", "adjustment", "--note", "booked twice"], "adjustment -$1.50 $0.00"),
        ("20", "r1", &["--kind", "refund", "--refund-of", "p1"], "refund -$20.00 $0.00"),
        ("20", "r1", &["--kind", "refund", "--refund-of", "p1"], "purchased $60.00 $40.00"),
    ] {
        let (code, text) = credit(usd, id, more);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == 0 && text.contains(said), "{id}: {text}");
    }
    for (usd, id, more, said) in [
        ("-1", "a2", &["--kind", "adjustment"][..], "note: is missing"),
        ("40.01", "r2", &["--kind", "refund", "--refund-of", "p1"], "amount: $40.00 of purchase"),
        ("1", "r2", &["--kind", "refund", "--refund-of", "g1"], "refund_of: no purchase"),
        ("1", "r2", &["--kind", "refund"], "refund_of: is missing"),
        ("2", "p1", &[], "purchase_id: "),
    ] {
        let (code, text) = credit(usd, id, more);
        assert!(code != 0 && text.contains(said), "{id}: {text}");
    }
    spend(sidecar, "acme", "request").await;
    used_becomes(sidecar, "acme", "0.00021").await;
    let (code, text) = account(sidecar, &["set", "acme", "--top-up-minimum", "50", "--top-up-amount", "25"]);
    assert_eq!(code, 0, "{text}");
    let top_up = sidecar.look_up("acme").await.topup_pending.expect("$40.50 are less than $50");
    assert_eq!(credit("25", &top_up, &["--reference", "ch_2"]).0, 0);
    let lines = lines(sidecar);
    let expected = [
        ("purchase", "60"),
        ("tier_changed", "0"),
        ("promotional", "2"),
        ("adjustment", "-1.5"),
        ("refund", "-20"),
        ("tier_changed", "0"),
        ("terms_changed", "0"),
        ("topup_needed", "0"),
        ("purchase", "25"),
        ("topup_succeeded", "0"),
        ("tier_changed", "0"),
    ];
    assert_eq!(told(&lines), expected);
    for (line, field, value) in [
        (0, "id", "p1"),
        (0, "reference", "ch_1"),
        (1, "detail", "one to two"),
        (3, "note", "booked twice"),
        (4, "refund_of", "p1"),
        (5, "detail", "two to one"),
        (6, "detail", "auto top-up: off to $25.00 at $50.00"),
        (7, "id", &top_up),
        (8, "id", &top_up),
        (9, "id", &top_up),
    ] {
        assert_eq!(lines[line][field], value, "{field} of {line}");
    }
    let (_, table) = account(sidecar, &["history", "acme", "--limit", "2", "--after", "6"]);
    assert!(table.contains("refund  ") && table.contains("-$20.00  r1, of p1\n"), "{table}");
    assert!(!table.contains("welcome") && table.ends_with("more lines follow: --after 4\n"), "{table}");
    make_up_the_balance(sidecar).await;
}

/// Page by page, the amounts and what is open come to the balance.
async fn make_up_the_balance(sidecar: &Sidecar) {
    let (mut client, mut sum, mut page_token) = (sidecar.accounts().await, Decimal::ZERO, String::new());
    let usd = |text: &str| text.parse::<Decimal>().expect("an amount");
    loop {
        let request = api::ListHistoryRequest { account: "acme".into(), page_size: 3, page_token, oldest_first: false };
        let page = client.list_history(request).await.expect("a page").into_inner();
        assert!(page.entries.len() <= 3, "{page:?}");
        sum += page.entries.iter().map(|entry| usd(&entry.amount)).sum::<Decimal>();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            assert_eq!((sum - usd(&page.open_usage), page.balance.as_str()), (usd("65.49979"), "65.49979"));
            assert_eq!(sidecar.look_up("acme").await.balance, page.balance);
            return;
        }
    }
}

/// A request of $62 against a month in which there is room for $50, and later for $500.
#[tokio::test]
async fn a_purchase_at_one_sidecar_raises_the_tier_at_the_other() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    let mode = Some(api::Mode::Postpaid.into());
    let terms = api::TermsChange { mode, credit_line: Some("1000".into()), ..payer() };
    one.account("acme", terms, "").await;
    let asked = api::AdmitRequest { model: "kimi-k3".into(), n: Some(64), ..ask("acme", "", 65_000) };
    let mut client = other.admission().await;
    let mut reason = async || {
        let request = api::ExplainRequest { ask: Some(asked.clone()) };
        let answer = client.explain(request).await.expect("an answer").into_inner().answer;
        match answer.expect("an answer").result {
            Some(Answer::Denial(denial)) => denial.reason(),
            Some(Answer::Admitted(_)) | None => api::Reason::Unspecified,
        }
    };
    within(Duration::from_secs(10), "a month without room", async || {
        (reason().await == api::Reason::ExceedsMonthRoom).then_some(())
    })
    .await;
    one.add_credits("acme", "p1", "50", api::CreditKind::Purchased).await;
    within(Duration::from_secs(2), "room by the next tier", async || {
        (reason().await != api::Reason::ExceedsMonthRoom).then_some(())
    })
    .await;
    let there = other.look_up("acme").await;
    assert_eq!((there.tier(), there.month_limit.as_deref()), (api::Tier::Two, Some("500")));
}
