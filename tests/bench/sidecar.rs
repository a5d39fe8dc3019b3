//! The release binary under test, with a store in memory and accounts that have keys and credits.

use std::path::Path;

use tollgate::transport::proto::tollgate::accounts_client::AccountsClient;
use tollgate::transport::proto::tollgate::{
    AddCreditsRequest, CreateAccountRequest, CreateApiKeyRequest, CreditKind, TermsChange,
};
use tonic::transport::Channel;

use crate::machine::{self, Process};

pub struct Sidecar {
    pub process: Process,
    /// `host:port` of the main port.
    pub address: String,
    /// `unix:/path` of the main socket.
    pub socket: String,
    /// One API key for each account, all of one length.
    pub keys: Vec<String>,
}

impl Sidecar {
    /// Starts the binary on `core` with one worker, its store in `folder`, and makes `accounts` accounts.
    pub fn start(core: &str, folder: &Path, accounts: usize) -> Self {
        let store = folder.join("store.redb").display().to_string();
        Self::with_store(core, folder, &store, accounts)
    }

    /// As [`Sidecar::start`], with its store somewhere else.
    pub fn with_store(core: &str, folder: &Path, store: &str, accounts: usize) -> Self {
        Self::of(env!("CARGO_BIN_EXE_tollgate"), core, folder, store, accounts)
    }

    /// As [`Sidecar::start`], of another build.
    pub fn of(binary: &str, core: &str, folder: &Path, store: &str, accounts: usize) -> Self {
        let [main, operators, http] = machine::free_addresses();
        let socket = folder.join("tollgate.sock");
        let config = folder.join("tollgate.toml");
        std::fs::write(&config, configuration(&main, &operators, &http, &socket, store)).expect("a writable folder");
        let command = [binary.to_owned(), "serve".to_owned(), "--config".to_owned(), config.display().to_string()];
        let process = Process::start(core, &command, &main);
        let keys = create_accounts(&operators, accounts);
        Self { process, address: main, socket: format!("unix:{}", socket.display()), keys }
    }
}

/// Load and server share a small machine with others, so a check may wait long for the pool before it is given up.
/// Holds live a second, the least there is, so that a run that never settles pays for their expiry too and keeps a steady
/// number open: the checks of one or two seconds, which is more than a node that infers ever has.
fn configuration(main: &str, operators: &str, http: &str, socket: &Path, store: &str) -> String {
    format!(
        r#"
listen = "{main}"
listen_unix = "{socket}"
listen_accounts = "{operators}"
listen_http = "{http}"
store = "{store}"
workers = 1
[ask]
trust_headers = true
[check]
pool_wait = "1s"
[hold]
life = "1s"
[log]
level = "warn"
"#,
        socket = socket.display(),
    )
}

fn create_accounts(address: &str, count: usize) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let client = AccountsClient::new(channel.connect().await.expect("the accounts port answers"));
        let mut keys = Vec::with_capacity(count);
        for number in 0..count {
            keys.push(create_account(client.clone(), format!("acct-{number:010}")).await.expect("an account"));
        }
        keys
    })
}

async fn create_account(mut client: AccountsClient<Channel>, name: String) -> Result<String, tonic::Status> {
    let terms = TermsChange { payment_method: Some(true), billing_profile: Some(true), ..TermsChange::default() };
    let create = CreateAccountRequest { account: name.clone(), terms: Some(terms), starter_credit: false };
    client.create_account(create).await?;
    let credits = AddCreditsRequest {
        account: name.clone(),
        purchase_id: "first".to_owned(),
        amount: "10000".to_owned(),
        kind: CreditKind::Purchased.into(),
        ..Default::default()
    };
    client.add_credits(credits).await?;
    let key = CreateApiKeyRequest { account: name, label: "bench".to_owned() };
    Ok(client.create_api_key(key).await?.into_inner().secret)
}
