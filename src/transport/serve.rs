//! Ports: listeners and shutdown futures come in, and a port is served until the one or through the other ends.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use super::accounts::Operators;
use super::connection::{Served, serve_connection};
use super::http::Unready;
use super::proto::tollgate::DESCRIPTORS;
use super::proto::tollgate::accounts_server::{AccountsServer, SERVICE_NAME as ACCOUNTS};
use super::proto::tollgate::admission_server::{AdmissionServer, SERVICE_NAME as ADMISSION};
use super::settings::WireSettings;
use super::wire::Wire;

const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
/// After a connection could not be accepted: mostly because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";

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
    let max = wire.settings.wire.message_bytes_max;
    let routes = Routes::new(AdmissionServer::from_arc(wire.clone()).max_decoding_message_size(max))
        .add_service(health.server())
        .add_service(reflection(ADMISSION)?)
        .prepare();
    let served = Served { wire, routes };
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let prompt = |stream: tokio::net::TcpStream| stream.set_nodelay(true).map(|()| stream);
            let accept =
                |cx: &mut Context<'_>| listener.poll_accept(cx).map(|came| came.and_then(|came| prompt(came.0)));
            serve_connections(accept, &served, shutdown).await;
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
            serve_connections(accept, &served, shutdown).await;
        }
    }
    Ok(())
}

/// Serves the connections that `accept` brings, each in a task, until `shutdown`; then until the last call of each.
async fn serve_connections<T>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<T>>,
    served: &Served,
    shutdown: impl Future<Output = ()>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut shutdown = pin!(shutdown);
    let (stop, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = poll_fn(&accept) => match accepted {
                Ok(stream) => {
                    let mut stopped = stop.subscribe();
                    let until_stopped = async move { stopped.wait_for(|stopped| *stopped).await.map_or((), drop) };
                    connections.spawn(serve_connection(stream, served.clone(), until_stopped));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Serves accounts, health and reflection until `shutdown`. Whoever reaches this port can create credit.
pub async fn serve_accounts(
    operators: Operators,
    settings: &WireSettings,
    health: &Health,
    listener: std::net::TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = Server::builder()
        .timeout(settings.call_life)
        .max_concurrent_streams(settings.streams_max)
        .add_service(AccountsServer::new(operators))
        .add_service(health.server())
        .add_service(reflection(ACCOUNTS)?);
    listener.set_nonblocking(true)?;
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    Ok(router.serve_with_incoming_shutdown(incoming, shutdown).await?)
}

/// Tells of the one service of ours that a port has. Envoy's is left out: our view of it would pass for the whole.
fn reflection(
    service: &'static str,
) -> Result<ServerReflectionServer<impl ServerReflection>, tonic_reflection::server::Error> {
    let ours = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    ours.with_service_name(service).with_service_name(REFLECTION).build_v1()
}
