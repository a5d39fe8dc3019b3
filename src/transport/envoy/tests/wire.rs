//! Our trimmed messages against Envoy's whole ones: what it writes we read, and what we write it reads.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3 as theirs;
use envoy_types::pb::envoy::service::auth::v3::attribute_context as context;
use envoy_types::pb::google::protobuf as well_known;
use prost::Message;

use crate::decision::rate::Limit;
use crate::decision::{Credit, Denial, Reason, RequestId};
use crate::ledger::{Admitted, Answer, Limits, Remaining, Verdict};
use crate::transport::envoy::answer::{admitted, denied};
use crate::transport::envoy::ask::{Found, Name};
use crate::transport::identity::{IdentitySettings, MetadataPath, Who};
use crate::transport::settings::{AnswerSettings, TransportSettings};
use crate::transport::status::{Profile, told};

/// A check with every field that Envoy may fill in around those that we read.
fn their_check(http: context::HttpRequest) -> theirs::CheckRequest {
    let string = |text: &str| well_known::Value { kind: Some(well_known::value::Kind::StringValue(text.into())) };
    let object = |key: &str, value| well_known::Struct { fields: HashMap::from([(key.into(), value)]) };
    let payload = well_known::value::Kind::StructValue(object("sub", string("acme")));
    let jwt = object("payload", well_known::Value { kind: Some(payload) });
    let number = well_known::value::Kind::NumberValue(1.5);
    let other = object("x", well_known::Value { kind: Some(number) });
    let filter_metadata = HashMap::from([("jwt".into(), jwt), ("other".into(), other)]);
    let peer = context::Peer { service: "s".into(), principal: "p".into(), ..Default::default() };
    theirs::CheckRequest {
        attributes: Some(theirs::AttributeContext {
            source: Some(peer.clone()),
            destination: Some(peer),
            request: Some(context::Request {
                time: Some(well_known::Timestamp { seconds: 1, nanos: 2 }),
                http: Some(http),
            }),
            context_extensions: HashMap::from([("k".into(), "v".into())]),
            metadata_context: Some(core::Metadata { filter_metadata, ..Default::default() }),
            route_metadata_context: Some(core::Metadata::default()),
            tls_session: Some(context::TlsSession { sni: "sni".into() }),
        }),
    }
}

fn their_http() -> context::HttpRequest {
    context::HttpRequest {
        id: "7".into(),
        method: "POST".into(),
        path: "/v1".into(),
        host: "h".into(),
        scheme: "https".into(),
        size: -1,
        protocol: "HTTP/2".into(),
        ..Default::default()
    }
}

/// Who is found in a check, and what for.
fn read(http: context::HttpRequest) -> (String, u64) {
    let path = MetadataPath { namespace: "jwt".into(), path: vec!["payload".into(), "sub".into()] };
    let identity = IdentitySettings { metadata: Some(path), ..IdentitySettings::default() };
    let settings = TransportSettings { identity, ..TransportSettings::default() };
    let check = their_check(http).encode_to_vec();
    let found = Found::in_check(&check, &settings).unwrap().unwrap();
    assert_eq!(found.who(&settings), Who::Account("acme".into()));
    assert_eq!(found.ours, [b"x-tollgate-admin"]);
    let model = found.wanted(&settings).unwrap().model.into_owned();
    (model, found.name().id.attempt.into())
}

const BODY: &str = r#"{"model":"m"}"#;

#[test]
fn a_map_of_headers_and_a_text_body_are_read() {
    let headers = [(":path", "/v1"), ("x-envoy-attempt-count", "3"), ("x-tollgate-admin", "yes")];
    let headers = HashMap::from(headers.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(read(context::HttpRequest { headers, body: BODY.into(), ..their_http() }), ("m".into(), 3));
}

#[test]
fn raw_headers_and_a_raw_body_are_read() {
    let raw =
        |key: &str, value: &[u8]| core::HeaderValue { key: key.into(), raw_value: value.into(), ..Default::default() };
    let headers =
        vec![raw("a", b"1"), raw("a", b"\xff"), raw("x-envoy-attempt-count", b"4"), raw("x-tollgate-admin", b"")];
    let header_map = Some(core::HeaderMap { headers });
    assert_eq!(read(context::HttpRequest { header_map, raw_body: BODY.into(), ..their_http() }), ("m".into(), 4));
}

/// The message behind the prefix of a gRPC call: not compressed, and as long as it says.
fn their_reading(frame: &Bytes) -> theirs::CheckResponse {
    let (prefix, message) = frame.split_first_chunk::<5>().unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    assert_eq!((prefix[0], &prefix[1..]), (0, &length[..]));
    theirs::CheckResponse::decode(message).unwrap()
}

/// As `name: value`; every one of them overwrites what is there.
fn texts(headers: &[core::HeaderValueOption]) -> Vec<String> {
    let text = |option: &core::HeaderValueOption| {
        assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
        #[expect(deprecated, reason = "it would take the action's place")]
        let append = option.append;
        assert_eq!(append, None);
        let header = option.header.as_ref().unwrap();
        format!("{}: {}", header.key, header.value)
    };
    headers.iter().map(text).collect()
}

fn name(attempt: u32) -> Name<'static> {
    Name { text: b"r1".into(), id: RequestId { digest: 1, attempt } }
}

fn answer(verdict: Verdict) -> Answer {
    let limit = Limit { per_minute: 10, burst_seconds: 60 };
    let requests = Remaining { limit, remaining: 9, reset: Duration::from_secs(6) };
    Answer {
        verdict,
        limits: Some(Limits { requests, tokens: None }),
        balance: Some(Credit::from_nanos(-1_500_000_000)),
    }
}

#[test]
fn envoy_reads_an_admission() {
    let hold = Admitted {
        cost: Credit::ZERO,
        out_max: 128,
        capped: true,
        life: Duration::from_secs(60),
        repeated: false,
        shadow: None,
    };
    let came_in: [&[u8]; 3] = [b"x-tollgate-account", b"x-tollgate-admin", b"x-tollgate-attempt"];
    let settings = AnswerSettings { show_balances: true, ..AnswerSettings::default() };
    for (attempt, removed, attempt_header) in [
        (0, &["x-tollgate-admin", "x-tollgate-attempt"][..], None),
        (3, &["x-tollgate-admin"], Some("x-tollgate-attempt: 3")),
    ] {
        let answer = answer(Verdict::Admitted(hold));
        let response = their_reading(&admitted("acme", &name(attempt), &hold, &answer, &settings, &came_in));
        assert_eq!(response.status.unwrap().code, 0);
        let Some(theirs::check_response::HttpResponse::OkResponse(ok)) = response.http_response else {
            panic!("{:?}", response.http_response);
        };
        let mut upstream = vec!["x-tollgate-account: acme", "x-tollgate-request-id: r1", "x-tollgate-max-tokens: 128"];
        upstream.extend(attempt_header);
        assert_eq!(texts(&ok.headers), upstream);
        assert_eq!(ok.headers_to_remove, removed);
        let client = texts(&ok.response_headers_to_add);
        assert!(client.contains(&"x-ratelimit-remaining-requests: 9".into()), "{client:?}");
        assert!(client.contains(&"x-tollgate-balance: -1.5".into()), "{client:?}");
    }
}

#[test]
fn envoy_reads_a_denial_and_our_own_trouble() {
    for (reason, http, grpc, is_error) in [
        (Reason::CreditsDepleted, 412, 9, false),
        (Reason::Overloaded, 503, 14, false),
        (Reason::Unavailable, 503, 14, true),
    ] {
        let denial = Denial { retry_after: Some(Duration::from_millis(1_500)), ..Denial::of(reason) };
        let answer = answer(Verdict::Denied(denial));
        let told = told(&denial, "m", Profile::Fireworks, false);
        let response = their_reading(&denied(&told, &name(0), Some(&answer), &AnswerSettings::default()));
        assert_eq!(response.status.unwrap().code, grpc, "{reason:?}");
        let (found, was_error) = match response.http_response.unwrap() {
            theirs::check_response::HttpResponse::DeniedResponse(denied) => (denied, false),
            theirs::check_response::HttpResponse::ErrorResponse(error) => (error, true),
            theirs::check_response::HttpResponse::OkResponse(ok) => panic!("{ok:?}"),
        };
        assert_eq!((found.status.unwrap().code, was_error), (http, is_error), "{reason:?}");
        let headers = texts(&found.headers);
        for header in ["content-type: application/json", "retry-after: 2", "x-should-retry: true"] {
            assert!(headers.contains(&header.into()), "{header} in {headers:?}");
        }
        assert!(!headers.iter().any(|header| header.starts_with("x-tollgate-balance")), "{headers:?}");
        let body: serde_json::Value = serde_json::from_str(&found.body).unwrap();
        assert_eq!((&body["request_id"], &body["error"]["metadata"]["reason"]), (&"r1".into(), &reason.name().into()));
    }
}
