//! What a script answers, read place by place.

use std::sync::Arc;
use std::vec::IntoIter;

use redis::Value;

use super::packed::{Numbers, Packed};
use crate::pool::Refusal;
use crate::reconcile::store::StoreError;

/// The values of a list, in order.
pub(super) struct Answer(IntoIter<Value>);

/// The names of numbers that can be malformed, as the scripts tell them.
const MALFORMED: &[&str] = &[
    "generation",
    "seq",
    "used",
    "returned",
    "granted",
    "reclaimed",
    "want",
    "need",
    "month",
    "used before this month",
    "priced",
    "terms",
    "silence",
    "flags",
    "request",
    "need above want",
    "used before this month above used",
    "usage or grants above what an account can have",
    "debt",
    "at hand",
    "seed",
    "returned more than was granted or charged",
    "burst seconds",
    "cap",
];

/// One answer of a round as `read` finds it, or the refusal in its place.
pub(super) fn answered<T>(
    value: &Value,
    read: impl FnOnce(Packed<'_>) -> Result<T, StoreError>,
) -> Result<Result<T, Refusal>, StoreError> {
    match value {
        Value::BulkString(packed) => read(Packed(packed)).map(Ok),
        refused => refusal(&text(refused)?).map(Err),
    }
}

/// A refusal; an error where a script failed.
fn refusal(text: &str) -> Result<Refusal, StoreError> {
    match text {
        "no such account" => Ok(Refusal::NoSuchAccount),
        "no such session" => Ok(Refusal::NoSuchSession),
        "crowded" => Ok(Refusal::Crowded),
        "superseded" => Ok(Refusal::Superseded),
        _ => match text.strip_prefix("malformed: ") {
            Some(name) => Ok(Refusal::Malformed(MALFORMED.iter().find(|known| **known == name).unwrap_or(&"request"))),
            None => Err(StoreError::Corrupt(text.into())),
        },
    }
}

/// A list, or what was answered in its place.
pub(super) fn list(value: Value) -> Result<Answer, StoreError> {
    match value {
        Value::Array(values) => Ok(Answer(values.into_iter())),
        other => Err(unexpected(&other)),
    }
}

/// A text.
pub(super) fn text(value: &Value) -> Result<String, StoreError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map_err(|_| unexpected(value)),
        Value::SimpleString(text) => Ok(text.clone()),
        _ => Err(unexpected(value)),
    }
}

/// A number that is at least zero.
pub(super) fn whole(value: &Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| unexpected(value)),
        _ => Err(unexpected(value)),
    }
}

pub(super) fn unexpected(value: &Value) -> StoreError {
    let mut shown = format!("{value:?}");
    shown.truncate(shown.floor_char_boundary(200));
    StoreError::Corrupt(format!("a script answered {shown}; another version of the program may have written this"))
}

impl Answer {
    pub fn value(&mut self) -> Result<Value, StoreError> {
        self.0.next().ok_or_else(|| StoreError::Corrupt("a script answered too little".into()))
    }

    /// So many values, as a list of their own.
    pub fn part(&mut self, count: usize) -> Result<Self, StoreError> {
        let values: Result<Vec<_>, _> = (0..count).map(|_| self.value()).collect();
        Ok(Self(values?.into_iter()))
    }

    /// Passes over some values.
    pub fn pass(&mut self, count: usize) -> Result<(), StoreError> {
        (0..count).try_for_each(|_| self.value().map(drop))
    }

    pub fn text(&mut self) -> Result<String, StoreError> {
        text(&self.value()?)
    }

    pub fn list(&mut self) -> Result<Answer, StoreError> {
        list(self.value()?)
    }
}

impl Numbers for Answer {
    fn number(&mut self) -> Result<i64, StoreError> {
        match self.value()? {
            Value::Int(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }
}

impl Iterator for Answer {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
}

/// A text as account names are kept.
pub(super) fn name(value: &Value) -> Result<Arc<str>, StoreError> {
    text(value).map(Arc::from)
}
