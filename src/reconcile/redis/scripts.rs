//! The scripts: the pool's law in Lua, put together from its parts, with the numbers of the law before them.
//!
//! A script is named by its content, so fleets of two versions, or with two sets of numbers, run side by side.

use std::fmt::Write;
use std::time::Duration;

use super::inlined::inlined;
use super::terms::{TIERS as TIERS_IN_ORDER, amount_text, tier_number};
use crate::decision::catalogue::TierRule;
use crate::decision::terms::Tier;
use crate::pool::{LATE_WAIT, PoolRules, RateRules};
use crate::reconcile::store::Rules;

/// Events kept in one bucket's outbox; some more stay where that is cheaper.
const EVENTS_MAX: usize = 10_000;
/// Events of one bucket that are taken or put off at once.
const CLAIMS_MAX: usize = 100;

/// Usage in USD that no account has.
const NO_TIER_AT: u64 = 1_000_000_000_000;

/// What is kept of a user with a cap goes when nothing was heard for so long: the month in which anything was spent has
/// ended by then.
const USER_KEEP: Duration = Duration::from_hours(40 * 24);

/// Store time is the server's. Tests have another clock, which is no part of this program.
pub(super) const CLOCK: &str = include_str!("lua/clock.lua");

pub(super) const AMOUNT: &str = include_str!("lua/amount.lua");
pub(super) const BUCKET: &str = include_str!("lua/bucket.lua");
pub(super) const STATE: &str = include_str!("lua/state.lua");
const HISTORY: &str = include_str!("lua/history.lua");
const MONTH: &str = include_str!("lua/month.lua");
const NEW: &str = include_str!("lua/new.lua");
const TERMS: &str = include_str!("lua/terms.lua");
pub(super) const RATE: &str = include_str!("lua/rate.lua");
const ANNOUNCE: &str = include_str!("lua/announce.lua");

#[derive(Debug)]
pub(super) struct Script {
    pub code: String,
    /// As it was written, for slips to be planted in.
    #[cfg(test)]
    pub source: String,
    /// SHA-1 of the code, in hex.
    pub hash: String,
}

/// Every script there is. What each takes and answers is said in its first lines.
#[derive(Debug)]
pub(super) struct Scripts {
    pub exchange: Script,
    pub propose: Script,
    pub create: Script,
    pub configure: Script,
    pub credit: Script,
    pub decline: Script,
    pub receipt: Script,
    pub pages: Script,
    pub account: Script,
    pub names: Script,
    pub events: Script,
    pub take: Script,
    pub put_off: Script,
    pub finish: Script,
    pub key_find: Script,
    pub key_own: Script,
    pub key_note: Script,
    pub key_list: Script,
    pub key_forget: Script,
}

impl Scripts {
    pub fn new(rules: &Rules, clock: &str) -> Self {
        let numbers = numbers(rules);
        let claims = format!("local CLAIMS_MAX = {CLAIMS_MAX}");
        let of = |parts: &[&str]| Script::of(&[&[numbers.as_str(), clock], parts].concat());
        let money = |parts: &[&str]| of(&[&[AMOUNT, BUCKET, STATE, HISTORY, MONTH, ANNOUNCE], parts].concat());
        Self {
            // Blocks, because Lua takes 200 local names at once.
            exchange: of(&[
                AMOUNT,
                BUCKET,
                "local lend_rate do",
                RATE,
                include_str!("lua/borrow.lua"),
                include_str!("lua/lend.lua"),
                "end",
                STATE,
                "local sync, cover, visit_user do",
                HISTORY,
                MONTH,
                NEW,
                ANNOUNCE,
                include_str!("lua/reap.lua"),
                include_str!("lua/sync.lua"),
                include_str!("lua/user.lua"),
                include_str!("lua/cover.lua"),
                "end",
                include_str!("lua/exchange.lua"),
            ]),
            propose: of(&[AMOUNT, BUCKET, RATE, include_str!("lua/propose.lua")]),
            create: money(&[NEW, TERMS, include_str!("lua/create.lua")]),
            configure: money(&[TERMS, include_str!("lua/configure.lua")]),
            credit: money(&[include_str!("lua/credit.lua")]),
            decline: money(&[TERMS, include_str!("lua/decline.lua")]),
            receipt: Script::of(&[include_str!("lua/receipt.lua")]),
            pages: money(&[include_str!("lua/pages.lua")]),
            account: of(&[AMOUNT, BUCKET, STATE, include_str!("lua/account.lua")]),
            names: Script::of(&[include_str!("lua/names.lua")]),
            events: Script::of(&[include_str!("lua/events.lua")]),
            take: money(&[&claims, include_str!("lua/take.lua")]),
            put_off: money(&[include_str!("lua/put_off.lua")]),
            finish: of(&[BUCKET, STATE, include_str!("lua/finish.lua")]),
            key_find: Script::of(&[include_str!("lua/key_find.lua")]),
            key_own: Script::of(&[include_str!("lua/key_own.lua")]),
            key_note: of(&[include_str!("lua/key_note.lua")]),
            key_list: Script::of(&[include_str!("lua/key_list.lua")]),
            key_forget: Script::of(&[include_str!("lua/key_forget.lua")]),
        }
    }
}

impl Script {
    pub fn of(parts: &[&str]) -> Self {
        let source = parts.join("\n");
        let code = inlined(&source);
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self {
            code,
            #[cfg(test)]
            source,
            hash,
        }
    }
}

/// The numbers of the law as Lua's constants, in nano-USD and milliseconds.
fn numbers(rules: &Rules) -> String {
    let Rules { pool, rate } = rules;
    let mut code = format!("local EVENTS_MAX = {EVENTS_MAX}\n");
    let constants = pool_numbers(pool).into_iter().chain(rate_numbers(rate));
    for (name, value) in constants {
        writeln!(code, "local {name} = {value}").expect("a text takes what is written to it");
    }
    let thresholds: Vec<String> = pool.thresholds.iter().map(u32::to_string).collect();
    writeln!(code, "local THRESHOLDS = {{{}}}", thresholds.join(", ")).expect("as above");
    let waits: Vec<String> = pool.top_up_waits.iter().map(|wait| wait.as_millis().to_string()).collect();
    writeln!(code, "local WAITS = {{{}}}", waits.join(", ")).expect("as above");
    let tiers: Vec<String> = pool.tiers.iter().filter_map(tier).collect();
    writeln!(code, "local NO_TIER_AT = {NO_TIER_AT}\nlocal TIERS = {{{}}}", tiers.join(", ")).expect("as above");
    let limits: Vec<String> = TIERS_IN_ORDER.iter().map(|tier| limit_of_tier(pool, *tier)).collect();
    writeln!(code, "local TIER_LIMITS = {{{}}}", limits.join(", ")).expect("as above");
    code
}

/// What a tier allows a postpaid account as its monthly limit, in USD and nano-USD, or `false`.
fn limit_of_tier(rules: &PoolRules, tier: Tier) -> String {
    let rule = rules.tiers.iter().find(|rule| rule.tier == tier);
    let most = rule.and_then(|rule| rule.monthly_limit_max);
    most.map_or("false".into(), |most| format!("{{{}}}", amount_text(most).replace(' ', ", ")))
}

/// A tier that can be reached: its number, what has to be paid in USD and nano-USD, and whether billing is needed.
fn tier(rule: &TierRule) -> Option<String> {
    let needs = amount_text(rule.needs?).replace(' ', ", ");
    Some(format!("{{{}, {needs}, {}}}", tier_number(rule.tier), u8::from(rule.needs_billing)))
}

fn pool_numbers(rules: &PoolRules) -> [(&'static str, u128); 23] {
    let nanos = |credit: crate::decision::Credit| u128::from(credit.nanos().unsigned_abs());
    [
        ("LEASE_MAX", nanos(rules.lease_max)),
        ("LEASE_PARTS", rules.lease_parts.max(1).into()),
        ("TTL_HEALTHY", rules.ttl.as_millis()),
        ("TTL_SCARCE", rules.ttl_scarce.as_millis()),
        ("SCARCE_REQUESTS", rules.scarce_requests.into()),
        ("REQUEST_TYPICAL", nanos(rules.request_typical)),
        ("GRACE", rules.grace.as_millis()),
        ("LIMBO", rules.limbo.as_millis()),
        ("TOMBSTONES", rules.tombstones.as_millis()),
        ("STARVING", rules.starving.as_millis()),
        ("NEXT_SYNC_SCARCE", rules.next_sync_scarce.as_millis()),
        ("NEXT_SYNC_BLOCKED", rules.next_sync_blocked.as_millis()),
        ("NEXT_SYNC_HEALTHY", rules.next_sync_healthy.as_millis()),
        ("NEXT_SYNC_MAX", rules.next_sync_max.as_millis()),
        ("SYNC_SPACING", rules.sync_spacing.as_millis()),
        ("SYNC_SPACING_HEALTHY", rules.sync_spacing_healthy.as_millis()),
        ("REAP_MAX", count(rules.reap_max)),
        ("SESSIONS_MAX", count(rules.sessions_max)),
        ("MONTHS_KEPT", count(rules.months_kept)),
        ("DUST", nanos(rules.dust)),
        ("MINUTE", Duration::from_mins(1).as_millis()),
        ("USER_KEEP", USER_KEEP.as_millis()),
        ("LATE_WAIT", LATE_WAIT.as_millis()),
    ]
}

fn rate_numbers(rules: &RateRules) -> [(&'static str, u128); 8] {
    [
        ("CHUNK_LIFE", rules.chunk_life.as_millis()),
        ("CHUNK_LIFE_SMALL", rules.chunk_life_small.as_millis()),
        ("SMALL_LIVES", rules.small_lives().into()),
        ("CHUNK_SETTLE", rules.chunk_settle.as_millis()),
        ("SMALL_SETTLE", rules.small_settle.as_millis()),
        ("HEARD_WITHIN", rules.heard_within.as_millis()),
        ("SESSION_KEEP", rules.session_keep.as_millis()),
        ("MINUTES_MAX", count(rules.minutes_max)),
    ]
}

fn count(number: usize) -> u128 {
    number.try_into().unwrap_or(u128::MAX)
}
