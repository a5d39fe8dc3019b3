//! A real sidecar with a store of its own, and the calls that set a scene in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::accounts_client::AccountsClient;
use tollgate::transport::proto::tollgate::admission_client::AdmissionClient;
use tonic::transport::{Channel, Endpoint};

use super::program::Program;
use super::{Request, eventually, free_port};

pub struct Sidecar {
    pub check_port: u16,
    pub accounts_port: u16,
    pub http_port: u16,
    // Ends before its folder goes, so that a failing test can show what it wrote.
    pub program: Program,
    pub folder: tempfile::TempDir,
}

impl Sidecar {
    /// With a new store and the settings that a sidecar has by default, but patient: a disk that others keep busy is
    /// not what is tested.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With more lines of configuration, as in `answer.profile = "openai"`.
    pub async fn with(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let store = folder.path().join("store").display().to_string();
        Self::begin(folder, &store, settings).await
    }

    /// With a store that others share.
    pub async fn on(store: &str) -> Self {
        Self::begin(tempfile::tempdir().expect("there is a temporary folder"), store, "").await
    }

    /// With a store that others share, and more lines of configuration; it need not be ready yet.
    pub fn started_on(store: &str, settings: &str) -> Self {
        Self::started(tempfile::tempdir().expect("there is a temporary folder"), store, settings)
    }

    /// With a store that others share, and more lines of configuration.
    pub async fn on_with(store: &str, settings: &str) -> Self {
        Self::begin(tempfile::tempdir().expect("there is a temporary folder"), store, settings).await
    }

    async fn begin(folder: tempfile::TempDir, store: &str, settings: &str) -> Self {
        let mut sidecar = Self::started(folder, store, settings);
        sidecar.ready().await;
        sidecar
    }

    fn started(folder: tempfile::TempDir, store: &str, settings: &str) -> Self {
        let (check_port, accounts_port, http_port) = (free_port(), free_port(), free_port());
        let patience = if settings.contains("check.pool_wait") { "" } else { "check.pool_wait = \"5s\"" };
        let config = format!(
            "listen = \"127.0.0.1:{check_port}\"\n\
             listen_unix = \"{}\"\n\
             listen_accounts = \"127.0.0.1:{accounts_port}\"\n\
             listen_http = \"127.0.0.1:{http_port}\"\n\
             store = \"{store}\"\n\
             {patience}\n\
             {settings}\n",
            socket(folder.path()).display(),
        );
        fs::write(folder.path().join("tollgate.toml"), config).expect("the folder is writable");
        let program = serve(folder.path());
        Self { check_port, accounts_port, http_port, folder, program }
    }

    /// Starts it again on the same store and ports, after it ended.
    pub async fn start_again(&mut self) {
        assert!(self.program.ended().is_some(), "it still runs");
        self.program = serve(self.folder.path());
        self.ready().await;
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) {
        eventually("a ready sidecar", async || {
            assert_eq!(self.program.ended(), None, "the sidecar ended");
            let ready = Request::get("/readyz").try_send(self.http_port).await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
    }

    pub fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    pub async fn admission(&self) -> AdmissionClient<Channel> {
        AdmissionClient::new(channel(self.check_port).await)
    }

    pub async fn accounts(&self) -> AccountsClient<Channel> {
        AccountsClient::new(channel(self.accounts_port).await)
    }

    /// Makes an account with purchased credits (none if empty) and gives a key of it.
    pub async fn account(&self, name: &str, terms: api::TermsChange, credits: &str) -> String {
        let mut accounts = self.accounts().await;
        let request = api::CreateAccountRequest { account: name.into(), terms: Some(terms), starter_credit: false };
        accounts.create_account(request).await.expect("a new account");
        if !credits.is_empty() {
            self.add_credits(name, "first", credits, api::CreditKind::Purchased).await;
        }
        let request = api::CreateApiKeyRequest { account: name.into(), label: "test".into() };
        accounts.create_api_key(request).await.expect("a new key").into_inner().secret
    }

    pub async fn add_credits(&self, account: &str, purchase: &str, usd: &str, kind: api::CreditKind) -> api::Account {
        let request = api::AddCreditsRequest {
            account: account.into(),
            purchase_id: purchase.into(),
            amount: usd.into(),
            kind: kind.into(),
            ..Default::default()
        };
        let added = self.accounts().await.add_credits(request).await.expect("credits are added");
        added.into_inner().account.expect("an account")
    }

    /// The account as its operator sees it.
    pub async fn look_up(&self, account: &str) -> api::Account {
        self.try_look_up(account).await.expect("the account is there")
    }

    /// The same, where the store may be away.
    pub async fn try_look_up(&self, account: &str) -> Option<api::Account> {
        let request = api::GetAccountRequest { account: account.into() };
        self.accounts().await.get_account(request).await.ok()?.into_inner().account
    }

    /// The value of a metric without labels, from the live page.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = Request::get("/metrics").send(self.http_port).await.text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a metric is a number")
    }

    /// The same with its labels, as they stand on the page; 0 where it was never counted.
    pub async fn labelled(&self, name: &str) -> f64 {
        let page = Request::get("/metrics").send(self.http_port).await.text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a metric is a number"))
    }
}

/// A prepaid account that has all a real one has: a payment method and a billing profile.
pub fn payer() -> api::TermsChange {
    api::TermsChange { payment_method: Some(true), billing_profile: Some(true), ..Default::default() }
}

/// An ask of gpt-oss-120b with a prompt of 1,000 tokens.
pub fn ask(account: &str, request_id: &str, max_tokens: u32) -> api::AdmitRequest {
    api::AdmitRequest {
        who: Some(api::admit_request::Who::Account(account.into())),
        model: "gpt-oss-120b".into(),
        prompt: Some(api::admit_request::Prompt::PromptTokens(1_000)),
        max_tokens: Some(max_tokens),
        request_id: request_id.into(),
        ..Default::default()
    }
}

/// A channel to a port of this machine.
pub async fn channel(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("it is an address");
    endpoint.connect().await.expect("the sidecar listens")
}

pub fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// Through a shell that has the signal ignored with which the system answers writes beyond a limit: a full disk is an
/// error to a program, no signal.
fn serve(folder: &Path) -> Program {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tollgate")]);
    Program::start(command.arg("serve").arg("--config").arg(folder.join("tollgate.toml")), folder)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("check.sock")
}
