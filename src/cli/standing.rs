//! An account at this moment, as a person reads it: what it has, who holds it, its limits, and what was denied.

use super::output::{Sheet, Table, Value, dollars, duration};
use super::{terms, why};
use crate::transport::proto::tollgate::{
    Account, Here, InspectAccountResponse, Lease, LimitHere, ModelLimits, RecentDenial,
};

/// Everything that is known of the account.
pub fn sheet(inspected: &InspectAccountResponse, account: &Account) -> Sheet {
    let mut sheet = terms::sheet(account);
    sheet.row("answered by", Value::text(&inspected.node));
    let mut limits = Vec::new();
    if let Some(here) = &inspected.here {
        here_rows(&mut sheet, here);
        limits.extend(here.requests.iter().map(|limit| limit_row("all", "requests", limit)));
        limits.extend(here.models.iter().flat_map(model_rows));
    }
    sheet.table(Table {
        name: "leases",
        columns: &["node", "run", "live", "outstanding", "used", "heard"],
        rows: inspected.leases.iter().map(lease_row).collect(),
    });
    sheet.table(Table {
        name: "limits",
        columns: &["model", "limit", "per minute", "used", "lent here", "full again", "from"],
        rows: limits,
    });
    sheet.table(Table {
        name: "denials",
        columns: &["denied", "times", "reason", "model", "user", "retry after"],
        rows: inspected.denials.iter().map(denial_row).collect(),
    });
    sheet
}

/// The same in one line, for a log or a pipe.
pub fn line(inspected: &InspectAccountResponse, account: &Account) -> String {
    let live = inspected.leases.iter().filter(|lease| lease.live).count();
    let mut line = format!(
        "{} balance {} leased {} to {live} of {}",
        account.account,
        dollars(&account.balance),
        dollars(&account.leased),
        inspected.leases.len(),
    );
    if let Some(here) = &inspected.here {
        line.push_str(&format!(" held {} by {} requests", dollars(&here.held), here.holds));
    }
    line.push_str(&format!(" month {}", dollars(&account.month_used)));
    if let Some(denial) = inspected.denials.first() {
        line.push_str(&format!(" denied {} {} ago", denial.reason_name, duration(denial.ago_ms)));
    }
    line.push('\n');
    line
}

fn here_rows(sheet: &mut Sheet, here: &Here) {
    sheet.row("tier in force", Value::text(terms::untagged(here.tier().as_str_name(), "TIER_")));
    sheet.row("held here", Value::usd(&here.held));
    sheet.row("requests running here", Value::Count(here.holds.into()));
    sheet.row_if("oldest of them", here.oldest_hold_ms.map(Value::Millis));
    sheet.row("free here", Value::usd(&here.free));
    sheet.row("lease left here", Value::Millis(here.lease_left_ms));
    sheet.row("not reported yet", Value::usd(&here.unreported));
}

fn lease_row(lease: &Lease) -> Vec<Value> {
    vec![
        Value::text(&lease.node),
        Value::text(&lease.run),
        Value::Flag(lease.live),
        Value::usd(&lease.outstanding),
        Value::usd(&lease.used),
        Value::Ago(lease.heard_ms),
    ]
}

fn model_rows(model: &ModelLimits) -> impl Iterator<Item = Vec<Value>> {
    let limits = [
        ("prompt tokens", &model.prompt_tokens),
        ("uncached prompt tokens", &model.uncached_prompt_tokens),
        ("generated tokens", &model.generated_tokens),
    ];
    limits.into_iter().filter_map(|(name, limit)| Some(limit_row(&model.model, name, limit.as_ref()?)))
}

fn limit_row(model: &str, name: &str, limit: &LimitHere) -> Vec<Value> {
    vec![
        Value::text(model),
        Value::text(name),
        Value::Count(limit.per_minute),
        Value::Count(limit.level.saturating_sub(limit.at_hand)),
        Value::Count(limit.at_hand),
        Value::Millis(limit.reset_ms),
        Value::text(why::provenance(limit.provenance())),
    ]
}

fn denial_row(denial: &RecentDenial) -> Vec<Value> {
    let user = (!denial.user.is_empty()).then(|| Value::text(&denial.user));
    vec![
        Value::Ago(denial.ago_ms),
        Value::Count(denial.count),
        Value::text(&denial.reason_name),
        Value::text(&denial.model),
        Value::or_nothing(user),
        Value::Wait(denial.retry_after_ms),
    ]
}
