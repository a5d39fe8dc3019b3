//! The table, line by line, and the words and numbers that go with it.

use std::time::Duration;

use serde_json::json;
use tonic::Code;

use super::*;
use crate::decision::Month;
use crate::decision::rate::Limit;

fn shape_of(reason: Reason, profile: Profile) -> (u16, &'static str, Option<&'static str>) {
    let told = told(&Denial::of(reason), "m", profile, false);
    (told.http, told.kind, told.code)
}

fn usd(dollars: i64) -> Credit {
    Credit::from_nanos(dollars * 1_000_000_000)
}

fn money(reason: Reason) -> Denial {
    let amounts = Amounts::Money { limit: usd(50), used: usd(49), requested: usd(2) };
    Denial { amounts, ..Denial::of(reason) }
}

#[test]
fn each_reason_has_its_codes() {
    let table = [
        (Reason::InvalidRequest, 400, Code::InvalidArgument, Some("invalid_request_error")),
        (Reason::UnknownAccount, 401, Code::Unauthenticated, None),
        (Reason::AbuseBlock, 412, Code::FailedPrecondition, Some("PRECONDITION_FAILED")),
        (Reason::FailedPayments, 412, Code::FailedPrecondition, Some("PRECONDITION_FAILED")),
        (Reason::StarterExhausted, 412, Code::FailedPrecondition, Some("PRECONDITION_FAILED")),
        (Reason::MonthlyLimit, 412, Code::FailedPrecondition, Some("MONTHLY_SPEND_LIMIT_EXCEEDED")),
        (Reason::ExceedsMonthRoom, 402, Code::FailedPrecondition, Some("PAYMENT_REQUIRED")),
        (Reason::UserLimit, 402, Code::FailedPrecondition, Some("PAYMENT_REQUIRED")),
        (Reason::CreditsDepleted, 412, Code::FailedPrecondition, Some("CREDIT_DEPLETED")),
        (Reason::ExceedsBalance, 402, Code::FailedPrecondition, Some("PAYMENT_REQUIRED")),
        (Reason::ExceedsLimit, 429, Code::FailedPrecondition, Some("REQUEST_TOO_LARGE_FOR_LIMIT")),
        (Reason::TopUpPending, 402, Code::ResourceExhausted, Some("PAYMENT_REQUIRED")),
        (Reason::InFlight, 402, Code::ResourceExhausted, Some("PAYMENT_REQUIRED")),
        (Reason::RequestsPerMinute, 429, Code::ResourceExhausted, Some("RATE_LIMIT_EXCEEDED")),
        (Reason::PromptTokensPerMinute, 429, Code::ResourceExhausted, Some("RATE_LIMIT_EXCEEDED")),
        (Reason::UncachedPromptTokensPerMinute, 429, Code::ResourceExhausted, Some("RATE_LIMIT_EXCEEDED")),
        (Reason::GeneratedTokensPerMinute, 429, Code::ResourceExhausted, Some("RATE_LIMIT_EXCEEDED")),
        (Reason::Overloaded, 503, Code::Unavailable, Some("SERVICE_OVERLOADED")),
        (Reason::Unavailable, 503, Code::Unavailable, Some("ADMISSION_UNAVAILABLE")),
    ];
    assert_eq!(table.map(|line| line.0), Reason::ALL);
    for (reason, http, grpc, code) in table {
        let told = told(&Denial::of(reason), "m", Profile::Fireworks, false);
        assert_eq!((told.http, told.grpc, told.code), (http, grpc, code), "{reason:?}");
    }
}

#[test]
fn other_profiles_have_their_clients_shapes() {
    for (reason, openai, anthropic) in [
        (
            Reason::CreditsDepleted,
            (429, "insufficient_quota", Some("insufficient_quota")),
            (400, "invalid_request_error", None),
        ),
        (
            Reason::MonthlyLimit,
            (429, "insufficient_quota", Some("insufficient_quota")),
            (400, "invalid_request_error", None),
        ),
        (Reason::RequestsPerMinute, (429, "requests", Some("rate_limit_exceeded")), (429, "rate_limit_error", None)),
        (
            Reason::GeneratedTokensPerMinute,
            (429, "tokens", Some("rate_limit_exceeded")),
            (429, "rate_limit_error", None),
        ),
        (
            Reason::UnknownAccount,
            (401, "invalid_request_error", Some("invalid_api_key")),
            (401, "authentication_error", None),
        ),
        (Reason::Overloaded, (503, "server_error", Some("SERVICE_OVERLOADED")), (503, "overloaded_error", None)),
    ] {
        assert_eq!(shape_of(reason, Profile::OpenAi), openai, "{reason:?}");
        assert_eq!(shape_of(reason, Profile::Anthropic), anthropic, "{reason:?}");
    }
}

#[test]
fn our_trouble_is_never_the_clients_fault() {
    for profile in Profile::ALL {
        for reason in Reason::ALL {
            let trouble = matches!(reason, Reason::Overloaded | Reason::Unavailable);
            assert_eq!(shape_of(reason, profile).0 == 503, trouble, "{profile:?} {reason:?}");
        }
    }
}

#[test]
fn a_body_has_everything_that_is_known() {
    let denial = Denial { resets_after: Some(Month::from_yyyymm(202_612)), ..money(Reason::MonthlyLimit) };
    let body = told(&denial, "m", Profile::Fireworks, false).body("r\"1");
    let message = "The monthly limit is reached (limit $50.00, used $49.00, requested $2.00, begins anew at \
                   2027-01-01T00:00:00Z); raise the monthly limit; adding credits does not help.";
    let expected = json!({
        "error": {
            "type": "billing_error",
            "code": "MONTHLY_SPEND_LIMIT_EXCEEDED",
            "message": message,
            "param": null,
            "metadata": {
                "reason": "monthly_limit",
                "limit": "50",
                "used": "49",
                "requested": "2",
                "retry_after_ms": null,
                "resets_at": "2027-01-01T00:00:00Z",
                "affordable_max_tokens": null,
                "remedy": "raise the monthly limit; adding credits does not help",
            },
        },
        "request_id": "r\"1",
    });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
}

#[test]
fn a_rate_denial_says_how_long_to_wait() {
    let limit = Limit { per_minute: 36_000, burst_seconds: 60 };
    let denial = Denial {
        // Rounded up, to the nanosecond: who waits so long is admitted.
        retry_after: Some(Duration::from_nanos(1_000_000_001)),
        amounts: Amounts::Rate { limit, used: 35_500, requested: 1_000 },
        ..Denial::of(Reason::GeneratedTokensPerMinute)
    };
    let told = told(&denial, "m", Profile::Anthropic, false);
    let body: serde_json::Value = serde_json::from_slice(&told.body("r")).unwrap();
    assert_eq!(body["type"], "error");
    let metadata = &body["error"]["metadata"];
    assert_eq!((&metadata["limit"], &metadata["used"]), (&json!(36_000), &json!(35_500)));
    assert_eq!(metadata["retry_after_ms"], 1_001);
    let numbers = "(limit 36000 per minute, used 35500, requested 1000, retry after 2 s)";
    assert!(told.message.contains(numbers), "{}", told.message);
}

#[test]
fn balances_are_told_only_where_switched_on() {
    for reason in Reason::ALL {
        let hidden = told(&money(reason), "m", Profile::Fireworks, false);
        let shown = told(&money(reason), "m", Profile::Fireworks, true);
        let is_balance = matches!(
            reason,
            Reason::StarterExhausted
                | Reason::CreditsDepleted
                | Reason::ExceedsBalance
                | Reason::TopUpPending
                | Reason::InFlight
        );
        assert_eq!((hidden.limit.is_none(), hidden.used.is_none()), (is_balance, is_balance), "{reason:?}");
        assert_eq!(hidden.message.contains("$49.00"), !is_balance, "{reason:?}: {}", hidden.message);
        assert_eq!(shown.used, Some(Amount::Usd(usd(49))), "{reason:?}");
        assert_eq!(hidden.requested, Some(Amount::Usd(usd(2))), "{reason:?}");
    }
}

#[test]
fn what_never_fits_is_named_with_what_helps() {
    for (bucket, fact, remedy) in [
        (Reason::RequestsPerMinute, "more requests", "lower n"),
        (Reason::PromptTokensPerMinute, "more prompt tokens", "shorten the prompt"),
        (Reason::UncachedPromptTokensPerMinute, "more uncached prompt tokens", "shorten the prompt"),
        (Reason::GeneratedTokensPerMinute, "generate more tokens", "lower max_tokens or n"),
    ] {
        let denial = Denial { bucket: Some(bucket), ..Denial::of(Reason::ExceedsLimit) };
        let message = told(&denial, "m", Profile::Fireworks, false).message;
        assert!(message.contains(fact) && message.contains(remedy), "{message}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    for (invalid, grpc, part) in [
        (Invalid::UnknownModel, Code::InvalidArgument, "(model \"no\\nsuch\")"),
        (Invalid::NoSuchTier, Code::InvalidArgument, "service_tier"),
        (Invalid::NoPrice, Code::InvalidArgument, "price"),
        (Invalid::BadN, Code::InvalidArgument, "completions"),
        (Invalid::AboveContext, Code::InvalidArgument, "context"),
        (Invalid::BadMaxTokens, Code::InvalidArgument, "max_tokens"),
        (Invalid::OtherContent, Code::AlreadyExists, "request id"),
    ] {
        let denial = Denial { invalid: Some(invalid), ..Denial::of(Reason::InvalidRequest) };
        let told = told(&denial, "no\nsuch", Profile::Fireworks, false);
        assert_eq!((told.grpc, told.http), (grpc, 400), "{invalid:?}");
        assert!(told.message.contains(part), "{invalid:?}: {}", told.message);
    }
}

#[test]
fn retries_wait_whole_seconds_rounded_up_and_never_none() {
    for (nanos, seconds) in [(0, 1), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2), (59_900_000_000, 60)] {
        assert_eq!(retry_seconds(Duration::from_nanos(nanos)), seconds, "{nanos} ns");
    }
}
