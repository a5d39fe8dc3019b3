//! An account's history: a line for each thing that moved its balance or its terms of payment, written in the step that
//! did it.
//!
//! What always holds: credits in, less all usage but what is open, is the sum of the lines. Open is usage of the running month,
//! and usage that came in late until it gets its line. Users have no history: what they spend is in their account's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::Pool;
use super::audit::Drift;
use super::credits::{CreditKind, Credits};
use super::message::Happening;
use super::rules::PoolRules;
use super::user::user_of;
use super::when::elapsed;
use crate::clock::UnixMs;
use crate::decision::terms::Terms;
use crate::decision::{Credit, Month};

/// Late usage gets a line so long after the first of it: what many sessions tell of a month that just ended is one line then.
pub const LATE_WAIT: Duration = Duration::from_hours(1);

/// A line of an account's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    pub at: UnixMs,
    pub what: Booking,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Booking {
    Credits(Receipt),
    /// A month ended with this much usage.
    Month {
        month: Month,
        used: Credit,
    },
    /// Usage that came in after its month had ended.
    Late {
        month: Month,
        used: Credit,
    },
    /// Terms that matter for money changed: what from, what to.
    Terms(String),
    /// Top-ups, tiers, suspensions.
    Happened(Happening),
}

/// What came in or went back, as whoever booked it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub kind: CreditKind,
    /// Above zero, but for an adjustment downwards.
    pub amount: Credit,
    pub id: String,
    pub papers: Papers,
}

/// What a receipt says beyond numbers; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Papers {
    /// The purchase that a refund pays back.
    pub refund_of: String,
    /// The payment provider's name for it.
    pub reference: String,
    pub note: String,
}

impl Papers {
    /// Characters of a reference.
    pub const REFERENCE_MAX: usize = 128;
}

/// Usage that came in after its month had ended and has no line yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Late {
    pub month: Month,
    /// When the first of it came in.
    pub since: UnixMs,
    pub used: Credit,
}

/// What the lines of a history come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub entries: u64,
    pub credits: Credit,
    pub used: Credit,
}

impl Entry {
    /// What it adds to the balance.
    pub fn amount(&self) -> Credit {
        match &self.what {
            Booking::Credits(receipt) => receipt.effect(),
            Booking::Month { used, .. } | Booking::Late { used, .. } => Credit::ZERO.minus(*used),
            Booking::Terms(_) | Booking::Happened(_) => Credit::ZERO,
        }
    }
}

impl Receipt {
    fn effect(&self) -> Credit {
        if self.kind == CreditKind::Refund { Credit::ZERO.minus(self.amount) } else { self.amount }
    }
}

impl Sums {
    /// What the lines of a pool with these sums have to come to. A user's has no lines.
    pub fn due(pool: &str, entries: u64, credits: &Credits, used: Credit, open_usage: Credit) -> Self {
        if user_of(pool).is_some() {
            return Self { entries, ..Self::default() };
        }
        Self { entries, credits: credits.total(), used: used.minus(open_usage) }
    }

    #[must_use]
    pub fn with(self, entry: &Entry) -> Self {
        let entries = self.entries.saturating_add(1);
        match &entry.what {
            Booking::Credits(receipt) => {
                Self { entries, credits: self.credits.saturating_plus(receipt.effect()), ..self }
            }
            Booking::Month { used, .. } | Booking::Late { used, .. } => {
                Self { entries, used: self.used.saturating_plus(*used), ..self }
            }
            Booking::Terms(_) | Booking::Happened(_) => Self { entries, ..self },
        }
    }

    /// What differs from an account that has so much in credits and of usage in months that ended.
    pub fn drift(self, kept: Self) -> Option<Drift> {
        if self.entries != kept.entries {
            return Some(Drift::HistoryLength { kept: kept.entries, found: self.entries });
        }
        if self.credits != kept.credits {
            return Some(Drift::HistoryCredits { kept: kept.credits, summed: self.credits });
        }
        (self.used != kept.used).then_some(Drift::HistoryUsage { kept: kept.used, summed: self.used })
    }
}

impl Pool {
    /// What the lines of its history have to come to.
    pub fn history_sums(&self) -> Sums {
        Sums::due(&self.account, self.history, &self.credits, self.used, self.open_usage())
    }

    /// Usage that no line tells of yet.
    pub fn open_usage(&self) -> Credit {
        self.late.map_or(self.months.used, |late| self.months.used.plus(late.used))
    }

    /// Writes the lines that are due: a month is settled when it ended, also where nothing happened since.
    pub fn settle(&mut self, rules: &PoolRules, now: UnixMs) {
        self.tick(now, rules);
    }

    pub fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Lines since this was last called, to be written together with the pool.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Usage is late where its month has ended.
    pub(super) fn note_late(&mut self, (month, used): (Month, Credit)) {
        if month == self.months.current || !used.is_positive() {
            return;
        }
        if self.late.is_some_and(|late| late.month != month) {
            self.keep_late();
        }
        let known = self.late.map_or((self.now, Credit::ZERO), |late| (late.since, late.used));
        self.late = Some(Late { month, since: known.0, used: known.1.plus(used) });
    }

    /// Writes the line of late usage that waited long enough.
    pub(super) fn keep_late_if_due(&mut self) {
        if self.late.is_some_and(|late| LATE_WAIT <= elapsed(late.since, self.now)) {
            self.keep_late();
        }
    }

    fn keep_late(&mut self) {
        if let Some(Late { month, used, .. }) = self.late.take() {
            self.keep(Booking::Late { month, used });
        }
    }

    pub(super) fn keep(&mut self, what: Booking) {
        if self.is_user() {
            return;
        }
        self.history = self.history.saturating_add(1);
        self.entries.push(Entry { number: self.history, at: self.now, what });
    }
}

impl Happening {
    /// Whether it has a line in the history.
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::TopUpNeeded { .. }
            | Self::TopUpSucceeded { .. }
            | Self::TopUpFailed { .. }
            | Self::TierChanged { .. }
            | Self::Suspended { .. } => true,
            Self::BalanceLow { .. } | Self::Depleted | Self::MonthThreshold { .. } | Self::Overrun { .. } => false,
        }
    }
}

/// What a change of terms changes about money, in words; nothing where it does not.
pub fn money_changes(old: &Terms, new: &Terms) -> Option<String> {
    let limit = |terms: &Terms| terms.monthly_limit.map_or("none".into(), |limit| limit.to_string());
    let top_up =
        |terms: &Terms| terms.top_up.map_or("off".into(), |top_up| format!("{} at {}", top_up.amount, top_up.minimum));
    let told = |terms: &Terms| {
        [
            ("mode", format!("{:?}", terms.mode).to_lowercase()),
            ("monthly limit", limit(terms)),
            ("credit line", terms.credit_line.to_string()),
            ("auto top-up", top_up(terms)),
            ("suspension", suspension(terms).into()),
        ]
    };
    let pairs = told(old).into_iter().zip(told(new));
    let changes: Vec<String> = pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((name, old), (_, new))| format!("{name}: {old} to {new}"))
        .collect();
    (!changes.is_empty()).then(|| changes.join("; "))
}

fn suspension(terms: &Terms) -> &'static str {
    use crate::decision::terms::Suspension;
    match terms.suspension {
        Suspension::None => "none",
        Suspension::FailedPayments => "failed payments",
        Suspension::Abuse => "abuse",
    }
}
