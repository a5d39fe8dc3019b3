//! One request, start to end: ask the ledger; ask the pool once if it must; then the failure policy; count.
//!
//! This is the page to read first.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use rust_decimal::prelude::ToPrimitive;
use tokio::time::Instant;

use crate::clock::{Clock, Now, Time};
use crate::decision::{Ask, Catalogue, Credit, Denial, Reason, RequestId, Short, Usage};
use crate::ledger::{
    Allowance, Answer, Checked, Ended, Explained, Extended, Here, HoldError, Ledger, Verdict, WithoutHold,
};
use crate::pool::SessionId;
use crate::reconcile::keys::Keys;
use crate::reconcile::store::KeyDigest;
use crate::reconcile::{Asked, Rounds};
use crate::telemetry;
use denials::Denials;

mod denials;
#[cfg(test)]
mod tests;

pub use denials::Noted;

pub use crate::reconcile::keys::KeyOwner;

/// How the gate waits.
#[derive(Clone, Copy, Debug)]
pub struct GateSettings {
    /// The longest a check waits for the pool.
    pub pool_wait: Duration,
    /// Emergency credit while the pool cannot be asked, for accounts whose failure policy is not closed.
    pub allowance: Allowance,
}

impl Default for GateSettings {
    fn default() -> Self {
        // A dollar lets an account finish what it is doing; a hundred accounts in one outage is a busy sidecar.
        let allowance = Allowance { account: usd(1), sidecar: usd(100) };
        Self { pool_wait: Duration::from_millis(50), allowance }
    }
}

/// Rounds that one request waits for while others take what it asked for; the deadline mostly comes first.
const ROUNDS_MAX: usize = 32;

/// When to come back where nobody could vouch, or where others were faster.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Gate {
    ledger: Arc<Ledger>,
    rounds: Arc<Rounds>,
    keys: Arc<Keys>,
    catalogue: Arc<Catalogue>,
    session: SessionId,
    clock: Clock,
    settings: GateSettings,
    series: Series,
    denials: Denials,
}

/// What the gate ties together.
pub struct GateParts {
    pub ledger: Arc<Ledger>,
    pub rounds: Arc<Rounds>,
    pub keys: Arc<Keys>,
    pub catalogue: Arc<Catalogue>,
    pub session: SessionId,
    pub clock: Clock,
}

/// What the ledger lacks to answer by itself.
#[derive(Clone, Copy, Debug)]
pub enum Lack {
    Account,
    Lease(Short),
}

/// Why the pool was of no help.
enum Unhelped {
    /// It could not be asked, or not in time.
    Away,
    /// It lent what there was, and others took it each time.
    Outrun(Short),
}

impl Gate {
    /// Install the metrics recorder first: the series are looked up here, once.
    pub fn new(parts: GateParts, settings: GateSettings) -> Self {
        let GateParts { ledger, rounds, keys, catalogue, session, clock } = parts;
        let (series, denials) = (Series::register(), Denials::default());
        Self { ledger, rounds, keys, catalogue, session, clock, settings, series, denials }
    }

    /// May this request run?
    pub async fn check(&self, ask: &Ask<'_>) -> Answer {
        let began = self.clock.now();
        match self.check_now(ask, began) {
            Ok(answer) => answer,
            Err(lack) => self.check_later(ask, lack, began.time).await,
        }
    }

    /// Fetches what checks of these accounts and requests, which come next, will read.
    pub fn look_ahead<'a>(&self, asks: impl Iterator<Item = (&'a str, RequestId)>) {
        self.ledger.look_ahead(asks);
    }

    /// May this request run? From memory alone; what is lacking was noted, and [`Gate::check_later`] gets it.
    pub fn check_now(&self, ask: &Ask<'_>, began: Now) -> Result<Answer, Lack> {
        let answer = answered(self.ledger.check(ask, began))?;
        self.decided(ask, &answer, began.time);
        Ok(answer)
    }

    /// May this request run? After the pool was asked for what [`Gate::check_now`], begun at `began`, found lacking.
    pub async fn check_later(&self, ask: &Ask<'_>, lack: Lack, began: Time) -> Answer {
        let answer = match self.ask_pool(ask.account, lack, |now| answered(self.ledger.check(ask, now))).await {
            Ok(answer) => answer,
            Err(Unhelped::Outrun(short)) => denied(outrun(short)),
            Err(Unhelped::Away) => self.without_pool(ask),
        };
        self.decided(ask, &answer, began);
        answer
    }

    /// Why it would be admitted or denied now. Changes nothing; an account that is not known here is loaded for it.
    pub async fn explain(&self, ask: &Ask<'_>) -> Explained {
        let explain = |now| self.ledger.explain(ask, now).ok_or(Lack::Account);
        match explain(self.clock.now()) {
            Ok(explained) => explained,
            Err(lack) => {
                let explained = self.ask_pool(ask.account, lack, explain).await;
                explained.unwrap_or_else(|why| Explained { answer: denied(why.denial()), why: None })
            }
        }
    }

    /// Takes totals since the request began and renews its hold's life; returns how long that is now.
    pub fn report(&self, account: &str, id: RequestId, usage: Usage) -> Result<Duration, HoldError> {
        self.ledger.report(account, id, usage, self.clock.now())
    }

    /// Holds `more` generated tokens on top, before they are produced.
    pub async fn extend(&self, account: &str, id: RequestId, more: u64) -> Result<Extended, HoldError> {
        let extend = |now| match self.ledger.extend(account, id, more, now) {
            Ok(Extended::Short(short)) => Err(Lack::Lease(short)),
            extended => Ok(extended),
        };
        match extend(self.clock.now()) {
            Ok(extended) => extended,
            Err(lack) => {
                let extended = self.ask_pool(account, lack, extend).await;
                extended.unwrap_or_else(|why| Ok(Extended::Refused(why.denial())))
            }
        }
    }

    /// Books what was used. With `fallback`, also where the hold, or even the account, is not known here.
    pub async fn settle(
        &self,
        account: &str,
        id: RequestId,
        usage: Usage,
        fallback: Option<WithoutHold<'_>>,
    ) -> Result<Ended, HoldError> {
        let settle = |now| match self.ledger.settle(account, id, usage, fallback, now) {
            Err(HoldError::UnknownAccount) if fallback.is_some() => Err(Lack::Account),
            ended => Ok(ended),
        };
        let ended = match settle(self.clock.now()) {
            Ok(ended) => ended,
            Err(lack) => self.ask_pool(account, lack, settle).await.unwrap_or(Err(HoldError::UnknownAccount)),
        };
        if let Ok(ended) = ended {
            self.series.settled(ended);
        }
        ended
    }

    /// Ends a hold without usage.
    pub fn release(&self, account: &str, id: RequestId) -> Result<Ended, HoldError> {
        self.ledger.release(account, id, self.clock.now())
    }

    /// Whose API key this is, from memory where it was seen lately.
    pub async fn owner_of(&self, digest: KeyDigest) -> KeyOwner {
        self.keys.owner_of(digest, Instant::now() + self.settings.pool_wait).await
    }

    /// Whose API key this is, where memory alone can tell.
    pub fn owner_now(&self, digest: &KeyDigest, now: Time) -> Option<KeyOwner> {
        self.keys.owner_now(digest, now)
    }

    /// The one clock of this sidecar.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// How an account stands in this sidecar, and what it was denied here, newest first.
    pub fn inspect(&self, account: &str) -> (Option<Here>, Vec<Noted>) {
        (self.ledger.inspect(account, self.clock.now()), self.denials.of(account))
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// How long ago the store last answered; `None` before it ever did.
    pub fn pool_age(&self) -> Option<Duration> {
        self.rounds.pool_age()
    }

    /// Asks the pool for what the ledger lacks and tries again, more than once only while others take it away.
    async fn ask_pool<T>(
        &self,
        account: &str,
        mut lack: Lack,
        again: impl Fn(Now) -> Result<T, Lack>,
    ) -> Result<T, Unhelped> {
        let deadline = Instant::now() + self.settings.pool_wait;
        let mut why = Unhelped::Away;
        for _ in 0..ROUNDS_MAX {
            if matches!(lack, Lack::Account) && !self.ledger.want(account, self.clock.now()) {
                return Err(Unhelped::Away);
            }
            let asked = self.rounds.ask(account, deadline).await;
            lack = match again(self.clock.now()) {
                Ok(answer) => return Ok(answer),
                Err(lack) => lack,
            };
            match (asked, lack) {
                (Asked::Answered, Lack::Lease(short)) => why = Unhelped::Outrun(short),
                (Asked::Answered, Lack::Account) => {}
                (Asked::Late, _) => break,
                (Asked::Failed, _) => return Err(Unhelped::Away),
            }
        }
        Err(why)
    }

    /// Counts an answer, and notes it if it is a denial.
    fn decided(&self, ask: &Ask<'_>, answer: &Answer, began: Time) {
        let now = self.clock.time();
        self.series.decided(answer, now.since(began));
        if let Verdict::Denied(denial) = &answer.verdict {
            self.denials.note(ask, denial, now);
        }
    }

    /// The account's failure policy: neither a lease nor the pool vouches for the ask.
    fn without_pool(&self, ask: &Ask<'_>) -> Answer {
        self.ledger.check_alone(ask, self.settings.allowance, self.clock.now())
    }
}

impl Unhelped {
    fn denial(&self) -> Denial {
        match self {
            Self::Away => Denial { retry_after: Some(RETRY_AFTER), ..Denial::of(Reason::Unavailable) },
            Self::Outrun(short) => outrun(*short),
        }
    }
}

fn answered(checked: Checked) -> Result<Answer, Lack> {
    match checked {
        Checked::Answered(answer) => Ok(answer),
        Checked::Unknown => Err(Lack::Account),
        Checked::Short(short) => Err(Lack::Lease(short)),
    }
}

/// What is short is in use by others, not gone: the reason that waiting mends.
fn outrun(short: Short) -> Denial {
    let [prompt, uncached, _] = short.tokens;
    let reason = match short {
        Short { need, user, .. } if need.max(user).is_positive() => Reason::InFlight,
        Short { requests, .. } if requests > 0 => Reason::RequestsPerMinute,
        _ if prompt > 0 => Reason::PromptTokensPerMinute,
        _ if uncached > 0 => Reason::UncachedPromptTokensPerMinute,
        _ => Reason::GeneratedTokensPerMinute,
    };
    Denial { retry_after: Some(RETRY_AFTER), ..Denial::of(reason) }
}

const fn usd(dollars: i64) -> Credit {
    Credit::from_nanos(dollars * 1_000_000_000)
}

fn denied(denial: Denial) -> Answer {
    Answer { verdict: Verdict::Denied(denial), limits: None, balance: None }
}

/// Counters looked up once, so that a decision finds its own by an index.
struct Series {
    admitted: Counter,
    /// In the order of [`Reason::ALL`].
    shadowed: [Counter; Reason::ALL.len()],
    /// In the order of [`Reason::ALL`].
    denied: [Counter; Reason::ALL.len()],
    decision_seconds: Histogram,
    settled_to_held: Histogram,
}

impl Series {
    fn register() -> Self {
        let by_reason = |outcome| {
            Reason::ALL.map(|reason| counter!(telemetry::DECISIONS, "outcome" => outcome, "reason" => reason.name()))
        };
        Self {
            admitted: counter!(telemetry::DECISIONS, "outcome" => "admitted", "reason" => "none"),
            shadowed: by_reason("shadowed"),
            denied: by_reason("denied"),
            decision_seconds: histogram!(telemetry::DECISION_SECONDS),
            settled_to_held: histogram!(telemetry::SETTLED_TO_HELD),
        }
    }

    /// How good the estimate was, where there was one.
    fn settled(&self, ended: Ended) {
        if ended.held.is_positive() && !ended.repeated {
            let float = |credit: Credit| credit.nanos().to_f64().unwrap_or(f64::NAN);
            self.settled_to_held.record(float(ended.cost) / float(ended.held));
        }
    }

    fn decided(&self, answer: &Answer, took: Duration) {
        let counter = match answer.verdict {
            Verdict::Denied(denial) => self.denied.get(denial.reason as usize),
            Verdict::Admitted(admitted) => match admitted.shadow {
                Some(reason) => self.shadowed.get(reason as usize),
                None => Some(&self.admitted),
            },
        };
        counter.expect("reasons are declared in the order of their list").increment(1);
        self.decision_seconds.record(took.as_secs_f64());
    }
}
