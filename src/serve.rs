//! A sidecar from its settings to its last round: builds the rooms, serves, and drains. Every task is owned here.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use metrics_exporter_prometheus::BuildError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tollgate::cashier::TrustError;
use tollgate::cli::{CliError, demo};
use tollgate::config::table::Flags;
use tollgate::config::{self, Settings, Sources, StoreAt};
use tollgate::fields::{Fault, Faults};
use tollgate::reconcile::checkup::Fitness;
use tollgate::reconcile::embedded::OpenError;
use tollgate::telemetry::{self, LogError};
use tollgate::transport::http::{Pages, Unready, serve_http};
use tollgate::transport::serve::{Health, ServeError};

use crate::{background, print};

pub mod cashier;
mod ports;
mod rooms;

use ports::Ports;
use rooms::Rooms;

/// A third of a worker's share: enough to renew leases under any load, too little to delay decisions.
const BACKGROUND_NICENESS: i32 = 5;

/// Run a sidecar.
///
/// Settings come from a file, the environment and flags; the later wins. What is `--hold-life` as a flag is
/// TOLLGATE_HOLD_LIFE in the environment and `hold.life` in the file.
#[derive(Args, Debug)]
pub struct Serve {
    /// Try it: a temporary store, four accounts with keys, and commands to copy
    #[arg(long)]
    demo: bool,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Why there is no sidecar (any more), and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the settings are wrong, so nothing was started\n{}", indented(.0))]
    Settings(#[from] Faults),
    #[error("the log cannot be set up: {0}")]
    Log(#[from] LogError),
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the store's server cannot be asked: {0}; correct the setting store")]
    Server(String),
    #[error("webhooks cannot be called: {0}")]
    Trust(#[from] TrustError),
    #[error("{0}")]
    NoCashier(&'static str),
    #[error("nothing was started\n{}", indented(.0))]
    Ports(Faults),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the demo's accounts cannot be made: {0}")]
    Demo(#[from] CliError),
    #[error("the system gave no random bytes: {0}")]
    NoRandom(#[from] getrandom::Error),
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

/// From the settings to the last round.
pub fn serve(command: Serve) -> Result<(), Failure> {
    let Serve { demo, config, flags } = command;
    let environment = std::env::vars_os().collect();
    let settings = config::load(Sources { file: config, environment, flags, demo })?;
    telemetry::start_log(settings.log_format, &settings.log_filter)?;
    keep_pages_small();
    let ports = Ports::bind(&settings)?;
    let unix = ports.unix.clone();
    // Removed when this function ends.
    let folder = if settings.store.is_none() { Some(tempfile::tempdir()?) } else { None };
    let in_folder = folder.as_ref().map(|folder| StoreAt::File(folder.path().join("demo.redb")));
    let store = settings.store.clone().or(in_folder).expect("without a setting there is a folder");
    let rooms = Rooms::build(&settings, &store)?;
    let served = background()?.block_on(run(settings, ports, rooms, demo));
    if let Some(Err(error)) = unix.map(std::fs::remove_file) {
        tracing::warn!(%error, "the unix socket's file stays behind");
    }
    served
}

/// Serves until told to stop, then drains.
async fn run(settings: Settings, mut ports: Ports, rooms: Rooms, is_demo: bool) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let (ready, unready) = watch::channel::<Unready>(Some("starting".into()));
    let health = Health::unready().await;
    tokio::spawn({
        let (health, unready) = (health.clone(), unready.clone());
        async move { health.follow(unready).await }
    });
    let (stop_loops, loops_stop) = watch::channel(false);
    let rounds = rooms.spawn_loops(&loops_stop);
    let (warn, warnings) = watch::channel(Vec::new());
    let pages = Pages { metrics: rooms.metrics.clone(), ready: unready, warnings };
    tokio::spawn(serve_http(pages, ports.http_listener.try_clone()?, until(loops_stop)));
    let (stop_serving, serving_stop) = watch::channel(false);
    let mut servers = rooms.start_servers(&settings, &mut ports, &health, &serving_stop)?;
    let buying = rooms.spawn_cashier(&serving_stop);
    step_back();

    let show = Show { ready: &ready, warn, is_demo };
    let mut served = tokio::select! {
        () = signals.next() => Ok(()),
        ended = servers.recv() => ended.unwrap_or(Ok(())),
        failed = show.follow(rooms.checkup.fitness(), &settings, &ports) => return Err(failed),
    };

    tracing::info!("stopping: no new requests; those that run may finish");
    ready.send_replace(Some("stopping".into()));
    stop_serving.send_replace(true);
    let deadline = Instant::now() + settings.drain;
    let drained = async {
        // The last fifth of the time belongs to the last round.
        while let Ok(Some(ended)) = timeout_at(deadline - settings.drain / 5, servers.recv()).await {
            served = std::mem::replace(&mut served, Ok(())).and(ended);
        }
        drop(timeout_at(deadline - settings.drain / 5, buying).await);
        stop_loops.send_replace(true);
        drop(timeout_at(deadline, rounds).await);
        rooms.rounds.farewell(deadline).await
    };
    tokio::select! {
        is_told = drained => if is_told {
            tracing::info!("stopped: all usage is reported, all leases are given back");
        } else {
            tracing::warn!("stopped, but not all could be told; leases that were not given back come back when they expire");
        },
        () = signals.next() => tracing::warn!("stopped at once, as told; leases come back when they expire"),
    }
    Ok(served?)
}

/// The system clears a page of memory when it is first used, a huge one for milliseconds; and who adds an account, and so may
/// need a page, holds the lock that checks wait for.
fn keep_pages_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory may come in huge pages");
    }
}

/// Lets decisions go first where cores are scarce. This thread, and those it begins from now on, do what can wait a little:
/// rounds, the store, operators and pages.
fn step_back() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), BACKGROUND_NICENESS) {
        tracing::debug!(%error, "background work keeps its priority");
    }
}

/// Shows whether requests may come.
struct Show<'a> {
    ready: &'a watch::Sender<Unready>,
    warn: watch::Sender<Vec<Arc<str>>>,
    is_demo: bool,
}

impl Show<'_> {
    /// Follows the store's fitness for ever, and greets when it is ready first.
    async fn follow(self, mut fitness: watch::Receiver<Fitness>, settings: &Settings, ports: &Ports) -> Failure {
        let mut has_greeted = false;
        loop {
            let Fitness { unready, warnings } = fitness.borrow_and_update().clone();
            let is_ready = unready.is_none();
            self.ready.send_replace(unready);
            self.warn.send_replace(warnings);
            if is_ready && !has_greeted {
                has_greeted = true;
                if let Err(failure) = greet(settings, ports, self.is_demo).await {
                    return failure;
                }
            }
            if fitness.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Says once that it is ready: the demo to a person, with what to try; else a line in the log.
async fn greet(settings: &Settings, ports: &Ports, is_demo: bool) -> Result<(), Failure> {
    let Ports { requests, accounts, http, .. } = *ports;
    if !is_demo {
        tracing::info!(node = %settings.node, %requests, %accounts, %http, workers = settings.workers, "ready");
        return Ok(());
    }
    let furnished = demo::furnish(accounts).await?;
    let program = std::env::args().next().unwrap_or_else(|| "tollgate".into());
    let stage = demo::Stage { program, requests, accounts, http, temporary: settings.store.is_none() };
    Ok(print(&demo::greeting(&stage, &furnished))?)
}

/// Waits until the flag is set, or nobody is left to set it.
async fn until(mut flag: watch::Receiver<bool>) {
    drop(flag.wait_for(|is_set| *is_set).await);
}

/// What tells the process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl From<Fault> for Failure {
    fn from(of_port: Fault) -> Self {
        Self::Ports(Faults(vec![of_port]))
    }
}

fn indented(faults: &Faults) -> String {
    faults.to_string().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
