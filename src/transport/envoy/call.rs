//! A check as a gRPC call: its message taken out of a stream, its answer put into one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use tonic::{Code, Status};

use super::check::{Missing, Reply};
use crate::transport::wire::Wire;

/// The method that Envoy calls.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The prefix of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// An answer is sent in parts that HTTP/2 copies, rather than pass a pointer on and write at once.
const PART_BYTES_MAX: usize = 1_000;

/// Answers checks that came together: now, where all of one is here and memory suffices; else in a task of its own.
pub fn answer(wire: &Arc<Wire>, calls: impl Iterator<Item = (RecvStream, SendResponse<Bytes>)>, cx: &mut Context<'_>) {
    let whole: Vec<_> = calls.filter_map(|(body, respond)| whole(wire, body, respond, cx)).collect();
    let messages: Vec<&[u8]> = whole.iter().map(|(message, _)| &**message).collect();
    let told = wire.check_now(&messages);
    for ((message, respond), told) in whole.into_iter().zip(told) {
        match told {
            Ok(reply) => send(respond, reply),
            Err(missing) => drop(tokio::spawn(answer_later(wire.clone(), message, missing, respond))),
        }
    }
}

/// A call whose message is all here; another one is read, and answered, in a task of its own.
fn whole(
    wire: &Arc<Wire>,
    mut body: RecvStream,
    respond: SendResponse<Bytes>,
    cx: &mut Context<'_>,
) -> Option<(Bytes, SendResponse<Bytes>)> {
    let max = wire.settings.wire.message_bytes_max;
    let mut message = BytesMut::new();
    if let Poll::Ready(Some(Ok(mut data))) = body.poll_data(cx) {
        release(&mut body, data.len());
        if body.is_end_stream() && unframed(&data, max).is_ok() {
            data.advance(PREFIX_BYTES);
            return Some((data, respond));
        }
        message.extend_from_slice(&data);
    }
    let wire = wire.clone();
    tokio::spawn(async move {
        match read(message, &mut body, max).await {
            Ok(Some(whole)) => answer_once_whole(wire, whole, respond).await,
            Ok(None) => {}
            Err(status) => send(respond, Err(status)),
        }
    });
    None
}

async fn answer_once_whole(wire: Arc<Wire>, message: Bytes, respond: SendResponse<Bytes>) {
    match wire.check_now(&[&message]).pop().expect("as many answers as messages") {
        Ok(reply) => send(respond, reply),
        Err(missing) => answer_later(wire, message, missing, respond).await,
    }
}

/// Answers what could not be answered at once, unless the caller leaves before.
async fn answer_later(wire: Arc<Wire>, message: Bytes, missing: Missing, mut respond: SendResponse<Bytes>) {
    let reply = tokio::select! {
        reply = wire.check_later(&message, missing) => reply,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    send(respond, reply);
}

/// Reads a message to its end; `None` where the caller has left.
async fn read(mut seen: BytesMut, body: &mut RecvStream, max: usize) -> Result<Option<Bytes>, Status> {
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return Ok(None) };
        release(body, data.len());
        seen.extend_from_slice(&data);
        if seen.len() > max.saturating_add(PREFIX_BYTES) {
            return Err(too_long(max));
        }
    }
    unframed(&seen, max)?;
    seen.advance(PREFIX_BYTES);
    Ok(Some(seen.freeze()))
}

/// The one message that `data` is.
fn unframed(data: &[u8], max: usize) -> Result<&[u8], Status> {
    let Some(([flag, length @ ..], message)) = data.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Status::internal("the call ended before its message"));
    };
    if *flag != 0 {
        return Err(Status::unimplemented("the message is compressed; send it as it is"));
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(too_long(max));
    }
    if length != message.len() {
        return Err(Status::internal("the message is not as long as it says; send one message in a call"));
    }
    Ok(message)
}

fn too_long(max: usize) -> Status {
    let why = format!("the message is longer than {max} bytes; have Envoy send less of the body, or raise the limit");
    Status::new(Code::OutOfRange, why)
}

/// Lets the caller send as much again. One that has left sends nothing more.
fn release(body: &mut RecvStream, bytes: usize) {
    body.flow_control().release_capacity(bytes).ok();
}

/// Sends an answer. Who left is not told.
fn send(mut respond: SendResponse<Bytes>, reply: Reply) {
    match reply {
        Ok(frame) => send_message(respond, frame).ok(),
        Err(status) => respond.send_response(status.into_http(), true).map(drop).ok(),
    };
}

fn send_message(mut respond: SendResponse<Bytes>, mut frame: Bytes) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(head, false)?;
    while frame.len() > PART_BYTES_MAX {
        stream.send_data(frame.split_to(PART_BYTES_MAX), false)?;
    }
    stream.send_data(frame, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}
