//! What is said to the pool, and what happens when messages are lost, repeated, reordered or contradicted.

use super::world::check;

#[test]
fn a_lost_request_or_reply_loses_nothing() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500 => settled $0.005
         wait 6s
         lose request => sync rates 1
         lose reply => sync rates 1
         round => sync rates 1
         pool => used $0.005 leased $0.16 month 2026-10 $0.005
         sums => held $0.00 free $0.16",
    );
}

#[test]
fn a_lost_reply_to_a_stranger_is_asked_for_again() {
    check(
        "pay 10
         ask r1 1000+500 => unknown
         lose reply => sync rates 2
         round => sync rates 2
         ask r1 1000+500 => admitted $0.005 out 500
         rate => levels [1000, 1000, 500]",
    );
}

#[test]
fn replies_count_once_and_only_the_newest() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 11s
         send => sync rates 2
         deliver 0
         serve r2 1000+500
         settle r2 1000/0/500
         wait 11s
         send => sync rates 2
         deliver 0
         deliver 1
         sums => held $0.00 free $0.16
         deliver 1
         deliver 0
         sums => held $0.00 free $0.16
         serve r3 1000+500 => admitted $0.005 out 500
         deliver 1
         sums => held $0.005 free $0.155",
    );
}

#[test]
fn a_late_reply_lends_only_what_is_left_of_its_life() {
    check(
        "pay 10
         ask r1 1000+500 => unknown
         send => sync rates 2
         wait 59s
         deliver 0
         sums => held $0.00 free $0.16
         wait 1s
         sums => held $0.00 free $0.00",
    );
}

#[test]
fn an_idle_account_gives_back_and_then_says_bye() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 11s
         round => sync rates 2
         round => silence
         wait 30s
         round => silence
         wait 13s
         round => silence
         wait 2s
         round => sync
         pool => used $0.005 leased $0.00 month 2026-11 $0.00
         wait 50m
         round => silence
         sweep
         wait 10m
         round => bye
         counts => accounts 0 open 0 ended 0
         wait 1h
         round => silence
         serve r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn near_empty_idle_rights_go_back_soon() {
    check(
        "pay 0.03
         serve r1 1000+500
         settle r1 1000/0/400
         wait 2s
         round => sync
         wait 1100ms
         round => sync
         pool => used $0.0044 leased $0.00 month 2026-10 $0.0044",
    );
}

#[test]
fn crumbs_that_do_not_cover_what_waits_go_back_at_once() {
    check(
        "pay 0.008
         serve r1 1000+500 => admitted $0.005 out 500
         settle r1 1000/0/400
         ask r2 1000+500 => short $0.005 tokens [1000, 1000, 500]
         round => sync rates 1
         pool => used $0.0044 leased $0.00 month 2026-10 $0.0044",
    );
}

#[test]
fn long_requests_are_lent_for_as_they_are_admitted() {
    let requests: String =
        (1..=100).map(|number| format!("serve r{number} 1000+500 batch\nwait 20ms\nround\n")).collect();
    let script = format!(
        "pay 1000
         {requests}
         sums => held $0.25 free $0.16875"
    );
    check(&script);
}

#[test]
fn the_last_words_are_repeated_until_they_are_heard() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 61m
         lose reply => bye rates 2
         ask r2 1000+500 => short $0.005 requests 1 tokens [1000, 1000, 500]
         round => bye rates 2
         round => sync
         ask r2 1000+500 => admitted $0.005 out 500
         settle r2 1000/0/500
         wait 2s
         round
         pool => used $0.01 leased $0.16 month 2026-11 $0.005",
    );
}

#[test]
fn a_drain_says_bye_for_all_that_is_held() {
    check(
        "pay 10
         serve r1 1000+500
         serve r2 1000+500
         report r2 1000/0/100
         settle r1 1000/0/500
         bye => bye rates 2
         pool => used $0.0076 leased $0.00 month 2026-10 $0.0076
         bye => silence
         settle r2 1000/0/200 => settled $0.0032
         bye => bye rates 2
         pool => used $0.0082 leased $0.00 month 2026-10 $0.0082",
    );
}

#[test]
fn a_store_that_forgot_hears_a_declaration_before_it_lends() {
    check(
        "pay 10
         ask r0 1000+500
         round
         snapshot
         serve r1 100000+5000 => admitted $0.23 out 5000
         settle r1 100000/0/5000
         wait 2s
         round
         rollback
         pool => used $0.00 leased $0.16 month 2026-10 $0.00
         wait 2s
         serve r2 1000+500
         settle r2 1000/0/500
         wait 2s
         round
         counts => accounts 1 open 0 ended 2 forgotten 1
         round => declare
         pool => used $0.235 leased $0.895 month 2026-10 $0.235",
    );
}

#[test]
fn a_clone_of_this_session_is_noticed_and_left_behind() {
    check(
        "pay 10
         serve r1 1000+500
         clone
         settle r1 1000/0/500
         wait 6s
         round => sync rates 1
         counts => accounts 1 open 0 ended 1 clones 1
         wait 2s
         serve r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn usage_of_a_retired_session_goes_to_a_dead_letter() {
    check(
        "pay 10
         snapshot
         serve r1 1000+500
         settle r1 1000/0/500
         wait 40h
         rollback
         round => bye rates 2
         counts => accounts 1 open 0 ended 1 dead 1
         pool => used $0.00 leased $0.00 month 2026-11 $0.00
         serve r2 1000+500 => admitted $0.005 out 500",
    );
}

#[test]
fn an_account_that_vanished_is_unknown_and_forgotten() {
    check(
        "pay 10
         serve r1 1000+500
         vanish
         touch
         round => sync rates 2
         ask r2 1000+500 => denied unknown_account
         settle r1 1000/0/500 => settled $0.005
         counts => accounts 1 open 0 ended 1
         wait 20s
         round => bye rates 2
         counts => accounts 1 open 0 ended 1",
    );
}

#[test]
fn rights_that_went_back_in_a_lost_message_go_back_again() {
    check(
        "pay 10
         serve r1 1000+500
         settle r1 1000/0/500
         wait 11s
         round
         wait 50s
         lose request => sync
         round => sync
         pool => used $0.005 leased $0.00 month 2026-11 $0.00",
    );
}

#[test]
fn waits_of_a_new_account_are_told_by_its_own_limits() {
    // Nothing drains at the limits that the pool began with, before it takes those of the terms.
    check(
        "terms payment=no
         pay 1
         serve r0 10+10 n=8 batch => admitted $0.00025 out 80
         wait 60ms
         ask r1 10+10 n=2 batch
         wait 60ms
         ask r2 10+10 n=1 batch => denied requests_per_minute wait 5.88s
         wait 5s
         round
         ask r3 10+10 n=1 batch => denied requests_per_minute wait 880ms
         wait 880ms
         serve r4 10+10 n=1 batch
         ask r5 10+10 n=1 batch => denied requests_per_minute wait 6s",
    );
}
