//! What holds of every decision: order of reasons, exact waits, nothing changed by a denial, capping to the last token.

use std::time::Duration;

use proptest::prelude::*;

use super::{NOW, ask, demand, healthy, rate};
use crate::clock::Time;
use crate::decision::catalogue::GeneratedHold;
use crate::decision::explain::{Says, explain};
use crate::decision::rate::{Bucket, Limit};
use crate::decision::standing::{RateStanding, UserStanding};
use crate::decision::terms::Suspension;
use crate::decision::{Ask, Credit, Decision, Demand, Denial, Prompt, Reason, Standing, Usage, decide};

const HOLD: GeneratedHold = GeneratedHold::ReserveP95;

type Spoil = fn(&mut Standing);
type SpoilFor = fn(&mut Standing, u64);

/// A user who may spend nothing.
const NO_CAP_LEFT: UserStanding = UserStanding {
    cap: Credit::ZERO,
    spent: Credit::ZERO,
    held: Credit::ZERO,
    rights: Credit::ZERO,
    pool_may_help: false,
};

/// One thing that is wrong with a standing, in the order of the reasons it leads to.
const PERMANENT: [(Reason, Spoil); 6] = [
    (Reason::AbuseBlock, |s| s.suspension = Suspension::Abuse),
    (Reason::FailedPayments, |s| s.suspension = Suspension::FailedPayments),
    (Reason::MonthlyLimit, |s| s.month.limit = Some(Credit::ZERO)),
    (Reason::UserLimit, |s| s.user = Some(NO_CAP_LEFT)),
    (Reason::CreditsDepleted, |s| (s.money.rights, s.money.balance) = (Credit::ZERO, Credit::ZERO)),
    (Reason::ExceedsLimit, |s| s.tokens[2].limit.per_minute = 10),
];

/// How long each transient cause makes wait, set to `seconds`.
const TRANSIENT: [(Reason, SpoilFor); 6] = [
    (Reason::TopUpPending, |s, seconds| {
        (s.money.rights, s.money.balance) = (Credit::ZERO, Credit::ZERO);
        s.money.topup_pending = Some(Duration::from_secs(seconds));
    }),
    (Reason::RequestsPerMinute, |s, seconds| s.requests = full(1, seconds)),
    (Reason::PromptTokensPerMinute, |s, seconds| s.tokens[0] = full(1_000, seconds)),
    (Reason::UncachedPromptTokensPerMinute, |s, seconds| s.tokens[1] = full(1_000, seconds)),
    (Reason::GeneratedTokensPerMinute, |s, seconds| s.tokens[2] = full(1_000, seconds)),
    (Reason::Overloaded, |s, seconds| s.overloaded = Some(Duration::from_secs(seconds))),
];

/// A bucket for which `need` has to wait exactly `seconds`.
fn full(need: u64, seconds: u64) -> RateStanding {
    let limit = Limit { per_minute: 60 * need, burst_seconds: 60 };
    let mut bucket = Bucket::EMPTY;
    bucket.charge(limit, limit.capacity() - need + seconds * need, NOW);
    RateStanding { limit, chunk: 0, bucket: Some(bucket) }
}

proptest! {
    #[test]
    fn of_permanent_reasons_the_first_is_given(
        causes in prop::sample::subsequence(PERMANENT.to_vec(), 1..=PERMANENT.len()),
        waits in prop::sample::subsequence(TRANSIENT.to_vec(), 0..=TRANSIENT.len()),
    ) {
        let mut standing = healthy();
        for (reason, spoil) in waits {
            // A top-up in flight is a reason to wait instead of a reason to give up.
            if reason != Reason::TopUpPending {
                spoil(&mut standing, 5);
            }
        }
        // Set in reverse, so that of two suspensions the first stays.
        causes.iter().rev().for_each(|(_, spoil)| spoil(&mut standing));
        let Decision::Deny(denial) = decide(&demand(ask()), &standing, HOLD, NOW) else { panic!() };
        prop_assert_eq!((denial.reason, denial.retry_after), (causes[0].0, None));
    }

    #[test]
    fn of_transient_reasons_the_longest_wait_is_given(
        causes in prop::sample::subsequence(TRANSIENT.to_vec(), 1..=TRANSIENT.len()),
        seconds in prop::collection::vec(1..100_u64, TRANSIENT.len()),
    ) {
        let mut standing = healthy();
        let mut expected = (Duration::ZERO, Reason::Unavailable);
        for ((reason, spoil), seconds) in causes.into_iter().zip(seconds) {
            spoil(&mut standing, seconds);
            let wait = Duration::from_secs(if reason == Reason::TopUpPending {
                seconds.clamp(5, 60)
            } else if reason == Reason::Overloaded {
                seconds.clamp(1, 5)
            } else {
                seconds
            });
            if wait > expected.0 {
                expected = (wait, reason);
            }
        }
        let Decision::Deny(denial) = decide(&demand(ask()), &standing, HOLD, NOW) else { panic!() };
        prop_assert_eq!((denial.retry_after.unwrap(), denial.reason), expected);
    }

    /// What denies is what speaks against the ask, limit by limit; where nothing does, it is admitted.
    #[test]
    fn each_limit_says_what_a_decision_makes_of_it(
        causes in prop::sample::subsequence(PERMANENT.to_vec(), 0..=PERMANENT.len()),
        waits in prop::sample::subsequence(TRANSIENT.to_vec(), 0..=TRANSIENT.len()),
        seconds in 1..100_u64,
    ) {
        let mut standing = healthy();
        waits.iter().for_each(|(_, spoil)| spoil(&mut standing, seconds));
        causes.iter().rev().for_each(|(_, spoil)| spoil(&mut standing));
        let demand = demand(ask());
        let against: Vec<Denial> = explain(&demand, &standing, HOLD, NOW)
            .into_iter()
            .filter_map(|finding| if let Says::No(denial) = finding.says { Some(denial) } else { None })
            .collect();
        match decide(&demand, &standing, HOLD, NOW) {
            Decision::Deny(denial) => {
                let of_no_limit = [Reason::AbuseBlock, Reason::FailedPayments, Reason::Overloaded];
                prop_assert!(against.contains(&denial) || of_no_limit.contains(&denial.reason), "{:?}", denial);
            }
            Decision::Admit(_) => prop_assert_eq!(against, vec![]),
            Decision::Short(short) => prop_assert!(false, "{:?}", short),
        }
    }

    /// Asks come and go against an account kept as simply as can be. A denial leaves it as it was; who waits as told
    /// gets in, and not a nanosecond before.
    #[test]
    fn denials_change_nothing_and_waits_are_exact(
        asks in prop::collection::vec((1..3_000_u64, 0..3_000_u64, 0..20_u64), 1..40),
    ) {
        let mut account = healthy();
        account.money.rights = Credit::MAX;
        let mut now = NOW;
        for (max_tokens, prompt, pause) in asks {
            let demand = demand(Ask { max_tokens: Some(max_tokens), prompt: Prompt::Tokens(prompt), ..ask() });
            let before = format!("{account:?}");
            let decision = lent(&demand, &mut account, now);
            match decision {
                Decision::Admit(_) => {}
                Decision::Deny(denial) => {
                    prop_assert_eq!(format!("{account:?}"), before);
                    let wait = denial.retry_after.unwrap();
                    let mut elsewhere = account;
                    let early = lent(&demand, &mut elsewhere, now.after(wait).before(Duration::from_nanos(1)));
                    prop_assert!(matches!(early, Decision::Deny(_)));
                    now = now.after(wait);
                    prop_assert!(matches!(lent(&demand, &mut account, now), Decision::Admit(_)));
                }
                Decision::Short(_) => panic!("the pool lends what has room"),
            }
            now = now.after(Duration::from_millis(pause * 100));
        }
    }

    #[test]
    fn a_capped_ask_gets_the_most_that_fits(
        rights in 1..30_000_000_i64, room in prop::option::of(1..30_000_000_i64), n in 1..5_u32, prompt in 0..3_000_u64,
    ) {
        let mut standing = healthy();
        standing.money.rights = Credit::from_nanos(rights);
        standing.month.limit = room.map(Credit::from_nanos);
        let demand = demand(Ask { capped: true, n, prompt: Prompt::Tokens(prompt), ..ask() });
        let payable = rights.min(room.unwrap_or(i64::MAX));
        let cost = |generated| demand.price.cost_rounded_up(Usage { prompt, cached: 0, generated }).nanos();
        match decide(&demand, &standing, HOLD, NOW) {
            Decision::Admit(charge) => {
                prop_assert_eq!(charge.cost.nanos(), cost(charge.out_max));
                prop_assert!(charge.cost.nanos() <= payable && charge.out_max >= u64::from(n));
                prop_assert!(charge.out_max == demand.out_max || cost(charge.out_max + 1) > payable);
                prop_assert_eq!(charge.capped, charge.out_max < demand.out_max);
            }
            Decision::Deny(denial) if denial.reason == Reason::MonthlyLimit => {
                prop_assert!(room.unwrap() < demand.dust().nanos());
            }
            Decision::Deny(_) => prop_assert!(cost(u64::from(n)) > payable),
            Decision::Short(_) => panic!("the pool was asked already"),
        }
    }

    #[test]
    fn what_is_called_affordable_is_admitted(balance in 0..30_000_000_i64, n in 1..5_u32, limit in 1..6_000_u64) {
        let mut standing = healthy();
        standing.tokens[2] = rate(limit, limit);
        (standing.money.rights, standing.money.balance) = (Credit::from_nanos(balance), Credit::from_nanos(balance));
        let asked = Ask { n, ..ask() };
        let with = |max_tokens| decide(&demand(Ask { max_tokens: Some(max_tokens), ..asked }), &standing, HOLD, NOW);
        if let Decision::Deny(denial) = decide(&demand(asked), &standing, HOLD, NOW)
            && let Some(tokens) = denial.affordable_max_tokens
        {
            prop_assert!(matches!(with(tokens), Decision::Admit(_)));
            prop_assert!(!matches!(with(tokens + 1), Decision::Admit(_)));
        }
    }
}

/// Decides, lending from the buckets what has room, and applies an admission.
fn lent(demand: &Demand, account: &mut Standing, now: Time) -> Decision {
    let mut standing = *account;
    if let Decision::Short(short) = decide(demand, &standing, HOLD, now) {
        let needs = [short.requests].into_iter().chain(short.tokens);
        for (rate, need) in [&mut standing.requests].into_iter().chain(&mut standing.tokens).zip(needs) {
            let more = need.saturating_sub(rate.chunk);
            rate.bucket.as_mut().unwrap().charge(rate.limit, more, now);
            rate.chunk += more;
        }
    }
    let decision = decide(demand, &standing, HOLD, now);
    if let Decision::Admit(charge) = decision {
        let charges = [charge.requests].into_iter().chain(charge.tokens);
        for (rate, tokens) in [&mut standing.requests].into_iter().chain(&mut standing.tokens).zip(charges) {
            rate.chunk -= tokens;
        }
        *account = standing;
    }
    decision
}
