//! Whether the accounts' sums are what their records say.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::accounts::{arguments, names, refused};
use super::answer::{Answer, list as values, text};
use super::state::Kept;
use crate::decision::Credit;
use crate::pool::{Drift, SessionId};
use crate::reconcile::store::StoreError;

/// What a record has to say to the sums.
struct Share {
    session: SessionId,
    generation: u32,
    outstanding: Credit,
    used: Credit,
    is_open: bool,
}

pub(super) async fn audit(store: &Redis) -> Result<Vec<(Arc<str>, Drift)>, StoreError> {
    let mut drifted = Vec::new();
    for account in names(store, "", usize::MAX >> 1).await? {
        let answer = store.run(store.call(&store.scripts.account, &account, arguments([&account, "1"]))).await?;
        if !matches!(answer, Value::Array(_)) {
            return Err(refused(&account, &answer));
        }
        let mut answer = values(answer)?;
        let kept = Kept::read(&account, &mut answer)?;
        let shares = shares(answer.list()?)?;
        drifted.extend(drift(&kept, &shares).map(|drift| (account, drift)));
    }
    Ok(drifted)
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
fn named(name: &str) -> Option<(SessionId, u32)> {
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
        (leased, used) = (leased.plus(outstanding), used.plus(*spent));
    }
    let leased_differs = (leased != kept.leased).then_some(Drift::Leased { kept: kept.leased, summed: leased });
    let used_differs = (used != kept.used).then_some(Drift::Used { kept: kept.used, summed: used });
    leased_differs.or(used_differs)
}
