//! The file: opened with care, its tables, and every way in which it can be refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, TableDefinition, TableHandle};

use crate::reconcile::store::StoreError;

/// Pools by account.
pub(super) const ACCOUNTS: TableDefinition<&str, &[u8]> = TableDefinition::new("accounts");
/// Pools of users with a cap, by their name: those of an account stand together.
pub(super) const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
/// Rate buckets by account and group.
pub(super) const RATES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("rates");
/// API keys by digest.
pub(super) const KEYS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("keys");
/// Digests of API keys by account and key id.
pub(super) const KEYS_OF: TableDefinition<(&str, &str), [u8; 32]> = TableDefinition::new("keys_of");
/// Purchases by account and purchase id.
pub(super) const PURCHASES: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("purchases");
/// Lines of history by account and number.
pub(super) const HISTORY: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("history");
/// The outbox, in order.
pub(super) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// When the cashier has to look at an account's purchase, in milliseconds since 1970.
pub(super) const NEEDS: TableDefinition<&str, u64> = TableDefinition::new("needs");
/// Until when events of the outbox are taken or put off, in milliseconds since 1970.
pub(super) const CLAIMS: TableDefinition<u64, u64> = TableDefinition::new("claims");
/// Single numbers, by name.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// In [`META`]: the version of the tables.
const SCHEMA: &str = "schema";
/// In [`META`]: store time at the last commit, in milliseconds since 1970.
pub(super) const STORE_TIME: &str = "store_time_ms";
/// In [`META`]: the number of the newest event that ever was.
pub(super) const LAST_EVENT: &str = "last_event";

/// The version of the tables that this program reads and writes.
const SCHEMA_VERSION: u64 = 3;

/// Memory for pages of the file. Pools in use are kept beside it, so this serves look-ups only.
const PAGE_CACHE_BYTES: usize = 64 << 20;

/// Why a store file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store {} is in use by another process; stop that one, or name another file", .0.display())]
    Locked(PathBuf),
    #[error("{} is not a Tollgate store; name another file, or move this one away", .0.display())]
    Foreign(PathBuf),
    #[error("the store {} has version {found}, this program reads version {SCHEMA_VERSION}; run the program that wrote it", .path.display())]
    Version { path: PathBuf, found: u64 },
    #[error("the store {} is damaged ({detail}); restore a copy, or move it away to begin with an empty one", .path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("there is no store {}; name the file that a sidecar keeps", .0.display())]
    Missing(PathBuf),
    #[error("the store {} cannot be opened: {cause}; check that its folder exists and can be written", .path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// What to do where there is no file, or an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Begin an empty store.
    Begin,
    /// Refuse: there was a store a moment ago, and its accounts must not turn into strangers.
    Refuse,
}

/// Opens a store. The whole file is checked first: afterwards it can be trusted.
pub(super) fn open(path: &Path, missing: Missing) -> Result<Database, OpenError> {
    let refused = |error| refusal(path, error);
    let file = open_file(path, missing).map_err(|cause| {
        let is_missing = missing == Missing::Refuse && cause.kind() == io::ErrorKind::NotFound;
        if is_missing { OpenError::Missing(path.into()) } else { OpenError::Io { path: path.into(), cause } }
    })?;
    let mut builder = Database::builder();
    builder.set_cache_size(PAGE_CACHE_BYTES).set_check_integrity_on_open(true);
    let opened = FileBackend::new(file).and_then(|file| builder.create_with_backend(file));
    let database = opened.map_err(|error| refused(error.into()))?;
    let version = begin(&database, missing).map_err(refused)?;
    match version {
        Some(SCHEMA_VERSION) => Ok(database),
        Some(found) => Err(OpenError::Version { path: path.into(), found }),
        None => Err(OpenError::Foreign(path.into())),
    }
}

/// The file. A new one is its owner's alone, and its name is durable before anything is written to it.
fn open_file(path: &Path, missing: Missing) -> io::Result<File> {
    let begin = missing == Missing::Begin;
    let file = OpenOptions::new().read(true).write(true).create(begin).truncate(false).mode(0o600).open(path)?;
    if begin && file.metadata()?.len() == 0 {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(file)
}

/// The schema version of an opened file, after creating the tables in an empty one; `None` where they are not ours.
fn begin(database: &Database, missing: Missing) -> Result<Option<u64>, redb::Error> {
    let read = database.begin_read()?;
    let mut names = read.list_tables()?.map(|table| table.name().to_owned()).peekable();
    if names.peek().is_some() {
        if !names.any(|name| name == META.name()) {
            return Ok(None);
        }
        return match read.open_table(META) {
            Ok(meta) => Ok(meta.get(SCHEMA)?.map(|version| version.value())),
            Err(redb::TableError::Storage(error)) => Err(error.into()),
            Err(_) => Ok(None),
        };
    }
    drop(names);
    if missing == Missing::Refuse {
        return Ok(None);
    }
    let write = database.begin_write()?;
    write.open_table(META)?.insert(SCHEMA, SCHEMA_VERSION)?;
    write.open_table(ACCOUNTS)?;
    write.open_table(USERS)?;
    write.open_table(RATES)?;
    write.open_table(KEYS)?;
    write.open_table(KEYS_OF)?;
    write.open_table(PURCHASES)?;
    write.open_table(HISTORY)?;
    write.open_table(EVENTS)?;
    write.open_table(NEEDS)?;
    write.open_table(CLAIMS)?;
    write.commit()?;
    Ok(Some(SCHEMA_VERSION))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other error of the database is one of the disk or of the file"
)]
fn refusal(path: &Path, error: redb::Error) -> OpenError {
    let path = PathBuf::from(path);
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => OpenError::Locked(path),
        redb::Error::UpgradeRequired(version) => OpenError::Version { path, found: u64::from(version) },
        redb::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => OpenError::Foreign(path),
        redb::Error::Io(cause) => OpenError::Io { path, cause },
        error => OpenError::Damaged { path, detail: error.to_string() },
    }
}

/// A failure of the database as one of the store.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other error of the database is one of the disk or of the file"
)]
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(detail) => StoreError::Corrupt(detail),
        error => StoreError::Unavailable(error.to_string()),
    }
}
