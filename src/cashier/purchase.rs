//! A purchase as the payment webhook is asked for it, and what its answer means.
//!
//! Only what says so is a yes or a no. Everything else is asked again under the same key, whatever is likely to have
//! happened.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::webhook::{Answer, CallError};
use crate::pool::message::Wanted;
use crate::reconcile::store::Papers;

/// What came of a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With the payment provider's name for it, where one was given.
    Bought(String),
    /// With the reason, where one was given.
    Declined(String),
    /// It may have been made or not. With what was answered.
    Unknown(String),
}

/// The least and the longest wait before the same purchase is asked for again.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_mins(5);

/// Characters of an answer that are logged.
const SHOWN_MAX: usize = 200;

/// The call's body. It depends on the purchase alone, so it is the same however often it is sent.
pub(super) fn body(wanted: &Wanted) -> String {
    let Wanted { account, key, amount, attempt, .. } = wanted;
    let amount = amount.usd().to_string();
    json!({
        "type": "purchase",
        "purchase_id": key,
        "account": **account,
        "amount": amount,
        "currency": "USD",
        "attempt": attempt,
    })
    .to_string()
}

/// What an answer says, where it can be read.
#[derive(Deserialize)]
struct Said {
    status: String,
    /// Which purchase it speaks of, where it says so.
    purchase_id: Option<String>,
}

/// What it says for people to read, apart: nothing of it makes a yes or a no unreadable.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Remarks {
    reason: Value,
    /// The payment provider's name for it, for the account's history.
    reference: Value,
}

pub(super) fn verdict(wanted: &Wanted, answered: Result<Answer, CallError>) -> Verdict {
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let said = serde_json::from_slice::<Said>(&answer.body).ok();
    if said.as_ref().and_then(|said| said.purchase_id.as_deref()).is_some_and(|id| id != wanted.key) {
        return Verdict::Unknown("it answered for another purchase; mend the webhook".into());
    }
    let Remarks { reason, reference } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = shown(&text(reason));
    match (answer.status, said.as_ref().map(|said| said.status.as_str())) {
        (StatusCode::PAYMENT_REQUIRED, _) => Verdict::Declined(reason),
        (status, Some("succeeded")) if status.is_success() => {
            Verdict::Bought(shown(&text(reference)).chars().take(Papers::REFERENCE_MAX).collect())
        }
        (status, Some("declined")) if status.is_success() => Verdict::Declined(reason),
        (status, Some("pending")) if status.is_success() => Verdict::Unknown("the purchase is under way".into()),
        (status, _) => Verdict::Unknown(format!("it answered {status}{}", remedy(status))),
    }
}

/// What a person can do about an answer that says neither yes nor no.
fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => " without a status in JSON: succeeded, declined or pending",
        300..=399 => "; redirects are not followed: correct the address",
        401 | 403 => "; does it know cashier.secret, and is its clock right?",
        404 | 405 => "; is the address right?",
        409 | 422 => "; was the key used with another amount?",
        400..=499 => "; see the webhook's log",
        _ => "",
    }
}

/// A text as it is, a number as it is written; nothing else is taken for a remark.
fn text(remark: Value) -> String {
    match remark {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// A text of others, fit for a log line.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect()
}

/// How long to wait before asking again: half as long as it has been wanted, so that waits grow with time whoever asks, and
/// give or take a fifth, so that not all ask at once. `dice` is any number.
pub(super) fn wait(age: Duration, dice: u64) -> Duration {
    let percent = 80 + u32::try_from(dice % 41).unwrap_or(20);
    (age / 2).clamp(WAIT_MIN, WAIT_MAX) * percent / 100
}
