//! The law, tested by its tables and its properties.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that wraps or panics fails, which is what it is for"
)]

mod adapting;
mod cataloguing;
mod deciding;
mod demanding;
mod denying;
mod metering;
mod pricing;
mod reserving;

use std::sync::LazyLock;

use rust_decimal::Decimal;

use super::catalogue::FIREWORKS_2026_10;
use super::rate::{Bucket, Limit};
use super::standing::{Money, MonthStanding, RateStanding};
use super::terms::{Mode, Suspension};
use super::{Ask, Catalogue, Credit, Demand, Month, Prompt, RequestId, ServiceTier, Standing};
use crate::clock::{Time, UnixMs};

static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::parse(FIREWORKS_2026_10).unwrap());

/// 2026-10-15T00:00:00Z.
const MID_OCTOBER: UnixMs = UnixMs(1_792_022_400_000);

const NOW: Time = Time::from_nanos(1_000_000_000_000);

fn usd(text: &str) -> Credit {
    Credit::from_usd(Decimal::from_str_exact(text).unwrap()).unwrap()
}

/// Asks kimi-k3 for 1,000 tokens after a prompt of 1,000; at list price this costs $0.018.
fn ask() -> Ask<'static> {
    Ask {
        account: "acme",
        user: None,
        model: "kimi-k3",
        service_tier: ServiceTier::Standard,
        prompt: Prompt::Tokens(1_000),
        cached_tokens_hint: None,
        max_tokens: Some(1_000),
        n: 1,
        request_id: RequestId { digest: 1, attempt: 1 },
        deadline: None,
        capped: false,
    }
}

fn demand(ask: Ask<'_>) -> Demand {
    SHIPPED.demand(&ask, MID_OCTOBER).unwrap()
}

/// An account that nothing holds back, and whose pool has been heard and lent enough.
fn healthy() -> Standing {
    Standing {
        mode: Mode::Prepaid,
        suspension: Suspension::None,
        payment_method: true,
        shadow: false,
        money: Money {
            rights: usd("5"),
            balance: usd("20"),
            credit_line: Credit::ZERO,
            promotional_gone: true,
            purchased: true,
            topup_pending: None,
            pool_may_help: false,
            held: Credit::ZERO,
        },
        month: MonthStanding { month: Month::from_yyyymm(202_610), limit: None, spent: Credit::ZERO },
        user: None,
        requests: rate(6_000, 100),
        tokens: [rate(3_600_000, 10_000), rate(900_000, 10_000), rate(36_000, 10_000)],
        generated_p95: None,
        overloaded: None,
    }
}

/// A limit of a minute's burst, of which `chunk` is lent and nothing else taken.
fn rate(per_minute: u64, chunk: u64) -> RateStanding {
    let limit = Limit { per_minute, burst_seconds: 60 };
    let mut bucket = Bucket::EMPTY;
    bucket.charge(limit, chunk, NOW);
    RateStanding { limit, chunk, bucket: Some(bucket) }
}

/// As [`rate`], with nothing lent and `taken` tokens in the bucket.
fn taken(per_minute: u64, taken: u64) -> RateStanding {
    RateStanding { chunk: 0, ..rate(per_minute, taken) }
}
