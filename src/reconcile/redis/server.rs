//! One Redis or Valkey server, and the connection over which it is asked. The only place that connects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::address::Place;
use super::connection::{Call, Purpose};
use super::scripts::Script;

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A server that was away is waited for no longer than this: others need not suffer with it.
const CONNECT_BRIEFLY: Duration = Duration::from_millis(100);
/// After a connection could not be made, callers are told so at once for this long, and for longer with each time.
const AWAY_MIN: Duration = Duration::from_millis(200);
const AWAY_MAX: Duration = Duration::from_secs(2);
/// How often one who only listens asks whether anybody is there.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Whether a server was found to be another one than before, or to have begun anew: it may have forgotten something.
#[derive(Debug, Default)]
pub(super) struct Replaced(AtomicBool);

impl Replaced {
    pub fn mark(&self, place: &Place) {
        tracing::warn!(%place, "another server keeps the accounts, or it began anew; it is told everything again");
        self.0.store(true, Ordering::Release);
    }

    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Nothing is sent twice by itself, but for a script that the server did not know and therefore did not run.
pub(super) struct Server {
    pub place: Place,
    client: Client,
    answer_max: Duration,
    state: Mutex<State>,
    replaced: Arc<Replaced>,
}

struct State {
    link: Link,
    /// Run, history and role as they were; empty where the server does not tell them.
    identity: Option<String>,
}

enum Link {
    Idle,
    Connected(MultiplexedConnection),
    Away { until: Instant, pause: Duration, cause: String },
}

impl Server {
    /// Connects with the first call. A connection that brings no answer within `answer_max` is given up, because it may be
    /// dead.
    pub fn new(
        place: Place,
        how: ConnectionInfo,
        answer_max: Duration,
        replaced: &Arc<Replaced>,
    ) -> Result<Arc<Self>, RedisError> {
        let tcp = how.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(how.set_tcp_settings(tcp))?;
        let state = Mutex::new(State { link: Link::Idle, identity: None });
        Ok(Arc::new(Self { place, client, answer_max, state, replaced: replaced.clone() }))
    }

    /// Runs scripts in one pipeline. The answers are in the order of `calls`; an error is everybody's, and some may have run.
    /// `asking` is for a server that takes the calls' slot over just now.
    pub async fn run(
        self: &Arc<Self>,
        calls: &[&Call<'_>],
        purpose: Purpose,
        asking: bool,
    ) -> Result<Vec<Value>, RedisError> {
        let mut connection = self.connected().await?;
        if purpose == Purpose::Round && self.replaced.0.load(Ordering::Acquire) {
            return Err(away("a server was replaced, and is told everything first".into()));
        }
        let ran = run_all(&mut connection, calls, asking).await;
        self.after(ran).await
    }

    /// Sends commands that change nothing. An error of one command is its answer.
    pub async fn ask(self: &Arc<Self>, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut connection = self.connected().await?;
        let answered = connection.req_packed_commands(commands, 0, commands.len()).await;
        self.after(answered).await
    }

    /// Hands on what is published on `channel`, until the connection is lost; first of all nothing, once it is heard.
    pub async fn follow(&self, channel: &str, heard: &(dyn Fn(Option<&str>) + Send + Sync)) -> Result<(), RedisError> {
        let late = |_| away("no answer in time".into());
        let mut subscribed = timeout(CONNECT_MAX, self.client.get_async_pubsub()).await.map_err(late)??;
        timeout(self.answer_max, subscribed.subscribe(channel)).await.map_err(late)??;
        heard(None);
        let (mut sink, mut messages) = subscribed.split();
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => heard(Some(&String::from_utf8_lossy(message.get_payload_bytes()))),
                    None => return Err(away("the connection was closed".into())),
                },
                _ = pings.tick() => drop(timeout(self.answer_max, sink.ping::<Value>()).await.map_err(late)??),
            }
        }
    }

    /// Drops a connection that can no longer be trusted.
    async fn after<T>(&self, done: Result<T, RedisError>) -> Result<T, RedisError> {
        let is_lost = |error: &RedisError| error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error();
        if done.as_ref().is_err_and(is_lost) {
            self.state.lock().await.link = Link::Idle;
        }
        done
    }

    async fn connected(self: &Arc<Self>) -> Result<MultiplexedConnection, RedisError> {
        let mut state = self.state.lock().await;
        match &mut state.link {
            Link::Connected(connection) => return Ok(connection.clone()),
            Link::Away { until, cause, .. } if Instant::now() < *until => return Err(away(cause.clone())),
            Link::Away { until, cause, .. } => {
                // Nobody else tries meanwhile; who comes first waits for a moment.
                *until = Instant::now() + CONNECT_MAX + self.answer_max;
                let cause = cause.clone();
                drop(state);
                let server = self.clone();
                let trying = tokio::spawn(async move { server.connect().await });
                let tried = timeout(CONNECT_BRIEFLY, trying).await;
                return tried.ok().and_then(Result::ok).unwrap_or_else(|| Err(away(cause)));
            }
            Link::Idle => {}
        }
        let opened = self.open().await;
        self.take(&mut state, opened)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let opened = self.open().await;
        self.take(&mut *self.state.lock().await, opened)
    }

    fn take(
        &self,
        state: &mut State,
        opened: Result<(MultiplexedConnection, String), RedisError>,
    ) -> Result<MultiplexedConnection, RedisError> {
        match opened {
            Ok((connection, identity)) => {
                let before = state.identity.replace(identity.clone());
                if before.is_some_and(|before| before != identity || identity.is_empty()) {
                    self.replaced.mark(&self.place);
                }
                state.link = Link::Connected(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let pause = match &state.link {
                    Link::Away { pause, .. } => (*pause * 2).min(AWAY_MAX),
                    Link::Idle | Link::Connected(_) => AWAY_MIN,
                };
                state.link = Link::Away { until: Instant::now() + pause, pause, cause: error.to_string() };
                Err(error)
            }
        }
    }

    /// A connection, and who answers there.
    async fn open(&self) -> Result<(MultiplexedConnection, String), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(self.answer_max));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut who = Pipeline::new();
        who.ignore_errors().cmd("INFO").arg("server").cmd("INFO").arg("replication");
        let told = connection.req_packed_commands(&who, 0, who.len()).await?;
        let told: String = told.iter().map(written).collect();
        let identity = ["run_id:", "master_replid:", "role:"].map(|name| line(&told, name).unwrap_or_default());
        Ok((connection, identity.join(" ").trim().to_owned()))
    }
}

/// A text that a server answered; empty where it is something else.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}

/// What follows `name` on a line of its own.
pub(super) fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The kind of error that was answered, if it is one.
pub(super) fn refusal(answer: &Value) -> Option<ServerErrorKind> {
    match answer {
        Value::ServerError(error) => error.kind(),
        _ => None,
    }
}

fn away(cause: String) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, cause).into()
}

async fn run_all(
    connection: &mut MultiplexedConnection,
    calls: &[&Call<'_>],
    asking: bool,
) -> Result<Vec<Value>, RedisError> {
    let mut answers = evaluate(connection, calls.iter().copied(), asking).await?;
    let is_unknown = |index: &usize| refusal(&answers[*index]) == Some(ServerErrorKind::NoScript);
    let unknown: Vec<usize> = (0..calls.len()).filter(is_unknown).collect();
    if !unknown.is_empty() {
        load(connection, unknown.iter().map(|index| calls[*index].script)).await?;
        let again = evaluate(connection, unknown.iter().map(|index| calls[*index]), asking).await?;
        for (index, answer) in unknown.into_iter().zip(again) {
            answers[index] = answer;
        }
    }
    Ok(answers)
}

async fn evaluate<'a>(
    connection: &mut MultiplexedConnection,
    calls: impl Iterator<Item = &'a Call<'a>>,
    asking: bool,
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::new();
    pipeline.ignore_errors();
    let mut count = 0;
    for Call { script, keys, args } in calls {
        if asking {
            pipeline.cmd("ASKING");
        }
        pipeline.cmd("EVALSHA").arg(&script.hash).arg(keys.len()).arg(keys).arg(args);
        count += 1;
    }
    if count == 0 {
        pipeline.cmd("PING");
    }
    let mut answers = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
    if asking {
        answers = answers.into_iter().skip(1).step_by(2).collect();
    }
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
