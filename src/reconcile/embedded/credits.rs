//! Credits in the file: booked once for each id, with a line of history.

use redb::{Database, ReadableDatabase};

use super::Rules;
use super::accounts::{found, only, record};
use super::file::{PURCHASES, failed};
use super::records::{Receipt, decode, encode};
use super::state::State;
use crate::clock::Now;
use crate::decision::Credit;
use crate::reconcile::store::{AccountRecord, CreditKind, Purchase, StoreError};

pub(super) fn add(
    state: &mut State,
    database: &Database,
    (rules, now): (&Rules, Now),
    purchase: &Purchase,
) -> Result<AccountRecord, StoreError> {
    let time = state.time(now);
    let booked = receipt(database, purchase, &purchase.id)?;
    let kept = found(state, database, &purchase.account)?;
    if let Some(booked) = booked {
        let same = purchase.is_again(booked.kind, booked.amount, &booked.refund_of);
        let record = record(kept.pool.summary(time));
        return if same { Ok(record) } else { Err(StoreError::PurchaseDiffers(purchase.id.clone())) };
    }
    let refunded = refunded(database, purchase)?;
    let version = kept.pool.summary(time).credit_version.saturating_add(1);
    let credited = kept.pool.book(version, purchase.receipt(), &rules.pool, time);
    credited.map_err(|_| StoreError::TooMuchCredit)?;
    let record = record(kept.pool.summary(time));
    let receipt = Receipt {
        amount: purchase.amount,
        kind: purchase.kind,
        booked: time,
        refund_of: purchase.papers.refund_of.clone(),
        refunded: Credit::ZERO,
    };
    state.commit(database, time, &only(&purchase.account), |write| {
        let mut purchases = write.open_table(PURCHASES).map_err(failed)?;
        let ids = [(purchase.id.as_str(), Some(&receipt)), (&purchase.papers.refund_of, refunded.as_ref())];
        for (id, receipt) in ids.into_iter().filter_map(|(id, receipt)| Some((id, receipt?))) {
            purchases.insert((&*purchase.account, id), encode(receipt).as_slice()).map_err(failed)?;
        }
        Ok(())
    })?;
    Ok(record)
}

/// The receipt of the purchase that a refund pays back, with that noted.
fn refunded(database: &Database, refund: &Purchase) -> Result<Option<Receipt>, StoreError> {
    if refund.kind != CreditKind::Refund {
        return Ok(None);
    }
    let purchase = &refund.papers.refund_of;
    let booked = receipt(database, refund, purchase)?.filter(|receipt| receipt.kind == CreditKind::Purchased);
    let booked = booked.ok_or_else(|| StoreError::NoSuchPurchase(purchase.clone()))?;
    let left = booked.amount.minus(booked.refunded);
    if left < refund.amount {
        return Err(StoreError::RefundTooLarge { purchase: purchase.clone(), left });
    }
    Ok(Some(Receipt { refunded: booked.refunded.plus(refund.amount), ..booked }))
}

fn receipt(database: &Database, purchase: &Purchase, id: &str) -> Result<Option<Receipt>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let purchases = read.open_table(PURCHASES).map_err(failed)?;
    let booked = purchases.get((&*purchase.account, id)).map_err(failed)?;
    booked.map(|booked| decode(booked.value(), id)).transpose()
}
