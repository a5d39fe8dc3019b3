//! A real Envoy with the configuration that we hand out, on other ports.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::program::Program;
use super::{Request, Upstream, eventually, free_port, root, tool};

pub struct Envoy {
    /// Where clients connect.
    pub port: u16,
    admin_port: u16,
    program: Program,
    _folder: tempfile::TempDir,
}

impl Envoy {
    /// In front of `upstream`, asking the sidecar that listens on `check_port`.
    pub async fn start(check_port: u16, upstream: &Upstream) -> Self {
        Self::with(check_port, upstream, &[PATIENT]).await
    }

    /// With pieces of the configuration replaced. Each must be there exactly once.
    pub async fn with(check_port: u16, upstream: &Upstream, changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let (port, admin_port) = (free_port(), free_port());
        let mut config = example();
        for (from, to) in changes {
            config = replaced(&config, from, to);
        }
        for (from, to) in [(10_000, port), (9_901, admin_port), (8_000, upstream.port)] {
            config = replaced(&config, &port_value(from), &port_value(to));
        }
        config = config.replace(&port_value(7_300), &port_value(check_port));
        let path = folder.path().join("envoy.yaml");
        fs::write(&path, config).expect("the folder is writable");
        let program = Program::start(command(&path).args(["--log-level", "warn"]), folder.path());
        let mut envoy = Self { port, admin_port, program, _folder: folder };
        envoy.live().await;
        envoy
    }

    async fn live(&mut self) {
        eventually("a live Envoy", async || {
            assert_eq!(self.program.ended(), None, "Envoy refuses its configuration");
            let ready = Request::get("/ready").try_send(self.admin_port).await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
    }

    /// One of Envoy's own counters.
    pub async fn counter(&self, name: &str) -> u64 {
        let page = Request::get("/stats").send(self.admin_port).await.text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("Envoy has no {name}")).parse().expect("a counter is a number")
    }
}

/// Waits for a sidecar on a busy machine.
pub const PATIENT: (&str, &str) = ("                timeout: 0.25s", "                timeout: 10s");

/// The configuration as we hand it out.
pub fn example() -> String {
    fs::read_to_string(root().join("examples/envoy.yaml")).expect("the example is there")
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(tool("bin/envoy"));
    command.arg("-c").arg(config).args(["--concurrency", "1", "--disable-hot-restart"]);
    command
}

fn port_value(port: u16) -> String {
    format!("port_value: {port}}}")
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "examples/envoy.yaml has {from:?} exactly once");
    text.replace(from, to)
}
