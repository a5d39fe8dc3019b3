//! Whether the accounts' sums are what their records and their history say.

use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::accounts::{arguments, ask_names, ask_user_names, listed, refused, user_names};
use super::answer::{Answer, list as values, text};
use super::layout::BUCKETS;
use super::packed::Numbers;
use super::state::Kept;
use super::{Call, Redis, history};
use crate::decision::Credit;
use crate::pool::{Drift, SessionId, Sums, pool_of_user, user_of};
use crate::reconcile::auditor;
use crate::reconcile::store::{Audited, StoreError};

/// Accounts that are named in one answer.
const NAMES_MAX: usize = 1_000;
/// Accounts that are read in one pipeline: rounds wait behind it, and histories may be long.
const ACCOUNTS_MAX: usize = 20;

/// What a record has to say to the sums.
struct Share {
    session: SessionId,
    generation: u32,
    outstanding: Credit,
    used: Credit,
    is_open: bool,
}

/// Bucket by bucket, some accounts at a time, so that neither this process nor the server has to hold them all.
pub(super) async fn audit(store: &Redis) -> Result<Audited, StoreError> {
    let mut audited = Audited::default();
    for bucket in 0..BUCKETS {
        let mut after = Arc::from("");
        loop {
            let accounts = listed(store.run(ask_names(store, bucket, &after, NAMES_MAX)).await?)?;
            audit_all(store, &accounts, &mut audited).await?;
            audit_users(store, &accounts, &mut audited).await?;
            match accounts.last() {
                Some(last) if accounts.len() == NAMES_MAX => after = Arc::clone(last),
                Some(_) | None => break,
            }
        }
    }
    audited.drifted.sort_unstable();
    Ok(audited)
}

/// The same of their users. Hardly any account has some, so all are asked for them together.
async fn audit_users(store: &Redis, accounts: &[Arc<str>], audited: &mut Audited) -> Result<(), StoreError> {
    for some in accounts.chunks(ACCOUNTS_MAX) {
        let calls: Vec<Call<'_>> = some.iter().map(|account| ask_user_names(store, account, "", NAMES_MAX)).collect();
        for (account, answer) in some.iter().zip(store.connection.run(&calls).await?) {
            let mut users = listed(answer)?;
            while let Some(last) = users.last() {
                let pools: Vec<Arc<str>> = users.iter().map(|user| pool_of_user(account, user).into()).collect();
                audit_all(store, &pools, audited).await?;
                if users.len() < NAMES_MAX {
                    break;
                }
                users = user_names(store, account, last, NAMES_MAX).await?;
            }
        }
    }
    Ok(())
}

async fn audit_all(store: &Redis, accounts: &[Arc<str>], audited: &mut Audited) -> Result<(), StoreError> {
    for some in accounts.chunks(ACCOUNTS_MAX) {
        let began = Instant::now();
        audit_some(store, some, audited).await?;
        auditor::pause(began).await;
    }
    Ok(())
}

async fn audit_some(store: &Redis, accounts: &[Arc<str>], audited: &mut Audited) -> Result<(), StoreError> {
    let look_up = |account: &Arc<str>| store.call(&store.scripts.account, account, arguments([account, "all"]));
    let calls: Vec<Call<'_>> = accounts.iter().map(look_up).collect();
    for (account, answer) in accounts.iter().zip(store.connection.run(&calls).await?) {
        match drift_of(account, answer) {
            // A user's keys may be gone while its name is not.
            Err(StoreError::NoSuchAccount(_)) if user_of(account).is_some() => {}
            looked => audited.note(account, looked)?,
        }
    }
    Ok(())
}

fn drift_of(account: &Arc<str>, answer: Value) -> Result<Option<Drift>, StoreError> {
    if !matches!(answer, Value::Array(_)) {
        return Err(refused(account, &answer));
    }
    let mut answer = values(answer)?;
    let kept = Kept::read(account, &mut answer)?;
    let drifted = drift(&kept, &shares(answer.list()?)?);
    let sums = history::entries(1, answer.list()?)?.iter().fold(Sums::default(), |sums, entry| sums.with(entry));
    Ok(drifted.or_else(|| sums.drift(kept.history_sums())))
}

fn shares(mut records: Answer) -> Result<Vec<Share>, StoreError> {
    let mut shares = Vec::new();
    while let Some(name) = records.next() {
        let name = text(&name)?;
        let (session, generation) =
            named(&name).ok_or_else(|| StoreError::Corrupt(format!("a record named {name:?}")))?;
        let mut record = records.list()?;
        record.pass(1)?;
        let (granted, used) = (record.nanos()?, record.nanos()?);
        let outstanding = granted.minus(used).minus(record.nanos()?).minus(record.nanos()?);
        record.pass(4)?;
        shares.push(Share { session, generation, outstanding, used, is_open: !record.is_set()? });
    }
    Ok(shares)
}

/// Session and generation of a record's name.
pub(super) fn named(name: &str) -> Option<(SessionId, u32)> {
    let (session, generation) = name.rsplit_once(' ')?;
    let (node, run) = session.rsplit_once(' ')?;
    let session = SessionId { node: node.into(), run: u128::from_str_radix(run, 16).ok()? };
    Some((session, u32::from_str_radix(generation, 16).ok()?))
}

fn drift(kept: &Kept, shares: &[Share]) -> Option<Drift> {
    let (mut leased, mut used) = (Credit::ZERO, kept.retired);
    for Share { session, generation, outstanding, used: spent, is_open } in shares {
        let (session, generation, outstanding) = (session.clone(), *generation, *outstanding);
        if outstanding < Credit::ZERO {
            return Some(Drift::Overdrawn { session, generation, outstanding });
        }
        if outstanding.is_positive() && !is_open {
            return Some(Drift::EndedWithRights { session, generation, outstanding });
        }
        (leased, used) = (leased.saturating_plus(outstanding), used.saturating_plus(*spent));
    }
    let sums = [kept.credits.total(), kept.credits.given()];
    if let Some((kept, summed)) = kept.sums.into_iter().zip(sums).find(|(kept, summed)| kept != summed) {
        return Some(Drift::Credits { kept, summed });
    }
    let leased_differs = (leased != kept.leased).then_some(Drift::Leased { kept: kept.leased, summed: leased });
    let used_differs = (used != kept.used).then_some(Drift::Used { kept: kept.used, summed: used });
    leased_differs.or(used_differs)
}
