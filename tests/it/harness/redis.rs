//! A real Redis server on a port and in a folder of its own.

use std::path::Path;
use std::process::Command;

use redis::{FromRedisValue, RedisResult};

use super::program::Program;
use super::{eventually, free_port, tool};

pub struct Redis {
    pub port: u16,
    pub program: Program,
    pub folder: tempfile::TempDir,
    args: Vec<String>,
}

impl Redis {
    /// An empty server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An empty server that acknowledges only what is on the disk.
    pub async fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// With more settings, as in `["--maxmemory-policy", "allkeys-lru"]`.
    pub async fn with(args: &[&str]) -> Self {
        Self::on(free_port(), args).await
    }

    /// On a port that was chosen before.
    pub async fn on(port: u16, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let program = begin(port, &args, folder.path());
        let server = Self { port, program, folder, args };
        server.listens().await;
        server
    }

    /// Starts it again on the same port and folder, after it ended.
    pub async fn start_again(&mut self) {
        assert!(self.program.ended().is_some(), "it still runs");
        self.program = begin(self.port, &self.args, self.folder.path());
        self.listens().await;
    }

    async fn listens(&self) {
        let port = self.port;
        eventually("a Redis server", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command of words without spaces; its answer.
    pub async fn say(&self, command: &str) -> redis::Value {
        self.ask(command).await
    }

    /// What it answers to one command without spaces in its words, over a connection of its own.
    pub async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        ask(self.port, command).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The one key that ends like this.
    pub async fn key(&self, end: &str) -> String {
        let mut found: Vec<String> = self.ask(&format!("KEYS *:{end}")).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// What a script answers, with one key.
    pub async fn run<T: FromRedisValue>(&self, script: &str, key: &str) -> T {
        let answer = words(self.port, &["EVAL", script, "1", key]).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Moves a key to the server that takes its slot over.
    pub async fn migrate(&self, key: &str, to: &Self) {
        let port = to.port.to_string();
        let moved = words(self.port, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        moved.unwrap_or_else(|error: redis::RedisError| panic!("{key}: {error}"))
    }
}

/// What the server on `port` answers to one command.
pub async fn ask<T: FromRedisValue>(port: u16, command: &str) -> RedisResult<T> {
    words(port, &command.split(' ').collect::<Vec<_>>()).await
}

async fn words<T: FromRedisValue>(port: u16, words: &[&str]) -> RedisResult<T> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.query_async(&mut connection).await
}

fn begin(port: u16, args: &[String], folder: &Path) -> Program {
    let mut command = Command::new(tool("bin/redis-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--repl-diskless-sync-delay", "0"]);
    Program::start(command.args(args).arg("--dir").arg(folder), folder)
}
