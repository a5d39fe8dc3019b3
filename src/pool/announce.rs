//! What others must hear of: another tier, thresholds of the monthly limit, little or nothing left, and the need to buy
//! credits.

use std::sync::Arc;

use super::account::{Pool, limit_max};
use super::message::Happening;
use super::rules::PoolRules;
use crate::decision::Credit;
use crate::decision::catalogue::tier_of;

impl Pool {
    /// Announces, once each, what has become true.
    pub(super) fn announce(&mut self, rules: &PoolRules) {
        if self.is_user() {
            return;
        }
        self.announce_tier(rules);
        self.announce_thresholds(rules);
        self.announce_low_balance();
        self.announce_depletion(rules);
        self.request_top_up(rules);
    }

    /// A raised limit has its percents announced anew; another list of percents changes nothing of what was announced.
    pub(super) fn forget_unreached_thresholds(&mut self, rules: &PoolRules) {
        let announced = std::mem::take(&mut self.announced);
        self.announced = announced.into_iter().filter(|percent| self.is_reached(*percent, rules)).collect();
    }

    fn announce_tier(&mut self, rules: &PoolRules) {
        let to = tier_of(&rules.tiers, &self.terms, self.lifetime_paid());
        let from = std::mem::replace(&mut self.tier, to);
        self.limit_max = limit_max(rules, to);
        if from != to {
            self.forget_unreached_thresholds(rules);
            self.emit(Happening::TierChanged { from, to });
        }
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
        let Some(limit) = self.limit_in_force().filter(|_| self.months.used.is_positive()) else { return false };
        let dust = if percent == 100 { rules.dust } else { Credit::ZERO };
        i128::from(limit.nanos()).saturating_mul(i128::from(percent))
            <= i128::from(self.months.used.plus(dust).nanos()).saturating_mul(100)
    }

    /// Rights that sessions give back do not make it true again: they would go to and fro about the threshold.
    fn announce_low_balance(&mut self) {
        let available = self.available();
        if let Some(threshold) = self.terms.balance_alert.filter(|threshold| !self.low && available <= *threshold) {
            self.low = true;
            self.emit(Happening::BalanceLow { threshold, available });
        }
    }

    /// After credits came in, or another alert was set: a balance above the alert may fall to it.
    pub(super) fn rearm_balance_alert(&mut self) {
        self.low = self.terms.balance_alert.is_none_or(|threshold| self.balance() <= threshold);
    }

    fn announce_depletion(&mut self, rules: &PoolRules) {
        let gone = self.credits_and_line().minus(self.used) <= rules.dust;
        if gone && !self.depleted {
            self.emit(Happening::Depleted);
        }
        self.depleted = gone;
    }
}
