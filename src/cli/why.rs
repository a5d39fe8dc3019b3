//! Why a request would be admitted or denied, limit by limit, as a person reads it.

use super::ask;
use super::output::{Sheet, Table, Value};
use crate::transport::proto::tollgate::{ExplainResponse, ExplainedLimit, LimitKind, Provenance};

/// The answer, the account's terms that it depends on, and each limit in a row of a table.
pub fn sheet(explained: &ExplainResponse) -> Option<Sheet> {
    let mut sheet = ask::sheet(explained.answer.as_ref()?)?;
    if explained.limits.is_empty() {
        return Some(sheet);
    }
    sheet.row("mode", Value::text(&explained.mode));
    sheet.row("tier", Value::text(&explained.tier));
    if explained.suspension != "none" {
        sheet.row("suspended", Value::text(&explained.suspension));
    }
    if explained.shadow {
        sheet.row("shadow", Value::text("yes: decides and counts, never denies"));
    }
    sheet.table(Table {
        name: "limits",
        columns: &["limit", "says", "most", "used", "asked", "clears", "from", "because"],
        rows: explained.limits.iter().map(row).collect(),
    });
    Some(sheet)
}

fn row(limit: &ExplainedLimit) -> Vec<Value> {
    let amount = |amount: &str| match limit.kind() {
        LimitKind::Month | LimitKind::User | LimitKind::Credit => Value::usd(amount),
        LimitKind::Unspecified
        | LimitKind::Requests
        | LimitKind::PromptTokens
        | LimitKind::UncachedPromptTokens
        | LimitKind::GeneratedTokens => amount.parse().map_or_else(|_| Value::text(amount), Value::Count),
    };
    vec![
        Value::text(name(limit.kind())),
        Value::text(limit.denial.as_ref().map_or("yes", |denial| &denial.reason_name)),
        Value::or_nothing(limit.limit.as_deref().map(amount)),
        Value::or_nothing(limit.used.as_deref().map(amount)),
        amount(&limit.requested),
        clears(limit),
        Value::text(provenance(limit.provenance())),
        Value::text(&limit.why),
    ]
}

/// When it would let the request pass; where it does already, when all of it is there again.
fn clears(limit: &ExplainedLimit) -> Value {
    match &limit.denial {
        Some(denial) if denial.retry_after_ms.is_some() => Value::Wait(denial.retry_after_ms),
        Some(_) if limit.resets_at.is_none() => Value::Wait(None),
        Some(_) | None => {
            let resets_at = limit.resets_at.as_deref().map(Value::text);
            Value::or_nothing(resets_at.or(limit.reset_ms.map(Value::Millis)))
        }
    }
}

/// `PROVENANCE_TIER` as `tier`.
pub fn provenance(provenance: Provenance) -> String {
    provenance.as_str_name().trim_start_matches("PROVENANCE_").to_lowercase()
}

/// `LIMIT_KIND_PROMPT_TOKENS` as `prompt tokens`.
fn name(kind: LimitKind) -> String {
    kind.as_str_name().trim_start_matches("LIMIT_KIND_").to_lowercase().replace('_', " ")
}
