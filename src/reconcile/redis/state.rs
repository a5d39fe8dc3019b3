//! An account's state as `lua/state.lua` keeps it, and what an operator sees of it.

use std::sync::Arc;

use redis::Value;

use super::answer::{Answer, text};
use super::packed::Numbers;
use super::terms;
use crate::clock::UnixMs;
use crate::decision::terms::{Terms, Tier};
use crate::decision::{Credit, Month};
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
    pub promotional: Credit,
    pub purchased: Credit,
    pub used: Credit,
    pub leased: Credit,
    pub retired: Credit,
    month: Month,
    month_used: Credit,
    topup_pending: Option<String>,
    paid_before: Credit,
    tier: Tier,
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
        let (promotional, purchased) = (state.credit()?, state.credit()?);
        let (used, leased, retired) = (state.credit()?, state.credit()?, state.credit()?);
        let (month, month_used) = (Month::from_yyyymm(state.whole()?), state.credit()?);
        // Months past, starvation, announcements, depletion, oddities; then what a top-up remembers.
        state.pass(4 + 6 + 5)?;
        let topup_pending = pending(account, state.list()?)?;
        // What the law looks at of the terms, and when the first record ends.
        state.pass(15 + 1)?;
        let paid_before = state.credit()?;
        let number = state.whole()?;
        let tier = terms::tier_of_number(number).ok_or_else(|| StoreError::Corrupt(format!("tier {number}")))?;
        let account = Arc::clone(account);
        Ok(Self {
            account,
            now,
            created,
            terms,
            terms_version,
            credit_version,
            promotional,
            purchased,
            used,
            leased,
            retired,
            month,
            month_used,
            topup_pending,
            paid_before,
            tier,
            limbo,
        })
    }

    pub fn record(self) -> AccountRecord {
        let calendar = Month::of(self.now);
        AccountRecord {
            account: self.account,
            terms: self.terms,
            terms_version: self.terms_version,
            credits_promotional: self.promotional,
            credits_purchased: self.purchased,
            credit_version: self.credit_version,
            used: self.used,
            leased: self.leased,
            limbo: self.limbo,
            balance: self.promotional.plus(self.purchased).minus(self.used),
            lifetime_paid: self.paid_before.max(self.purchased).max(self.used.minus(self.promotional)),
            tier: self.tier,
            month: self.month.max(calendar),
            month_used: if self.month < calendar { Credit::ZERO } else { self.month_used },
            topup_pending: self.topup_pending,
            created: self.created,
        }
    }
}

/// The key of a purchase in flight.
fn pending(account: &str, mut pending: Answer) -> Result<Option<String>, StoreError> {
    let Some(_since) = pending.next() else { return Ok(None) };
    let (version, attempt): (u64, u64) = (pending.whole()?, pending.whole()?);
    Ok(Some(format!("{account}.{version}.{attempt}")))
}
