//! `tollgate audit`: proves that the sums of every account are what its records say. Reads only; repairs nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::reconcile::embedded::{self, OpenError};
use crate::reconcile::redis::{Address, Redis};
use crate::reconcile::store::{Audited, Rules, Store as _, StoreError};

/// Prove that what every account has lent and used is what its records say; repairs nothing.
///
/// A server may be in use meanwhile; a file may not. Exits with 3 where something differs.
#[derive(Args, Debug)]
pub struct Audit {
    /// What keeps the accounts: a file, or redis://HOST:PORT
    #[arg(long, value_name = "PATH|URL")]
    store: String,
    /// What keys on a Redis server begin with
    #[arg(long, value_name = "NAME", default_value = "tollgate")]
    store_prefix: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What an audit says.
pub struct Found {
    pub text: String,
    pub drifted: bool,
}

/// Why there was no audit, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("--store is no address of a server ({0}); write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or a path")]
    BadAddress(String),
    #[error("the store {} is in use by another process; stop that one, or have it audit by itself (audit.every)", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    Open(OpenError),
    #[error("{cause}; it was asked for at {address}")]
    Store { address: Box<Address>, cause: StoreError },
}

impl From<OpenError> for AuditError {
    fn from(error: OpenError) -> Self {
        if let OpenError::Locked(path) = error { Self::InUse(path) } else { Self::Open(error) }
    }
}

/// Walks over all accounts of a store.
pub async fn audit(command: &Audit) -> Result<Found, AuditError> {
    let audited = if command.store.contains("://") {
        let bad = |error: String| AuditError::BadAddress(error);
        let address = Address::parse(&command.store).map_err(|error| bad(error.to_string()))?;
        let store = Redis::new(&address, &command.store_prefix, &Rules::default());
        let audited = store.map_err(|error| bad(error.to_string()))?.audit().await;
        audited.map_err(|cause| AuditError::Store { address: Box::new(address), cause })?
    } else {
        embedded::audit(Path::new(&command.store))?
    };
    let text = if command.json { for_programs(&audited) } else { for_people(&audited) };
    Ok(Found { text, drifted: !audited.drifted.is_empty() })
}

fn for_people(Audited { accounts, users, drifted }: &Audited) -> String {
    let lines: String = drifted.iter().map(|(account, wrong)| format!("{account}: {wrong}\n")).collect();
    let users = if *users > 0 { format!("{users} users with a cap, ") } else { String::new() };
    format!("{lines}{accounts} accounts, {users}{} with drift\n", drifted.len())
}

fn for_programs(Audited { accounts, users, drifted }: &Audited) -> String {
    let told = |(account, wrong): &(Arc<str>, String)| json!({"account": **account, "drift": wrong});
    let drifted: Vec<_> = drifted.iter().map(told).collect();
    format!("{}\n", json!({"accounts": accounts, "users": users, "drifted": drifted}))
}
