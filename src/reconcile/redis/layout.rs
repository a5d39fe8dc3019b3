//! Where things stand: buckets of accounts, each with a tag of its own, so that a cluster keeps what belongs together.

use super::super::store::KeyDigest;

/// Accounts are spread over so many buckets; scripts see one of them at a time.
pub(super) const BUCKETS: u16 = 1_024;

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

    /// The beginning of all keys of a bucket.
    pub fn bucket(&self, bucket: u16) -> String {
        format!("{}:{{{bucket}}}:", self.prefix)
    }

    /// The key of an API key's owner.
    pub fn key(&self, digest: &KeyDigest) -> String {
        format!("{}:{{{}}}:k", self.prefix, hex(digest))
    }
}

/// Which bucket an account is in.
pub(super) fn bucket_of(account: &str) -> u16 {
    crc16(account.as_bytes()) % BUCKETS
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| format!("{text}{byte:02x}"))
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
    }
}
