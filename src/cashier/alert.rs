//! An event as those hear of it who follow accounts.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixMs;
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
    let (name, details) = match &event.what {
        Happening::TopUpNeeded { .. } => return None,
        Happening::Depleted => ("depleted".to_owned(), json!({})),
        Happening::MonthThreshold { month, percent: 100 } => {
            ("budget_reached".to_owned(), json!({"month": month.to_string(), "percent": 100}))
        }
        Happening::MonthThreshold { month, percent } => {
            (format!("budget_{percent}"), json!({"month": month.to_string(), "percent": percent}))
        }
    };
    let id = format!("{}.{name}.{}", event.account, event.at.0);
    let mut body = json!({"type": name, "id": id, "account": *event.account, "at": instant(event.at)});
    if let (Value::Object(body), Value::Object(details)) = (&mut body, details) {
        body.extend(details);
    }
    Some(Alert { id, body: body.to_string() })
}

/// RFC 3339, UTC.
fn instant(at: UnixMs) -> String {
    let nanos = i128::from(at.0).saturating_mul(1_000_000);
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    instant.format(&Rfc3339).unwrap_or_default()
}
