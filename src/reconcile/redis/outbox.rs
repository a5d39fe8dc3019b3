//! What is left for the cashier in each bucket: purchases that are due, and events that nobody has finished.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;

use super::accounts::arguments;
use super::answer::{Answer, list as values, name, unexpected, whole};
use super::connection::Purpose;
use super::events::event;
use super::layout::BUCKETS;
use super::packed::Numbers;
use super::{Call, Redis};
use crate::pool::message::Wanted;
use crate::reconcile::outbox::{Backlog, Take, Taken, Waiting};
use crate::reconcile::store::StoreError;

/// Buckets that are looked at in one step, so that no call holds a server up for longer than some milliseconds.
const STEP: u16 = 128;
/// Steps in which all buckets are looked at.
const STEPS: u16 = BUCKETS / STEP;

/// Looks at all buckets; the next look begins where in this one enough was taken.
pub(super) async fn take(store: &Redis, take: Take) -> Result<Taken, StoreError> {
    let (mut taken, mut failure) = (Taken::default(), None);
    let begin = store.next_step.load(Ordering::Relaxed);
    let mut is_enough = false;
    for step in (0..STEPS).map(|step| (begin + step) % STEPS) {
        let left = Take {
            purchases_max: take.purchases_max.saturating_sub(taken.purchases.len()),
            events_max: take.events_max.saturating_sub(taken.events.len()),
            ..take
        };
        if !is_enough && (left.purchases_max == 0 || left.events_max == 0) {
            is_enough = true;
            store.next_step.store(step, Ordering::Relaxed);
        }
        failure = take_step(store, step * STEP, left, &mut taken).await?.or(failure);
    }
    match failure {
        // What was taken is to be done, even where a part of the store is away.
        Some(cause) if taken == Taken::default() => Err(StoreError::Unavailable(cause)),
        _ => Ok(taken),
    }
}

/// One server takes many buckets in one call; a cluster takes one at a time, and of each at most one thing, because nobody
/// counts over all of them. What failed is told.
async fn take_step(store: &Redis, first: u16, take: Take, taken: &mut Taken) -> Result<Option<String>, StoreError> {
    let buckets: Vec<u16> = (first..first + STEP).collect();
    let is_cluster = store.connection.is_cluster();
    let at_once = if is_cluster { 1 } else { buckets.len() };
    let most = |max: usize| if is_cluster { max.min(1) } else { max };
    let args = arguments([
        &take.life.as_millis().to_string(),
        &most(take.purchases_max).to_string(),
        &most(take.events_max).to_string(),
    ]);
    let parts: Vec<&[u16]> = buckets.chunks(at_once).collect();
    let call = |part: &&[u16]| Call {
        script: &store.scripts.take,
        keys: part.iter().map(|bucket| store.layout.bucket(*bucket)).collect(),
        args: args.clone(),
    };
    let calls: Vec<Call<'_>> = parts.iter().map(call).collect();
    let mut failure = None;
    for (part, ran) in parts.iter().zip(store.connection.run_each(&calls, Purpose::Other).await) {
        match ran {
            Ok(answer) => gather(store, part, answer, taken)?,
            Err(cause) => failure = Some(cause),
        }
    }
    Ok(failure)
}

fn gather(store: &Redis, buckets: &[u16], answer: Value, taken: &mut Taken) -> Result<(), StoreError> {
    let mut answer = values(answer)?;
    for purchase in answer.list()? {
        let mut purchase = values(purchase)?;
        let account = name(&purchase.value()?)?;
        match wanted(&account, purchase) {
            Ok(wanted) => taken.purchases.push(wanted),
            Err(error) => store.unreadable.tell(&account, &error.to_string()),
        }
    }
    for entry in answer.list()? {
        taken.events.extend(waiting(buckets, entry)?);
    }
    let Backlog { purchases, events, events_age } = &mut taken.backlog;
    *purchases = purchases.saturating_add(answer.whole()?);
    *events = events.saturating_add(answer.whole()?);
    *events_age = answer.millis()?.max(*events_age);
    Ok(())
}

/// A purchase. Where its account cannot be read, there is nothing but why.
fn wanted(account: &Arc<str>, mut purchase: Answer) -> Result<Wanted, StoreError> {
    let key = purchase.text()?;
    let Some(attempt) = purchase.next() else { return Err(StoreError::Corrupt(key)) };
    let attempt = u32::try_from(whole(&attempt)?).unwrap_or(u32::MAX);
    let (amount, age) = (purchase.credit()?, purchase.millis()?);
    Ok(Wanted { account: Arc::clone(account), key, amount, attempt, age })
}

/// An event; nothing where another version of the program wrote one that this one does not know, which that one tells.
fn waiting(buckets: &[u16], entry: Value) -> Result<Option<Waiting>, StoreError> {
    let unreadable = unexpected(&entry);
    let mut entry = values(entry)?;
    let place: usize = entry.whole()?;
    let id = entry.text()?;
    let event = event(&mut entry.list()?)?;
    let age = entry.millis()?;
    let Some(bucket) = place.checked_sub(1).and_then(|place| buckets.get(place)) else { return Err(unreadable) };
    if event.is_none() {
        tracing::warn!(%unreadable, "an event is not known here");
    }
    Ok(event.map(|event| Waiting { id: format!("{bucket}/{id}"), event, age }))
}

pub(super) async fn put_off_purchase(
    store: &Redis,
    account: Arc<str>,
    key: String,
    wait: Duration,
) -> Result<(), StoreError> {
    let args = arguments(["due", &account, &wait.as_millis().to_string(), &key]);
    store.run(store.call(&store.scripts.put_off, &account, args)).await.map(drop)
}

pub(super) async fn put_off_event(store: &Redis, id: String, wait: Duration) -> Result<(), StoreError> {
    let Some((bucket, id)) = place(&id) else { return Ok(()) };
    let args = arguments(["claims", id, &wait.as_millis().to_string()]);
    let call = Call { script: &store.scripts.put_off, keys: vec![store.layout.bucket(bucket)], args };
    store.run(call).await.map(drop)
}

pub(super) async fn finish_events(store: &Redis, ids: Vec<String>) -> Result<(), StoreError> {
    let call = |(bucket, id): (u16, &str)| Call {
        script: &store.scripts.finish,
        keys: vec![store.layout.bucket(bucket)],
        args: arguments([id]),
    };
    let calls: Vec<Call<'_>> = ids.iter().filter_map(|id| place(id)).map(call).collect();
    if calls.is_empty() { Ok(()) } else { store.connection.run(&calls).await.map(drop) }
}

/// The bucket of an event, and its id in that bucket's stream.
fn place(id: &str) -> Option<(u16, &str)> {
    let (bucket, id) = id.split_once('/')?;
    Some((bucket.parse().ok().filter(|bucket| *bucket < BUCKETS)?, id))
}
