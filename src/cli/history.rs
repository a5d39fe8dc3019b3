//! `tollgate account history` and the papers of a credit: receipts, as a table or as JSON.

use std::fmt::Write as _;

use clap::Args;
use clap::builder::TypedValueParser;

use super::output::{Sheet, Value, dollars, table};
use crate::transport::proto::tollgate::{AddCreditsRequest, CreditKind, HistoryEntry, ListHistoryResponse};

const COLUMNS: [&str; 5] = ["#", "at", "what", "amount", "receipt"];

const KINDS: [&str; 4] = ["purchased", "promotional", "adjustment", "refund"];

/// What is kept with a credit, for the account's history.
#[derive(Args, Debug, Default)]
pub struct Papers {
    /// The purchase that a refund pays back
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    refund_of: String,
    /// What the payment provider calls it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reference: String,
    /// Why; an adjustment needs one
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

impl Papers {
    pub fn request(&self, account: &str, usd: &str, id: &str, kind: CreditKind) -> AddCreditsRequest {
        AddCreditsRequest {
            account: account.to_owned(),
            purchase_id: id.to_owned(),
            amount: usd.to_owned(),
            kind: kind.into(),
            refund_of: self.refund_of.clone(),
            reference: self.reference.clone(),
            note: self.note.clone(),
        }
    }
}

/// A kind of credit as `adjustment`.
pub fn kind_name(kind: CreditKind) -> String {
    kind.as_str_name().trim_start_matches("CREDIT_KIND_").to_lowercase()
}

/// `adjustment` as a kind of credit.
pub fn kind() -> impl TypedValueParser<Value = CreditKind> {
    clap::builder::PossibleValuesParser::new(KINDS).map(|name| {
        let name = format!("CREDIT_KIND_{}", name.to_uppercase());
        CreditKind::from_str_name(&name).expect("only known kinds are parsed")
    })
}

/// Lines in the order in which they came. People see below them what all of them come to, and how to go on.
pub fn list(history: &ListHistoryResponse, json: bool) -> String {
    if json {
        return history.entries.iter().map(|entry| sheet(entry).render(true)).collect();
    }
    let rows: Vec<Vec<Value>> = history.entries.iter().map(row).collect();
    let mut text = if rows.is_empty() { "No lines.\n".into() } else { table(&COLUMNS, &rows) };
    let (balance, open) = (dollars(&history.balance), dollars(&history.open_usage));
    writeln!(text, "\nbalance {balance}: the sum of all lines, less {open} of usage that has no line yet")
        .expect("a String takes everything");
    if !history.next_page_token.is_empty() {
        writeln!(text, "more lines follow: --after {}", history.next_page_token).expect("a String takes everything");
    }
    text
}

fn row(entry: &HistoryEntry) -> Vec<Value> {
    let amount = if entry.amount == "0" { Value::text("") } else { Value::usd(&entry.amount) };
    vec![
        Value::Count(entry.number),
        Value::text(&entry.at),
        Value::text(what(entry)),
        amount,
        Value::text(receipt(entry)),
    ]
}

/// `HISTORY_KIND_TOPUP_NEEDED` as `topup needed`.
fn what(entry: &HistoryEntry) -> String {
    entry.kind().as_str_name().trim_start_matches("HISTORY_KIND_").to_lowercase().replace('_', " ")
}

/// What there is of month, id, purchase, reference, note and words.
fn receipt(entry: &HistoryEntry) -> String {
    let named = |name: &str, text: &str| if text.is_empty() { String::new() } else { format!("{name} {text}") };
    let parts = [
        entry.month.clone(),
        entry.id.clone(),
        named("of", &entry.refund_of),
        named("reference", &entry.reference),
        entry.note.clone(),
        entry.detail.clone(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn sheet(entry: &HistoryEntry) -> Sheet {
    let mut sheet = Sheet::default();
    sheet.row("number", Value::Count(entry.number));
    sheet.row("at", Value::text(&entry.at));
    sheet.row("what", Value::text(what(entry).replace(' ', "_")));
    sheet.row("amount", Value::usd(&entry.amount));
    let texts = [
        ("id", &entry.id),
        ("refund of", &entry.refund_of),
        ("reference", &entry.reference),
        ("note", &entry.note),
        ("month", &entry.month),
        ("detail", &entry.detail),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        sheet.row(name, Value::text(text));
    }
    sheet
}
