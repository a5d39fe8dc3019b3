//! Ports: listeners and shutdown futures come in, and a port is served until the one or through the other ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use super::accounts::Operators;
use super::http::Unready;
use super::proto::envoy::authorization_server::{AuthorizationServer, SERVICE_NAME as AUTHORIZATION};
use super::proto::tollgate::DESCRIPTORS;
use super::proto::tollgate::accounts_server::{AccountsServer, SERVICE_NAME as ACCOUNTS};
use super::proto::tollgate::admission_server::{AdmissionServer, SERVICE_NAME as ADMISSION};
use super::settings::WireSettings;
use super::wire::Wire;

const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
/// How often a silent connection is asked whether it lives, and how long it has to say so.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);
/// What one call, and one connection, may send unasked: a body of usual size arrives without a pause.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Where a port listens. Bound, but not yet listening to a runtime.
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Why a port could not be served (any longer).
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] io::Error),
    #[error("the port cannot be served: {0}")]
    Server(#[from] tonic::transport::Error),
    #[error("the protos' descriptors cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The gRPC health of every port, as it follows readiness.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Nothing serves before it is ready.
    pub async fn unready() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.set(ServingStatus::NotServing).await;
        health
    }

    /// Follows readiness until its sender is gone.
    pub async fn follow(&self, mut ready: watch::Receiver<Unready>) {
        loop {
            let status =
                if ready.borrow_and_update().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.set(status).await;
            if ready.changed().await.is_err() {
                return;
            }
        }
    }

    async fn set(&self, status: ServingStatus) {
        for service in ["", AUTHORIZATION, ADMISSION, ACCOUNTS] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}

/// Binds a TCP port. With `reuse_port`, several listeners (one for each runtime) share it.
pub fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for the old connections to fade.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a unix socket, in the place of one that nobody listens to any more.
pub fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves checks, admissions, health and reflection until `shutdown`; then finishes what runs.
///
/// No timer runs for a call: what a check waits for has a deadline of its own.
/// One of these for each runtime: they share `wire`, and nothing else.
pub async fn serve_main(
    wire: Arc<Wire>,
    health: &Health,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let settings = wire.settings.wire;
    let max = settings.message_bytes_max;
    let router = server(&settings)
        .add_service(AuthorizationServer::from_arc(wire.clone()).max_decoding_message_size(max))
        .add_service(AdmissionServer::from_arc(wire).max_decoding_message_size(max))
        .add_service(health.server())
        .add_service(reflection(ADMISSION)?);
    serve(router, listener, shutdown).await
}

/// Serves accounts, health and reflection until `shutdown`. Whoever reaches this port can create credit.
pub async fn serve_accounts(
    operators: Operators,
    settings: &WireSettings,
    health: &Health,
    listener: Listener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = server(settings)
        .timeout(settings.call_life)
        .add_service(AccountsServer::new(operators))
        .add_service(health.server())
        .add_service(reflection(ACCOUNTS)?);
    serve(router, listener, shutdown).await
}

/// Tells of the one service of ours that a port has. Envoy's is left out: our view of it would pass for the whole.
fn reflection(
    service: &'static str,
) -> Result<ServerReflectionServer<impl ServerReflection>, tonic_reflection::server::Error> {
    let ours = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    ours.with_service_name(service).with_service_name(REFLECTION).build_v1()
}

fn server(settings: &WireSettings) -> Server {
    Server::builder()
        .max_concurrent_streams(settings.streams_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
}

async fn serve(router: Router, listener: Listener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, shutdown).await?;
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
            router.serve_with_incoming_shutdown(incoming, shutdown).await?;
        }
    }
    Ok(())
}
