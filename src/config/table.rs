//! Every setting: where it stands in the file, what it is if nobody says, and what it is for.
//!
//! `hold.life` in the file is `TOLLGATE_HOLD_LIFE` in the environment and `--hold-life` as a flag.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::transport::status::Profile;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// As in the file: `hold.life`.
    pub path: &'static str,
    pub kind: Kind,
    /// What it is if nobody says; empty where that is nothing, or found out at the start.
    pub default: &'static str,
    /// One line.
    pub help: &'static str,
}

/// How a setting is written where everything is a text: in the environment and as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text; the word names what it is.
    Text(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `200ms`, `15s`, `10m`, `72h`.
    Duration,
    Whole,
    Switch,
}

const fn setting(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { path, kind, default, help }
}

pub const PROFILES: &[&str] = &[Profile::Fireworks.name(), Profile::OpenAi.name(), Profile::Anthropic.name()];
pub const TOKEN_UNITS: &[&str] = &["minute", "second"];
pub const LOG_FORMATS: &[&str] = &["text", "json"];

const ADDRESS: Kind = Kind::Text("IP:PORT");
const PATH: Kind = Kind::Text("PATH");
const NAME: Kind = Kind::Text("NAME");
const URL: Kind = Kind::Text("URL");

/// In the order in which people look for them.
#[rustfmt::skip] // a table: one line for each setting
pub const SETTINGS: &[Setting] = &[
    setting("listen", ADDRESS, "127.0.0.1:7300", "Where Envoy (ext_authz) and inference servers (Admission) ask"),
    setting("listen_unix", PATH, "", "A unix socket for the same, beside `listen`"),
    setting("listen_accounts", ADDRESS, "127.0.0.1:7301", "Where accounts, credits and keys are administered"),
    setting("accounts.allow_remote", Kind::Switch, "false", "Let listen_accounts be other than loopback; whoever reaches it can create credit"),
    setting("listen_http", ADDRESS, "127.0.0.1:7302", "Where probes (/livez, /readyz) and /metrics are served"),
    setting("store", Kind::Text("PATH|URL"), "", "What keeps accounts, credits and usage: a file, or for many sidecars redis://HOST:PORT, redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER (rediss for TLS); required, except for the demo"),
    setting("store_prefix", NAME, "tollgate", "What keys on a Redis server begin with"),
    setting("store_user", NAME, "", "Who this sidecar is to a Redis server, with the rights ~PREFIX:* &PREFIX:* +@all -@dangerous; wins over the URL"),
    setting("store_password", Kind::Text("SECRET"), "", "Its password; wins over the URL, and is best given as TOLLGATE_STORE_PASSWORD"),
    setting("store_sentinel_password", Kind::Text("SECRET"), "", "What sentinels want, if they want one; best given as TOLLGATE_STORE_SENTINEL_PASSWORD"),
    setting("store_ca", PATH, "", "Whose certificates of Redis servers are trusted (PEM); the system's authorities if not set"),
    setting("store_certificate", PATH, "", "This sidecar's certificate for Redis servers that want one (PEM)"),
    setting("store_key", PATH, "", "The key of store_certificate (PEM)"),
    setting("catalogue", PATH, "", "Models, prices, tiers and limits; the shipped fireworks-2026-10 if not set"),
    setting("identity.api_key", Kind::Switch, "true", "Accept `authorization: Bearer KEY` and `x-api-key: KEY`"),
    setting("identity.account_header", NAME, "", "A header that names the account; only where the proxy always sets or removes it"),
    setting("identity.user_header", NAME, "", "A header that names the user inside the account; under the same condition"),
    setting("identity.user_metadata", Kind::Text("NAMESPACE:FIELD.FIELD"), "", "Envoy's dynamic metadata that names the user; looked at before the header"),
    setting("identity.user_from_body", Kind::Switch, "false", "Take `user` of the body where nothing else names the user; only where any client may claim to be anybody"),
    setting("identity.metadata", Kind::Text("NAMESPACE:FIELD.FIELD"), "", "Envoy's dynamic metadata that names the account, as in envoy.filters.http.jwt_authn:payload.sub"),
    setting("answer.profile", Kind::Word(PROFILES), "fireworks", "Whose HTTP codes and error bodies denials have"),
    setting("answer.token_unit", Kind::Word(TOKEN_UNITS), "minute", "What token limits in answer headers are counted per"),
    setting("answer.show_balances", Kind::Switch, "false", "Tell clients the account's balance and limits in money"),
    setting("ask.trust_headers", Kind::Switch, "false", "Read model and bounds from x-tollgate-* headers; only where the proxy always sets or removes them"),
    setting("ask.model_header", NAME, "x-ai-model", "A further header that names the model, where headers are trusted"),
    setting("ask.request_id_header", NAME, "x-request-id", "The header that names the request, made by the proxy; \"none\" gives each a random name"),
    setting("ask.capped", Kind::Switch, "false", "Admit with fewer tokens rather than deny for money; the server must obey x-tollgate-max-tokens"),
    setting("check.pool_wait", Kind::Duration, "50ms", "The longest a check waits for the pool, where memory does not suffice; 2s in the demo"),
    setting("emergency.account", Kind::Text("USD"), "1", "Credit for one account while the store is away, if its failure policy is allowance"),
    setting("emergency.sidecar", Kind::Text("USD"), "100", "The same for all accounts of this sidecar together, those whose policy is open too"),
    setting("cashier.payment_url", URL, "", "Where purchases of auto top-up are asked for: https, or http on this machine; nothing is bought if not set"),
    setting("cashier.alerts_url", URL, "", "Where alerts are told; may be the same; nobody is told if not set"),
    setting("cashier.secret", Kind::Text("SECRET"), "", "What calls to webhooks are signed with; while it is replaced the new one and the old one, a space in between; best given as TOLLGATE_CASHIER_SECRET"),
    setting("cashier.secret_file", PATH, "", "A file with the same"),
    setting("cashier.timeout", Kind::Duration, "10s", "The longest that a call to a webhook may take"),
    setting("cashier.ca", PATH, "", "Whose certificates of webhooks are trusted (PEM); the system's authorities if not set"),
    setting("wire.message_bytes_max", Kind::Whole, "4194304", "The largest message that is read, in bytes; a check carries the body"),
    setting("wire.streams_max", Kind::Whole, "4096", "Calls at once on one connection; more wait in the client"),
    setting("wire.asks_max", Kind::Whole, "65536", "Checks under way at once; above it the answer is `overloaded`"),
    setting("wire.call_life", Kind::Duration, "5s", "The longest that a call to the accounts port takes"),
    setting("round.every", Kind::Duration, "200ms", "How often usage is reported to the store and leases are renewed"),
    setting("audit.every", Kind::Duration, "", "From one audit of all accounts' books by this process to the next; one process of a fleet suffices; never if not set"),
    setting("hold.life", Kind::Duration, "5m", "How long a hold lives without a sign of life, where the request does not say"),
    setting("hold.life_max", Kind::Duration, "1h", "The longest silence that a request may ask for"),
    setting("hold.ended_keep", Kind::Duration, "15m", "How long ended holds are remembered, so that a repeated settle gets its first answer"),
    setting("bounds.accounts", Kind::Whole, "1000000", "Accounts in memory"),
    setting("bounds.holds", Kind::Whole, "1000000", "Holds open at once, ten million at most; above it the answer is `overloaded`"),
    setting("bounds.ended_holds", Kind::Whole, "200000", "Ended holds that are remembered, ten million at most; the oldest go first"),
    setting("bounds.unknown_accounts", Kind::Whole, "100000", "Names remembered for 5 s because the store did not know them"),
    setting("workers", Kind::Whole, "", "Threads that answer checks; one for each core if not set"),
    setting("drain", Kind::Duration, "25s", "The longest from a stop signal to the exit"),
    setting("node", NAME, "", "This sidecar's name in the store; the machine's host name if not set"),
    setting("log.format", Kind::Word(LOG_FORMATS), "text", "How log lines look"),
    setting("log.level", Kind::Text("FILTER"), "info", "A level, or levels by module, as in info,tollgate=debug"),
];

impl Setting {
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    pub fn variable(&self) -> String {
        format!("TOLLGATE_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// A text from the environment or a flag as the file would have it. What does not fit is left for the reader to report.
    pub fn value(&self, text: &str) -> toml::Value {
        let as_text = || toml::Value::from(text);
        match self.kind {
            Kind::Whole => text.parse::<i64>().map_or_else(|_| as_text(), toml::Value::from),
            Kind::Switch => text.parse::<bool>().map_or_else(|_| as_text(), toml::Value::from),
            Kind::Text(_) | Kind::Word(_) | Kind::Duration => as_text(),
        }
    }

    fn arg(&self) -> Arg {
        let help = if self.default.is_empty() {
            self.help.into()
        } else {
            format!("{} [default: {}]", self.help, self.default)
        };
        let arg = Arg::new(self.path).long(self.flag()).help(help).action(ArgAction::Set).help_heading("Settings");
        match self.kind {
            Kind::Text(name) => arg.value_name(name),
            Kind::Word(words) => arg.value_name(words.join("|")),
            Kind::Duration => arg.value_name("DURATION"),
            Kind::Whole => arg.value_name("COUNT"),
            Kind::Switch => {
                arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true")
            }
        }
    }
}

/// Settings given as flags: the setting and its text.
#[derive(Debug, Default)]
pub struct Flags(pub Vec<(&'static Setting, String)>);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(Setting::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given =
            |setting: &'static Setting| matches.get_one::<String>(setting.path).map(|text| (setting, text.clone()));
        Ok(Self(SETTINGS.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
