//! The name of a hold on the wire and inside: a text, and its digest.

use sha2::{Digest, Sha256};

/// The longest request id that is accepted, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 256;

/// The digest that names the hold: a UUID is its own, of any other text it is the start of the SHA-256.
pub fn digest(id: &[u8]) -> u128 {
    uuid(id).unwrap_or_else(|| {
        let hash: [u8; 32] = Sha256::digest(id).into();
        let (start, _) = hash.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
        u128::from_be_bytes(*start)
    })
}

/// Whether this can be the id of a request.
pub fn is_valid(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// An id that nobody else has: a random UUID.
pub fn random() -> (u128, String) {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    // The bits that say: version 4, of the usual variant.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let id = u128::from_be_bytes(bytes);
    let hex = format!("{id:032x}");
    (id, format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// The number that `8-4-4-4-12` hexadecimal digits write.
fn uuid(id: &[u8]) -> Option<u128> {
    if id.len() != 36 {
        return None;
    }
    let mut number = 0;
    for (at, &byte) in id.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
        } else {
            number = number << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some(number)
}
