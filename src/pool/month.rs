//! Usage by calendar month: what counts against the monthly limit, and what came in late for months that ended.

use serde::{Deserialize, Serialize};

use super::message::SyncRequest;
use super::session::Record;
use crate::decision::{Credit, Month};

/// The store's month never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Months {
    pub current: Month,
    /// Usage that counts in `current`.
    pub used: Credit,
    /// Months that ended, oldest first.
    pub past: Vec<(Month, Credit)>,
}

/// Where newly reported usage belongs. `now_in.1 + earlier.1` is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub now_in: (Month, Credit),
    pub earlier: (Month, Credit),
    /// The record's month and its `used_before`, afterwards.
    pub month: Month,
    pub used_before: Credit,
}

impl Months {
    pub fn starting(current: Month) -> Self {
        Self { current, used: Credit::ZERO, past: Vec::new() }
    }

    /// Turns to `month`, if it is a later one. True where a new month began.
    pub fn roll(&mut self, month: Month, kept: usize) -> bool {
        if month <= self.current {
            return false;
        }
        self.past.push((self.current, self.used));
        self.trim(kept);
        (self.current, self.used) = (month, Credit::ZERO);
        true
    }

    pub fn book(&mut self, split: &Split, kept: usize) {
        self.add(split.now_in);
        self.add(split.earlier);
        self.trim(kept);
    }

    fn add(&mut self, (month, amount): (Month, Credit)) {
        if month == self.current {
            self.used = self.used.plus(amount);
        } else if let Some((_, used)) = self.past.iter_mut().find(|(known, _)| *known == month) {
            *used = used.plus(amount);
        } else if amount.is_positive() {
            self.past.push((month, amount));
            self.past.sort_unstable();
        }
    }

    fn trim(&mut self, kept: usize) {
        self.past.drain(..self.past.len().saturating_sub(kept));
    }
}

/// Divides `spent`, newly reported, between the month that the request names and those before it.
///
/// A month that the store has not reached, or none, is the store's month: its clock is the one that counts.
pub(super) fn split(old: &Record, request: &SyncRequest, spent: Credit, store: Month) -> Split {
    let unknown = request.month == Month::default() || store < request.month;
    let month = if unknown { store } else { request.month };
    if month < old.month {
        // The session had moved on already: all of this came late.
        let used_before = old.used_before.plus(spent);
        return Split { now_in: (month, spent), earlier: (month, Credit::ZERO), month: old.month, used_before };
    }
    let same = month == old.month;
    let known_before = if same { old.used_before } else { old.used };
    let claimed = if unknown { Credit::ZERO } else { request.used_before };
    let late = claimed.minus(known_before).at_least_zero().min(spent);
    let is_new = old.month == Month::default();
    Split {
        now_in: (month, spent.minus(late)),
        earlier: (if same || is_new { previous(month) } else { old.month }, late),
        month,
        used_before: known_before.plus(late),
    }
}

fn previous(month: Month) -> Month {
    let number = month.yyyymm();
    let back = if number % 100 <= 1 { 89 } else { 1 };
    Month::from_yyyymm(number.saturating_sub(back))
}
