//! Where a limit comes from, for whoever asks why it is what it is.

use super::{Catalogue, ModelId};
use crate::decision::Credit;
use crate::decision::terms::{Terms, Tier, TokenLimits};

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The catalogue, for every account like this one.
    Catalogue,
    /// The account's own: its credits, its credit line, its monthly limit.
    Account,
    /// The most that the account's tier allows, by what it paid.
    Tier,
    /// The most that a tier allows which an operator set.
    Override,
    /// Set for this account in place of what use would make it.
    Custom,
    /// It grew or shrank with use.
    Adaptive,
}

impl Catalogue {
    /// Where the monthly limit comes from.
    pub fn month_provenance(&self, terms: &Terms, tier: Tier, limit: Credit) -> Provenance {
        let most = self.tier_rule(tier).and_then(|rule| rule.monthly_limit_max);
        if most == Some(limit) && terms.mode == crate::decision::terms::Mode::Postpaid {
            return tier_provenance(terms);
        }
        Provenance::Account
    }

    /// Where the limits of a model come from that are `limits` now, in the order of [`crate::decision::Metric`].
    pub fn token_provenances(
        &self,
        terms: &Terms,
        (custom, tier): (Option<TokenLimits>, Tier),
        model: ModelId,
        limits: TokenLimits,
    ) -> [Provenance; 3] {
        if custom.is_some() {
            return [Provenance::Custom; 3];
        }
        let ceiling = self.ceiling(model, tier).map_or([None; 3], |ceiling| ceiling.map(Some));
        let mut provenances = [Provenance::Adaptive; 3];
        let facts = limits.into_iter().zip(self.rates.start).zip(ceiling);
        for (provenance, ((limit, start), ceiling)) in provenances.iter_mut().zip(facts) {
            if limit == start {
                *provenance = Provenance::Catalogue;
            } else if Some(limit) == ceiling {
                *provenance = tier_provenance(terms);
            }
        }
        provenances
    }
}

fn tier_provenance(terms: &Terms) -> Provenance {
    if terms.tier_override.is_some() { Provenance::Override } else { Provenance::Tier }
}
