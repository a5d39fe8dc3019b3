//! The way to a store's servers, whatever kind of Redis they are, over which scripts are run.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError, Value};

use super::address::{Address, Kind};
use super::cluster::Cluster;
use super::scripts::Script;
use super::sentinel::Sentinels;
use super::server::{Replaced, Server};
use crate::reconcile::store::StoreError;

/// A script to run. All keys that it touches begin with one of `keys`.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub script: &'a Script,
    pub keys: Vec<String>,
    pub args: Vec<Vec<u8>>,
}

impl Call<'_> {
    /// Whether `keys` are whole. A bucket's tag is only the beginning of keys, and none itself.
    pub fn names_its_keys(&self) -> bool {
        self.keys.iter().all(|key| !key.ends_with(':'))
    }
}

/// What calls are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Borrowing: not from a server that may have forgotten what it lent.
    Round,
    Other,
}

/// Nothing is sent twice by itself, but for what a server said it did not run: MOVED, ASK and NOSCRIPT.
pub(super) struct Connection {
    reach: Reach,
    replaced: Arc<Replaced>,
}

enum Reach {
    One(Arc<Server>),
    Cluster(Cluster),
    Sentinel(Sentinels),
}

/// What came of one call: a text where it failed.
pub(super) type Ran = Result<Value, String>;

impl Connection {
    /// Connects with the first call. A connection that brings no answer within `answer_max` is given up, because it may be
    /// dead.
    pub fn to(address: &Address, answer_max: Duration) -> Result<Self, RedisError> {
        let replaced = Arc::new(Replaced::default());
        let reach = match &address.kind {
            Kind::One => {
                let place = address.places[0].clone();
                let how = address.server(&place);
                Reach::One(Server::new(place, how, answer_max, &replaced)?)
            }
            Kind::Cluster => Reach::Cluster(Cluster::new(address.clone(), answer_max, replaced.clone())),
            Kind::Sentinel { master } => {
                Reach::Sentinel(Sentinels::new(address.clone(), master.clone(), answer_max, replaced.clone())?)
            }
        };
        Ok(Self { reach, replaced })
    }

    /// Whether calls must stay within one slot.
    pub fn is_cluster(&self) -> bool {
        matches!(self.reach, Reach::Cluster(_))
    }

    /// Whether a server was replaced since this was asked last. Rounds fail until it is.
    pub fn take_replaced(&self) -> bool {
        self.replaced.take()
    }

    /// Runs scripts. The answers are in the order of `calls`; one error is everybody's, and the others may have run.
    pub async fn run(&self, calls: &[Call<'_>]) -> Result<Vec<Value>, StoreError> {
        self.run_each(calls, Purpose::Other).await.into_iter().map(|ran| ran.map_err(StoreError::Unavailable)).collect()
    }

    /// Runs scripts, each of which may fail by itself.
    pub async fn run_each(&self, calls: &[Call<'_>], purpose: Purpose) -> Vec<Ran> {
        match &self.reach {
            Reach::One(server) => {
                let ran = server.run(&calls.iter().collect::<Vec<_>>(), purpose, false).await;
                each(ran, calls.len())
            }
            Reach::Cluster(cluster) => cluster.run_each(calls, purpose).await,
            Reach::Sentinel(sentinels) => sentinels.run_each(calls, purpose).await,
        }
    }

    /// The servers that keep accounts now, asked for anew.
    pub async fn servers(&self) -> Result<Vec<Arc<Server>>, String> {
        match &self.reach {
            Reach::One(server) => Ok(vec![server.clone()]),
            Reach::Cluster(cluster) => {
                cluster.doubt().await;
                cluster.servers().await
            }
            Reach::Sentinel(sentinels) => {
                sentinels.doubt().await;
                Ok(vec![sentinels.master().await?])
            }
        }
    }

    /// Tells everybody who follows `channel`. It may be lost.
    pub async fn publish(&self, channel: &str, text: &str) -> Result<(), String> {
        let mut publish = Pipeline::new();
        publish.ignore_errors().cmd("PUBLISH").arg(channel).arg(text);
        let mut failure = "there is no server".into();
        for server in self.servers_known().await? {
            match server.ask(&publish).await {
                Ok(_) => return Ok(()),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    /// Hands on what is published on `channel`, until the connection is lost; first of all nothing, once it is heard. In a
    /// cluster any server will do.
    pub async fn follow(&self, channel: &str, heard: &(dyn Fn(Option<&str>) + Send + Sync)) -> Result<(), String> {
        let mut failure = "there is no server".into();
        for server in self.servers_known().await? {
            if let Err(error) = server.follow(channel, heard).await {
                failure = error.to_string();
            }
        }
        Err(failure)
    }

    /// The servers that keep accounts, as far as is known.
    async fn servers_known(&self) -> Result<Vec<Arc<Server>>, String> {
        match &self.reach {
            Reach::One(server) => Ok(vec![server.clone()]),
            Reach::Cluster(cluster) => cluster.servers().await,
            Reach::Sentinel(sentinels) => Ok(vec![sentinels.master().await?]),
        }
    }
}

/// Answers one by one; a failure is everybody's. Without calls the failure has one place of its own.
pub(super) fn each(ran: Result<Vec<Value>, RedisError>, calls: usize) -> Vec<Ran> {
    match ran {
        Ok(answers) => answers.into_iter().map(checked).collect(),
        Err(error) => vec![Err(error.to_string()); calls.max(1)],
    }
}

/// An error that a server answered, as an error.
pub(super) fn checked(answer: Value) -> Ran {
    answer.extract_error().map_err(|error| error.to_string())
}
