//! One connection to a Redis or Valkey server, over which scripts are run. Everything else is said in scripts.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::scripts::Script;
use crate::reconcile::store::StoreError;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// After a connection could not be made, callers are told so at once for this long: none of them waits behind the others.
const UNREACHABLE_KEEP: Duration = Duration::from_millis(200);

/// A script to run. All keys that it touches begin with one of `keys`.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub script: &'a Script,
    pub keys: Vec<String>,
    pub args: Vec<Vec<u8>>,
}

/// Where a server is.
#[derive(Clone)]
pub struct Address(ConnectionInfo);

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}", self.0.addr())
    }
}

impl Address {
    /// `redis://[user:password@]host[:port][/database]`, or why it is none.
    pub fn parse(url: &str) -> Result<Self, RedisError> {
        let address = url.into_connection_info()?;
        match address.addr() {
            ConnectionAddr::Tcp(..) => Ok(Self(address)),
            _ => Err((ErrorKind::InvalidClientConfig, "only redis:// is known").into()),
        }
    }
}

/// Nothing is sent twice by itself, but for a script that the server did not know and therefore did not run.
pub(super) struct Connection {
    client: Client,
    answer_max: Duration,
    state: Mutex<State>,
}

enum State {
    Idle,
    Connected(MultiplexedConnection),
    Unreachable { until: Instant, cause: String },
}

impl Connection {
    /// Connects with the first call. A connection that brings no answer within `answer_max` is given up, because it may be
    /// dead.
    pub fn to(address: &Address, answer_max: Duration) -> Result<Self, RedisError> {
        let client = Client::open(address.0.clone())?;
        Ok(Self { client, answer_max, state: Mutex::new(State::Idle) })
    }

    /// Runs scripts in one pipeline. The answers are in the order of `calls`; one error is everybody's, and the others may
    /// have run.
    pub async fn run(&self, calls: &[Call<'_>]) -> Result<Vec<Value>, StoreError> {
        let ran = self.run_all(calls).await;
        if ran.as_ref().is_err_and(|error| error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error())
        {
            *self.state.lock().await = State::Idle;
        }
        ran.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn run_all(&self, calls: &[Call<'_>]) -> Result<Vec<Value>, RedisError> {
        let mut connection = self.connected().await?;
        let mut answers = evaluate(&mut connection, calls.iter()).await?;
        let unknown: Vec<usize> = (0..calls.len()).filter(|index| is_unknown_script(&answers[*index])).collect();
        if !unknown.is_empty() {
            load(&mut connection, unknown.iter().map(|index| calls[*index].script)).await?;
            let again = evaluate(&mut connection, unknown.iter().map(|index| &calls[*index])).await?;
            for (index, answer) in unknown.into_iter().zip(again) {
                answers[index] = answer;
            }
        }
        answers.into_iter().map(Value::extract_error).collect()
    }

    async fn connected(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Connected(connection) => return Ok(connection.clone()),
            State::Unreachable { until, cause } if Instant::now() < *until => return Err(unreachable(cause.clone())),
            State::Unreachable { .. } | State::Idle => {}
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(self.answer_max));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                *state = State::Connected(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let until = Instant::now() + UNREACHABLE_KEEP;
                *state = State::Unreachable { until, cause: error.to_string() };
                Err(error)
            }
        }
    }
}

fn unreachable(cause: String) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, cause).into()
}

async fn evaluate<'a>(
    connection: &mut MultiplexedConnection,
    calls: impl Iterator<Item = &'a Call<'a>>,
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::new();
    pipeline.ignore_errors();
    for Call { script, keys, args } in calls {
        pipeline.cmd("EVALSHA").arg(&script.hash).arg(keys.len()).arg(keys).arg(args);
    }
    let count = pipeline.len();
    if count == 0 {
        pipeline.cmd("PING");
    }
    let mut answers = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
    answers.truncate(count);
    Ok(answers)
}

async fn load(
    connection: &mut MultiplexedConnection,
    scripts: impl Iterator<Item = &Script>,
) -> Result<(), RedisError> {
    let mut scripts: Vec<&Script> = scripts.collect();
    scripts.sort_unstable_by_key(|script| &script.hash);
    scripts.dedup_by_key(|script| &script.hash);
    let mut pipeline = Pipeline::new();
    for script in scripts {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    let loaded = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
    loaded.into_iter().try_for_each(|answer| answer.extract_error().map(drop))
}

fn is_unknown_script(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    RedisError::from(error.clone()).kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
