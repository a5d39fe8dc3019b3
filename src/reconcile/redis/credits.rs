//! Credits: booked once for each id, against the version that was read, with a line of history.

use redis::Value;

use super::accounts::{TRIES, arguments, read, refused};
use super::answer::{list, text, unexpected};
use super::state::Kept;
use super::terms::amount_text;
use super::{Redis, history};
use crate::decision::Credit;
use crate::pool::{CreditKind, Credits};
use crate::reconcile::store::{AccountRecord, Purchase, StoreError};

pub(super) async fn add(store: &Redis, purchase: Purchase) -> Result<AccountRecord, StoreError> {
    for _ in 0..TRIES {
        let before = read(store, &purchase.account).await?;
        // Read after the version, against which it is booked.
        let refunded = refunded(store, &purchase).await?;
        match book(store, &purchase, &before, refunded).await? {
            Booked::Done => return Ok(read(store, &purchase.account).await?.record()),
            Booked::Outdated => {}
        }
    }
    Err(StoreError::Unavailable("others change the account's credits all the time; try again".into()))
}

enum Booked {
    Done,
    /// Somebody else changed the credits since they were read.
    Outdated,
}

/// What a refund finds.
enum Refunded {
    /// It is none.
    Not,
    /// So much of the purchase is refunded with this one.
    Of(Credit),
    /// It cannot be, unless it was booked before.
    Refused(StoreError),
}

async fn book(store: &Redis, purchase: &Purchase, before: &Kept, refunded: Refunded) -> Result<Booked, StoreError> {
    let credits = before.credits.with(purchase.kind, purchase.amount);
    let is_fine = credits.is_some() && !matches!(refunded, Refunded::Refused(_));
    // No account is at a version below zero: this only asks whether it was booked already.
    let version = if is_fine { before.credit_version.to_string() } else { "-1".into() };
    let (credits, receipt) = (credits.unwrap_or_default(), receipt(purchase));
    let line = history::credit_line(&purchase.receipt());
    let mut args = arguments([&purchase.account, version.as_str(), &purchase.id, &receipt, &line]);
    args.extend(totals(&credits, &before.credits));
    if let Refunded::Of(refunded) = &refunded {
        args.extend(arguments([&purchase.papers.refund_of, &refunded.nanos().to_string()]));
    }
    match store.run(store.call(&store.scripts.credit, &purchase.account, args)).await? {
        Value::Int(_) => match refunded {
            Refunded::Refused(error) => Err(error),
            Refunded::Not | Refunded::Of(_) if !is_fine => Err(StoreError::TooMuchCredit),
            Refunded::Not | Refunded::Of(_) => Ok(Booked::Outdated),
        },
        answer => match text(&answer)?.as_str() {
            "credited" => Ok(Booked::Done),
            booked if booked == receipt => Ok(Booked::Done),
            booked if booked.starts_with("booked ") => Err(StoreError::PurchaseDiffers(purchase.id.clone())),
            _ => Err(refused(&purchase.account, &answer)),
        },
    }
}

async fn refunded(store: &Redis, refund: &Purchase) -> Result<Refunded, StoreError> {
    if refund.kind != CreditKind::Refund {
        return Ok(Refunded::Not);
    }
    let purchase = &refund.papers.refund_of;
    let args = arguments([&refund.account, purchase.as_str()]);
    let mut answer = list(store.run(store.call(&store.scripts.receipt, &refund.account, args)).await?)?;
    let (booked, refunded) = (answer.value()?, answer.value()?);
    let Some(bought) = amount(&booked, "booked purchased ")? else {
        return Ok(Refunded::Refused(StoreError::NoSuchPurchase(purchase.clone())));
    };
    let refunded = amount(&refunded, "")?.unwrap_or_default();
    let left = bought.minus(refunded);
    if left < refund.amount {
        return Ok(Refunded::Refused(StoreError::RefundTooLarge { purchase: purchase.clone(), left }));
    }
    Ok(Refunded::Of(refunded.plus(refund.amount)))
}

/// The nano-USD after `tag`, if there is a text that begins like this.
fn amount(value: &Value, tag: &str) -> Result<Option<Credit>, StoreError> {
    if matches!(value, Value::Nil) {
        return Ok(None);
    }
    let text = text(value)?;
    let Some(nanos) = text.strip_prefix(tag) else { return Ok(None) };
    let credit = nanos.trim_end().parse().ok().and_then(Credit::from_store);
    credit.map(Some).ok_or_else(|| unexpected(value))
}

/// In the order of `lua/credit.lua`.
fn totals(credits: &Credits, before: &Credits) -> Vec<Vec<u8>> {
    let Credits { promotional, purchased, adjusted, refunded } = *credits;
    let (total, given, paid) = (credits.total(), credits.given(), credits.paid());
    let totals = [promotional, purchased, adjusted, refunded, total, given, paid, credits.less_paid_than(before)];
    totals.map(amount_text).join(" ").split(' ').map(Vec::from).collect()
}

/// What is remembered of it.
fn receipt(purchase: &Purchase) -> String {
    let kind = history::kind_name(purchase.kind);
    format!("booked {kind} {} {}", purchase.amount.nanos(), purchase.papers.refund_of)
}
