//! The no-logic server: tonic, Envoy's full message decoded, an empty OK answered. What a check costs at the very least.

use std::net::SocketAddr;
use std::path::PathBuf;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::machine::Process;

struct NoLogic;

#[tonic::async_trait]
impl Authorization for NoLogic {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        std::hint::black_box(request.into_inner());
        Ok(Response::new(CheckResponse { status: Some(rpc::Status::default()), ..CheckResponse::default() }))
    }
}

/// Starts it in a process of its own, on the first core.
pub fn start(listen: &str) -> Process {
    let own = std::env::current_exe().expect("a benchmark has a path").display().to_string();
    Process::start("0", &[own, "baseline".to_owned(), listen.to_owned()], listen)
}

/// Serves on a TCP address (`host:port`) or a unix socket (`unix:/path`) until the process is stopped.
pub fn serve(listen: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::builder().add_service(AuthorizationServer::new(NoLogic));
        if let Some(path) = listen.strip_prefix("unix:") {
            let listener = UnixListener::bind(PathBuf::from(path)).expect("the socket can be bound");
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.expect("it serves");
        } else {
            let address: SocketAddr = listen.parse().expect("host:port");
            let listener = TcpListener::bind(address).await.expect("the port is free");
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming(incoming).await.expect("it serves");
        }
    });
}
