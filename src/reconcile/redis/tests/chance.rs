//! Terms and rules by chance, and what a refund may be.

use std::time::Duration;

use super::dice::Dice;
use crate::decision::Credit;
use crate::decision::catalogue::TierRule;
use crate::decision::terms::{Mode, ReclaimMode, Suspension, Terms, Tier, TopUpTerms};
use crate::pool::message::UserCap;
use crate::reconcile::store::{CreditKind, Purchase, Rules, StoreError};

/// Kinds of credit, the more interesting ones more often.
pub const KINDS: [CreditKind; 6] = [
    CreditKind::Promotional,
    CreditKind::Purchased,
    CreditKind::Purchased,
    CreditKind::Adjustment,
    CreditKind::Refund,
    CreditKind::Refund,
];

pub fn terms(dice: &mut Dice, scale: i64) -> Terms {
    let mut money = |most| Credit::from_nanos(dice.amount(most));
    let (line, limit, minimum, amount, cap) =
        (money(scale), money(scale * 4), money(scale), money(scale * 2), money(scale * 5));
    let alert = money(scale * 2);
    let top_up = TopUpTerms { minimum, amount, monthly_cap: dice.once_in(3).then_some(cap) };
    Terms {
        mode: *dice.one(&[Mode::Prepaid, Mode::Postpaid, Mode::Contract]),
        suspension: if dice.once_in(8) { Suspension::Abuse } else { Suspension::None },
        payment_method: !dice.once_in(4),
        billing_profile: !dice.once_in(4),
        tier_override: dice.once_in(8).then(|| *dice.one(&[Tier::None, Tier::Two, Tier::Unlimited])),
        balance_alert: dice.once_in(2).then_some(alert),
        monthly_limit: dice.once_in(2).then_some(limit),
        credit_line: line,
        top_up: dice.once_in(2).then_some(top_up),
        reclaim_mode: *dice.one(&[ReclaimMode::Limbo, ReclaimMode::Return]),
        alert_percents: dice.one(&[None, Some(vec![]), Some(vec![7]), Some(vec![999, 1, 80, 100, 50])]).clone(),
        ..Terms::default()
    }
}

/// The default numbers, or some of them so small that every bound is met.
pub fn rules(dice: &mut Dice) -> Rules {
    let mut rules = Rules::default();
    let pool = &mut rules.pool;
    pool.tiers = tiers(*dice.one(&[1, 40, 3_000_000_000, 1 << 49]));
    if dice.once_in(4) {
        return rules;
    }
    pool.lease_max = Credit::from_nanos(*dice.one(&[100, 5_000_000_000, 1_000_000_000_000_000_000]));
    pool.lease_parts = *dice.one(&[1, 3, 10]);
    pool.sessions_max = *dice.one(&[3, 6, 4_096]);
    pool.reap_max = *dice.one(&[1, 2, 4]);
    pool.months_kept = *dice.one(&[0, 1, 12]);
    pool.dust = Credit::from_nanos(*dice.one(&[0, 5, 1_200_000]));
    pool.request_typical = Credit::from_nanos(*dice.one(&[1, 12_000_000]));
    pool.sync_spacing = Duration::from_millis(*dice.one(&[1, 900]));
    pool.sync_spacing_healthy = Duration::from_millis(*dice.one(&[1, 700]));
    pool.top_up_waits = dice.one(&[vec![], vec![Duration::from_secs(1)], pool.top_up_waits.clone()]).clone();
    pool.thresholds = dice.one(&[vec![80, 100], vec![], vec![100, 1, 50]]).clone();
    rules
}

/// Tiers that accounts of that scale reach.
fn tiers(scale: i64) -> Vec<TierRule> {
    let paid = [(Tier::None, Some(0)), (Tier::One, Some(0)), (Tier::Two, Some(scale)), (Tier::Three, Some(scale * 3))];
    let rule = |(tier, paid): (Tier, Option<i64>)| TierRule {
        tier,
        needs: paid.map(Credit::from_nanos),
        needs_billing: matches!(tier, Tier::One | Tier::Two),
        monthly_limit_max: paid.map(|paid| Credit::from_nanos(paid * 2)),
        ceiling_percent: None,
    };
    paid.into_iter().chain([(Tier::Unlimited, None)]).map(rule).collect()
}

pub fn cap(dice: &mut Dice, scale: i64) -> UserCap {
    let limit = *dice.one(&[0, scale, scale / 2, Credit::MAX.nanos()]);
    UserCap { limit: Credit::from_nanos(limit), reclaim_mode: *dice.one(&[ReclaimMode::Limbo, ReclaimMode::Return]) }
}

/// Whether so much of a purchase is left to pay back.
pub fn refundable(purchases: &[Purchase], refund: &Purchase) -> Result<(), StoreError> {
    let id = &refund.papers.refund_of;
    let own = || purchases.iter().filter(|known| known.account == refund.account);
    let bought = own().find(|known| known.id == *id && known.kind == CreditKind::Purchased);
    let bought = bought.ok_or_else(|| StoreError::NoSuchPurchase(id.clone()))?.amount;
    let refunds = own().filter(|known| known.kind == CreditKind::Refund && known.papers.refund_of == *id);
    let left = refunds.fold(bought, |left, known| left.minus(known.amount));
    if left < refund.amount { Err(StoreError::RefundTooLarge { purchase: id.clone(), left }) } else { Ok(()) }
}
