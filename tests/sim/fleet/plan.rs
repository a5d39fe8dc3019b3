//! What a fleet is put through, and what must come of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate::decision::Catalogue;
use tollgate::decision::terms::{FailurePolicy, ReclaimMode, Terms, Tier};

use crate::catalogue::with_rates;
use crate::network::Weather;

pub const USD: i64 = 1_000_000_000;

pub const MODEL: &str = "kimi-k3";

/// One run: a whale on every sidecar, and a long tail beside it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub sidecars: usize,
    /// Requests a second of the whale.
    pub pace: u64,
    /// The whale's credits, in nano-USD.
    pub credits: i64,
    /// Other accounts, each on three sidecars; in all they ask a fifth as often as the whale.
    pub tail: usize,
    /// The whale's limits per minute, in percent of what it asks for.
    pub headroom_percent: u64,
    /// How long a request runs at most.
    pub lasts_max: Duration,
    pub reclaim_mode: ReclaimMode,
    pub failure_policy: FailurePolicy,
    pub trouble: Trouble,
    pub bounds: Bounds,
}

/// What goes wrong, until the whale has little left.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub weather: Weather,
    /// From one partition, crash or leave to the next, on average; `None` is a fleet without any.
    pub every: Option<Duration>,
    /// The store goes back to an older copy of itself now and then.
    pub rollbacks: bool,
    /// Nobody reaches the store for a while now and then.
    pub outages: bool,
    /// A few requests generate beyond what they held.
    pub overruns: bool,
}

/// What is asked of a run beyond the contract, which is checked at every admission.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Store calls for 1,000 requests of the whale.
    pub calls_per_mille: Option<u64>,
    /// No balance may be left that could pay for a request, or 0.01 % of it, whichever is more.
    pub usable: bool,
}

impl Trouble {
    pub const NONE: Self =
        Self { weather: Weather::CALM, every: None, rollbacks: false, outages: false, overruns: false };

    /// Messages lost, repeated and late; sidecars cut off, killed and replaced.
    pub const CHAOS: Self = Self {
        weather: Weather {
            lost_per_mille: 30,
            twice_per_mille: 50,
            late_per_mille: 30,
            late_max: Duration::from_secs(20),
        },
        every: Some(Duration::from_millis(100)),
        ..Self::NONE
    };
}

impl Plan {
    pub const CALM: Self = Self {
        name: "calm",
        sidecars: 20,
        pace: 200,
        credits: 20 * USD,
        tail: 0,
        headroom_percent: 10_000,
        lasts_max: Duration::from_secs(4),
        reclaim_mode: ReclaimMode::Limbo,
        failure_policy: FailurePolicy::Closed,
        trouble: Trouble::NONE,
        bounds: Bounds { calls_per_mille: None, usable: true },
    };

    pub fn terms(&self) -> Terms {
        Terms {
            payment_method: true,
            billing_profile: true,
            tier_override: Some(Tier::Unlimited),
            reclaim_mode: self.reclaim_mode,
            failure_policy: self.failure_policy,
            custom_limits: BTreeMap::from([(MODEL.into(), [self.prompt_per_minute(); 3])]),
            ..Terms::default()
        }
    }

    /// The shipped catalogue, with limits that leave the whale as much headroom as is planned.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        let [requests, tokens] = [self.requests_per_minute(), self.prompt_per_minute()];
        Arc::new(with_rates(requests, [tokens; 3]))
    }

    pub fn requests_per_minute(&self) -> u64 {
        self.pace * 60 * self.headroom_percent / 100
    }

    /// A request has 2,000 prompt tokens on average.
    pub fn prompt_per_minute(&self) -> u64 {
        self.requests_per_minute() * 2_000
    }
}
