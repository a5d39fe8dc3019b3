//! From an ask to what it may take, and what was learned of output.

use proptest::prelude::*;

use super::{MID_OCTOBER, SHIPPED, ask, demand, usd};
use crate::clock::UnixMs;
use crate::decision::estimate::Learned;
use crate::decision::{Ask, Invalid, Prompt, RateKey, Reason, ServiceTier};

#[test]
fn asks_that_cannot_be_meant_are_invalid() {
    let check = |ask: Ask<'_>, now, invalid| {
        let denial = SHIPPED.demand(&ask, now).unwrap_err();
        assert_eq!((denial.reason, denial.retry_after), (Reason::InvalidRequest, None));
        assert_eq!(denial.invalid, Some(invalid), "{ask:?}");
    };
    let context = 262_144;
    check(Ask { model: "gpt-2", ..ask() }, MID_OCTOBER, Invalid::UnknownModel);
    check(ask(), UnixMs(0), Invalid::NoPrice);
    check(Ask { model: "glm-5.3", service_tier: ServiceTier::Priority, ..ask() }, MID_OCTOBER, Invalid::NoSuchTier);
    check(Ask { n: 0, ..ask() }, MID_OCTOBER, Invalid::BadN);
    check(Ask { n: 129, ..ask() }, MID_OCTOBER, Invalid::BadN);
    check(Ask { prompt: Prompt::Tokens(context), ..ask() }, MID_OCTOBER, Invalid::AboveContext);
    check(Ask { prompt: Prompt::Tokens(u64::MAX), ..ask() }, MID_OCTOBER, Invalid::AboveContext);
    check(Ask { max_tokens: Some(0), ..ask() }, MID_OCTOBER, Invalid::BadMaxTokens);
    check(Ask { max_tokens: Some(context + 1), ..ask() }, MID_OCTOBER, Invalid::BadMaxTokens);
}

#[test]
fn a_demand_takes_at_most_what_the_model_can_give() {
    let check = |ask: Ask<'_>, prompt, uncached, out_max| {
        let demand = demand(ask);
        assert_eq!((demand.prompt, demand.uncached, demand.out_max), (prompt, uncached, out_max), "{ask:?}");
    };
    check(ask(), 1_000, 1_000, 1_000);
    check(Ask { n: 4, ..ask() }, 1_000, 1_000, 4_000);
    check(Ask { max_tokens: None, ..ask() }, 1_000, 1_000, 4_096);
    check(Ask { max_tokens: Some(262_144), ..ask() }, 1_000, 1_000, 65_536);
    check(Ask { prompt: Prompt::Tokens(262_143), ..ask() }, 262_143, 262_143, 1);
    check(Ask { cached_tokens_hint: Some(300), ..ask() }, 1_000, 700, 1_000);
    check(Ask { cached_tokens_hint: Some(u64::MAX), ..ask() }, 1_000, 0, 1_000);
    check(Ask { prompt: Prompt::Bytes(4_001), ..ask() }, 1_001, 1_001, 1_000);
    // A guess alone makes nothing invalid.
    check(Ask { prompt: Prompt::Bytes(u64::MAX), ..ask() }, 262_143, 262_143, 1);
}

#[test]
fn a_demand_costs_as_if_nothing_were_cached() {
    let hinted = demand(Ask { cached_tokens_hint: Some(1_000), n: 2, ..ask() });
    assert_eq!(hinted.cost, usd("0.033"));
    assert_eq!(hinted.cost_min(), usd("0.00303"));
    assert_eq!(hinted.dust(), usd("0.015"));
}

#[test]
fn a_price_is_in_force_from_its_instant_on() {
    let start = UnixMs(1_790_812_800_000); // 2026-10-01T00:00:00Z
    assert!(SHIPPED.demand(&ask(), start).is_ok());
    let before = SHIPPED.demand(&ask(), UnixMs(start.0 - 1)).unwrap_err();
    assert_eq!(before.invalid, Some(Invalid::NoPrice));
}

#[test]
fn service_tiers_choose_prices_and_buckets() {
    let check = |service_tier, fast: Option<bool>, cost| {
        let demand = demand(Ask { service_tier, ..ask() });
        let rate_key = fast.map(|fast| RateKey { model: demand.model, fast });
        assert_eq!((demand.rate_key, demand.cost), (rate_key, usd(cost)));
    };
    check(ServiceTier::Standard, Some(false), "0.018");
    check(ServiceTier::Priority, Some(false), "0.0225");
    check(ServiceTier::Fast, Some(true), "0.027");
    check(ServiceTier::Batch, None, "0.009");
    for tier in ServiceTier::ALL {
        assert_eq!(ServiceTier::from_name(tier.name()), Some(tier));
    }
}

#[test]
fn little_is_known_from_few_samples() {
    let learned = |samples: &[(u64, usize)]| {
        let mut learned = Learned::default();
        for (generated, times) in samples {
            (0..*times).for_each(|_| learned.observe(*generated));
        }
        learned.p95()
    };
    assert_eq!(learned(&[(100, 19)]), None);
    assert_eq!(learned(&[(100, 20)]), Some(127));
    assert_eq!(learned(&[(0, 20)]), Some(15));
    assert_eq!(learned(&[(15, 20)]), Some(15));
    assert_eq!(learned(&[(16, 20)]), Some(31));
    assert_eq!(learned(&[(100, 19), (5_000, 1)]), Some(127));
    assert_eq!(learned(&[(100, 18), (5_000, 2)]), Some(8_191));
    assert_eq!(learned(&[(65_535, 20)]), Some(65_535));
    assert_eq!(learned(&[(65_536, 20)]), None);
    assert_eq!(learned(&[(u64::MAX, 20)]), None);
    // It forgets: what was true thousands of requests ago no longer counts.
    assert_eq!(learned(&[(100, 10_000), (5_000, 200)]), Some(8_191));
    assert_eq!(learned(&[(5_000, 10_000), (100, 6_000)]), Some(127));
}

proptest! {
    #[test]
    fn what_was_learned_covers_95_of_100(samples in prop::collection::vec(0..60_000_u64, 20..250)) {
        let mut learned = Learned::default();
        samples.iter().for_each(|generated| learned.observe(*generated));
        let p95 = learned.p95().unwrap();
        let covered = samples.iter().filter(|generated| **generated <= p95).count();
        prop_assert!(covered * 100 >= samples.len() * 95);
        prop_assert!(samples.iter().any(|generated| *generated > p95 / 2) || p95 == 15);
    }
}
