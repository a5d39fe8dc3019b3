//! Who asks: an account that Envoy vouches for, or the owner of an API key. A client can never name an account.
//!
//! Sources are looked at in this order, and the first that is there decides: Envoy's metadata, the trusted header, the
//! API key. Nothing else in a request names an account; in particular not the headers that we write ourselves.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message as _;

use super::proto::envoy;
use crate::reconcile::keys::digest_of;
use crate::reconcile::store::KeyDigest;

/// The longest account's name that is looked up, in bytes.
const ACCOUNT_BYTES_MAX: usize = 64;
/// The longest user's name that is told apart, in bytes.
const USER_BYTES_MAX: usize = 128;
/// The longest API key that is looked up, in bytes.
const KEY_BYTES_MAX: usize = 512;

/// Where an account's name may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Accept `authorization: Bearer KEY` and `x-api-key: KEY`.
    pub api_key: bool,
    /// A header that carries the account's name, in lower case. Only where the proxy sets or removes it on every
    /// request.
    pub account_header: Option<String>,
    /// A header that carries the user inside the account, in lower case, under the same condition.
    pub user_header: Option<String>,
    /// A string in Envoy's dynamic metadata that is the user's name; looked at before the header.
    pub user_metadata: Option<MetadataPath>,
    /// Where neither names a user, take the `user` of the body. Only where clients may say who they are: each can name
    /// another, or none.
    pub user_from_body: bool,
    /// A string in Envoy's dynamic metadata that is the account's name: as a JWT filter leaves it there.
    pub metadata: Option<MetadataPath>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            api_key: true,
            account_header: None,
            user_header: None,
            user_metadata: None,
            user_from_body: false,
            metadata: None,
        }
    }
}

/// A string in Envoy's dynamic metadata, as in `envoy.filters.http.jwt_authn`, `["payload", "sub"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPath {
    pub namespace: String,
    /// Never empty.
    pub path: Vec<String>,
}

/// Who asks, as far as the request itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    Account(Cow<'a, str>),
    /// Whoever owns this key.
    Key(KeyDigest),
    Nobody,
}

/// The parts of a request that may say who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    pub authorization: Option<&'a [u8]>,
    pub api_key: Option<&'a [u8]>,
    pub account: Option<&'a [u8]>,
}

/// Who asks. A source that is there but does not name anybody is not passed over for the next.
pub fn identify<'a>(settings: &IdentitySettings, credentials: Credentials<'a>, metadata: &[u8]) -> Who<'a> {
    if let Some(name) = settings.metadata.as_ref().and_then(|path| metadata_string(path, metadata)) {
        return account_name(&name).map_or(Who::Nobody, |name| Who::Account(Cow::Owned(name.to_owned())));
    }
    if let Some(name) = credentials.account {
        return account_name(name).map_or(Who::Nobody, |name| Who::Account(Cow::Borrowed(name)));
    }
    if !settings.api_key {
        return Who::Nobody;
    }
    let key = credentials.authorization.and_then(bearer).or(credentials.api_key);
    key.and_then(key_digest).map_or(Who::Nobody, Who::Key)
}

/// What is kept of an API key; `None` for what cannot be one.
pub fn key_digest(key: &[u8]) -> Option<KeyDigest> {
    let key = std::str::from_utf8(key).ok()?;
    (1..=KEY_BYTES_MAX).contains(&key.len()).then(|| digest_of(key))
}

/// The name of an account, if it can be one.
pub fn account_name(name: &[u8]) -> Option<&str> {
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    let name = std::str::from_utf8(name).ok()?;
    (plain && (1..=ACCOUNT_BYTES_MAX).contains(&name.len())).then_some(name)
}

/// The name of a user, if it can be one.
pub fn user_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    ((1..=USER_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)).then_some(name)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// The string at a path of Envoy's metadata, which is not looked into before somebody asks.
pub(super) fn metadata_string(path: &MetadataPath, metadata: &[u8]) -> Option<Bytes> {
    let metadata = envoy::Metadata::decode(metadata).ok()?;
    let namespace = metadata.filter_metadata.iter().find(|namespace| namespace.key == path.namespace)?;
    let (last, outer) = path.path.split_last()?;
    let mut object = namespace.value.as_ref()?;
    for key in outer {
        object = field(object, key)?.struct_value.as_ref()?;
    }
    field(object, last).map(|value| value.string_value.clone())
}

fn field<'a>(object: &'a envoy::Struct, key: &str) -> Option<&'a envoy::Value> {
    object.fields.iter().find(|field| field.key == key)?.value.as_ref()
}
