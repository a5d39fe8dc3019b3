//! The simpler model beside the system: what was truly spent, what was promised, and whether the books agree.
//!
//! It reckons in plain `i64` nano-USD and knows what no sidecar and no store can know: what requests used after their
//! sidecar died, and what a store forgot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tollgate::decision::terms::{Mode, ReclaimMode, Terms};
use tollgate::decision::{Credit, Month};
use tollgate::pool::{SessionId, SyncReply, SyncRequest};

use crate::books::{Books, RecordKey};
use crate::catalogue::TIGHT_REQUESTS;
use crate::client::Request;
use crate::world::Life;

/// What is violated, in a sentence.
pub type Check = Result<(), String>;

/// What a session said last in one generation.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    seq: u64,
    used: i64,
    returned: i64,
}

/// One account as it truly is.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Nothing may be overspent at all.
    pub exact: bool,
    pub books: Books,
    credits: i64,
    line: i64,
    /// The greatest `credits in + credit line` there ever was.
    k_max: i64,
    /// The greatest monthly limit there ever was, and whether there always was one that pauses.
    limit_max: i64,
    limited: bool,
    reaped: i64,
    rolled: i64,
    said: BTreeMap<RecordKey, Said>,
    /// Sessions that the store took rights back from, and that have not heard of it.
    unheard: BTreeMap<usize, Duration>,
    /// When the store turned to each month.
    months: Vec<(Duration, Month)>,
    /// Sessions that closed a record, and those among them whose last words a store may have forgotten.
    closed: BTreeSet<usize>,
    forgotten: BTreeSet<usize>,
    /// The store once forgot: what idle sessions used and gave back is said again when they next speak.
    pub rolled_back: bool,
    /// The store once forgot, or saw time jump ahead: it may take rights back from sessions that still spend them.
    misled: bool,
}

impl Truth {
    pub fn new(terms: &Terms, exact: bool, store_ms: u64) -> Self {
        let mut truth = Self { exact, limited: true, books: Books::new(store_ms), ..Self::default() };
        truth.agree(terms);
        truth
    }

    pub fn agree(&mut self, terms: &Terms) {
        self.line = terms.credit_line.nanos();
        self.limited &= terms.monthly_limit.is_some() && terms.mode != Mode::Contract;
        self.limit_max = self.limit_max.max(terms.monthly_limit.map_or(0, Credit::nanos));
        self.k_max = self.k_max.max(self.credits + self.line);
    }

    pub fn add_credits(&mut self, nanos: i64) {
        self.credits += nanos;
        self.k_max = self.k_max.max(self.credits + self.line);
    }

    pub fn credits(&self) -> i64 {
        self.credits
    }

    /// A session says something: its own counters must agree with each other, and with what it promised.
    pub fn hear(&mut self, life: usize, sync: &SyncRequest, account: usize, requests: &[Request]) -> Check {
        let last = self.said.entry((life, sync.generation)).or_default();
        let (used, returned) = (sync.used.nanos(), sync.returned.nanos());
        ensure(last.seq < sync.seq, || format!("seq {} follows {}", sync.seq, last.seq))?;
        ensure(last.used <= used, || format!("used shrinks from {} to {used}", last.used))?;
        ensure(last.returned <= returned, || format!("returned shrinks from {} to {returned}", last.returned))?;
        ensure(sync.used_before <= sync.used, || "usage of earlier months exceeds all usage".to_owned())?;
        ensure(sync.need <= sync.want, || format!("needs {} and wants only {}", sync.need, sync.want))?;
        *last = Said { seq: sync.seq, used, returned };
        if sync.bye {
            self.closed.insert(life);
        }
        let held: i64 = of_life(account, life, requests).map(held).sum();
        let rights = sync.granted_known.nanos() - sync.reclaimed_known.nanos();
        let others: i64 = for_others(account, life, requests).sum();
        ensure(!self.exact || used + held + returned <= rights + others, || {
            format!("used {used}, holds {held} and gave back {returned} of {rights}")
        })
    }

    /// The store answered: what it accepted goes into the books, and what it lent must have been there.
    pub fn accept(&mut self, life: usize, session: &SessionId, sync: &SyncRequest, reply: &SyncReply) -> Check {
        let lent = self.books.accept(life, session, sync, reply)?;
        let committed = self.books.used() + self.books.leased();
        ensure(lent == 0 || committed <= self.k_max, || {
            format!("lent {lent}, and {committed} of {} are out", self.k_max)
        })
    }

    /// The session took a reply of `answered`, so it knows what was taken back before that.
    pub fn heard(&mut self, life: usize, answered: Duration) {
        self.unheard.retain(|session, at| *session != life || answered < *at);
    }

    pub fn mislead(&mut self) {
        self.misled = true;
    }

    /// The store took `amount` back from sessions that fell silent.
    pub fn reap(
        &mut self,
        amount: i64,
        mode: ReclaimMode,
        asker: RecordKey,
        at: Duration,
        account: usize,
        requests: &[Request],
    ) -> Check {
        for (life, gain) in self.books.reap(amount, mode, asker)? {
            let promised: i64 = of_life(account, life, requests).map(Request::promised).sum();
            let unreported = (promised - self.books.used_by(life)).max(0);
            self.reaped += if self.misled { gain } else { gain.min(unreported) };
            self.unheard.insert(life, at);
        }
        Ok(())
    }

    /// The store went back to `found`: what it granted since then, it may grant again.
    pub fn roll_back(&mut self, found: Books) {
        self.rolled += self.books.forgotten(&found);
        self.books = found;
        (self.misled, self.rolled_back) = (true, true);
        self.forgotten.extend(&self.closed);
    }

    /// A request was admitted on rights that the store took back already.
    pub fn check_admission(&self, life: usize) -> Check {
        let reclaimed = self.unheard.contains_key(&life) && !self.misled;
        ensure(!reclaimed, || format!("session {life} admitted on rights that the store took back"))
    }

    /// Requests admitted in any window that ends now: `capacity + limit x (window + chunk life)`, whoever admitted them.
    pub fn check_requests_rate(&self, account: usize, at: Duration, requests: &[Request]) -> Check {
        const CHUNK_LIFE: Duration = Duration::from_secs(1);
        let admitted: Vec<(Duration, u64)> =
            runs(account, requests).map(|request| (request.run().admitted_at, request.completions())).collect();
        for (from, _) in &admitted {
            let within: u64 = admitted.iter().filter(|(at, _)| from <= at).map(|(_, completions)| completions).sum();
            let window = u64::try_from((at - *from + CHUNK_LIFE).as_millis()).expect("some days");
            let bound = TIGHT_REQUESTS + (TIGHT_REQUESTS * window).div_ceil(60_000);
            ensure(self.misled || within <= bound, || format!("{within} requests of {bound} in {window} ms"))?;
        }
        Ok(())
    }

    pub fn turn_month(&mut self, at: Duration, month: Month) {
        if self.months.last().is_none_or(|(_, last)| *last < month) {
            self.months.push((at, month));
        }
    }

    /// The contract, which must hold after every step: what was spent, or may be yet on open holds, stays in bounds.
    pub fn check(&self, account: usize, requests: &[Request]) -> Check {
        let under = under(account, requests);
        let above = under + self.reaped + self.rolled;
        ensure(!self.exact || above == 0, || "a history that must be exact is not".to_owned())?;
        let promised: i64 = runs(account, requests).map(Request::promised).sum();
        ensure(promised <= self.k_max + above, || {
            format!("spent and promised {promised} of {}", self.bound_in_words(under))
        })?;
        self.check_months(account, requests, above)
    }

    /// What the store booked and lent stays in the same bounds, but for what was booked in place of dead sessions,
    /// whose own rights stay lent for a while.
    pub fn check_lent(&self, account: usize, requests: &[Request]) -> Check {
        let under = under(account, requests);
        let twice: i64 = runs(account, requests).map(booked_for_another).sum();
        let lent = self.books.used() + self.books.leased();
        ensure(lent <= self.k_max + under + self.reaped + self.rolled + twice, || {
            format!("booked and lent {lent} of {}", self.bound_in_words(under))
        })
    }

    fn bound_in_words(&self, under: i64) -> String {
        format!("K {} + under {under} + reaped {} + rolled {}", self.k_max, self.reaped, self.rolled)
    }

    /// What was admitted for certain in one month stays within the monthly limit, by the same bound.
    fn check_months(&self, account: usize, requests: &[Request], above: i64) -> Check {
        if !self.limited || self.misled {
            return Ok(());
        }
        let bound = self.limit_max + above;
        for (index, (_, month)) in self.months.iter().enumerate() {
            let within = runs(account, requests).filter(|request| self.admitted_in(index, request));
            let promised: i64 = within.map(Request::promised).sum();
            ensure(promised <= bound, || format!("spent and promised {promised} of {bound} in {month}"))?;
        }
        Ok(())
    }

    /// Whether a request was admitted in a month and well away from its ends, where clocks may differ.
    fn admitted_in(&self, index: usize, request: &Request) -> bool {
        const MARGIN: Duration = Duration::from_secs(120);
        let at = request.run().admitted_at;
        let from = self.months[index].0;
        let until = self.months.get(index + 1).map_or(Duration::MAX, |(turn, _)| *turn);
        (index == 0 || from + MARGIN <= at) && at < until.saturating_sub(MARGIN)
    }

    /// What dead sessions and running requests keep from everybody else.
    pub fn kept(&self, account: usize, lives: &[Life], requests: &[Request]) -> i64 {
        let dead = |life: &usize| !lives.get(*life).is_some_and(|session| session.alive);
        let leased: i64 = self.books.lives().filter(dead).map(|life| self.books.leased_by(life)).sum();
        leased + of_living(account, lives, requests).map(held).sum::<i64>()
    }

    /// In the end, a session that said bye has no rights, but where a store forgot that it did.
    pub fn check_left_behind(&self, life: usize) -> Check {
        let left = self.books.leased_by(life);
        ensure(left == 0 || self.forgotten.contains(&life), || format!("session {life} left {left} behind"))
    }

    /// In the end, the store has booked what a living session booked: all of it, once.
    pub fn check_reported(&self, life: usize, account: usize, requests: &[Request]) -> Check {
        let own = of_life(account, life, requests).map(Request::booked);
        let booked = own.chain(for_others(account, life, requests)).sum::<i64>();
        let reported = self.books.used_by(life);
        let complete = if self.forgotten.contains(&life) { reported <= booked } else { reported == booked };
        ensure(complete, || format!("session {life} booked {booked}, and {reported} arrived"))
    }
}

pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// What was used above holds.
fn under(account: usize, requests: &[Request]) -> i64 {
    runs(account, requests).map(|request| request.run().under).sum()
}

/// The admitted requests of an account, or of a user.
fn runs(account: usize, requests: &[Request]) -> impl Iterator<Item = &Request> {
    let is_of = move |request: &Request| {
        request.account == account || request.user.as_ref().is_some_and(|(user, _)| *user == account)
    };
    requests.iter().filter(move |request| is_of(request) && request.run.is_some())
}

fn of_life(account: usize, life: usize, requests: &[Request]) -> impl Iterator<Item = &Request> {
    runs(account, requests).filter(move |request| request.run().life == life)
}

/// What a session booked in place of others, which are gone: of them only the account is told.
fn for_others(account: usize, life: usize, requests: &[Request]) -> impl Iterator<Item = i64> {
    let runs = runs(account, requests).filter(move |request| request.account == account);
    let booked = runs.filter(move |request| request.run().booked_by == Some(life));
    booked.map(|request| request.run().spent)
}

fn of_living<'a>(account: usize, lives: &'a [Life], requests: &'a [Request]) -> impl Iterator<Item = &'a Request> {
    runs(account, requests).filter(|request| lives[request.run().life].alive)
}

/// What its hold occupies at a living session.
fn held(request: &Request) -> i64 {
    let run = request.run();
    if run.ended.is_none() && !run.lapsed { request.hold(run.out_max) } else { 0 }
}

fn booked_for_another(request: &Request) -> i64 {
    let run = request.run();
    if run.booked_by.is_some() { run.spent } else { 0 }
}
