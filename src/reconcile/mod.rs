//! The shared truth, reached: the only room that knows a store exists.
//!
//! One loop squares the ledger with the store, in rounds that may be repeated without harm: a message carries absolute
//! counters, so a round that fails loses nothing and the next one says it all again. The loop never ends by itself.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clock::{Clock, Now, Time};
use crate::ledger::Ledger;
use crate::pool::message::StepProposal;
use crate::pool::{Message, Refusal, Reply, account_of, user_of};
use keys::Keys;
use series::Series;
use store::{Heard, Store, StoreError};
use waiting::Waiting;

pub mod accounts;
pub mod auditor;
pub mod checkup;
pub mod embedded;
pub mod keys;
pub mod outbox;
pub mod redis;
mod series;
pub mod store;
mod unreadable;
mod waiting;

#[cfg(test)]
pub(crate) mod bench;
#[cfg(test)]
mod tests;

pub use waiting::Asked;

/// How rounds are paced and bounded.
#[derive(Clone, Copy, Debug)]
pub struct RoundSettings {
    /// From one round to the next where nobody is in a hurry; jittered by a quarter.
    pub every: Duration,
    /// Messages in one exchange. A round has as many exchanges as it takes.
    pub batch_max: usize,
    /// The longest one exchange may take before it counts as failed.
    pub exchange_max: Duration,
    /// The longest pause after failures; the first is `every`, and each failure doubles it.
    pub back_off_max: Duration,
    /// Requests that may wait for the pool at once.
    pub waiters_max: usize,
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(200),
            batch_max: 256,
            exchange_max: Duration::from_secs(5),
            back_off_max: Duration::from_secs(5),
            waiters_max: 65_536,
        }
    }
}

/// Exchanges in one round, so that sweeping and metrics get their turn however much is due.
const EXCHANGES_MAX: usize = 32;

/// Without anything to say, the store is asked for a sign of life so often, so that its age means something.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The loop, and the door for those who wait for it.
pub struct Rounds {
    ledger: Arc<Ledger>,
    store: Arc<dyn Store>,
    clock: Clock,
    settings: RoundSettings,
    nudged: Notify,
    waiting: Waiting,
    series: Series,
    /// When the store last answered, in nanoseconds; 0 before it ever did.
    answered_nanos: AtomicU64,
}

impl Rounds {
    /// Install the metrics recorder first: the series are looked up here, once.
    pub fn new(ledger: Arc<Ledger>, store: Arc<dyn Store>, clock: Clock, settings: RoundSettings) -> Self {
        Self {
            ledger,
            store,
            clock,
            settings,
            nudged: Notify::new(),
            waiting: Waiting::new(settings.waiters_max),
            series: Series::register(),
            answered_nanos: AtomicU64::new(0),
        }
    }

    /// Has the next round begin at once.
    pub fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// Waits until what `account` needs was said to the store, in an exchange that everybody who waits shares.
    ///
    /// The need is in the ledger already. May be dropped at any time.
    pub async fn ask(&self, account: &str, deadline: Instant) -> Asked {
        let Some(woken) = self.waiting.register(account, deadline) else {
            return Asked::Failed;
        };
        self.nudge();
        match timeout_at(deadline, woken).await {
            Ok(woken) => woken.unwrap_or(Asked::Failed),
            Err(_) => Asked::Late,
        }
    }

    /// How long ago the store last answered; `None` before it ever did.
    pub fn pool_age(&self) -> Option<Duration> {
        match self.answered_nanos.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(self.clock.now().time.since(Time::from_nanos(nanos))),
        }
    }

    /// Hears of what others change, until `stop`: accounts that are known here are synced at once, keys are forgotten.
    pub async fn follow(&self, keys: &Keys, stop: impl Future<Output = ()>) {
        let heard = |heard: Heard<'_>| match heard {
            Heard::Following => keys.follow(),
            Heard::Account(account) => {
                if self.ledger.touch(account, self.clock.now()) {
                    self.nudge();
                }
            }
            Heard::Key(digest) => keys.forget(digest),
        };
        let mut stop = pin!(stop);
        let mut failures = 0;
        loop {
            let began = Instant::now();
            tokio::select! {
                () = &mut stop => return,
                followed = self.store.follow(&heard) => if let Err(error) = followed {
                    tracing::debug!(%error, "changes are not heard of; accounts are synced in their own time");
                },
            }
            keys.lose();
            failures = if began.elapsed() > self.settings.back_off_max { 1 } else { failures + 1 };
            tokio::select! {
                () = &mut stop => return,
                () = sleep(self.pause(failures)) => {}
            }
        }
    }

    /// Runs rounds until `stop`. A round that began is finished.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut failures = 0;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.nudged.notified(), if failures == 0 => {}
                () = sleep(self.pause(failures)) => {}
            }
            failures = self.round(failures).await;
        }
    }

    /// Gives back every lease, with the last counters. Call it when no request runs any more and the loop has ended.
    ///
    /// Returns whether everything was said before `deadline`; if not, the store takes the leases back by itself.
    pub async fn farewell(&self, deadline: Instant) -> bool {
        let mut failures = 0;
        while Instant::now() < deadline {
            let now = self.clock.now();
            self.declare_to_another();
            let messages = self.ledger.collect_bye(now, self.settings.batch_max);
            if messages.is_empty() {
                return true;
            }
            match timeout_at(deadline, self.exchange(self.waiting.begin(), messages, now)).await {
                Ok(Ok(true)) => failures = 0,
                // All that is left is said again, but not in a hurry.
                Ok(Ok(false) | Err(_)) => {
                    failures += 1;
                    sleep(self.pause(failures).min(deadline.duration_since(Instant::now()))).await;
                }
                Err(_) => return false,
            }
        }
        false
    }

    /// One round and what follows from it; returns how many failed in a row.
    async fn round(&self, failures: u32) -> u32 {
        let said = self.say_what_is_due().await;
        let now = self.clock.now();
        self.ledger.sweep(now);
        self.series.publish(&self.ledger, self.pool_age(), now);
        self.log_dead_letters();
        match said {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(failures, "the store answers again");
                }
                0
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "a round failed; nothing is lost, leases serve on, and it is tried again");
                }
                let failures = failures.saturating_add(1);
                self.waiting.failed(Instant::now() + self.pause_max(failures) / 4 * 3);
                failures
            }
        }
    }

    /// Usage that no pool takes is nobody's debt: somebody has to look at it.
    fn log_dead_letters(&self) {
        for letter in self.ledger.dead_letters() {
            let (account, cost) = (letter.account, letter.cost);
            tracing::warn!(%account, %cost, "usage was booked nowhere: the store had retired this session's record");
        }
    }

    async fn say_what_is_due(&self) -> Result<(), StoreError> {
        self.declare_to_another();
        for _ in 0..EXCHANGES_MAX {
            // Who comes during one exchange may be answered by the next.
            let began = self.waiting.begin();
            let now = self.clock.now();
            let messages = self.ledger.collect(now, self.settings.batch_max);
            let rest = messages.len() < self.settings.batch_max;
            if !messages.is_empty() || self.probe_is_due() {
                self.exchange(began, messages, now).await?;
            }
            if rest {
                self.waiting.said(began);
                return Ok(());
            }
        }
        self.nudge();
        Ok(())
    }

    /// A store that was replaced may have forgotten what it lent: it is told before it is asked for more.
    fn declare_to_another(&self) {
        if self.store.take_replaced() {
            self.ledger.declare_all(self.clock.now().time);
        }
    }

    fn probe_is_due(&self) -> bool {
        self.pool_age().is_none_or(|age| age >= PROBE_EVERY)
    }

    /// Says `messages` and applies the replies, then wakes who waited for them. Returns whether any were taken.
    async fn exchange(&self, began: u64, messages: Vec<Message>, sent: Now) -> Result<bool, StoreError> {
        let accounts: Vec<Arc<str>> = messages.iter().map(|message| message.account.clone()).collect();
        let replies = timeout(self.settings.exchange_max, self.store.exchange(messages)).await;
        let replies = replies.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".into())));
        let now = self.clock.now();
        self.series.exchanged(replies.is_ok(), now.time.since(sent.time));
        match replies {
            Ok(replies) => {
                self.answered_nanos.store(now.time.nanos().max(1), Ordering::Relaxed);
                let (answered, failed) = answered_and_failed(accounts, &replies);
                let unhelpful = unhelpful(&replies);
                let are_any_taken = replies.iter().any(|reply| !is_stuck(reply));
                let steps = self.ledger.proposals(&replies, now);
                self.ledger.apply(replies, sent, now);
                self.ledger.failed(&failed, now);
                self.waiting.failed_for(&who_waits(failed));
                self.waiting.failed_for(&unhelpful);
                self.waiting.answered(began, &who_waits(answered));
                self.propose(steps).await?;
                Ok(are_any_taken)
            }
            Err(error) => {
                self.ledger.failed(&accounts, now);
                Err(error)
            }
        }
    }

    /// Offers adaptive steps to the store. One that does not arrive is offered again with the next round.
    async fn propose(&self, steps: Vec<StepProposal>) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let taken = timeout(self.settings.exchange_max, self.store.propose(steps)).await;
        taken.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".into())))
    }

    fn pause(&self, failures: u32) -> Duration {
        jittered(self.pause_max(failures))
    }

    /// Until the next round: a tick, or after failures longer and longer, so that a store that recovers is not trampled.
    fn pause_max(&self, failures: u32) -> Duration {
        let doubled = self.settings.every.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.settings.back_off_max.max(self.settings.every))
    }
}

/// Accounts that the store answered for, and those whose part of it was away. Replies are in the order of the accounts.
fn answered_and_failed(accounts: Vec<Arc<str>>, replies: &[Reply]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let mut replies = replies.iter().peekable();
    accounts.into_iter().partition(|account| replies.next_if(|reply| reply.account == *account).is_some())
}

/// Its pool cannot help now, and will not if it is asked again at once.
fn is_stuck(reply: &Reply) -> bool {
    matches!(reply.sync, Some(Err(Refusal::Malformed(_) | Refusal::Crowded | Refusal::Unreadable)))
}

/// Accounts whose pool is of no help, so that who waits for it need not. A user's has the whole account's requests beside it.
fn unhelpful(replies: &[Reply]) -> Vec<Arc<str>> {
    let is_of_account = |reply: &&Reply| is_stuck(reply) && user_of(&reply.account).is_none();
    replies.iter().filter(is_of_account).map(|reply| Arc::clone(&reply.account)).collect()
}

/// A request waits under its account's name, also for what its user lacks.
fn who_waits(mut names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    for name in &mut names {
        if user_of(name).is_some() {
            *name = account_of(name).into();
        }
    }
    names
}

/// `pause` less up to a quarter, so that sidecars that started together drift apart.
fn jittered(pause: Duration) -> Duration {
    let random = u64::from(getrandom::u32().unwrap_or(0));
    let quarter = u64::try_from(pause.as_nanos() / 4).unwrap_or(u64::MAX >> 32);
    pause.saturating_sub(Duration::from_nanos(quarter.saturating_mul(random) >> 32))
}
