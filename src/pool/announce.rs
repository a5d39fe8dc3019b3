//! What others must hear of: thresholds of the monthly limit, nothing left, and the need to buy credits.

use super::account::Pool;
use super::message::Happening;
use super::rules::PoolRules;
use crate::decision::Credit;

impl Pool {
    /// Announces, once each, what has become true.
    pub(super) fn announce(&mut self, rules: &PoolRules) {
        if self.is_user() {
            return;
        }
        self.announce_thresholds(rules);
        self.announce_depletion(rules);
        self.request_top_up(rules);
    }

    /// A raised limit has its percents announced anew.
    pub(super) fn forget_unreached_thresholds(&mut self, rules: &PoolRules) {
        let reached: Vec<u32> = self.thresholds_reached(rules);
        self.announced.retain(|percent| reached.contains(percent));
    }

    fn announce_thresholds(&mut self, rules: &PoolRules) {
        for percent in self.thresholds_reached(rules) {
            if !self.announced.contains(&percent) {
                self.announced.push(percent);
                self.emit(Happening::MonthThreshold { month: self.months.current, percent });
            }
        }
    }

    fn thresholds_reached(&self, rules: &PoolRules) -> Vec<u32> {
        let Some(limit) = self.terms.monthly_limit.filter(|_| self.months.used.is_positive()) else {
            return Vec::new();
        };
        let reached = |percent: &u32| {
            let dust = if *percent == 100 { rules.dust } else { Credit::ZERO };
            i128::from(limit.nanos()).saturating_mul(i128::from(*percent))
                <= i128::from(self.months.used.plus(dust).nanos()).saturating_mul(100)
        };
        rules.thresholds.iter().copied().filter(reached).collect()
    }

    fn announce_depletion(&mut self, rules: &PoolRules) {
        let gone = self.credits_and_line().minus(self.used) <= rules.dust;
        if gone && !self.depleted {
            self.emit(Happening::Depleted);
        }
        self.depleted = gone;
    }
}
