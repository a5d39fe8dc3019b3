//! API keys in the file: found by digest, listed and revoked by account.

use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use super::file::{KEYS, KEYS_OF, failed};
use super::records::{StoredKey, decode, encode, key_id};
use crate::clock::UnixMs;
use crate::reconcile::store::{KeyDigest, KeyRecord, StoreError};

pub(super) fn find(database: &Database, digest: KeyDigest) -> Result<Option<Arc<str>>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let keys = read.open_table(KEYS).map_err(failed)?;
    let key = keys.get(digest).map_err(failed)?;
    key.map(|key| Ok(decode::<StoredKey>(key.value(), "a key")?.account)).transpose()
}

/// Stores a key for an account that exists.
pub(super) fn create(
    database: &Database,
    account: Arc<str>,
    digest: KeyDigest,
    label: String,
    created: UnixMs,
) -> Result<KeyRecord, StoreError> {
    let key = StoredKey { account, label, created };
    let write = database.begin_write().map_err(failed)?;
    let (account, id) = (&*key.account, key_id(&digest));
    write.open_table(KEYS).map_err(failed)?.insert(digest, encode(&key).as_slice()).map_err(failed)?;
    write.open_table(KEYS_OF).map_err(failed)?.insert((account, id.as_str()), digest).map_err(failed)?;
    write.commit().map_err(failed)?;
    Ok(key.listed(&digest))
}

/// The keys of an account, in order of id.
pub(super) fn list(database: &Database, account: &str) -> Result<Vec<KeyRecord>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let keys = read.open_table(KEYS).map_err(failed)?;
    let mut listed = Vec::new();
    for row in read.open_table(KEYS_OF).map_err(failed)?.range((account, "")..).map_err(failed)? {
        let (owned, digest) = row.map_err(failed)?;
        if owned.value().0 != account {
            break;
        }
        let key = keys.get(digest.value()).map_err(failed)?;
        let key = key.ok_or_else(|| StoreError::Corrupt("a key that is listed is missing".into()))?;
        listed.push(decode::<StoredKey>(key.value(), "a key")?.listed(&digest.value()));
    }
    Ok(listed)
}

pub(super) fn revoke(database: &Database, account: &str, id: &str) -> Result<KeyDigest, StoreError> {
    let write = database.begin_write().map_err(failed)?;
    let digest = {
        let mut owned = write.open_table(KEYS_OF).map_err(failed)?;
        let removed = owned.remove((account, id)).map_err(failed)?;
        removed.map(|digest| digest.value()).ok_or_else(|| StoreError::NoSuchKey(id.into()))?
    };
    write.open_table(KEYS).map_err(failed)?.remove(digest).map_err(failed)?;
    write.commit().map_err(failed)?;
    Ok(digest)
}
