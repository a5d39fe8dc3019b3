//! Looking without touching: why an ask would be admitted or denied, and how an account stands here.
//!
//! Works on a copy of the account as it will be found by whoever comes next. Nothing is noted, wanted or forgotten.

use std::time::Duration;

use super::account::Account;
use super::answer::{Answer, End, Explained, Here, LimitHere, Limits, ModelHere, Verdict, Why, WhyLimit};
use super::check::{Question, life_of, nobody, stand_lent};
use super::hold::Hold;
use super::reserved::{lowered, reserved_tokens};
use super::shard::{Rules, Shard};
use super::standing::{Asking, balance, custom_limits, group_name, limits, standing};
use crate::clock::{Now, Time};
use crate::decision::catalogue::Provenance;
use crate::decision::explain::{Bound, Finding, explain};
use crate::decision::standing::RateStanding;
use crate::decision::terms::Terms;
use crate::decision::{
    Amounts, Credit, Decision, Demand, Denial, Metric, ModelId, Price, RateKey, Reason, ServiceTier, Standing, decide,
};

/// Credit that the pool would lend may be followed by tokens that it would lend.
const LENT_MAX: usize = 2;

impl Shard {
    /// What a check of this ask would come to, going by what is known here; `None` where the account is not loaded.
    pub(super) fn explain(&self, rules: &Rules, question: Question<'_>, now: Now) -> Option<Explained> {
        let Some(index) = self.find_hashed(question.hash, question.ask.account) else {
            let is_nobody = self.strangers.contains(question.ask.account, now.time);
            return is_nobody.then(|| Explained { answer: nobody(Denial::of(Reason::UnknownAccount)), why: None });
        };
        let full = self.open.of_all(&rules.holds_open) >= rules.settings.holds_max;
        let mut account = self.as_found_next(index, now.time)?;
        let user = self.look_at_user(rules, &account, question, now);
        let asking = Asking { user: user.map(|(user, _)| user), full };
        let mut standing = standing(&mut account, rules, question.demand, asking, now.time)?;
        let at_hand = AtHand::of(&standing);
        let available = (account.available, user.map_or(Credit::ZERO, |(_, available)| available));
        let decision = decided_as_lent(rules, question.demand, available, &mut standing, now.time);
        let verdict = match decision {
            Decision::Deny(denial) => Verdict::Denied(denial),
            Decision::Short(_) => Verdict::Denied(Denial::of(Reason::Unavailable)),
            Decision::Admit(charge) => {
                let life = life_of(rules, question.ask);
                let hold = Hold::open(question.demand, &charge, 0, account.lease.month, life, now.time);
                Verdict::Admitted(hold.admitted(false))
            }
        };
        let limits: Limits = limits(&standing, question.demand.rate_key, None, now.time);
        let answer = Answer { verdict, limits: Some(limits), balance: Some(balance(&account)) };
        let why = why(rules, &account, question.demand, (&standing, at_hand), now.time);
        Some(Explained { answer, why })
    }

    /// How an account stands in this sidecar; `None` where it is not loaded.
    pub(super) fn inspect(&self, rules: &Rules, name: &str, now: Time) -> Option<Here> {
        let index = self.find(rules, name)?;
        let mut account = self.as_found_next(index, now)?;
        let opened = self.holds.open_of(index).filter(|hold| !hold.is_found_past(now)).map(|hold| hold.age(now));
        let mut keys: Vec<RateKey> = Vec::new();
        keys.extend(account.rates.iter().flat_map(|rates| rates.models()).map(|model| model.key));
        let rates = |account: &mut Account, key| standing(account, rules, &nothing_of(key), Asking::default(), now);
        let requests = rates(&mut account, None)?.requests;
        let mut models = Vec::new();
        for key in keys {
            let tokens = rates(&mut account, Some(key))?.tokens;
            models.push(model_here(rules, &account, key, &tokens, now)?);
        }
        Some(Here {
            tier: account.view.tier,
            balance: balance(&account),
            month_used: account.view.month_used.plus(account.lease.month_unreported()),
            free: account.lease.free(now),
            lease_left: account.lease.until.since(now),
            held: account.lease.held,
            holds: account.open,
            oldest: opened.max(),
            unreported: account.lease.unreported(),
            requests: limit_here(&requests, Provenance::Catalogue, now),
            models,
        })
    }

    /// A copy of the account, after what is past its time has ended.
    fn as_found_next(&self, index: u32, now: Time) -> Option<Account> {
        let mut account = self.account(index)?.clone();
        account.roll_over(now);
        if account.open > 0 {
            for hold in self.holds.open_of(index).filter(|hold| hold.is_found_past(now)) {
                hold.clone().end(&mut account, End::Expired, None, now);
            }
        }
        Some(account)
    }
}

/// Decides as if the pool had been asked for what is short.
fn decided_as_lent(
    rules: &Rules,
    demand: &Demand,
    available: (Credit, Credit),
    standing: &mut Standing,
    now: Time,
) -> Decision {
    let hold = rules.catalogue.admission.generated_hold;
    let mut decision = decide(demand, standing, hold, now);
    for _ in 0..LENT_MAX {
        let Decision::Short(short) = decision else { break };
        stand_lent(standing, short, available, now);
        decision = decide(demand, standing, hold, now);
    }
    decision
}

/// Tokens and requests that are lent to this sidecar, which count against a limit but may be used by the ask.
#[derive(Clone, Copy)]
struct AtHand {
    requests: u64,
    tokens: [u64; 3],
}

impl AtHand {
    fn of(standing: &Standing) -> Self {
        Self { requests: standing.requests.chunk, tokens: standing.tokens.map(|rate| rate.chunk) }
    }

    /// What is really used of a limit.
    fn taken_off(self, bound: Bound, amounts: Amounts) -> Amounts {
        let at_hand = match bound {
            Bound::Month | Bound::User | Bound::Credit => 0,
            Bound::Requests => self.requests,
            Bound::Tokens(metric) => of_metric(self.tokens, metric),
        };
        match amounts {
            Amounts::Rate { limit, used, requested } => {
                Amounts::Rate { limit, used: used.saturating_sub(at_hand), requested }
            }
            Amounts::None | Amounts::Money { .. } => amounts,
        }
    }
}

fn why(
    rules: &Rules,
    account: &Account,
    demand: &Demand,
    (standing, at_hand): (&Standing, AtHand),
    now: Time,
) -> Option<Why> {
    let terms = account.terms.as_deref()?;
    let findings = explain(demand, standing, rules.catalogue.admission.generated_hold, now);
    let tokens = demand.rate_key.map(|key| token_provenances(rules, account, terms, key, &standing.tokens));
    let reserved = demand.rate_key.map_or([0; 3], |key| reserved_tokens(rules, terms, key));
    let limit = |mut finding: Finding| {
        finding.amounts = at_hand.taken_off(finding.bound, finding.amounts);
        let provenance = match finding.bound {
            Bound::Credit | Bound::User => Provenance::Account,
            Bound::Requests => Provenance::Catalogue,
            Bound::Month => {
                let limit = standing.month.limit.unwrap_or(Credit::ZERO);
                rules.catalogue.month_provenance(terms, account.view.tier, limit)
            }
            Bound::Tokens(metric) => tokens.map_or(Provenance::Catalogue, |tokens| of_metric(tokens, metric)),
        };
        let reserved = match finding.bound {
            Bound::Tokens(metric) => of_metric(reserved, metric),
            Bound::Credit | Bound::User | Bound::Month | Bound::Requests => 0,
        };
        WhyLimit { finding, provenance, reserved }
    };
    Some(Why {
        mode: terms.mode,
        suspension: terms.suspension,
        tier: account.view.tier,
        shadow: terms.shadow,
        funded: standing.requests.limit.per_minute == rules.catalogue.requests.per_minute,
        month: standing.month.month,
        limits: findings.into_iter().map(limit).collect(),
    })
}

fn of_metric<T>([prompt, uncached, generated]: [T; 3], metric: Metric) -> T {
    match metric {
        Metric::Prompt => prompt,
        Metric::Uncached => uncached,
        Metric::Generated => generated,
    }
}

fn token_provenances(
    rules: &Rules,
    account: &Account,
    terms: &Terms,
    key: RateKey,
    tokens: &[RateStanding; 3],
) -> [Provenance; 3] {
    let custom = custom_limits(rules, terms, key);
    let limits = lowered(tokens.map(|rate| rate.limit.per_minute), reserved_tokens(rules, terms, key));
    rules.catalogue.token_provenances(terms, (custom, account.view.tier), key.model, limits)
}

fn model_here(
    rules: &Rules,
    account: &Account,
    key: RateKey,
    tokens: &[RateStanding; 3],
    now: Time,
) -> Option<ModelHere> {
    let provenances = token_provenances(rules, account, account.terms.as_deref()?, key, tokens);
    let [prompt, uncached, generated] = tokens;
    let [of_prompt, of_uncached, of_generated] = provenances;
    let tokens = [(prompt, of_prompt), (uncached, of_uncached), (generated, of_generated)];
    let tokens = tokens.map(|(rate, provenance)| limit_here(rate, provenance, now));
    Some(ModelHere { model: group_name(rules, key), tokens })
}

/// A demand for nothing, to see how the limits of a model stand.
fn nothing_of(key: Option<RateKey>) -> Demand {
    Demand {
        model: key.map_or(ModelId(0), |key| key.model),
        service_tier: ServiceTier::Standard,
        rate_key: key,
        price: Price::default(),
        n: 0,
        prompt: 0,
        uncached: 0,
        prompt_estimated: false,
        out_max: 0,
        out_asked: false,
        cost: Credit::ZERO,
        dust_tokens: 0,
        capped: false,
    }
}

fn limit_here(rate: &RateStanding, provenance: Provenance, now: Time) -> LimitHere {
    LimitHere {
        limit: rate.limit,
        provenance,
        level: rate.bucket.map_or(0, |bucket| bucket.used(rate.limit, now)),
        at_hand: rate.chunk,
        empty_after: rate.bucket.map_or(Duration::ZERO, |bucket| bucket.empty_after(rate.limit, now)),
    }
}
