//! File, environment and flags, read into the settings of each room; only `main` reads it.
//!
//! Later sources win: defaults, the file, the environment, flags. Every fault is reported at once, with the setting's path,
//! where its value came from, and what to write instead. A setting that is not understood stops the start; it never
//! means "no limit".

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cashier::settings::CashierSettings;
use crate::decision::Catalogue;
use crate::fields::{Faults, Reader};
use crate::gate::GateSettings;
use crate::ledger::LedgerSettings;
use crate::reconcile::RoundSettings;
use crate::reconcile::redis::Address;
use crate::telemetry::LogFormat;
use crate::transport::settings::TransportSettings;
use table::Flags;

mod layers;
mod read;
pub mod table;
#[cfg(test)]
mod tests;

/// Where settings come from.
pub struct Sources {
    pub file: Option<PathBuf>,
    /// All of the environment; what does not begin with `TOLLGATE_` is passed over.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Flags,
    /// The demo keeps its store in a temporary folder unless told otherwise.
    pub demo: bool,
}

/// What the whole process is told, room by room.
#[derive(Debug)]
pub struct Settings {
    pub listeners: Listeners,
    /// `None` only for the demo.
    pub store: Option<StoreAt>,
    pub catalogue: Arc<Catalogue>,
    pub transport: TransportSettings,
    pub gate: GateSettings,
    /// `None` where the cashier has nobody to call.
    pub cashier: Option<CashierSettings>,
    pub round: RoundSettings,
    /// `None` where this process audits nothing.
    pub audit_every: Option<Duration>,
    pub ledger: LedgerSettings,
    pub workers: usize,
    pub drain: Duration,
    pub node: Arc<str>,
    pub log_format: LogFormat,
    pub log_filter: String,
}

/// Where accounts are kept.
#[derive(Clone, Debug)]
pub enum StoreAt {
    /// In a file, for one machine.
    File(PathBuf),
    /// On a server, for many sidecars; its keys begin with `prefix`.
    Server { address: Box<Address>, prefix: String },
}

/// Where the process listens.
#[derive(Debug)]
pub struct Listeners {
    pub requests: SocketAddr,
    pub unix: Option<PathBuf>,
    pub accounts: SocketAddr,
    pub http: SocketAddr,
}

/// The settings, or everything that is wrong with them.
pub fn load(sources: Sources) -> Result<Settings, Faults> {
    let reader = Reader::default();
    let Some((table, origins)) = layers::layers(&sources, &reader) else { return reader.finish(None) };
    let settings = read::read(&reader, table, sources.demo);
    reader.finish(settings).map_err(|faults| layers::with_origins(faults, &origins))
}
