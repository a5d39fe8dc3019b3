//! Metric names with their help texts, and the log. Imports nothing of ours.
//!
//! Every label has a fixed set of values; none is ever an account, a user, a key or a model.

use std::io::IsTerminal as _;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Labels: `outcome` (`admitted`, `denied`, `shadowed`), `reason` (`none`, or a reason's name).
pub const DECISIONS: &str = "tollgate_decisions_total";
pub const DECISION_SECONDS: &str = "tollgate_decision_seconds";
pub const HOLDS_OPEN: &str = "tollgate_holds_open";
pub const HOLDS_EXPIRED: &str = "tollgate_holds_expired_total";
pub const LATE_SETTLES: &str = "tollgate_late_settles_total";
pub const HELD_USD: &str = "tollgate_held_usd";
/// A counter is a whole number, so this one is in nano-USD.
pub const OVERRUN_NANO_USD: &str = "tollgate_overrun_nano_usd_total";
pub const SETTLED_TO_HELD: &str = "tollgate_settled_to_held_ratio";
pub const LEASE_FREE_USD: &str = "tollgate_lease_free_usd";
pub const EMERGENCY_USD: &str = "tollgate_emergency_usd";
pub const DEAD_LETTERS: &str = "tollgate_dead_letters_total";
pub const STORE_FORGOT: &str = "tollgate_store_forgot_total";
pub const CLONES: &str = "tollgate_clones_total";
pub const MALFORMED: &str = "tollgate_malformed_total";
pub const ACCOUNTS_UNKNOWN: &str = "tollgate_accounts_unknown";
pub const ACCOUNTS: &str = "tollgate_accounts";
/// Label: `result` (`applied`, `failed`).
pub const ROUNDS: &str = "tollgate_rounds_total";
pub const ROUND_SECONDS: &str = "tollgate_round_seconds";
pub const POOL_AGE_SECONDS: &str = "tollgate_pool_age_seconds";
/// Label: `fault` (`unreachable`, `part_unreachable`, `eviction`, `read_only`, `version`, `persistence`, `clock`,
/// `unchecked`).
pub const STORE_FAULT: &str = "tollgate_store_fault";
pub const AUDIT_ACCOUNTS: &str = "tollgate_audit_accounts";
pub const AUDIT_DRIFTED: &str = "tollgate_audit_drifted";
pub const AUDIT_LAST_SUCCESS_SECONDS: &str = "tollgate_audit_last_success_timestamp_seconds";
pub const KEYS_UNKNOWN: &str = "tollgate_keys_unknown_total";
pub const KEY_LOOKUPS_REFUSED: &str = "tollgate_key_lookups_refused_total";
/// Label: `outcome` (`bought`, `declined`, `unknown`).
pub const PURCHASES: &str = "tollgate_purchases_total";
pub const PURCHASES_WAITING: &str = "tollgate_purchases_waiting";
pub const PURCHASE_AGE_SECONDS: &str = "tollgate_purchase_age_seconds";
/// Label: `outcome` (`told`, `unheard`, `given_up`).
pub const ALERTS: &str = "tollgate_alerts_total";
pub const EVENTS_WAITING: &str = "tollgate_events_waiting";
pub const EVENTS_AGE_SECONDS: &str = "tollgate_events_age_seconds";
/// Label: `hook` (`payment`, `alerts`).
pub const WEBHOOK_SECONDS: &str = "tollgate_webhook_seconds";

/// Bucket bounds of each histogram, for the exporter.
///
/// A decision from memory takes microseconds; one that asks the pool waits up to 50 ms. A round is one commit or one
/// network round trip. A webhook asks a payment provider, which takes seconds. A ratio of 1 is a hold that was used up exactly; above it lies overrun.
pub const BUCKETS: [(&str, &[f64]); 4] = [
    (DECISION_SECONDS, &[0.000_002, 0.000_005, 0.000_01, 0.000_025, 0.000_1, 0.000_5, 0.002, 0.01, 0.025, 0.05, 0.1]),
    (ROUND_SECONDS, &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
    (WEBHOOK_SECONDS, &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
    (SETTLED_TO_HELD, &[0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0]),
];

/// Tells the installed recorder the help text and unit of every metric.
pub fn describe() {
    describe_counter!(DECISIONS, "Checks answered, by outcome and reason.");
    describe_histogram!(DECISION_SECONDS, Unit::Seconds, "From a check's arrival to its answer, waiting included.");
    describe_gauge!(HOLDS_OPEN, "Requests that were admitted here and have not ended.");
    describe_counter!(HOLDS_EXPIRED, "Holds that ended without a sign of life; settle or release them instead.");
    describe_counter!(LATE_SETTLES, "Usage booked after its hold had expired.");
    describe_gauge!(HELD_USD, "Credit promised to requests that run now, in USD.");
    describe_counter!(OVERRUN_NANO_USD, "Usage above its hold, in nano-USD: spent beyond what was checked.");
    describe_histogram!(SETTLED_TO_HELD, "Cost as settled over credit as held, for each settled request.");
    describe_gauge!(LEASE_FREE_USD, "Credit leased by this sidecar that no request holds, in USD.");
    describe_gauge!(EMERGENCY_USD, "Credit promised while the store could not be asked, until it is heard, in USD.");
    describe_counter!(DEAD_LETTERS, "Settled usage that no pool would take; the log names account and cost.");
    describe_counter!(STORE_FORGOT, "Times that the store was found to have lost changes; it is told them again.");
    describe_counter!(CLONES, "Replies that showed another process speaking as this one; give each its own identity.");
    describe_counter!(MALFORMED, "Requests that a pool refused as malformed: a bug.");
    describe_gauge!(ACCOUNTS_UNKNOWN, "Names remembered because no account has them.");
    describe_gauge!(ACCOUNTS, "Accounts in this sidecar's memory.");
    describe_counter!(ROUNDS, "Rounds with the store, by result.");
    describe_histogram!(ROUND_SECONDS, Unit::Seconds, "From sending a round to its replies or its failure.");
    describe_gauge!(POOL_AGE_SECONDS, Unit::Seconds, "Since the store last answered a round or a probe.");
    describe_gauge!(STORE_FAULT, "1 where this is wrong with the store; the log says what to do about it.");
    describe_gauge!(AUDIT_ACCOUNTS, "Accounts and users with a cap whose books the last audit looked at.");
    describe_gauge!(AUDIT_DRIFTED, "Those of them whose books did not come out; the log names them.");
    describe_gauge!(
        AUDIT_LAST_SUCCESS_SECONDS,
        Unit::Seconds,
        "When the last audit that reached every account ended, in Unix time."
    );
    describe_counter!(KEYS_UNKNOWN, "API keys presented that belong to nobody.");
    describe_counter!(PURCHASES, "Purchases that the payment webhook was asked for, by what it answered.");
    describe_gauge!(PURCHASES_WAITING, "Accounts whose auto top-up is under way or will be tried again.");
    describe_gauge!(
        PURCHASE_AGE_SECONDS,
        Unit::Seconds,
        "Age of the oldest need for which a purchase was asked for last."
    );
    describe_counter!(ALERTS, "Alerts, by whether the alerts webhook took them.");
    describe_gauge!(EVENTS_WAITING, "Events that nobody was told of yet.");
    describe_gauge!(EVENTS_AGE_SECONDS, Unit::Seconds, "Age of the oldest event that nobody was told of yet.");
    describe_histogram!(WEBHOOK_SECONDS, Unit::Seconds, "From calling a webhook to its answer or its failure.");
    describe_counter!(KEY_LOOKUPS_REFUSED, "Keys not looked up because too many look-ups were under way.");
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log filter: {0}; write a level such as \"info\", or \"info,tollgate=debug\"")]
    Filter(#[from] ParseError),
    #[error("the log was set up already: {0}")]
    Again(#[from] TryInitError),
}

/// Whether `filter` is a level, or levels by module. A word alone that is no level would be taken for a module, whose lines alone
/// would then be told.
pub fn is_log_filter(filter: &str) -> bool {
    let is_whole = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    filter.split(',').all(is_whole) && EnvFilter::builder().parse(filter).is_ok()
}

/// Starts the log on standard error, in colour where that is a terminal. `filter` is a level, or levels by module, as in `info,tollgate=debug`.
pub fn start_log(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal());
    let lines = lines.with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}
