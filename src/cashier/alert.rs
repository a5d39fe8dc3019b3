//! An event as those hear of it who follow accounts.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what happens to an account happens at a time, unless it is a purchase"
)]

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{Suspension, Tier};
use crate::pool::message::{Event, Happening};

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    /// The same however often, and by whom, it is told.
    pub id: String,
    pub body: String,
}

/// Nothing where nobody needs to hear of it: the need for a purchase is between the account and the cashier.
pub(super) fn alert(event: &Event) -> Option<Alert> {
    let usd = |amount: Credit| amount.usd().to_string();
    let details = match &event.what {
        Happening::TopUpNeeded { .. } => return None,
        Happening::TopUpSucceeded { key, amount } => json!({"purchase_id": key, "amount": usd(*amount)}),
        Happening::TopUpFailed { key, amount, declines, retry_at } => json!({
            "purchase_id": key,
            "amount": usd(*amount),
            "declines": declines,
            "retry_at": retry_at.map(instant),
        }),
        Happening::BalanceLow { threshold, available } => {
            json!({"threshold": usd(*threshold), "available": usd(*available)})
        }
        Happening::Depleted => json!({}),
        Happening::MonthThreshold { month, percent } => json!({"month": month.to_string(), "percent": percent}),
        Happening::TierChanged { from, to } => json!({"from": tier(*from), "to": tier(*to)}),
        Happening::Overrun { amount } => json!({"amount": usd(*amount)}),
        Happening::Suspended { why } => json!({"why": suspension(*why)}),
    };
    let name = event.what.name();
    let id = match &event.what {
        // A store that forgot tells of a purchase again, at another time.
        Happening::TopUpSucceeded { key, .. } | Happening::TopUpFailed { key, .. } => format!("{key}.{name}"),
        _ => format!("{}.{name}.{}", event.account, event.at.0),
    };
    let mut body = json!({"type": name, "id": id, "account": *event.account, "at": instant(event.at)});
    if let (Value::Object(body), Value::Object(details)) = (&mut body, details) {
        body.extend(details);
    }
    Some(Alert { id, body: body.to_string() })
}

/// As the accounts port's clients write it.
fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::None => "none",
        Tier::One => "one",
        Tier::Two => "two",
        Tier::Three => "three",
        Tier::Four => "four",
        Tier::Unlimited => "unlimited",
    }
}

fn suspension(why: Suspension) -> &'static str {
    match why {
        Suspension::None => "none",
        Suspension::FailedPayments => "failed_payments",
        Suspension::Abuse => "abuse",
    }
}

/// RFC 3339, UTC.
fn instant(at: UnixMs) -> String {
    let nanos = i128::from(at.0).saturating_mul(1_000_000);
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    instant.format(&Rfc3339).unwrap_or_default()
}
