//! From a check to an ask, as a table; and that no bytes bring it down.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as theirs;
use envoy_types::pb::envoy::service::auth::v3::attribute_context as context;
use proptest::prelude::*;
use prost::Message;

use crate::decision::{Prompt, RequestId, ServiceTier};
use crate::transport::body::BodyFault;
use crate::transport::envoy::ask::{Found, Name, Unclear};
use crate::transport::headers::Writer;
use crate::transport::identity::{IdentitySettings, MetadataPath, Who, key_digest};
use crate::transport::proto::envoy as ours;
use crate::transport::request_id;
use crate::transport::settings::{AskSettings, TransportSettings};

const METADATA_CONTEXT: u32 = 11;

/// The attributes of a check with these headers and this body, as Envoy writes them.
fn attributes_of(headers: &[(&str, &str)], body: &str, metadata: &ours::Metadata) -> Vec<u8> {
    let header = |(key, value): &(&str, &str)| core::HeaderValue {
        key: (*key).into(),
        raw_value: value.as_bytes().into(),
        ..Default::default()
    };
    let header_map = Some(core::HeaderMap { headers: headers.iter().map(header).collect() });
    let http = context::HttpRequest { header_map, body: body.into(), ..Default::default() };
    let request = Some(context::Request { http: Some(http), ..Default::default() });
    let mut attributes = theirs::AttributeContext { request, ..Default::default() }.encode_to_vec();
    // Written by hand, because Envoy's type would refuse what is no UTF-8.
    let mut rest = Writer::with_capacity(64);
    rest.write_bytes(METADATA_CONTEXT, &metadata.encode_to_vec());
    attributes.extend_from_slice(&rest.finish());
    attributes
}

fn found<'a>(attributes: &'a [u8], settings: &TransportSettings) -> Found<'a> {
    Found::among(attributes, settings).expect("Envoy's messages are well-formed").expect("it is about HTTP")
}

fn trusting() -> TransportSettings {
    let ask = AskSettings { trust_headers: true, ..AskSettings::default() };
    let identity = IdentitySettings {
        account_header: Some("x-account".into()),
        user_header: Some("x-user".into()),
        ..IdentitySettings::default()
    };
    TransportSettings { ask, identity, ..TransportSettings::default() }
}

/// Model, user, service tier, prompt, cached, max_tokens, n.
type Said = (&'static str, Option<&'static str>, ServiceTier, Prompt, Option<u64>, Option<u64>, u32);

fn check(settings: &TransportSettings, headers: &[(&str, &str)], body: &str, expected: Result<Said, Unclear>) {
    let attributes = attributes_of(headers, body, &NO_METADATA);
    let wanted = found(&attributes, settings).wanted(settings);
    let id = RequestId { digest: 1, attempt: 0 };
    let ask = wanted.as_ref().map(|wanted| wanted.ask("acme", id)).map_err(|unclear| *unclear);
    let said = ask
        .map(|ask| (ask.model, ask.user, ask.service_tier, ask.prompt, ask.cached_tokens_hint, ask.max_tokens, ask.n));
    assert_eq!(said, expected, "{headers:?} {body}");
}

#[test]
fn strangers_headers_say_nothing_about_the_ask() {
    let body = r#"{"model":"m","max_tokens":9,"user":"u","n":2,"service_tier":"priority"}"#;
    let size = u64::try_from(body.len()).unwrap();
    let said = |prompt| Ok(("m", None, ServiceTier::Priority, Prompt::Bytes(prompt), None, Some(9), 2));
    let settings = TransportSettings::default();
    let believing = IdentitySettings { user_from_body: true, ..IdentitySettings::default() };
    let believing = TransportSettings { identity: believing, ..TransportSettings::default() };
    let named = ("m", Some("u"), ServiceTier::Priority, Prompt::Bytes(size), None, Some(9), 2);
    check(&believing, &[("x-user", "v")], body, Ok(named));
    check(&believing, &[], r#"{"model":"m","user":"\u0007"}"#, Err(Unclear::User));
    check(&settings, &[], body, said(size));
    check(&settings, &[("content-length", "100000")], body, said(100_000));
    check(&settings, &[("content-length", "1")], body, said(size));
    check(&settings, &[("content-length", "x")], body, said(size));
    check(&settings, &[("x-tollgate-model", "cheap"), ("x-tollgate-prompt-tokens", "1")], body, said(size));
    check(&settings, &[("x-tollgate-model", "cheap"), ("x-ai-model", "cheap")], "{}", Err(Unclear::NoModel));
}

#[test]
fn trusted_headers_say_it_and_the_body_says_the_rest() {
    let settings = trusting();
    let all = [
        ("x-tollgate-model", "m"),
        ("x-tollgate-prompt-tokens", "1000"),
        ("x-tollgate-cached-tokens", "600"),
        ("x-tollgate-max-tokens", "50"),
        ("x-tollgate-n", "3"),
        ("x-tollgate-service-tier", "fast"),
        ("x-user", "u"),
    ];
    let said = ("m", Some("u"), ServiceTier::Fast, Prompt::Tokens(1_000), Some(600), Some(50), 3);
    check(&settings, &all, "", Ok(said));
    check(&settings, &all, "not JSON at all", Ok(said));
    check(&settings, &all, r#"{"model":"x","user":"x","n":9,"max_tokens":9,"service_tier":"batch"}"#, Ok(said));
    let body = r#"{"model":"x","user":"x","n":2,"prompt":["a","b"],"max_tokens":7}"#;
    let size = Prompt::Bytes(u64::try_from(body.len()).unwrap());
    let said = ("m", None, ServiceTier::Standard, size, None, Some(7), 4);
    check(&settings, &[("x-ai-model", "m")], body, Ok(said));
    let said = ("m", None, ServiceTier::Standard, Prompt::Bytes(3), None, None, 1);
    check(&settings, &[("x-ai-model", "m")], "PNG", Ok(said));
    for nobody in ["", "\u{7}", &"u".repeat(129)] {
        check(&settings, &[("x-ai-model", "m"), ("x-user", nobody)], "PNG", Err(Unclear::User));
    }
}

#[test]
fn what_is_unclear_is_refused() {
    let default = TransportSettings::default();
    for (body, unclear) in [
        ("", Unclear::NoModel),
        (r#"{"model":""}"#, Unclear::NoModel),
        (r#"{"messages":["#, Unclear::NoModel),
        ("PNG", Unclear::Body(BodyFault::NotJson)),
        (r#"{"model":"a","model":"b"}"#, Unclear::Body(BodyFault::Ambiguous("model"))),
        (r#"{"model":"a","service_tier":"gold"}"#, Unclear::UnknownServiceTier),
    ] {
        check(&default, &[], body, Err(unclear));
    }
    let trusting = trusting();
    for (headers, unclear) in [
        (&[("x-tollgate-model", "a"), ("x-tollgate-model", "b")][..], Unclear::NoModel),
        (&[("x-tollgate-model", "a"), ("x-tollgate-n", "-1")], Unclear::Header("x-tollgate-n")),
        (&[("x-tollgate-model", "a"), ("x-tollgate-n", "1"), ("x-tollgate-n", "2")], Unclear::Header("x-tollgate-n")),
        (
            &[("x-tollgate-model", "a"), ("x-tollgate-prompt-tokens", "9e9")],
            Unclear::Header("x-tollgate-prompt-tokens"),
        ),
    ] {
        check(&trusting, headers, "", Err(unclear));
    }
}

#[test]
fn openai_names_of_service_tiers_are_known() {
    for (name, tier) in [
        ("auto", ServiceTier::Standard),
        ("default", ServiceTier::Standard),
        ("standard", ServiceTier::Standard),
        ("priority", ServiceTier::Priority),
        ("fast", ServiceTier::Fast),
        ("batch", ServiceTier::Batch),
    ] {
        let body = format!(r#"{{"model":"m","service_tier":"{name}"}}"#);
        let prompt = Prompt::Bytes(u64::try_from(body.len()).unwrap());
        check(&TransportSettings::default(), &[], &body, Ok(("m", None, tier, prompt, None, None, 1)));
    }
}

const NO_METADATA: ours::Metadata = ours::Metadata { filter_metadata: Vec::new() };

fn who(settings: &IdentitySettings, headers: &[(&str, &str)], metadata: &ours::Metadata, expected: Who<'_>) {
    let attributes = attributes_of(headers, "", metadata);
    let settings = TransportSettings { identity: settings.clone(), ..TransportSettings::default() };
    assert_eq!(found(&attributes, &settings).who(&settings), expected, "{headers:?}");
}

fn metadata(value: ours::Value) -> ours::Metadata {
    let field = |key: &'static str, value| ours::Field { key: Bytes::from_static(key.as_bytes()), value: Some(value) };
    let payload = ours::Value {
        struct_value: Some(ours::Struct { fields: vec![field("sub", value)] }),
        string_value: Bytes::new(),
    };
    let value = Some(ours::Struct { fields: vec![field("payload", payload)] });
    ours::Metadata { filter_metadata: vec![ours::Namespace { key: Bytes::from_static(b"jwt"), value }] }
}

#[test]
fn a_key_names_its_owner_and_nothing_else_does() {
    let key = || Who::Key(key_digest(b"k").unwrap());
    let settings = IdentitySettings::default();
    let long = "k".repeat(513);
    for (headers, expected) in [
        (&[][..], Who::Nobody),
        (&[("authorization", "Bearer k")], key()),
        (&[("authorization", "bearer  k ")], key()),
        (&[("x-api-key", "k")], key()),
        (&[("authorization", "Basic k"), ("x-api-key", "k")], key()),
        (&[("authorization", "Bearer k"), ("x-api-key", "other")], key()),
        (&[("authorization", "Bearer ")], Who::Nobody),
        (&[("authorization", "Bearer")], Who::Nobody),
        (&[("authorization", "Bearer k"), ("authorization", "Bearer j")], Who::Nobody),
        (&[("x-api-key", &long)], Who::Nobody),
        (&[("x-tollgate-account", "acme"), ("x-account", "acme")], Who::Nobody),
        (&[("x-tollgate-account", "acme"), ("authorization", "Bearer k")], key()),
    ] {
        who(&settings, headers, &NO_METADATA, expected);
    }
    let keyless = IdentitySettings { api_key: false, ..settings };
    who(&keyless, &[("authorization", "Bearer k")], &NO_METADATA, Who::Nobody);
}

#[test]
fn a_trusted_header_names_an_account() {
    let settings = trusting().identity;
    let key = [("authorization", "Bearer k")];
    who(&settings, &[("x-account", "acme"), key[0]], &NO_METADATA, Who::Account("acme".into()));
    who(&settings, &[("x-account", "acme"), ("x-account", "acme")], &NO_METADATA, Who::Account("acme".into()));
    who(&settings, &[("x-account", "acme"), ("x-account", "other")], &NO_METADATA, Who::Nobody);
    who(&settings, &[("x-account", "a b"), key[0]], &NO_METADATA, Who::Nobody);
    who(&settings, &[("x-account", ""), key[0]], &NO_METADATA, Who::Nobody);
    who(&settings, &key, &NO_METADATA, Who::Key(key_digest(b"k").unwrap()));
}

#[test]
fn envoys_metadata_names_an_account() {
    let path = MetadataPath { namespace: "jwt".into(), path: vec!["payload".into(), "sub".into()] };
    let settings = IdentitySettings { metadata: Some(path), ..trusting().identity };
    let text = |name: &'static [u8]| ours::Value { string_value: Bytes::from_static(name), struct_value: None };
    let other = [("x-account", "other")];
    who(&settings, &other, &metadata(text(b"acme")), Who::Account("acme".into()));
    who(&settings, &other, &metadata(text(b"\xff")), Who::Nobody);
    who(&settings, &other, &metadata(ours::Value::default()), Who::Nobody);
    who(&settings, &other, &NO_METADATA, Who::Account("other".into()));
    who(&IdentitySettings::default(), &[], &metadata(text(b"acme")), Who::Nobody);
}

#[test]
fn a_request_keeps_its_name_or_gets_a_random_one() {
    let settings = TransportSettings::default();
    let name = |headers: &[(&str, &str)]| {
        let attributes = attributes_of(headers, "", &NO_METADATA);
        let Name { text, id } = found(&attributes, &settings).name();
        Name { text: text.into_owned().into(), id }
    };
    let uuid = "123e4567-E89B-12d3-a456-426614174000";
    let found = name(&[("x-request-id", uuid), ("x-envoy-attempt-count", "2")]);
    assert_eq!(
        (&found.text[..], found.id.digest, found.id.attempt),
        (uuid.as_bytes(), 0x123e_4567_e89b_12d3_a456_4266_1417_4000, 2)
    );
    assert_eq!(name(&[("x-request-id", "r1")]).id, name(&[("x-request-id", "r1")]).id);
    assert_ne!(name(&[("x-request-id", "r1")]).id, name(&[("x-request-id", "r2")]).id);
    for headers in
        [&[][..], &[("x-request-id", "")], &[("x-request-id", "a\nb")], &[("x-request-id", "a"), ("x-request-id", "b")]]
    {
        let (first, second) = (name(headers), name(headers));
        assert_ne!(first.id, second.id, "{headers:?}");
        assert_eq!(request_id::digest(&first.text), first.id.digest, "its text names the same hold");
    }
}

/// All that is done to a check before the gate is asked.
fn read_everything(attributes: &[u8]) {
    for settings in [TransportSettings::default(), trusting()] {
        let Ok(Some(found)) = Found::among(attributes, &settings) else { return };
        let name = found.name();
        assert!(std::str::from_utf8(&name.text).is_ok_and(|text| !text.is_empty()));
        let _who = found.who(&settings);
        match found.wanted(&settings) {
            Ok(wanted) => assert!(!wanted.ask("a", name.id).model.is_empty()),
            Err(unclear) => assert!(!unclear.words().0.is_empty()),
        }
    }
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        Just("x-tollgate-model"),
        Just("x-tollgate-n"),
        Just("content-length"),
        Just("x-request-id"),
        Just("authorization"),
        Just("x-account"),
        Just("Bearer k"),
        Just("7"),
        Just(r#"{"model":"m","max_tokens":5}"#),
    ];
    prop_oneof![words.prop_map(|word| word.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..20)]
}

/// A message with fields of any number and content, in it such messages.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let written = |fields: Vec<(u32, Vec<u8>)>| {
        let mut message = Writer::with_capacity(64);
        fields.iter().for_each(|(number, content)| message.write_bytes(*number, content));
        message.finish().to_vec()
    };
    any_text()
        .prop_recursive(5, 200, 8, move |inside| prop::collection::vec((1_u32..15, inside), 0..8).prop_map(written))
}

proptest! {
    #[test]
    fn no_message_panics(attributes in any_message()) {
        read_everything(&attributes);
    }

    #[test]
    fn no_bytes_panic(attributes: Vec<u8>) {
        read_everything(&attributes);
    }

    #[test]
    fn no_damage_panics(at in 0_usize..400, byte: u8) {
        let mut attributes = attributes_of(&EVERY_HEADER, EVERY_FIELD, &NO_METADATA);
        let at = at % attributes.len();
        attributes[at] = byte;
        read_everything(&attributes);
    }
}

const EVERY_HEADER: [(&str, &str); 4] =
    [("authorization", "Bearer k"), ("x-request-id", "r1"), ("x-tollgate-model", "m"), ("x-account", "a")];
const EVERY_FIELD: &str = r#"{"model":"m","max_tokens":5,"prompt":["a"]}"#;

#[test]
fn a_check_cut_at_any_byte_does_not_panic_and_is_mostly_refused() {
    let bytes = attributes_of(&EVERY_HEADER, EVERY_FIELD, &NO_METADATA);
    let is_read = |end: &usize| Found::among(&bytes[..*end], &TransportSettings::default()).is_ok();
    (0..=bytes.len()).for_each(|end| read_everything(&bytes[..end]));
    // Nothing at all, the request without the empty metadata that follows it, and the whole are messages.
    assert_eq!((0..=bytes.len()).filter(is_read).count(), 3);
}
