//! `tollgate account …`: what an operator does with accounts, credits and keys of a running sidecar.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::{CliError, Connection, connect};
use super::history;
use super::output::{Sheet, Value, table};
use super::standing;
use super::terms::{self, Terms};
use super::users::user_list;
use super::watch::watch;
use crate::transport::proto::tollgate::accounts_client::AccountsClient;
use crate::transport::proto::tollgate::{
    Account, AddCreditsRequest, ApiKey, CreateAccountRequest, CreateApiKeyRequest, CreditKind, GetAccountRequest,
    InspectAccountRequest, InspectAccountResponse, ListAccountsRequest, ListApiKeysRequest, ListHistoryRequest,
    ListHistoryResponse, ListUsersRequest, RevokeApiKeyRequest, Suspension, TermsChange, UpdateAccountRequest, User,
};
use tonic::Code;
use tonic::transport::Channel;

const SERVICE: &str = "tollgate.v1.Accounts";

/// Others may change the same account meanwhile, but not all the time.
const CHANGE_TRIES: u32 = 4;

/// Create accounts, add credits, make keys, look at balances.
#[derive(Args, Debug)]
pub struct AccountCommand {
    #[command(subcommand)]
    what: What,
    /// Where the sidecar serves accounts: HOST:PORT
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7301",
        help_heading = "Sidecar and output"
    )]
    at: String,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Sidecar and output")]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Create an account; prepaid without a payment method unless told otherwise
    Create {
        /// Its name: up to 64 letters, digits, dots, dashes and underscores
        account: String,
        /// Give the catalogue's starter credit
        #[arg(long)]
        starter_credit: bool,
        #[command(flatten)]
        terms: Box<Terms>,
    },
    /// Change an account's terms; what is not named stays as it is
    #[command(alias = "update")]
    Set {
        account: String,
        #[command(flatten)]
        terms: Box<Terms>,
    },
    /// Deny all requests of an account, until it is resumed
    Suspend {
        account: String,
        /// Why; what its requests are told
        #[arg(long = "for", value_name = "WHY")]
        why: Cause,
    },
    /// End a suspension
    Resume { account: String },
    /// Add credits, as in `tollgate account credit acme 25`
    Credit {
        account: String,
        /// How much, in USD
        #[arg(value_name = "USD", allow_negative_numbers = true)]
        amount: String,
        /// Names this purchase: repeated with the same id, it adds nothing [default: a random one]
        #[arg(long, value_name = "ID")]
        purchase_id: Option<String>,
        /// What the credits are; an adjustment goes up or down and wants a note, a refund wants --refund-of
        #[arg(long, value_name = "KIND", default_value = "purchased", value_parser = history::kind())]
        kind: CreditKind,
        /// A gift: counts for no tier; short for --kind promotional
        #[arg(long, conflicts_with = "kind")]
        promotional: bool,
        #[command(flatten)]
        papers: history::Papers,
    },
    /// Show what moved an account's balance and terms of payment, newest first
    History {
        account: String,
        /// At most so many lines
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on behind the line of this number
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
        /// From the beginning
        #[arg(long)]
        oldest_first: bool,
    },
    /// Show one account: money, terms, leases by node, and what this sidecar holds, limits and denied
    Show {
        account: String,
        /// Go on showing it: in place on a terminal, a line each time into a pipe
        #[arg(long)]
        watch: bool,
        /// How often, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 1, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=3_600))]
        every: u64,
    },
    /// List all accounts
    List,
    /// List an account's users with a cap: what it is, where it comes from, and what they spent in this month
    Users { account: String },
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(Key),
}

/// Why an account is suspended.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Cause {
    /// Its owner has to write to support
    Abuse,
    /// Its owner has to pay
    FailedPayments,
}

impl Cause {
    fn suspension(self) -> Suspension {
        match self {
            Self::Abuse => Suspension::Abuse,
            Self::FailedPayments => Suspension::FailedPayments,
        }
    }
}

#[derive(Subcommand, Debug)]
enum Key {
    /// Make a key; it is shown once
    Create {
        account: String,
        /// To tell keys apart
        #[arg(long, default_value = "", hide_default_value = true)]
        label: String,
    },
    /// List an account's keys, never the keys themselves
    List { account: String },
    /// End a key
    Revoke {
        account: String,
        /// As `key list` shows it
        id: String,
    },
}

/// The Accounts service of one sidecar.
pub struct Accounts {
    client: AccountsClient<Channel>,
    connection: Connection,
}

/// Does what was typed and returns what to print.
pub async fn run(command: &AccountCommand) -> Result<String, CliError> {
    let mut accounts = Accounts::connect(&command.at).await?;
    let json = command.json;
    let shown = |account: Account| terms::sheet(&account).render(json);
    match &command.what {
        What::Create { account, starter_credit, terms } => {
            accounts.create(account, terms.change(), *starter_credit).await.map(shown)
        }
        What::Set { account, terms } => accounts.change(account, &terms.change()).await.map(shown),
        What::Suspend { account, why } => accounts.suspend(account, why.suspension()).await.map(shown),
        What::Resume { account } => accounts.suspend(account, Suspension::None).await.map(shown),
        What::Credit { account, amount, purchase_id, kind, promotional, papers } => {
            let id = purchase_id.clone().map_or_else(super::random_id, Ok)?;
            let kind = if *promotional { CreditKind::Promotional } else { *kind };
            let request = papers.request(account, amount, &id, kind);
            accounts.book(request).await.map(shown).map_err(|error| error.of_purchase(&id))
        }
        What::History { account, limit, after, oldest_first } => {
            let request = ListHistoryRequest {
                account: account.clone(),
                page_size: *limit,
                page_token: after.map_or(String::new(), |after| after.to_string()),
                oldest_first: *oldest_first,
            };
            accounts.history(request).await.map(|listed| history::list(&listed, json))
        }
        What::Show { account, watch: true, every } => {
            watch(&mut accounts, account, json, Duration::from_secs(*every)).await.map(|()| String::new())
        }
        What::Show { account, .. } => accounts
            .inspect(account)
            .await
            .map(|(inspected, account)| standing::sheet(&inspected, &account).render(json)),
        What::List => Ok(account_list(&accounts.all().await?, json)),
        What::Users { account } => Ok(user_list(&accounts.users(account).await?, json)),
        What::Key(key) => accounts.key(key, json).await,
    }
}

impl Accounts {
    pub async fn connect(address: &str) -> Result<Self, CliError> {
        let connection = connect(address, SERVICE).await?;
        Ok(Self { client: AccountsClient::new(connection.channel.clone()), connection })
    }

    pub async fn create(&mut self, account: &str, terms: TermsChange, starter: bool) -> Result<Account, CliError> {
        let request = CreateAccountRequest { account: account.to_owned(), terms: Some(terms), starter_credit: starter };
        let reply = self.client.create_account(request).await;
        self.content(reply.map(|reply| reply.into_inner().account))
    }

    async fn suspend(&mut self, account: &str, suspension: Suspension) -> Result<Account, CliError> {
        let change = TermsChange { suspension: Some(suspension.into()), ..TermsChange::default() };
        self.change(account, &change).await
    }

    /// Reads the account's version and changes its terms against it; again where somebody else was faster.
    async fn change(&mut self, account: &str, change: &TermsChange) -> Result<Account, CliError> {
        for _ in 1..CHANGE_TRIES {
            match self.change_once(account, change).await {
                Err(CliError::Refused { code: Code::Aborted, .. }) => {}
                changed => return changed,
            }
        }
        self.change_once(account, change).await
    }

    async fn change_once(&mut self, account: &str, change: &TermsChange) -> Result<Account, CliError> {
        let version = self.get(account).await?.version;
        let request = UpdateAccountRequest { account: account.to_owned(), version, terms: Some(change.clone()) };
        let reply = self.client.update_account(request).await;
        self.content(reply.map(|reply| reply.into_inner().account))
    }

    pub async fn credit(&mut self, account: &str, usd: &str, id: &str, promotional: bool) -> Result<Account, CliError> {
        let kind = if promotional { CreditKind::Promotional } else { CreditKind::Purchased };
        self.book(history::Papers::default().request(account, usd, id, kind)).await
    }

    /// As many lines as were asked for, page by page.
    async fn history(&mut self, mut request: ListHistoryRequest) -> Result<ListHistoryResponse, CliError> {
        let (most, mut entries) = (usize::try_from(request.page_size).unwrap_or(usize::MAX), Vec::new());
        loop {
            request.page_size = u32::try_from(most.saturating_sub(entries.len()).min(500)).expect("at most 500");
            let page = self.client.list_history(request.clone()).await;
            let mut page = page.map_err(|status| self.connection.explain(&status))?.into_inner();
            entries.append(&mut page.entries);
            if page.next_page_token.is_empty() || most <= entries.len() {
                return Ok(ListHistoryResponse { entries, ..page });
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn book(&mut self, request: AddCreditsRequest) -> Result<Account, CliError> {
        let reply = self.client.add_credits(request).await;
        self.content(reply.map(|reply| reply.into_inner().account))
    }

    async fn get(&mut self, account: &str) -> Result<Account, CliError> {
        let reply = self.client.get_account(GetAccountRequest { account: account.to_owned() }).await;
        self.content(reply.map(|reply| reply.into_inner().account))
    }

    /// How an account stands at this moment, and the account itself.
    pub async fn inspect(&mut self, account: &str) -> Result<(InspectAccountResponse, Account), CliError> {
        let reply = self.client.inspect_account(InspectAccountRequest { account: account.to_owned() }).await;
        self.content(reply.map(|reply| {
            let mut inspected = reply.into_inner();
            inspected.account.take().map(|account| (inspected, account))
        }))
    }

    async fn all(&mut self) -> Result<Vec<Account>, CliError> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListAccountsRequest { page_size: 500, page_token };
            let page = self.client.list_accounts(request).await.map_err(|status| self.connection.explain(&status))?;
            let page = page.into_inner();
            all.extend(page.accounts);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn users(&mut self, account: &str) -> Result<Vec<User>, CliError> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListUsersRequest { account: account.to_owned(), page_size: 500, page_token };
            let page = self.client.list_users(request).await.map_err(|status| self.connection.explain(&status))?;
            let page = page.into_inner();
            all.extend(page.users);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn key(&mut self, key: &Key, json: bool) -> Result<String, CliError> {
        match key {
            Key::Create { account, label } => {
                let (record, secret) = self.create_key(account, label).await?;
                Ok(key_sheet(account, &record, &secret).render(json))
            }
            Key::List { account } => Ok(key_list(&self.keys(account).await?, json)),
            Key::Revoke { account, id } => {
                self.revoke(account, id).await?;
                let mut sheet = Sheet::new(format!("Revoked {id}; sidecars refuse it within two seconds."));
                sheet.unsaid("revoked", Value::text(id));
                Ok(sheet.render(json))
            }
        }
    }

    /// The new key's record, and the key itself.
    pub async fn create_key(&mut self, account: &str, label: &str) -> Result<(ApiKey, String), CliError> {
        let request = CreateApiKeyRequest { account: account.to_owned(), label: label.to_owned() };
        let reply = self.client.create_api_key(request).await;
        self.content(reply.map(|reply| {
            let reply = reply.into_inner();
            reply.api_key.map(|record| (record, reply.secret))
        }))
    }

    async fn keys(&mut self, account: &str) -> Result<Vec<ApiKey>, CliError> {
        let reply = self.client.list_api_keys(ListApiKeysRequest { account: account.to_owned() }).await;
        self.content(reply.map(|reply| Some(reply.into_inner().api_keys)))
    }

    async fn revoke(&mut self, account: &str, id: &str) -> Result<(), CliError> {
        let request = RevokeApiKeyRequest { account: account.to_owned(), id: id.to_owned() };
        let reply = self.client.revoke_api_key(request).await;
        self.content(reply.map(|_| Some(())))
    }

    /// What an answer holds, or what its absence means.
    fn content<T>(&self, reply: Result<Option<T>, tonic::Status>) -> Result<T, CliError> {
        reply.map_err(|status| self.connection.explain(&status))?.ok_or_else(|| self.connection.empty())
    }
}

fn account_list(accounts: &[Account], json: bool) -> String {
    if json {
        return accounts.iter().map(|account| terms::sheet(account).render(true)).collect();
    }
    if accounts.is_empty() {
        return "No accounts yet. Create one: tollgate account create NAME\n".into();
    }
    let rows: Vec<Vec<Value>> = accounts.iter().map(account_row).collect();
    table(&["account", "mode", "balance", "used", "this month", "leased"], &rows)
}

fn account_row(account: &Account) -> Vec<Value> {
    vec![
        Value::text(&account.account),
        Value::text(terms::mode(account)),
        Value::usd(&account.balance),
        Value::usd(&account.used),
        Value::usd(&account.month_used),
        Value::usd(&account.leased),
    ]
}

fn key_sheet(account: &str, record: &ApiKey, secret: &str) -> Sheet {
    let mut sheet = Sheet::new("Keep the key now: it is stored nowhere and not shown again.");
    sheet.unsaid("account", Value::text(account));
    sheet.row("key", Value::text(secret));
    key_rows(&mut sheet, record);
    sheet
}

fn key_rows(sheet: &mut Sheet, record: &ApiKey) {
    sheet.row("id", Value::text(&record.id));
    sheet.row("label", Value::text(&record.label));
    sheet.row("created", Value::text(&record.created_at));
}

fn key_list(keys: &[ApiKey], json: bool) -> String {
    if json {
        let line = |record| {
            let mut sheet = Sheet::default();
            key_rows(&mut sheet, record);
            sheet.render(true)
        };
        return keys.iter().map(line).collect();
    }
    let row = |key: &ApiKey| vec![Value::text(&key.id), Value::text(&key.label), Value::text(&key.created_at)];
    table(&["id", "label", "created"], &keys.iter().map(row).collect::<Vec<_>>())
}
