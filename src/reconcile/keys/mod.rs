//! Whose API key it is: answered from memory where it was seen lately, looked up once where it was not.
//!
//! Whoever changes a key tells everybody, and it is forgotten here. While such words can be heard, owners are believed for half
//! a minute; otherwise a key in use is looked up again each second, in the background, so that a revocation takes effect
//! within two seconds and no request waits for it. While the store cannot be asked, keys that were known stay known: what an
//! account may spend is bounded by its lease anyway.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::{Counter, counter};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::store::{KeyDigest, Store, StoreError};
use crate::clock::{Clock, Time};
use crate::telemetry;
use memory::{Memory, Recalled};

mod digests;
mod memory;
#[cfg(test)]
mod tests;

/// How long keys are remembered, and how many.
#[derive(Clone, Copy, Debug)]
pub struct KeySettings {
    /// An owner this old is looked up again in the background.
    pub refresh_after: Duration,
    /// An owner this old is not vouched for without asking.
    pub known_life: Duration,
    /// While changes are heard of, an owner grows no older for this long: the bound where word of one is lost.
    pub followed_life: Duration,
    /// How long a key that belongs to nobody is refused from memory.
    pub unknown_life: Duration,
    /// Keys with an owner that are remembered.
    pub known_max: usize,
    /// Keys without an owner that are remembered; above it, the next ones are looked up each time.
    pub unknown_max: usize,
    /// Strange keys being looked up at once; above it, the next ones are not looked up.
    pub lookups_max: usize,
    /// Requests that may wait for one and the same look-up.
    pub waiters_max: usize,
    /// The longest one look-up may take.
    pub lookup_wait: Duration,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            refresh_after: Duration::from_secs(1),
            known_life: Duration::from_secs(2),
            followed_life: Duration::from_secs(30),
            unknown_life: Duration::from_secs(5),
            known_max: 1_000_000,
            unknown_max: 65_536,
            lookups_max: 1_024,
            waiters_max: 4_096,
            lookup_wait: Duration::from_millis(500),
        }
    }
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOwner {
    Account(Arc<str>),
    Nobody,
    /// The store could not be asked.
    Unavailable,
}

/// Look-ups under way at once, refreshes included: enough to use the store well, too few to press it.
const LOOKUPS_AT_ONCE: usize = 64;

/// Owners of API keys, and the loop that looks them up.
pub struct Keys {
    memory: Memory,
    queue: Mutex<Queue>,
    queued: Notify,
    store: Arc<dyn Store>,
    clock: Clock,
    lookup_wait: Duration,
    unknown: Counter,
    refused: Counter,
}

/// Digests to look up. Bounded by the look-ups that the memory lets begin.
#[derive(Default)]
struct Queue {
    /// Keys in use go first, so that a flood of strangers cannot make them expire.
    refreshes: VecDeque<KeyDigest>,
    strangers: VecDeque<KeyDigest>,
}

/// The digest under which a key is stored; the key itself never is.
pub fn digest_of(key: &str) -> KeyDigest {
    Sha256::digest(key.as_bytes()).into()
}

impl Keys {
    /// Install the metrics recorder first: the series are looked up here, once.
    pub fn new(store: Arc<dyn Store>, clock: Clock, settings: KeySettings) -> Self {
        Self {
            memory: Memory::new(settings),
            queue: Mutex::default(),
            queued: Notify::new(),
            store,
            clock,
            lookup_wait: settings.lookup_wait,
            unknown: counter!(telemetry::KEYS_UNKNOWN),
            refused: counter!(telemetry::KEY_LOOKUPS_REFUSED),
        }
    }

    /// Whose key it is, where that is in memory and need not be looked up again.
    pub fn owner_now(&self, digest: &KeyDigest, now: Time) -> Option<KeyOwner> {
        let owner = self.memory.recall_now(digest, now);
        if owner == Some(KeyOwner::Nobody) {
            self.unknown.increment(1);
        }
        owner
    }

    /// Whose key it is, as of at most `known_life` ago; waits until `deadline` where that is not in memory.
    pub async fn owner_of(&self, digest: KeyDigest, deadline: Instant) -> KeyOwner {
        let owner = self.recall_or_wait(digest, deadline).await;
        if owner == KeyOwner::Nobody {
            self.unknown.increment(1);
        }
        owner
    }

    /// Has the next request with this key ask the store, because somebody changed it there.
    pub fn forget(&self, digest: &KeyDigest) {
        self.memory.forget(digest);
    }

    /// From now on `forget` is called for every key that is changed.
    pub fn follow(&self) {
        self.memory.follow(self.clock.now().time);
    }

    /// Changes are not heard of any more.
    pub fn lose(&self) {
        self.memory.lose(self.clock.now().time);
    }

    /// Looks keys up until `stop`.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < LOOKUPS_AT_ONCE
                && let Some(digest) = self.next_queued()
            {
                under_way.spawn(look_up(self.store.clone(), digest, self.clock.now().time, self.lookup_wait));
            }
            tokio::select! {
                () = &mut stop => return,
                () = self.queued.notified() => {}
                Some(Ok((digest, asked, found))) = under_way.join_next() => self.memory.learn(digest, asked, found),
            }
        }
    }

    async fn recall_or_wait(&self, digest: KeyDigest, deadline: Instant) -> KeyOwner {
        let (recalled, lookup) = self.memory.recall(digest, self.clock.now().time);
        if let Some(lookup) = lookup {
            self.lock_queue().push(digest, lookup);
            self.queued.notify_one();
        }
        match recalled {
            Recalled::Owner(owner) => owner,
            Recalled::Refused => {
                self.refused.increment(1);
                KeyOwner::Unavailable
            }
            Recalled::Wait { answer, before } => match timeout_at(deadline, answer).await {
                Ok(Ok(owner)) if owner != KeyOwner::Unavailable => owner,
                _ => before.map_or(KeyOwner::Unavailable, KeyOwner::Account),
            },
        }
    }

    fn next_queued(&self) -> Option<KeyDigest> {
        let mut queue = self.lock_queue();
        queue.refreshes.pop_front().or_else(|| queue.strangers.pop_front())
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds this lock")
    }
}

/// Which queue a look-up goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    Refresh,
    Stranger,
}

impl Queue {
    fn push(&mut self, digest: KeyDigest, lookup: Lookup) {
        match lookup {
            Lookup::Refresh => self.refreshes.push_back(digest),
            Lookup::Stranger => self.strangers.push_back(digest),
        }
    }
}

/// What came of a look-up.
type Found = Result<Option<Arc<str>>, StoreError>;

/// Asks the store once; `asked` is when, so that the answer is never taken for newer than it is.
async fn look_up(store: Arc<dyn Store>, digest: KeyDigest, asked: Time, wait: Duration) -> (KeyDigest, Time, Found) {
    let found = timeout(wait, store.find_key(digest)).await;
    (digest, asked, found.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".into()))))
}
