//! Whether the sums in the file are what its records and its history say.

use std::ops::Bound;

use redb::{Database, ReadOnlyTable, ReadableDatabase};

use super::file::{ACCOUNTS, HISTORY, USERS, failed};
use super::history;
use super::records::decode;
use crate::pool::{Drift, Pool};
use crate::reconcile::store::{Audited, StoreError};

/// Accounts that are looked at in one transaction: as long as one is open, the file cannot use room again that rounds leave.
pub(super) const AT_ONCE: usize = 500;

type Entries = ReadOnlyTable<(&'static str, u64), &'static [u8]>;

/// A walk over all accounts, then over all users with a cap, some at a time.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) found: Audited,
    is_at_users: bool,
    after: Option<String>,
}

impl Walk {
    /// Looks at the next ones, so many at most. Returns whether more may be left.
    pub(super) fn go_on(&mut self, database: &Database, max: usize) -> Result<bool, StoreError> {
        let read = database.begin_read().map_err(failed)?;
        let table = read.open_table(if self.is_at_users { USERS } else { ACCOUNTS }).map_err(failed)?;
        let entries = read.open_table(HISTORY).map_err(failed)?;
        let from = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for row in table.range::<&str>((from, Bound::Unbounded)).map_err(failed)?.take(max) {
            let (name, pool) = row.map_err(failed)?;
            self.found.note(name.value(), drift_of(&entries, name.value(), pool.value()))?;
            last = Some(name.value().to_owned());
        }
        let is_end = last.is_none();
        self.after = last;
        if is_end && self.is_at_users {
            return Ok(false);
        }
        self.is_at_users |= is_end;
        Ok(true)
    }
}

fn drift_of(entries: &Entries, account: &str, pool: &[u8]) -> Result<Option<Drift>, StoreError> {
    let pool: Pool = decode(pool, account)?;
    if let Err(drift) = pool.audit() {
        return Ok(Some(drift));
    }
    Ok(history::sums(entries, account)?.drift(pool.history_sums()))
}
