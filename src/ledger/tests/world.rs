//! One ledger, one pool, a clock that is told, and a language of one line for each event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::words::{answered, duration, ended, error_word, said, told, usage, usd};
use crate::clock::{Now, Time, UnixMs};
use crate::decision::catalogue::FIREWORKS_2026_10;
use crate::decision::terms::{FailurePolicy, Mode, Terms};
use crate::decision::users::UserGroup;
use crate::decision::{Ask, Catalogue, Credit, Month, Prompt, RequestId, ServiceTier};
use crate::ledger::lease::Lease;
use crate::ledger::{Allowance, Checked, Extended, Ledger, LedgerSettings, WithoutHold};
use crate::pool::message::Group;
use crate::pool::{Message, Pool, PoolRules, RatePool, RateRules, Refusal, Reply, SessionId, SyncRequest, user_of};

pub(super) const ACCOUNT: &str = "acme";
pub(super) const MODEL: &str = "qwen-3.8-max";

pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) pool: Option<Pool>,
    pub(super) rates: BTreeMap<Group, RatePool>,
    pub(super) users: BTreeMap<Arc<str>, Pool>,
    pub(super) rules: PoolRules,
    pub(super) now: Now,
    paid: Credit,
    pub(super) terms: Terms,
    pub(super) versions: u64,
    /// A round whose replies are on their way.
    late: Vec<(Now, Vec<Reply>)>,
    snapshot: Option<Pool>,
    /// What another sidecar spent for users, and what it said last.
    pub(super) spent_elsewhere: Credit,
    pub(super) elsewhere_seq: u64,
}

pub(super) fn settings() -> LedgerSettings {
    LedgerSettings {
        workers: 1,
        accounts_max: 1_000,
        holds_max: 1_000,
        ended_max: 1_000,
        ended_keep: Duration::from_mins(15),
        hold_life: Duration::from_mins(10),
        hold_life_max: Duration::from_hours(1),
        unknown_max: 64,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_secs(1),
        idle_bye: Duration::from_hours(1),
    }
}

pub(super) fn catalogue() -> Arc<Catalogue> {
    Arc::new(Catalogue::parse(FIREWORKS_2026_10).unwrap())
}

pub(super) fn session() -> SessionId {
    SessionId { node: "node".into(), run: 7 }
}

pub(super) fn id_of(name: &str) -> RequestId {
    let digest = name.bytes().fold(0_u128, |digest, byte| digest * 256 + u128::from(byte));
    RequestId { digest, attempt: 0 }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(settings())
    }

    pub(super) fn with(settings: LedgerSettings) -> Self {
        // Ten seconds before the end of October 2026.
        let unix = UnixMs(Month::from_yyyymm(202_610).end().0 - 10_000);
        let now = Now { time: Time::from_nanos(1_000_000_000_000), unix };
        let terms = Terms { payment_method: true, ..Terms::default() };
        Self {
            ledger: Ledger::new(settings, catalogue(), session()),
            pool: Some(Pool::new(ACCOUNT.into(), terms.clone(), &PoolRules::default(), now.unix)),
            rates: BTreeMap::new(),
            users: BTreeMap::new(),
            rules: PoolRules::default(),
            now,
            paid: Credit::ZERO,
            terms,
            versions: 1,
            late: Vec::new(),
            snapshot: None,
            spent_elsewhere: Credit::ZERO,
            elsewhere_seq: 1,
        }
    }

    /// Runs one event and tells what came of it.
    pub(super) fn event(&mut self, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        let (verb, rest) = words.split_first().unwrap();
        let told = match *verb {
            "pay" => self.pay(usd(rest[0])),
            "terms" => self.configure(rest),
            "wait" => self.wait(rest[0]),
            "ask" => self.ask(rest),
            "serve" => self.serve(rest),
            "alone" => self.alone(rest),
            "explain" => self.explain(rest),
            "round" => self.round(),
            "send" => self.send(),
            "deliver" => self.deliver(rest[0].parse().unwrap()),
            "lose" => self.lose(rest[0]),
            "report" => self.report(rest),
            "extend" => self.extend(rest),
            "settle" => self.settle(rest, false),
            "book" => self.settle(rest, true),
            "release" => ended(self.ledger.release(ACCOUNT, id_of(rest[0]), self.now)),
            "touch" => {
                self.ledger.touch(ACCOUNT, self.now);
                String::new()
            }
            "sweep" => {
                self.ledger.sweep(self.now);
                String::new()
            }
            "bye" => self.bye(),
            "snapshot" => {
                self.snapshot = self.pool.clone();
                String::new()
            }
            "rollback" => {
                self.pool = self.snapshot.clone();
                String::new()
            }
            "vanish" => {
                self.pool = None;
                String::new()
            }
            "clone" => self.clone_speaks(),
            "generation" => format!("{}", self.lease(|lease| lease.generation)),
            "sums" => self.sums(),
            "pool" => self.pool_sums(),
            "user" => self.user_sums(rest[0]),
            "elsewhere" => self.elsewhere(rest[0], usd(rest[1])),
            "counts" => self.counts(),
            "rate" => self.rate(),
            _ => panic!("no such event: {line}"),
        };
        self.audit();
        told
    }

    pub(super) fn pay(&mut self, amount: Credit) -> String {
        self.paid = self.paid.plus(amount);
        self.versions += 1;
        let pool = self.pool.as_mut().unwrap();
        pool.credit(self.versions, Credit::ZERO, self.paid, &self.rules, self.now.unix).unwrap();
        String::new()
    }

    fn configure(&mut self, words: &[&str]) -> String {
        for word in words {
            let (name, value) = word.split_once('=').unwrap();
            match name {
                "mode" if value == "postpaid" => self.terms.mode = Mode::Postpaid,
                "payment" => self.terms.payment_method = value == "yes",
                "limit" => self.terms.monthly_limit = Some(usd(value)),
                "line" => self.terms.credit_line = usd(value),
                "custom" if value == "none" => self.terms.custom_limits.clear(),
                "custom" => drop(self.terms.custom_limits.insert(MODEL.into(), [value.parse().unwrap(); 3])),
                "cap" => self.change_caps(|caps| caps.default = (value != "none").then(|| usd(value))),
                "group" => self.change_caps(|caps| {
                    let (cap, members) = value.split_once(':').unwrap();
                    let members = members.split(',').map(Box::from).collect();
                    caps.groups.insert("group".into(), UserGroup { cap: usd(cap), members });
                }),
                "alice" => self.change_caps(|caps| caps.overrides.extend([("alice".into(), usd(value))])),
                "shadow" => self.terms.shadow = value == "yes",
                "policy" if value == "allowance" => self.terms.failure_policy = FailurePolicy::Allowance,
                "policy" if value == "open" => self.terms.failure_policy = FailurePolicy::Open,
                _ => panic!("no such term: {word}"),
            }
        }
        self.versions += 1;
        let terms = self.terms.clone();
        self.pool.as_mut().unwrap().configure(self.versions, terms, &self.rules, self.now.unix);
        String::new()
    }

    pub(super) fn wait(&mut self, word: &str) -> String {
        self.now = self.now.after(duration(word));
        String::new()
    }

    /// `id prompt+max [n=2] [capped] [batch] [fast] [life=5s]`
    fn question<'a>(&self, words: &[&'a str]) -> Ask<'a> {
        let (prompt, max) = words[1].split_once('+').unwrap();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
        Ask {
            account: option("account=").unwrap_or(ACCOUNT),
            user: option("user="),
            model: option("model=").unwrap_or(MODEL),
            service_tier: if words.contains(&"batch") { ServiceTier::Batch } else { ServiceTier::Standard },
            prompt: Prompt::Tokens(prompt.parse().unwrap()),
            cached_tokens_hint: None,
            max_tokens: Some(max.parse().unwrap()),
            n: option("n=").map_or(1, |n| n.parse().unwrap()),
            request_id: id_of(words[0]),
            deadline: option("life=").map(duration),
            capped: words.contains(&"capped"),
        }
    }

    fn ask(&self, words: &[&str]) -> String {
        told(&self.ledger.check(&self.question(words), self.now))
    }

    fn explain(&self, words: &[&str]) -> String {
        let explained = self.ledger.explain(&self.question(words), self.now);
        explained.map_or_else(|| "unknown".into(), |explained| answered(&explained.answer))
    }

    /// As the gate does: where the ledger cannot say, ask the pool and check again.
    pub(super) fn serve(&mut self, words: &[&str]) -> String {
        for _ in 0..3 {
            let checked = self.ledger.check(&self.question(words), self.now);
            if let Checked::Answered(answer) = checked {
                return answered(&answer);
            }
            self.round();
        }
        "undecided".into()
    }

    fn alone(&self, words: &[&str]) -> String {
        let allowance = Allowance { account: usd("0.02"), sidecar: usd("0.03") };
        answered(&self.ledger.check_alone(&self.question(words), allowance, self.now))
    }

    /// Collects, exchanges and applies; tells what was said.
    pub(super) fn round(&mut self) -> String {
        let messages = self.ledger.collect(self.now, 100);
        let said = said(&messages);
        let replies = self.exchange(&messages);
        self.propose(&replies);
        self.ledger.apply(replies, self.now, self.now);
        said
    }

    /// Sends a round whose replies are delivered later, by number, as often as told.
    fn send(&mut self) -> String {
        let messages = self.ledger.collect(self.now, 100);
        let said = said(&messages);
        let replies = self.exchange(&messages);
        self.late.push((self.now, replies));
        said
    }

    fn deliver(&mut self, number: usize) -> String {
        let (sent, replies) = self.late[number].clone();
        self.ledger.apply(replies, sent, self.now);
        String::new()
    }

    /// A round that fails: the request never arrives, or its reply does not.
    pub(super) fn lose(&mut self, what: &str) -> String {
        let messages = self.ledger.collect(self.now, 100);
        let said = said(&messages);
        if what == "reply" {
            self.exchange(&messages);
        }
        let names: Vec<_> = messages.iter().map(|message| Arc::clone(&message.account)).collect();
        self.ledger.failed(&names, self.now);
        said
    }

    fn bye(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            let messages = self.ledger.collect_bye(self.now, 100);
            if messages.is_empty() {
                return said(&all);
            }
            let replies = self.exchange(&messages);
            self.ledger.apply(replies, self.now, self.now);
            all.extend(messages);
        }
    }

    fn exchange(&mut self, messages: &[Message]) -> Vec<Reply> {
        messages.iter().map(|message| self.answer(message)).collect()
    }

    fn answer(&mut self, message: &Message) -> Reply {
        let account = Arc::clone(&message.account);
        if user_of(&account).is_some() && self.pool.is_some() {
            let fresh = || Pool::of_user(Arc::clone(&account), &self.rules, self.now.unix);
            let pool = self.users.entry(Arc::clone(&account)).or_insert_with(fresh);
            let sync = message.sync.map(|sync| pool.sync(&message.session, &sync, &self.rules, self.now.unix));
            return Reply { account, sync, rates: Vec::new() };
        }
        let Some(pool) = self.pool.as_mut().filter(|_| *account == *ACCOUNT) else {
            let rates = message.rates.iter().map(|_| Err(Refusal::NoSuchAccount)).collect();
            return Reply { account, sync: message.sync.map(|_| Err(Refusal::NoSuchAccount)), rates };
        };
        let sync = message.sync.map(|sync| pool.sync(&message.session, &sync, &self.rules, self.now.unix));
        let mut rates = Vec::new();
        for request in &message.rates {
            let seeded = || RatePool::seeded(request, self.now.unix).unwrap();
            let bucket = self.rates.entry(request.group.clone()).or_insert_with(seeded);
            rates.push(bucket.sync(&message.session, request, &RateRules::default(), self.now.unix));
        }
        Reply { account, sync, rates }
    }

    fn propose(&mut self, replies: &[Reply]) {
        for step in self.ledger.proposals(replies, self.now) {
            if let Some(bucket) = self.rates.get_mut(&step.group) {
                bucket.propose(&step, &RateRules::default(), self.now.unix);
            }
        }
    }

    fn report(&self, words: &[&str]) -> String {
        match self.ledger.report(ACCOUNT, id_of(words[0]), usage(words[1]), self.now) {
            Ok(life) => format!("lives {life:?}"),
            Err(error) => error_word(error).into(),
        }
    }

    fn extend(&self, words: &[&str]) -> String {
        match self.ledger.extend(ACCOUNT, id_of(words[0]), words[1].parse().unwrap(), self.now) {
            Ok(Extended::Granted { out_max }) => format!("granted {out_max}"),
            Ok(Extended::Refused(denial)) => format!("refused {}", denial.reason.name()),
            Ok(Extended::Short(short)) => told(&Checked::Short(short)),
            Err(error) => error_word(error).into(),
        }
    }

    fn settle(&self, words: &[&str], without_hold: bool) -> String {
        let user = words.iter().find_map(|word| word.strip_prefix("user="));
        let fallback = WithoutHold { model: MODEL, service_tier: ServiceTier::Standard, user };
        let fallback = without_hold.then_some(fallback);
        ended(self.ledger.settle(ACCOUNT, id_of(words[0]), usage(words[1]), fallback, self.now))
    }

    pub(super) fn sums(&self) -> String {
        let totals = self.ledger.totals(self.now);
        format!("held {} free {}", totals.held, totals.leased_free)
    }

    fn pool_sums(&self) -> String {
        let summary = self.pool.as_ref().unwrap().summary(self.now.unix);
        format!("used {} leased {} month {} {}", summary.used, summary.leased, summary.month, summary.month_used)
    }

    pub(super) fn counts(&self) -> String {
        let totals = self.ledger.totals(self.now);
        let mut told = format!("accounts {} open {} ended {}", totals.accounts, totals.holds_open, totals.holds_ended);
        let counters = [
            ("expired", totals.expired),
            ("late", totals.late_settles),
            ("clones", totals.clones),
            ("malformed", totals.malformed),
            ("forgotten", totals.forgotten),
            ("dead", totals.dead_letters),
        ];
        for (name, count) in counters.into_iter().filter(|(_, count)| *count > 0) {
            write!(told, " {name} {count}").unwrap();
        }
        if totals.overrun.is_positive() {
            write!(told, " overrun {}", totals.overrun).unwrap();
        }
        told
    }

    /// Tokens that the pool's buckets of the model have room for.
    fn rate(&mut self) -> String {
        let Some(bucket) = self.rates.get(&Group::Model(MODEL.into())) else { return "unknown".into() };
        let mut bucket = bucket.clone();
        let request = crate::pool::message::RateRequest {
            group: Group::Model(MODEL.into()),
            generation: 1,
            seq: 1,
            granted_known: [0; 3],
            debt: [0; 3],
            returned: [0; 3],
            used: [0; 3],
            priced: Credit::ZERO,
            at_hand: [0; 3],
            want: [0; 3],
            need: [0; 3],
            seed: [1; 3],
            burst_seconds: 60,
        };
        let session = SessionId { node: "probe".into(), run: 1 };
        let reply = bucket.sync(&session, &request, &RateRules::default(), self.now.unix).unwrap();
        let levels = reply.levels.map(|level| level.div_ceil(crate::decision::rate::UNITS_PER_TOKEN));
        format!("levels {levels:?}")
    }

    /// Another process with this session's id says a little more than this one did.
    fn clone_speaks(&mut self) -> String {
        let request = self.lease(|lease| SyncRequest {
            generation: lease.generation,
            seq: u64::from(lease.seq) + 5,
            used: lease.used.plus(Credit::from_nanos(1)),
            returned: lease.returned,
            granted_known: lease.granted,
            reclaimed_known: lease.reclaimed,
            month: lease.month,
            used_before: lease.used_before,
            ..SyncRequest::default()
        });
        let pool = self.pool.as_mut().unwrap();
        pool.sync(&session(), &request, &self.rules, self.now.unix).unwrap();
        String::new()
    }

    pub(super) fn lease<T>(&self, look: impl FnOnce(&Lease) -> T) -> T {
        let shard = self.ledger.shard_of(ACCOUNT);
        let index = shard.find(&self.ledger.rules, ACCOUNT).unwrap();
        look(&shard.account(index).unwrap().lease)
    }

    /// What is kept of the account, in words; also whether it is to be heard of anew, where that counts.
    pub(super) fn picture(&self, with_wishes: bool) -> String {
        let shard = self.ledger.shard_of(ACCOUNT);
        let index = shard.find(&self.ledger.rules, ACCOUNT);
        let Some(account) = index.and_then(|index| shard.account(index)) else { return "nothing".into() };
        let money = (&account.terms, &account.view, &account.lease, account.available, account.low_water);
        let asks = (account.rare(), account.spend, account.cost_recent);
        let times = (account.used_at, account.open, account.remembered_until);
        let rates = if with_wishes { format!("{:?}", account.rates) } else { String::new() };
        format!("{money:?} {asks:?} {times:?} {rates}")
    }

    /// Enters another month where time did, as the next look at the account would.
    pub(super) fn turn_month(&self) {
        let mut shard = self.ledger.shard_of(ACCOUNT);
        let index = shard.find(&self.ledger.rules, ACCOUNT);
        if let Some(account) = index.and_then(|index| shard.account_mut(index)) {
            account.roll_over(self.now.time);
        }
    }

    /// What was booked for all holds that are remembered.
    pub(super) fn booked(&self) -> Credit {
        let shard = self.ledger.shard_of(ACCOUNT);
        shard.holds.all_past().fold(Credit::ZERO, |sum, past| sum.plus(past.ended().cost))
    }

    /// The pool's sums are right, and holds add up to what their account holds.
    fn audit(&self) {
        if let Some(pool) = &self.pool {
            pool.audit().unwrap();
        }
        for pool in self.users.values() {
            pool.audit().unwrap();
        }
        self.audit_users();
        let shard = self.ledger.shard_of(ACCOUNT);
        let Some(index) = shard.find(&self.ledger.rules, ACCOUNT) else { return };
        let account = shard.account(index).unwrap();
        let open = shard.holds.all_open().filter(|(key, _)| key.account == index);
        let held = open.fold(Credit::ZERO, |sum, (_, hold)| sum.plus(hold.cost));
        assert_eq!(held, account.lease.held, "open holds add up to what is held");
        account.assert_invariants();
    }
}

/// Runs a script: `event => what came of it`; without an arrow the outcome does not matter.
#[track_caller]
pub(super) fn check(script: &str) {
    check_in(&mut World::new(), script);
}

#[track_caller]
pub(super) fn check_in(world: &mut World, script: &str) {
    let mut transcript = String::new();
    let mut failed = false;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, expected) = match line.split_once("=>") {
            Some((event, expected)) => (event.trim(), Some(expected.trim())),
            None => (line, None),
        };
        let told = world.event(event);
        let mark = if expected.is_some_and(|expected| expected != told) { "  <-- not as expected" } else { "" };
        failed |= !mark.is_empty();
        writeln!(transcript, "{event} => {told}{mark}").unwrap();
    }
    assert!(!failed, "\n{transcript}");
}
