//! Accounts in the file: created, configured and listed.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use super::file::{ACCOUNTS, EVENTS, USERS, failed};
use super::outbox::look_at;
use super::records::decode;
use super::state::{Kept, State};
use crate::clock::{Now, UnixMs};
use crate::decision::terms::Terms;
use crate::pool::message::Event;
use crate::pool::{Pool, Summary, pool_of_user, user_in};
use crate::reconcile::store::{AccountRecord, Leased, Rules, StoreError, UserRecord};

pub(super) fn create(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    account: &Arc<str>,
    terms: Terms,
) -> Result<AccountRecord, StoreError> {
    if state.load(database, account)?.is_some() {
        return Err(StoreError::AccountExists(account.to_string()));
    }
    let time = state.time(now);
    let pool = Pool::new(Arc::clone(account), terms, &rules.pool, time);
    let record = record(pool.summary(time));
    state.add(account, pool);
    state.commit(database, time, &only(account), |_| Ok(()))?;
    Ok(record)
}

pub(super) fn get(
    state: &mut State,
    database: &Database,
    now: Now,
    account: &Arc<str>,
) -> Result<AccountRecord, StoreError> {
    let time = state.time(now);
    Ok(record(found(state, database, account)?.pool.summary(time)))
}

pub(super) fn inspect(
    state: &mut State,
    database: &Database,
    now: Now,
    account: &Arc<str>,
) -> Result<(AccountRecord, Vec<Leased>), StoreError> {
    let time = state.time(now);
    let pool = &found(state, database, account)?.pool;
    Ok((record(pool.summary(time)), pool.leases(time)))
}

/// Every pool that was lent from or credited is in the file, so a list needs no memory.
pub(super) fn list(
    database: &Database,
    time: UnixMs,
    after: Option<&str>,
    max: usize,
) -> Result<Vec<AccountRecord>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let accounts = read.open_table(ACCOUNTS).map_err(failed)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = accounts.range::<&str>((from, Bound::Unbounded)).map_err(failed)?;
    rows.take(max)
        .map(|row| {
            let (account, pool) = row.map_err(failed)?;
            let pool: Pool = decode(pool.value(), account.value())?;
            Ok(record(pool.summary(time)))
        })
        .collect()
}

/// Users of an account, in order of name.
pub(super) fn users(
    database: &Database,
    time: UnixMs,
    account: &str,
    after: &str,
    max: usize,
) -> Result<Vec<UserRecord>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let users = read.open_table(USERS).map_err(failed)?;
    let from = pool_of_user(account, after);
    let mut listed = Vec::new();
    for row in users.range::<&str>((Bound::Excluded(&*from), Bound::Unbounded)).map_err(failed)?.take(max) {
        let (name, pool) = row.map_err(failed)?;
        let Some(user) = user_in(name.value(), account) else { break };
        let pool: Pool = decode(pool.value(), name.value())?;
        listed.push(UserRecord::of(user.into(), &record(pool.summary(time))));
    }
    Ok(listed)
}

pub(super) fn configure(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    account: &Arc<str>,
    version: u64,
    terms: Terms,
) -> Result<AccountRecord, StoreError> {
    let time = state.time(now);
    let kept = found(state, database, account)?;
    let standing = kept.pool.summary(time).terms_version;
    if standing != version {
        let account = account.to_string();
        return Err(StoreError::VersionConflict { account, expected: version, found: standing });
    }
    kept.pool.configure(version.saturating_add(1), terms, &rules.pool, time);
    let record = record(kept.pool.summary(time));
    state.commit(database, time, &only(account), |_| Ok(()))?;
    Ok(record)
}

/// Notes that a purchase that was asked for was declined.
pub(super) fn top_up_failed(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    account: &Arc<str>,
    key: &str,
) -> Result<AccountRecord, StoreError> {
    let time = state.time(now);
    let kept = found(state, database, account)?;
    let is_news = kept.pool.top_up_failed(key, &rules.pool, time);
    let record = record(kept.pool.summary(time));
    if is_news {
        let retry_at = kept.pool.top_up_retry_at();
        state.commit(database, time, &only(account), |write| look_at(write, account, retry_at))?;
    }
    Ok(record)
}

pub(super) fn events(database: &Database, after: u64, max: usize) -> Result<Vec<(u64, Event)>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let events = read.open_table(EVENTS).map_err(failed)?;
    let rows = events.range((Bound::Excluded(after), Bound::Unbounded)).map_err(failed)?;
    rows.take(max)
        .map(|row| {
            let (number, event) = row.map_err(failed)?;
            Ok((number.value(), decode(event.value(), "an event")?))
        })
        .collect()
}

pub(super) fn found<'a>(
    state: &'a mut State,
    database: &Database,
    account: &Arc<str>,
) -> Result<&'a mut Kept, StoreError> {
    state.load(database, account)?.ok_or_else(|| StoreError::NoSuchAccount(account.to_string()))
}

pub(super) fn only(account: &Arc<str>) -> BTreeSet<Arc<str>> {
    BTreeSet::from([Arc::clone(account)])
}

pub(crate) fn record(summary: Summary) -> AccountRecord {
    AccountRecord {
        account: summary.account,
        terms: Arc::unwrap_or_clone(summary.terms),
        terms_version: summary.terms_version,
        credits_promotional: summary.credits_promotional,
        credits_purchased: summary.credits_purchased,
        credit_version: summary.credit_version,
        used: summary.used,
        leased: summary.leased,
        limbo: summary.limbo,
        balance: summary.balance,
        lots: summary.lots,
        lifetime_paid: summary.lifetime_paid,
        tier: summary.tier,
        month: summary.month,
        month_used: summary.month_used,
        month_limit: summary.month_limit,
        topup_pending: summary.topup_pending,
        created: summary.created,
    }
}
