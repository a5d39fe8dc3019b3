//! What is remembered of keys: owners, strangers, and who waits for a look-up. Synchronous and bounded.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use super::digests::Digests;
use super::{Found, KeyOwner, KeySettings, Lookup};
use crate::clock::Time;
use crate::reconcile::store::KeyDigest;

/// Locks that digests are spread over.
const SHARDS: usize = 16;

/// A look-up of a key that was known and failed is repeated after this long; until then the key is vouched for unasked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The store counts as away for this long after a look-up failed: nobody waits to be told the same.
const AWAY_FOR: Duration = Duration::from_secs(2);

/// No time at all, where nothing is followed.
const NEVER: u64 = u64::MAX;

/// Room among the strangers is made so often at most, because it looks at each of them.
const PURGE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    seed: RandomState,
    settings: KeySettings,
    /// Since when every change is heard of, in nanoseconds.
    followed_nanos: AtomicU64,
    /// Up to when that was so before.
    lost_nanos: AtomicU64,
    /// When a look-up failed last, unless one succeeded since.
    failed_nanos: AtomicU64,
}

/// What memory says about a key.
pub(super) enum Recalled {
    Owner(KeyOwner),
    /// A look-up is under way. Where it brings nothing, the owner of before still counts.
    Wait {
        answer: oneshot::Receiver<KeyOwner>,
        before: Option<Arc<str>>,
    },
    /// Too much is being looked up.
    Refused,
}

struct Shard {
    known: Digests<Known>,
    /// When each was last found to belong to nobody.
    strangers: Digests<Time>,
    under_way: Digests<UnderWay>,
    /// Strangers among those under way.
    strangers_under_way: usize,
    /// When room was last made among the strangers.
    purged: Time,
}

struct Known {
    owner: Arc<str>,
    /// When the store was asked that said so.
    confirmed: Time,
    /// When a look-up failed after that; the origin where none did.
    failed: Time,
}

struct UnderWay {
    lookup: Lookup,
    /// The key was changed since it began.
    is_doubtful: bool,
    waiters: Vec<oneshot::Sender<KeyOwner>>,
}

impl Memory {
    pub fn new(settings: KeySettings) -> Self {
        let shard = |_| {
            Mutex::new(Shard {
                known: Digests::new(),
                strangers: Digests::new(),
                under_way: Digests::new(),
                strangers_under_way: 0,
                purged: Time::default(),
            })
        };
        Self {
            shards: std::array::from_fn(shard),
            seed: RandomState::default(),
            settings,
            followed_nanos: AtomicU64::new(NEVER),
            lost_nanos: AtomicU64::new(0),
            failed_nanos: AtomicU64::new(0),
        }
    }

    /// Whose key it is, where that can be told without looking anything up.
    pub fn recall_now(&self, digest: &KeyDigest, now: Time) -> Option<KeyOwner> {
        self.told_by(&mut self.shard(digest), digest, now)
    }

    /// Every change is heard of from `now` on.
    pub fn follow(&self, now: Time) {
        self.followed_nanos.store(now.nanos(), Ordering::Release);
    }

    /// Changes were heard of until `now`.
    pub fn lose(&self, now: Time) {
        if self.followed_nanos.load(Ordering::Acquire) != NEVER {
            self.lost_nanos.store(now.nanos(), Ordering::Release);
            self.followed_nanos.store(NEVER, Ordering::Release);
        }
    }

    /// What is known of a key, and which look-up has to begin.
    pub fn recall(&self, digest: KeyDigest, now: Time) -> (Recalled, Option<Lookup>) {
        let settings = &self.settings;
        let mut shard = self.shard(&digest);
        if let Some(owner) = self.told_by(&mut shard, &digest, now) {
            return (Recalled::Owner(owner), None);
        }
        let Some(known) = shard.known.get_mut(&digest) else {
            return shard.wait(digest, Lookup::Stranger, None, settings);
        };
        let owner = known.owner.clone();
        if self.age(known, now) < settings.known_life || self.is_away(now) {
            let begin = shard.begin(digest, Lookup::Refresh);
            return (Recalled::Owner(KeyOwner::Account(owner)), begin);
        }
        shard.wait(digest, Lookup::Refresh, Some(owner), settings)
    }

    /// Takes what a look-up that asked at `asked` found, and tells who waits for it.
    pub fn learn(&self, digest: KeyDigest, asked: Time, found: Found) {
        self.failed_nanos.store(if found.is_ok() { 0 } else { asked.nanos() }, Ordering::Relaxed);
        let mut shard = self.shard(&digest);
        let (waiters, is_doubtful) = shard.end(&digest);
        let owner = match found {
            // Somebody changed it while it was looked up: nobody knows which came first.
            Ok(Some(owner)) if is_doubtful => KeyOwner::Account(owner),
            Ok(Some(owner)) => {
                shard.know(digest, &owner, asked, self.settings.known_max / SHARDS);
                KeyOwner::Account(owner)
            }
            Ok(None) => {
                shard.refuse(digest, asked, &self.settings);
                KeyOwner::Nobody
            }
            Err(_) => {
                if let Some(known) = shard.known.get_mut(&digest) {
                    known.failed = asked;
                }
                KeyOwner::Unavailable
            }
        };
        for waiter in waiters {
            // Who hung up in the meantime has no use for the answer.
            waiter.send(owner.clone()).ok();
        }
    }

    pub fn forget(&self, digest: &KeyDigest) {
        let mut shard = self.shard(digest);
        shard.known.remove(digest);
        shard.strangers.remove(digest);
        if let Some(under_way) = shard.under_way.get_mut(digest) {
            under_way.is_doubtful = true;
        }
    }

    /// What needs no look-up.
    fn told_by(&self, shard: &mut Shard, digest: &KeyDigest, now: Time) -> Option<KeyOwner> {
        if let Some(known) = shard.known.get_mut(digest) {
            let is_young = self.age(known, now) < self.settings.refresh_after;
            let is_sure = is_young || (known.failed > known.confirmed && now < known.failed.after(RETRY_AFTER));
            return is_sure.then(|| KeyOwner::Account(known.owner.clone()));
        }
        let refused = *shard.strangers.get_mut(digest)?;
        (now < refused.after(self.settings.unknown_life)).then_some(KeyOwner::Nobody)
    }

    /// For how long an owner may have changed without word of it. Words can be lost, so none counts for longer than
    /// `followed_life`.
    fn age(&self, known: &Known, now: Time) -> Duration {
        let is_followed = self.followed_nanos.load(Ordering::Acquire) <= known.confirmed.nanos();
        let heard = if is_followed { now } else { Time::from_nanos(self.lost_nanos.load(Ordering::Acquire)) };
        now.since(known.confirmed.max(heard.min(known.confirmed.after(self.settings.followed_life))))
    }

    fn is_away(&self, now: Time) -> bool {
        now < Time::from_nanos(self.failed_nanos.load(Ordering::Relaxed)).after(AWAY_FOR)
    }

    fn shard(&self, digest: &KeyDigest) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(self.seed.hash_one(digest) % 16).unwrap_or(0);
        self.shards[index].lock().expect("nothing panics while it holds this lock")
    }
}

impl Shard {
    /// Notes that a look-up begins, where none is under way.
    fn begin(&mut self, digest: KeyDigest, lookup: Lookup) -> Option<Lookup> {
        if self.under_way.get_mut(&digest).is_some() {
            return None;
        }
        self.under_way.insert(digest, UnderWay { lookup, is_doubtful: false, waiters: Vec::new() });
        self.strangers_under_way += usize::from(lookup == Lookup::Stranger);
        Some(lookup)
    }

    /// Notes that a look-up ended, and gives who waited for it, and whether the key was changed meanwhile.
    fn end(&mut self, digest: &KeyDigest) -> (Vec<oneshot::Sender<KeyOwner>>, bool) {
        let Some(ended) = self.under_way.remove(digest) else {
            return (Vec::new(), false);
        };
        self.strangers_under_way -= usize::from(ended.lookup == Lookup::Stranger);
        (ended.waiters, ended.is_doubtful)
    }

    /// A place among those who wait for a look-up, which begins where none is under way.
    fn wait(
        &mut self,
        digest: KeyDigest,
        lookup: Lookup,
        before: Option<Arc<str>>,
        settings: &KeySettings,
    ) -> (Recalled, Option<Lookup>) {
        let strangers_max = (settings.lookups_max / SHARDS).max(1);
        if lookup == Lookup::Stranger
            && self.under_way.get_mut(&digest).is_none()
            && self.strangers_under_way >= strangers_max
        {
            return (Recalled::Refused, None);
        }
        let begin = self.begin(digest, lookup);
        let waiters = self.under_way.get_mut(&digest).map(|under_way| &mut under_way.waiters);
        match waiters.filter(|waiters| waiters.len() < settings.waiters_max) {
            Some(waiters) => {
                let (wake, answer) = oneshot::channel();
                waiters.push(wake);
                (Recalled::Wait { answer, before }, begin)
            }
            None => (before.map_or(Recalled::Refused, |owner| Recalled::Owner(KeyOwner::Account(owner))), begin),
        }
    }

    fn know(&mut self, digest: KeyDigest, owner: &Arc<str>, asked: Time, max: usize) {
        self.strangers.remove(&digest);
        if self.known.len() >= max.max(1) && self.known.get_mut(&digest).is_none() {
            self.known.remove_for(&digest);
        }
        self.known.insert(digest, Known { owner: owner.clone(), confirmed: asked, failed: Time::default() });
    }

    fn refuse(&mut self, digest: KeyDigest, asked: Time, settings: &KeySettings) {
        self.known.remove(&digest);
        let max = settings.unknown_max / SHARDS;
        if self.strangers.len() >= max && asked >= self.purged.after(PURGE_EVERY) {
            self.purged = asked;
            self.strangers.retain(|refused| asked < refused.after(settings.unknown_life));
        }
        if self.strangers.len() < max {
            self.strangers.insert(digest, asked);
        }
    }
}
