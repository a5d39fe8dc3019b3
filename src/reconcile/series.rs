//! The metrics of rounds and of the ledger, looked up once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use rust_decimal::prelude::ToPrimitive;

use crate::clock::{Now, Time};
use crate::decision::Credit;
use crate::ledger::Ledger;
use crate::telemetry;

/// Sums over the ledger look at every account, so they are taken less often than rounds run.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Series {
    published_nanos: AtomicU64,
    applied: Counter,
    failed: Counter,
    round_seconds: Histogram,
    pool_age_seconds: Gauge,
    emergency_usd: Gauge,
    dead_letters: Counter,
    store_forgot: Counter,
    clones: Counter,
    malformed: Counter,
    accounts_unknown: Gauge,
    accounts: Gauge,
    holds_open: Gauge,
    holds_expired: Counter,
    late_settles: Counter,
    held_usd: Gauge,
    lease_free_usd: Gauge,
    overrun_nano_usd: Counter,
}

impl Series {
    pub fn register() -> Self {
        Self {
            published_nanos: AtomicU64::new(0),
            applied: counter!(telemetry::ROUNDS, "result" => "applied"),
            failed: counter!(telemetry::ROUNDS, "result" => "failed"),
            round_seconds: histogram!(telemetry::ROUND_SECONDS),
            pool_age_seconds: gauge!(telemetry::POOL_AGE_SECONDS),
            emergency_usd: gauge!(telemetry::EMERGENCY_USD),
            dead_letters: counter!(telemetry::DEAD_LETTERS),
            store_forgot: counter!(telemetry::STORE_FORGOT),
            clones: counter!(telemetry::CLONES),
            malformed: counter!(telemetry::MALFORMED),
            accounts_unknown: gauge!(telemetry::ACCOUNTS_UNKNOWN),
            accounts: gauge!(telemetry::ACCOUNTS),
            holds_open: gauge!(telemetry::HOLDS_OPEN),
            holds_expired: counter!(telemetry::HOLDS_EXPIRED),
            late_settles: counter!(telemetry::LATE_SETTLES),
            held_usd: gauge!(telemetry::HELD_USD),
            lease_free_usd: gauge!(telemetry::LEASE_FREE_USD),
            overrun_nano_usd: counter!(telemetry::OVERRUN_NANO_USD),
        }
    }

    pub fn exchanged(&self, applied: bool, took: Duration) {
        let result = if applied { &self.applied } else { &self.failed };
        result.increment(1);
        self.round_seconds.record(took.as_secs_f64());
    }

    /// Shows how the ledger stands, at most every five seconds.
    pub fn publish(&self, ledger: &Ledger, pool_age: Option<Duration>, now: Now) {
        self.pool_age_seconds.set(pool_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        let published = Time::from_nanos(self.published_nanos.load(Ordering::Relaxed));
        if now.time < published.after(PUBLISH_EVERY) {
            return;
        }
        self.published_nanos.store(now.time.nanos(), Ordering::Relaxed);
        let totals = ledger.totals(now);
        self.emergency_usd.set(usd(totals.emergency));
        self.dead_letters.absolute(totals.dead_letters);
        self.store_forgot.absolute(totals.forgotten);
        self.clones.absolute(totals.clones);
        self.malformed.absolute(totals.malformed);
        self.accounts_unknown.set(float(totals.unknown));
        self.accounts.set(float(totals.accounts));
        self.holds_open.set(float(totals.holds_open));
        self.holds_expired.absolute(totals.expired);
        self.late_settles.absolute(totals.late_settles);
        self.held_usd.set(usd(totals.held));
        self.lease_free_usd.set(usd(totals.leased_free));
        self.overrun_nano_usd.absolute(u64::try_from(totals.overrun.nanos()).unwrap_or(0));
    }
}

fn float(count: u64) -> f64 {
    count.to_f64().unwrap_or(f64::NAN)
}

fn usd(credit: Credit) -> f64 {
    credit.usd().to_f64().unwrap_or(f64::NAN)
}
