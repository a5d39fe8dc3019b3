//! Redis or a sidecar dies, freezes, forgets or refuses.

use std::time::Duration;

use rust_decimal::Decimal;
use tokio::time::Instant;
use tollgate::transport::proto::tollgate as api;

use super::load::Load;
use super::{NO_CREDIT, Scene, sums, tell};
use crate::harness::eventually;
use crate::harness::redis::Redis;
use crate::lifecycle::tireless;

/// Two sidecars on a server, with little credit and load on them.
async fn busy(redis: &Redis) -> (Scene, Load) {
    let scene = Scene::on(&[redis.url(), redis.url()], "0.06").await;
    let load = scene.load("r").await;
    load.admits(60).await;
    load.seen();
    (scene, load)
}

/// Every settle of a living sidecar is in the books once, and nothing is lent any more.
fn assert_exact(reckoning: &super::Reckoning, load: &Load) {
    assert_eq!(load.unsure(), Decimal::ZERO, "everything was acknowledged");
    assert_eq!(reckoning.used, load.settled(), "what was settled is booked once");
    assert_eq!((reckoning.leased, reckoning.limbo), (Decimal::ZERO, Decimal::ZERO), "all leases are back");
}

#[tokio::test]
async fn redis_is_killed() {
    let mut redis = Redis::durable().await;
    let (mut scene, mut load) = busy(&redis).await;
    redis.program.kill();
    load.goes_on_for(Duration::from_millis(500)).await;
    redis.start_again().await;
    load.admits(20).await;
    let seen = load.seen();
    let reckoning = scene.spend_up(&mut load, &redis).await;
    tell("kill -9 of Redis, restart", &seen.to_string(), &reckoning, "0");
    assert_exact(&reckoning, &load);
    assert_eq!(reckoning.overspend, Decimal::ZERO);
}

#[tokio::test]
async fn a_sidecar_is_killed() {
    let redis = Redis::start().await;
    let (mut scene, mut load) = busy(&redis).await;
    scene.sidecars[0].program.kill();
    load.admits_at(1, 20).await;
    let seen = load.seen();
    // What the dead one holds is in use by somebody, as far as anybody knows.
    let survivor = &scene.sidecars[1];
    eventually("nothing left but what the dead one holds", async || {
        let sums = sums(survivor, &scene.accounts).await;
        (scene.credits - sums.used - sums.leased < Decimal::new(84, 5)).then_some(())
    })
    .await;
    load.ends_in(&[1], &[api::Reason::InFlight, NO_CREDIT[0], NO_CREDIT[1]], scene.accounts.len()).await;
    let reckoning = scene.end(&mut load, &redis).await;
    tell("kill -9 of a sidecar", &seen.to_string(), &reckoning, "0 (limbo)");
    assert_eq!(reckoning.overspend, Decimal::ZERO);
    let living = load.settled_at(1);
    let most = load.settled() + load.unsure();
    assert!((living..=most).contains(&reckoning.used), "{living} <= {} <= {most}", reckoning.used);
    assert!(most - reckoning.used <= reckoning.leased, "what the dead one did not report is kept aside for it");
}

#[tokio::test]
async fn redis_freezes() {
    let redis = Redis::start().await;
    let freeze = std::env::var_os("DRILL_FREEZE_SECONDS");
    let freeze = freeze.map_or(3, |text| text.to_string_lossy().parse().expect("seconds"));
    let mut scene = Scene::with(40, &[redis.url(), redis.url()], "20").await;
    // A lease covers 32 requests at least and half of them always: slow enough that they last.
    let pace = Duration::from_millis(5 * freeze);
    let mut load = Load::on(&scene.sidecars, &scene.accounts, "r", pace).await;
    load.admits(40 * 4).await;
    load.seen();
    load.admits(200).await;
    let before = load.seen();
    redis.program.signal("STOP");
    load.goes_on_for(Duration::from_secs(freeze)).await;
    let frozen = load.seen();
    redis.program.signal("CONT");
    load.admits(20).await;
    let reckoning = scene.end(&mut load, &redis).await;
    let seen = format!("{frozen}; p99 {:?} before, {:?} frozen", before.p99, frozen.p99);
    tell(&format!("SIGSTOP of Redis for {freeze} s"), &seen, &reckoning, "0");
    assert_exact(&reckoning, &load);
    assert!(frozen.denied.is_empty(), "leases serve on: {frozen}");
    // Some wait for the pool's 50 ms before it is clear that it stands still.
    assert!(frozen.p95 < Duration::from_millis(40), "nobody waits for a frozen server: {:?}", frozen.p95);
}

#[tokio::test]
async fn redis_forgets_its_scripts() {
    let redis = Redis::start().await;
    let (mut scene, mut load) = busy(&redis).await;
    for _ in 0..5 {
        redis.say("SCRIPT FLUSH").await;
        load.admits(10).await;
    }
    let seen = load.seen();
    let reckoning = scene.spend_up(&mut load, &redis).await;
    tell("SCRIPT FLUSH, five times", &seen.to_string(), &reckoning, "0");
    assert_exact(&reckoning, &load);
    assert_eq!(reckoning.overspend, Decimal::ZERO);
}

/// A server refuses every write from `breaks` until `mends`.
async fn refusal(drill: &str, breaks: &str, mends: &str) {
    let redis = Redis::start().await;
    let (mut scene, mut load) = busy(&redis).await;
    redis.say(breaks).await;
    let failed = async || scene.sidecars[0].labelled("tollgate_rounds_total{result=\"failed\"}").await;
    let before = failed().await;
    eventually("refused rounds", async || (failed().await >= before + 2.0).then_some(())).await;
    redis.say(mends).await;
    load.admits(20).await;
    let seen = load.seen();
    let reckoning = scene.spend_up(&mut load, &redis).await;
    tell(drill, &seen.to_string(), &reckoning, "0");
    assert_exact(&reckoning, &load);
    assert_eq!(reckoning.overspend, Decimal::ZERO);
}

#[tokio::test]
async fn redis_is_out_of_memory() {
    refusal("out of memory, noeviction", "CONFIG SET maxmemory 1000", "CONFIG SET maxmemory 0").await;
}

#[tokio::test]
async fn redis_becomes_a_replica() {
    // Of a server that is not there, so that it keeps what it has.
    refusal("READONLY", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE").await;
}

#[tokio::test]
async fn redis_is_emptied() {
    let redis = Redis::start().await;
    let mut scene = Scene::on(&[redis.url(), redis.url()], "0.1").await;
    let mut load = scene.load("r").await;
    load.admits(60).await;
    load.stop().await;
    let told = async || sums(&scene.sidecars[0], &scene.accounts).await;
    let before = eventually("all usage told", async || {
        let sums = told().await;
        (sums.used == load.settled()).then_some(sums)
    })
    .await;

    redis.say("FLUSHALL").await;
    let mut orphaned = scene.load("orphaned").await;
    orphaned.ends_in(&[0, 1], &[api::Reason::UnknownAccount], scene.accounts.len()).await;
    let seen = orphaned.seen();
    orphaned.stop().await;
    assert!(orphaned.settled() <= before.leased, "leases serve out: {} of {}", orphaned.settled(), before.leased);

    for account in &scene.accounts {
        scene.sidecars[1].account(account, tireless(), "0.02").await;
    }
    scene.credits = Decimal::new(2, 2) * Decimal::from(scene.accounts.len());
    let mut again = scene.load("again").await;
    let reckoning = scene.spend_up(&mut again, &redis).await;
    let bound = format!("leases: ${}", before.leased.normalize());
    tell("FLUSHALL, accounts made anew", &seen.to_string(), &reckoning, &bound);
    assert_eq!(reckoning.used, orphaned.settled() + again.settled(), "what was not told before is booked once");
    assert!(reckoning.overspend <= before.leased);
    assert_eq!(reckoning.leased, Decimal::ZERO);
}

#[tokio::test]
async fn a_sidecar_stops_under_load() {
    let redis = Redis::start().await;
    let (mut scene, mut load) = busy(&redis).await;
    let begin = Instant::now();
    scene.sidecars[0].program.signal("TERM");
    assert!(scene.sidecars[0].program.end().await.success(), "it says goodbye");
    let took = begin.elapsed();
    load.admits_at(1, 20).await;
    let seen = format!("{}; stopped in {took:?}", load.seen());
    let reckoning = scene.spend_up(&mut load, &redis).await;
    tell("SIGTERM under load", &seen, &reckoning, "0");
    assert_eq!((reckoning.leased, reckoning.overspend), (Decimal::ZERO, Decimal::ZERO));
    let known = load.settled()..=load.settled() + load.unsure();
    assert!(known.contains(&reckoning.used), "{known:?} has {}", reckoning.used);
}
