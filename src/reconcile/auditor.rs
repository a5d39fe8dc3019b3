//! Proves the books of every account now and then, and says in a metric and in the log what does not come out.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use metrics::gauge;
use tokio::time::sleep;

use super::store::{Audited, Store, StoreError};
use crate::clock::Clock;
use crate::telemetry;

/// An audit that failed is tried again after so long, or sooner where the next one is due before.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Accounts that the log names after one audit. A bug or damage may concern all of them; `tollgate audit` tells every one.
const NAMED_MAX: usize = 20;

/// Audits at once and then `every` so often, until `stop`. Repairs nothing.
pub async fn run(store: &dyn Store, every: Duration, clock: Clock, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    loop {
        let audited = tokio::select! {
            () = &mut stop => return,
            audited = store.audit() => audited,
        };
        let pause = if audited.is_ok() { every } else { every.min(AGAIN_AFTER) };
        tell(audited, clock);
        tokio::select! {
            () = &mut stop => return,
            () = sleep(pause) => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts and times of today fit exactly")]
fn tell(audited: Result<Audited, StoreError>, clock: Clock) {
    let Audited { accounts, users, drifted } = match audited {
        Ok(audited) => audited,
        Err(error) => {
            tracing::warn!(%error, "the books could not be audited; it is tried again");
            return;
        }
    };
    for (account, wrong) in drifted.iter().take(NAMED_MAX) {
        tracing::error!(account = &**account, "the books do not come out: {wrong}");
    }
    let unnamed = drifted.len().saturating_sub(NAMED_MAX);
    if unnamed > 0 {
        tracing::error!("nor do those of {unnamed} more; `tollgate audit` names them all");
    }
    tracing::info!(accounts, users, drifted = drifted.len(), "audited");
    gauge!(telemetry::AUDIT_ACCOUNTS).set(accounts.saturating_add(users) as f64);
    gauge!(telemetry::AUDIT_DRIFTED).set(drifted.len() as f64);
    gauge!(telemetry::AUDIT_TIME).set((clock.now().unix.0 / 1_000) as f64);
}
