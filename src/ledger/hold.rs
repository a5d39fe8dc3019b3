//! Credit and tokens promised to one request, from its admission to its end.
//!
//! `open -settle-> settled | -release-> released | -no sign of life-> expired -late settle-> settled`

use std::time::Duration;

use super::account::Account;
use super::answer::{Admitted, End, Ended, HoldError};
use super::compact::{Millis, Place, Second};
use super::lease::sum;
use super::rates::ModelRate;
use crate::clock::Time;
use crate::decision::{Catalogue, Charge, Credit, Demand, Month, Price, RateKey, Reason, RequestId, Usage};

/// Names a hold within a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct HoldKey {
    /// The request's digest in two halves: a third smaller than with the alignment of 128 bits.
    digest: (u64, u64),
    attempt: u32,
    pub(super) account: u32,
}

impl HoldKey {
    pub(super) fn new(account: u32, id: RequestId) -> Self {
        let low = u64::try_from(id.digest & u128::from(u64::MAX)).expect("masked to 64 bits");
        let high = u64::try_from(id.digest >> 64).expect("shifted down to 64 bits");
        Self { digest: (high, low), attempt: id.attempt, account }
    }
}

/// A hold that ended, as it is remembered: most of what is kept, so no more than it takes to answer again.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) content: u64,
    cost_answered: Credit,
    out_max: u64,
    cost: Credit,
    held: Credit,
    life: Millis,
    end: End,
    shadow: Option<Reason>,
    capped: bool,
}

/// What a settle needs of a hold that expired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    price: Price,
    /// As last reported, which is what was booked.
    progress: Usage,
    pub(super) month: Month,
    rate_key: Option<RateKey>,
    pub(super) user: Option<Place>,
}

/// One hold.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// A digest of what was asked.
    pub(super) content: u64,
    pub(super) price: Price,
    /// Held for it.
    pub(super) cost: Credit,
    /// As answered; extensions come on top.
    cost_answered: Credit,
    out_max: u64,
    pub(super) extended: u64,
    /// Tokens that the rates were charged for it so far.
    charged: [u64; 3],
    /// Totals as last reported.
    progress: Usage,
    /// Of admission: its usage counts in this month.
    pub(super) month: Month,
    pub(super) rate_key: Option<RateKey>,
    /// The user whose cap it counts against.
    pub(super) user: Option<Place>,
    opened: Second,
    pub(super) deadline: Time,
    life: Millis,
    shadow: Option<Reason>,
    capped: bool,
}

impl Past {
    /// The answer that opened it.
    pub(super) fn admitted(&self) -> Admitted {
        Admitted {
            cost: self.cost_answered,
            out_max: self.out_max,
            capped: self.capped,
            life: self.life.duration(),
            repeated: true,
            shadow: self.shadow,
        }
    }

    /// How it ended.
    pub(super) fn ended(&self) -> Ended {
        let overrun = self.cost.minus(self.held).at_least_zero();
        Ended { end: self.end, cost: self.cost, held: self.held, overrun, repeated: false }
    }

    /// Books a settle that comes after expiry: the difference to what was booked then. Returns that difference too.
    pub(super) fn settle_late(
        &mut self,
        late: Late,
        account: &mut Account,
        usage: Usage,
        now: Time,
    ) -> (Ended, Credit) {
        let before = self.cost;
        let counted = tokens_of(late.progress);
        let absent = Hold::absent(late.price, late.rate_key, late.month, now);
        let mut hold = Hold { charged: counted, ..absent };
        self.cost = hold.book(account, (End::Settled, usage), (counted, before), now);
        self.end = End::Settled;
        (self.ended(), self.cost.minus(before))
    }
}

impl Hold {
    pub(super) fn open(
        demand: &Demand,
        charge: &Charge,
        content: u64,
        month: Month,
        life: Duration,
        now: Time,
    ) -> Self {
        let is_shadow = charge.shadow.is_some();
        Self {
            content,
            price: demand.price,
            cost: if is_shadow { Credit::ZERO } else { charge.cost },
            cost_answered: charge.cost,
            out_max: charge.out_max,
            extended: 0,
            charged: if is_shadow { [0; 3] } else { charge.tokens },
            progress: Usage::default(),
            month,
            rate_key: demand.rate_key,
            user: None,
            opened: Second::after(now),
            deadline: now.after(life),
            life: Millis::of(life),
            shadow: charge.shadow,
            capped: charge.capped,
        }
    }

    /// Reads a word of each part.
    pub(super) const fn fetch(&self) -> u64 {
        self.content ^ self.extended ^ self.deadline.nanos()
    }

    /// Stands for a request that was never admitted here: nothing is held for it.
    pub(super) fn absent(price: Price, rate_key: Option<RateKey>, month: Month, now: Time) -> Self {
        Self {
            content: 0,
            price,
            cost: Credit::ZERO,
            cost_answered: Credit::ZERO,
            out_max: 0,
            extended: 0,
            charged: [0; 3],
            progress: Usage::default(),
            month,
            rate_key,
            user: None,
            opened: Second::after(now),
            deadline: now,
            life: Millis::ZERO,
            shadow: None,
            capped: false,
        }
    }

    /// The answer that opened it.
    pub(super) fn admitted(&self, repeated: bool) -> Admitted {
        Admitted {
            cost: self.cost_answered,
            out_max: self.out_max,
            capped: self.capped,
            life: self.life(),
            repeated,
            shadow: self.shadow,
        }
    }

    pub(super) const fn is_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    pub(super) const fn out_max_extended(&self) -> u64 {
        self.out_max.saturating_add(self.extended)
    }

    /// How long it has been open, in whole seconds.
    pub(super) fn age(&self, now: Time) -> Duration {
        self.opened.age(now)
    }

    pub(super) fn is_past(&self, now: Time) -> bool {
        now >= self.deadline
    }

    /// Past its deadline, and the whole second in which that is looked at has come: whoever checks finds it ended.
    pub(super) fn is_found_past(&self, now: Time) -> bool {
        self.deadline.seconds_up() <= now.seconds()
    }

    pub(super) fn life(&self) -> Duration {
        self.life.duration()
    }

    pub(super) fn renew(&mut self, now: Time) {
        self.deadline = now.after(self.life());
    }

    /// Takes totals since the request began, and trues the rates up: prompts exactly, generated tokens as they exceed
    /// what was charged, for more are to come.
    pub(super) fn progress(&mut self, account: &mut Account, usage: Usage, now: Time) -> Result<(), HoldError> {
        let before = self.progress;
        if usage.prompt < before.prompt || usage.cached < before.cached || usage.generated < before.generated {
            return Err(HoldError::Backwards);
        }
        self.progress = usage;
        let [prompt, uncached, generated] = self.charged;
        let known = usage.prompt > 0;
        let actual = [
            if known { usage.prompt } else { prompt },
            if known { usage.prompt.saturating_sub(usage.cached) } else { uncached },
            usage.generated.max(generated),
        ];
        let charged = std::mem::replace(&mut self.charged, actual);
        if let Some(model) = self.model_rate(account) {
            model.rate.true_up(charged, actual, now);
        }
        Ok(())
    }

    /// Holds an extension on top; the account was charged for it.
    pub(super) fn extend(&mut self, charge: &Charge, more: u64) {
        if charge.shadow.is_none() {
            self.cost = sum(self.cost, charge.cost);
            for (charged, tokens) in self.charged.iter_mut().zip(charge.tokens) {
                *charged = charged.saturating_add(tokens);
            }
        }
        self.extended = self.extended.saturating_add(more);
    }

    /// Ends it: frees what was held and books `usage` in full, or what was reported last.
    pub(super) fn end(&mut self, account: &mut Account, end: End, usage: Option<Usage>, now: Time) -> Past {
        account.lease.held = account.lease.held.minus(self.cost);
        account.open = account.open.checked_sub(1).expect("every open hold is counted");
        let usage = usage.unwrap_or(self.progress);
        let cost = self.book(account, (end, usage), ([0; 3], Credit::ZERO), now);
        Past {
            content: self.content,
            cost_answered: self.cost_answered,
            out_max: self.out_max,
            cost,
            held: self.cost,
            life: self.life,
            end,
            shadow: self.shadow,
            capped: self.capped,
        }
    }

    /// What a settle needs after it expired.
    pub(super) fn late(&self) -> Late {
        let Self { price, progress, month, rate_key, user, .. } = *self;
        Late { price, progress, month, rate_key, user }
    }

    /// Books usage, of which so many tokens were counted before, and so much booked; returns what it cost in all.
    fn book(
        &mut self,
        account: &mut Account,
        (end, usage): (End, Usage),
        (counted, booked): ([u64; 3], Credit),
        now: Time,
    ) -> Credit {
        let cost = self.price.cost_rounded_up(usage).max(booked);
        let more = cost.minus(booked);
        account.lease.book(more, self.month);
        if let Some(key) = self.rate_key {
            account.count_priced(key, more);
        }
        let tokens = tokens_of(usage);
        let charged = std::mem::replace(&mut self.charged, tokens);
        if let Some(model) = self.model_rate(account) {
            model.rate.true_up(charged, tokens, now);
            model.rate.count_used(difference(tokens, counted));
            if end == End::Settled && usage.generated > 0 {
                model.learned.observe(usage.generated);
            }
        }
        self.progress = usage;
        cost
    }

    fn model_rate<'a>(&self, account: &'a mut Account) -> Option<&'a mut ModelRate> {
        account.model_mut(self.rate_key?)
    }
}

/// What usage means for the three metrics.
fn tokens_of(usage: Usage) -> [u64; 3] {
    [usage.prompt, usage.prompt.saturating_sub(usage.cached), usage.generated]
}

fn difference(now: [u64; 3], before: [u64; 3]) -> [u64; 3] {
    let mut more = now;
    for (more, before) in more.iter_mut().zip(before) {
        *more = more.saturating_sub(before);
    }
    more
}

/// Refuses usage that no request can have, so that no sum can run away.
pub(super) fn check_usage(catalogue: &Catalogue, usage: Usage) -> Result<(), HoldError> {
    if usage.cached > usage.prompt {
        return Err(HoldError::CachedAbovePrompt);
    }
    let (prompt_max, generated_max) = catalogue.tokens_max();
    if usage.prompt > prompt_max || usage.generated > generated_max {
        return Err(HoldError::TooLarge);
    }
    Ok(())
}
