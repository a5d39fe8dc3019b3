//! Stands where the inference server stands: answers every request with what reached it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub struct Upstream {
    pub port: u16,
    served: Arc<AtomicU64>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let router = Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            count.fetch_add(1, Ordering::Relaxed);
            echo(&method, &uri, &headers, &body).to_string()
        });
        let server = axum::serve(listener, router.layer(axum::extract::DefaultBodyLimit::disable()));
        tokio::spawn(server.into_future());
        Self { port, served }
    }

    /// Requests that reached it, ever.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// Looks like a chat completion to an SDK, and tells a test what came in.
fn echo(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Value {
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())))
    };
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-oss-120b",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "echo": {
            "method": method.as_str(),
            "path": uri.path(),
            "headers": headers.iter().map(header).collect::<serde_json::Map<_, _>>(),
            "body_bytes": body.len(),
        },
    })
}
