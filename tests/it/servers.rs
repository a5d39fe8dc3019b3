//! Every kind of Redis: one server and what can be wrong with it, a cluster, sentinels, TLS; and changes that are pushed.

use std::time::Duration;

use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;

use crate::harness::redis::Redis;
use crate::harness::redises::{Cluster, Guarded, OF_SENTINELS, SECRET, Watched};
use crate::harness::sidecar::{ask, payer};
use crate::harness::{Request, Response, Sidecar, eventually, free_port, within};

/// How soon a change is felt everywhere.
const CHANGE: Duration = Duration::from_secs(2);

/// Whether a request of an account is admitted; it then uses 0.00021 USD.
async fn spends(sidecar: &Sidecar, account: &str, id: &str) -> bool {
    let mut client = sidecar.admission().await;
    let answer = client.admit(ask(account, id, 100)).await.expect("an answer").into_inner().result;
    if !matches!(answer, Some(Answer::Admitted(_))) {
        return false;
    }
    let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: 100 });
    let hold = Some(api::Hold { account: account.into(), request_id: id.into(), attempt: 0 });
    client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await.expect("it is settled");
    true
}

/// Waits until the store knows what an account used. A store that is away just now is asked again.
async fn used(sidecar: &Sidecar, account: &str, expected: &str) {
    let mut accounts = sidecar.accounts().await;
    eventually(&format!("{expected} used by {account}"), async || {
        let request = api::GetAccountRequest { account: account.into() };
        let account = accounts.get_account(request).await.ok()?.into_inner().account?;
        (account.used == expected).then_some(())
    })
    .await;
}

async fn readyz(sidecar: &Sidecar) -> Option<Response> {
    Request::get("/readyz").try_send(sidecar.http_port).await.ok()
}

/// Waits until it is not ready for this reason.
async fn unready(sidecar: &Sidecar, why: &str) {
    eventually(why, async || {
        let page = readyz(sidecar).await?;
        (page.status == 503 && page.text().contains(why)).then_some(())
    })
    .await;
}

/// Whether the metric tells of a fault.
async fn fault(sidecar: &Sidecar, name: &str) -> bool {
    sidecar.metric(&format!("tollgate_store_fault{{fault=\"{name}\"}}")).await > 0.0
}

#[tokio::test]
async fn a_server_that_evicts_keeps_a_sidecar_from_being_ready() {
    let redis = Redis::with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let mut sidecar = Sidecar::started_on(&redis.url(), "");
    unready(&sidecar, "set it to noeviction").await;
    assert!(fault(&sidecar, "eviction").await);
    let _: () = redis.ask("CONFIG SET maxmemory-policy noeviction").await;
    sidecar.ready().await;
    let page = readyz(&sidecar).await.expect("it is ready").text();
    assert!(page.contains("warning: ") && page.contains("set appendonly yes"), "{page}");
    assert!(!fault(&sidecar, "eviction").await && fault(&sidecar, "persistence").await);
    let log = sidecar.program.stderr();
    assert_eq!(log.matches("set it to noeviction").count(), 1, "said once: {log}");
}

#[tokio::test]
async fn a_replica_or_nobody_is_no_store() {
    let port = free_port();
    let mut early = Sidecar::started_on(&format!("redis://127.0.0.1:{port}"), "");
    unready(&early, "cannot be reached").await;
    let redis = Redis::on(port, &[]).await;
    early.ready().await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port.to_string()]).await;
    let mut sidecar = Sidecar::started_on(&replica.url(), "");
    unready(&sidecar, "read-only replica").await;
    let _: () = replica.ask("REPLICAOF NO ONE").await;
    sidecar.ready().await;
    drop(redis);
}

#[tokio::test]
async fn a_server_that_began_anew_is_told_everything_first() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let sidecar = Sidecar::on(&redis.url()).await;
    sidecar.account("acme", payer(), "5").await;
    assert!(spends(&sidecar, "acme", "before").await);
    used(&sidecar, "acme", "0.00021").await;
    redis.program.kill();
    assert!(spends(&sidecar, "acme", "meanwhile").await, "a lease needs no store");
    redis.start_again().await;
    used(&sidecar, "acme", "0.00042").await;
    assert!(sidecar.program.stderr().contains("it is told everything again"), "{}", sidecar.program.stderr());
    assert!(spends(&sidecar, "acme", "after").await);
}

#[tokio::test]
async fn a_change_is_felt_by_every_sidecar_within_two_seconds() {
    let redis = Redis::start().await;
    let (one, other) = (Sidecar::on(&redis.url()).await, Sidecar::on(&redis.url()).await);
    one.account("acme", payer(), "").await;
    assert!(!spends(&other, "acme", "before").await);
    one.add_credits("acme", "first", "0.0003", api::CreditKind::Purchased).await;
    let mut tries = 0;
    within(CHANGE, "an admission after credits came", async || {
        tries += 1;
        spends(&other, "acme", &format!("first-{tries}")).await.then_some(())
    })
    .await;
    assert!(!spends(&other, "acme", "again").await, "it is spent");
    let before: usize = subscribers(&redis).await;
    assert_eq!(before, 2, "both listen");
    let _: usize = redis.ask("CLIENT KILL TYPE pubsub").await;
    eventually("both to listen again", async || (subscribers(&redis).await == 2).then_some(())).await;
    one.add_credits("acme", "second", "5", api::CreditKind::Purchased).await;
    within(CHANGE, "an admission after more credits came", async || {
        tries += 1;
        spends(&other, "acme", &format!("second-{tries}")).await.then_some(())
    })
    .await;
}

async fn subscribers(redis: &Redis) -> usize {
    let told: (String, usize) = redis.ask("PUBSUB NUMSUB tollgate:changed").await;
    told.1
}

#[tokio::test]
async fn a_shard_that_fails_takes_only_its_own_accounts_with_it() {
    let mut cluster = Cluster::start().await;
    let sidecar = Sidecar::on(&cluster.url()).await;
    let mut accounts = vec![String::new(); 3];
    for number in 0.. {
        let name = format!("account-{number}");
        let shard = cluster.shard(&name).await;
        accounts[shard] = name;
        if accounts.iter().all(|name| !name.is_empty()) {
            break;
        }
    }
    for account in &accounts {
        sidecar.account(account, payer(), "5").await;
        assert!(spends(&sidecar, account, "one").await, "{account}");
        used(&sidecar, account, "0.00021").await;
    }
    cluster.servers[0].program.kill();
    for account in &accounts {
        assert!(spends(&sidecar, account, "two").await, "a lease needs no store: {account}");
    }
    for account in &accounts[1..] {
        used(&sidecar, account, "0.00042").await;
        sidecar.add_credits(account, "more", "5", api::CreditKind::Purchased).await;
    }
    used(&sidecar, &accounts[0], "0.00042").await;
    let info: String = cluster.servers[3].ask("INFO replication").await;
    assert!(info.contains("role:master"), "the replica took over: {info}");
    assert!(sidecar.program.stderr().contains("it is told everything again"), "{}", sidecar.program.stderr());
}

#[tokio::test]
async fn calls_follow_a_slot_that_moved_and_never_see_half_an_account() {
    let cluster = Cluster::start().await;
    let sidecar = Sidecar::on(&cluster.url()).await;
    sidecar.account("acme", payer(), "5").await;
    assert!(spends(&sidecar, "acme", "one").await);
    used(&sidecar, "acme", "0.00021").await;
    let (slot, from) = (cluster.slot("acme").await, cluster.shard("acme").await);
    let to = (from + 1) % 3;
    let (from, to) = (&cluster.servers[from], &cluster.servers[to]);
    let (from_id, to_id): (String, String) = (from.ask("CLUSTER MYID").await, to.ask("CLUSTER MYID").await);
    let _: () = to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    let _: () = from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    let keys: Vec<String> = from.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await;
    let (first, rest) = keys.split_first().expect("an account has keys");
    from.migrate(first, to).await;
    assert!(spends(&sidecar, "acme", "two").await, "a lease needs no store");
    let request = api::GetAccountRequest { account: "acme".into() };
    let refused = sidecar.accounts().await.get_account(request).await.expect_err("its slot moves");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    for key in rest {
        from.migrate(key, to).await;
    }
    for server in [to, from] {
        let _: () = server.ask(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    }
    used(&sidecar, "acme", "0.00042").await;
    assert!(spends(&sidecar, "acme", "three").await);
}

/// The master is killed; a sidecar goes on with the replica.
async fn goes_on_after_a_failover(mut watched: Watched, sidecar: &Sidecar) {
    sidecar.account("acme", payer(), "5").await;
    assert!(spends(sidecar, "acme", "one").await);
    used(sidecar, "acme", "0.00021").await;
    watched.master.program.kill();
    assert!(spends(sidecar, "acme", "two").await, "a lease needs no store");
    used(sidecar, "acme", "0.00042").await;
    let info: String = watched.replica.ask("INFO replication").await;
    assert!(info.contains("role:master"), "the replica took over: {info}");
    assert!(sidecar.program.stderr().contains("it is told everything again"), "{}", sidecar.program.stderr());
}

#[tokio::test]
async fn a_failover_by_sentinels_is_followed_without_a_restart() {
    let watched = Watched::start().await;
    let sidecar = Sidecar::on(&watched.url()).await;
    goes_on_after_a_failover(watched, &sidecar).await;
}

#[tokio::test]
async fn sentinels_have_a_password_of_their_own() {
    let watched = Watched::start().await;
    watched.guard().await;
    let of_servers = format!("store_user = \"tollgate\"\nstore_password = \"{SECRET}\"\n");
    for of_sentinels in ["", "store_sentinel_password = \"wrong\"\n"] {
        let stranger = Sidecar::started_on(&watched.url(), &(of_servers.clone() + of_sentinels));
        unready(&stranger, "correct store_sentinel_password").await;
    }
    let of_sentinels = format!("store_sentinel_password = \"{OF_SENTINELS}\"\n");
    let sidecar = Sidecar::on_with(&watched.url(), &(of_servers + &of_sentinels)).await;
    goes_on_after_a_failover(watched, &sidecar).await;
    assert!(![SECRET, OF_SENTINELS].iter().any(|secret| sidecar.program.stderr().contains(secret)));
}

#[tokio::test]
async fn what_a_server_refuses_is_told_with_its_remedy() {
    let redis = Redis::start().await;
    for command in [format!("ACL SETUSER poor on >{SECRET} ~others:* &* +@all"), "ACL SETUSER default off".into()] {
        let _: () = redis.ask(&command).await;
    }
    let poor = format!("store_user = \"poor\"\nstore_password = \"{SECRET}\"\n");
    for (settings, remedy) in [
        ("", "correct store_password and store_user"),
        ("store_user = \"poor\"\nstore_password = \"wrong\"\n", "correct store_password and store_user"),
        (&poor, "grant the user ~tollgate:* &tollgate:* +@all -@dangerous"),
    ] {
        let sidecar = Sidecar::started_on(&redis.url(), settings);
        unready(&sidecar, remedy).await;
        assert!(fault(&sidecar, "refused").await);
        assert!(sidecar.program.stderr().contains(remedy), "{}", sidecar.program.stderr());
    }
}

#[tokio::test]
async fn a_guarded_server_is_reached_with_certificates_and_a_password() {
    let redis = Guarded::start().await;
    let url = format!("rediss://127.0.0.1:{}", redis.port);
    let setting = |name: &str, file: &str| format!("{name} = \"{}\"\n", redis.at(file).display());
    let identity = format!("store_user = \"tollgate\"\nstore_password = \"{SECRET}\"\n");
    let client = setting("store_certificate", "client.pem") + &setting("store_key", "client.key");
    let trusting = identity + &setting("store_ca", "ca.pem") + &client;
    let mut sidecar = Sidecar::started_on(&url, &trusting);
    sidecar.ready().await;
    let page = readyz(&sidecar).await.expect("it is ready").text();
    assert!(page.contains("could not be checked"), "the user may not ask for settings: {page}");
    sidecar.account("acme", payer(), "5").await;
    assert!(spends(&sidecar, "acme", "one").await);
    used(&sidecar, "acme", "0.00021").await;
    assert!(!sidecar.program.stderr().contains(SECRET));

    let in_url = format!("rediss://tollgate:{SECRET}@127.0.0.1:{}", redis.port);
    let distrusting = Sidecar::started_on(&in_url, &client);
    unready(&distrusting, "cannot be reached").await;
    assert!(!distrusting.program.stderr().contains(SECRET));
    assert!(!readyz(&distrusting).await.expect("a page").text().contains(SECRET));
}
