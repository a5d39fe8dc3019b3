//! The lock of a shard, and who sleeps until it is free.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shard::Shard;

/// Some tens of microseconds.
const TRIES: usize = 1_000;

/// A shard behind its lock.
pub(super) struct Locked {
    shard: Mutex<Shard>,
    sleepers: AtomicUsize,
}

impl Locked {
    pub(super) fn new(shard: Shard) -> Self {
        Self { shard: Mutex::new(shard), sleepers: 0.into() }
    }

    /// Whoever holds the lock lets go within microseconds, sooner than a thread that sleeps is woken: so it is asked for a
    /// while.
    ///
    /// A panic under the lock is a bug that ends the process in release; a test goes on with what is there.
    pub(super) fn lock(&self) -> MutexGuard<'_, Shard> {
        for _ in 0..TRIES {
            if let Ok(shard) = self.shard.try_lock() {
                return shard;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        shard
    }

    /// After the lock was let go by who visits many accounts: a check that sleeps for it was woken, and where both share a core
    /// it runs now, and not when this thread's time is up, milliseconds later. Where nobody sleeps, whoever else keeps the core
    /// busy would only hold up the round.
    pub(super) fn give_way(&self) {
        if self.is_awaited() {
            std::thread::yield_now();
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) > 0
    }
}
