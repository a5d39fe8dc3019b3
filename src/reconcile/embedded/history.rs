//! Lines of history in the file, read in pages or summed up.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::accounts::{found, only};
use super::file::{HISTORY, failed};
use super::records::decode;
use super::state::State;
use crate::clock::Now;
use crate::pool::{Entry, Sums};
use crate::reconcile::store::{History, Page, Rules, StoreError};

pub(super) fn page(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    account: &Arc<str>,
    page: Page,
) -> Result<History, StoreError> {
    let time = state.time(now);
    let pool = &mut found(state, database, account)?.pool;
    pool.settle(&rules.pool, time);
    let (balance, open_usage) = (pool.summary(time).balance, pool.open_usage());
    if pool.has_entries() {
        state.commit(database, time, &only(account), |_| Ok(()))?;
    }
    Ok(History { entries: entries(database, account, page)?, balance, open_usage })
}

fn entries(database: &Database, account: &str, page: Page) -> Result<Vec<Entry>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = read.open_table(HISTORY).map_err(failed)?;
    let (first, last) = match (page.newest_first, page.after) {
        (_, None) => (0, u64::MAX),
        (true, Some(after)) => (0, after.saturating_sub(1)),
        (false, Some(after)) => (after.saturating_add(1), u64::MAX),
    };
    let rows = table.range((account, first)..=(account, last)).map_err(failed)?;
    let read_row = |row: Result<(_, redb::AccessGuard<'_, &[u8]>), _>| {
        let (_, entry) = row.map_err(failed)?;
        decode(entry.value(), account)
    };
    if page.newest_first {
        rows.rev().take(page.max).map(read_row).collect()
    } else {
        rows.take(page.max).map(read_row).collect()
    }
}

/// What an account's lines come to.
pub(super) fn sums(
    table: &impl ReadableTable<(&'static str, u64), &'static [u8]>,
    account: &str,
) -> Result<Sums, StoreError> {
    let mut sums = Sums::default();
    for row in table.range((account, 0)..=(account, u64::MAX)).map_err(failed)? {
        let (_, entry) = row.map_err(failed)?;
        sums = sums.with(&decode(entry.value(), account)?);
    }
    Ok(sums)
}
