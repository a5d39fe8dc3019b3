//! Every port, bound before anything is begun, so that a busy one stops the start.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use tollgate::config::Settings;
use tollgate::transport::serve::{bind_tcp, bind_unix};

use super::Failure;

pub struct Ports {
    pub requests: SocketAddr,
    pub unix: Option<PathBuf>,
    pub accounts: SocketAddr,
    pub http: SocketAddr,
    /// What each worker listens to.
    pub workers: Vec<WorkerPorts>,
    pub accounts_listener: std::net::TcpListener,
    pub http_listener: std::net::TcpListener,
}

pub struct WorkerPorts {
    pub tcp: std::net::TcpListener,
    pub unix: Option<std::os::unix::net::UnixListener>,
}

impl Ports {
    pub fn bind(settings: &Settings) -> Result<Self, Failure> {
        let listeners = &settings.listeners;
        // Alone at first: a port that is shared would be shared with another sidecar just as well.
        let alone = bind(listeners.requests, "--listen", false)?;
        let requests = alone.local_addr()?;
        drop(alone);
        let accounts_listener = bind(listeners.accounts, "--listen-accounts", false)?;
        let http_listener = bind(listeners.http, "--listen-http", false)?;
        let unix = listeners
            .unix
            .as_deref()
            .map(|path| bind_unix(path).map_err(|cause| refused(path.display().to_string(), "--listen-unix", cause)));
        let unix = unix.transpose()?;
        let worker = |_| {
            let unix = unix.as_ref().map(std::os::unix::net::UnixListener::try_clone).transpose()?;
            Ok(WorkerPorts { tcp: bind(requests, "--listen", true)?, unix })
        };
        Ok(Self {
            requests,
            unix: listeners.unix.clone(),
            accounts: accounts_listener.local_addr()?,
            http: http_listener.local_addr()?,
            workers: (0..settings.workers).map(worker).collect::<Result<_, Failure>>()?,
            accounts_listener,
            http_listener,
        })
    }
}

pub fn bind(at: SocketAddr, flag: &'static str, reuse_port: bool) -> Result<std::net::TcpListener, Failure> {
    bind_tcp(at, reuse_port).map_err(|cause| refused(at.to_string(), flag, cause))
}

fn refused(at: String, flag: &'static str, cause: std::io::Error) -> Failure {
    if cause.kind() == ErrorKind::AddrInUse { Failure::Busy { at, flag } } else { Failure::Listen { at, flag, cause } }
}
