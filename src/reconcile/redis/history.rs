//! Lines of history, as the scripts write them, and pages of them.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::accounts::{arguments, refused};
use super::answer::{Answer, list, text};
use super::events::{self, Next, happening};
use super::packed::Numbers;
use crate::clock::UnixMs;
use crate::decision::{Credit, Month};
use crate::pool::{Booking, CreditKind, Entry, Papers, Receipt};
use crate::reconcile::store::{History, Page, StoreError};

/// Between the values of a line, as in `lua/history.lua`. No value has it.
const BETWEEN: char = '\u{1f}';

const KINDS: [(CreditKind, &str); 4] = [
    (CreditKind::Promotional, "promotional"),
    (CreditKind::Purchased, "purchased"),
    (CreditKind::Adjustment, "adjustment"),
    (CreditKind::Refund, "refund"),
];

pub(super) async fn page(store: &Redis, account: Arc<str>, page: Page) -> Result<History, StoreError> {
    let after = page.after.map_or(String::new(), |after| after.to_string());
    let newest_first = if page.newest_first { "1" } else { "0" };
    let args = arguments([&account, page.max.to_string().as_str(), newest_first, &after]);
    let answer = store.run(store.call(&store.scripts.pages, &account, args)).await?;
    if !matches!(answer, Value::Array(_)) {
        return Err(refused(&account, &answer));
    }
    let mut answer = list(answer)?;
    let first = answer.whole()?;
    let mut entries = entries(first, answer.list()?)?;
    if page.newest_first {
        entries.reverse();
    }
    Ok(History { entries, balance: answer.credit()?, open_usage: answer.credit()? })
}

/// Lines in order, the first of which has the number `first`.
pub(super) fn entries(first: u64, lines: Answer) -> Result<Vec<Entry>, StoreError> {
    (first..).zip(lines).map(|(number, line)| entry(number, &text(&line)?)).collect()
}

fn entry(number: u64, line: &str) -> Result<Entry, StoreError> {
    let unreadable = || StoreError::Corrupt(format!("line {number} of a history: {line:?}"));
    let mut values = line.split(BETWEEN);
    let mut next = || values.next().map(str::to_owned).ok_or_else(unreadable);
    let at = next()?.parse().map(UnixMs).ok();
    let what = match next()?.as_str() {
        "credit" => credit(&mut next)?.map(Booking::Credits),
        "month" => usage(&mut next)?.map(|(month, used)| Booking::Month { month, used }),
        "late" => usage(&mut next)?.map(|(month, used)| Booking::Late { month, used }),
        "terms" => Some(Booking::Terms(next()?)),
        "event" => happening(&mut next)?.map(Booking::Happened),
        _ => None,
    };
    at.zip(what).map(|(at, what)| Entry { number, at, what }).ok_or_else(unreadable)
}

/// What follows the word `credit` in a line.
pub(super) fn credit_line(receipt: &Receipt) -> String {
    let Papers { refund_of, reference, note } = &receipt.papers;
    let amount = receipt.amount.nanos().to_string();
    [kind_name(receipt.kind), &amount, &receipt.id, refund_of, reference, note].join(&BETWEEN.to_string())
}

pub(super) fn kind_name(kind: CreditKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name).expect("every kind is listed")
}

fn credit(next: &mut Next<'_>) -> Result<Option<Receipt>, StoreError> {
    let (name, amount) = (next()?, events::nanos(next)?);
    let kind = KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
    let (id, papers) = (next()?, Papers { refund_of: next()?, reference: next()?, note: next()? });
    Ok(kind.zip(amount).map(|(kind, amount)| Receipt { kind, amount, id, papers }))
}

fn usage(next: &mut Next<'_>) -> Result<Option<(Month, Credit)>, StoreError> {
    let month = next()?.parse().ok().map(Month::from_yyyymm);
    Ok(month.zip(events::credit(next)?))
}
