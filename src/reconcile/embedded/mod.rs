//! The pool's law over an embedded database, for one machine.
//!
//! What is acknowledged is in the file and on the disk: credits, terms and keys before they are confirmed, grants before
//! they are told, usage with the round that reports it. A process that is killed at any point can therefore not spend
//! twice: what its session held stays in the books until the account's reclaim mode gives it back. Only rate buckets are
//! written behind, by half a minute. A step that fails is forgotten whole; the next round says everything again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redb::Database;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::auditor;
use super::outbox::{Outbox, Take, Taken};
use super::store::{
    AccountRecord, Audited, History, KeyDigest, KeyRecord, Leased, Page, Pending, Purchase, Rules, Store, StoreError,
    UserRecord,
};
use crate::clock::Now;
use crate::decision::terms::Terms;
use crate::pool::message::{Event, StepProposal};
use crate::pool::{Message, Reply};
use audit::{AT_ONCE, Walk};
use file::Missing;
use state::State;

mod accounts;
mod audit;
mod credits;
mod file;
mod history;
mod keys;
mod outbox;
mod records;
mod round;
mod state;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use accounts::record;
pub use file::OpenError;

/// Compares the sums of every account in the store at `path` with its records. Changes none of them. Blocks.
///
/// The file must be there, and no process may have it open.
pub fn audit(path: &Path) -> Result<Audited, OpenError> {
    let database = file::open(path, Missing::Refuse)?;
    let damaged = |error: StoreError| OpenError::Damaged { path: path.into(), detail: error.to_string() };
    let mut walk = Walk::default();
    while walk.go_on(&database, AT_ONCE).map_err(damaged)? {}
    Ok(walk.found)
}

/// A store in one file, locked by this process.
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    rules: Rules,
    now: Box<dyn Fn() -> Now + Send + Sync>,
    /// `None` after a failure of the disk, until the file is opened again.
    database: Mutex<Option<Arc<Database>>>,
    state: Mutex<State>,
}

impl Embedded {
    /// Opens the store at `path`, or begins an empty one. Blocks: the whole file is checked.
    ///
    /// `now` is this machine's clock.
    pub fn open(path: &Path, rules: Rules, now: impl Fn() -> Now + Send + Sync + 'static) -> Result<Self, OpenError> {
        let database = file::open(path, Missing::Begin)?;
        let damaged = |error: StoreError| OpenError::Damaged { path: path.into(), detail: error.to_string() };
        let state = State::new(&database, now()).map_err(damaged)?;
        let inner = Inner {
            path: path.into(),
            rules,
            now: Box::new(now),
            database: Mutex::new(Some(Arc::new(database))),
            state: Mutex::new(state),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a step that may wait for the disk where that does no harm.
    fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<'_, T> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let stepped = spawn_blocking(move || step(&inner)).await;
            stepped.unwrap_or_else(|_| Err(StoreError::Unavailable("this process is shutting down".into())))
        })
    }
}

impl Inner {
    /// Runs a step that only looks keys and lists up: it does not wait for a round that is being written.
    fn look_up<T>(&self, step: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database()?;
        step(&database)
    }

    /// Runs a step on the pools. If it fails for the disk's sake, memory is forgotten and the file is opened again.
    fn change<T>(
        &self,
        step: impl FnOnce(&mut State, &Database, Now) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        let database = self.database()?;
        let stepped = step(&mut state, &database, (self.now)());
        if let Err(StoreError::Unavailable(_) | StoreError::Corrupt(_)) = &stepped {
            state.forget();
            *self.lock_database() = None;
        }
        stepped
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.lock_database();
        if let Some(database) = &*database {
            return Ok(Arc::clone(database));
        }
        let opened = file::open(&self.path, Missing::Refuse);
        let opened = opened.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Arc::clone(database.insert(Arc::new(opened))))
    }

    fn lock_database(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for Inner {
    /// Rate buckets that were not written yet are, if the disk allows: a restart then forgets nothing.
    fn drop(&mut self) {
        let step = |state: &mut State, database: &Database, now| {
            let time = state.time(now);
            state.commit_rates(database, time)
        };
        if let Err(error) = self.change(step) {
            tracing::warn!(%error, "the newest levels of rate limits are not written; they begin with older ones");
        }
    }
}

impl Store for Embedded {
    fn exchange(&self, messages: Vec<Message>) -> Pending<'_, Vec<Reply>> {
        self.step(move |inner| {
            inner.change(|state, database, now| round::exchange(state, database, &inner.rules, now, &messages))
        })
    }

    fn propose(&self, steps: Vec<StepProposal>) -> Pending<'_, ()> {
        self.step(move |inner| {
            inner.change(|state, database, now| round::propose(state, database, &inner.rules, now, &steps))
        })
    }

    fn find_key(&self, digest: KeyDigest) -> Pending<'_, Option<Arc<str>>> {
        self.step(move |inner| inner.look_up(|database| keys::find(database, digest)))
    }

    fn create_account(&self, account: Arc<str>, terms: Terms) -> Pending<'_, AccountRecord> {
        self.step(move |inner| {
            let rules = &inner.rules;
            inner.change(|state, database, now| accounts::create(state, database, (rules, now), &account, terms))
        })
    }

    fn account(&self, account: Arc<str>) -> Pending<'_, AccountRecord> {
        self.step(move |inner| inner.change(|state, database, now| accounts::get(state, database, now, &account)))
    }

    fn inspect(&self, account: Arc<str>) -> Pending<'_, (AccountRecord, Vec<Leased>)> {
        self.step(move |inner| inner.change(|state, database, now| accounts::inspect(state, database, now, &account)))
    }

    fn accounts(&self, after: Option<Arc<str>>, max: usize) -> Pending<'_, Vec<AccountRecord>> {
        self.step(move |inner| {
            let time = inner.change(|state, _, now| Ok(state.time(now)))?;
            inner.look_up(|database| accounts::list(database, time, after.as_deref(), max))
        })
    }

    fn users(&self, account: Arc<str>, after: Arc<str>, max: usize) -> Pending<'_, Vec<UserRecord>> {
        self.step(move |inner| {
            let time = inner.change(|state, _, now| Ok(state.time(now)))?;
            inner.look_up(|database| accounts::users(database, time, &account, &after, max))
        })
    }

    fn configure(&self, account: Arc<str>, version: u64, terms: Terms) -> Pending<'_, AccountRecord> {
        self.step(move |inner| {
            let rules = &inner.rules;
            inner.change(|state, database, now| {
                accounts::configure(state, database, (rules, now), &account, version, terms)
            })
        })
    }

    fn add_credits(&self, purchase: Purchase) -> Pending<'_, AccountRecord> {
        self.step(move |inner| {
            let rules = &inner.rules;
            inner.change(|state, database, now| credits::add(state, database, (rules, now), &purchase))
        })
    }

    fn top_up_failed(&self, account: Arc<str>, key: String) -> Pending<'_, AccountRecord> {
        self.step(move |inner| {
            let rules = &inner.rules;
            inner.change(|state, database, now| accounts::top_up_failed(state, database, (rules, now), &account, &key))
        })
    }

    fn create_key(&self, account: Arc<str>, digest: KeyDigest, label: String) -> Pending<'_, KeyRecord> {
        self.step(move |inner| {
            inner.change(|state, database, now| {
                accounts::found(state, database, &account)?;
                keys::create(database, account, digest, label, state.time(now))
            })
        })
    }

    fn keys(&self, account: Arc<str>) -> Pending<'_, Vec<KeyRecord>> {
        self.step(move |inner| {
            inner.change(|state, database, _| {
                accounts::found(state, database, &account)?;
                keys::list(database, &account)
            })
        })
    }

    fn revoke_key(&self, account: Arc<str>, id: String) -> Pending<'_, KeyDigest> {
        self.step(move |inner| {
            inner.change(|state, database, _| {
                accounts::found(state, database, &account)?;
                keys::revoke(database, &account, &id)
            })
        })
    }

    fn history(&self, account: Arc<str>, page: Page) -> Pending<'_, History> {
        self.step(move |inner| {
            let rules = &inner.rules;
            inner.change(|state, database, now| history::page(state, database, (rules, now), &account, page))
        })
    }

    /// Some accounts at a time, so that the file can be closed in between, or opened again.
    fn audit(&self) -> Pending<'_, Audited> {
        Box::pin(async {
            let mut walk = Walk::default();
            loop {
                let began = Instant::now();
                let went = |inner: &Inner| inner.look_up(|database| Ok((walk.go_on(database, AT_ONCE)?, walk)));
                let (is_more, gone) = self.step(went).await?;
                if !is_more {
                    return Ok(gone.found);
                }
                walk = gone;
                auditor::pause(began).await;
            }
        })
    }

    fn events(&self, after: u64, max: usize) -> Pending<'_, Vec<(u64, Event)>> {
        self.step(move |inner| inner.look_up(|database| accounts::events(database, after, max)))
    }
}

impl Outbox for Embedded {
    fn take(&self, take: Take) -> Pending<'_, Taken> {
        self.step(move |inner| {
            inner.change(|state, database, now| outbox::take(state, database, (&inner.rules, now), take))
        })
    }

    fn put_off_purchase(&self, account: Arc<str>, key: String, wait: Duration) -> Pending<'_, ()> {
        self.step(move |inner| {
            inner.change(|state, database, now| outbox::put_off_purchase(state, database, now, &account, &key, wait))
        })
    }

    fn put_off_event(&self, id: String, wait: Duration) -> Pending<'_, ()> {
        self.step(move |inner| {
            inner.change(|state, database, now| outbox::put_off_event(state, database, now, &id, wait))
        })
    }

    fn finish_events(&self, ids: Vec<String>) -> Pending<'_, ()> {
        self.step(move |inner| inner.change(|state, database, now| outbox::finish_events(state, database, now, &ids)))
    }
}
