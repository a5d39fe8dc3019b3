//! `tollgate audit`: what it proves of each kind of store, and how it says what is wrong.

use tollgate::transport::proto::tollgate as api;

use crate::harness::program::run;
use crate::harness::redis::Redis;
use crate::harness::sidecar::{ask, payer, tollgate};
use crate::harness::{Sidecar, eventually, free_port};
use crate::lifecycle::spend;

/// Exit code and output of an audit.
pub fn audit(store: &str) -> (i32, String) {
    let (code, out, err) = run(tollgate().args(["audit", "--store", store]));
    (code, out + &err)
}

#[tokio::test]
async fn a_file_is_audited_when_nobody_has_it_open() {
    let mut sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    spend(&sidecar, "acme", "r1").await;
    let store = sidecar.folder.path().join("store").display().to_string();
    let (code, said) = audit(&store);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use by another process; stop that one, or have it audit"), "{said}");
    sidecar.program.signal("TERM");
    assert!(sidecar.program.end().await.success());
    assert_eq!(audit(&store), (0, "1 accounts, 0 with drift\n".into()));
    let missing = format!("{store}-missing");
    let (code, said) = audit(&missing);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no store ") && said.contains("name the file"), "{said}");
    assert!(!std::path::Path::new(&missing).exists(), "an audit makes nothing");
}

#[tokio::test]
async fn a_server_is_audited_while_it_is_in_use() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on(&redis.url()).await;
    for account in ["acme", "other"] {
        sidecar.account(account, payer(), "10").await;
    }
    spend(&sidecar, "acme", "r1").await;
    eventually("usage told", async || (sidecar.look_up("acme").await.used == "0.00021").then_some(())).await;
    assert_eq!(audit(&redis.url()), (0, "2 accounts, 0 with drift\n".into()));

    let key = redis.key("s:acme").await;
    redis.say(&format!("RENAME {key} away")).await;
    let (code, said) = audit(&redis.url());
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("acme: leased is ") && said.ends_with("\n2 accounts, 1 with drift\n"), "{said}");
    let (code, json, _) = run(tollgate().args(["audit", "--json", "--store", &redis.url()]));
    assert_eq!(code, 3);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["accounts"], &json["drifted"][0]["account"]), (&2.into(), &"acme".into()));
}

#[test]
fn an_audit_tells_which_server_does_not_answer() {
    let (code, said) = audit(&format!("redis://:secret@127.0.0.1:{}", free_port()));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("asked for at 127.0.0.1:") && !said.contains("secret"), "{said}");
}

const LAST_SUCCESS: &str = "tollgate_audit_last_success_timestamp_seconds";

/// How many accounts an audit looked at that began after this was asked, and how many do not come out.
async fn audited(sidecar: &Sidecar) -> [String; 2] {
    // One may be under way, so the one after it counts.
    for _ in 0..2 {
        let before = sidecar.labelled(LAST_SUCCESS).await;
        eventually("an audit", async || (sidecar.labelled(LAST_SUCCESS).await > before).then_some(())).await;
    }
    [sidecar.metric("tollgate_audit_accounts").await, sidecar.metric("tollgate_audit_drifted").await]
        .map(|count| count.to_string())
}

/// While it is in use, by the process that has it open.
#[tokio::test]
async fn a_file_is_audited_by_its_sidecar() {
    let sidecar = Sidecar::with("audit.every = \"1s\"").await;
    sidecar.account("acme", payer(), "10").await;
    spend(&sidecar, "acme", "r1").await;
    eventually("usage told", async || (sidecar.look_up("acme").await.used == "0.00021").then_some(())).await;
    assert_eq!(audited(&sidecar).await, ["1", "0"]);
}

#[tokio::test]
async fn what_does_not_come_out_is_a_metric_until_it_does() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on_with(&redis.url(), "audit.every = \"1s\"").await;
    for account in ["acme", "other"] {
        sidecar.account(account, payer(), "10").await;
    }
    assert_eq!(audited(&sidecar).await, ["2", "0"]);
    let last = sidecar.metric(LAST_SUCCESS).await;
    let (now, _): (u32, u32) = redis.ask("TIME").await;
    assert!((f64::from(now) - last).abs() < 60.0, "{last} is no time of today");

    let key = redis.key("h:acme").await;
    redis.say(&format!("RENAME {key} away")).await;
    assert_eq!(audited(&sidecar).await, ["2", "1"]);
    redis.say(&format!("RENAME away {key}")).await;
    assert_eq!(audited(&sidecar).await, ["2", "0"]);
}

/// An account that no script can read is found as well, and does not hide the others.
#[tokio::test]
async fn what_cannot_be_read_does_not_come_out_either() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::on(&redis.url()).await;
    for account in ["acme", "broken", "other"] {
        sidecar.account(account, payer(), "10").await;
    }
    let key = redis.key("a:broken").await;
    redis.say(&format!("DEL {key}")).await;
    redis.say(&format!("RPUSH {key} rubbish")).await;
    let (code, said) = audit(&redis.url());
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("broken: ") && said.contains("WRONGTYPE"), "{said}");
    assert!(said.ends_with("\n3 accounts, 1 with drift\n"), "{said}");
}

/// A number that no account can have is a damage of its own account: it stops neither an audit nor a round.
#[tokio::test]
async fn a_damaged_amount_concerns_its_own_account_alone() {
    let redis = Redis::start().await;
    let mut sidecar = Sidecar::on_with(&redis.url(), "drain = \"1s\"").await;
    for account in ["acme", "broken"] {
        sidecar.account(account, payer(), "10").await;
    }
    spend(&sidecar, "broken", "r1").await;
    // Places of USD in the state: all credits, and what was used.
    let damage = "local a = cmsgpack.unpack(redis.call('GET', KEYS[1])) a[7], a[11] = -9e9, 2e9 \
                  return redis.call('SET', KEYS[1], cmsgpack.pack(a))";
    let () = redis.run(damage, &redis.key("a:broken").await).await;
    let (code, said) = audit(&redis.url());
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("broken: the store's data cannot be read: "), "{said}");
    assert!(said.ends_with("\n2 accounts, 1 with drift\n"), "{said}");

    // More than is lent of either, asked in one round.
    let mut client = sidecar.admission().await;
    let mut other = client.clone();
    let (broken, acme) = (ask("broken", "r2", 60_000), ask("acme", "r1", 60_000));
    let (broken, acme) = tokio::join!(client.admit(broken), other.admit(acme));
    let acme = acme.expect("an answer").into_inner().result;
    assert!(matches!(acme, Some(api::admit_response::Result::Admitted(_))), "{acme:?}");
    let broken = broken.expect("an answer").into_inner().result;
    let Some(api::admit_response::Result::Denial(denied)) = broken else { panic!("{broken:?}") };
    assert_eq!(denied.reason(), api::Reason::Unavailable, "its failure policy answers: {denied:?}");

    // What cannot be told of it is tried until the sidecar has to go, but not in a hurry.
    let calls = async || -> u32 {
        let told: String = redis.ask("INFO commandstats").await;
        let calls = told.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
        calls.and_then(|calls| calls.parse().ok()).expect("how often scripts were called")
    };
    let before = calls().await;
    sidecar.program.signal("TERM");
    sidecar.program.end().await;
    let leased: String = redis.run(LEASED, &redis.key("a:acme").await).await;
    assert_eq!(leased, "0 0", "the other account was told all the same");
    let said = calls().await - before;
    assert!(said < 50, "{said} calls");
}

/// USD and nano-USD that are lent of an account.
const LEASED: &str = "local a = cmsgpack.unpack(redis.call('GET', KEYS[1])) return a[13] .. ' ' .. a[14]";

#[test]
fn what_cannot_be_asked_is_said() {
    for store in ["redis://127.0.0.1:1", "http://127.0.0.1"] {
        let (code, said) = audit(store);
        assert_eq!(code, 1, "{said}");
        assert!(said.starts_with("tollgate: "), "{said}");
    }
}
