//! What is left for the cashier, in the file: purchases that are wanted, and events that nobody has finished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::Rules;
use super::accounts::found;
use super::file::{CLAIMS, EVENTS, NEEDS, failed};
use super::records::decode;
use super::state::State;
use crate::clock::{Now, UnixMs};
use crate::pool::message::{Event, Happening};
use crate::reconcile::outbox::{Backlog, CLAIMS_MAX, Take, Taken, Waiting};
use crate::reconcile::store::StoreError;

/// Takes what is due. Writes nothing where there is nothing.
pub(super) fn take(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    take: Take,
) -> Result<Taken, StoreError> {
    let time = state.time(now);
    let until = time.0.saturating_add(millis(take.life));
    let accounts = due_accounts(database, time, take.purchases_max)?;
    let events = due_events(database, time, take.events_max)?;
    let backlog = backlog(database, time)?;
    if accounts.is_empty() && events.is_empty() {
        return Ok(Taken { backlog, ..Taken::default() });
    }
    let (mut purchases, mut looked_at) = (BTreeMap::new(), BTreeSet::new());
    for account in &accounts {
        match found(state, database, account) {
            Ok(kept) => {
                looked_at.insert(account.clone());
                purchases.extend(kept.pool.look_at_top_up(&rules.pool, time).map(|wanted| (account.clone(), wanted)));
            }
            Err(StoreError::Corrupt(detail)) => {
                state.unreadable.tell(account, &detail);
            }
            Err(error) => return Err(error),
        }
    }
    state.commit(database, time, &looked_at, |write| {
        for account in &accounts {
            let is_over = looked_at.contains(account) && !purchases.contains_key(account);
            look_at(write, account, (!is_over).then_some(UnixMs(until)))?;
        }
        let mut claims = write.open_table(CLAIMS).map_err(failed)?;
        for (number, _) in &events {
            claims.insert(number, until).map_err(failed)?;
        }
        Ok(())
    })?;
    let waiting = |(number, event): (u64, Event)| Waiting { id: number.to_string(), age: age(&event, time), event };
    let purchases = purchases.into_values().collect();
    Ok(Taken { purchases, events: events.into_iter().map(waiting).collect(), backlog })
}

pub(super) fn put_off_purchase(
    state: &mut State,
    database: &Database,
    now: Now,
    account: &Arc<str>,
    key: &str,
    wait: Duration,
) -> Result<(), StoreError> {
    let time = state.time(now);
    let kept = found(state, database, account)?;
    if kept.pool.summary(time).topup_pending.as_deref() != Some(key) {
        return Ok(());
    }
    let due = UnixMs(time.0.saturating_add(millis(wait)));
    state.commit(database, time, &BTreeSet::new(), |write| look_at(write, account, Some(due)))
}

pub(super) fn put_off_event(
    state: &mut State,
    database: &Database,
    now: Now,
    id: &str,
    wait: Duration,
) -> Result<(), StoreError> {
    let time = state.time(now);
    let until = time.0.saturating_add(millis(wait));
    let Ok(number) = id.parse::<u64>() else { return Ok(()) };
    state.commit(database, time, &BTreeSet::new(), |write| {
        let mut claims = write.open_table(CLAIMS).map_err(failed)?;
        if claims.get(number).map_err(failed)?.is_some() {
            claims.insert(number, until).map_err(failed)?;
        }
        Ok(())
    })
}

pub(super) fn finish_events(
    state: &mut State,
    database: &Database,
    now: Now,
    ids: &[String],
) -> Result<(), StoreError> {
    let time = state.time(now);
    state.commit(database, time, &BTreeSet::new(), |write| {
        let mut claims = write.open_table(CLAIMS).map_err(failed)?;
        let mut events = write.open_table(EVENTS).map_err(failed)?;
        for number in ids.iter().filter_map(|id| id.parse::<u64>().ok()) {
            claims.remove(number).map_err(failed)?;
            events.remove(number).map_err(failed)?;
        }
        Ok(())
    })
}

/// Notes purchases that were asked for, in the step that did so.
pub(super) fn note(write: &WriteTransaction, events: &[Event]) -> Result<(), StoreError> {
    let asks = |event: &&Event| matches!(event.what, Happening::TopUpNeeded { .. });
    events.iter().filter(asks).try_for_each(|event| look_at(write, &event.account, Some(event.at)))
}

/// When the purchase of an account is to be looked at next.
pub(super) fn look_at(write: &WriteTransaction, account: &str, due: Option<UnixMs>) -> Result<(), StoreError> {
    let mut needs = write.open_table(NEEDS).map_err(failed)?;
    match due {
        Some(due) => needs.insert(account, due.0).map_err(failed)?,
        None => needs.remove(account).map_err(failed)?,
    };
    Ok(())
}

fn due_accounts(database: &Database, time: UnixMs, max: usize) -> Result<BTreeSet<Arc<str>>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let needs = read.open_table(NEEDS).map_err(failed)?;
    let mut due = BTreeSet::new();
    for row in needs.iter().map_err(failed)? {
        let (account, at) = row.map_err(failed)?;
        if due.len() < max && at.value() <= time.0 {
            due.insert(account.value().into());
        }
    }
    Ok(due)
}

/// Events that were not taken, or whose time has come again. No more are begun while too many are put off.
fn due_events(database: &Database, time: UnixMs, max: usize) -> Result<Vec<(u64, Event)>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let (events, claims) = (read.open_table(EVENTS).map_err(failed)?, read.open_table(CLAIMS).map_err(failed)?);
    let claimed = claims.len().map_err(failed)?;
    let within = usize::try_from(claimed).unwrap_or(usize::MAX).saturating_add(max);
    let mut due = Vec::new();
    for row in events.iter().map_err(failed)?.take(within) {
        let (number, event) = row.map_err(failed)?;
        let until = claims.get(number.value()).map_err(failed)?.map(|until| until.value());
        let is_due = until.map_or(claimed < CLAIMS_MAX, |until| until <= time.0);
        if is_due && due.len() < max {
            due.push((number.value(), decode(event.value(), "an event")?));
        }
    }
    Ok(due)
}

fn backlog(database: &Database, time: UnixMs) -> Result<Backlog, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let (needs, events) = (read.open_table(NEEDS).map_err(failed)?, read.open_table(EVENTS).map_err(failed)?);
    let oldest = events.first().map_err(failed)?.map(|(_, event)| decode::<Event>(event.value(), "an event"));
    Ok(Backlog {
        purchases: needs.len().map_err(failed)?,
        events: events.len().map_err(failed)?,
        events_age: oldest.transpose()?.map_or(Duration::ZERO, |event| age(&event, time)),
    })
}

fn age(event: &Event, now: UnixMs) -> Duration {
    Duration::from_millis(now.0.saturating_sub(event.at.0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
