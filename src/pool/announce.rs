//! What others must hear of: thresholds of the monthly limit, nothing left, and the need to buy credits.

use std::sync::Arc;

use super::account::Pool;
use super::message::Happening;
use super::rules::PoolRules;
use crate::decision::Credit;

impl Pool {
    /// Announces, once each, what has become true.
    pub(super) fn announce(&mut self, rules: &PoolRules) {
        self.announce_thresholds(rules);
        self.announce_depletion(rules);
        self.request_top_up(rules);
    }

    /// A raised limit has its percents announced anew; another list of percents changes nothing of what was announced.
    pub(super) fn forget_unreached_thresholds(&mut self, rules: &PoolRules) {
        let announced = std::mem::take(&mut self.announced);
        self.announced = announced.into_iter().filter(|percent| self.is_reached(*percent, rules)).collect();
    }

    fn announce_thresholds(&mut self, rules: &PoolRules) {
        let terms = Arc::clone(&self.terms);
        for percent in terms.alert_percents.as_ref().unwrap_or(&rules.thresholds).iter().copied() {
            if !self.announced.contains(&percent) && self.is_reached(percent, rules) {
                self.announced.push(percent);
                self.emit(Happening::MonthThreshold { month: self.months.current, percent });
            }
        }
    }

    /// Usage counts in this month, and with the dust it comes to so many percent of the limit.
    fn is_reached(&self, percent: u32, rules: &PoolRules) -> bool {
        let Some(limit) = self.terms.monthly_limit.filter(|_| self.months.used.is_positive()) else { return false };
        let dust = if percent == 100 { rules.dust } else { Credit::ZERO };
        i128::from(limit.nanos()).saturating_mul(i128::from(percent))
            <= i128::from(self.months.used.plus(dust).nanos()).saturating_mul(100)
    }

    fn announce_depletion(&mut self, rules: &PoolRules) {
        let gone = self.credits_and_line().minus(self.used) <= rules.dust;
        if gone && !self.depleted {
            self.emit(Happening::Depleted);
        }
        self.depleted = gone;
    }
}
