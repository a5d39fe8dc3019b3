//! The pool's law over Redis or Valkey, for many sidecars: scripts that apply it where the data is.
//!
//! A script decides everything before it writes, and what a server refuses for lack of memory or of a role, it refuses
//! before the first write: nothing is ever half done. Messages are totals, so nothing here is sent twice by itself, and a
//! call whose answer was lost is simply followed by the next. Times are the server's.
//!
//! Wants servers of version 7.0 or Valkey that never evict. What it acknowledges is as durable as its own settings make it; what a
//! failover forgets of usage is told again by every living session.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a server may answer with any kind of value: what is not expected is said to be so"
)]

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use redis::RedisError;

use super::outbox::{Outbox, Take, Taken};
use super::store::{
    AccountRecord, Audited, Fault, Heard, History, KeyDigest, KeyRecord, Leased, Page, Pending, Purchase, Rules, Store,
    StoreError, UserRecord,
};
use super::unreadable::Unreadable;
use crate::clock::Clock;
use crate::decision::catalogue::TierRule;
use crate::decision::terms::Terms;
use crate::pool::message::{Event, StepProposal};
use crate::pool::{Message, Reply};
use connection::{Call, Connection};
use layout::{Layout, bucket_of};
use scripts::{CLOCK, Script, Scripts};

mod accounts;
mod address;
mod answer;
mod audit;
mod cluster;
mod connection;
mod credits;
mod events;
mod faults;
mod history;
mod inlined;
mod inspect;
mod keys;
mod layout;
mod money;
mod outbox;
mod packed;
mod rates;
mod round;
mod scripts;
mod sentinel;
mod server;
mod state;
mod terms;
#[cfg(test)]
mod tests;

pub use address::{Access, Address};

/// How long a server may take to answer: below the longest that a round may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A store on a server.
pub struct Redis {
    connection: Connection,
    scripts: Scripts,
    layout: Layout,
    /// Where the next look for the cashier's work begins.
    next_step: AtomicU16,
    tiers: Vec<TierRule>,
    unreadable: Unreadable,
}

impl Redis {
    /// A store at `address`, its keys beginning with `prefix`. Connects when it is first asked, and again whenever the
    /// connection was lost.
    pub fn new(address: &Address, prefix: &str, rules: &Rules) -> Result<Self, RedisError> {
        Ok(Self::with_clock(Connection::to(address, ANSWER_MAX)?, prefix, rules, CLOCK))
    }

    /// `clock` is Lua that tells store time.
    fn with_clock(connection: Connection, prefix: &str, rules: &Rules, clock: &str) -> Self {
        Self {
            connection,
            scripts: Scripts::new(rules, clock),
            layout: Layout::new(prefix),
            tiers: rules.pool.tiers.clone(),
            unreadable: Unreadable::default(),
            next_step: AtomicU16::new(0),
        }
    }

    /// Tells every sidecar of a change. Where that is lost, they hear of it with their next sync of the account, or when they
    /// look the key up again.
    async fn publish(&self, change: Heard<'_>) {
        let Some(text) = layout::change_text(change) else { return };
        if let Err(cause) = self.connection.publish(&self.layout.channel(), &text).await {
            tracing::debug!(cause, "a change could not be published");
        }
    }

    /// What was changed, after everybody was told of it.
    async fn published(&self, changed: Result<AccountRecord, StoreError>) -> Result<AccountRecord, StoreError> {
        if let Ok(record) = &changed {
            self.publish(Heard::Account(&record.account)).await;
        }
        changed
    }

    /// A call for the bucket of an account.
    fn call<'a>(&self, script: &'a Script, account: &str, args: Vec<Vec<u8>>) -> Call<'a> {
        Call { script, keys: vec![self.layout.bucket(bucket_of(account))], args }
    }

    /// Runs one call.
    async fn run(&self, call: Call<'_>) -> Result<redis::Value, StoreError> {
        let answers = self.connection.run(&[call]).await?;
        answers.into_iter().next().ok_or_else(|| StoreError::Corrupt("a script answered nothing".into()))
    }
}

impl Store for Redis {
    fn exchange(&self, messages: Vec<Message>) -> Pending<'_, Vec<Reply>> {
        Box::pin(round::exchange(self, messages))
    }

    fn take_replaced(&self) -> bool {
        self.connection.take_replaced()
    }

    fn faults(&self, clock: Clock) -> Pending<'_, Vec<Fault>> {
        Box::pin(async move { Ok(faults::faults(self, clock).await) })
    }

    fn follow<'a>(&'a self, heard: &'a (dyn Fn(Heard<'_>) + Send + Sync)) -> Pending<'a, ()> {
        Box::pin(async move {
            let told = |text: Option<&str>| match text {
                None => heard(Heard::Following),
                Some(text) => layout::hear(text, heard),
            };
            let followed = self.connection.follow(&self.layout.channel(), &told).await;
            followed.map_err(StoreError::Unavailable)
        })
    }

    fn propose(&self, steps: Vec<StepProposal>) -> Pending<'_, ()> {
        Box::pin(rates::propose(self, steps))
    }

    fn find_key(&self, digest: KeyDigest) -> Pending<'_, Option<Arc<str>>> {
        Box::pin(keys::find(self, digest))
    }

    fn create_account(&self, account: Arc<str>, terms: Terms) -> Pending<'_, AccountRecord> {
        Box::pin(async move { self.published(accounts::create(self, account, terms).await).await })
    }

    fn account(&self, account: Arc<str>) -> Pending<'_, AccountRecord> {
        Box::pin(async move { Ok(accounts::read(self, &account).await?.record()) })
    }

    fn inspect(&self, account: Arc<str>) -> Pending<'_, (AccountRecord, Vec<Leased>)> {
        Box::pin(inspect::inspect(self, account))
    }

    fn accounts(&self, after: Option<Arc<str>>, max: usize) -> Pending<'_, Vec<AccountRecord>> {
        Box::pin(accounts::list(self, after, max))
    }

    fn users(&self, account: Arc<str>, after: Arc<str>, max: usize) -> Pending<'_, Vec<UserRecord>> {
        Box::pin(async move { accounts::users(self, &account, &after, max).await })
    }

    fn configure(&self, account: Arc<str>, version: u64, terms: Terms) -> Pending<'_, AccountRecord> {
        Box::pin(async move { self.published(accounts::configure(self, account, version, terms).await).await })
    }

    fn add_credits(&self, purchase: Purchase) -> Pending<'_, AccountRecord> {
        Box::pin(async move { self.published(credits::add(self, purchase).await).await })
    }

    fn top_up_failed(&self, account: Arc<str>, key: String) -> Pending<'_, AccountRecord> {
        Box::pin(async move { self.published(accounts::top_up_failed(self, account, key).await).await })
    }

    fn create_key(&self, account: Arc<str>, digest: KeyDigest, label: String) -> Pending<'_, KeyRecord> {
        Box::pin(async move {
            let created = keys::create(self, account, digest, label).await?;
            self.publish(Heard::Key(&digest)).await;
            Ok(created)
        })
    }

    fn keys(&self, account: Arc<str>) -> Pending<'_, Vec<KeyRecord>> {
        Box::pin(keys::list(self, account))
    }

    fn revoke_key(&self, account: Arc<str>, id: String) -> Pending<'_, KeyDigest> {
        Box::pin(async move {
            let digest = keys::revoke(self, account, id).await?;
            self.publish(Heard::Key(&digest)).await;
            Ok(digest)
        })
    }

    fn history(&self, account: Arc<str>, page: Page) -> Pending<'_, History> {
        Box::pin(history::page(self, account, page))
    }

    /// Each account is read in one step.
    fn audit(&self) -> Pending<'_, Audited> {
        Box::pin(audit::audit(self))
    }

    fn events(&self, after: u64, max: usize) -> Pending<'_, Vec<(u64, Event)>> {
        Box::pin(events::after(self, after, max))
    }
}

impl Outbox for Redis {
    fn take(&self, take: Take) -> Pending<'_, Taken> {
        Box::pin(outbox::take(self, take))
    }

    fn put_off_purchase(&self, account: Arc<str>, key: String, wait: Duration) -> Pending<'_, ()> {
        Box::pin(outbox::put_off_purchase(self, account, key, wait))
    }

    fn put_off_event(&self, id: String, wait: Duration) -> Pending<'_, ()> {
        Box::pin(outbox::put_off_event(self, id, wait))
    }

    fn finish_events(&self, ids: Vec<String>) -> Pending<'_, ()> {
        Box::pin(outbox::finish_events(self, ids))
    }
}
