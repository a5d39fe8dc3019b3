//! A cluster of servers: which of them has which slots, and calls that are sent there and follow when slots move.
//!
//! While a slot moves, its old server answers ASK for keys that it has no more. It takes a bucket's tag for such a key, for
//! there is no key of that name, and the new server may have only some of an account's keys: a script would find half an
//! account there. So ASK is followed by calls that name their keys whole; the others fail until the slot has moved.
//!
//! The crate's own client for clusters is not used: it follows MOVED and ASK only together with retries of what failed for
//! other reasons, and it sends a pipeline to one server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Pipeline, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::{Address, Place};
use super::connection::{Call, Purpose, Ran, checked};
use super::layout::slot_of;
use super::server::{Replaced, Server, refusal, written};

/// A call is sent on at most so often.
const MOVES_MAX: usize = 4;
/// The map of slots is not read more often than this.
const READ_SPACING: Duration = Duration::from_millis(100);

pub(super) struct Cluster {
    address: Address,
    answer_max: Duration,
    replaced: Arc<Replaced>,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    /// By its first slot: the last one, and who has them.
    ranges: BTreeMap<u16, (u16, Place)>,
    servers: HashMap<Place, Arc<Server>>,
    is_doubtful: bool,
    read: Option<Instant>,
}

/// A call on its way.
struct Errand {
    call: usize,
    to: Place,
    asking: bool,
}

impl Cluster {
    pub fn new(address: Address, answer_max: Duration, replaced: Arc<Replaced>) -> Self {
        Self { address, answer_max, replaced, map: Mutex::default() }
    }

    /// What fails at one server fails for its calls alone.
    pub async fn run_each(&self, calls: &[Call<'_>], purpose: Purpose) -> Vec<Ran> {
        if let Err(cause) = self.read_map().await {
            return vec![Err(cause); calls.len().max(1)];
        }
        if calls.is_empty() {
            return self.ping().await;
        }
        let mut ran: Vec<Ran> = vec![Err("no server of the cluster has the slot".into()); calls.len()];
        let mut errands = self.errands(calls).await;
        for _ in 0..=MOVES_MAX {
            if errands.is_empty() {
                break;
            }
            errands = self.send(calls, purpose, errands, &mut ran).await;
        }
        ran
    }

    /// All servers that have slots.
    pub async fn servers(&self) -> Result<Vec<Arc<Server>>, String> {
        self.read_map().await?;
        let map = self.map.lock().await;
        Ok(map.servers.values().cloned().collect())
    }

    /// A sign of life from anybody.
    async fn ping(&self) -> Vec<Ran> {
        let servers: Vec<_> = self.map.lock().await.servers.values().cloned().collect();
        let mut failure = "no server of the cluster has a slot".to_owned();
        for server in servers {
            match server.run(&[], Purpose::Other, false).await {
                Ok(_) => return Vec::new(),
                Err(error) => failure = error.to_string(),
            }
        }
        self.doubt().await;
        vec![Err(failure)]
    }

    async fn errands(&self, calls: &[Call<'_>]) -> Vec<Errand> {
        let map = self.map.lock().await;
        let to = |call: &Call<'_>| map.place_of(slot_of(call.keys.first().map_or("", String::as_str)));
        calls.iter().enumerate().filter_map(|(call, it)| Some(Errand { call, to: to(it)?, asking: false })).collect()
    }

    /// Sends calls to their servers at once; returns those that must go elsewhere.
    async fn send(&self, calls: &[Call<'_>], purpose: Purpose, errands: Vec<Errand>, ran: &mut [Ran]) -> Vec<Errand> {
        let mut parts: BTreeMap<(Place, bool), Vec<usize>> = BTreeMap::new();
        for Errand { call, to, asking } in errands {
            parts.entry((to, asking)).or_default().push(call);
        }
        let sent = parts.into_iter().map(|((to, asking), part)| async move {
            let mine: Vec<&Call<'_>> = part.iter().map(|call| &calls[*call]).collect();
            let answers = match self.server(&to).await {
                Ok(server) => server.run(&mine, purpose, asking).await.map_err(|error| format!("{to}: {error}")),
                Err(cause) => Err(cause),
            };
            (part, answers)
        });
        let mut onward = Vec::new();
        let mut is_doubtful = false;
        for (part, answers) in join_all(sent).await {
            match answers {
                Err(cause) => {
                    is_doubtful = true;
                    part.into_iter().for_each(|call| ran[call] = Err(cause.clone()));
                }
                Ok(answers) => {
                    for (call, answer) in part.into_iter().zip(answers) {
                        is_doubtful |= is_sign_of_change(&answer);
                        let next = elsewhere(&answer).map(|(to, asking)| Errand { call, to, asking });
                        onward.extend(next.filter(|next| !next.asking || calls[call].names_its_keys()));
                        ran[call] = checked(answer);
                    }
                }
            }
        }
        if is_doubtful {
            self.doubt().await;
        }
        onward
    }

    /// Has the map read again before it is used.
    pub async fn doubt(&self) {
        self.map.lock().await.is_doubtful = true;
    }

    async fn server(&self, place: &Place) -> Result<Arc<Server>, String> {
        self.server_in(&mut *self.map.lock().await, place)
    }

    fn server_in(&self, map: &mut Map, place: &Place) -> Result<Arc<Server>, String> {
        if let Some(server) = map.servers.get(place) {
            return Ok(server.clone());
        }
        let how = self.address.server(place);
        let server = Server::new(place.clone(), how, self.answer_max, &self.replaced);
        let server = server.map_err(|error| error.to_string())?;
        map.servers.insert(place.clone(), server.clone());
        Ok(server)
    }

    /// Reads who has which slots, where that is not known or in doubt. An old map is better than none.
    async fn read_map(&self) -> Result<(), String> {
        let mut map = self.map.lock().await;
        let is_recent = map.read.is_some_and(|read| read.elapsed() < READ_SPACING);
        if !map.ranges.is_empty() && (!map.is_doubtful || is_recent) {
            return Ok(());
        }
        map.read = Some(Instant::now());
        let known: Vec<Place> = map.servers.keys().cloned().chain(self.address.places.iter().cloned()).collect();
        let mut failure = "no server of the cluster can be reached".to_owned();
        for place in known {
            match self.told_by(&mut map, &place).await {
                Ok(ranges) => {
                    self.believe(&mut map, ranges);
                    return Ok(());
                }
                Err(cause) => failure = format!("{place}: {cause}"),
            }
        }
        if map.ranges.is_empty() { Err(failure) } else { Ok(()) }
    }

    async fn told_by(&self, map: &mut Map, place: &Place) -> Result<BTreeMap<u16, (u16, Place)>, String> {
        let server = self.server_in(map, place)?;
        let mut ask = Pipeline::new();
        ask.ignore_errors().cmd("CLUSTER").arg("SLOTS");
        let told = server.ask(&ask).await.map_err(|error| error.to_string())?;
        match checked(told.into_iter().next().unwrap_or(Value::Nil))? {
            Value::Array(entries) => {
                let ranges: BTreeMap<_, _> = entries.iter().filter_map(|entry| range(entry, place)).collect();
                if ranges.is_empty() { Err("it knows no slots".into()) } else { Ok(ranges) }
            }
            _ => Err("it is no server of a cluster".into()),
        }
    }

    fn believe(&self, map: &mut Map, ranges: BTreeMap<u16, (u16, Place)>) {
        let had_slots = |place: &Place| map.ranges.values().any(|(_, owner)| owner == place);
        let mut promoted = ranges.values().map(|(_, owner)| owner).filter(|owner| !had_slots(owner));
        if let Some(place) = promoted.next().filter(|_| !map.ranges.is_empty()) {
            self.replaced.mark(place);
        }
        map.servers.retain(|place, _| ranges.values().any(|(_, owner)| owner == place));
        for (_, owner) in ranges.values() {
            if let Err(error) = self.server_in(map, owner) {
                tracing::warn!(%error, "a server of the cluster has no usable address");
            }
        }
        map.ranges = ranges;
        map.is_doubtful = false;
    }
}

impl Map {
    fn place_of(&self, slot: u16) -> Option<Place> {
        let (_, (last, place)) = self.ranges.range(..=slot).next_back()?;
        (slot <= *last).then(|| place.clone())
    }
}

/// First slot, last slot and owner; `asked` has a server's host where it does not know its own.
fn range(entry: &Value, asked: &Place) -> Option<(u16, (u16, Place))> {
    let Value::Array(parts) = entry else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(owner), ..] = parts.as_slice() else { return None };
    let [host, Value::Int(port), ..] = owner.as_slice() else { return None };
    let host = Some(written(host)).filter(|host| !host.is_empty() && host != "?");
    let place = Place { host: host.unwrap_or_else(|| asked.host.clone()), port: u16::try_from(*port).ok()? };
    Some((u16::try_from(*first).ok()?, (u16::try_from(*last).ok()?, place)))
}

/// Where a server sends a call, and whether only this one goes there.
fn elsewhere(answer: &Value) -> Option<(Place, bool)> {
    let Value::ServerError(error) = answer else { return None };
    let asking = match error.kind()? {
        ServerErrorKind::Moved => false,
        ServerErrorKind::Ask => true,
        _ => return None,
    };
    let (host, port) = error.details()?.split_whitespace().nth(1)?.rsplit_once(':')?;
    Some((Place { host: host.to_owned(), port: port.parse().ok()? }, asking))
}

fn is_sign_of_change(answer: &Value) -> bool {
    matches!(
        refusal(answer),
        Some(
            ServerErrorKind::Moved
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        )
    )
}
