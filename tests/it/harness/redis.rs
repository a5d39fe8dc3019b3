//! A real Redis server on a port and in a folder of its own.

use std::process::Command;

use super::program::Program;
use super::{eventually, free_port, tool};

pub struct Redis {
    port: u16,
    pub program: Program,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// An empty server that keeps nothing on disk.
    pub async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("there is a temporary folder"), free_port());
        let mut command = Command::new(tool("bin/redis-server"));
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let program = Program::start(command.arg("--dir").arg(folder.path()), folder.path());
        eventually("a Redis server", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { port, program, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
