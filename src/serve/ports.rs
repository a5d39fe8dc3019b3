//! Every port, bound before anything is begun, so that a busy one stops the start.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tollgate::config::Settings;
use tollgate::fields::{Fault, Faults};
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
        let alone = bind(listeners.requests, "listen", false);
        let accounts_listener = bind(listeners.accounts, "listen_accounts", false);
        let http_listener = bind(listeners.http, "listen_http", false);
        let unix_at =
            |path: &Path| bind_unix(path).map_err(|cause| refused(&path.to_string_lossy(), "listen_unix", &cause));
        let unix = listeners.unix.as_deref().map(unix_at).transpose();
        let (alone, accounts_listener, http_listener, unix) = match (alone, accounts_listener, http_listener, unix) {
            (Ok(alone), Ok(accounts), Ok(http), Ok(unix)) => (alone, accounts, http, unix),
            (alone, accounts, http, unix) => {
                let faults = [alone.err(), accounts.err(), http.err(), unix.err()];
                return Err(Failure::Ports(Faults(faults.into_iter().flatten().collect())));
            }
        };
        let requests = alone.local_addr()?;
        drop(alone);
        let worker = |_| {
            let unix = unix.as_ref().map(std::os::unix::net::UnixListener::try_clone).transpose()?;
            Ok(WorkerPorts { tcp: bind(requests, "listen", true)?, unix })
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

pub fn bind(at: SocketAddr, setting: &'static str, reuse_port: bool) -> Result<std::net::TcpListener, Fault> {
    bind_tcp(at, reuse_port).map_err(|cause| refused(&at.to_string(), setting, &cause))
}

fn refused(at: &str, setting: &'static str, cause: &std::io::Error) -> Fault {
    let message = if cause.kind() == ErrorKind::AddrInUse {
        format!("{at} is in use by another program; stop that one, or set another address")
    } else {
        format!("{at} cannot be listened on ({cause}); set another address")
    };
    Fault { path: setting.into(), message }
}
