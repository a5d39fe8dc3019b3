//! From the table of all settings to the settings of each room, with every fault at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use super::table::{LOG_FORMATS, PROFILES, TOKEN_UNITS};
use super::{Listeners, Settings, StoreAt};
use crate::cashier::settings::{CashierSettings, Endpoint, Secrets};
use crate::decision::catalogue::FIREWORKS_2026_10;
use crate::decision::{Catalogue, Credit};
use crate::fields::{Fault, Faults, Field, Fields, Reader};
use crate::gate::GateSettings;
use crate::ledger::{Allowance, HOLDS_MAX, LedgerSettings};
use crate::reconcile::RoundSettings;
use crate::reconcile::redis::{Access, Address};
use crate::telemetry::{LogFormat, is_log_filter};
use crate::transport::headers::RateUnit;
use crate::transport::identity::{IdentitySettings, MetadataPath};
use crate::transport::settings::{AnswerSettings, AskSettings, TransportSettings, WireSettings};
use crate::transport::status::Profile;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A name that the store did not know may be created any moment.
const UNKNOWN_KEEP: Duration = Duration::from_secs(5);

/// Reads every field before it leaves, so that no fault hides another.
pub fn read(reader: &Reader, table: Table, demo: bool) -> Option<Settings> {
    let mut top = reader.table(table, String::new());
    let listeners = listeners(reader, &mut top);
    let store = store_at(&mut top, demo);
    let catalogue = catalogue(reader, &top.optional("catalogue"));
    let identity = identity(section(reader, &mut top, "identity"));
    let ask = ask(section(reader, &mut top, "ask"));
    let answer = answer(section(reader, &mut top, "answer"));
    let wire = wire(section(reader, &mut top, "wire"));
    let check = section(reader, &mut top, "check");
    let gate = gate(check, section(reader, &mut top, "emergency"));
    let cashier = cashier(section(reader, &mut top, "cashier"));
    let round = round(section(reader, &mut top, "round"));
    let audit_every = audit_every(section(reader, &mut top, "audit"));
    let hold = section(reader, &mut top, "hold");
    let sync_every = round.map_or(Duration::ZERO, |round| round.every);
    let workers = workers(&top.optional("workers"));
    let bounds = section(reader, &mut top, "bounds");
    let ledger = ledger(hold, bounds, sync_every, workers.unwrap_or(1));
    let drain = top.required("drain").duration(Duration::from_secs(1)..=HOUR);
    let node = node(&top.optional("node"));
    let (log_format, log_filter) = log(section(reader, &mut top, "log"));
    top.end();
    Some(Settings {
        listeners: listeners?,
        store,
        catalogue: Arc::new(catalogue?),
        transport: TransportSettings { identity: identity?, ask: ask?, answer: answer?, wire: wire? },
        gate: gate?,
        cashier: cashier?,
        round: round?,
        audit_every,
        ledger: ledger?,
        workers: workers?,
        drain: drain?,
        node: node?,
        log_format: log_format?,
        log_filter: log_filter?,
    })
}

/// The fields of a table that is always there; where it is something else, a fault says so.
fn section<'a>(reader: &'a Reader, top: &mut Fields<'a>, name: &'static str) -> Fields<'a> {
    top.optional(name).fields().unwrap_or_else(|| reader.table(Table::new(), name.to_owned()))
}

fn listeners<'a>(reader: &'a Reader, top: &mut Fields<'a>) -> Option<Listeners> {
    let requests = address(&top.required("listen"));
    let unix = top.optional("listen_unix").text().map(PathBuf::from);
    let accounts = address(&top.required("listen_accounts"));
    let http = address(&top.required("listen_http"));
    let mut fields = section(reader, top, "accounts");
    let allow_remote = fields.required("allow_remote").boolean();
    fields.end();
    if allow_remote == Some(false) && accounts.is_some_and(|at| !at.ip().is_loopback()) {
        let remedy = "write 127.0.0.1:7301, or set accounts.allow_remote = true behind a firewall";
        reader.fault("listen_accounts", format!("is not loopback, and whoever reaches it can create credit; {remedy}"));
    }
    let listeners = Listeners { requests: requests?, unix, accounts: accounts?, http: http? };
    let ports =
        [("listen", listeners.requests), ("listen_accounts", listeners.accounts), ("listen_http", listeners.http)];
    for (index, (path, at)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| earlier == at && at.port() != 0) {
            reader.fault(*path, format!("is {at}, as {other} is; give each a port of its own"));
        }
    }
    Some(listeners)
}

fn address(field: &Field<'_>) -> Option<SocketAddr> {
    parsed(field, "write IP:PORT, as in 127.0.0.1:7300 or [::]:7300", |text| text.parse().ok())
}

/// A text in a form of its own.
fn parsed<T>(field: &Field<'_>, remedy: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let text = field.text()?;
    let value = parse(&text);
    if value.is_none() {
        field.fault(format!("is {text:?}; {remedy}"));
    }
    value
}

/// A file, or the URL of a server.
fn store_at(top: &mut Fields<'_>, demo: bool) -> Option<StoreAt> {
    let field = top.optional("store");
    let prefix = parsed(&top.required("store_prefix"), "write a word without braces, as in tollgate", |text| {
        (!text.is_empty() && !text.contains(['{', '}'])).then(|| text.to_owned())
    });
    if !field.is_there() && !demo {
        field.fault("is missing; name the file to keep accounts in, as in /var/lib/tollgate/tollgate.redb, or a server, as in redis://localhost:6379, or try it with --demo");
    }
    let access = access(top);
    let text = field.text()?;
    if !text.contains("://") {
        return Some(StoreAt::File(text.into()));
    }
    // Not the text itself: it may have a password.
    match Address::parse_with(&text, &access?) {
        Ok(address) => Some(StoreAt::Server { address: Box::new(address), prefix: prefix? }),
        Err(error) => {
            field.fault(format!(
                "is no address of a server ({error}); write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/MASTER, and rediss for TLS"
            ));
            None
        }
    }
}

/// Who asks a server, and what proves it.
fn access(top: &mut Fields<'_>) -> Option<Access> {
    let user = top.optional("store_user").text();
    let password = top.optional("store_password").text();
    let sentinel_password = top.optional("store_sentinel_password").text();
    let ca = pem(&top.optional("store_ca"));
    let (certificate_at, key_at) = (top.optional("store_certificate"), top.optional("store_key"));
    if certificate_at.is_there() != key_at.is_there() {
        certificate_at.fault("and store_key belong together; set both, or none".to_owned());
    }
    let (certificate, key) = (pem(&certificate_at), pem(&key_at));
    Some(Access { user, password, sentinel_password, ca: ca?, client: certificate?.zip(key?) })
}

/// A file's content; nothing inside where none is named.
fn pem(field: &Field<'_>) -> Option<Option<Vec<u8>>> {
    if !field.is_there() {
        return Some(None);
    }
    let path = field.text()?;
    let unreadable = |error| field.fault(format!("{path} cannot be read ({error}); correct the path"));
    std::fs::read(&path).map_err(unreadable).ok().map(Some)
}

/// The catalogue from its file, with every fault in it, or the shipped one.
fn catalogue(reader: &Reader, field: &Field<'_>) -> Option<Catalogue> {
    let path = field.text();
    let text = match &path {
        None => FIREWORKS_2026_10.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| field.fault(format!("{path} cannot be read ({error}); correct the path")))
            .ok()?,
    };
    let file = path.as_deref().unwrap_or("the shipped catalogue");
    let faults = |Faults(faults)| {
        for Fault { path, message } in faults {
            reader.fault(format!("{file}: {path}"), message);
        }
    };
    Catalogue::parse(&text).map_err(faults).ok()
}

fn identity(mut fields: Fields<'_>) -> Option<IdentitySettings> {
    let api_key = fields.required("api_key").boolean();
    let account_header = header(&fields.optional("account_header"));
    let user_header = header(&fields.optional("user_header"));
    let path = |field: &Field<'_>| {
        let remedy =
            "write NAMESPACE:FIELD or NAMESPACE:FIELD.FIELD, as in \"envoy.filters.http.jwt_authn:payload.sub\"";
        parsed(field, remedy, metadata_path)
    };
    let user_metadata = path(&fields.optional("user_metadata"));
    let user_from_body = fields.required("user_from_body").boolean();
    let metadata = path(&fields.optional("metadata"));
    if api_key == Some(false) && account_header.is_none() && metadata.is_none() {
        fields.fault("api_key", "is false, and nothing else says who asks; set it, or account_header, or metadata");
    }
    fields.end();
    Some(IdentitySettings {
        api_key: api_key?,
        account_header,
        user_header,
        user_metadata,
        user_from_body: user_from_body?,
        metadata,
    })
}

/// The name of a header, in lower case; `none` is none.
fn header(field: &Field<'_>) -> Option<String> {
    let name = parsed(field, "write a header name such as x-account", |name| {
        let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        is_token.then(|| name.to_ascii_lowercase())
    });
    name.filter(|name| name != "none")
}

fn metadata_path(text: &str) -> Option<MetadataPath> {
    let (namespace, path) = text.split_once(':').filter(|(namespace, _)| !namespace.is_empty())?;
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    path.iter().all(|part| !part.is_empty()).then(|| MetadataPath { namespace: namespace.to_owned(), path })
}

fn ask(mut fields: Fields<'_>) -> Option<AskSettings> {
    let trust_headers = fields.required("trust_headers").boolean();
    let model_header = header(&fields.required("model_header"));
    let request_id_header = header(&fields.required("request_id_header"));
    let capped = fields.required("capped").boolean();
    fields.end();
    Some(AskSettings { trust_headers: trust_headers?, model_header, request_id_header, capped: capped? })
}

fn answer(mut fields: Fields<'_>) -> Option<AnswerSettings> {
    let profile = fields.required("profile").word(PROFILES);
    let profile = profile.and_then(|name| Profile::ALL.into_iter().find(|profile| profile.name() == name));
    let token_unit = fields.required("token_unit").word(TOKEN_UNITS);
    let show_balances = fields.required("show_balances").boolean();
    fields.end();
    let token_unit = if token_unit? == "second" { RateUnit::PerSecond } else { RateUnit::PerMinute };
    Some(AnswerSettings { profile: profile?, token_unit, show_balances: show_balances? })
}

fn wire(mut fields: Fields<'_>) -> Option<WireSettings> {
    let message_bytes_max = fields.required("message_bytes_max").whole(1 << 10..=64 << 20);
    let streams_max = fields.required("streams_max").whole(1..=1 << 20);
    let asks_max = fields.required("asks_max").whole(1..=1 << 24);
    let call_life = fields.required("call_life").duration(Duration::from_millis(100)..=HOUR);
    fields.end();
    Some(WireSettings {
        message_bytes_max: message_bytes_max?,
        streams_max: streams_max?,
        asks_max: asks_max?,
        call_life: call_life?,
    })
}

fn gate(mut check: Fields<'_>, mut emergency: Fields<'_>) -> Option<GateSettings> {
    let pool_wait = check.required("pool_wait").duration(Duration::from_millis(1)..=Duration::from_secs(10));
    check.end();
    let account = credit(&emergency.required("account"));
    let sidecar = credit(&emergency.required("sidecar"));
    emergency.end();
    Some(GateSettings { pool_wait: pool_wait?, allowance: Allowance { account: account?, sidecar: sidecar? } })
}

/// What the cashier needs; nothing inside where it has nobody to call.
fn cashier(mut fields: Fields<'_>) -> Option<Option<CashierSettings>> {
    let payments_at = fields.optional("payment_url");
    let alerts_at = fields.optional("alerts_url");
    let (payments, alerts) = (endpoint(&payments_at), endpoint(&alerts_at));
    let (secret, file) = (fields.optional("secret"), fields.optional("secret_file"));
    let secrets = secrets(&secret, &file);
    let timeout = fields.required("timeout").duration(Duration::from_millis(100)..=Duration::from_secs(60));
    let ca = pem(&fields.optional("ca"));
    let has_hook = payments_at.is_there() || alerts_at.is_there();
    if has_hook && !secret.is_there() && !file.is_there() {
        secret.fault("is missing; make one with `openssl rand -hex 32`, tell it to the webhook too, and set it as TOLLGATE_CASHIER_SECRET");
    }
    fields.end();
    if !has_hook {
        return timeout.zip(ca).map(|_| None);
    }
    Some(Some(CashierSettings { payments, alerts, secrets: secrets?, timeout: timeout?, ca: ca? }))
}

/// A webhook's address. Not the text itself is told: it may have a secret in it.
fn endpoint(field: &Field<'_>) -> Option<Endpoint> {
    let url = field.text()?;
    let wrong = |why| field.fault(format!("{why}; write https://HOST[:PORT]/PATH, or http://127.0.0.1:PORT/PATH"));
    Endpoint::parse(&url).map_err(wrong).ok()
}

/// From the one or the other.
fn secrets(secret: &Field<'_>, file: &Field<'_>) -> Option<Secrets> {
    if secret.is_there() && file.is_there() {
        file.fault("and cashier.secret are both set; remove one");
    }
    let field = if secret.is_there() { secret } else { file };
    let text = if secret.is_there() { secret.text()? } else { String::from_utf8(pem(file)??).unwrap_or_default() };
    Secrets::parse(&text).map_err(|why| field.fault(why)).ok()
}

/// USD, at least 0.
fn credit(field: &Field<'_>) -> Option<Credit> {
    let usd = field.decimal()?;
    let credit = Credit::from_usd(usd).map_err(|error| field.fault(format!("{error}; write another amount"))).ok()?;
    if credit < Credit::ZERO {
        field.fault(format!("is {usd}; write at least 0"));
    }
    Some(credit)
}

fn round(mut fields: Fields<'_>) -> Option<RoundSettings> {
    let every = fields.required("every").duration(Duration::from_millis(10)..=Duration::from_secs(10));
    fields.end();
    Some(RoundSettings { every: every?, ..RoundSettings::default() })
}

fn audit_every(mut fields: Fields<'_>) -> Option<Duration> {
    let every = fields.optional("every").duration(Duration::from_secs(1)..=DAY.saturating_mul(30));
    fields.end();
    every
}

fn ledger(
    mut hold: Fields<'_>,
    mut bounds: Fields<'_>,
    sync_every: Duration,
    workers: usize,
) -> Option<LedgerSettings> {
    let life = hold.required("life").duration(Duration::from_secs(1)..=DAY);
    let life_max = hold.required("life_max").duration(Duration::from_secs(1)..=DAY);
    let ended_keep = hold.required("ended_keep").duration(Duration::from_secs(1)..=DAY);
    if life.zip(life_max).is_some_and(|(life, life_max)| life > life_max) {
        hold.fault("life", "is longer than hold.life_max; shorten it, or lengthen that");
    }
    hold.end();
    let mut bound = |name, most| bounds.required(name).whole(1..=most);
    let accounts = bound("accounts", 100_000_000);
    let holds = bound("holds", HOLDS_MAX);
    let ended = bound("ended_holds", HOLDS_MAX);
    let unknown = bound("unknown_accounts", 100_000_000);
    bounds.end();
    Some(LedgerSettings {
        accounts_max: accounts?,
        holds_max: holds?,
        ended_max: ended?,
        ended_keep: ended_keep?,
        hold_life: life?,
        hold_life_max: life_max?,
        unknown_max: unknown?,
        unknown_keep: UNKNOWN_KEEP,
        sync_every,
        idle_bye: HOUR,
        workers,
    })
}

/// One for each core where nobody says.
fn workers(field: &Field<'_>) -> Option<usize> {
    if field.is_there() {
        return field.whole(1..=1_024);
    }
    Some(std::thread::available_parallelism().map_or(1, usize::from))
}

/// The host's name where nobody says. It only helps people: sessions tell themselves apart by 128 random bits.
fn node(field: &Field<'_>) -> Option<Arc<str>> {
    if field.is_there() {
        return field.text().map(Arc::from);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(Arc::from(if host.trim().is_empty() { "tollgate" } else { host.trim() }))
}

fn log(mut fields: Fields<'_>) -> (Option<LogFormat>, Option<String>) {
    let format = fields.required("format").word(LOG_FORMATS);
    let level = fields.required("level");
    let filter = level.text();
    if let Some(filter) = filter.as_ref().filter(|filter| !is_log_filter(filter)) {
        level.fault(format!(
            "is {filter:?}; write one of: off, error, warn, info, debug, trace, or levels by module as in \"info,tollgate=debug\""
        ));
    }
    fields.end();
    (format.map(|format| if format == "json" { LogFormat::Json } else { LogFormat::Text }), filter)
}
