//! Credits that came in, by kind: totals that only grow, but for corrections, which go either way.

use serde::{Deserialize, Serialize};

use crate::decision::Credit;

/// Where credits come from, or why they are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CreditKind {
    /// Given. Counts for no tier.
    Promotional,
    /// Paid. Counts towards the tier.
    Purchased,
    /// An operator's correction, up or down. Counts for no tier.
    Adjustment,
    /// A purchase paid back, or charged back: takes credits away, and may lower the tier.
    Refund,
}

/// Totals of an account.
///
/// Invariant: `0 <= refunded <= purchased <= Credit::MAX`, `0 <= promotional <= Credit::MAX`, and `adjusted` lies within
/// ±[`Credit::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credits {
    pub promotional: Credit,
    /// Ever, refunds not taken off.
    pub purchased: Credit,
    pub adjusted: Credit,
    pub refunded: Credit,
}

/// What came in of one kind, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    pub kind: CreditKind,
    /// Negative for refunds, and for adjustments downwards.
    pub amount: Credit,
    pub left: Credit,
}

impl Credits {
    pub fn total(&self) -> Credit {
        self.promotional.plus(self.paid()).plus(self.adjusted)
    }

    /// Purchases that were not paid back.
    pub fn paid(&self) -> Credit {
        self.purchased.minus(self.refunded)
    }

    /// By how much less is paid than `before`.
    pub fn less_paid_than(&self, before: &Self) -> Credit {
        before.paid().minus(self.paid()).at_least_zero()
    }

    /// What was had free of charge: usage up to here is no paid usage.
    pub fn given(&self) -> Credit {
        self.promotional.plus(self.adjusted.at_least_zero())
    }

    /// The totals with `amount` more of a kind; `None` where an account cannot have as much, or as little.
    pub fn with(&self, kind: CreditKind, amount: Credit) -> Option<Self> {
        let mut credits = *self;
        let total = match kind {
            CreditKind::Promotional => &mut credits.promotional,
            CreditKind::Purchased => &mut credits.purchased,
            CreditKind::Adjustment => &mut credits.adjusted,
            CreditKind::Refund => &mut credits.refunded,
        };
        *total = Credit::from_nanos(total.nanos().saturating_add(amount.nanos()));
        credits.is_sound().then_some(credits)
    }

    /// Every lot that there is, in the order in which usage takes from them. Usage beyond all of them is owed.
    pub fn lots(&self, used: Credit) -> Vec<Lot> {
        let mut due = used.minus(self.adjusted.min(Credit::ZERO));
        let mut lot = |kind, amount: Credit, most: Credit| {
            let left = most.minus(due).at_least_zero();
            due = due.minus(most).at_least_zero();
            Lot { kind, amount, left }
        };
        let lots = [
            lot(CreditKind::Promotional, self.promotional, self.promotional),
            lot(CreditKind::Adjustment, self.adjusted, self.adjusted.at_least_zero()),
            lot(CreditKind::Purchased, self.purchased, self.paid()),
            Lot { kind: CreditKind::Refund, amount: Credit::ZERO.minus(self.refunded), left: Credit::ZERO },
        ];
        lots.into_iter().filter(|lot| lot.amount != Credit::ZERO).collect()
    }

    pub(super) fn is_sound(&self) -> bool {
        let fits = |amount: Credit| amount <= Credit::MAX && Credit::ZERO.minus(Credit::MAX) <= amount;
        fits(self.promotional)
            && fits(self.purchased)
            && fits(self.adjusted)
            && Credit::ZERO <= self.promotional
            && Credit::ZERO <= self.refunded
            && self.refunded <= self.purchased
    }
}
