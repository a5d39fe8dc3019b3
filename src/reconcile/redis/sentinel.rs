//! A master that sentinels name, followed through failovers.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address::{Address, Place};
use super::connection::{Call, Purpose, Ran, checked, each};
use super::server::{Replaced, Server, refusal, written};

/// What is said of a sentinel begins like this.
pub(super) const SENTINEL: &str = "the sentinel ";
/// Sentinels are not asked more often than this.
const ASK_SPACING: Duration = Duration::from_millis(100);

pub(super) struct Sentinels {
    address: Address,
    name: String,
    answer_max: Duration,
    replaced: Arc<Replaced>,
    sentinels: Vec<Arc<Server>>,
    state: Mutex<State>,
}

struct State {
    master: Option<Arc<Server>>,
    is_doubtful: bool,
    asked: Option<Instant>,
}

impl Sentinels {
    pub fn new(
        address: Address,
        name: String,
        answer_max: Duration,
        replaced: Arc<Replaced>,
    ) -> Result<Self, RedisError> {
        // Sentinels that begin anew forget nothing of ours.
        let indifferent = Arc::new(Replaced::default());
        let sentinel = |place: &Place| Server::new(place.clone(), address.sentinel(place), answer_max, &indifferent);
        let sentinels = address.places.iter().map(sentinel).collect::<Result<_, _>>()?;
        let state = Mutex::new(State { master: None, is_doubtful: true, asked: None });
        Ok(Self { address, name, answer_max, replaced, sentinels, state })
    }

    pub async fn run_each(&self, calls: &[Call<'_>], purpose: Purpose) -> Vec<Ran> {
        let master = match self.master().await {
            Ok(master) => master,
            Err(cause) => return vec![Err(cause); calls.len().max(1)],
        };
        let ran = master.run(&calls.iter().collect::<Vec<_>>(), purpose, false).await;
        let is_demoted = |answer: &Value| refusal(answer) == Some(ServerErrorKind::ReadOnly);
        if ran.as_ref().map_or(true, |answers| answers.iter().any(is_demoted)) {
            self.doubt().await;
        }
        each(ran, calls.len())
    }

    /// Has the sentinels asked before the next call.
    pub async fn doubt(&self) {
        self.state.lock().await.is_doubtful = true;
    }

    pub async fn master(&self) -> Result<Arc<Server>, String> {
        let mut state = self.state.lock().await;
        let is_recent = state.asked.is_some_and(|asked| asked.elapsed() < ASK_SPACING);
        if let Some(master) = state.master.clone().filter(|_| !state.is_doubtful || is_recent) {
            return Ok(master);
        }
        state.asked = Some(Instant::now());
        let mut failure = format!("no sentinel knows a master {:?}", self.name);
        for sentinel in &self.sentinels {
            match self.named_by(sentinel, state.master.as_ref()).await {
                Ok(master) => {
                    let before = state.master.replace(master.clone());
                    if before.is_some_and(|before| before.place != master.place) {
                        self.replaced.mark(&master.place);
                    }
                    state.is_doubtful = false;
                    return Ok(master);
                }
                Err(cause) => failure = cause,
            }
        }
        Err(failure)
    }

    /// The master that a sentinel names, which must itself say that it is one.
    async fn named_by(&self, sentinel: &Arc<Server>, known: Option<&Arc<Server>>) -> Result<Arc<Server>, String> {
        let mut ask = Pipeline::new();
        ask.ignore_errors().cmd("SENTINEL").arg("get-master-addr-by-name").arg(&self.name);
        let of = |what: &str| format!("{SENTINEL}{}{what}", sentinel.place);
        let told = sentinel.ask(&ask).await.map_err(|error| of(&format!(": {error}")))?;
        let told = checked(told.into_iter().next().unwrap_or(Value::Nil)).map_err(|error| of(&format!(": {error}")))?;
        let place = match &told {
            Value::Array(parts) => match parts.as_slice() {
                [host, port] => written(port).parse().ok().map(|port| Place { host: written(host), port }),
                _ => None,
            },
            _ => None,
        };
        let place = place.ok_or_else(|| of(&format!(" knows no master {:?}", self.name)))?;
        let master = match known.filter(|known| known.place == place) {
            Some(known) => known.clone(),
            None => {
                let how = self.address.server(&place);
                Server::new(place, how, self.answer_max, &self.replaced).map_err(|error| error.to_string())?
            }
        };
        let mut role = Pipeline::new();
        role.ignore_errors().cmd("ROLE");
        let role = master.ask(&role).await.map_err(|error| format!("{}: {error}", master.place))?;
        match role.first() {
            Some(Value::Array(parts)) if parts.first().is_some_and(|role| written(role) != "master") => {
                Err(format!("{} is no master, though a sentinel names it; a failover may be under way", master.place))
            }
            // Where roles may not be asked for, the sentinel is believed.
            _ => Ok(master),
        }
    }
}
