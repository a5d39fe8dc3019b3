//! One account as this sidecar knows it: terms, view, lease, rates, and what waits to be said.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::chunk::Rate;
use super::compact::{HalvedTime, LowBits, Millis, Rough, Second};
use super::lease::{Lease, sum};
use super::rates::{ModelRate, Rates};
use super::reserved::Priced;
use super::shard::Rules;
use super::words::Waits;
use crate::clock::{Now, Time};
use crate::decision::rate::Limit;
use crate::decision::terms::{Terms, Tier};
use crate::decision::{Credit, Demand, Month, RateKey, Short};
use crate::pool::message::View;
use crate::pool::user_of;

/// How long a refusal of the pool is believed, so that a flood of asks that cannot be paid costs it nothing.
const REFUSAL_KEEP: Duration = Duration::from_secs(1);

/// Everything about one account, or one user with a cap. An account that is not loaded yet has no terms; only what waits for
/// it counts.
///
/// There are many, most of them idle: what follows from something else is not kept, and what few have is boxed.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Inside, where it is short: comparing it reads nothing else.
    pub(super) name: SmolStr,
    pub(super) terms: Option<Arc<Terms>>,
    pub(super) view: Seen,
    pub(super) lease: Lease,
    /// What the pool could still lend, as last heard.
    pub(super) available: Credit,
    /// Below this much free credit it is time to ask for more.
    pub(super) low_water: Rough,
    /// Changes taken by the pool, as last heard.
    pub(super) ops: LowBits,
    pub(super) spend: Spend,
    /// Spent here when that was measured last.
    spend_used: Rough,
    /// What the last admitted or waiting ask cost.
    pub(super) cost_recent: Rough,
    /// When it was last of use to somebody; of a stranger, when somebody last asked for it.
    pub(super) used_at: Second,
    /// The turn for which it waits in a due list; the largest number where it does not.
    pub(super) due: u64,
    aside: Option<Box<Aside>>,
    pub(super) rates: Option<Box<Rates>>,
    /// When every hold that ended so far will be forgotten: they name their account by its place.
    pub(super) remembered_until: Second,
    /// Zero is no version, also where it has more than 32 bits: then the terms are told each time.
    terms_version: u32,
    pub(super) next_sync: Millis,
    /// Holds that are open.
    pub(super) open: u32,
    /// How often every account had to be declared when this one was last.
    pub(super) declared: u32,
    /// Something is to be said or heard at once: somebody changed it in the store, or what was said last was lost.
    pub(super) touched: bool,
    /// Others starve: give back what is not needed.
    pub(super) recalled: bool,
}

/// How the account stands in its pool, as last heard: what a check looks at of [`View`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) balance: Credit,
    pub(super) month_used: Credit,
    /// How long an auto top-up had been in flight then.
    pub(super) topup_pending: Option<Millis>,
    pub(super) tier: Tier,
    pub(super) promotional_gone: bool,
    pub(super) purchased: bool,
}

/// What most accounts have none of at most times: it is boxed, and the box goes with the last of it.
#[derive(Clone, Debug, Default)]
struct Aside {
    rare: Rare,
    priced: Vec<Priced>,
    flight: Option<Flight>,
}

/// What few accounts have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rare {
    pub(super) refusal: Refused,
    pub(super) waiting: Waiting,
    /// Emergency credit promised since the pool was last heard.
    pub(super) emergency: Credit,
    /// The last words of a record that is being closed; they are repeated until the pool answers.
    pub(super) closing: Option<Counted>,
}

/// The least cost that the pool could not lend, and until when that is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) cost: Credit,
    pub(super) until: Time,
}

/// Credit that asks wait for: the least of them, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) least: Credit,
    pub(super) sum: Credit,
}

/// How fast the account spends here, as a moving mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spend {
    nanos_per_second: Rough,
    at: HalvedTime,
}

/// Usage as a message tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) used: Credit,
    pub(super) used_before: Credit,
    pub(super) month: Month,
}

/// What the message in flight said, to compare its reply with.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) synced: bool,
    pub(super) bye: bool,
    pub(super) counted: Counted,
    /// What asks waited for.
    pub(super) waited: Waiting,
    pub(super) declared: u32,
    /// The groups, in the order of the message.
    pub(super) groups: Vec<FlightGroup>,
}

/// One group of a message in flight, and the tokens that asks waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlightGroup {
    /// `None` is the requests.
    pub(super) key: Option<RateKey>,
    pub(super) waited: Waits<3>,
    /// Settled tokens, and what they cost, as told.
    pub(super) used: [u64; 3],
    pub(super) priced: Credit,
}

impl Account {
    pub(super) fn new(name: &str, now: Now) -> Self {
        Self {
            name: SmolStr::new(name),
            terms: None,
            view: Seen::NOTHING,
            lease: Lease::new(now),
            available: Credit::ZERO,
            low_water: Rough::default(),
            ops: LowBits::default(),
            spend: Spend::default(),
            spend_used: Rough::default(),
            cost_recent: Rough::default(),
            used_at: Second::after(now.time),
            due: u64::MAX,
            aside: None,
            rates: None,
            remembered_until: Second::default(),
            terms_version: 0,
            next_sync: Millis::ZERO,
            open: 0,
            declared: 0,
            touched: false,
            recalled: false,
        }
    }

    /// Reads a word of each part.
    pub(super) fn fetch(&self) -> u64 {
        let amounts = self.lease.held.nanos() ^ self.view.balance.nanos();
        self.due
            ^ self.lease.until.nanos()
            ^ self.lease.month_end.nanos()
            ^ amounts.unsigned_abs()
            ^ u64::from(self.open)
    }

    /// As [`Account::fetch`], of what is found through it.
    pub(super) fn fetch_rates(&self) -> u64 {
        self.rates.as_ref().map_or(0, |rates| rates.fetch())
    }

    pub(super) fn rare(&self) -> Rare {
        self.aside.as_ref().map(|aside| aside.rare).unwrap_or_default()
    }

    pub(super) fn change_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare();
        change(&mut rare);
        if self.rare() != rare {
            self.aside.get_or_insert_default().rare = rare;
            self.tidy();
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.flight.is_some())
    }

    pub(super) fn set_out(&mut self, flight: Flight) {
        self.aside.get_or_insert_default().flight = Some(flight);
    }

    /// Takes what is in flight, if this is so.
    pub(super) fn land_if(&mut self, is_answered: impl FnOnce(&Lease, &Flight) -> bool) -> Option<Flight> {
        let lease = &self.lease;
        let flight = self.aside.as_mut()?.flight.take_if(|flight| is_answered(lease, flight))?;
        self.tidy();
        Some(flight)
    }

    fn tidy(&mut self) {
        self.aside.take_if(|aside| aside.flight.is_none() && aside.priced.is_empty() && aside.rare == Rare::default());
    }

    /// What usage cost, of groups that have told so or will.
    pub(super) fn priced_mut(&mut self) -> &mut Vec<Priced> {
        &mut self.aside.get_or_insert_default().priced
    }

    pub(super) fn priced_iter_mut(&mut self) -> impl Iterator<Item = &mut Priced> {
        self.aside.iter_mut().flat_map(|aside| &mut aside.priced)
    }

    pub(super) fn terms_version(&self) -> u64 {
        u64::from(self.terms_version)
    }

    pub(super) fn set_terms_version(&mut self, version: u64) {
        self.terms_version = u32::try_from(version).unwrap_or(0);
    }

    /// The limit of requests that follows from the terms and the view; `None` where the account is not loaded.
    pub(super) fn requests_limit(&self, rules: &Rules) -> Option<Limit> {
        let terms = self.terms.as_deref()?;
        Some(rules.catalogue.requests_limit(terms, has_credits(terms, self.view.balance)))
    }

    /// A user with a cap: it has no rates, and its terms are its account's.
    pub(super) fn is_user(&self) -> bool {
        user_of(&self.name).is_some()
    }

    pub(super) fn requests_mut(&mut self) -> Option<&mut Rate<1>> {
        self.rates.as_mut()?.requests.as_mut()
    }

    pub(super) fn model_mut(&mut self, key: RateKey) -> Option<&mut ModelRate> {
        self.rates.as_mut()?.model_mut(key)
    }

    /// Enters another month where time did: nothing is spent in it yet.
    pub(super) fn roll_over(&mut self, now: Time) {
        if self.lease.roll_over(now) {
            self.view.month_used = Credit::ZERO;
        }
    }

    /// Credit or a chunk is nearly used up, and more should be asked for before somebody waits for it.
    pub(super) fn runs_low(&self, now: Time) -> bool {
        self.lease.free(now) < self.low_water.credit() || self.rates.as_ref().is_some_and(|rates| rates.run_low(now))
    }

    pub(super) fn note_use(&mut self, now: Time) {
        self.used_at = Second::after(now);
    }

    /// The name as messages and logs share it.
    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::from(self.name.as_str())
    }

    /// Notes what a waiting ask needs, so that the next message asks for it.
    pub(super) fn await_pool(&mut self, demand: &Demand, short: Short, now: Time) {
        self.note_use(now);
        if short.need.is_positive() {
            let lendable = super::lease::sum(self.available, self.lease.unheld());
            let least = if demand.capped { lendable.max(demand.cost_min()).min(short.need) } else { short.need };
            self.change_rare(|rare| rare.waiting.join(Waiting { least, sum: short.need }));
            self.cost_recent = short.need.into();
        }
        if short.requests > 0 {
            self.rates.get_or_insert_default().requests_or_new(now).await_tokens([short.requests], now);
        }
        if let Some(key) = demand.rate_key.filter(|_| short.tokens != [0; 3]) {
            self.rates.get_or_insert_default().model_or_new(key, now).rate.await_tokens(short.tokens, now);
        }
    }

    /// The pool could not lend `cost`.
    pub(super) fn refuse(&mut self, cost: Credit, now: Time) {
        self.change_rare(|rare| rare.refusal = Refused { cost, until: now.after(REFUSAL_KEEP) });
    }

    /// The pool was not asked for as long as an account in use may go without.
    pub(super) fn is_stale(&self, rules: &Rules, now: Time) -> bool {
        !self.touched && !self.is_in_flight() && now.since(self.lease.asked) >= super::due::period(self, rules)
    }

    /// What denies for good here may have changed in the store: it is heard at once, so that nobody who comes back is
    /// denied for what is no longer so.
    pub(super) fn ask_anew(&mut self) {
        self.touched = true;
        self.ask_limits_anew();
    }

    /// The terms may have changed: what the pool's limits are now is heard at once.
    pub(super) fn ask_limits_anew(&mut self) {
        self.rates.iter_mut().for_each(|rates| rates.ask_anew());
    }

    /// Measures how fast it spends. Holds take rights as they open, long before their usage is booked.
    pub(super) fn sample_spend(&mut self, now: Time) {
        let taken = sum(self.lease.used, self.lease.held);
        let spent = taken.minus(self.spend_used.credit()).at_least_zero();
        if self.spend.sample(spent, now) {
            self.spend_used = taken.into();
        }
    }

    /// Holds that ended name it by its place until then.
    pub(super) fn remember_until(&mut self, until: Time) {
        self.remembered_until = self.remembered_until.max(Second::after(until));
    }

    /// Nothing is lost if this account is forgotten.
    pub(super) fn is_settled(&self, now: Time) -> bool {
        self.open == 0 && self.remembered_until.is_past(now) && self.lease.unreported() == Credit::ZERO
    }

    /// Panics where a counter is impossible: better no answer than a wrong one about money.
    pub(super) fn assert_invariants(&self) {
        assert!(self.lease.held >= Credit::ZERO, "holds never sum up to less than nothing");
        assert!(self.lease.used_before <= self.lease.used, "a month's usage is part of all usage");
        self.rates.iter().for_each(|rates| rates.assert_invariants());
    }
}

/// Whether an account has money to go on, for the limit of its requests.
pub(super) fn has_credits(terms: &Terms, balance: Credit) -> bool {
    balance.plus(terms.credit_line).is_positive()
}

impl Seen {
    /// Before the pool was heard.
    const NOTHING: Self = Self {
        balance: Credit::ZERO,
        month_used: Credit::ZERO,
        topup_pending: None,
        tier: Tier::None,
        promotional_gone: false,
        purchased: false,
    };

    pub(super) fn of(view: &View, tier: Tier) -> Self {
        Self {
            balance: view.balance,
            month_used: view.month_used,
            topup_pending: view.topup_pending.map(Millis::of),
            tier,
            promotional_gone: view.promotional_gone,
            purchased: view.purchased,
        }
    }
}

impl Refused {
    pub(super) fn covers(self, cost: Credit, now: Time) -> bool {
        now < self.until && self.cost <= cost
    }
}

impl Waiting {
    /// As if the asks of `other` waited too.
    pub(super) fn join(&mut self, other: Self) {
        self.least = match (self.least.is_positive(), other.least.is_positive()) {
            (true, true) => self.least.min(other.least),
            (true, false) => self.least,
            (false, _) => other.least,
        };
        self.sum = super::lease::sum(self.sum, other.sum);
    }

    /// What to ask for: everything that waits, if the pool may have so much, else what the smallest ask waits for.
    pub(super) fn need(self, available: Credit) -> Credit {
        if self.sum <= available { self.sum } else { self.least }
    }
}

impl Spend {
    /// Takes a sample of what was spent since the last one; false where that is too short ago to divide by.
    fn sample(&mut self, spent: Credit, now: Time) -> bool {
        let passed = i64::try_from(now.since(self.at.time()).as_millis()).unwrap_or(i64::MAX);
        if passed < 100 {
            return false;
        }
        let rate = i128::from(spent.nanos()).saturating_mul(1_000).checked_div(i128::from(passed)).unwrap_or(0);
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        self.nanos_per_second = Rough::of((rate / 2).saturating_add(self.nanos_per_second.amount() / 2));
        self.at = HalvedTime::of(now);
        true
    }

    /// What is spent in `period` at this rate.
    pub(super) fn over(self, period: Duration) -> Credit {
        let millis = i128::try_from(period.as_millis()).unwrap_or(i128::MAX);
        let nanos = i128::from(self.nanos_per_second.amount()).saturating_mul(millis) / 1_000;
        Credit::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)).min(Credit::MAX)
    }
}
