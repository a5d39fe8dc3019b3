//! The headers of an answer, name by name.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3::OkHttpResponse;
use prost::Message as _;

use super::*;
use crate::decision::rate::Limit;

fn remaining(per_minute: u64, remaining: u64, reset_ms: u64) -> Remaining {
    let limit = Limit { per_minute, burst_seconds: 60 };
    Remaining { limit, remaining, reset: Duration::from_millis(reset_ms) }
}

/// Every header that an answer has, as `name: value`.
fn check(
    limits: Option<Limits>,
    unit: RateUnit,
    reason: Option<Reason>,
    retry: Option<Duration>,
    expected: &[(&str, &str)],
) {
    let list = answered(limits.as_ref(), unit, reason, retry);
    let found: Vec<_> = list.iter().map(|option| option.header.as_ref().unwrap()).collect();
    let found: Vec<_> = found.iter().map(|header| (header.key.as_str(), header.value.as_str())).collect();
    assert_eq!(found, expected);
    let overwrites = |option: &HeaderValueOption| option.append_action() == HeaderAppendAction::OverwriteIfExistsOrAdd;
    assert!(list.iter().all(overwrites), "a client's copy would stay");
}

/// The headers to the client, as Envoy reads them.
fn answered(
    limits: Option<&Limits>,
    unit: RateUnit,
    reason: Option<Reason>,
    retry: Option<Duration>,
) -> Vec<HeaderValueOption> {
    let mut headers = Writer::with_capacity(0).headers(6);
    headers.add_answer(limits, unit, reason, retry);
    OkHttpResponse::decode(headers.finish().finish()).unwrap().response_headers_to_add
}

fn limits() -> Limits {
    let tokens = [remaining(3_600_000, 3_599_000, 17), remaining(900_000, 899_000, 67), remaining(36_000, 880, 1_001)];
    Limits { requests: remaining(6_000, 5_999, 10), tokens: Some(tokens) }
}

#[test]
fn limits_are_told_with_what_is_left_of_them() {
    let policy = "\"requests\";q=6000;w=60, \"prompt\";q=3600000;w=60, \"uncached-prompt\";q=900000;w=60, \
                  \"generated\";q=36000;w=60";
    check(
        Some(limits()),
        RateUnit::PerMinute,
        None,
        None,
        &[
            ("x-ratelimit-limit-requests", "6000"),
            ("x-ratelimit-remaining-requests", "5999"),
            ("x-ratelimit-reset-requests", "1"),
            ("x-ratelimit-limit-tokens-prompt", "3600000"),
            ("x-ratelimit-remaining-tokens-prompt", "3599000"),
            ("x-ratelimit-limit-tokens-cache-adjusted-prompt", "900000"),
            ("x-ratelimit-remaining-tokens-cache-adjusted-prompt", "899000"),
            ("x-ratelimit-limit-tokens-generated", "36000"),
            ("x-ratelimit-remaining-tokens-generated", "880"),
            ("ratelimit-policy", policy),
            ("ratelimit", "\"generated\";r=880;t=2"),
            ("x-ratelimit-over-limit", "no"),
            ("x-should-retry", "false"),
        ],
    );
}

#[test]
fn token_headers_may_count_per_second() {
    let batchless = Limits { tokens: Some([remaining(3_600, 120, 0); 3]), ..limits() };
    let list = answered(Some(&batchless), RateUnit::PerSecond, None, None);
    let value = |name: &str| {
        let found = list.iter().filter_map(|option| option.header.as_ref()).find(|header| header.key == name);
        found.map(|header| header.value.clone())
    };
    assert_eq!(value("x-ratelimit-limit-tokens-prompt").unwrap(), "60");
    assert_eq!(value("x-ratelimit-remaining-tokens-prompt").unwrap(), "2");
    assert_eq!(value("x-ratelimit-limit-requests").unwrap(), "6000", "requests are always counted per minute");
}

#[test]
fn batch_has_no_token_limits_and_strangers_have_none_at_all() {
    let batch = Limits { requests: remaining(10, 0, 60_000), tokens: None };
    check(
        Some(batch),
        RateUnit::PerMinute,
        Some(Reason::RequestsPerMinute),
        Some(Duration::from_millis(5_999)),
        &[
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "60"),
            ("ratelimit-policy", "\"requests\";q=10;w=60"),
            ("ratelimit", "\"requests\";r=0;t=60"),
            ("x-ratelimit-over-limit", "yes"),
            ("x-should-retry", "true"),
            ("retry-after", "6"),
        ],
    );
    check(
        None,
        RateUnit::PerMinute,
        Some(Reason::UnknownAccount),
        None,
        &[("x-ratelimit-over-limit", "no"), ("x-should-retry", "false")],
    );
}

#[test]
fn the_largest_limits_fit_the_line() {
    let most = Remaining {
        limit: Limit { per_minute: u64::MAX, burst_seconds: u32::MAX },
        remaining: u64::MAX,
        reset: Duration::MAX,
    };
    let list = answered(Some(&Limits { requests: most, tokens: Some([most; 3]) }), RateUnit::PerMinute, None, None);
    let policy =
        list.iter().filter_map(|option| option.header.as_ref()).find(|header| header.key == "ratelimit-policy");
    let expected = POLICY_NAMES.map(|name| format!("\"{name}\";q=18446744073709551615;w=60")).join(", ");
    assert_eq!(policy.map(|header| header.value.clone()), Some(expected));
}
