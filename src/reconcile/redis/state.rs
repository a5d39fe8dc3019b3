//! An account's state as `lua/state.lua` keeps it, and what an operator sees of it.

use std::sync::Arc;

use redis::Value;

use super::answer::{Answer, text};
use super::packed::Numbers;
use super::terms;
use crate::clock::UnixMs;
use crate::decision::terms::{Terms, Tier};
use crate::decision::{Credit, Month};
use crate::pool::{Credits, Sums};
use crate::reconcile::store::{AccountRecord, StoreError};

/// An account as `lua/account.lua` tells it.
#[derive(Debug)]
pub(super) struct Kept {
    account: Arc<str>,
    /// Store time.
    pub now: UnixMs,
    created: UnixMs,
    pub terms: Terms,
    pub terms_version: u64,
    pub credit_version: u64,
    pub credits: Credits,
    /// What they come to, and what of it was free of charge, as the scripts add it up.
    pub sums: [Credit; 2],
    pub used: Credit,
    pub leased: Credit,
    pub retired: Credit,
    month: Month,
    month_used: Credit,
    topup_pending: Option<String>,
    paid: Credit,
    tier: Tier,
    history: u64,
    /// Usage that no line tells of yet.
    open_usage: Credit,
    /// In force.
    month_limit: Option<Credit>,
    limbo: Credit,
}

impl Kept {
    /// `rest` begins with store time; what follows limbo is left in it.
    pub fn read(account: &Arc<str>, rest: &mut Answer) -> Result<Self, StoreError> {
        let now = UnixMs(rest.whole()?);
        let mut state = rest.list()?;
        let terms = match rest.value()? {
            // A user has none of its own.
            Value::Nil => Terms::default(),
            written => terms::read(&text(&written)?)?,
        };
        let limbo = rest.credit()?;
        state.pass(1)?;
        let created = UnixMs(state.whole()?);
        state.pass(2)?;
        let (terms_version, credit_version) = (state.whole()?, state.whole()?);
        let sums = [state.credit()?, state.credit()?];
        let (used, leased, retired) = (state.credit()?, state.credit()?, state.credit()?);
        let (month, month_used) = (Month::from_yyyymm(state.whole()?), state.credit()?);
        // Months past, starvation, announcements, depletion, oddities; then what a top-up remembers.
        state.pass(4 + 6 + 5)?;
        let topup_pending = pending(account, state.list()?)?;
        // What the law looks at of the terms, but for the limit in force, and when the first record ends.
        state.pass(4)?;
        let has_limit = state.number()? > 0;
        let month_limit = Some(state.credit()?).filter(|_| has_limit);
        state.pass(8 + 1)?;
        let paid = state.credit()?;
        let number = state.whole()?;
        let tier = terms::tier_of_number(number).ok_or_else(|| StoreError::Corrupt(format!("tier {number}")))?;
        // Where the tier ends, whether the alert is quiet, more of the terms, and a limit that the tier may bound.
        state.pass(2 + 1 + 7 + 1)?;
        let mut lots = state.list()?;
        let (promotional, purchased, adjusted, refunded) =
            (lot(&mut lots)?, lot(&mut lots)?, lot(&mut lots)?, lot(&mut lots)?);
        state.pass(1)?;
        let history = state.whole()?;
        let late = late(state.list()?)?;
        let account = Arc::clone(account);
        Ok(Self {
            account,
            now,
            created,
            terms,
            terms_version,
            credit_version,
            credits: Credits { promotional, purchased, adjusted, refunded },
            sums,
            used,
            leased,
            retired,
            month,
            month_used,
            topup_pending,
            paid,
            tier,
            history,
            open_usage: month_used.plus(late),
            month_limit,
            limbo,
        })
    }

    /// What the lines of its history have to come to.
    pub fn history_sums(&self) -> Sums {
        Sums::due(&self.account, self.history, &self.credits, self.used, self.open_usage)
    }

    pub fn record(self) -> AccountRecord {
        let calendar = Month::of(self.now);
        AccountRecord {
            account: self.account,
            terms: self.terms,
            terms_version: self.terms_version,
            credits_promotional: self.credits.promotional,
            credits_purchased: self.credits.purchased,
            lots: self.credits.lots(self.used),
            credit_version: self.credit_version,
            used: self.used,
            leased: self.leased,
            limbo: self.limbo,
            balance: self.credits.total().minus(self.used),
            lifetime_paid: self.paid.max(self.used.minus(self.credits.given())),
            tier: self.tier,
            month: self.month.max(calendar),
            month_used: if self.month < calendar { Credit::ZERO } else { self.month_used },
            month_limit: self.month_limit,
            topup_pending: self.topup_pending,
            created: self.created,
        }
    }
}

/// Credits of one kind.
fn lot(lots: &mut Answer) -> Result<Credit, StoreError> {
    let lot = lots.credit()?;
    let fits = lot.nanos().unsigned_abs() <= Credit::MAX.nanos().unsigned_abs();
    fits.then_some(lot).ok_or_else(|| StoreError::Corrupt(format!("credits of {lot}")))
}

/// Late usage without a line.
fn late(mut late: Answer) -> Result<Credit, StoreError> {
    let Some(_month) = late.next() else { return Ok(Credit::ZERO) };
    late.pass(1)?;
    late.credit()
}

/// The key of a purchase in flight.
fn pending(account: &str, mut pending: Answer) -> Result<Option<String>, StoreError> {
    let Some(_since) = pending.next() else { return Ok(None) };
    let (version, attempt): (u64, u64) = (pending.whole()?, pending.whole()?);
    Ok(Some(format!("{account}.{version}.{attempt}")))
}
