//! Calls that are no checks, passed on to tonic's services and back.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body, Frame};
use tonic::service::Routes;
use tower::Service as _;

/// Has `routes` answer a call. Ends early where the caller has left.
pub async fn forward(mut routes: Routes, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let answered = routes.call(request.map(Incoming));
    let response = tokio::select! {
        answered = answered => answered.unwrap_or_else(|never: Infallible| match never {}),
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (head, body) = response.into_parts();
    let is_end = body.is_end_stream();
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), is_end) else { return };
    if !is_end {
        // Who left is not told.
        send(body, &mut stream).await.ok();
    }
}

/// Sends a body as fast as the caller takes it.
async fn send(body: tonic::body::Body, stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    while let Some(frame) = next_frame(body.as_mut(), stream).await? {
        match frame.into_data() {
            Ok(data) => send_data(data, stream).await?,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return stream.send_trailers(trailers);
            }
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// The next part of a body; nothing where the service failed or the caller has left.
async fn next_frame(
    mut body: Pin<&mut tonic::body::Body>,
    stream: &mut SendStream<Bytes>,
) -> Result<Option<Frame<Bytes>>, h2::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = stream.poll_reset(cx) {
            return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
        }
        let frame = ready!(body.as_mut().poll_frame(cx)).transpose();
        Poll::Ready(frame.map_err(|_| h2::Reason::INTERNAL_ERROR.into()))
    })
    .await
}

async fn send_data(mut data: Bytes, stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(capacity) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
        let part = data.split_to(capacity?.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// What the caller sends, as tonic reads it.
struct Incoming(RecvStream);

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                self.0.flow_control().release_capacity(data.len())?;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let trailers = ready!(self.0.poll_trailers(cx))?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
