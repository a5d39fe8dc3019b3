//! What a store has for the cashier: purchases that are wanted, and events that others must hear of.
//!
//! Work is *taken* for a while. Who finishes it says so; what nobody finished in that time may be taken by others, so a
//! cashier that died loses nothing. Which purchases are wanted follows from the accounts alone: no event has to arrive for
//! one to be made.

use std::sync::Arc;
use std::time::Duration;

use super::store::{Pending, Store};
use crate::pool::message::{Event, Wanted};

/// How much to take, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    pub purchases_max: usize,
    pub events_max: usize,
    /// Others may take it after this.
    pub life: Duration,
}

/// What was taken. Some more than was asked for may have been.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub purchases: Vec<Wanted>,
    pub events: Vec<Waiting>,
    pub backlog: Backlog,
}

/// An event that nobody has finished yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Names it to its store.
    pub id: String,
    pub event: Event,
    pub age: Duration,
}

/// What is left to do, taken or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Accounts with a purchase in flight, or one to be tried again.
    pub purchases: u64,
    pub events: u64,
    /// Of the oldest event.
    pub events_age: Duration,
}

/// A store's door for the cashier.
pub trait Outbox: Store {
    fn take(&self, take: Take) -> Pending<'_, Taken>;
    /// Has the purchase under `key` looked at again after `wait`; nothing where it is not in flight any more.
    fn put_off_purchase(&self, account: Arc<str>, key: String, wait: Duration) -> Pending<'_, ()>;
    /// Has an event taken again after `wait`.
    fn put_off_event(&self, id: String, wait: Duration) -> Pending<'_, ()>;
    /// Events that need not be told again.
    fn finish_events(&self, ids: Vec<String>) -> Pending<'_, ()>;
}

/// The most events that are taken or put off at once, so that what is put off stays cheap to pass over.
pub(super) const CLAIMS_MAX: u64 = 1_000;
