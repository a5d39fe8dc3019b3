//! Where things stand: buckets of accounts, each with a tag of its own, so that a cluster keeps what belongs together.

use super::super::store::{Heard, KeyDigest};
use crate::pool::account_of;

/// Accounts are spread over so many buckets; scripts see one of them at a time.
pub(super) const BUCKETS: u16 = 1_024;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The beginning of every key.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    /// `prefix` has no braces, which would be taken for the tag.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.replace(['{', '}'], "") }
    }

    /// What keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The beginning of all keys of a bucket.
    pub fn bucket(&self, bucket: u16) -> String {
        format!("{}:{{{bucket}}}:", self.prefix)
    }

    /// Where changes are published.
    pub fn channel(&self) -> String {
        format!("{}:changed", self.prefix)
    }

    /// The key of an API key's owner.
    pub fn key(&self, digest: &KeyDigest) -> String {
        format!("{}:{{{}}}:k", self.prefix, hex(digest))
    }
}

/// Which slot of a cluster a key is in: its tag's, which is what the first braces hold.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// Which bucket an account is in, with its users.
pub(super) fn bucket_of(account: &str) -> u16 {
    crc16(account_of(account).as_bytes()) % BUCKETS
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| format!("{text}{byte:02x}"))
}

pub(super) fn digest(hex: &str) -> Option<KeyDigest> {
    let bytes = (0..hex.len() / 2).map(|place| u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// A change as it is published.
pub(super) fn change_text(change: Heard<'_>) -> Option<String> {
    match change {
        Heard::Following => None,
        Heard::Account(account) => Some(format!("account {account}")),
        Heard::Key(digest) => Some(format!("key {}", hex(digest))),
    }
}

/// Hands a published change on. What another version of the program may have to say is passed over.
pub(super) fn hear(text: &str, heard: &(dyn Fn(Heard<'_>) + Send + Sync)) {
    match text.split_once(' ') {
        Some(("account", account)) => heard(Heard::Account(account)),
        Some(("key", hex)) => {
            if let Some(digest) = digest(hex) {
                heard(Heard::Key(&digest));
            }
        }
        Some(_) | None => {}
    }
}

/// CRC-16/XMODEM, as Redis Cluster uses it for its slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert!(bucket_of("acme") < BUCKETS);
        assert_eq!(bucket_of("acme/alice"), bucket_of("acme"));
        assert_eq!(slot_of("tollgate:{123456789}:k"), 0x31c3);
        assert_eq!(slot_of("123456789"), 0x31c3);
    }
}
