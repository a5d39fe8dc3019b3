//! An account with what is lent of it, in one look.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::accounts::{arguments, refused};
use super::answer::{Answer, list as values, text};
use super::audit::named;
use super::packed::Numbers;
use super::state::Kept;
use crate::clock::UnixMs;
use crate::pool::Leased;
use crate::reconcile::store::{AccountRecord, StoreError};

/// As `lua/state.lua` has the stage of a record that said *bye*.
const CLOSED: u64 = 2;

pub(super) async fn inspect(store: &Redis, account: Arc<str>) -> Result<(AccountRecord, Vec<Leased>), StoreError> {
    let look_up = store.call(&store.scripts.account, &account, arguments([&account, "records"]));
    match store.run(look_up).await? {
        answer @ Value::Array(_) => {
            let mut answer = values(answer)?;
            let kept = Kept::read(&account, &mut answer)?;
            let leases = leases(answer.list()?, kept.now)?;
            Ok((kept.record(), leases))
        }
        answer => Err(refused(&account, &answer)),
    }
}

/// What is lent to sessions that did not say *bye*, in order of session.
fn leases(mut records: Answer, now: UnixMs) -> Result<Vec<Leased>, StoreError> {
    let mut leases = Vec::new();
    while let Some(name) = records.next() {
        let name = text(&name)?;
        let unnamed = || StoreError::Corrupt(format!("a record named {name:?}"));
        let (session, generation) = named(&name).ok_or_else(unnamed)?;
        let mut record = records.list()?;
        record.pass(1)?;
        let (granted, used) = (record.nanos()?, record.nanos()?);
        let outstanding = granted.minus(used).minus(record.nanos()?).minus(record.nanos()?);
        record.pass(2)?;
        let (expires, ttl, stage): (u64, _, u64) = (record.whole()?, record.millis()?, record.whole()?);
        let is_live = stage == 0 && now.0 < expires;
        let left = std::time::Duration::from_millis(expires.saturating_sub(now.0));
        let ended = std::time::Duration::from_millis(now.0.saturating_sub(expires));
        let heard = ttl.saturating_sub(left).saturating_add(ended);
        if stage != CLOSED {
            leases.push(Leased { session, generation, outstanding, used, is_live, heard });
        }
    }
    leases.sort_unstable_by(|a, b| (&a.session, a.generation).cmp(&(&b.session, b.generation)));
    Ok(leases)
}
