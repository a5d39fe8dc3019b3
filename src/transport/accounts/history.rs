//! Lines of an account's history, as messages of our own API.

use super::cut;
use super::messages::{rfc3339, tier_message, usd};
use crate::reconcile::store::{Booking, CreditKind, Entry, Happening, History, Receipt};
use crate::transport::proto::tollgate as api;
use api::HistoryKind;

/// As many lines as a page holds, of one more where another page follows.
pub(super) fn history_message(mut history: History, size: usize) -> api::ListHistoryResponse {
    let next_page_token = cut(&mut history.entries, size, |entry| entry.number.to_string());
    api::ListHistoryResponse {
        entries: history.entries.into_iter().map(entry_message).collect(),
        next_page_token,
        balance: usd(history.balance),
        open_usage: usd(history.open_usage),
    }
}

fn entry_message(entry: Entry) -> api::HistoryEntry {
    let (number, at, amount) = (entry.number, rfc3339(entry.at), usd(entry.amount()));
    let line = match entry.what {
        Booking::Credits(receipt) => receipt_message(receipt),
        Booking::Month { month, .. } => of_month(HistoryKind::Settlement, month.to_string()),
        Booking::Late { month, .. } => of_month(HistoryKind::Correction, month.to_string()),
        Booking::Terms(changes) => told(HistoryKind::TermsChanged, changes),
        Booking::Happened(what) => happening_message(what),
    };
    api::HistoryEntry { number, at, amount, ..line }
}

fn receipt_message(receipt: Receipt) -> api::HistoryEntry {
    let kind = match receipt.kind {
        CreditKind::Promotional => HistoryKind::Promotional,
        CreditKind::Purchased => HistoryKind::Purchase,
        CreditKind::Adjustment => HistoryKind::Adjustment,
        CreditKind::Refund => HistoryKind::Refund,
    };
    let papers = receipt.papers;
    api::HistoryEntry {
        kind: kind.into(),
        id: receipt.id,
        refund_of: papers.refund_of,
        reference: papers.reference,
        note: papers.note,
        ..api::HistoryEntry::default()
    }
}

fn of_month(kind: HistoryKind, month: String) -> api::HistoryEntry {
    api::HistoryEntry { kind: kind.into(), month, ..api::HistoryEntry::default() }
}

fn told(kind: HistoryKind, detail: String) -> api::HistoryEntry {
    api::HistoryEntry { kind: kind.into(), detail, ..api::HistoryEntry::default() }
}

fn happening_message(what: Happening) -> api::HistoryEntry {
    match what {
        Happening::TopUpNeeded { key, amount } => top_up(HistoryKind::TopupNeeded, key, format!("buy {amount}")),
        Happening::TopUpSucceeded { key, amount } => {
            top_up(HistoryKind::TopupSucceeded, key, format!("{amount} was bought"))
        }
        Happening::TopUpFailed { key, amount, declines, retry_at } => {
            let next = retry_at.map_or("auto top-up is off".into(), |at| format!("next try after {}", rfc3339(at)));
            top_up(HistoryKind::TopupFailed, key, format!("{amount} was declined, {declines} in a row; {next}"))
        }
        Happening::TierChanged { from, to } => {
            let name = |tier| tier_message(tier).as_str_name().trim_start_matches("TIER_").to_lowercase();
            told(HistoryKind::TierChanged, format!("{} to {}", name(from), name(to)))
        }
        Happening::Suspended { .. } => told(HistoryKind::Suspended, "payments failed".into()),
        what @ (Happening::BalanceLow { .. }
        | Happening::Depleted
        | Happening::MonthThreshold { .. }
        | Happening::Overrun { .. }) => told(HistoryKind::Unspecified, what.name().into_owned()),
    }
}

fn top_up(kind: HistoryKind, id: String, detail: String) -> api::HistoryEntry {
    api::HistoryEntry { id, ..told(kind, detail) }
}
