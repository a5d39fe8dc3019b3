//! Accounts: created, configured and listed, and told of purchases that were declined.

use std::sync::Arc;

use redis::Value;

use super::answer::{list as values, name, text, unexpected, whole};
use super::layout::BUCKETS;
use super::state::Kept;
use super::{Call, Redis, terms};
use crate::decision::Credit;
use crate::decision::catalogue::tier_of;
use crate::decision::terms::Terms;
use crate::pool::{money_changes, pool_of_user};
use crate::reconcile::store::{AccountRecord, StoreError, UserRecord};

/// What is written against the version that was read. Somebody else may write in between, but not for ever.
pub(super) const TRIES: u32 = 16;

pub(super) async fn create(store: &Redis, account: Arc<str>, terms: Terms) -> Result<AccountRecord, StoreError> {
    let tier = terms::tier_number(tier_of(&store.tiers, &terms, Credit::ZERO)).to_string();
    let args = arguments([&account, &terms::numbers(&terms), &terms::written(&terms), tier.as_str()]);
    let answer = store.run(store.call(&store.scripts.create, &account, args)).await?;
    match text(&answer)?.as_str() {
        "created" => Ok(read(store, &account).await?.record()),
        "exists" => Err(StoreError::AccountExists(account.to_string())),
        _ => Err(unexpected(&answer)),
    }
}

pub(super) async fn read(store: &Redis, account: &Arc<str>) -> Result<Kept, StoreError> {
    let answer = store.run(look_up(store, account)).await?;
    kept(account, answer)
}

/// Accounts in order of name. The buckets' names are merged, and the first of them are read.
pub(super) async fn list(store: &Redis, after: Option<Arc<str>>, max: usize) -> Result<Vec<AccountRecord>, StoreError> {
    let mut names = names(store, after.as_deref().unwrap_or_default(), max).await?;
    names.truncate(max);
    let calls: Vec<Call<'_>> = names.iter().map(|account| look_up(store, account)).collect();
    let answers = store.connection.run(&calls).await?;
    names.iter().zip(answers).map(|(account, answer)| Ok(kept(account, answer)?.record())).collect()
}

/// The first `max` names of each bucket after `after`, all in order.
pub(super) async fn names(store: &Redis, after: &str, max: usize) -> Result<Vec<Arc<str>>, StoreError> {
    let calls: Vec<Call<'_>> = (0..BUCKETS).map(|bucket| ask_names(store, bucket, after, max)).collect();
    let mut names = Vec::new();
    for answer in store.connection.run(&calls).await? {
        names.extend(listed(answer)?);
    }
    names.sort_unstable();
    Ok(names)
}

/// The call for the first `max` names of a bucket after `after`.
pub(super) fn ask_names<'a>(store: &'a Redis, bucket: u16, after: &str, max: usize) -> Call<'a> {
    let args = arguments([after, &max.to_string(), "names"]);
    Call { script: &store.scripts.names, keys: vec![store.layout.bucket(bucket)], args }
}

/// Users of an account that have a state, in order of name.
pub(super) async fn users(
    store: &Redis,
    account: &str,
    after: &str,
    max: usize,
) -> Result<Vec<UserRecord>, StoreError> {
    let names = user_names(store, account, after, max).await?;
    let pools: Vec<Arc<str>> = names.iter().map(|user| pool_of_user(account, user).into()).collect();
    let calls: Vec<Call<'_>> = pools.iter().map(|pool| look_up(store, pool)).collect();
    let mut users = Vec::new();
    for ((user, pool), answer) in names.into_iter().zip(&pools).zip(store.connection.run(&calls).await?) {
        match kept(pool, answer) {
            Ok(kept) => users.push(UserRecord::of(user, &kept.record())),
            // Its keys are gone since its name was noted.
            Err(StoreError::NoSuchAccount(_)) => users.push(UserRecord::idle(user)),
            Err(error) => return Err(error),
        }
    }
    Ok(users)
}

/// The first `max` users of an account after `after`.
pub(super) async fn user_names(
    store: &Redis,
    account: &str,
    after: &str,
    max: usize,
) -> Result<Vec<Arc<str>>, StoreError> {
    listed(store.run(ask_user_names(store, account, after, max)).await?)
}

/// The call that asks for them.
pub(super) fn ask_user_names<'a>(store: &'a Redis, account: &str, after: &str, max: usize) -> Call<'a> {
    let args = arguments([after, &max.to_string(), &format!("u:{account}")]);
    store.call(&store.scripts.names, account, args)
}

/// What a call for names answered.
pub(super) fn listed(answer: Value) -> Result<Vec<Arc<str>>, StoreError> {
    values(answer)?.map(|value| name(&value)).collect()
}

pub(super) async fn configure(
    store: &Redis,
    account: Arc<str>,
    version: u64,
    terms: Terms,
) -> Result<AccountRecord, StoreError> {
    let conflict = |found| StoreError::VersionConflict { account: account.to_string(), expected: version, found };
    let before = read(store, &account).await?;
    if before.terms_version != version {
        return Err(conflict(before.terms_version));
    }
    let is_set = |flag: bool| if flag { "1" } else { "0" };
    let args = arguments([
        &account,
        version.to_string().as_str(),
        &terms::numbers(&terms),
        &terms::written(&terms),
        is_set(terms::changes_payment(&before.terms, &terms)),
        is_set(terms.top_up.is_none()),
        is_set(terms.balance_alert != before.terms.balance_alert),
        &money_changes(&before.terms, &terms).unwrap_or_default(),
    ]);
    match store.run(store.call(&store.scripts.configure, &account, args)).await? {
        found @ Value::Int(_) => Err(conflict(whole(&found)?)),
        answer if text(&answer)? == "configured" => Ok(read(store, &account).await?.record()),
        answer => Err(refused(&account, &answer)),
    }
}

/// Notes that a purchase that was asked for was declined; again, it returns the account as it is.
pub(super) async fn top_up_failed(store: &Redis, account: Arc<str>, key: String) -> Result<AccountRecord, StoreError> {
    for _ in 0..TRIES {
        let before = read(store, &account).await?;
        let version = before.terms_version.to_string();
        let suspended = terms::failed_payments(before.terms);
        let (numbers, written) = (terms::numbers(&suspended), terms::written(&suspended));
        let args = arguments([&account, key.as_str(), &version, &numbers, &written]);
        match store.run(store.call(&store.scripts.decline, &account, args)).await? {
            Value::Int(_) => {}
            answer => match text(&answer)?.as_str() {
                "declined" | "not pending" => return Ok(read(store, &account).await?.record()),
                _ => return Err(refused(&account, &answer)),
            },
        }
    }
    Err(StoreError::Unavailable("others change the account's terms all the time; try again".into()))
}

fn look_up<'a>(store: &'a Redis, account: &str) -> Call<'a> {
    store.call(&store.scripts.account, account, arguments([account]))
}

fn kept(account: &Arc<str>, answer: Value) -> Result<Kept, StoreError> {
    match answer {
        answer @ Value::Array(_) => Kept::read(account, &mut values(answer)?),
        answer => Err(refused(account, &answer)),
    }
}

/// A script did not find the account, or said something else.
pub(super) fn refused(account: &str, answer: &Value) -> StoreError {
    match text(answer) {
        Ok(text) if text == "no such account" => StoreError::NoSuchAccount(account.into()),
        Ok(_) | Err(_) => unexpected(answer),
    }
}

pub(super) fn arguments<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(Vec::from).into()
}
