//! Load at a fixed rate: bare HTTP/2 requests from this thread, every answer looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::LocalSet;

/// What every request of a run has in common.
pub struct Plan {
    /// `host:port` or `unix:/path`.
    pub target: String,
    pub path: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub connections: usize,
    /// Requests a second at equal gaps, whatever the server does; latency counts from the due time.
    pub rate: u64,
    pub warmup: Duration,
    pub duration: Duration,
    /// The body of the request with this number.
    pub body: Box<dyn Fn(u64) -> Bytes>,
    /// Headers of the request with this number, beyond `headers`.
    pub varying: Box<dyn Fn(u64) -> Option<(&'static str, String)>>,
    /// Whether an answer (HTTP status, body) is what a right server says.
    pub is_right: fn(u16, &[u8]) -> bool,
}

/// What was seen in the measured window.
#[derive(Default)]
pub struct Seen {
    pub latency_nanos: Option<Histogram<u64>>,
    pub answered: u64,
    pub wrong: u64,
}

impl Seen {
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let nanos = self.latency_nanos.as_ref().map_or(0, |latency| latency.value_at_quantile(quantile));
        Duration::from_nanos(nanos).as_secs_f64() * 1e6
    }

    /// How many took longer.
    pub fn above(&self, latency: Duration) -> u64 {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_nanos.as_ref().map_or(0, |seen| seen.len() - seen.count_between(0, nanos))
    }
}

struct Run {
    plan: Plan,
    next: AtomicU64,
    start: Instant,
    seen: std::cell::RefCell<Seen>,
}

/// Runs the plan on this thread.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn run(plan: Plan) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async move {
        let mut connections = Vec::new();
        for _ in 0..plan.connections {
            connections.push(connect(&plan.target).await);
        }
        let (warmup, duration, rate) = (plan.warmup, plan.duration, plan.rate);
        let run = std::rc::Rc::new(Run {
            plan,
            next: AtomicU64::new(0),
            start: Instant::now() + warmup,
            seen: std::cell::RefCell::new(Seen { latency_nanos: Some(histogram()), ..Seen::default() }),
        });
        let load = tokio::task::spawn_local(open(run.clone(), connections, rate));
        tokio::time::sleep_until((run.start + duration).into()).await;
        load.abort();
        run.seen.take()
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("a valid range")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn open(run: std::rc::Rc<Run>, connections: Vec<SendRequest<Bytes>>, rate: u64) {
    let began = Instant::now();
    let gap_nanos = 1_000_000_000 / rate;
    let in_flight = Arc::new(());
    for (number, connection) in (0_u64..).zip(connections.iter().cycle()) {
        let due = began + Duration::from_nanos(gap_nanos * number);
        while Instant::now() < due || Arc::strong_count(&in_flight) > 4_096 {
            // Another load on this core has its turn too, and not only after a slice of time.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        let (run, connection, token) = (run.clone(), connection.clone(), in_flight.clone());
        tokio::task::spawn_local(async move {
            one(&run, connection, due).await;
            drop(token);
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn one(run: &Run, connection: SendRequest<Bytes>, due: Instant) {
    let number = run.next.fetch_add(1, Ordering::Relaxed);
    let answer = exchange(&run.plan, connection, number).await;
    let now = Instant::now();
    let mut seen = run.seen.borrow_mut();
    if due < run.start || now > run.start + run.plan.duration {
        return;
    }
    seen.answered += 1;
    seen.wrong += u64::from(!answer);
    let nanos = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
    if let Some(latency) = seen.latency_nanos.as_mut() {
        latency.saturating_record(nanos);
    }
}

async fn exchange(plan: &Plan, connection: SendRequest<Bytes>, number: u64) -> bool {
    let mut request = Request::builder().method(Method::POST).uri(format!("http://bench{}", plan.path));
    for (name, value) in &plan.headers {
        request = request.header(*name, value);
    }
    if let Some((name, value)) = (plan.varying)(number) {
        request = request.header(name, value);
    }
    let request = request.body(()).expect("a valid request");
    match answer_to(connection, request, (plan.body)(number)).await {
        Ok((status, body)) => (plan.is_right)(status, &body),
        Err(_) => false,
    }
}

async fn answer_to(
    connection: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<(u16, BytesMut), h2::Error> {
    let mut connection = connection.ready().await?;
    let (response, mut stream) = connection.send_request(request, false)?;
    stream.send_data(body, true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    let trailers = incoming.trailers().await?;
    let refused = trailers.is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|code| code != "0"));
    Ok((if refused { 599 } else { status }, whole))
}

async fn connect(target: &str) -> SendRequest<Bytes> {
    if let Some(path) = target.strip_prefix("unix:") {
        return shake_hands(UnixStream::connect(path).await.expect("it listens")).await;
    }
    let stream = TcpStream::connect(target).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket option");
    shake_hands(stream).await
}

/// One connection, driven in the background.
async fn shake_hands(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24).enable_push(false);
    let (send, connection) = builder.handshake(stream).await.expect("a handshake");
    tokio::task::spawn_local(connection);
    send
}
