//! Numbers packed in a text, as the script of a round takes and answers them: eight bytes each, the lowest first.

use std::time::Duration;

use redis::Value;

use super::answer::unexpected;
use crate::decision::Credit;
use crate::reconcile::store::StoreError;

/// A number in eight bytes.
const BYTES: usize = 8;

/// What is read number by number, whether they are values of their own or packed.
pub(super) trait Numbers {
    fn number(&mut self) -> Result<i64, StoreError>;

    /// A number of any type that it has to fit in.
    fn whole<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| unexpected(&Value::Int(number)))
    }

    fn is_set(&mut self) -> Result<bool, StoreError> {
        Ok(self.number()? != 0)
    }

    fn millis(&mut self) -> Result<Duration, StoreError> {
        Ok(Duration::from_millis(self.whole()?))
    }

    /// Nano-USD in one number, which a script counts exactly.
    fn nanos(&mut self) -> Result<Credit, StoreError> {
        let nanos = self.number()?;
        let is_exact = nanos.unsigned_abs() <= 1 << 53;
        is_exact.then(|| Credit::from_nanos(nanos)).ok_or_else(|| unexpected(&Value::Int(nanos)))
    }

    /// USD and nano-USD.
    fn credit(&mut self) -> Result<Credit, StoreError> {
        let (usd, nanos) = (self.number()?, self.number()?);
        sum(usd, nanos).ok_or_else(|| unexpected(&Value::Int(usd)))
    }
}

/// A sum in USD and nano-USD, as the scripts keep it; `None` where it is damaged.
pub(super) fn sum(usd: i64, nanos: i64) -> Option<Credit> {
    usd.checked_mul(1_000_000_000)?.checked_add(nanos).and_then(Credit::from_store)
}

/// Numbers as a script takes them. One that does not fit is the greatest there is, which every script refuses.
pub(super) fn packed(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let fitting = |number| i64::try_from(number).unwrap_or(i64::MAX).to_le_bytes();
    numbers.into_iter().flat_map(fitting).collect()
}

/// Numbers of an answer, and what follows them.
pub(super) struct Packed<'a>(pub &'a [u8]);

impl<'a> Packed<'a> {
    /// What is left, as a text; nothing where nothing is.
    pub fn rest(self) -> Result<Option<&'a str>, StoreError> {
        let text = str::from_utf8(self.0).map_err(|_| unexpected(&Value::BulkString(self.0.into())))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

impl Numbers for Packed<'_> {
    fn number(&mut self) -> Result<i64, StoreError> {
        let (first, rest) = self
            .0
            .split_first_chunk::<BYTES>()
            .ok_or_else(|| StoreError::Corrupt("a script answered too little".into()))?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*first))
    }
}
