//! What holds whatever happens, in whatever order.

use proptest::prelude::*;
use proptest::sample::select;

use super::world::World;
use crate::decision::Credit;

/// Events on a few requests, so that they meet. No request uses more than it holds.
fn event() -> impl Strategy<Value = String> {
    let request = || (0..6_u32).prop_map(|number| format!("r{number}"));
    let usage = (0..=1_000_u64, 0..=500_u64).prop_map(|(cached, generated)| format!("1000/{cached}/{generated}"));
    let usage = usage.boxed();
    prop_oneof![
        4 => request().prop_map(|id| format!("serve {id} 1000+500 life=3s")),
        2 => request().prop_map(|id| format!("ask {id} 1000+500 life=3s")),
        1 => request().prop_map(|id| format!("ask {id} 1000+900 capped")),
        3 => (request(), usage.clone()).prop_map(|(id, usage)| format!("settle {id} {usage}")),
        2 => (request(), usage).prop_map(|(id, usage)| format!("report {id} {usage}")),
        1 => request().prop_map(|id| format!("release {id}")),
        1 => request().prop_map(|id| format!("extend {id} 100")),
        3 => select(vec!["wait 10ms", "wait 300ms", "wait 1s", "wait 4s", "wait 20s"]).prop_map(str::to_owned),
        3 => select(vec!["round", "lose request", "lose reply"]).prop_map(str::to_owned),
        1 => select(vec!["touch", "sweep"]).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However messages are lost: never more is promised and booked than was paid, and the pool hears all of it once.
    #[test]
    fn money_is_conserved(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        let paid = Credit::from_nanos(20_000_000);
        world.pay(paid);
        for event in &events {
            world.event(event);
            let totals = world.ledger.totals(world.now);
            let promised = world.booked().plus(totals.held);
            prop_assert!(promised <= paid.plus(totals.overrun), "after {event}: {promised} of {paid}, {totals:?}");
        }
        world.event("bye");
        let pool = world.pool.as_ref().unwrap().audit().unwrap();
        prop_assert_eq!(pool.used, world.booked());
        prop_assert_eq!(pool.leased, Credit::ZERO);
    }

    /// A denial changes nothing, and neither does an explanation.
    #[test]
    fn a_denial_changes_nothing(events in prop::collection::vec(event(), 1..60), credit in 1_000_000..30_000_000_i64) {
        let mut world = World::new();
        world.pay(Credit::from_nanos(credit));
        for event in &events {
            world.event(event);
            let before = (world.picture(true), world.sums(), world.counts());
            let explained = world.event("explain probe 1000+5000");
            prop_assert_eq!((world.picture(true), world.sums(), world.counts()), before);
            // What died or expired meanwhile is put away by the next look.
            world.event("sweep");
            let money_before = world.picture(false);
            let asked = world.event("ask probe 1000+5000");
            if asked.starts_with("denied") {
                prop_assert_eq!(explained, asked, "an explanation is what an ask would be told");
                // That one was denied may be a reason to hear of the account again.
                prop_assert_eq!(&world.picture(false), &money_before);
                let after = world.picture(true);
                world.event("ask probe 1000+5000");
                prop_assert_eq!(&world.picture(true), &after);
            }
        }
    }

    /// Tokens that were not used go back: after all is quiet, the buckets hold what was used and no more.
    #[test]
    fn tokens_are_conserved(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        world.pay(Credit::from_nanos(1_000_000_000));
        for event in &events {
            world.event(event);
        }
        // Long enough for every hold to expire and every chunk to die, and for a bucket to drain what was used.
        for _ in 0..4 {
            world.event("wait 15s");
            world.event("sweep");
            world.event("round");
        }
        let rate = world.event("rate");
        prop_assert!(rate == "unknown" || rate == "levels [0, 0, 0]", "{}", rate);
    }
}
