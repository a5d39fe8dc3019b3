//! Proves the books of every account now and then, and says in a metric and in the log what does not come out.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::time::{Instant, sleep};

use super::store::{Audited, Store};
use crate::clock::Clock;
use crate::telemetry;

/// An audit that failed is tried again after so long, or sooner where the next one is due before.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Accounts that the log names after one audit: a bug or damage may concern all of them.
const NAMED_MAX: usize = 20;

/// Waits as long as the last look at the store took: others have at least half of its time.
pub(super) async fn pause(began: Instant) {
    sleep(began.elapsed()).await;
}

/// Audits, and again `every` so long after it ended, until `stop`. Repairs nothing.
pub async fn run(store: &dyn Store, every: Duration, clock: Clock, stop: impl Future<Output = ()>) {
    let audits = async {
        let mut known = BTreeSet::new();
        loop {
            match store.audit().await {
                Ok(audited) => {
                    tell(audited, &mut known, clock);
                    sleep(every).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the books could not be audited; it is tried again");
                    sleep(every.min(AGAIN_AFTER)).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = audits => {}
    }
}

/// Sets the metrics, and logs what is new and what is over.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts and times of today fit exactly")]
fn tell(audited: Audited, known: &mut BTreeSet<Arc<str>>, clock: Clock) {
    let Audited { accounts, users, drifted } = audited;
    gauge!(telemetry::AUDIT_ACCOUNTS).set(accounts.saturating_add(users) as f64);
    gauge!(telemetry::AUDIT_DRIFTED).set(drifted.len() as f64);
    gauge!(telemetry::AUDIT_LAST_SUCCESS_SECONDS).set((clock.now().unix.0 / 1_000) as f64);
    let news: Vec<_> = drifted.iter().filter(|(account, _)| !known.contains(account)).collect();
    for (account, wrong) in news.iter().take(NAMED_MAX) {
        tracing::error!(account = &**account, "the books do not come out: {wrong}");
    }
    let unnamed = news.len().saturating_sub(NAMED_MAX);
    if unnamed > 0 {
        tracing::error!("nor do those of {unnamed} more");
    }
    let found: BTreeSet<_> = drifted.into_iter().map(|(account, _)| account).collect();
    for account in known.difference(&found).take(NAMED_MAX) {
        tracing::info!(account = &**account, "the books come out again");
    }
    tracing::debug!(accounts, users, drifted = found.len(), "audited");
    *known = found;
}
