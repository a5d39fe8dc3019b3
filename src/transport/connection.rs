//! One HTTP/2 connection of the main port. A check is answered where it was read; every other call goes to tonic.
//!
//! Checks are the hot path: no task, no timer and no router stands between the bytes of one and its decision. What has come
//! is read first, then answered, and all answers leave in one write.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, PingPong, RecvStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::service::Routes;

use super::calls;
use super::envoy;
use super::unvectored::Unvectored;
use super::wire::Wire;

/// What one call, and one connection, may send unasked: a body of usual size arrives without a pause.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The longest header list of a call, in bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// What is read at once: HTTP/2 alone would read four checks in a system call.
const READ_BYTES: usize = 64 << 10;
/// Answers of one connection that wait to be sent, in bytes.
const SEND_BYTES_MAX: usize = 1 << 20;
/// The longest that the first exchange of a connection takes.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it lives, and how long it has to say so.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);
/// Calls that are answered together, and how often in a row before other connections have their turn.
const BATCH_MAX: usize = 64;
const BATCHES_MAX: usize = 4;

/// What the calls of every connection go to.
#[derive(Clone)]
pub struct Served {
    pub wire: Arc<Wire>,
    /// Everything but checks.
    pub routes: Routes,
}

/// Serves one connection until its end, or until its last call after `stop`.
pub async fn serve_connection<T>(io: T, served: Served, stop: impl Future<Output = ()>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(served.wire.settings.wire.streams_max)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buffer_size(SEND_BYTES_MAX);
    // Who does not speak HTTP/2, or not soon, is not served.
    let Ok(Ok(mut h2)) =
        timeout(HANDSHAKE_MAX, builder.handshake(BufReader::with_capacity(READ_BYTES, Unvectored(io)))).await
    else {
        return;
    };
    let Some(ping_pong) = h2.ping_pong() else { return };
    let mut connection = Connection { h2, served, came: Vec::new(), keepalive: Keepalive::new(ping_pong) };
    let mut stop = pin!(stop);
    let mut is_stopping = false;
    poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.h2.graceful_shutdown();
        }
        connection.poll(cx)
    })
    .await;
}

struct Connection<T> {
    h2: h2::server::Connection<BufReader<Unvectored<T>>, Bytes>,
    served: Served,
    /// Calls that came and are not answered yet.
    came: Vec<(Request<RecvStream>, SendResponse<Bytes>)>,
    keepalive: Keepalive,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.keepalive.is_dead(cx) {
            return Poll::Ready(());
        }
        for _ in 0..BATCHES_MAX {
            // Also sends what was answered.
            if self.accept(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.came.is_empty() {
                return Poll::Pending;
            }
            self.answer(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the calls that came; ready when no more will.
    fn accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.came.len() < BATCH_MAX {
            match pin!(self.h2.accept()).poll(cx) {
                Poll::Ready(Some(Ok(call))) => self.came.push(call),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    /// Answers checks, and passes on what else came.
    fn answer(&mut self, cx: &mut Context<'_>) {
        let routes = &self.served.routes;
        let checks = self.came.drain(..).filter_map(|(request, respond)| {
            if request.uri().path() == envoy::CHECK && request.method() == Method::POST {
                return Some((request.into_body(), respond));
            }
            tokio::spawn(calls::forward(routes.clone(), request, respond));
            None
        });
        envoy::answer(&self.served.wire, checks, cx);
    }
}

/// Finds out whether the other side is still there.
struct Keepalive {
    ping_pong: PingPong,
    /// Until the next ping, or until the answer to it must be there.
    wait: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl Keepalive {
    fn new(ping_pong: PingPong) -> Self {
        Self { ping_pong, wait: Box::pin(sleep(KEEPALIVE)), is_asked: false }
    }

    /// Whether a ping was not answered in time, or cannot even be sent.
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_asked && self.ping_pong.poll_pong(cx).is_ready() {
            self.turn(false, KEEPALIVE);
        }
        while self.wait.as_mut().poll(cx).is_ready() {
            if self.is_asked || self.ping_pong.send_ping(Ping::opaque()).is_err() {
                return true;
            }
            self.turn(true, KEEPALIVE_WAIT);
        }
        false
    }

    fn turn(&mut self, is_asked: bool, wait: Duration) {
        self.is_asked = is_asked;
        self.wait.as_mut().reset(Instant::now() + wait);
    }
}
