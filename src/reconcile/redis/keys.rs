//! API keys: found by digest alone, listed and revoked by account.
//!
//! A key stands in two places, its digest's and its account's, which a cluster may keep on two servers. It is noted with
//! its account before it works, and stops working before it is forgotten there: whatever works is listed.

use std::sync::Arc;

use redis::Value;

use super::accounts::{arguments, refused};
use super::answer::{list as values, text, unexpected, whole};
use super::layout::{digest, hex};
use super::{Call, Redis};
use crate::clock::UnixMs;
use crate::reconcile::store::{KeyDigest, KeyRecord, StoreError};

pub(super) async fn find(store: &Redis, digest: KeyDigest) -> Result<Option<Arc<str>>, StoreError> {
    let find = Call { script: &store.scripts.key_find, keys: vec![store.layout.key(&digest)], args: Vec::new() };
    match store.run(find).await? {
        Value::Nil => Ok(None),
        account => Ok(Some(text(&account)?.into())),
    }
}

pub(super) async fn create(
    store: &Redis,
    account: Arc<str>,
    digest: KeyDigest,
    label: String,
) -> Result<KeyRecord, StoreError> {
    let id = key_id(&digest);
    let args = arguments([&account, &id, &hex(&digest), &label]);
    let created = match store.run(store.call(&store.scripts.key_note, &account, args)).await? {
        time @ Value::Int(_) => UnixMs(whole(&time)?),
        answer => return Err(refused(&account, &answer)),
    };
    store.run(own(store, &digest, arguments([&account]))).await?;
    Ok(KeyRecord { id, label, created })
}

/// The keys of an account, in order of id.
pub(super) async fn list(store: &Redis, account: Arc<str>) -> Result<Vec<KeyRecord>, StoreError> {
    let noted = noted(store, &account).await?;
    let mut listed: Vec<KeyRecord> = noted.into_iter().map(|(listed, _)| listed).collect();
    listed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    Ok(listed)
}

pub(super) async fn revoke(store: &Redis, account: Arc<str>, id: String) -> Result<KeyDigest, StoreError> {
    let mut noted = noted(store, &account).await?.into_iter();
    let found = noted.find(|(listed, _)| listed.id == id);
    let (_, digest) = found.ok_or_else(|| StoreError::NoSuchKey(id.clone()))?;
    store.run(own(store, &digest, Vec::new())).await?;
    store.run(store.call(&store.scripts.key_forget, &account, arguments([&account, &id]))).await?;
    Ok(digest)
}

fn own<'a>(store: &'a Redis, digest: &KeyDigest, args: Vec<Vec<u8>>) -> Call<'a> {
    Call { script: &store.scripts.key_own, keys: vec![store.layout.key(digest)], args }
}

async fn noted(store: &Redis, account: &str) -> Result<Vec<(KeyRecord, KeyDigest)>, StoreError> {
    let answer = store.run(store.call(&store.scripts.key_list, account, arguments([account]))).await?;
    if !matches!(answer, Value::Array(_)) {
        return Err(refused(account, &answer));
    }
    let mut pairs = values(answer)?;
    let mut noted = Vec::new();
    while let Some(id) = pairs.next() {
        let written = pairs.value()?;
        noted.push(note(text(&id)?, &text(&written)?).ok_or_else(|| unexpected(&written))?);
    }
    Ok(noted)
}

/// `digest created label`, as `lua/key_note.lua` writes it.
fn note(id: String, written: &str) -> Option<(KeyRecord, KeyDigest)> {
    let mut parts = written.splitn(3, ' ');
    let digest = digest(parts.next()?)?;
    let created = UnixMs(parts.next()?.parse().ok()?);
    Some((KeyRecord { id, label: parts.next()?.into(), created }, digest))
}

/// The first 64 bits of a digest: enough to tell an account's keys apart, no help in guessing one.
fn key_id(digest: &KeyDigest) -> String {
    hex(&digest[..8])
}
