//! Money and prices: exact, and rounded up once.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{MID_OCTOBER, SHIPPED, usd};
use crate::clock::UnixMs;
use crate::decision::credit::CreditError;
use crate::decision::price::{PriceError, pico_usd_for_a_token};
use crate::decision::{Credit, Month, Price, ServiceTier, Usage};

fn price_of(model: &str, service_tier: ServiceTier) -> Option<Price> {
    SHIPPED.model(SHIPPED.model_id(model)?)?.price(service_tier, MID_OCTOBER)
}

fn triple(text: &str) -> Option<Price> {
    let mut picos =
        text.split('/').map(|usd| pico_usd_for_a_token(Decimal::from_str_exact(usd.trim()).unwrap()).unwrap());
    (text != "-").then(|| Price {
        prompt: picos.next().unwrap(),
        cached: picos.next().unwrap(),
        generated: picos.next().unwrap(),
    })
}

#[test]
fn the_shipped_prices_are_the_published_ones() {
    let rows = [
        ("deepseek-v4.1-flash", "small", "0.30/0.006/1.20", "0.375/0.0075/1.50", "-"),
        ("glm-5.3-flash", "small", "0.15/0.03/0.50", "0.1875/0.0375/0.625", "-"),
        ("minimax-m3", "small", "0.30/0.06/1.20", "0.45/0.09/1.80", "-"),
        ("gpt-oss-120b", "small", "0.15/0.015/0.60", "0.18/0.018/0.72", "-"),
        ("nemotron-3.5-lightning", "small", "0.05/0.01/0.20", "0.0625/0.0125/0.25", "-"),
        ("glm-5.3", "medium", "1.40/0.26/4.40", "-", "2.10/0.39/6.60"),
        ("kimi-k3", "large", "3.00/0.30/15.00", "3.75/0.375/18.75", "4.50/0.45/22.50"),
        ("qwen-3.8-max", "large", "2.00/0.25/6.00", "3.00/0.375/9.00", "-"),
    ];
    assert_eq!(SHIPPED.models.len(), rows.len());
    for (name, size, standard, priority, fast) in rows {
        let model = SHIPPED.model(SHIPPED.model_id(name).unwrap()).unwrap();
        assert_eq!(&*SHIPPED.sizes[model.size].name, size, "{name}");
        let standard = triple(standard).unwrap();
        assert_eq!(price_of(name, ServiceTier::Standard), Some(standard), "{name}");
        assert_eq!(price_of(name, ServiceTier::Priority), triple(priority), "{name}");
        assert_eq!(price_of(name, ServiceTier::Fast), triple(fast), "{name}");
        let batch = price_of(name, ServiceTier::Batch).unwrap();
        let twice = Price { prompt: batch.prompt * 2, cached: batch.cached * 2, generated: batch.generated * 2 };
        assert_eq!(twice, standard, "{name}");
    }
}

#[test]
fn costs_are_the_worked_examples() {
    let kimi = price_of("kimi-k3", ServiceTier::Standard).unwrap();
    let usage = Usage { prompt: 55_000, cached: 50_000, generated: 200 };
    let cost = kimi.cost_rounded_up(usage);
    assert_eq!(cost, usd("0.033"));
    assert_eq!(Credit::from_nanos(cost.nanos() * 300), usd("9.90"));
}

#[test]
fn a_cost_is_rounded_up_once() {
    let price = Price { prompt: 1, cached: 1, generated: 1 };
    let check = |prompt, cached, generated, nanos| {
        assert_eq!(price.cost_rounded_up(Usage { prompt, cached, generated }), Credit::from_nanos(nanos));
    };
    check(0, 0, 0, 0);
    check(1, 0, 0, 1);
    check(1, 0, 999, 1);
    check(500, 400, 500, 1);
    check(500, 400, 501, 2);
    check(u64::MAX, 0, u64::MAX, 36_893_488_147_419_104);
    let dearest = Price { prompt: u64::MAX, cached: u64::MAX, generated: u64::MAX };
    let all = Usage { prompt: u64::MAX, cached: u64::MAX, generated: u64::MAX };
    assert_eq!(dearest.cost_rounded_up(all), Credit::MAX);
}

#[test]
fn prices_are_exact_or_refused() {
    let check =
        |text: &str, price| assert_eq!(pico_usd_for_a_token(Decimal::from_str_exact(text).unwrap()), price, "{text}");
    check("0.0075", Ok(7_500));
    check("0.000001", Ok(1));
    check("0.0000010", Ok(1));
    check("0.0000001", Err(PriceError::TooFine));
    check("1000000", Ok(1_000_000_000_000));
    check("1000000.000001", Err(PriceError::TooLarge));
    check("79228162514264337593543950335", Err(PriceError::TooLarge));
    check("-0.01", Err(PriceError::Negative));
    check("-0", Ok(0));
}

#[test]
fn credits_are_exact_or_refused() {
    let check =
        |text: &str, credit| assert_eq!(Credit::from_usd(Decimal::from_str_exact(text).unwrap()), credit, "{text}");
    check("0.000000001", Ok(Credit::from_nanos(1)));
    check("-12.50", Ok(Credit::from_nanos(-12_500_000_000)));
    check("1000000000", Ok(Credit::MAX));
    check("0.0000000001", Err(CreditError::TooFine));
    check("1000000000.000000001", Err(CreditError::TooLarge));
    check("-1000000000.000000001", Err(CreditError::TooLarge));
    check("79228162514264337593543950335", Err(CreditError::TooLarge));
    assert_eq!(usd("1").divided_by(3), Credit::from_nanos(333_333_333));
    assert_eq!(usd("1").divided_by(0), usd("1"));
    assert_eq!(["0.5", "-3", "12.345"].map(|text| usd(text).to_string()), ["$0.50", "-$3.00", "$12.345"]);
}

#[test]
fn months_are_of_the_utc_calendar() {
    let check = |unix_ms, month: &str| assert_eq!(Month::of(UnixMs(unix_ms)).to_string(), month);
    check(0, "1970-01");
    check(MID_OCTOBER.0, "2026-10");
    // The last millisecond of 2027, and the first of 2028.
    check(1_830_297_599_999, "2027-12");
    check(1_830_297_600_000, "2028-01");
    let leap = Month::from_yyyymm(202_802);
    assert_eq!(leap.end().0 - leap.start().0, 29 * 86_400_000);
    assert_eq!(Month::from_yyyymm(202_712).end(), UnixMs(1_830_297_600_000));
    assert_eq!(Month::from_yyyymm(202_712).next(), Month::from_yyyymm(202_801));
}

proptest! {
    #[test]
    fn a_decimal_survives_the_way_in_and_out(nanos in -Credit::MAX.nanos()..=Credit::MAX.nanos()) {
        let credit = Credit::from_nanos(nanos);
        prop_assert_eq!(Credit::from_usd(credit.usd()), Ok(credit));
    }

    #[test]
    fn a_month_holds_its_start_and_not_its_end(unix_ms in 0..4_000_000_000_000_u64) {
        let month = Month::of(UnixMs(unix_ms));
        prop_assert!(month.start().0 <= unix_ms && unix_ms < month.end().0);
        prop_assert_eq!(Month::of(month.end()), month.next());
    }

    #[test]
    fn more_tokens_or_dearer_ones_never_cost_less(
        price in prices(), usage in usages(), more in usages(), dearer in prices(),
    ) {
        let base = price.cost_rounded_up(usage);
        let cached_more = Usage { cached: (usage.cached + more.cached).min(usage.prompt), ..usage };
        let larger = Usage { prompt: usage.prompt + more.prompt, generated: usage.generated + more.generated, ..usage };
        prop_assert!(price.cost_rounded_up(larger) >= base);
        // A cached token is at most as dear as another, so more of them never cost more.
        prop_assert!(price.cost_rounded_up(cached_more) <= base);
        let dearer = Price {
            prompt: price.prompt + dearer.prompt,
            cached: price.cached + dearer.cached,
            generated: price.generated + dearer.generated,
        };
        prop_assert!(dearer.cost_rounded_up(usage) >= base);
    }

    #[test]
    fn what_is_affordable_fits_and_one_token_more_does_not(
        price in prices(), prompt in 0..1_000_000_u64, nanos in 0..1_000_000_000_000_i64,
    ) {
        let credit = Credit::from_nanos(nanos);
        let cost = |generated| price.cost_rounded_up(Usage { prompt, cached: 0, generated });
        match price.affordable_beside(prompt, credit) {
            None => prop_assert_eq!(price.generated, 0),
            Some(tokens) => {
                prop_assert!(tokens == 0 || cost(tokens) <= credit);
                prop_assert!(cost(tokens + 1) > credit);
            }
        }
        prop_assert_eq!(price.affordable_generated(credit), price.affordable_beside(0, credit));
    }
}

fn prices() -> impl Strategy<Value = Price> {
    (0..50_000_000_u64, 0..50_000_000_u64, 0..50_000_000_u64).prop_map(|(a, b, generated)| Price {
        prompt: a.max(b),
        cached: a.min(b),
        generated,
    })
}

fn usages() -> impl Strategy<Value = Usage> {
    (0..10_000_000_u64, 0..10_000_000_u64, 0..10_000_000_u64).prop_map(|(a, b, generated)| Usage {
        prompt: a.max(b),
        cached: a.min(b),
        generated,
    })
}
