//! From an answer to what Envoy does: let it through with our headers, turn it away with a body, or decide by itself.

use bytes::Bytes;
use tonic::Code;

use super::ask::Name;
use crate::decision::Reason;
use crate::ledger::{Admitted, Answer};
use crate::transport::headers::{Headers, Writer};
use crate::transport::settings::AnswerSettings;
use crate::transport::status::Told;

/// Headers that we write to the upstream. A copy that came in is overwritten by ours, or removed.
const ACCOUNT: &str = "x-tollgate-account";
const REQUEST_ID: &str = "x-tollgate-request-id";
const MAX_TOKENS: &str = "x-tollgate-max-tokens";
const ATTEMPT: &str = "x-tollgate-attempt";

/// Bytes of one answer, mostly; a guess too low only costs a copy.
const ANSWER_BYTES: usize = 1_536;

/// Fields of a `CheckResponse`: a status, and one of three answers.
const STATUS: u32 = 1;
const DENIED: u32 = 2;
const OK: u32 = 3;
const ERROR: u32 = 5;

/// Fields of an `OkHttpResponse`: headers to the upstream, those it must not see, and those to the client.
const TO_UPSTREAM: u32 = 2;
const NOT_TO_UPSTREAM: u32 = 5;
const TO_CLIENT: u32 = 6;

/// Of either kind of status, its code.
const CODE: u32 = 1;

/// Fields of a `DeniedHttpResponse`. Its status is a message, too.
const HTTP_STATUS: u32 = 1;
const HEADERS: u32 = 2;
const BODY: u32 = 3;

/// Lets a request through: the upstream learns how to settle it, the client what is left. `ours` are the names of headers
/// under our prefix that came in.
pub fn admitted(
    account: &str,
    name: &Name<'_>,
    admitted: &Admitted,
    answer: &Answer,
    settings: &AnswerSettings,
    ours: &[&[u8]],
) -> Bytes {
    let mut upstream = Writer::behind_a_frame(ANSWER_BYTES).headers(TO_UPSTREAM);
    upstream.add(ACCOUNT, account.as_bytes());
    upstream.add(REQUEST_ID, &name.text);
    upstream.add_number(MAX_TOKENS, admitted.out_max);
    if name.id.attempt > 0 {
        upstream.add_number(ATTEMPT, name.id.attempt.into());
    }
    let mut ok = upstream.finish();
    let strangers = ours.iter().filter(|key| !is_overwritten(key, name.id.attempt));
    strangers.for_each(|stranger| ok.write_bytes(NOT_TO_UPSTREAM, stranger));
    let mut client = ok.headers(TO_CLIENT);
    client.add_answer(answer.limits.as_ref(), settings.token_unit, admitted.shadow, None);
    add_balance(&mut client, answer, settings);
    framed(client.finish(), OK, Code::Ok)
}

/// Turns a request away. Where we are the trouble, Envoy is told so, and its `failure_mode_allow` decides.
pub fn denied(told: &Told, name: &Name<'_>, answer: Option<&Answer>, settings: &AnswerSettings) -> Bytes {
    let request_id = std::str::from_utf8(&name.text).expect("a request id is visible ASCII");
    let mut denied = Writer::behind_a_frame(ANSWER_BYTES);
    let mut status = Writer::with_capacity(8);
    status.write_number(CODE, told.http.into());
    denied.write_bytes(HTTP_STATUS, &status.finish());
    let mut headers = denied.headers(HEADERS);
    headers.add("content-type", b"application/json");
    let limits = answer.and_then(|answer| answer.limits.as_ref());
    headers.add_answer(limits, settings.token_unit, Some(told.reason), told.retry_after);
    if let Some(answer) = answer {
        add_balance(&mut headers, answer, settings);
    }
    let mut denied = headers.finish();
    denied.write_bytes(BODY, &told.body(request_id));
    framed(denied, if told.reason == Reason::Unavailable { ERROR } else { DENIED }, told.grpc)
}

/// The whole answer, in the frame of a gRPC call. In its status, 0 goes without saying.
fn framed(answer: Writer, field: u32, code: Code) -> Bytes {
    let status = [u8::try_from(CODE << 3).expect("a small field"), code as u8];
    answer.framed(field, (STATUS, if code == Code::Ok { &[] } else { &status }))
}

/// Whether a header that came in under our prefix is one that we overwrite.
fn is_overwritten(key: &[u8], attempt: u32) -> bool {
    let ours = [ACCOUNT, REQUEST_ID, MAX_TOKENS].map(str::as_bytes);
    ours.contains(&key) || (key == ATTEMPT.as_bytes() && attempt > 0)
}

fn add_balance(headers: &mut Headers, answer: &Answer, settings: &AnswerSettings) {
    if let (true, Some(balance)) = (settings.show_balances, answer.balance) {
        headers.add("x-tollgate-balance", balance.usd().to_string().as_bytes());
    }
}
