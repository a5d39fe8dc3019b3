//! Requests that wait for the pool, woken together when what their account needed was said and answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What came of asking the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The store answered for this account, or there was nothing left to say about it: decide again.
    Answered,
    /// The store could not be asked.
    Failed,
    /// The deadline passed first.
    Late,
}

/// A store that was silent for so many times as long as somebody would wait is not waited for.
const STILL_FACTOR: u32 = 2;

/// Who waits for which account.
pub(super) struct Waiting {
    state: Mutex<State>,
    /// More requests than this do not wait: they fail at once.
    waiters_max: usize,
}

#[derive(Default)]
struct State {
    by_account: HashMap<Arc<str>, Vec<Waiter>>,
    /// Waiters in `by_account`.
    waiters: usize,
    /// Exchanges begun.
    exchange: u64,
    /// While the loop backs off: when it tries again. Whoever must know sooner need not wait.
    quiet_until: Option<Instant>,
    /// When the first exchange began that brought no answer yet.
    unanswered_since: Option<Instant>,
}

struct Waiter {
    /// The exchange that had begun last when the waiter came.
    since: u64,
    wake: oneshot::Sender<Asked>,
}

impl Waiting {
    pub fn new(waiters_max: usize) -> Self {
        Self { state: Mutex::default(), waiters_max }
    }

    /// A place in the queue; `None` where waiting until `deadline` brings nothing.
    pub fn register(&self, account: &str, deadline: Instant) -> Option<oneshot::Receiver<Asked>> {
        let mut state = self.lock();
        let is_quiet = state.quiet_until.is_some_and(|quiet| deadline < quiet);
        if state.waiters >= self.waiters_max || is_quiet || state.stands_still(deadline) {
            return None;
        }
        let (wake, woken) = oneshot::channel();
        let waiter = Waiter { since: state.exchange, wake };
        state.waiters += 1;
        match state.by_account.get_mut(account) {
            Some(waiters) => waiters.push(waiter),
            None => drop(state.by_account.insert(account.into(), vec![waiter])),
        }
        Some(woken)
    }

    /// An exchange begins: whoever came before hears of it by its end, if it is about their account.
    pub fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.exchange += 1;
        state.quiet_until = None;
        state.unanswered_since.get_or_insert_with(Instant::now);
        state.exchange
    }

    /// The store answered for these accounts in an exchange. Who came after it began waits for the next one, because what
    /// they lack may not have been said.
    pub fn answered(&self, exchange: u64, accounts: &[Arc<str>]) {
        let mut state = self.lock();
        state.unanswered_since = None;
        for account in accounts {
            if let Some((account, waiters)) = state.by_account.remove_entry(account) {
                let later = state.wake_up_to(exchange, waiters);
                if !later.is_empty() {
                    state.by_account.insert(account, later);
                }
            }
        }
    }

    /// Everything that was due when an exchange began has been said: nobody from before it has anything to wait for.
    pub fn said(&self, exchange: u64) {
        let mut state = self.lock();
        state.unanswered_since = None;
        for (account, waiters) in std::mem::take(&mut state.by_account) {
            let later = state.wake_up_to(exchange, waiters);
            if !later.is_empty() {
                state.by_account.insert(account, later);
            }
        }
    }

    /// The store could not be asked, and will not be before `quiet_until`: nobody waits for that.
    pub fn failed(&self, quiet_until: Instant) {
        let mut state = self.lock();
        state.quiet_until = Some(quiet_until);
        state.waiters = 0;
        state.by_account.drain().flat_map(|(_, waiters)| waiters).for_each(|waiter| waiter.wake_up(Asked::Failed));
    }

    /// The part of the store that has these accounts could not be asked.
    pub fn failed_for(&self, accounts: &[Arc<str>]) {
        let mut state = self.lock();
        for account in accounts {
            let waiters = state.by_account.remove(account).unwrap_or_default();
            state.waiters -= waiters.len();
            waiters.into_iter().for_each(|waiter| waiter.wake_up(Asked::Failed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    /// The store has been silent for much longer than a waiter with this deadline would wait, so nobody does, however often
    /// it is tried again: a store that is frozen must not delay what is decided without it.
    fn stands_still(&self, deadline: Instant) -> bool {
        let now = Instant::now();
        self.unanswered_since
            .is_some_and(|since| deadline.duration_since(now) * STILL_FACTOR < now.duration_since(since))
    }

    /// Wakes those who came before an exchange began; returns the others.
    fn wake_up_to(&mut self, exchange: u64, waiters: Vec<Waiter>) -> Vec<Waiter> {
        let (before, later): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|waiter| waiter.since < exchange);
        self.waiters -= before.len();
        before.into_iter().for_each(|waiter| waiter.wake_up(Asked::Answered));
        later
    }
}

impl Waiter {
    fn wake_up(self, asked: Asked) {
        // Who hung up in the meantime has no use for the answer.
        self.wake.send(asked).ok();
    }
}
