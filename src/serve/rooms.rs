//! The rooms, built from the bottom up, and the tasks that run them.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::interval;
use tollgate::cashier::Cashier;
use tollgate::clock::Clock;
use tollgate::config::{Settings, StoreAt};
use tollgate::gate::{Gate, GateParts};
use tollgate::ledger::Ledger;
use tollgate::pool::{PoolRules, RateRules, SessionId};
use tollgate::reconcile::accounts::Accounts;
use tollgate::reconcile::checkup::Checkup;
use tollgate::reconcile::embedded::Embedded;
use tollgate::reconcile::keys::{KeySettings, Keys};
use tollgate::reconcile::outbox::Outbox;
use tollgate::reconcile::redis::Redis;
use tollgate::reconcile::store::{Rules, Store};
use tollgate::reconcile::{Rounds, auditor};
use tollgate::telemetry;
use tollgate::transport::accounts::Operators;
use tollgate::transport::serve::{Health, Listener, ServeError, serve_accounts, serve_main};
use tollgate::transport::wire::Wire;

use super::ports::{Ports, WorkerPorts};
use super::{Failure, until};
use crate::background;

/// Histograms keep every value until then, scraped or not.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Everything that is served, built from the bottom up.
pub struct Rooms {
    pub rounds: Arc<Rounds>,
    pub checkup: Arc<Checkup>,
    keys: Arc<Keys>,
    accounts: Arc<Accounts>,
    wire: Arc<Wire>,
    /// Where the store is a file, which nobody else can open.
    cashier: Option<Arc<Cashier>>,
    store: Arc<dyn Store>,
    audit_every: Option<Duration>,
    pub metrics: PrometheusHandle,
}

impl Rooms {
    pub fn build(settings: &Settings, store: &StoreAt) -> Result<Self, Failure> {
        let metrics = install_metrics()?;
        let catalogue = settings.catalogue.clone();
        let session = new_session(settings.node.clone())?;
        let is_file = matches!(store, StoreAt::File(_));
        let Reached { store: outbox, keys: key_settings } = reach(settings, store)?;
        let store: Arc<dyn Store> = outbox.clone();
        let ledger = Arc::new(Ledger::new(settings.ledger, catalogue.clone(), session.clone()));
        let rounds = Arc::new(Rounds::new(ledger.clone(), store.clone(), Clock, settings.round));
        let checkup = Arc::new(Checkup::new(store.clone(), Clock));
        let keys = Arc::new(Keys::new(store.clone(), Clock, key_settings));
        let accounts = Arc::new(Accounts {
            store: store.clone(),
            catalogue: catalogue.clone(),
            ledger: ledger.clone(),
            rounds: rounds.clone(),
            keys: keys.clone(),
            clock: Clock,
        });
        if settings.cashier.is_some() && !is_file {
            tracing::info!(
                "sidecars that share a store buy nothing: run `tollgate cashier` with these settings beside them"
            );
        }
        let cashier = if is_file { new_cashier(settings, outbox, &accounts)? } else { None };
        let parts = GateParts { ledger, rounds: rounds.clone(), keys: keys.clone(), catalogue, session, clock: Clock };
        let gate = Arc::new(Gate::new(parts, settings.gate));
        let wire = Arc::new(Wire::new(gate, settings.transport.clone()));
        let audit_every = settings.audit_every;
        Ok(Self { rounds, checkup, keys, accounts, wire, cashier, store, audit_every, metrics })
    }

    /// Rounds, key look-ups, audits and the upkeep of histograms, until `stop`; returns the rounds, which are waited for.
    pub fn spawn_loops(&self, stop: &watch::Receiver<bool>) -> JoinHandle<()> {
        let (keys, stopped) = (self.keys.clone(), until(stop.clone()));
        tokio::spawn(async move { keys.run(stopped).await });
        let (checkup, stopped) = (self.checkup.clone(), until(stop.clone()));
        tokio::spawn(async move { checkup.run(stopped).await });
        let (rounds, keys, stopped) = (self.rounds.clone(), self.keys.clone(), until(stop.clone()));
        tokio::spawn(async move { rounds.follow(&keys, stopped).await });
        spawn_auditor(self.store.clone(), self.audit_every, stop);
        spawn_upkeep(self.metrics.clone());
        let (rounds, stopped) = (self.rounds.clone(), until(stop.clone()));
        self.rounds.nudge();
        tokio::spawn(async move { rounds.run(stopped).await })
    }

    /// The cashier, where there is one, until `stop` and what it began has ended.
    pub fn spawn_cashier(&self, stop: &watch::Receiver<bool>) -> JoinHandle<()> {
        let (cashier, stopped) = (self.cashier.clone(), until(stop.clone()));
        tokio::spawn(async move {
            if let Some(cashier) = cashier {
                cashier.run(stopped).await;
            }
        })
    }

    /// One thread with a runtime of its own for each worker, and the accounts port here; each tells how it ended.
    pub fn start_servers(
        &self,
        settings: &Settings,
        ports: &mut Ports,
        health: &Health,
        stop: &watch::Receiver<bool>,
    ) -> Result<mpsc::Receiver<Result<(), ServeError>>, Failure> {
        let (ended, servers) = mpsc::channel(ports.workers.len() + 1);
        for (index, listeners) in ports.workers.drain(..).enumerate() {
            let (wire, health, stop, ended) = (self.wire.clone(), health.clone(), stop.clone(), ended.clone());
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let served = work(listeners, wire, &health, &stop);
                ended.blocking_send(served).expect("main listens until every server has ended");
            })?;
        }
        let operators = Operators { accounts: self.accounts.clone(), gate: self.wire.gate.clone() };
        let listener = ports.accounts_listener.try_clone()?;
        let (wire, health, stop) = (settings.transport.wire, health.clone(), until(stop.clone()));
        tokio::spawn(async move {
            let served = serve_accounts(operators, &wire, &health, listener, stop).await;
            ended.send(served).await.expect("main listens until every server has ended");
        });
        Ok(servers)
    }
}

/// Serves the main port on a runtime of its own.
fn work(ports: WorkerPorts, wire: Arc<Wire>, health: &Health, stop: &watch::Receiver<bool>) -> Result<(), ServeError> {
    let listener = |listener| serve_main(wire.clone(), health, listener, until(stop.clone()));
    background()?.block_on(async {
        let tcp = listener(Listener::Tcp(ports.tcp));
        match ports.unix {
            Some(unix) => tokio::try_join!(tcp, listener(Listener::Unix(unix))).map(|((), ())| ()),
            None => tcp.await,
        }
    })
}

/// The cashier of this process, where it has somebody to call.
fn new_cashier(
    settings: &Settings,
    outbox: Arc<dyn Outbox>,
    accounts: &Arc<Accounts>,
) -> Result<Option<Arc<Cashier>>, Failure> {
    let Some(cashier) = settings.cashier.clone() else { return Ok(None) };
    let accounts = accounts.clone();
    let cashier = Cashier::new(outbox, cashier, Clock, move |account| accounts.changed(account))?;
    Ok(Some(Arc::new(cashier)))
}

/// Audits the store `every` so often, if at all, until `stop`.
pub fn spawn_auditor(store: Arc<dyn Store>, every: Option<Duration>, stop: &watch::Receiver<bool>) {
    if let Some(every) = every {
        let stopped = until(stop.clone());
        tokio::spawn(async move { auditor::run(&*store, every, Clock, stopped).await });
    }
}

/// Histograms are kept short, for ever.
pub fn spawn_upkeep(metrics: PrometheusHandle) {
    tokio::spawn(async move {
        let mut ticks = interval(UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    });
}

/// A store, and how long it is believed about keys.
pub struct Reached {
    pub store: Arc<dyn Outbox>,
    keys: KeySettings,
}

pub fn reach(settings: &Settings, at: &StoreAt) -> Result<Reached, Failure> {
    let lease = settings.catalogue.lease;
    let pool = PoolRules {
        lease_max: lease.max,
        lease_parts: 100 / lease.max_percent.max(1),
        tiers: settings.catalogue.tiers.clone(),
        ..PoolRules::default()
    };
    let rate = RateRules::default();
    match at {
        StoreAt::File(path) => {
            // On one machine a round costs no network: usage is written with each, so that a crash loses no more than one.
            let rules = Rules { pool: PoolRules { next_sync_healthy: settings.round.every, ..pool }, rate };
            let store = Arc::new(Embedded::open(path, rules, || Clock.now())?);
            // The file is locked by this process, which forgets a key as it revokes it: nobody else can change an owner.
            let keys =
                KeySettings { refresh_after: Duration::MAX, known_life: Duration::MAX, ..KeySettings::default() };
            Ok(Reached { store, keys })
        }
        StoreAt::Server { address, prefix } => {
            let store = Redis::new(address, prefix, &Rules { pool, rate });
            let store = Arc::new(store.map_err(|error| Failure::Server(error.to_string()))?);
            Ok(Reached { store, keys: KeySettings::default() })
        }
    }
}

pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in telemetry::BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), bounds)?;
    }
    let handle = builder.install_recorder()?;
    telemetry::describe();
    Ok(handle)
}

fn new_session(node: Arc<str>) -> Result<SessionId, getrandom::Error> {
    let mut run = [0; 16];
    getrandom::fill(&mut run)?;
    Ok(SessionId { node, run: u128::from_be_bytes(run) })
}
