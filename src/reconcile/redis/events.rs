//! The outbox: one stream for each bucket, written in the step that caused the event, and read here as one.
//!
//! An event's number is made of its stream's id and its bucket. Numbers grow with the time of the server; in a cluster
//! whose servers' clocks differ, an event may come with a number below one that was read already.

use redis::Value;

use super::accounts::arguments;
use super::answer::{Answer, list as values, text, unexpected};
use super::layout::BUCKETS;
use super::{Call, Redis, packed, terms};
use crate::clock::UnixMs;
use crate::decision::terms::{Suspension, Tier};
use crate::decision::{Credit, Month};
use crate::pool::message::{Event, Happening};
use crate::reconcile::store::StoreError;

/// Of a number: bits of the bucket, and of the count within one millisecond.
const BUCKET_BITS: u32 = 10;
const COUNT_BITS: u32 = 13;

/// Events in order of their numbers, after `after`.
pub(super) async fn after(store: &Redis, after: u64, max: usize) -> Result<Vec<(u64, Event)>, StoreError> {
    let calls: Vec<Call<'_>> = (0..BUCKETS)
        .map(|bucket| Call {
            script: &store.scripts.events,
            keys: vec![store.layout.bucket(bucket)],
            args: arguments([&first_id(after, bucket), &max.to_string()]),
        })
        .collect();
    let mut events = Vec::new();
    for (bucket, answer) in (0..BUCKETS).zip(store.connection.run(&calls).await?) {
        for entry in values(answer)? {
            events.push(read(bucket, entry)?);
        }
    }
    events.sort_by_key(|(number, _)| *number);
    events.truncate(max);
    Ok(events)
}

/// The stream id from which a bucket's events have numbers above `after`.
fn first_id(after: u64, bucket: u16) -> String {
    let (millis, count) = (after >> (BUCKET_BITS + COUNT_BITS), after & ((1 << COUNT_BITS) - 1));
    let read_up_to = (after >> COUNT_BITS) & ((1 << BUCKET_BITS) - 1);
    match u64::from(bucket).cmp(&read_up_to) {
        std::cmp::Ordering::Less => format!("{}-0", millis + 1),
        std::cmp::Ordering::Equal => format!("{millis}-{}", count + 1),
        std::cmp::Ordering::Greater => format!("{millis}-0"),
    }
}

fn read(bucket: u16, entry: Value) -> Result<(u64, Event), StoreError> {
    let unreadable = unexpected(&entry);
    let mut entry = values(entry)?;
    let number = number(bucket, &entry.text()?);
    let event = event(&mut entry.list()?)?;
    number.zip(event).ok_or(unreadable)
}

fn number(bucket: u16, id: &str) -> Option<u64> {
    let (millis, count) = id.split_once('-')?;
    let (millis, count): (u64, u64) = (millis.parse().ok()?, count.parse().ok()?);
    Some(millis << (BUCKET_BITS + COUNT_BITS) | u64::from(bucket) << COUNT_BITS | count.min((1 << COUNT_BITS) - 1))
}

/// Names and values, as `save_events` in `lua/announce.lua` writes them; nothing where they are none of these.
pub(super) fn event(fields: &mut Answer) -> Result<Option<Event>, StoreError> {
    let mut next = || {
        fields.value()?;
        text(&fields.value()?)
    };
    let at = next()?.parse().map(UnixMs).ok();
    let account = next()?.into();
    Ok(at.zip(happening(&mut next)?).map(|(at, what)| Event { at, account, what }))
}

/// The values of an event, one after the other.
pub(super) type Next<'a> = dyn FnMut() -> Result<String, StoreError> + 'a;

/// What happened; nothing where the values are none of these.
pub(super) fn happening(next: &mut Next<'_>) -> Result<Option<Happening>, StoreError> {
    Ok(match next()?.as_str() {
        "depleted" => Some(Happening::Depleted),
        "month" => {
            let month = next()?.parse().ok().map(Month::from_yyyymm);
            month.zip(next()?.parse().ok()).map(|(month, percent)| Happening::MonthThreshold { month, percent })
        }
        "top-up" => purchase(next)?.map(|(key, amount)| Happening::TopUpNeeded { key, amount }),
        "top-up made" => purchase(next)?.map(|(key, amount)| Happening::TopUpSucceeded { key, amount }),
        "top-up declined" => declined(next)?,
        "low" => {
            let (threshold, available) = (credit(next)?, credit(next)?);
            threshold.zip(available).map(|(threshold, available)| Happening::BalanceLow { threshold, available })
        }
        "tier" => tier(next)?.zip(tier(next)?).map(|(from, to)| Happening::TierChanged { from, to }),
        "overrun" => nanos(next)?.map(|amount| Happening::Overrun { amount }),
        "suspended" => {
            (next()? == "failed payments").then_some(Happening::Suspended { why: Suspension::FailedPayments })
        }
        _ => None,
    })
}

fn declined(next: &mut Next<'_>) -> Result<Option<Happening>, StoreError> {
    let (bought, declines, retry) = (purchase(next)?, next()?.parse().ok(), next()?);
    let retry_at = retry.parse().ok().map(UnixMs);
    let is_read = retry_at.is_some() || retry == "never";
    let declined = bought.zip(declines).filter(|_| is_read);
    Ok(declined.map(|((key, amount), declines)| Happening::TopUpFailed { key, amount, declines, retry_at }))
}

/// A purchase's key and amount.
fn purchase(next: &mut Next<'_>) -> Result<Option<(String, Credit)>, StoreError> {
    let key = next()?;
    Ok(nanos(next)?.map(|amount| (key, amount)))
}

pub(super) fn nanos(next: &mut Next<'_>) -> Result<Option<Credit>, StoreError> {
    Ok(next()?.parse().ok().and_then(Credit::from_store))
}

/// An amount in two values.
pub(super) fn credit(next: &mut Next<'_>) -> Result<Option<Credit>, StoreError> {
    let (usd, nanos): (Option<i64>, Option<i64>) = (next()?.parse().ok(), next()?.parse().ok());
    Ok(usd.zip(nanos).and_then(|(usd, nanos)| packed::sum(usd, nanos)))
}

fn tier(next: &mut Next<'_>) -> Result<Option<Tier>, StoreError> {
    Ok(next()?.parse().ok().and_then(terms::tier_of_number))
}
