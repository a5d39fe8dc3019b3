//! The HTTP port: is it alive, is it ready and if not why, and the metrics page.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

/// Why this sidecar is not ready; `None` where it is.
pub type Unready = Option<Arc<str>>;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    pub metrics: PrometheusHandle,
    pub ready: watch::Receiver<Unready>,
    /// What should be mended, though requests may come.
    pub warnings: watch::Receiver<Vec<Arc<str>>>,
}

/// Serves `/livez`, `/readyz` and `/metrics` until `shutdown`.
pub async fn serve_http(
    pages: Pages,
    listener: std::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(pages);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn readiness(State(pages): State<Pages>) -> impl IntoResponse {
    let warnings: String = pages.warnings.borrow().iter().map(|text| format!("warning: {text}\n")).collect();
    match pages.ready.borrow().as_ref() {
        None => (StatusCode::OK, format!("ready\n{warnings}")),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n{warnings}")),
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], pages.metrics.render())
}
