//! `tollgate serve --demo`: one command, keys that work, and commands that run as they are printed.

use std::path::Path;
use std::process::Command;

use tollgate::transport::proto::tollgate as api;

use crate::harness::program::{Program, run};
use crate::harness::sidecar::{ask, channel, tollgate};
use crate::harness::{Envoy, Request, Upstream, eventually, free_port};

struct Demo {
    check_port: u16,
    program: Program,
    greeting: String,
    _folder: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let check_port = free_port();
        let mut command = tollgate();
        command.args(["serve", "--demo", "--listen", &format!("127.0.0.1:{check_port}")]);
        for flag in ["--listen-accounts", "--listen-http"] {
            command.arg(flag).arg(format!("127.0.0.1:{}", free_port()));
        }
        let mut program = Program::start(&mut command, folder.path());
        let greeting = eventually("a greeting", async || {
            assert_eq!(program.ended(), None, "the demo ended");
            let said = program.stdout();
            said.contains("curl").then_some(said)
        })
        .await;
        Self { check_port, program, greeting, _folder: folder }
    }

    /// The key that stands beside an account's name.
    fn key(&self, account: &str) -> &str {
        let line = self.greeting.lines().find(|line| line.trim_start().starts_with(&format!("{account} ")));
        let line = line.unwrap_or_else(|| panic!("no {account} in {}", self.greeting));
        line.split_whitespace().nth(1).expect("a key beside the name")
    }
}

#[tokio::test]
async fn every_account_of_the_demo_is_admitted() {
    let demo = Demo::start().await;
    let upstream = Upstream::start().await;
    let envoy = Envoy::start(demo.check_port, &upstream).await;
    let mut client = api::admission_client::AdmissionClient::new(channel(demo.check_port).await);
    for (account, too_much) in [
        ("starter", api::Reason::ExceedsBalance),
        ("prepaid", api::Reason::ExceedsBalance),
        ("postpaid", api::Reason::ExceedsMonthRoom),
        ("contract", api::Reason::ExceedsLimit),
    ] {
        let answer = Request::chat(10).key(demo.key(account)).send(envoy.port).await;
        assert_eq!(answer.status, 200, "{account}: {answer}");
        let requests = if account == "starter" { 10 } else { 6_000 };
        assert_eq!(answer.number("x-ratelimit-limit-requests"), requests, "{account}: {answer}");

        // 100 completions of 65,536 tokens: some $98, and more tokens at once than anybody may have.
        let large = api::AdmitRequest { model: "kimi-k3".into(), n: Some(100), ..ask(account, "large", 65_536) };
        let answer = client.admit(large).await.unwrap().into_inner();
        let Some(api::admit_response::Result::Denial(denial)) = answer.result else { panic!("{account}: {answer:?}") };
        assert_eq!(denial.reason(), too_much, "{account}: {denial:?}");
    }
}

#[tokio::test]
async fn the_commands_it_prints_run() {
    let mut demo = Demo::start().await;
    let folder = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let words = [" admit ", " explain ", " account "];
    let lines =
        demo.greeting.lines().filter(|line| words.iter().any(|word| line.contains(word)) && !line.contains('#'));
    let mut commands = 0;
    for line in lines.map(str::trim).filter(|line| line.contains("tollgate")) {
        commands += 1;
        let (code, out, err) = run(Command::new("sh").args(["-c", line]).env("PATH", &path));
        let expected = if line.contains(" explain ") { 3 } else { 0 };
        assert_eq!(code, expected, "{line}\n{out}{err}");
        let says = if line.contains(" explain ") { "exceeds_balance" } else { "" };
        assert!(out.len() > 20 && out.contains(says), "{line}\n{out}{err}");
    }
    assert_eq!(commands, 5, "{}", demo.greeting);
    demo.program.signal("INT");
    let status = demo.program.end().await;
    assert!(status.success(), "Ctrl-C ends it in peace: {status}");
}
