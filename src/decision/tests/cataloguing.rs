//! The catalogue: its faults, all at once, and what it says of tiers and limits.

use proptest::prelude::*;

use super::{SHIPPED, usd};
use crate::decision::catalogue::{Controller, FIREWORKS_2026_10, GeneratedHold};
use crate::decision::terms::{Mode, Terms, Tier};
use crate::decision::{Catalogue, Credit};

/// The paths and messages of all faults, a line each, after `what` was replaced wherever it stands.
fn faults(what: &str, by: &str) -> String {
    let text = FIREWORKS_2026_10.replace(what, by);
    assert_ne!(text, FIREWORKS_2026_10, "{what:?} is not in the catalogue");
    Catalogue::parse(&text).map_or_else(|faults| faults.to_string(), |_| String::new())
}

#[test]
fn each_fault_is_named_with_its_path() {
    let check = |what: &str, by: &str, path: &str, words: &str| {
        let faults = faults(what, by);
        let is_named = faults.lines().any(|line| line.starts_with(&format!("{path}: ")) && line.contains(words));
        assert!(is_named, "{path}: …{words}… for {by:?}\n{faults}");
    };
    check("n_max = 128", "n_max = 128\nn_min = 1", "admission.n_min", "is not known here");
    check("n_max = 128", "n_max = 0", "admission.n_max", "from 1 to");
    check("n_max = 128", "n_max = \"128\"", "admission.n_max", "whole number");
    check("dust_tokens = 1_000", "", "admission.dust_tokens", "is missing");
    check("\"reserve_p95\"\n\n", "\"p95\"\n\n", "admission.generated_hold", "reserve_p95");
    check("\"1.00\"\n\n#", "\"-1.00\"\n\n#", "starter_credit", "is negative");
    check("\"1.00\"\n\n#", "1.00\n\n#", "starter_credit", "in quotes");
    check("\"1.00\"\n\n#", "\"0.0000000001\"\n\n#", "starter_credit", "decimal places");
    check("needs_paid = \"5000\"", "needs_paid = \"400\"", "tier[4].needs_paid", "less than a lower tier");
    check("\noperator_only = true\n", "\n", "tier[5].needs_paid", "is missing");
    check(
        "\noperator_only = true\n",
        "\noperator_only = true\nneeds_paid = \"1\"\n",
        "tier[5].needs_paid",
        "contradicts",
    );
    check("\nno_ceiling = true\n", "\nceiling_percent = 101\n", "tier[5].ceiling_percent", "0 to 100");
    check("[[tier]]\nname = \"4\"", "[[tier]]\nname = \"five\"", "tier[4].name", "\"five\"");
    check("[[tier]]\nname = \"none\"\nneeds_paid = \"0\"\nneeds_billing = false", "[[other]]", "tier", "5 tiers");
    check("start = {", "begin = {", "rates.start", "is missing");
    check("floor = {", "flor = {", "rates.flor", "is not known here");
    check("generated = 9_000", "generated = 36_001", "rates.floor", "above the start");
    check("kind = \"adaptive\"", "kind = \"fixed\"", "rates.controller.history", "is not known here");
    check("kind = \"adaptive\"", "kind = \"adaptiv\"", "rates.controller.kind", "adaptive, fixed");
    check("history = \"72h\"", "history = \"72\"", "rates.controller.history", "duration");
    check("history_bin = \"15m\"", "history_bin = \"1m\"", "rates.controller.history_bin", "4320 bins");
    check("history_bin = \"15m\"", "history_bin = \"90s\"", "rates.controller.history_bin", "minutes");
    check("name = \"medium\"", "name = \"small\"", "size[1].name", "used before");
    check("below_billion = 1_600", "below_billion = 600", "size[1].parameters_below_billion", "overlaps");
    check("below_billion = 1_600", "below_billion = 300", "size[1].parameters_below_billion", "small to large");
    check("parameters_below_billion = 1_600\n", "", "size[1].parameters_below_billion", "is missing");
    check(
        "name = \"large\"",
        "name = \"large\"\nparameters_below_billion = 9_000",
        "size[2].parameters_below_billion",
        "bounds the last",
    );
    check(
        "ceiling = { prompt = 21_600_000, uncached = 5_400_000, generated = 216_000 }",
        "",
        "size[2].ceiling",
        "is missing",
    );
    check("size = \"medium\"", "size = \"huge\"", "model[5].size", "small, medium, large");
    check("name = \"glm-5.3\"", "name = \"kimi-k3\"", "model[6].name", "used before");
    check("name = \"glm-5.3\"", "name = \"glm:fast\"", "model[5].name", "fast limits");
    check(
        "output_tokens_default = 4_096",
        "output_tokens_default = 100_000",
        "model[0].output_tokens_default",
        "above",
    );
    check("context_tokens = 163_840", "context_tokens = 16_384", "model[0].output_tokens_max", "above");
    check("bytes_per_token = \"4\"", "bytes_per_token = \"0\"", "model[7].bytes_per_token", "0.1 to 100");
    check("\"2026-10-01T00:00:00Z\"", "\"2026-10-01\"", "model[0].price[0].effective_at", "instant");
    check("generated = \"22.50\"", "generated = \"-22.50\"", "model[6].price[0].fast.generated", "is negative");
    check("generated = \"22.50\"", "generated = \"0\"", "model[6].price[0].fast.generated", "free = true");
    check("generated = \"22.50\"", "generated = 22.5", "model[6].price[0].fast.generated", "in quotes");
    check("cached = \"0.45\"", "cached = \"4.51\"", "model[6].price[0].fast.cached", "above prompt");
    check("generated = \"7.50\"", "generated = \"75\"", "model[6].price[0].batch", "dearer");
    check("[[model.price]]", "[[model.prices]]", "model[3].price", "is missing");
    check("[requests]", "[requests", "line 63", "correct the TOML");
    check("[[model]]", "[[modell]]", "model", "double square brackets");
    check("[[size]]", "[[sizes]]", "size", "is missing");
}

#[test]
fn all_faults_are_named_at_once() {
    let faults = faults("standard = {", "standart = {");
    assert_eq!(faults.lines().count(), SHIPPED.models.len(), "{faults}");
    let empty = Catalogue::parse("").unwrap_err();
    let missing: Vec<&str> = empty.0.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(missing, ["name", "starter_credit", "tier", "requests", "rates", "size", "admission", "lease", "model"]);
}

#[test]
fn a_free_price_and_a_new_price_are_taken() {
    let free = "fast = { prompt = \"0\", cached = \"0\", generated = \"0\", free = true }";
    assert_eq!(faults("fast = { prompt = \"4.50\", cached = \"0.45\", generated = \"22.50\" }", free), "");
    let later = "\n[[model.price]]\neffective_at = 2027-01-01T00:00:00Z\n\
        standard = { prompt = \"1\", cached = \"1\", generated = \"1\" }";
    let order = format!("batch = {{ prompt = \"1.00\", cached = \"0.125\", generated = \"3.00\" }}{later}");
    assert_eq!(faults("batch = { prompt = \"1.00\", cached = \"0.125\", generated = \"3.00\" }", &order), "");
    let again = format!("{order}{later}");
    assert!(
        faults("batch = { prompt = \"1.00\", cached = \"0.125\", generated = \"3.00\" }", &again).contains("not after")
    );
}

#[test]
fn the_shipped_numbers_are_the_published_ones() {
    assert_eq!(SHIPPED.starter_credit, usd("1"));
    assert_eq!(SHIPPED.rates.start, [3_600_000, 900_000, 36_000]);
    assert_eq!(SHIPPED.rates.floor, SHIPPED.rates.start.map(|start| start / 4));
    let ceilings =
        [[216_000_000, 54_000_000, 2_160_000], [43_200_000, 10_800_000, 432_000], [21_600_000, 5_400_000, 216_000]];
    assert_eq!(SHIPPED.sizes.iter().map(|size| size.ceiling).collect::<Vec<_>>(), ceilings);
    assert_eq!(
        SHIPPED.sizes.iter().map(|size| size.parameters_below_billion).collect::<Vec<_>>(),
        [Some(600), Some(1_600), None]
    );
    assert_eq!((SHIPPED.admission.dust_tokens, SHIPPED.admission.generated_hold), (1_000, GeneratedHold::ReserveP95));
    assert_eq!((SHIPPED.lease.max, SHIPPED.lease.max_percent), (usd("5"), 10));
    assert!(matches!(SHIPPED.rates.controller, Controller::Adaptive(_)));
}

#[test]
fn tiers_follow_what_was_paid() {
    let check = |paid, billing: (bool, bool), tier| {
        let terms = Terms { payment_method: billing.0, billing_profile: billing.1, ..Terms::default() };
        assert_eq!(SHIPPED.tier(&terms, usd(paid)), tier, "{paid} {billing:?}");
        let chosen = Terms { tier_override: Some(Tier::Unlimited), ..terms };
        assert_eq!(SHIPPED.tier(&chosen, usd(paid)), Tier::Unlimited);
    };
    check("0", (false, false), Tier::None);
    check("49.99", (true, false), Tier::None);
    check("0", (true, true), Tier::One);
    check("49.999999999", (true, true), Tier::One);
    check("50", (true, true), Tier::Two);
    check("500", (false, false), Tier::Three);
    check("5000", (true, true), Tier::Four);
    check("1000000", (true, true), Tier::Four);
}

#[test]
fn monthly_limits_follow_mode_and_tier() {
    let check = |mode, own: Option<&str>, tier, limit: Option<&str>| {
        let terms = Terms { mode, monthly_limit: own.map(usd), ..Terms::default() };
        assert_eq!(SHIPPED.monthly_limit(&terms, tier), limit.map(usd), "{mode:?} {own:?} {tier:?}");
    };
    check(Mode::Prepaid, None, Tier::One, None);
    check(Mode::Prepaid, Some("700"), Tier::One, Some("700"));
    check(Mode::Postpaid, None, Tier::One, Some("50"));
    check(Mode::Postpaid, Some("20"), Tier::One, Some("20"));
    check(Mode::Postpaid, Some("700"), Tier::One, Some("50"));
    check(Mode::Postpaid, Some("700"), Tier::Two, Some("500"));
    check(Mode::Postpaid, None, Tier::Unlimited, None);
    check(Mode::Postpaid, Some("700"), Tier::Unlimited, Some("700"));
    check(Mode::Contract, Some("700"), Tier::Four, None);
}

#[test]
fn ceilings_follow_size_and_tier() {
    let check = |model, tier, ceiling: Option<[u64; 3]>| {
        assert_eq!(SHIPPED.ceiling(SHIPPED.model_id(model).unwrap(), tier), ceiling, "{model} {tier:?}");
    };
    check("gpt-oss-120b", Tier::None, Some([3_600_000, 900_000, 36_000]));
    check("gpt-oss-120b", Tier::One, Some([54_000_000, 13_500_000, 540_000]));
    check("gpt-oss-120b", Tier::Two, Some([108_000_000, 27_000_000, 1_080_000]));
    check("gpt-oss-120b", Tier::Four, Some([216_000_000, 54_000_000, 2_160_000]));
    check("kimi-k3", Tier::One, Some([5_400_000, 1_350_000, 54_000]));
    check("kimi-k3", Tier::Unlimited, None);
}

#[test]
fn requests_are_few_without_payment_or_credits() {
    let check = |payment_method, has_credits, per_minute| {
        let terms = Terms { payment_method, ..Terms::default() };
        assert_eq!(SHIPPED.requests_limit(&terms, has_credits).per_minute, per_minute);
    };
    check(true, true, 6_000);
    check(true, false, 10);
    check(false, true, 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Lines lost, doubled, swapped and overwritten: a catalogue or its faults, never a panic.
    #[test]
    fn no_text_makes_parsing_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8), 1..6),
        junk in "[\\[\\]{}=\"a-z0-9_. \\-\n]{0,40}",
    ) {
        let mut lines: Vec<&str> = FIREWORKS_2026_10.lines().collect();
        for (one, other, kind) in edits {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            match kind {
                0 => { lines.remove(one); }
                1 => lines.insert(one, lines[other]),
                2 => lines.swap(one, other),
                3 => lines[one] = &junk,
                _ => lines[one] = lines[one].split_at_checked(other % 30).map_or("", |(head, _)| head),
            }
        }
        let text = lines.join("\n");
        match Catalogue::parse(&text) {
            Ok(catalogue) => prop_assert!(catalogue.starter_credit >= Credit::ZERO),
            Err(faults) => {
                prop_assert!(!faults.0.is_empty());
                prop_assert!(faults.0.iter().all(|fault| !fault.path.is_empty() && !fault.message.is_empty()));
            }
        }
    }

    #[test]
    fn no_number_makes_parsing_panic(number: i64, decimal in "-?[0-9]{0,30}(\\.[0-9]{0,30})?") {
        let text = FIREWORKS_2026_10
            .replace("= 1_000 ", &format!("= {number} "))
            .replace("262_144", &number.to_string())
            .replace("72h", &format!("{number}h"))
            .replace("22.50", &decimal)
            .replace("\"4\"", &format!("\"{decimal}\""));
        let faults = Catalogue::parse(&text).map_or_else(|faults| faults.0.len(), |_| 0);
        prop_assert!(faults < 100);
    }
}
