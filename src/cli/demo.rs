//! The demo's accounts, made through the Accounts port as any operator would, and what to try with them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::account::Accounts;
use super::client::CliError;
use super::output::{Value, table};
use crate::transport::proto::tollgate::{Mode, TermsChange, TopUp};

/// An account of the demo.
struct Guest {
    name: &'static str,
    about: &'static str,
    terms: TermsChange,
    /// Has the catalogue's starter credit.
    starter: bool,
    /// Credits it bought, in USD.
    bought: Option<&'static str>,
}

/// One of each kind that there is.
fn guests() -> [Guest; 4] {
    let funded = |mode: Mode| TermsChange {
        mode: Some(mode.into()),
        payment_method: Some(true),
        billing_profile: Some(true),
        ..TermsChange::default()
    };
    let usd = |usd: &str| Some(usd.to_owned());
    let top_up = TopUp { minimum: "5".into(), amount: "20".into(), monthly_cap: usd("100") };
    [
        Guest {
            name: "starter",
            about: "a $1 gift and no payment method",
            terms: TermsChange::default(),
            starter: true,
            bought: None,
        },
        Guest {
            name: "prepaid",
            about: "bought $20; auto top-up of $20 at $5",
            terms: TermsChange { top_up: Some(top_up), ..funded(Mode::Prepaid) },
            starter: false,
            bought: Some("20"),
        },
        Guest {
            name: "postpaid",
            about: "pays later: may owe $50, and use $50 a month",
            terms: TermsChange { credit_line: usd("50"), monthly_limit: usd("50"), ..funded(Mode::Postpaid) },
            starter: false,
            bought: None,
        },
        Guest {
            name: "contract",
            about: "a line of $1,000; its monthly limit of $500 only alerts",
            terms: TermsChange { credit_line: usd("1000"), monthly_limit: usd("500"), ..funded(Mode::Contract) },
            starter: false,
            bought: None,
        },
    ]
}

/// An account of the demo that is there, and a key of it.
#[derive(Clone, Debug)]
pub struct Furnished {
    name: &'static str,
    about: &'static str,
    key: String,
}

/// Makes the demo's accounts, unless they are there, and a key for each.
pub async fn furnish(accounts: SocketAddr) -> Result<Vec<Furnished>, CliError> {
    let mut accounts = Accounts::connect(&accounts.to_string()).await?;
    let mut furnished = Vec::new();
    for Guest { name, about, terms, starter, bought } in guests() {
        match accounts.create(name, terms, starter).await {
            Ok(_) | Err(CliError::Refused { code: tonic::Code::AlreadyExists, .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(usd) = bought {
            accounts.credit(name, usd, "demo", false).await?;
        }
        let (_, key) = accounts.create_key(name, "demo").await?;
        furnished.push(Furnished { name, about, key });
    }
    Ok(furnished)
}

/// Where the demo listens, and by what name it was started.
#[derive(Clone, Debug)]
pub struct Stage {
    pub program: String,
    pub requests: SocketAddr,
    pub accounts: SocketAddr,
    pub http: SocketAddr,
    /// Whether the store goes when the demo stops.
    pub temporary: bool,
}

/// What to print once the demo is ready.
pub fn greeting(stage: &Stage, furnished: &[Furnished]) -> String {
    let rows: Vec<Vec<Value>> =
        furnished.iter().map(|Furnished { name, about, key }| [*name, key, about].map(Value::text).to_vec()).collect();
    let keeps = if stage.temporary { " Everything here is gone when it stops (Ctrl-C)." } else { "" };
    format!(
        "Tollgate is ready.{keeps}\n\n{}\n{}\n{}",
        indented(&ports(stage)),
        indented(&table(&["account", "key", "what it is"], &rows)),
        commands(stage, furnished)
    )
}

fn ports(stage: &Stage) -> String {
    let row = |name: &str, at: SocketAddr, what: &str| [name, &at.to_string(), what].map(Value::text).to_vec();
    let rows = [
        row("requests", stage.requests, "gRPC: Envoy's ext_authz, and Admission for inference servers"),
        row("accounts", stage.accounts, "gRPC: accounts, credits and keys, for operators"),
        row("http", stage.http, "/livez, /readyz and /metrics"),
    ];
    table(&["port", "address", "what for"], &rows)
}

/// Each line can be copied into another terminal as it is.
fn commands(stage: &Stage, furnished: &[Furnished]) -> String {
    let key_of = |name| furnished.iter().find(|guest| guest.name == name).map_or("KEY", |guest| guest.key.as_str());
    let program = &stage.program;
    let asks = at(stage.requests, 7_300);
    let accounts = at(stage.accounts, 7_301);
    let prepaid = key_of("prepaid");
    let mut text = String::new();
    let mut say = |line: String| writeln!(text, "{line}").expect("a String takes everything");
    say("Try in another terminal:\n".into());
    say("  # May this request run? Then settle it, as if everything admitted had been generated.".into());
    say(format!("  {program} admit{asks} --key {prepaid} --model gpt-oss-120b --max-tokens 500 --settle"));
    say("  # One that costs more than a dollar: why not, and what would help. Changes nothing.".into());
    say(format!(
        "  {program} explain{asks} --key {} --model kimi-k3 --prompt-tokens 200000 --max-tokens 36000",
        key_of("starter")
    ));
    say("  # Where the money went (usage is reported with the next round); then add some.".into());
    say(format!("  {program} account{accounts} show prepaid"));
    say(format!("  {program} account{accounts} credit starter 25"));
    say(format!("  {program} account{accounts} list\n"));
    say("With Envoy in front, and a stand-in for an inference server:\n".into());
    if !at(stage.requests, 7_300).is_empty() {
        say(format!("  # Both examples ask 127.0.0.1:7300: write {} there first.", stage.requests));
    }
    say("  cargo run --example upstream".into());
    say("  envoy -c examples/envoy.yaml".into());
    say(format!("  curl -i http://127.0.0.1:10000/v1/chat/completions -H 'authorization: Bearer {prepaid}' \\"));
    say("    -H 'content-type: application/json' \\".into());
    say(r#"    -d '{"model":"gpt-oss-120b","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}'"#.into());
    text
}

/// The flag that leads to an address, where it is not the default one.
fn at(address: SocketAddr, default_port: u16) -> String {
    if address == SocketAddr::from(([127, 0, 0, 1], default_port)) { String::new() } else { format!(" --at {address}") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_lead_to_where_the_demo_listens() {
        let furnished = [Furnished { name: "prepaid", about: "", key: "tg_1".into() }];
        let stage = |port: u16| Stage {
            program: "tollgate".into(),
            requests: SocketAddr::from(([127, 0, 0, 1], port)),
            accounts: SocketAddr::from(([127, 0, 0, 1], port + 1)),
            http: SocketAddr::from(([127, 0, 0, 1], port + 2)),
            temporary: true,
        };
        assert!(greeting(&stage(7_300), &furnished).contains("\n  tollgate admit --key tg_1 --model"));
        assert!(greeting(&stage(8_300), &furnished).contains("\n  tollgate admit --at 127.0.0.1:8300 --key tg_1"));
        assert!(greeting(&stage(8_300), &furnished).contains("\n  tollgate account --at 127.0.0.1:8301 list\n"));
    }
}
