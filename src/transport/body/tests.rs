//! What bodies say, whole and cut off, and that no bytes bring the reader down.

use std::borrow::Cow;

use proptest::prelude::*;

use super::BodyFault::{Ambiguous, NotJson, NotText, NotWholeNumber};
use super::{Body, BodyFault};

/// Model, max_tokens, n, prompts: what most cases are about.
type Main<'a> = (Option<&'a str>, Option<u64>, Option<u64>, Option<u64>);

fn check(json: &str, expected: Result<Main<'_>, BodyFault>) {
    let body = Body::read(json.as_bytes());
    let main = body.as_ref().map(|body| (body.model.as_deref(), body.max_tokens, body.n, body.prompts));
    assert_eq!(main, expected.as_ref().copied(), "{json}");
}

#[test]
fn members_of_the_outermost_object_count() {
    let model = Some("m");
    for (json, expected) in [
        ("", (None, None, None, None)),
        ("{}", (None, None, None, None)),
        (r#"{"model":"m"}"#, (model, None, None, None)),
        (" {\n\t\"model\" : \"m\" , \"max_tokens\" : 7 }\r\n", (model, Some(7), None, None)),
        (r#"{"messages":[{"model":"x","max_tokens":1}],"model":"m"}"#, (model, None, None, None)),
        (r#"{"a":{"b":[{"model":"x"}]},"model":"m"}"#, (model, None, None, None)),
        (r#"{"a":"\"model\":\"x\"","model":"m"}"#, (model, None, None, None)),
        (r#"{"a":"\\","model":"m"}"#, (model, None, None, None)),
        (r#"{"a":"}]","model":"m"}"#, (model, None, None, None)),
        (r#"{"a":["]","{","\""],"model":"m"}"#, (model, None, None, None)),
        (r#"{"mod\u0065l":"\u006d"}"#, (model, None, None, None)),
        (r#"{"Model":"x","model":"m"}"#, (model, None, None, None)),
        (r#"{"model":null,"max_tokens":null,"n":null}"#, (None, None, None, None)),
        (r#"{"model":"m","model":"\u006d"}"#, (model, None, None, None)),
        (r#"{"stream":true,"temperature":0.5,"model":"m","stop":null}"#, (model, None, None, None)),
    ] {
        check(json, Ok(expected));
    }
}

#[test]
fn the_largest_bound_wins() {
    for (json, max_tokens, n, prompts) in [
        (r#"{"max_tokens":1,"max_completion_tokens":1000}"#, Some(1000), None, None),
        (r#"{"max_completion_tokens":1000,"max_tokens":1}"#, Some(1000), None, None),
        (r#"{"max_tokens":9,"max_tokens":1,"max_output_tokens":3}"#, Some(9), None, None),
        (r#"{"max_tokens":18446744073709551616}"#, Some(u64::MAX), None, None),
        (r#"{"n":2,"best_of":5}"#, None, Some(5), None),
        (r#"{"n":2,"n":1}"#, None, Some(2), None),
        (r#"{"prompt":"once"}"#, None, None, None),
        (r#"{"prompt":["a","b, \"c\"","d"]}"#, None, None, Some(3)),
        (r#"{"prompt":[1,2,3]}"#, None, None, Some(1)),
        (r#"{"prompt":[[1,2],[3],["x"]]}"#, None, None, Some(3)),
        (r#"{"prompt":[]}"#, None, None, Some(1)),
    ] {
        check(json, Ok((None, max_tokens, n, prompts)));
    }
}

#[test]
fn what_cannot_be_meant_is_a_fault() {
    for (json, fault) in [
        ("null", NotJson),
        ("[]", NotJson),
        ("model=m", NotJson),
        (r#"{"model" "m"}"#, NotJson),
        (r#"{model:"m"}"#, NotJson),
        (r#"{"a":1,}"#, NotJson),
        (r#"{"a":,"model":"m"}"#, NotJson),
        (r#"{"a":1;"model":"m"}"#, NotJson),
        (r#"{"model":"cheap","model":"dear"}"#, Ambiguous("model")),
        (r#"{"service_tier":"batch","service_tier":"fast"}"#, Ambiguous("service_tier")),
        (r#"{"model":["m"]}"#, NotText("model")),
        (r#"{"model":1}"#, NotText("model")),
        (r#"{"model":"\ud800"}"#, NotText("model")),
        (r#"{"max_tokens":"100000"}"#, NotWholeNumber("max_tokens")),
        (r#"{"max_completion_tokens":-1}"#, NotWholeNumber("max_completion_tokens")),
        (r#"{"max_output_tokens":1e5}"#, NotWholeNumber("max_output_tokens")),
        (r#"{"n":1.5}"#, NotWholeNumber("n")),
        (r#"{"best_of":[9]}"#, NotWholeNumber("best_of")),
        (r#"{"n":true}"#, NotWholeNumber("n")),
    ] {
        check(json, Err(fault));
    }
}

#[test]
fn text_that_is_not_utf8_is_a_fault_only_where_it_is_read() {
    assert_eq!(Body::read(b"{\"model\":\"\xff\"}"), Err(NotText("model")));
    let other = Body::read(b"{\"\xff\":\"\xff\",\"model\":\"m\"}").unwrap();
    assert_eq!(other.model.as_deref(), Some("m"));
}

#[test]
fn a_cut_value_is_unknown_and_what_came_before_it_known() {
    let json = br#"{"model":"gpt-oss-120b","max_tokens":1024,"n":12,"user":"u\u0031","messages":[{"a":"b"}]}"#;
    let whole = Body::read(json).unwrap();
    let known = |end: usize, text: &str| end >= text.len();
    for end in 0..=json.len() {
        let cut = Body::read(&json[..end]).unwrap();
        let expected = Body {
            model: whole.model.clone().filter(|_| known(end, r#"{"model":"gpt-oss-120b""#)),
            max_tokens: whole.max_tokens.filter(|_| known(end, r#"{"model":"gpt-oss-120b","max_tokens":1024,"#)),
            n: whole.n.filter(|_| known(end, r#"{"model":"gpt-oss-120b","max_tokens":1024,"n":12,"#)),
            user: whole
                .user
                .clone()
                .filter(|_| known(end, r#"{"model":"gpt-oss-120b","max_tokens":1024,"n":12,"user":"u\u0031""#)),
            ..Body::default()
        };
        assert_eq!(cut, expected, "cut at {end}");
    }
    assert_eq!(whole.user, Some(Cow::Borrowed("u1")));
}

/// JSON as serde_json writes it, with members that are looked at among those that are not.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        Just("model".to_owned()),
        Just("max_tokens".to_owned()),
        Just("n".to_owned()),
        "[a-z\"\\\\]{0,3}",
        ".{0,12}"
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u32>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(key.clone(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What the members are, read by a parser of the whole document.
fn by_document(json: &serde_json::Value) -> Result<Main<'_>, ()> {
    let members = json.as_object().ok_or(())?;
    let member = |name| members.get(name).filter(|value| !value.is_null());
    let number = |name| member(name).map(|value| value.as_u64().ok_or(())).transpose();
    let model = member("model").map(|value| value.as_str().ok_or(())).transpose()?;
    let prompts = member("prompt").and_then(|prompt| {
        let parts = prompt.as_array()?.iter().filter(|part| part.is_string() || part.is_array()).count();
        u64::try_from(parts.max(1)).ok()
    });
    Ok((model, number("max_tokens")?, number("n")?, prompts))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _said = Body::read(&bytes);
    }

    #[test]
    fn no_bytes_like_json_panic(text in r#"[\[\]{}",:\\a1 n]{0,60}"#) {
        let _said = Body::read(text.as_bytes());
    }

    #[test]
    fn it_reads_what_a_parser_of_documents_reads(json in json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
        let said = Body::read(text.as_bytes());
        let main = said.as_ref().map(|body| (body.model.as_deref(), body.max_tokens, body.n, body.prompts));
        prop_assert_eq!(main.map_err(|_| ()), by_document(&json), "{}", text);
    }

    #[test]
    fn a_cut_never_adds_or_changes(json in json(), cut: prop::sample::Index) {
        let text = serde_json::to_string(&json).unwrap();
        let start = &text.as_bytes()[..cut.index(text.len())];
        let (Ok(whole), Ok(part)) = (Body::read(text.as_bytes()), Body::read(start)) else { return Ok(()) };
        prop_assert!(part.model.is_none() || part.model == whole.model, "{}", text);
        prop_assert!(part.max_tokens.is_none() || part.max_tokens == whole.max_tokens, "{}", text);
        prop_assert!(part.n.is_none() || part.n == whole.n, "{}", text);
    }
}
