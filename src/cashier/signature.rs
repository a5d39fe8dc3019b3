//! How a webhook knows that it is us who calls, and when we did.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::settings::Secrets;

/// The header's value: `v1=HEX`, and a second one while a secret is being replaced. Each is HMAC-SHA-256 under one secret of
/// the timestamp in seconds since 1970, a full stop, and the body.
pub(super) fn signature(secrets: &Secrets, timestamp: u64, body: &[u8]) -> String {
    let mut header = String::new();
    for secret in secrets.all() {
        let separator = if header.is_empty() { "" } else { "," };
        write!(header, "{separator}v1=").expect("a text takes what is written to it");
        for byte in mac(secret, timestamp, body) {
            write!(header, "{byte:02x}").expect("as above");
        }
    }
    header
}

fn mac(secret: &str, timestamp: u64, body: &[u8]) -> impl IntoIterator<Item = u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes()
}
