//! What is wrong with a store's servers, each with its remedy.

use std::sync::Arc;

use redis::{Pipeline, Value};

use super::connection::checked;
use super::sentinel::SENTINEL;
use super::server::{Server, line, written};
use super::{Redis, keys};
use crate::clock::{Clock, UnixMs};
use crate::reconcile::store::{Fault, FaultKind, KeyDigest};

/// How far a server's clock may be from ours, in milliseconds. Nothing of the law depends on it but months.
const CLOCK_MAX_MS: u64 = 1_000;
/// The oldest version of Redis that will do.
const VERSION_MIN: (u32, u32) = (7, 0);
/// What errors say where the password is missing, and where it is wrong.
const NO_ENTRY: [&str; 2] = ["NOAUTH", "AuthenticationFailed"];
/// What errors say where the user may not do this.
const NO_RIGHT: &str = "NoPerm";
/// No key has it.
const NOBODYS: KeyDigest = [0; 32];

/// Everything that is wrong with the servers that keep accounts now.
pub(super) async fn faults(store: &Redis, clock: Clock) -> Vec<Fault> {
    let servers = match store.connection.servers().await {
        Ok(servers) => servers,
        Err(cause) => return vec![no_answer("the store".into(), &cause)],
    };
    let checks = servers.iter().map(|server| check(server, clock));
    let checked: Vec<Result<Vec<Fault>, Fault>> = futures_util::future::join_all(checks).await;
    let is_away = checked.iter().all(Result::is_err);
    let of_part = |fault| if is_away { fault } else { Fault { kind: FaultKind::PartUnreachable, ..fault } };
    let found = checked.into_iter().flat_map(|checked| checked.unwrap_or_else(|fault| vec![of_part(fault)]));
    let mut found: Vec<Fault> = found.collect();
    if !is_away {
        found.extend(no_right(store).await);
    }
    found
}

/// Whether scripts may not be run on the keys of accounts: the rest could be asked all the same.
async fn no_right(store: &Redis) -> Option<Fault> {
    let cause = keys::find(store, NOBODYS).await.err()?.to_string();
    let prefix = store.layout.prefix();
    let text = format!("the store refuses scripts ({cause}); grant the user ~{prefix}:* &{prefix}:* +@all -@dangerous");
    cause.contains(NO_RIGHT).then(|| Fault { kind: FaultKind::Refused, place: "the store".into(), text })
}

/// One server's faults; an error where it does not answer.
async fn check(server: &Arc<Server>, clock: Clock) -> Result<Vec<Fault>, Fault> {
    let place = server.place.to_string();
    let mut ask = Pipeline::new();
    ask.ignore_errors().cmd("TIME");
    for section in ["server", "replication", "persistence", "memory"] {
        ask.cmd("INFO").arg(section);
    }
    for setting in ["maxmemory-policy", "save"] {
        ask.cmd("CONFIG").arg("GET").arg(setting);
    }
    let before = clock.now().unix;
    let answers = server.ask(&ask).await;
    let answers = answers.map_err(|error| no_answer(place.clone(), &error.to_string()))?;
    let after = clock.now().unix;
    let [time, infos @ .., policy, save] = answers.as_slice() else { return Ok(Vec::new()) };
    if let Err(cause) = checked(time.clone())
        && is_no_entry(&cause)
    {
        return Err(no_answer(place, &cause));
    }
    let info: String = infos.iter().map(written).collect();
    let told = Told { info, policy: setting(policy), save: setting(save), time: millis(time), before, after };
    let found = told.faults().into_iter().chain(told.unchecked());
    Ok(found.map(|(kind, text)| Fault { kind, text: format!("{place}: {text}"), place: place.clone() }).collect())
}

fn is_no_entry(cause: &str) -> bool {
    NO_ENTRY.iter().any(|code| cause.contains(code))
}

fn no_answer(place: String, cause: &str) -> Fault {
    if !is_no_entry(cause) {
        let text = format!("{place} cannot be reached ({cause}); start it, or correct the setting store");
        return Fault { kind: FaultKind::Unreachable, place, text };
    }
    let settings =
        if cause.starts_with(SENTINEL) { "store_sentinel_password" } else { "store_password and store_user" };
    let text = format!("{place} refuses us ({cause}); correct {settings}");
    Fault { kind: FaultKind::Refused, place, text }
}

/// What a server said of itself.
struct Told {
    info: String,
    policy: Option<String>,
    save: Option<String>,
    time: Option<u64>,
    before: UnixMs,
    after: UnixMs,
}

impl Told {
    fn faults(&self) -> Vec<(FaultKind, String)> {
        let [eviction, read_only, version, persistence, clock] =
            [self.eviction(), self.read_only(), self.version(), self.persistence(), self.clock()];
        [
            (FaultKind::Eviction, eviction),
            (FaultKind::ReadOnly, read_only),
            (FaultKind::Version, version),
            (FaultKind::Persistence, persistence),
            (FaultKind::Clock, clock),
        ]
        .into_iter()
        .filter_map(|(kind, text)| Some((kind, text?)))
        .collect()
    }

    /// Managed servers often keep their settings to themselves.
    fn unchecked(&self) -> Option<(FaultKind, String)> {
        let names = [
            ("maxmemory-policy", self.maxmemory_policy().is_some()),
            ("role and version", !self.info.is_empty()),
            ("persistence", self.keeps_on_disk().is_some()),
        ];
        let missing: Vec<&str> = names.iter().filter(|(_, is_known)| !is_known).map(|(name, _)| *name).collect();
        let remedy = "allow the user INFO and CONFIG GET, or make sure of it yourself";
        (!missing.is_empty())
            .then(|| (FaultKind::Unchecked, format!("{} could not be checked; {remedy}", missing.join(", "))))
    }

    fn eviction(&self) -> Option<String> {
        let policy = self.maxmemory_policy().filter(|policy| *policy != "noeviction")?;
        Some(format!(
            "maxmemory-policy is {policy}, so accounts may be dropped; set it to noeviction and give it enough memory"
        ))
    }

    fn maxmemory_policy(&self) -> Option<&str> {
        self.policy.as_deref().or_else(|| line(&self.info, "maxmemory_policy:"))
    }

    fn read_only(&self) -> Option<String> {
        let role = line(&self.info, "role:").filter(|role| *role != "master")?;
        Some(format!("it is a read-only replica (role {role}); name its master, or reach it through sentinels"))
    }

    fn version(&self) -> Option<String> {
        if line(&self.info, "valkey_version:").is_some() {
            return None;
        }
        let version = line(&self.info, "redis_version:")?;
        let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
        let found = (numbers.next()?, numbers.next()?);
        let (major, minor) = VERSION_MIN;
        (found < VERSION_MIN).then(|| format!("it is version {version}; take at least {major}.{minor}, or Valkey"))
    }

    fn persistence(&self) -> Option<String> {
        self.keeps_on_disk().filter(|keeps| !keeps)?;
        Some("it keeps nothing on disk, so a restart empties it; set appendonly yes".into())
    }

    fn keeps_on_disk(&self) -> Option<bool> {
        let appends = line(&self.info, "aof_enabled:").map(|enabled| enabled == "1");
        let saves = self.save.as_ref().map(|save| !save.is_empty());
        match (appends, saves) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            (None, _) | (_, None) => None,
        }
    }

    fn clock(&self) -> Option<String> {
        let time = self.time?;
        let ahead = time.saturating_sub(self.after.0);
        let behind = self.before.0.saturating_sub(time);
        let (off, way) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
        (off >= CLOCK_MAX_MS).then(|| {
            format!("its clock is {} s {way} ours; have both machines follow a time server", off.div_ceil(1_000))
        })
    }
}

/// A setting's value; nothing where it may not be asked for.
fn setting(answer: &Value) -> Option<String> {
    match answer {
        Value::Array(pair) => pair.get(1).map(written),
        Value::Map(pairs) => pairs.first().map(|(_, value)| written(value)),
        _ => None,
    }
}

/// The answer to TIME, in milliseconds.
fn millis(answer: &Value) -> Option<u64> {
    let Value::Array(parts) = answer else { return None };
    let [seconds, micros] = parts.as_slice() else { return None };
    let (seconds, micros): (u64, u64) = (written(seconds).parse().ok()?, written(micros).parse().ok()?);
    seconds.checked_mul(1_000)?.checked_add(micros / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults that a server has which says this of itself at 10 s.
    fn check(info: &str, policy: Option<&str>, save: Option<&str>, millis: u64, expected: &[FaultKind]) {
        let (policy, save) = (policy.map(str::to_owned), save.map(str::to_owned));
        let told =
            Told { info: info.into(), policy, save, time: Some(millis), before: UnixMs(9_990), after: UnixMs(10_010) };
        let found = told.faults().into_iter().chain(told.unchecked());
        assert_eq!(found.map(|(kind, _)| kind).collect::<Vec<_>>(), expected, "{info:?}");
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        const GOOD: &str = "redis_version:7.0.0\r\nrole:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        check(GOOD, Some("noeviction"), Some(""), 10_000, &[]);
        check(GOOD, Some("allkeys-lru"), Some(""), 10_000, &[FaultKind::Eviction]);
        check(&with("noeviction", "volatile-ttl"), None, None, 10_000, &[FaultKind::Eviction]);
        check(&with("master", "slave"), None, None, 10_000, &[FaultKind::ReadOnly]);
        check(&with("7.0.0", "6.2.16"), None, None, 10_000, &[FaultKind::Version]);
        check(&with("redis_version:7.0.0", "redis_version:6.2\r\nvalkey_version:8.0"), None, None, 10_000, &[]);
        check(&with("enabled:1", "enabled:0"), None, Some(""), 10_000, &[FaultKind::Persistence]);
        check(&with("enabled:1", "enabled:0"), None, Some("3600 1"), 10_000, &[]);
        check(&with("enabled:1", "enabled:0"), None, None, 10_000, &[FaultKind::Unchecked]);
        check("", None, None, 10_000, &[FaultKind::Unchecked]);
        for (millis, is_off) in [(8_990, true), (8_991, false), (11_009, false), (11_010, true)] {
            check(GOOD, None, None, millis, if is_off { &[FaultKind::Clock] } else { &[] });
        }
    }
}
