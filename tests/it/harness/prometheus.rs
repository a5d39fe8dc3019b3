//! A real Prometheus that scrapes one port.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::program::Program;
use super::{Request, eventually, free_port, tool};

pub struct Prometheus {
    port: u16,
    _program: Program,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `/metrics` of `target` every second.
    pub async fn start(target: u16) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let port = free_port();
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: tollgate, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).expect("the folder is writable");
        let mut command = Command::new(tool("bin/prometheus"));
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let program = Program::start(&mut command, folder.path());
        let prometheus = Self { port, _program: program, _folder: folder };
        eventually("a ready Prometheus", async || {
            let ready = Request::get("/-/ready").try_send(port).await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// The value of the only series of `query`; `None` where there is none yet.
    pub async fn value(&self, query: &str) -> Option<String> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(query))).await;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }

    /// An answer of its HTTP API.
    pub async fn get(&self, path: &str) -> Value {
        Request::get(path).send(self.port).await.json()
    }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
