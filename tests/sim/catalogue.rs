//! The shipped catalogue, with limits that are ample or felt.

use std::sync::{Arc, LazyLock};

use tollgate::decision::Catalogue;
use tollgate::decision::catalogue::{Controller, FIREWORKS_2026_10};

/// Requests per minute and account, with a minute's burst, where limits are felt.
pub const TIGHT_REQUESTS: u64 = 20;

static AMPLE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(with_rates(6_000, [100_000_000; 3])));
static TIGHT: LazyLock<Arc<Catalogue>> =
    LazyLock::new(|| Arc::new(with_rates(TIGHT_REQUESTS, [30_000, 20_000, 1_500])));

pub fn catalogue(tight: bool) -> Arc<Catalogue> {
    Arc::clone(if tight { &TIGHT } else { &AMPLE })
}

pub fn with_rates(requests_per_minute: u64, start: [u64; 3]) -> Catalogue {
    let mut catalogue = Catalogue::parse(FIREWORKS_2026_10).expect("the shipped catalogue is valid");
    catalogue.requests.per_minute = requests_per_minute;
    catalogue.rates.controller = Controller::Fixed;
    catalogue.rates.start = start;
    catalogue.rates.floor = start.map(|limit| limit / 4);
    catalogue
}
