//! What a script answers, read place by place.

use std::sync::Arc;
use std::vec::IntoIter;

use redis::Value;

use crate::decision::Credit;
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

/// What a refused account is told where its own record is unreadable: the others go on.
const UNREADABLE: Refusal = Refusal::Malformed("the account's record in the store cannot be read; see the log");

/// One answer, or the refusal in its place.
pub(super) fn answered(value: Value) -> Result<Result<Answer, Refusal>, StoreError> {
    match value {
        Value::Array(values) => Ok(Ok(Answer(values.into_iter()))),
        refused => Ok(Err(refusal(&text(&refused)?))),
    }
}

fn refusal(text: &str) -> Refusal {
    match text {
        "no such account" => Refusal::NoSuchAccount,
        "no such session" => Refusal::NoSuchSession,
        "crowded" => Refusal::Crowded,
        "superseded" => Refusal::Superseded,
        _ => match text.strip_prefix("malformed: ") {
            Some(name) => Refusal::Malformed(MALFORMED.iter().find(|known| **known == name).unwrap_or(&"request")),
            None => {
                tracing::error!(detail = text, "an account cannot be read; restore the store from a copy");
                UNREADABLE
            }
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

    pub fn number(&mut self) -> Result<i64, StoreError> {
        match self.value()? {
            Value::Int(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    /// A number of any type that it has to fit in.
    pub fn whole<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| unexpected(&Value::Int(number)))
    }

    pub fn is_set(&mut self) -> Result<bool, StoreError> {
        Ok(self.number()? != 0)
    }

    pub fn millis(&mut self) -> Result<std::time::Duration, StoreError> {
        Ok(std::time::Duration::from_millis(self.whole()?))
    }

    /// Passes over some values.
    pub fn pass(&mut self, count: usize) -> Result<(), StoreError> {
        (0..count).try_for_each(|_| self.value().map(drop))
    }

    /// Nano-USD in one number.
    pub fn nanos(&mut self) -> Result<Credit, StoreError> {
        Ok(Credit::from_nanos(self.number()?))
    }

    /// USD and nano-USD.
    pub fn credit(&mut self) -> Result<Credit, StoreError> {
        let (usd, nanos) = (self.number()?, self.number()?);
        let whole = usd.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos));
        whole.map(Credit::from_nanos).ok_or_else(|| unexpected(&Value::Int(usd)))
    }

    pub fn text(&mut self) -> Result<String, StoreError> {
        text(&self.value()?)
    }

    pub fn list(&mut self) -> Result<Answer, StoreError> {
        list(self.value()?)
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
