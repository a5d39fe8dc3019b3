//! A few real sidecars over the real pool, with a clock that is told: nothing is lost, and weeks pass in a second.

use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::{Now, Time, UnixMs};
use tollgate::decision::terms::{Mode, Terms, Tier};
use tollgate::decision::{Ask, Catalogue, Credit, Denial, Prompt, RequestId, ServiceTier, Usage};
use tollgate::ledger::{Answer, Checked, Ledger, Verdict};
use tollgate::pool::{SessionId, Summary};

use crate::mutants::Saboteur;
use crate::node::settings;
use crate::store::Store;

pub const ACCOUNT: &str = "acme";
pub const MODEL: &str = "kimi-k3";
pub const SECOND: Duration = Duration::from_secs(1);
pub const DAY: Duration = Duration::from_secs(86_400);
/// A request told to wait asks again so often, and then something is wrong.
const ASKS_MAX: u32 = 5;

pub struct Town {
    pub store: Store,
    ledgers: Vec<Ledger>,
    start: Now,
    at: Duration,
    asked: u128,
    rounds: u64,
    /// Every third round comes to nothing after the store took it.
    pub loses_replies: bool,
}

impl Town {
    /// So many sidecars, and one account without credits.
    pub fn new(sidecars: u128, catalogue: Catalogue, terms: Terms, start: UnixMs) -> Self {
        let catalogue = Arc::new(catalogue);
        let session = |run| SessionId { node: format!("node-{run}").into(), run };
        let ledger = |run| Ledger::new(settings(), Arc::clone(&catalogue), session(run));
        let mut store = Store::new(start, Saboteur::new(None));
        store.create(ACCOUNT.into(), terms, Duration::ZERO);
        let start = Now { time: Time::from_nanos(1 << 40), unix: start };
        let ledgers = (1..=sidecars).map(ledger).collect();
        Self { store, ledgers, start, at: Duration::ZERO, asked: 0, rounds: 0, loses_replies: false }
    }

    pub fn now(&self) -> Now {
        self.start.after(self.at)
    }

    pub fn at(&self) -> Duration {
        self.at
    }

    /// Time passes; who has something to say then says it.
    pub fn pass(&mut self, time: Duration) {
        self.at += time;
        for sidecar in 0..self.ledgers.len() {
            self.round(sidecar);
        }
    }

    /// Time passes up to a second of the minute that runs, or of the next one.
    pub fn pass_to_second(&mut self, second: u64) {
        let of_minute = self.now().unix.0 % 60_000;
        let wanted = second * 1_000;
        let wait = if of_minute < wanted { wanted - of_minute } else { wanted + 60_000 - of_minute };
        self.pass(Duration::from_millis(wait));
    }

    pub fn change(&mut self, terms: Terms) {
        self.store.configure(ACCOUNT, terms, self.at);
        self.touch();
    }

    pub fn credit(&mut self, purchased: Credit) {
        self.store.credit(ACCOUNT, purchased.nanos(), self.at);
        self.touch();
    }

    /// The account as operators see it.
    pub fn summary(&self) -> Summary {
        self.store.pool(ACCOUNT).summary(self.store.now(self.at))
    }

    /// As after a push: every sidecar that knows the account hears of it, in its next two rounds.
    fn touch(&mut self) {
        for ledger in &self.ledgers {
            ledger.touch(ACCOUNT, self.start.after(self.at));
        }
        self.pass(SECOND);
        self.pass(SECOND);
    }

    /// One round of one sidecar, and the steps that it finds due.
    fn round(&mut self, sidecar: usize) {
        let (ledger, now) = (&self.ledgers[sidecar], self.start.after(self.at));
        let messages = ledger.collect(now, 100);
        let replies: Vec<_> = messages.iter().map(|message| self.store.exchange(message, self.at)).collect();
        self.store.pool(ACCOUNT).audit().expect("the pool's sums are right");
        self.rounds += 1;
        if self.loses_replies && self.rounds.is_multiple_of(3) {
            let names: Vec<_> = messages.iter().map(|message| Arc::clone(&message.account)).collect();
            return ledger.failed(&names, now);
        }
        for step in ledger.proposals(&replies, now) {
            self.store.propose(&step, self.at);
        }
        ledger.apply(replies, now, now);
    }

    /// Asks as the gate does: where the ledger cannot say, after a round.
    pub fn ask(&mut self, sidecar: usize, id: u128, model: &str, usage: Usage) -> Answer {
        for _ in 0..ASKS_MAX {
            let ask = Ask {
                account: ACCOUNT,
                user: None,
                model,
                service_tier: ServiceTier::Standard,
                prompt: Prompt::Tokens(usage.prompt),
                cached_tokens_hint: Some(usage.cached),
                max_tokens: Some(usage.generated.max(1)),
                n: 1,
                request_id: RequestId { digest: id, attempt: 0 },
                deadline: None,
                capped: false,
            };
            match self.ledgers[sidecar].check(&ask, self.now()) {
                Checked::Answered(answer) => return answer,
                Checked::Unknown | Checked::Short(_) => self.round(sidecar),
            }
        }
        panic!("sidecar {sidecar} cannot say");
    }

    pub fn settle(&mut self, sidecar: usize, id: u128, usage: Usage) {
        let id = RequestId { digest: id, attempt: 0 };
        self.ledgers[sidecar].settle(ACCOUNT, id, usage, None, self.now()).expect("an open hold");
    }

    /// Asks and settles at once; the limits that the answer told, or why it was denied.
    pub fn run(&mut self, sidecar: usize, model: &str, usage: Usage) -> Result<[u64; 3], Denial> {
        self.asked += 1;
        let id = self.asked;
        let answer = self.ask(sidecar, id, model, usage);
        match answer.verdict {
            Verdict::Denied(denial) => Err(denial),
            Verdict::Admitted(_) => {
                self.settle(sidecar, id, usage);
                let limits = answer.limits.and_then(|limits| limits.tokens).expect("of a model");
                Ok(limits.map(|remaining| remaining.limit.per_minute))
            }
        }
    }
}

/// Terms under which neither money nor a ceiling is in the way.
pub fn unlimited() -> Terms {
    Terms {
        mode: Mode::Contract,
        payment_method: true,
        billing_profile: true,
        tier_override: Some(Tier::Unlimited),
        credit_line: Credit::from_nanos(1_000_000_000_000_000),
        ..Terms::default()
    }
}

/// 1 October 2026, 00:00 UTC.
pub const OCTOBER: UnixMs = UnixMs(1_790_812_800_000);
