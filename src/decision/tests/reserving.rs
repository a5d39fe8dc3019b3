//! What a reservation covers, and what it is worth in tokens.

use proptest::prelude::*;

use super::SHIPPED;
use crate::decision::reserved::{RESERVED_MAX, covered, uncovered_tokens};
use crate::decision::{Credit, RateKey, ServiceTier, Usage};

fn cents(cents: i64) -> Credit {
    Credit::from_nanos(cents * 10_000_000)
}

#[test]
fn what_exceeds_the_reservation_is_billed() {
    let model = SHIPPED.model(SHIPPED.model_id("kimi-k3").unwrap()).unwrap();
    let price = model.price(ServiceTier::Standard, crate::clock::UnixMs(u64::MAX)).unwrap();
    let cost = price.cost_rounded_up(Usage { prompt: 55_000, cached: 50_000, generated: 200 });
    assert_eq!(cost, Credit::from_nanos(33_000_000));
    assert_eq!(Credit::from_nanos(cost.nanos() * 300), cents(990));
    // A minute of $12 with $10 reserved, in one piece and in parts.
    assert_eq!(cents(1_200).minus(covered(cents(1_200), cents(1_000), Credit::ZERO)), cents(200));
    let mut used = Credit::ZERO;
    for _ in 0..1_200 {
        used = used.plus(covered(cents(1), cents(1_000), used));
    }
    assert_eq!(used, cents(1_000));
    // One that was lowered in the middle of the minute covers nothing more.
    assert_eq!(covered(cents(1), cents(100), cents(500)), Credit::ZERO);
}

#[test]
fn a_reservation_is_worth_what_its_cheapest_tokens_cost() {
    let key = |name, fast| RateKey { model: SHIPPED.model_id(name).unwrap(), fast };
    let kimi = SHIPPED.reserved_tokens(key("kimi-k3", false), cents(1_000));
    assert_eq!(kimi, [33_333_333, 3_333_333, 666_666]);
    let fast = SHIPPED.reserved_tokens(key("kimi-k3", true), cents(1_000));
    assert_eq!(fast, [22_222_222, 2_222_222, 444_444]);
    assert_eq!(SHIPPED.reserved_tokens(key("kimi-k3", false), Credit::ZERO), [0; 3]);
    // A model without fast prices has nothing to reserve there.
    assert_eq!(SHIPPED.reserved_tokens(key("gpt-oss-120b", true), cents(1_000)), [0; 3]);
}

proptest! {
    /// All of it counts where nothing is covered, none where everything is, and never less than the exact share.
    #[test]
    fn tokens_count_by_the_uncovered_share(
        tokens in 0..1_u64 << 50, priced in 1..RESERVED_MAX.nanos(), share in 0..=1_000_i64,
    ) {
        let priced = Credit::from_nanos(priced);
        prop_assert_eq!(uncovered_tokens(tokens, priced, Credit::ZERO), tokens);
        prop_assert_eq!(uncovered_tokens(tokens, priced, priced), 0);
        // Below 2^43 times 1,000 fits.
        let covered = Credit::from_nanos(priced.nanos() * share / 1_000);
        let counted = u128::from(uncovered_tokens(tokens, priced, covered));
        let whole_number = |credit: Credit| u128::from(credit.nanos().unsigned_abs());
        let (excess, whole) = (whole_number(priced.minus(covered)), whole_number(priced));
        let exact = (u128::from(tokens) * excess).div_ceil(whole);
        prop_assert!(exact <= counted && counted <= exact + u128::from(tokens) / 1_024 + 2, "{} {}", counted, exact);
        prop_assert!(counted <= u128::from(tokens));
    }
}
