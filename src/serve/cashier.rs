//! A cashier by itself, beside sidecars that share a store: from its settings to the last purchase that it began.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::time::timeout;
use tollgate::cashier;
use tollgate::cashier::settings::CashierSettings;
use tollgate::clock::Clock;
use tollgate::config::table::Flags;
use tollgate::config::{self, Settings, Sources, StoreAt};
use tollgate::reconcile::checkup::{Checkup, Fitness};
use tollgate::reconcile::outbox::Outbox;
use tollgate::reconcile::store::Store;
use tollgate::telemetry;
use tollgate::transport::http::{Pages, Unready, serve_http};

use super::rooms::{install_metrics, reach, spawn_auditor, spawn_upkeep};
use super::{Failure, Signals, ports, until};
use crate::background;

/// Buy what accounts with auto top-up need, and tell others what happened to accounts.
///
/// For a store that sidecars share; any number of cashiers share its work. Where the store is a file, `tollgate serve` does
/// the same with the same settings. Settings come from a file, the environment and flags, as those of a sidecar.
#[derive(Args, Debug)]
pub struct Cashier {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

const NOBODY_TO_CALL: &str =
    "there is nobody to call: set cashier.payment_url to buy credits, cashier.alerts_url to tell others, or both";
const FILE: &str = "the store is a file, which one process opens: give `tollgate serve` the cashier's settings instead";

/// From the settings to the end of what was begun.
pub fn cashier(command: Cashier) -> Result<(), Failure> {
    let Cashier { config, flags } = command;
    let environment = std::env::vars_os().collect();
    let mut settings = config::load(Sources { file: config, environment, flags, demo: false })?;
    telemetry::start_log(settings.log_format, &settings.log_filter)?;
    let hooks = settings.cashier.take().ok_or(Failure::NoCashier(NOBODY_TO_CALL))?;
    let at = match settings.store.clone() {
        Some(at @ StoreAt::Server { .. }) => at,
        Some(StoreAt::File(_)) | None => return Err(Failure::NoCashier(FILE)),
    };
    let listener = ports::bind(settings.listeners.http, "listen_http", false)?;
    let metrics = install_metrics()?;
    let outbox = reach(&settings, &at)?.store;
    background()?.block_on(run(settings, hooks, outbox, listener, metrics))
}

async fn run(
    settings: Settings,
    hooks: CashierSettings,
    outbox: Arc<dyn Outbox>,
    listener: std::net::TcpListener,
    metrics: PrometheusHandle,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let http = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let store: Arc<dyn Store> = outbox.clone();
    let checkup = Arc::new(Checkup::new(store.clone(), Clock));
    let (mut fitness, stop_looking) = (checkup.fitness(), until(stopped.clone()));
    tokio::spawn(async move { checkup.run(stop_looking).await });
    let (ready, unready) = watch::channel::<Unready>(Some("starting".into()));
    let (warn, warnings) = watch::channel(Vec::new());
    let pages = Pages { metrics: metrics.clone(), ready: unready, warnings };
    tokio::spawn(serve_http(pages, listener, until(stopped.clone())));
    spawn_upkeep(metrics);
    spawn_auditor(store, settings.audit_every, &stopped);
    let (payments, alerts) = (hooks.payments.clone(), hooks.alerts.clone());
    // Sidecars hear of changes from the store.
    let cashier = Arc::new(cashier::Cashier::new(outbox, hooks, Clock, |_| {})?);
    let working = tokio::spawn(cashier.run(until(stopped)));
    tracing::info!(node = %settings.node, %http, ?payments, ?alerts, "the cashier works");
    loop {
        let Fitness { unready, warnings } = fitness.borrow_and_update().clone();
        ready.send_replace(unready);
        warn.send_replace(warnings);
        tokio::select! {
            () = signals.next() => break,
            Ok(()) = fitness.changed() => {}
        }
    }
    tracing::info!("stopping: nothing new is begun; calls that run may finish");
    ready.send_replace(Some("stopping".into()));
    stop.send_replace(true);
    tokio::select! {
        Ok(_) = timeout(settings.drain, working) => tracing::info!("stopped: every call that was begun is booked"),
        else => tracing::warn!("stopped before every call ended; another cashier asks again under the same keys"),
    }
    Ok(())
}
