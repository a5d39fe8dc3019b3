//! The cashier: what it says, what answers mean to it, and that no need is bought twice or lost.

mod needs;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::alert::alert;
use super::purchase::{Verdict, body, verdict, wait};
use super::settings::{Endpoint, Secrets};
use super::signature::signature;
use super::webhook::{Answer, CallError};
use crate::clock::UnixMs;
use crate::decision::terms::Tier;
use crate::decision::{Credit, Month};
use crate::pool::message::{Event, Happening, Wanted};

fn wanted() -> Wanted {
    let amount = Credit::from_nanos(20_500_000_000);
    Wanted { account: "acme".into(), key: "acme.7.1".into(), amount, attempt: 1, age: Duration::ZERO }
}

#[test]
fn a_signature_is_what_others_compute() {
    let (new, old) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let body = br#"{"type":"purchase"}"#;
    let by_new = "v1=8654ad6d9aead6b5dfd670cc3cba437c3b3f78925603aa419fc67c56439a6408";
    let by_old = "v1=69db54ca962ac91f9594e40cb0c370a26ae6ade3d608b393d3c6b29a54e8dfee";
    assert_eq!(signature(&Secrets::parse(new).unwrap(), 1_791_211_200, body), by_new);
    let both = Secrets::parse(&format!("{new}\n{old}\n")).unwrap();
    assert_eq!(signature(&both, 1_791_211_200, body), format!("{by_new},{by_old}"));
    assert!(!format!("{both:?}").contains(new));
    assert!(Secrets::parse("").is_err() && Secrets::parse("short").is_err());
    assert!(Secrets::parse(&format!("{new} {new} {new}")).is_err());
}

#[test]
fn a_purchase_is_said_the_same_way_however_old_it_is() {
    let said =
        r#"{"account":"acme","amount":"20.5","attempt":1,"currency":"USD","purchase_id":"acme.7.1","type":"purchase"}"#;
    assert_eq!(body(&wanted()), said);
    assert_eq!(body(&Wanted { age: Duration::from_hours(9), ..wanted() }), said);
}

/// `Some(true)` is a yes, `Some(false)` a no, and everything else is asked again.
fn check_answer(status: u16, body: &'static str, expected: Option<bool>) {
    let answer = Answer { status: StatusCode::from_u16(status).unwrap(), body: Bytes::from_static(body.as_bytes()) };
    let verdict = verdict(&wanted(), Ok(answer));
    let said = match &verdict {
        Verdict::Bought(_) => Some(true),
        Verdict::Declined(_) => Some(false),
        Verdict::Unknown(_) => None,
    };
    assert_eq!(said, expected, "{status} {body:?}: {verdict:?}");
}

#[test]
fn only_what_says_so_is_a_yes_or_a_no() {
    for (status, body, expected) in [
        (200, r#"{"status":"succeeded"}"#, Some(true)),
        (201, r#"{"status":"succeeded","purchase_id":"acme.7.1","more":[1]}"#, Some(true)),
        (200, r#"{"status":"succeeded","purchase_id":"acme.7.0"}"#, None),
        (200, r#"{"status":"declined","reason":"card expired"}"#, Some(false)),
        (200, r#"{"status":"declined","reason":null}"#, Some(false)),
        (402, "", Some(false)),
        (402, r#"{"status":"declined","purchase_id":"other"}"#, None),
        (402, "<html>", Some(false)),
        (200, r#"{"status":"pending"}"#, None),
        (200, r#"{"status":"Succeeded"}"#, None),
        (200, r#"{"status":"succeeded""#, None),
        (200, "succeeded", None),
        (204, "", None),
        (302, r#"{"status":"succeeded"}"#, None),
        (400, r#"{"status":"declined"}"#, None),
        (401, "", None),
        (409, r#"{"status":"succeeded"}"#, None),
        (500, r#"{"status":"succeeded"}"#, None),
        (503, r#"{"status":"declined"}"#, None),
    ] {
        check_answer(status, body, expected);
    }
    let late = verdict(&wanted(), Err(CallError::Late(Duration::from_secs(10))));
    assert_eq!(late, Verdict::Unknown("no answer within 10s".into()));
    let reason = verdict(
        &wanted(),
        Ok(Answer { status: StatusCode::PAYMENT_REQUIRED, body: "{\"status\":\"\",\"reason\":\"a\\nb\"}".into() }),
    );
    assert_eq!(reason, Verdict::Declined("ab".into()));
    for (reference, kept) in [
        (r#""ch_1""#, "ch_1"),
        (r#""a\nb""#, "ab"),
        ("null", ""),
        (&format!("\"{:0>200}\"", 1), &"0".repeat(128)),
        ("12345", "12345"),
        ("18446744073709551615", "18446744073709551615"),
        ("1e999", ""),
        (r#""\ud800""#, ""),
        ("true", ""),
        (r#"{"id":["ch_1"]}"#, ""),
    ] {
        let body = format!(r#"{{"status":"succeeded","reference":{reference}}}"#);
        let bought = verdict(&wanted(), Ok(Answer { status: StatusCode::OK, body: body.into() }));
        assert_eq!(bought, Verdict::Bought(kept.into()));
    }
}

#[test]
fn waits_grow_with_the_need_and_differ() {
    for (age, shortest, longest) in [(0, 800, 1_200), (10, 4_000, 6_000), (3_600, 240_000, 360_000)] {
        let waits: Vec<u128> = (0..500).map(|dice| wait(Duration::from_secs(age), dice).as_millis()).collect();
        assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&shortest), Some(&longest)), "{age} s");
    }
}

#[test]
fn addresses_are_safe_or_here() {
    for right in [
        "https://pay.example",
        "https://pay.example:8443/a?b=c",
        "http://127.0.0.1:1/x",
        "http://[::1]:1",
        "http://localhost",
    ] {
        assert!(Endpoint::parse(right).is_ok(), "{right}");
    }
    for wrong in
        ["pay.example", "http://pay.example", "ftp://localhost", "https://me:secret@pay.example", "https://", ""]
    {
        assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
    }
    let shown = format!("{:?}", Endpoint::parse("https://pay.example/secret?secret").unwrap());
    assert_eq!(shown, "https://pay.example");
}

/// An event at a fixed instant, and the alert for it.
fn check_alert(what: Happening, expected: Option<(&str, &str)>) {
    let alert = alert(&Event { at: UnixMs(1_791_211_200_123), account: "acme".into(), what });
    let told = alert.as_ref().map(|alert| (alert.id.as_str(), alert.body.as_str()));
    assert_eq!(told, expected);
}

#[test]
fn alerts_have_names_and_ids_of_their_own() {
    let month = Month::from_yyyymm(202_610);
    check_alert(Happening::TopUpNeeded { key: "acme.1.0".into(), amount: Credit::ZERO }, None);
    check_alert(
        Happening::MonthThreshold { month, percent: 80 },
        Some((
            "acme.budget_80.1791211200123",
            r#"{"account":"acme","at":"2026-10-05T14:40:00.123Z","id":"acme.budget_80.1791211200123","month":"2026-10","percent":80,"type":"budget_80"}"#,
        )),
    );
    check_alert(
        Happening::MonthThreshold { month, percent: 100 },
        Some((
            "acme.budget_reached.1791211200123",
            r#"{"account":"acme","at":"2026-10-05T14:40:00.123Z","id":"acme.budget_reached.1791211200123","month":"2026-10","percent":100,"type":"budget_reached"}"#,
        )),
    );
    let (key, amount) = ("acme.1.0".to_owned(), Credit::from_nanos(20_500_000_000));
    check_alert(
        Happening::TopUpFailed { key, amount, declines: 1, retry_at: Some(UnixMs(1_791_211_260_000)) },
        Some((
            "acme.1.0.topup_failed",
            r#"{"account":"acme","amount":"20.5","at":"2026-10-05T14:40:00.123Z","declines":1,"id":"acme.1.0.topup_failed","purchase_id":"acme.1.0","retry_at":"2026-10-05T14:41:00Z","type":"topup_failed"}"#,
        )),
    );
    check_alert(
        Happening::TierChanged { from: Tier::None, to: Tier::One },
        Some((
            "acme.tier_changed.1791211200123",
            r#"{"account":"acme","at":"2026-10-05T14:40:00.123Z","from":"none","id":"acme.tier_changed.1791211200123","to":"one","type":"tier_changed"}"#,
        )),
    );
    check_alert(
        Happening::Depleted,
        Some((
            "acme.depleted.1791211200123",
            r#"{"account":"acme","at":"2026-10-05T14:40:00.123Z","id":"acme.depleted.1791211200123","type":"depleted"}"#,
        )),
    );
}
