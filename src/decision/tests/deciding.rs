//! Each reason of the law's table, its numbers, its wait and what goes before it.

use std::time::Duration;

use super::{NOW, ask, demand, healthy, rate, taken, usd};
use crate::decision::catalogue::GeneratedHold;
use crate::decision::standing::{RateStanding, UserStanding};
use crate::decision::terms::Suspension;
use crate::decision::users::{CapSource, UserCaps, UserGroup};
use crate::decision::{
    Amounts, Ask, Charge, Credit, Decision, Demand, Denial, Month, Price, Prompt, Reason, ServiceTier, Short, Standing,
    decide,
};

fn decided(ask: Ask<'_>, change: impl FnOnce(&mut Standing)) -> Decision {
    let mut standing = healthy();
    change(&mut standing);
    decide(&demand(ask), &standing, GeneratedHold::ReserveP95, NOW)
}

fn denied(ask: Ask<'_>, change: impl FnOnce(&mut Standing)) -> Denial {
    match decided(ask, change) {
        Decision::Deny(denial) => denial,
        other @ (Decision::Admit(_) | Decision::Short(_)) => panic!("not denied: {other:?}"),
    }
}

fn admitted(ask: Ask<'_>, change: impl FnOnce(&mut Standing)) -> Charge {
    match decided(ask, change) {
        Decision::Admit(charge) => charge,
        other @ (Decision::Deny(_) | Decision::Short(_)) => panic!("not admitted: {other:?}"),
    }
}

fn capped() -> Ask<'static> {
    Ask { capped: true, ..ask() }
}

/// No rights, and the pool was asked already.
fn broke(standing: &mut Standing, balance: &str) {
    standing.money.rights = Credit::ZERO;
    standing.money.balance = usd(balance);
}

#[test]
fn what_fits_is_admitted_whole() {
    let whole =
        Charge { cost: usd("0.018"), requests: 1, tokens: [1_000; 3], out_max: 1_000, capped: false, shadow: None };
    assert_eq!(admitted(ask(), |_| {}), whole);
    assert_eq!(admitted(ask(), |s| s.money.rights = usd("0.018")), whole);
    assert_eq!(admitted(ask(), |s| s.month.limit = Some(usd("0.018"))), whole);
    let for_two = admitted(Ask { n: 2, cached_tokens_hint: Some(400), ..ask() }, |_| {});
    assert_eq!((for_two.requests, for_two.tokens, for_two.cost), (2, [1_000, 600, 2_000], usd("0.033")));
    // A remainder that counts as nothing still pays for what it covers.
    let small = Ask { prompt: Prompt::Tokens(100), max_tokens: Some(100), ..ask() };
    assert_eq!(admitted(small, |s| s.month.limit = Some(usd("0.0018"))).cost, usd("0.0018"));
    let batch = admitted(Ask { service_tier: ServiceTier::Batch, ..ask() }, |s| s.tokens = [taken(1, 100); 3]);
    assert_eq!((batch.tokens, batch.cost), ([0; 3], usd("0.009")));
}

#[test]
fn each_reason_has_its_cause() {
    let check = |reason, retry_seconds: Option<u64>, change: fn(&mut Standing)| {
        let denial = denied(ask(), change);
        assert_eq!((denial.reason, denial.retry_after), (reason, retry_seconds.map(Duration::from_secs)));
    };
    check(Reason::AbuseBlock, None, |s| s.suspension = Suspension::Abuse);
    check(Reason::FailedPayments, None, |s| s.suspension = Suspension::FailedPayments);
    check(Reason::StarterExhausted, None, |s| {
        broke(s, "0");
        (s.payment_method, s.money.purchased) = (false, false);
    });
    // Below the price of 1,000 generated tokens, what is left counts as nothing.
    check(Reason::StarterExhausted, None, |s| {
        broke(s, "0.014");
        (s.payment_method, s.money.purchased, s.money.promotional_gone) = (false, false, false);
    });
    check(Reason::CreditsDepleted, None, |s| {
        broke(s, "0");
        s.payment_method = false;
    });
    check(Reason::MonthlyLimit, None, |s| s.month.limit = Some(Credit::ZERO));
    check(Reason::MonthlyLimit, None, |s| (s.month.limit, s.month.spent) = (Some(usd("50")), usd("49.986")));
    check(Reason::ExceedsMonthRoom, None, |s| (s.month.limit, s.month.spent) = (Some(usd("50")), usd("49.983")));
    check(Reason::CreditsDepleted, None, |s| broke(s, "0"));
    check(Reason::CreditsDepleted, None, |s| broke(s, "-3"));
    check(Reason::CreditsDepleted, None, |s| broke(s, "0.014"));
    check(Reason::ExceedsBalance, None, |s| broke(s, "0.017"));
    check(Reason::TopUpPending, Some(5), |s| {
        broke(s, "0.017");
        s.money.topup_pending = Some(Duration::ZERO);
    });
    check(Reason::TopUpPending, Some(60), |s| {
        broke(s, "-1");
        s.money.topup_pending = Some(Duration::from_secs(600));
    });
    // A credit line is money.
    check(Reason::InFlight, Some(5), |s| {
        broke(s, "-10");
        s.money.credit_line = usd("20");
    });
    check(Reason::InFlight, Some(5), |s| broke(s, "0.018"));
    check(Reason::InFlight, Some(1), |s| {
        broke(s, "1");
        s.money.held = usd("0.018");
    });
    check(Reason::RequestsPerMinute, Some(1), |s| s.requests = taken(60, 60));
    check(Reason::PromptTokensPerMinute, Some(6), |s| s.tokens[0] = taken(10_000, 10_000));
    check(Reason::UncachedPromptTokensPerMinute, Some(6), |s| s.tokens[1] = taken(10_000, 10_000));
    check(Reason::GeneratedTokensPerMinute, Some(6), |s| s.tokens[2] = taken(10_000, 10_000));
    check(Reason::ExceedsLimit, None, |s| s.tokens[0] = taken(999, 0));
    check(Reason::Overloaded, Some(1), |s| s.overloaded = Some(Duration::ZERO));
    check(Reason::Overloaded, Some(5), |s| s.overloaded = Some(Duration::from_secs(50)));
}

#[test]
fn a_users_cap_is_the_override_else_the_highest_group_else_the_default() {
    let check =
        |over_ride: Option<&str>, groups: &[&str], default: Option<&str>, cap: Option<(&str, CapSource<'_>)>| {
            let mut caps = UserCaps { default: default.map(usd), ..UserCaps::default() };
            caps.overrides.extend(over_ride.map(|cap| ("alice".into(), usd(cap))));
            for (name, cap) in ["a", "b", "c"].iter().zip(groups) {
                let members = ["alice".into(), "zoe".into()].into();
                caps.groups.insert((*name).into(), UserGroup { cap: usd(cap), members });
            }
            caps.overrides.insert("bob".into(), usd("1000"));
            caps.groups.insert("others".into(), UserGroup { cap: usd("1000"), members: ["bob".into()].into() });
            let cap = cap.map(|(cap, source)| (usd(cap), source));
            assert_eq!(caps.with_source("alice"), cap);
            assert_eq!(caps.in_force("alice"), cap.map(|(cap, _)| cap));
        };
    check(Some("0"), &["5", "9"], Some("20"), Some(("0", CapSource::Override)));
    check(None, &["5", "9"], Some("20"), Some(("9", CapSource::Group("b"))));
    check(None, &["5", "9", "9"], None, Some(("9", CapSource::Group("b"))));
    check(None, &["0"], Some("20"), Some(("0", CapSource::Group("a"))));
    check(None, &[], Some("20"), Some(("20", CapSource::Default)));
    check(None, &[], None, None);
}

#[test]
fn a_user_spends_no_more_than_the_cap_and_what_was_lent_of_it() {
    let decide = |cap, spent, rights, pool_may_help| {
        let user =
            UserStanding { cap: usd(cap), spent: usd(spent), held: usd("0.1"), rights: usd(rights), pool_may_help };
        decided(ask(), |s| s.user = Some(user))
    };
    assert!(matches!(decide("1", "0", "0.018", true), Decision::Admit(_)));
    let short = Short { user: usd("0.018"), ..Short::default() };
    assert_eq!(decide("1", "0", "0.017", true), Decision::Short(short));
    let user = |cap, spent, rights| {
        let decision = decide(cap, spent, rights, false);
        if let Decision::Deny(denial) = decision { Some((denial.reason, denial.affordable_max_tokens)) } else { None }
    };
    assert_eq!(user("0", "0", "9"), Some((Reason::UserLimit, None)));
    assert_eq!(user("1", "0.983", "9"), Some((Reason::UserLimit, Some(933))));
    assert_eq!(user("1", "0.982", "9"), None);
    assert_eq!(user("1", "0.5", "0.017"), Some((Reason::InFlight, None)));
}

#[test]
fn a_used_up_cap_pauses_free_models_too_and_an_empty_balance_does_not() {
    let nothing = Credit::ZERO;
    let free = Demand { price: Price::default(), cost: nothing, ..demand(ask()) };
    let mut standing = healthy();
    broke(&mut standing, "-1");
    assert!(matches!(decide(&free, &standing, GeneratedHold::ReserveP95, NOW), Decision::Admit(_)));
    standing.user =
        Some(UserStanding { cap: nothing, spent: nothing, held: nothing, rights: nothing, pool_may_help: true });
    let Decision::Deny(denial) = decide(&free, &standing, GeneratedHold::ReserveP95, NOW) else { panic!() };
    assert_eq!(denial.reason, Reason::UserLimit);
}

#[test]
fn denials_carry_their_numbers() {
    let money =
        |limit, used, requested| Amounts::Money { limit: usd(limit), used: usd(used), requested: usd(requested) };
    let month = denied(ask(), |s| (s.month.limit, s.month.spent) = (Some(usd("50")), usd("49.983")));
    assert_eq!(month.amounts, money("50", "49.983", "0.018"));
    assert_eq!((month.affordable_max_tokens, month.resets_after), (Some(933), Some(Month::from_yyyymm(202_610))));
    let balance = denied(ask(), |s| broke(s, "0.017"));
    assert_eq!(balance.amounts, money("0.017", "0", "0.018"));
    assert_eq!((balance.affordable_max_tokens, balance.resets_after), (Some(933), None));
    // Two completions share what is affordable.
    assert_eq!(denied(Ask { n: 2, ..ask() }, |s| broke(s, "0.018")).affordable_max_tokens, Some(500));
    // Where the prompt alone is too much, no number of tokens helps.
    let long = Ask { prompt: Prompt::Tokens(100_000), ..ask() };
    assert_eq!(denied(long, |s| broke(s, "0.1")).affordable_max_tokens, None);
    let wait = denied(ask(), |s| s.tokens[2] = taken(10_000, 9_500));
    let limit = taken(10_000, 0).limit;
    assert_eq!(wait.amounts, Amounts::Rate { limit, used: 9_500, requested: 1_000 });
}

#[test]
fn a_need_above_the_capacity_names_its_bucket_and_helps_where_it_can() {
    let check = |bucket, affordable, change: fn(&mut Standing)| {
        let denial = denied(ask(), change);
        assert_eq!(
            (denial.reason, denial.bucket, denial.affordable_max_tokens),
            (Reason::ExceedsLimit, Some(bucket), affordable)
        );
    };
    check(Reason::RequestsPerMinute, None, |s| s.requests = taken(0, 0));
    check(Reason::UncachedPromptTokensPerMinute, None, |s| s.tokens[1] = taken(999, 0));
    check(Reason::GeneratedTokensPerMinute, Some(999), |s| s.tokens[2] = taken(999, 0));
    check(Reason::PromptTokensPerMinute, None, |s| s.tokens = [taken(999, 0); 3]);
}

#[test]
fn an_idle_key_is_not_denied_by_an_estimate_alone() {
    let guessed = Ask { prompt: Prompt::Bytes(4_000), max_tokens: None, ..ask() };
    let tight = |s: &mut Standing| s.tokens = [rate(999, 999), rate(998, 998), rate(997, 997)];
    assert_eq!(admitted(guessed, tight).tokens, [999, 998, 997]);
    // What was asked for in so many words is no estimate, unless experience says that it is never used up.
    let asked = Ask { max_tokens: Some(4_096), ..guessed };
    assert_eq!(denied(asked, tight).bucket, Some(Reason::GeneratedTokensPerMinute));
    let learned = |p95| {
        move |s: &mut Standing| {
            tight(s);
            s.generated_p95 = Some(p95);
        }
    };
    assert_eq!(admitted(asked, learned(63)).tokens, [999, 998, 63]);
    assert_eq!(admitted(asked, learned(2_047)).tokens, [999, 998, 997]);
    assert_eq!(denied(asked, learned(8_191)).bucket, Some(Reason::GeneratedTokensPerMinute));
    // Before the pool was heard, a guess asks for no more than a new bucket holds.
    let unheard = |s: &mut Standing| s.tokens[2] = RateStanding { bucket: None, ..rate(900, 0) };
    let asked_for = Short { tokens: [0, 0, 900], ..Short::default() };
    assert_eq!(decided(guessed, unheard), Decision::Short(asked_for));
    // A limit of zero is meant.
    assert_eq!(denied(guessed, |s| s.tokens[0] = taken(0, 0)).bucket, Some(Reason::PromptTokensPerMinute));
}

#[test]
fn the_generated_rate_is_charged_as_the_catalogue_says() {
    let check = |hold, p95, charged| {
        let standing = Standing { generated_p95: p95, ..healthy() };
        let Decision::Admit(charge) = decide(&demand(ask()), &standing, hold, NOW) else { panic!() };
        assert_eq!(charge.tokens[2], charged, "{hold:?}");
    };
    check(GeneratedHold::ReserveMax, Some(63), 1_000);
    check(GeneratedHold::ReserveP95, Some(63), 63);
    check(GeneratedHold::ReserveP95, Some(2_047), 1_000);
    check(GeneratedHold::ReserveP95, None, 1_000);
    check(GeneratedHold::Actual, Some(63), 0);
    // Charged as produced: who produced too much waits all the same.
    let mut standing = healthy();
    standing.tokens[2] = taken(600, 700);
    let Decision::Deny(denial) = decide(&demand(ask()), &standing, GeneratedHold::Actual, NOW) else { panic!() };
    assert_eq!(denial.retry_after, Some(Duration::from_millis(10_100)));
}

#[test]
fn the_pool_is_asked_for_all_shortages_at_once() {
    let unheard = |s: &mut Standing| {
        s.money.rights = Credit::ZERO;
        s.money.pool_may_help = true;
        s.requests = Default::default();
        s.tokens = Default::default();
    };
    let all = Short { need: usd("0.018"), user: Credit::ZERO, requests: 1, tokens: [1_000; 3] };
    assert_eq!(decided(ask(), unheard), Decision::Short(all));
    // The pool has room: a chunk is asked for, in full.
    let room = Short { tokens: [0, 0, 1_000], ..Short::default() };
    assert_eq!(decided(ask(), |s| s.tokens[2] = rate(36_000, 400)), Decision::Short(room));
    assert_eq!(
        admitted(ask(), |s| s.tokens[2] = rate(36_000, 1_000)).tokens,
        [1_000; 3],
        "a chunk that suffices needs no pool"
    );
}

#[test]
fn the_pool_is_not_asked_where_it_cannot_help() {
    let short = |s: &mut Standing| (s.money.rights, s.money.pool_may_help) = (Credit::ZERO, true);
    let check = |reason, change: fn(&mut Standing)| {
        let denial = denied(ask(), |s| {
            short(s);
            change(s);
        });
        assert_eq!(denial.reason, reason);
    };
    check(Reason::MonthlyLimit, |s| s.month.limit = Some(Credit::ZERO));
    // Neither a bucket that is too small nor a wait for tokens needs the pool, but a lack of credit may hide behind it.
    let too_small = |s: &mut Standing| s.tokens[0] = taken(1, 0);
    let waiting = |s: &mut Standing| s.tokens[0] = taken(1_000, 1);
    for change in [too_small, waiting] {
        let decision = decided(ask(), |s| {
            short(s);
            s.requests = RateStanding::default();
            change(s);
        });
        assert_eq!(decision, Decision::Short(Short { need: usd("0.018"), ..Short::default() }));
    }
    let first = |change: fn(&mut Standing)| denied(ask(), change).reason;
    assert_eq!(
        first(|s| (s.tokens[0], s.money.balance, s.money.rights) = (taken(1, 0), usd("0"), usd("0"))),
        Reason::CreditsDepleted
    );
    assert_eq!(first(|s| s.tokens[0] = taken(1, 0)), Reason::ExceedsLimit);
    let known = denied(ask(), |s| {
        waiting(s);
        s.tokens[2] = rate(36_000, 0);
    });
    assert_eq!(known.reason, Reason::PromptTokensPerMinute);
}

#[test]
fn a_capped_ask_takes_what_is_affordable() {
    let check = |out_max, change: fn(&mut Standing)| {
        let charge = admitted(capped(), change);
        assert_eq!((charge.out_max, charge.capped), (out_max, out_max < 1_000));
    };
    check(1_000, |_| {});
    check(933, |s| (s.month.limit, s.month.spent) = (Some(usd("50")), usd("49.983")));
    check(933, |s| (s.money.rights, s.money.balance) = (usd("0.017"), usd("0.017")));
    check(1, |s| s.money.rights = usd("0.003015"));
    assert_eq!(denied(capped(), |s| s.money.rights = usd("0.003014")).reason, Reason::InFlight);
    // Crumbs are not shared out.
    assert_eq!(denied(capped(), |s| broke(s, "0.0149")).reason, Reason::CreditsDepleted);
    assert_eq!(denied(capped(), |s| s.month.limit = Some(usd("0.0149"))).reason, Reason::MonthlyLimit);
    let long = Ask { prompt: Prompt::Tokens(100_000), ..capped() };
    assert_eq!(denied(long, |s| broke(s, "0.1")).reason, Reason::ExceedsBalance);
    assert_eq!(denied(long, |s| s.month.limit = Some(usd("0.1"))).reason, Reason::ExceedsMonthRoom);
}

#[test]
fn a_capped_ask_asks_the_pool_for_what_there_is() {
    let check = |balance: &str, rights: &str, need: Option<&str>| {
        let decision = decided(capped(), |s| {
            (s.money.balance, s.money.rights, s.money.pool_may_help) = (usd(balance), usd(rights), true);
        });
        let asked = if let Decision::Short(short) = decision { Some(short.need) } else { None };
        assert_eq!(asked, need.map(usd), "{balance} {rights}");
    };
    check("20", "0", Some("0.018"));
    check("20", "0.017", Some("0.018"));
    check("0.0165", "0", Some("0.0165"));
    check("0.0165", "0.004", Some("0.0165"));
    check("0.0165", "0.0165", None);
    let Decision::Short(beside_held) = decided(capped(), |s| {
        broke(s, "0.0265");
        (s.money.held, s.money.pool_may_help) = (usd("0.01"), true);
    }) else {
        panic!()
    };
    assert_eq!(beside_held.need, usd("0.0165"));
}

#[test]
fn a_shadow_account_is_never_denied_and_never_charged_for_it() {
    let shadowed = admitted(ask(), |s| {
        s.shadow = true;
        s.suspension = Suspension::Abuse;
        broke(s, "0");
    });
    let nothing = Charge {
        cost: Credit::ZERO,
        requests: 0,
        tokens: [0; 3],
        out_max: 1_000,
        capped: false,
        shadow: Some(Reason::AbuseBlock),
    };
    assert_eq!(shadowed, nothing);
    assert_eq!(admitted(ask(), |s| s.shadow = true).shadow, None);
    let short = decided(ask(), |s| (s.shadow, s.money.rights, s.money.pool_may_help) = (true, Credit::ZERO, true));
    assert!(matches!(short, Decision::Short(_)));
}
