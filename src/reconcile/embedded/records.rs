//! What the tables hold, and how it is written: a version byte, then postcard.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::pool::message::Group;
use crate::reconcile::store::{CreditKind, KeyDigest, KeyRecord, StoreError};

/// The version of every record as it is written now.
const VERSION: u8 = 1;

/// An API key, beside its digest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub account: Arc<str>,
    pub label: String,
    pub created: UnixMs,
}

/// A purchase that was booked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub amount: Credit,
    pub kind: CreditKind,
    pub booked: UnixMs,
    /// The purchase that this refund paid back; else empty.
    pub refund_of: String,
    /// What was paid back of this purchase.
    pub refunded: Credit,
}

pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION]).expect("plain values are written to memory")
}

/// A record as it was written, or which one cannot be read.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, record)) => {
            postcard::from_bytes(record).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
        }
        Some((version, _)) => Err(StoreError::Corrupt(format!("{what}: version {version} of a record, not {VERSION}"))),
        None => Err(StoreError::Corrupt(format!("{what}: an empty record"))),
    }
}

impl StoredKey {
    pub fn listed(self, digest: &KeyDigest) -> KeyRecord {
        KeyRecord { id: key_id(digest), label: self.label, created: self.created }
    }
}

/// The first 64 bits of a digest, in hex: enough to tell an account's keys apart, no help in guessing one.
pub(super) fn key_id(digest: &KeyDigest) -> String {
    digest.iter().take(8).fold(String::new(), |id, byte| format!("{id}{byte:02x}"))
}

/// A group in a table's key: a model's name, or nothing for requests.
pub(super) fn group_key(group: &Group) -> &[u8] {
    match group {
        Group::Requests => &[],
        Group::Model(name) => name.as_bytes(),
    }
}

pub(super) fn group_of(key: &[u8]) -> Group {
    if key.is_empty() { Group::Requests } else { Group::Model(String::from_utf8_lossy(key).into()) }
}
