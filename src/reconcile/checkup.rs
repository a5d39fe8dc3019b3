//! Looks every minute whether the store is fit to keep accounts, and says what is wrong: in the log, in a metric, and as
//! what keeps this sidecar from being ready.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::store::{Fault, FaultKind, Store};
use crate::clock::Clock;
use crate::telemetry;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(60);
/// The same while this sidecar is not ready: it should be as soon as it can.
const EVERY_UNREADY: Duration = Duration::from_millis(500);
/// The longest that a look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What the store is fit for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Why requests should go elsewhere; `None` where they may come.
    pub unready: Option<Arc<str>>,
    /// What should be mended all the same.
    pub warnings: Vec<Arc<str>>,
}

/// The one who looks.
pub struct Checkup {
    store: Arc<dyn Store>,
    clock: Clock,
    fitness: watch::Sender<Fitness>,
}

impl Checkup {
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        let unready = Some("the store has not been reached yet".into());
        Self { store, clock, fitness: watch::Sender::new(Fitness { unready, warnings: Vec::new() }) }
    }

    pub fn fitness(&self) -> watch::Receiver<Fitness> {
        self.fitness.subscribe()
    }

    /// Looks until `stop`.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut known = BTreeSet::new();
        let mut reached = false;
        loop {
            let faults = self.look().await;
            reached |= faults.iter().all(|fault| !matches!(fault.kind, FaultKind::Unreachable | FaultKind::Refused));
            tell(&faults, &mut known);
            let fitness = fitness(&faults, reached);
            let pause = if fitness.unready.is_some() { EVERY_UNREADY } else { EVERY };
            self.fitness.send_if_modified(|told| std::mem::replace(told, fitness.clone()) != fitness);
            tokio::select! {
                () = &mut stop => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn look(&self) -> Vec<Fault> {
        let unreachable = |text: String| {
            let text = format!("the store cannot be looked at ({text}); start it, or correct the setting store");
            vec![Fault { kind: FaultKind::Unreachable, place: "the store".into(), text }]
        };
        match timeout(LOOK_MAX, self.store.faults(self.clock)).await {
            Ok(Ok(faults)) => faults,
            Ok(Err(error)) => unreachable(error.to_string()),
            Err(_) => unreachable("no answer in time".into()),
        }
    }
}

/// Logs what is new and what is over, and sets the metric.
fn tell(faults: &[Fault], known: &mut BTreeSet<(FaultKind, String)>) {
    let found: BTreeSet<_> = faults.iter().map(|fault| (fault.kind, fault.place.clone())).collect();
    for Fault { kind, place, text } in faults {
        if !known.contains(&(*kind, place.clone())) {
            match kind {
                FaultKind::Eviction
                | FaultKind::ReadOnly
                | FaultKind::Version
                | FaultKind::Unreachable
                | FaultKind::Refused => {
                    tracing::error!(fault = kind.name(), "{text}");
                }
                FaultKind::PartUnreachable | FaultKind::Persistence | FaultKind::Clock | FaultKind::Unchecked => {
                    tracing::warn!(fault = kind.name(), "{text}")
                }
            }
        }
    }
    for (kind, place) in known.difference(&found) {
        tracing::info!(fault = kind.name(), place, "this is no longer wrong with the store");
    }
    for kind in FaultKind::ALL {
        let is_found = faults.iter().any(|fault| fault.kind == kind);
        gauge!(telemetry::STORE_FAULT, "fault" => kind.name()).set(if is_found { 1.0 } else { 0.0 });
    }
    *known = found;
}

/// Leases serve on without a store, so only a sidecar that never reached it lacks it.
fn fitness(faults: &[Fault], reached: bool) -> Fitness {
    let is_grave = |fault: &&Fault| match fault.kind {
        FaultKind::Eviction | FaultKind::ReadOnly | FaultKind::Version => true,
        FaultKind::Unreachable | FaultKind::Refused => !reached,
        FaultKind::PartUnreachable | FaultKind::Persistence | FaultKind::Clock | FaultKind::Unchecked => false,
    };
    let unready = faults.iter().find(is_grave).map(|fault| fault.text.as_str().into());
    let warnings = faults.iter().filter(|fault| !is_grave(fault)).map(|fault| fault.text.as_str().into()).collect();
    Fitness { unready, warnings }
}
