//! One sidecar: a real ledger behind a clock of its own and a link that may be cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::{Now, Time, UnixMs};
use tollgate::decision::Catalogue;
use tollgate::ledger::{Ledger, LedgerSettings};
use tollgate::pool::SessionId;

use crate::rng::Rng;

/// Midnight, 1 November 2026, UTC, when histories with a month's rollover are near it.
const WALL_MS: u64 = 1_793_491_200_000;

/// A machine's clock: where it started, how fast it runs, and what it thinks the date is.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    origin: Time,
    drift_ppm: u64,
    unix: UnixMs,
}

impl MachineClock {
    /// A clock that runs up to 0.02 % fast, and whose date is up to two minutes off.
    pub fn draw(rng: &mut Rng, start: UnixMs) -> Self {
        let unix = UnixMs(start.0 - 120_000 + rng.between(0, 240_000));
        Self { origin: Time::from_nanos(rng.between(1, 1 << 50)), drift_ppm: rng.between(0, 200), unix }
    }

    pub fn at(&self, at: Duration) -> Now {
        let drift = Duration::from_nanos(u64::try_from(at.as_nanos()).expect("some days") / 1_000_000 * self.drift_ppm);
        Now { time: self.origin, unix: self.unix }.after(at + drift)
    }
}

/// Which way nothing comes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    #[default]
    None,
    ToStore,
    FromStore,
    Both,
}

pub struct Node {
    pub ledger: Ledger,
    /// The run of this sidecar, by its place in the world's list; a restart has a new one.
    pub life: usize,
    pub up: bool,
    /// Takes no more asks.
    pub leaving: bool,
    /// Regular rounds that were put in the queue.
    pub rounds: u64,
    /// Nothing happens here before.
    pub frozen_until: Duration,
    pub cut: Cut,
    pub clock: MachineClock,
    /// Messages that wait for a reply, with their accounts.
    pub in_flight: BTreeMap<u64, Arc<str>>,
    /// Requests that wait for the pool.
    pub waiting: Vec<usize>,
}

impl Node {
    pub fn start(rng: &mut Rng, place: usize, life: usize, catalogue: &Arc<Catalogue>, clock: MachineClock) -> Self {
        let session = SessionId { node: format!("node-{place}").into(), run: u128::from(rng.draw()) };
        Self {
            ledger: Ledger::new(settings(), Arc::clone(catalogue), session),
            life,
            up: true,
            leaving: false,
            rounds: 0,
            frozen_until: Duration::ZERO,
            cut: Cut::None,
            clock,
            in_flight: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    pub fn takes_asks(&self) -> bool {
        self.up && !self.leaving
    }

    pub fn reaches_store(&self) -> bool {
        matches!(self.cut, Cut::None | Cut::FromStore)
    }

    pub fn hears_store(&self) -> bool {
        matches!(self.cut, Cut::None | Cut::ToStore)
    }
}

/// A date so long before a month's end.
pub fn before_month_end(span: Duration) -> UnixMs {
    UnixMs(WALL_MS - u64::try_from(span.as_millis()).expect("less than a month"))
}

pub fn settings() -> LedgerSettings {
    LedgerSettings {
        workers: 0,
        accounts_max: 64,
        holds_max: 1_000,
        ended_max: 1_000,
        ended_keep: Duration::from_secs(15 * 60),
        hold_life: Duration::from_secs(600),
        hold_life_max: Duration::from_secs(3_600),
        unknown_max: 100,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(500),
        idle_bye: Duration::from_secs(3_600),
    }
}
