//! The pool, tested by its tables and its properties.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests add up small numbers and should fail loudly"
)]

mod alerts;
mod asker;
mod chaos;
mod history;
mod leases;
mod months;
mod rates;
mod rates_bound;
mod topups;
mod traps;

use std::time::Duration;

use super::*;
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{ReclaimMode, Terms};
use asker::Asker;

/// 2026-10-05T14:40:00Z.
const START: UnixMs = UnixMs(1_791_211_200_000);

fn usd(amount: &str) -> Credit {
    Credit::from_usd(amount.parse().unwrap()).unwrap()
}

fn at(seconds: u64) -> UnixMs {
    UnixMs(START.0 + seconds * 1_000)
}

fn hours(hours: u64) -> u64 {
    hours * 3_600
}

fn receipt(kind: CreditKind, amount: Credit) -> Receipt {
    Receipt { kind, amount, id: "id".into(), papers: Papers::default() }
}

impl Pool {
    /// Books what makes up the difference to these totals, under one version: less than was paid before is a refund.
    pub(crate) fn credit(
        &mut self,
        version: u64,
        promotional: Credit,
        paid: Credit,
        rules: &PoolRules,
        now: UnixMs,
    ) -> Result<bool, Refusal> {
        let (given, bought) = (promotional.minus(self.credits.promotional), paid.minus(self.credits.paid()));
        let mut taken = false;
        for (kind, amount) in [
            (CreditKind::Promotional, given),
            (CreditKind::Purchased, bought.at_least_zero()),
            (CreditKind::Refund, Credit::ZERO.minus(bought).at_least_zero()),
        ] {
            if amount != Credit::ZERO && self.credit_version < version {
                let before = self.credit_version;
                taken = self.book(version, receipt(kind, amount), rules, now)?;
                self.credit_version = before;
            }
        }
        self.credit_version = self.credit_version.max(version);
        Ok(taken)
    }
}

fn pool(credits: &str) -> Pool {
    pool_on(Terms::default(), credits)
}

fn pool_on(terms: Terms, credits: &str) -> Pool {
    let mut pool = Pool::new("acme".into(), terms, &rules(), START);
    pool.credit(1, Credit::ZERO, usd(credits), &rules(), START).unwrap();
    pool.take_events();
    pool
}

fn returning() -> Terms {
    Terms { reclaim_mode: ReclaimMode::Return, ..Terms::default() }
}

/// The default rules, but that leases are not capped below a fair share: sums that are easy to follow.
fn rules() -> PoolRules {
    PoolRules { lease_max: usd("1000"), lease_parts: 1, dust: Credit::ZERO, ..PoolRules::default() }
}

fn audited(pool: &Pool) -> Audit {
    pool.audit().unwrap()
}
