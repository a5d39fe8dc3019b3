//! The pools in use, in memory as the file has them, and the one way to change the file: a durable step.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::file::{ACCOUNTS, CLAIMS, EVENTS, HISTORY, LAST_EVENT, META, RATES, STORE_TIME, USERS, failed};
use super::outbox;
use super::records::{decode, encode, group_key, group_of};
use crate::clock::{Now, Time, UnixMs};
use crate::pool::message::{Event, Group};
use crate::pool::{Pool, PoolRules, RatePool, account_of, user_of};
use crate::reconcile::store::StoreError;
use crate::reconcile::unreadable::Unreadable;

/// Rate buckets are written so long after they changed: a crash forgets half a minute of tokens, which drain within a minute
/// anyway. What is stopped properly forgets nothing.
const RATES_AFTER: Duration = Duration::from_secs(30);

/// Rate buckets written in one step at most, so that a round is never long.
const RATES_MAX: usize = 512;

/// Events kept in the outbox; a reader that fell further behind has lost the oldest.
const EVENTS_MAX: u64 = 1_000_000;

/// Accounts as the file has them; rate buckets may be half a minute ahead of it.
pub(super) struct State {
    accounts: HashMap<Arc<str>, Kept>,
    /// Rate buckets that changed since they were written, and the same in the order in which they first did.
    rates_unwritten: HashSet<(Arc<str>, Group)>,
    rates_in_order: VecDeque<(UnixMs, (Arc<str>, Group))>,
    clock: StoreClock,
    pub unreadable: Unreadable,
}

/// One account in memory.
pub(super) struct Kept {
    pub pool: Pool,
    pub rates: BTreeMap<Group, RatePool>,
}

/// Store time: runs on with the clock that never steps, follows the calendar forward, and never runs back, even over a
/// restart.
struct StoreClock {
    latest: UnixMs,
    read_at: Time,
}

impl StoreClock {
    fn read(&mut self, now: Now) -> UnixMs {
        let passed = u64::try_from(now.time.since(self.read_at).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 || self.latest < now.unix {
            self.latest = UnixMs(self.latest.0.saturating_add(passed)).max(now.unix);
            self.read_at = now.time;
        }
        self.latest
    }
}

impl State {
    pub fn new(database: &Database, now: Now) -> Result<Self, StoreError> {
        let read = database.begin_read().map_err(failed)?;
        let meta = read.open_table(META).map_err(failed)?;
        let written = meta.get(STORE_TIME).map_err(failed)?.map_or(UnixMs(0), |millis| UnixMs(millis.value()));
        Ok(Self {
            accounts: HashMap::new(),
            rates_unwritten: HashSet::new(),
            rates_in_order: VecDeque::new(),
            clock: StoreClock { latest: written.max(now.unix), read_at: now.time },
            unreadable: Unreadable::default(),
        })
    }

    /// Store time at `now`.
    pub fn time(&mut self, now: Now) -> UnixMs {
        self.clock.read(now)
    }

    /// An account, from the file where it is not in memory yet.
    pub fn load(&mut self, database: &Database, account: &Arc<str>) -> Result<Option<&mut Kept>, StoreError> {
        if !self.accounts.contains_key(account) {
            let Some(kept) = read(database, account)? else {
                return Ok(None);
            };
            self.accounts.insert(Arc::clone(account), kept);
        }
        Ok(self.accounts.get_mut(account))
    }

    /// As [`State::load`]; a user of an account that is there begins with nothing spent.
    pub fn load_or_begin(
        &mut self,
        database: &Database,
        name: &Arc<str>,
        (rules, now): (&PoolRules, UnixMs),
    ) -> Result<Option<&mut Kept>, StoreError> {
        let is_new_user = user_of(name).is_some() && self.load(database, name)?.is_none();
        if is_new_user && self.load(database, &account_of(name).into())?.is_some() {
            self.add(name, Pool::of_user(Arc::clone(name), rules, now));
        }
        self.load(database, name)
    }

    /// A new account, which the next [`State::commit`] has to write.
    pub fn add(&mut self, account: &Arc<str>, pool: Pool) {
        self.accounts.insert(Arc::clone(account), Kept { pool, rates: BTreeMap::new() });
    }

    pub fn rate_changed(&mut self, account: &Arc<str>, group: &Group, now: UnixMs) {
        let bucket = (Arc::clone(account), group.clone());
        if self.rates_unwritten.insert(bucket.clone()) {
            self.rates_in_order.push_back((now, bucket));
        }
    }

    /// Rate buckets have waited long enough to be written.
    pub fn rates_are_due(&self, now: UnixMs) -> bool {
        self.rates_due(now) > 0
    }

    /// How many have, of those that one step writes.
    fn rates_due(&self, now: UnixMs) -> usize {
        let has_waited = |changed: UnixMs| Duration::from_millis(now.0.saturating_sub(changed.0)) >= RATES_AFTER;
        self.rates_in_order.iter().take(RATES_MAX).take_while(|(changed, _)| has_waited(*changed)).count()
    }

    /// Writes every rate bucket that changed: before the store is closed.
    pub fn commit_rates(&mut self, database: &Database, now: UnixMs) -> Result<(), StoreError> {
        self.write(database, now, &BTreeSet::new(), self.rates_in_order.len(), |_| Ok(()))
    }

    /// Writes the pools of `changed`, their events, rate buckets that are due, and what `also` writes: all of it
    /// durably, or nothing.
    pub fn commit(
        &mut self,
        database: &Database,
        now: UnixMs,
        changed: &BTreeSet<Arc<str>>,
        also: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.write(database, now, changed, self.rates_due(now), also)
    }

    fn write(
        &mut self,
        database: &Database,
        now: UnixMs,
        changed: &BTreeSet<Arc<str>>,
        rates: usize,
        also: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // A transaction is durable when its commit returns, unless it is told otherwise.
        let write = database.begin_write().map_err(failed)?;
        self.write_pools(&write, changed)?;
        self.write_rates(&write, rates)?;
        also(&write)?;
        write.open_table(META).map_err(failed)?.insert(STORE_TIME, now.0).map_err(failed)?;
        write.commit().map_err(failed)?;
        for (_, bucket) in self.rates_in_order.drain(..rates) {
            self.rates_unwritten.remove(&bucket);
        }
        Ok(())
    }

    /// Forgets what may differ from the file after a failed step; it is read again when it is needed.
    pub fn forget(&mut self) {
        self.accounts.clear();
        self.rates_unwritten.clear();
        self.rates_in_order.clear();
    }

    fn write_pools(&mut self, write: &WriteTransaction, changed: &BTreeSet<Arc<str>>) -> Result<(), StoreError> {
        let mut accounts = write.open_table(ACCOUNTS).map_err(failed)?;
        let mut users = write.open_table(USERS).map_err(failed)?;
        let mut history = write.open_table(HISTORY).map_err(failed)?;
        let mut events = Vec::new();
        for account in changed {
            let kept = self.accounts.get_mut(account).expect("an account that changed is in memory");
            events.extend(kept.pool.take_events());
            for entry in kept.pool.take_entries() {
                history.insert((&**account, entry.number), encode(&entry).as_slice()).map_err(failed)?;
            }
            let table = if user_of(account).is_some() { &mut users } else { &mut accounts };
            table.insert(&**account, encode(&kept.pool).as_slice()).map_err(failed)?;
        }
        outbox::note(write, &events)?;
        append(write, events)
    }

    /// Writes the `first` of the rate buckets that changed.
    fn write_rates(&self, write: &WriteTransaction, first: usize) -> Result<(), StoreError> {
        if first == 0 {
            return Ok(());
        }
        let mut table = write.open_table(RATES).map_err(failed)?;
        // In the order of the file, where neighbours are written together.
        let mut unwritten: Vec<_> = self.rates_in_order.iter().take(first).map(|(_, bucket)| bucket).collect();
        unwritten.sort_unstable();
        for (account, group) in unwritten {
            let bucket = self.accounts.get(account).and_then(|kept| kept.rates.get(group));
            let bucket = bucket.expect("a rate bucket that changed is in memory");
            table.insert((&**account, group_key(group)), encode(bucket).as_slice()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Puts events at the end of the outbox, and takes the oldest away where it is full.
fn append(write: &WriteTransaction, events: Vec<Event>) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let mut outbox = write.open_table(EVENTS).map_err(failed)?;
    // A number is never used again: who was slow to finish its event would finish another.
    let mut meta = write.open_table(META).map_err(failed)?;
    let mut last = meta.get(LAST_EVENT).map_err(failed)?.map_or(0, |number| number.value());
    for event in events {
        last += 1;
        outbox.insert(last, encode(&event).as_slice()).map_err(failed)?;
    }
    meta.insert(LAST_EVENT, last).map_err(failed)?;
    let mut claims = write.open_table(CLAIMS).map_err(failed)?;
    while outbox.len().map_err(failed)? > EVENTS_MAX {
        let oldest = outbox.pop_first().map_err(failed)?.map(|(number, _)| number.value());
        oldest.map(|number| claims.remove(number).map(drop)).transpose().map_err(failed)?;
    }
    Ok(())
}

fn read(database: &Database, account: &Arc<str>) -> Result<Option<Kept>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let is_user = user_of(account).is_some();
    let pools = read.open_table(if is_user { USERS } else { ACCOUNTS }).map_err(failed)?;
    let Some(pool) = pools.get(&**account).map_err(failed)? else {
        return Ok(None);
    };
    let pool = decode(pool.value(), account)?;
    let mut rates = BTreeMap::new();
    if is_user {
        return Ok(Some(Kept { pool, rates }));
    }
    let table = read.open_table(RATES).map_err(failed)?;
    for row in table.range((&**account, &[][..])..).map_err(failed)? {
        let (key, bucket) = row.map_err(failed)?;
        let (owner, group) = key.value();
        if owner != &**account {
            break;
        }
        rates.insert(group_of(group), decode(bucket.value(), account)?);
    }
    Ok(Some(Kept { pool, rates }))
}
