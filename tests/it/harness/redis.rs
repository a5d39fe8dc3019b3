//! A real Redis server on a port and in a folder of its own.

use std::process::Command;

use super::program::Program;
use super::{eventually, free_port, tool};

pub struct Redis {
    pub port: u16,
    pub program: Program,
    is_durable: bool,
    folder: tempfile::TempDir,
}

impl Redis {
    /// An empty server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::begin(false).await
    }

    /// An empty server that acknowledges only what is on the disk.
    pub async fn durable() -> Self {
        Self::begin(true).await
    }

    async fn begin(is_durable: bool) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("there is a temporary folder"), free_port());
        let program = serve(port, is_durable, &folder);
        let redis = Self { port, program, is_durable, folder };
        redis.listens().await;
        redis
    }

    /// Starts it again on what it kept, after it was killed.
    pub async fn start_again(&mut self) {
        assert!(self.program.ended().is_some(), "it still runs");
        self.program = serve(self.port, self.is_durable, &self.folder);
        self.listens().await;
    }

    async fn listens(&self) {
        eventually("a Redis server", async || self.try_say("PING").await.ok()).await;
    }

    /// Runs a command of words without spaces; its answer.
    pub async fn say(&self, command: &str) -> redis::Value {
        self.try_say(command).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    async fn try_say(&self, command: &str) -> redis::RedisResult<redis::Value> {
        let mut connection = redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().expect("a command has a name"));
        command.arg(words.collect::<Vec<_>>()).query_async(&mut connection).await
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn serve(port: u16, is_durable: bool, folder: &tempfile::TempDir) -> Program {
    let append = if is_durable { "yes" } else { "no" };
    let mut command = Command::new(tool("bin/redis-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"]);
    command.args(["--appendonly", append, "--appendfsync", "always"]);
    Program::start(command.arg("--dir").arg(folder.path()), folder.path())
}
