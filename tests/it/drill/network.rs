//! The network between a sidecar and Redis, or between two servers, is cut.

use std::time::Duration;

use rust_decimal::Decimal;

use super::{Scene, sums, tell};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{Sidecar, eventually};

/// Cuts one of two sidecars off, for longer than a call may take.
async fn cut(drill: &str, forth: bool, back: bool) {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let mut scene = Scene::on(&[redis.url(), proxy.url()], "0.08").await;
    let mut load = scene.load("r").await;
    load.admits(40).await;
    load.seen();
    proxy.forth(forth);
    proxy.back(back);
    let failed = async || scene.sidecars[1].labelled("tollgate_rounds_total{result=\"failed\"}").await;
    let before = failed().await;
    load.admits_at(0, 40).await;
    eventually("a failed round", async || (failed().await > before).then_some(())).await;
    proxy.forth(true);
    proxy.back(true);
    let seen = load.seen();
    let reckoning = scene.spend_up(&mut load, &redis).await;
    tell(drill, &seen.to_string(), &reckoning, "0");
    assert_eq!(load.unsure(), Decimal::ZERO);
    assert_eq!(reckoning.used, load.settled(), "what was settled is booked once");
    assert_eq!((reckoning.leased, reckoning.overspend), (Decimal::ZERO, Decimal::ZERO));
}

#[tokio::test]
async fn a_sidecar_is_cut_off() {
    cut("partition of one sidecar", false, false).await;
}

#[tokio::test]
async fn answers_are_lost() {
    cut("one-way loss: answers", true, false).await;
}

#[tokio::test]
async fn requests_are_lost() {
    cut("one-way loss: requests", false, true).await;
}

#[tokio::test]
async fn a_replica_takes_over_without_the_last_second() {
    let (mut old, new) = (Redis::start().await, Redis::start().await);
    let (link, way) = (Proxy::to(old.port).await, Proxy::to(old.port).await);
    let mut scene = Scene::on(&[way.url(), way.url()], "0.08").await;
    new.say(&format!("REPLICAOF 127.0.0.1 {}", link.port)).await;
    let mut load = scene.load("r").await;
    load.admits(40).await;
    eventually("a replica in step", async || {
        let info: String = redis::from_redis_value(new.say("INFO replication").await).expect("a text");
        info.contains("master_link_status:up").then_some(())
    })
    .await;
    let before = Sidecar::on(&old.url()).await;
    old.say("WAIT 1 1000").await;
    link.back(false);
    let told = sums(&before, &scene.accounts).await.used;
    load.admits(40).await;
    load.seen();

    let lost = eventually("usage that the replica will not have", async || {
        let sums = sums(&before, &scene.accounts).await;
        (sums.used > told).then_some(sums)
    })
    .await;
    old.program.kill();
    new.say("REPLICAOF NO ONE").await;
    let after = Sidecar::on(&new.url()).await;
    let kept = sums(&after, &scene.accounts).await;
    way.turn_to(new.port);
    load.goes_on_for(Duration::from_millis(300)).await;
    load.admits(10).await;
    let seen = load.seen();
    let reckoning = scene.spend_up(&mut load, &new).await;
    let rolled = lost.used + lost.leased - kept.used - kept.leased;
    let bound = format!("rolled: ${}", rolled.max(Decimal::ZERO).normalize());
    tell("promotion of a cut-off replica", &seen.to_string(), &reckoning, &bound);
    assert!(kept.used < lost.used, "acknowledged syncs were lost");
    assert_eq!((reckoning.used, load.unsure()), (load.settled(), Decimal::ZERO), "usage heals by itself");
    assert_eq!(reckoning.leased, Decimal::ZERO);
    assert!(reckoning.overspend <= rolled.max(Decimal::ZERO));
}
