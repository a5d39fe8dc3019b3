//! What goes wrong, drawn from the seed: the kind of history, and its next misfortune.

use std::time::Duration;

use tollgate::clock::UnixMs;
use tollgate::decision::Credit;
use tollgate::decision::terms::{Mode, ReclaimMode, Suspension, Terms};
use tollgate::decision::users::UserCaps;

use crate::client::Finish;
use crate::network::Weather;
use crate::node::{Cut, before_month_end};
use crate::rng::Rng;

/// The users of an account with caps.
pub const USERS: [&str; 2] = ["alice", "bob"];

/// What a history may hold.
#[derive(Clone, Debug)]
pub struct Profile {
    pub nodes: u64,
    pub accounts: u64,
    /// Asks and faults, together.
    pub turns: u64,
    pub fault_per_mille: u64,
    pub gap_max: Duration,
    pub weather: Weather,
    pub start: UnixMs,
    /// Nothing may be overspent, not by a nano-USD: limbo, a durable store, and holds that cover what is used.
    pub exact: bool,
    pub reclaim_mode: Option<ReclaimMode>,
    pub overruns: bool,
    pub hold_life_short: Option<Duration>,
    pub rollbacks: bool,
    pub clock_steps: bool,
    pub idle_max: Duration,
    /// Limits that are felt, rather than ample ones.
    pub tight_rates: bool,
}

/// One misfortune, or one change that somebody makes on purpose.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Weather(Weather),
    Cut {
        node: usize,
        cut: Cut,
        lasts: Duration,
    },
    /// The process stands still, as in a long suspend; `idle` if everybody else is quiet meanwhile.
    Freeze {
        node: usize,
        lasts: Duration,
        idle: bool,
    },
    Crash {
        node: usize,
        back: Option<Duration>,
    },
    Leave {
        node: usize,
        back: Option<Duration>,
    },
    /// The store's disk, as of now, is what a failover will find.
    Snapshot,
    Rollback,
    StepClock {
        millis: i64,
    },
    AddCredits {
        account: usize,
        nanos: i64,
    },
    ChangeTerms {
        account: usize,
    },
    Idle {
        lasts: Duration,
    },
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Self {
        let exact = rng.chance(350);
        let wild = !exact;
        let idle_hours = if wild && rng.chance(200) { 80 } else { 2 };
        let start = Duration::from_secs(if rng.chance(400) { rng.between(1, 120) } else { 20 * 86_400 });
        Self {
            nodes: rng.magnitude(1, 6),
            accounts: rng.magnitude(1, 3),
            turns: rng.magnitude(8, 70),
            fault_per_mille: rng.between(0, 300),
            gap_max: Duration::from_millis(rng.magnitude(5, 3_000)),
            weather: Weather::draw(rng),
            start: before_month_end(start),
            exact,
            reclaim_mode: exact.then_some(ReclaimMode::Limbo),
            overruns: wild && rng.chance(400),
            hold_life_short: (wild && rng.chance(400)).then(|| Duration::from_millis(rng.magnitude(500, 20_000))),
            rollbacks: wild && rng.chance(400),
            clock_steps: rng.chance(300),
            idle_max: Duration::from_secs(3_600 * idle_hours),
            tight_rates: rng.chance(200),
        }
    }

    pub fn finish(&self, rng: &mut Rng) -> Finish {
        match rng.between(0, 9) {
            0 => Finish::Releases,
            1 => Finish::Vanishes,
            _ => Finish::Settles,
        }
    }

    pub fn credits(&self, rng: &mut Rng) -> i64 {
        i64::try_from(rng.magnitude(300_000, 500_000_000)).expect("less than a dollar")
    }

    /// An account always has caps for its users, or never.
    pub fn terms(&self, rng: &mut Rng, has_caps: bool) -> Terms {
        let mode = *rng.pick(&[Mode::Prepaid, Mode::Prepaid, Mode::Postpaid, Mode::Contract]);
        let reclaim_mode = *rng.pick(&[ReclaimMode::Limbo, ReclaimMode::Return]);
        let line = if mode == Mode::Prepaid { 0 } else { self.credits(rng) };
        Terms {
            mode,
            suspension: if rng.chance(100) { Suspension::Abuse } else { Suspension::None },
            payment_method: true,
            billing_profile: true,
            monthly_limit: rng.chance(300).then(|| Credit::from_nanos(self.credits(rng))),
            credit_line: Credit::from_nanos(line),
            reclaim_mode: self.reclaim_mode.unwrap_or(reclaim_mode),
            user_caps: has_caps.then(|| self.caps(rng).into()),
            ..Terms::default()
        }
    }
}

impl Profile {
    fn caps(&self, rng: &mut Rng) -> UserCaps {
        let mut cap = || Credit::from_nanos(i64::try_from(rng.magnitude(300_000, 50_000_000)).expect("some cents"));
        UserCaps { default: Some(cap()), overrides: [(USERS[0].into(), cap())].into(), ..UserCaps::default() }
    }
}

impl Fault {
    pub fn draw(rng: &mut Rng, profile: &Profile) -> Self {
        let node = rng.index(usize::try_from(profile.nodes).expect("a few"));
        let account = rng.index(usize::try_from(profile.accounts).expect("a few"));
        match rng.between(0, 14) {
            0 => Self::Weather(Weather::draw(rng)),
            1 | 2 => Self::cut(rng, node),
            3 | 4 => Self::Freeze { node, lasts: seconds(rng, 150), idle: rng.chance(500) },
            5 => Self::Crash { node, back: rng.chance(700).then(|| seconds(rng, 60)) },
            6 => Self::Leave { node, back: rng.chance(700).then(|| seconds(rng, 60)) },
            7 | 8 if profile.rollbacks => Self::Snapshot,
            9 if profile.rollbacks => Self::Rollback,
            10 if profile.clock_steps => Self::step_clock(rng),
            11 => Self::AddCredits { account, nanos: profile.credits(rng) },
            12 => Self::ChangeTerms { account },
            13 => Self::Idle { lasts: Self::idle(rng, profile) },
            _ => Self::Idle { lasts: seconds(rng, 90) },
        }
    }

    fn cut(rng: &mut Rng, node: usize) -> Self {
        let cut = *rng.pick(&[Cut::Both, Cut::Both, Cut::ToStore, Cut::FromStore]);
        Self::Cut { node, cut, lasts: seconds(rng, 300) }
    }

    fn step_clock(rng: &mut Rng) -> Self {
        let millis = i64::try_from(rng.magnitude(100, 3_600_000)).expect("an hour");
        Self::StepClock { millis: if rng.chance(500) { millis } else { -millis } }
    }

    fn idle(rng: &mut Rng, profile: &Profile) -> Duration {
        Duration::from_secs(rng.magnitude(60, profile.idle_max.as_secs()))
    }
}

fn seconds(rng: &mut Rng, max: u64) -> Duration {
    Duration::from_millis(rng.magnitude(100, max * 1_000))
}
