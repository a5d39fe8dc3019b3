//! One realistic `CheckRequest`: 16 headers, about 1.8 kB, as Envoy sends it behind a JWT filter and a model router.
//!
//! It is encoded once; API key and request id have fixed widths and are written into a copy for each request.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::{
    Address, Metadata, SocketAddress, address::Address as AddressKind, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use prost::Message as _;

pub const MODEL: &str = "kimi-k3";
pub const MAX_TOKENS: u64 = 16;
/// What is written over in each copy; as wide as a real key and a real id.
const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

/// An encoded gRPC frame and where key and request id stand in it.
pub struct Template {
    frame: Vec<u8>,
    key_at: usize,
    key_len: usize,
    id_at: usize,
}

impl Template {
    /// A template for keys as long as `key`.
    pub fn new(key: &str) -> Self {
        let message = check_request(key).encode_to_vec();
        let mut frame = Vec::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).expect("a small message"));
        frame.extend_from_slice(&message);
        let key_at = position(&frame, key.as_bytes());
        let id_at = position(&frame, REQUEST_ID.as_bytes());
        Self { frame, key_at, key_len: key.len(), id_at }
    }

    /// The frame for one request.
    pub fn render(&self, key: &str, number: u64) -> Bytes {
        let mut frame = BytesMut::from(&self.frame[..]);
        frame[self.key_at..self.key_at + self.key_len].copy_from_slice(key.as_bytes());
        let digits = format!("{number:012x}");
        let end = self.id_at + REQUEST_ID.len();
        frame[end - 12..end].copy_from_slice(&digits.as_bytes()[digits.len() - 12..]);
        frame.freeze()
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).expect("the template holds it")
}

fn check_request(key: &str) -> CheckRequest {
    let http = HttpRequest {
        id: "9182736455463728190".to_owned(),
        method: "POST".to_owned(),
        headers: headers(key),
        path: "/v1/chat/completions".to_owned(),
        host: "llm.example.com".to_owned(),
        scheme: "https".to_owned(),
        size: 1_834,
        protocol: "HTTP/2".to_owned(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer("10.244.1.17", 53_412, "spiffe://cluster.local/ns/gateway/sa/edge")),
            destination: Some(peer("10.244.3.9", 8_443, "spiffe://cluster.local/ns/gateway/sa/envoy")),
            request: Some(Request { time: None, http: Some(http) }),
            context_extensions: HashMap::from([
                ("policy".to_owned(), "standard".to_owned()),
                ("route".to_owned(), "chat-completions".to_owned()),
            ]),
            metadata_context: Some(metadata()),
            ..AttributeContext::default()
        }),
    }
}

fn headers(key: &str) -> HashMap<String, String> {
    let cookie = format!("session={}", "c".repeat(440));
    [
        (":authority", "llm.example.com"),
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("authorization", &format!("Bearer {key}")),
        ("content-length", "1834"),
        ("content-type", "application/json"),
        ("cookie", &cookie),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("user-agent", "OpenAI/Python 1.99.2"),
        ("x-forwarded-for", "203.0.113.24"),
        ("x-request-id", REQUEST_ID),
        ("x-tollgate-max-tokens", &MAX_TOKENS.to_string()),
        ("x-tollgate-model", MODEL),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn metadata() -> Metadata {
    let claims = [("sub", "acct-0000000042"), ("iss", "https://id.example.com/"), ("aud", "llm-gateway")];
    let payload = Value { kind: Some(Kind::StructValue(structure(&claims))) };
    let jwt = Struct { fields: HashMap::from([("payload".to_owned(), payload)]) };
    let model = structure(&[("model", MODEL), ("stream", "true")]);
    Metadata {
        filter_metadata: HashMap::from([
            ("envoy.filters.http.jwt_authn".to_owned(), jwt),
            ("gateway.model".to_owned(), model),
        ]),
        ..Metadata::default()
    }
}

fn structure(fields: &[(&str, &str)]) -> Struct {
    let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
    Struct { fields: fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect() }
}

fn peer(address: &str, port: u32, principal: &str) -> Peer {
    let socket = SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    Peer {
        address: Some(Address { address: Some(AddressKind::SocketAddress(socket)) }),
        principal: principal.to_owned(),
        ..Peer::default()
    }
}
