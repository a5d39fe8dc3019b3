//! The life of holds, leases and chunks, an event a line. Prices: $2 prompt, $0.25 cached, $6 generated for 1 M tokens.

use super::world::{World, check};

#[test]
fn a_cold_request_costs_one_round_trip() {
    check(
        "pay 10
         ask r1 1000+500 => unknown
         round => sync rates 2
         ask r1 1000+500 => admitted $0.005 out 500
         sums => held $0.005 free $0.155
         settle r1 1000/0/200 => settled $0.0032
         sums => held $0.00 free $0.1568
         round => silence
         wait 2s
         round => sync
         pool => used $0.0032 leased $0.16 month 2026-10 $0.0032",
    );
}

#[test]
fn the_same_ask_again_is_the_same_answer_and_hold() {
    check(
        "pay 10
         serve r1 1000+500 => admitted $0.005 out 500
         ask r1 1000+500 => admitted $0.005 out 500 again
         ask r1 1000+501 => denied invalid_request
         counts => accounts 1 open 1 ended 0
         settle r1 1000/0/200 => settled $0.0032
         settle r1 1000/0/200 => settled $0.0032 again
         settle r1 1000/0/500 => settled $0.0032 again
         release r1 => settled $0.0032 again
         ask r1 1000+500 => admitted $0.005 out 500 again
         report r1 1000/0/300 => ended
         extend r1 10 => ended
         counts => accounts 1 open 0 ended 1
         sums => held $0.00 free $0.1568",
    );
}

#[test]
fn a_release_books_nothing_unless_tokens_were_reported() {
    check(
        "pay 10
         serve r1 1000+500
         release r1 => released $0.00
         release r1 => released $0.00 again
         settle r1 1000/0/200 => released $0.00 again
         serve r2 1000+500
         report r2 1000/0/100 => lives 600s
         release r2 => released $0.0026
         sums => held $0.00 free $0.1574",
    );
}

#[test]
fn usage_above_the_hold_is_booked_in_full_and_counted() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/1500 => settled $0.011 over $0.006
         counts => accounts 1 open 0 ended 1 overrun $0.006
         wait 2s
         round
         pool => used $0.011 leased $0.16 month 2026-10 $0.011",
    );
}

#[test]
fn reports_renew_and_never_run_backwards() {
    check(
        "pay 10
         serve r1 1000+500 life=5s
         wait 4s
         report r1 1000/200/100 => lives 5s
         wait 4s
         report r1 1000/200/99 => backwards
         report r1 1000/1001/100 => cached above prompt
         report r1 1000/300/100 => lives 5s
         report r9 1000/300/100 => not found
         report r1 99999999/0/0 => too large
         settle r1 1000/300/500 => settled $0.004475",
    );
}

#[test]
fn a_silent_hold_expires_with_what_it_reported_and_a_late_settle_is_booked() {
    check(
        "pay 10
         serve r1 1000+500 life=5s
         serve r2 1000+500 life=5s
         serve r3 1000+500 life=5s
         report r1 1000/0/100
         report r2 1000/0/100
         wait 5s
         settle r3 1000/0/200 => settled $0.0032
         counts => accounts 1 open 2 ended 1 expired 1 late 1 overrun $0.0032
         sweep
         counts => accounts 1 open 0 ended 3 expired 3 late 1 overrun $0.0032
         report r1 1000/0/200 => ended
         settle r1 1000/0/500 => settled $0.005
         settle r1 1000/0/500 => settled $0.005 again
         settle r2 1000/0/50 => settled $0.0026
         wait 2s
         round
         pool => used $0.0108 leased $0.16 month 2026-10 $0.0108
         wait 16m
         sweep
         counts => accounts 1 open 0 ended 0 expired 3 late 3 overrun $0.0056",
    );
}

#[test]
fn a_hold_that_nobody_looks_at_frees_its_credit_in_time() {
    check(
        "pay 0.006
         serve r1 1000+500 life=5s => admitted $0.005 out 500
         serve r2 1000+500 => denied in_flight wait 1s
         wait 5s
         serve r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn usage_without_a_hold_is_booked_where_the_caller_says_what_it_was() {
    check(
        "pay 10
         serve r1 1000+500
         settle r7 1000/0/200 => not found
         book r7 1000/0/200 => settled $0.0032 over $0.0032
         book r7 1000/0/200 => settled $0.0032 over $0.0032 again
         settle r7 1000/0/200 => settled $0.0032 over $0.0032 again
         counts => accounts 1 open 1 ended 1 overrun $0.0032",
    );
}

#[test]
fn an_extension_holds_more_or_says_stop() {
    check(
        "pay 0.02
         serve r1 1000+500 => admitted $0.005 out 500
         extend r1 500 => short $0.003 tokens [0, 0, 500]
         round => sync rates 1
         extend r1 500 => granted 1000
         sums => held $0.008 free $0.00
         extend r1 1500 => short $0.009 tokens [0, 0, 1500]
         round => sync rates 1
         extend r1 1500 => granted 2500
         extend r1 1000 => short $0.006 tokens [0, 0, 1000]
         round => sync rates 1
         extend r1 1000 => refused in_flight
         extend r1 4000 => refused exceeds_balance
         settle r1 1000/0/1000 => settled $0.008",
    );
}

#[test]
fn a_request_held_at_midnight_belongs_to_the_month_of_its_admission() {
    check(
        "pay 10
         serve r1 1000+500
         wait 9s
         settle r1 1000/0/0 => settled $0.002
         serve r2 1000+500
         wait 2s
         serve r3 1000+500
         settle r2 1000/0/500 => settled $0.005
         settle r3 1000/0/500 => settled $0.005
         wait 2s
         round => sync
         pool => used $0.012 leased $0.16 month 2026-11 $0.005",
    );
}

#[test]
fn a_monthly_limit_is_free_again_in_the_new_month() {
    check(
        "pay 10
         terms limit=1
         serve r1 200000+10000 => admitted $0.46 out 10000
         settle r1 200000/0/10000 => settled $0.46
         serve r1b 200000+10000 => admitted $0.46 out 10000
         settle r1b 200000/0/10000 => settled $0.46
         serve r2 100000+1000 => denied exceeds_month_room
         wait 2s
         serve r2 100000+1000 => denied exceeds_month_room
         wait 9s
         serve r2 100000+1000 => admitted $0.206 out 1000",
    );
}

#[test]
fn rights_die_with_their_lease() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 59s
         ask r2 1000+500 => short requests 1 tokens [1000, 1000, 500]
         wait 2s
         ask r2 1000+500 => short $0.005 requests 1 tokens [1000, 1000, 500]
         round => sync rates 2
         ask r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn a_flood_that_cannot_be_paid_costs_the_pool_nothing() {
    check(
        "pay 0.01
         serve r1 1000+5000 => denied exceeds_balance
         wait 500ms
         ask r2 1000+5000 => denied exceeds_balance
         ask r3 1000+2000 => denied exceeds_balance
         round => silence
         ask r4 1000+100 => short $0.0026
         wait 600ms
         ask r5 1000+5000 => short $0.032 tokens [1000, 1000, 5000]
         round => sync rates 1
         ask r5 1000+5000 => denied exceeds_balance
         ask r6 1000+100 => admitted $0.0026 out 100",
    );
}

#[test]
fn credits_unblock_as_soon_as_the_account_is_touched() {
    check(
        "pay 0.01
         serve r1 1000+5000 => denied exceeds_balance
         pay 1
         ask r1 1000+5000 => denied exceeds_balance
         touch
         round => sync rates 2
         serve r1 1000+5000 => admitted $0.032 out 5000",
    );
}

#[test]
fn the_last_credit_can_be_spent() {
    check(
        "pay 0.015
         serve r1 1000+500 => admitted $0.005 out 500
         serve r2 1000+500 => admitted $0.005 out 500
         serve r3 1000+500 => admitted $0.005 out 500
         serve r4 1000+500 => denied in_flight wait 1s
         settle r1 1000/0/500
         settle r2 1000/0/500
         settle r3 1000/0/500
         wait 2s
         serve r4 1000+500 => denied credits_depleted
         pool => used $0.015 leased $0.00 month 2026-10 $0.015",
    );
}

#[test]
fn a_capped_ask_takes_what_there_is() {
    check(
        "pay 0.01
         serve r1 1000+5000 capped => admitted $0.009998 out 1333
         serve r2 1000+5000 capped => denied in_flight wait 1s
         settle r1 1000/0/10 => settled $0.00206
         serve r3 1000+5000 capped => admitted $0.007934 out 989",
    );
}

#[test]
fn a_chunk_dies_and_what_is_left_of_it_goes_back() {
    check(
        "pay 10
         serve r1 1000+500
         rate => levels [1000, 1000, 500]
         settle r1 1000/600/100
         wait 1500ms
         round => sync rates 1
         rate => levels [0, 0, 0]",
    );
}

#[test]
fn tokens_that_were_not_used_go_back_to_the_bucket() {
    check(
        "pay 10
         serve r1 1000+30000 => admitted $0.182 out 30000
         serve r2 1000+30000 => denied generated_tokens_per_minute wait 40s
         settle r1 1000/0/0
         serve r2 1000+30000 => admitted $0.182 out 30000",
    );
}

#[test]
fn batch_skips_the_token_rates() {
    check(
        "pay 10
         serve r1 1000+30000 batch => admitted $0.091 out 30000
         serve r2 1000+30000 batch => admitted $0.091 out 30000
         rate => unknown",
    );
}

#[test]
fn an_account_without_payment_method_has_ten_requests_a_minute() {
    check(
        "terms payment=no
         pay 1
         serve r0 10+10 n=8 => admitted $0.0005 out 80
         serve r1 10+10 n=2
         serve r2 10+10 n=1 => denied requests_per_minute wait 6s",
    );
}

#[test]
fn a_shadow_account_is_never_denied_and_nothing_is_held() {
    check(
        "terms shadow=yes
         serve r1 1000+500 => admitted $0.00 out 500 but for credits_depleted
         sums => held $0.00 free $0.00
         settle r1 1000/0/500 => settled $0.005 over $0.005
         wait 2s
         round
         pool => used $0.005 leased $0.00 month 2026-10 $0.005",
    );
}

#[test]
fn an_unknown_account_is_denied_from_memory_for_a_while() {
    check(
        "serve r1 1000+500 account=nobody => denied unknown_account
         ask r1 1000+500 account=nobody => denied unknown_account
         explain r1 1000+500 account=nobody => denied unknown_account
         round => silence
         wait 5s
         ask r1 1000+500 account=nobody => unknown
         round => sync rates 2
         counts => accounts 0 open 0 ended 0",
    );
}

#[test]
fn nobody_vouches_but_the_failure_policy() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 2m
         alone r2 1000+500 => denied unavailable wait 1s
         terms policy=allowance
         round
         wait 2m
         alone r3 1000+1000 => admitted $0.008 out 1000
         alone r4 1000+1000 => admitted $0.008 out 1000
         alone r5 1000+1000 => denied unavailable wait 1s
         settle r3 1000/0/1000
         settle r4 1000/0/1000
         round
         alone r5 1000+1000 => admitted $0.008 out 1000
         sums",
    );
}

#[test]
fn a_cold_lease_is_worth_many_requests_also_while_the_store_is_away() {
    let requests = (1..=32).map(|number| {
        format!(
            "alone r{number} 1000+500 => admitted $0.005 out 500
             settle r{number} 1000/0/500\n"
        )
    });
    let script = format!(
        "pay 10
         ask r0 1000+500 => unknown
         round => sync rates 2
         {}
         alone r33 1000+500 => denied unavailable wait 1s",
        requests.collect::<String>()
    );
    check(&script);
}

#[test]
fn holds_above_what_is_lent_ahead_leave_room_for_more() {
    check(
        "pay 1000
         serve r1 200000+2000 n=8 => admitted $0.496 out 16000
         serve r2 1000+20000 n=128 batch => admitted $7.681 out 2560000
         settle r1 200000/0/16000
         wait 2s
         round => sync rates 1
         sums => held $7.681 free $5.00",
    );
}

#[test]
fn custom_limits_hold_for_the_first_asks_of_a_cold_account() {
    check(
        "pay 10
         terms custom=1000
         ask r1 900+500 => unknown
         ask r2 900+500 => unknown
         ask r3 1001+1 => unknown
         round => sync rates 2
         ask r1 900+500 => admitted $0.0048 out 500
         ask r2 900+500 => denied prompt_tokens_per_minute wait 48s
         ask r3 1001+1 => denied exceeds_limit",
    );
}

#[test]
fn a_change_of_custom_limits_is_in_force_within_two_seconds() {
    check(
        "pay 10
         serve r1 1000+500 => admitted $0.005 out 500
         settle r1 1000/0/500
         terms custom=900
         wait 1500ms
         round => sync
         wait 100ms
         round => rates 2
         ask r2 1000+1 => denied exceeds_limit
         terms custom=2000000
         wait 1500ms
         ask r3 1000+1 => denied exceeds_limit
         round
         wait 200ms
         round
         serve r4 1000+50000 => admitted $0.302 out 50000
         settle r4 1000/0/50000
         terms custom=none
         wait 1500ms
         round
         wait 200ms
         round
         serve r5 1000+50000 => denied exceeds_limit",
    );
}

#[test]
fn what_denies_for_good_is_heard_again_while_asks_come() {
    check(
        "pay 10
         serve r1 1000+500 => admitted $0.005 out 500
         settle r1 1000/0/500
         terms limit=0
         wait 2s
         round
         serve r2 1000+500 => denied monthly_limit
         round
         wait 20m
         round
         terms limit=5
         wait 2s
         serve r2 1000+500 => denied monthly_limit
         round => sync rates 1
         serve r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn what_was_lent_in_vain_comes_back_before_a_told_wait_ends() {
    let rounds = "wait 200ms\n round\n".repeat(14);
    check(&format!(
        "pay 10
         terms custom=1200
         serve r1 1000+1200
         ask r2 10+60 => denied generated_tokens_per_minute wait 3s
         {rounds}
         wait 200ms
         ask r3 10+60 => short tokens [10, 10, 60]
         round => rates 1
         ask r3 10+60 => admitted $0.00038 out 60"
    ));
}

#[test]
fn the_lease_of_a_request_alone_goes_back_before_it_would_be_renewed() {
    let mut world = World::new();
    for line in ["pay 10", "serve r1 1000+500", "wait 1s", "settle r1 1000/0/200"] {
        world.event(line);
    }
    let mut said = Vec::new();
    for _ in 0..600 {
        world.event("wait 200ms");
        said.push(world.event("round"));
    }
    said.retain(|said| said != "silence");
    // What was used, what the model's and the requests' chunks had left, and the lease.
    assert_eq!(said, ["sync", "rates 1", "rates 1", "sync"]);
}
