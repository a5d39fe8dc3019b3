//! Random calls, each made twice: to the law in Rust, and to a store on a real server.

mod garbled;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::super::accounts::arguments;
use super::super::address::Address;
use super::super::answer::text;
use super::super::connection::Connection;
use super::super::scripts::{AMOUNT, BUCKET, RATE, STATE, Script};
use super::super::{Redis, money, round};
use super::chance::{KINDS, cap, refundable, rules, terms};
use super::dice::Dice;
use super::guest::Guest;
use super::state::of_pool;
use super::tenant::Tenant;
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::adaptive::{Adaptive, Bounds};
use crate::pool::message::{Event, Group, Happening, RateReply, RateRequest, Reservation, StepProposal};
use crate::pool::{Message, Pool, RatePool, Refusal, Reply, SessionId, account_of};
use crate::reconcile::store::{AccountRecord, CreditKind, Entry, Papers, Purchase, Rules, Store, StoreError};

/// A loaded machine is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Store time as the test sets it. Only tests have these lines; the program puts the server's clock in their place.
pub(super) const CLOCK: &str = "local function store_time() return tonumber(redis.call('GET', 'test-now')) end";
/// 2026-10-05T14:40:00Z.
pub(super) const START: u64 = 1_791_211_200_000;
/// The last has characters that mean something to keys, patterns and scripts.
pub(super) const ACCOUNTS: &[&str] =
    &["tiny", "dollars", "huge", "über {3} %d:a b\\", "dollars/alice", "huge/b/ö", "über {3} %d:a b\\/%d {3}"];
const SCALES: &[i64] = &[40, 3_000_000_000, 1 << 49, 200, 3_000_000_000, 1 << 49, 200];
/// The first of them are accounts, the others users of accounts.
pub(super) const USERS_FROM: usize = 4;
const NODES: &[&str] = &["node", "node-b", "node b", "n", "zoë"];

pub struct World {
    pub(super) dice: Dice,
    pub(super) rules: Rules,
    now: u64,
    pub(super) pools: BTreeMap<usize, Pool>,
    /// When the cashier is to look at an account.
    pub(super) due: BTreeMap<usize, u64>,
    pub(super) buckets: BTreeMap<(usize, Group), RatePool>,
    pub(super) guests: Vec<(usize, Guest, [Tenant; 2])>,
    /// Steps that were due.
    steps: Vec<(usize, Group, u64)>,
    /// What was said once and may arrive again.
    late: Vec<Message>,
    purchases: Vec<Purchase>,
    pub(super) store: Redis,
    pub(super) runtime: Runtime,
    set_time: Script,
    pub(super) dump: Script,
    pub(super) dump_rates: Script,
    pub(super) events: Vec<Event>,
    pub(super) events_read: u64,
    pub(super) entries: BTreeMap<usize, Vec<Entry>>,
    pub calls: u64,
}

impl World {
    pub fn new(url: &str, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let rules = rules(&mut dice);
        let connection = Connection::to(&Address::parse(url).unwrap(), PATIENCE).unwrap();
        let store = Redis::with_clock(connection, &format!("world-{seed}"), &rules, CLOCK);
        let guests = (0..ACCOUNTS.len()).flat_map(|account| {
            let id =
                |index: u64| SessionId { node: NODES[index as usize % 5].into(), run: u128::from(index / 3) << 90 };
            let tenants = || [Tenant::new(Group::Requests), Tenant::new(Group::Model("m o:fast".into()))];
            (0..8).map(move |index| (account, Guest::new(id(index)), tenants()))
        });
        Self {
            guests: guests.collect(),
            dump: Script::of(&[AMOUNT, BUCKET, STATE, include_str!("dump.lua")]),
            dump_rates: Script::of(&[
                "local MINUTE, MINUTES_MAX = 60000, 8",
                AMOUNT,
                BUCKET,
                RATE,
                include_str!("dump_rates.lua"),
            ]),
            set_time: Script::of(&["redis.call('SET', 'test-now', ARGV[1])"]),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            pools: BTreeMap::new(),
            buckets: BTreeMap::new(),
            due: BTreeMap::new(),
            steps: Vec::new(),
            late: Vec::new(),
            purchases: Vec::new(),
            events: Vec::new(),
            events_read: 0,
            entries: BTreeMap::new(),
            now: START,
            calls: 0,
            dice,
            rules,
            store,
        }
    }

    /// Replaces a piece of the scripts. False where there is no such piece.
    pub fn mutate(&mut self, right: &str, slip: &str) -> bool {
        let scripts = &mut self.store.scripts;
        let mut is_there = false;
        for script in [&mut scripts.exchange, &mut scripts.credit, &mut scripts.configure, &mut scripts.decline] {
            is_there |= script.source.contains(right);
            *script = Script::of(&[&script.source.replace(right, slip)]);
        }
        is_there
    }

    /// One step: some time passes, and one thing is said to both. Then the same is kept of whom it was said to; after what is
    /// said seldom, of everybody.
    pub fn step(&mut self) {
        self.pass();
        let asked = if self.dice.below(5) < 4 {
            self.exchange()
        } else {
            self.say_what_is_rare();
            (0..ACCOUNTS.len()).collect()
        };
        self.take_events();
        self.compare(&asked);
    }

    fn say_what_is_rare(&mut self) {
        match self.dice.below(20) {
            0..4 => self.garble(),
            4 => self.look_for_purchases(),
            5..10 => self.credit(),
            10..13 => self.configure(),
            13 => self.decline(),
            14..16 => self.create(),
            16..18 => self.propose(),
            _ => self.look(),
        }
    }

    fn pass(&mut self) {
        let hour = 3_600_000;
        let far = *self.dice.one(&[70_000, 12_000, 25 * hour, 40 * hour, 80 * hour, 480 * hour]);
        self.now = match self.dice.below(60) {
            0..35 => self.now,
            35..45 => self.now + self.dice.below(300),
            45..56 => self.now + self.dice.below(15_000),
            56 => self.now - self.dice.below(5_000),
            _ => self.now + far,
        };
        let args = arguments([&self.now.to_string()]);
        self.runtime.block_on(self.store.run(self.store.call(&self.set_time, "", args))).unwrap();
    }

    pub(super) fn time(&self) -> UnixMs {
        UnixMs(self.now)
    }

    /// Whom it was about.
    fn exchange(&mut self) -> BTreeSet<usize> {
        let count = 1 + self.dice.below(4);
        let mut asked = Vec::new();
        for _ in 0..count {
            if self.dice.once_in(8) && !self.late.is_empty() {
                asked.push((None, self.dice.one(&self.late).clone()));
                continue;
            }
            let who = usize::try_from(self.dice.below(self.guests.len() as u64)).unwrap();
            asked.push((Some(who), self.message(who)));
        }
        let messages: Vec<Message> = asked.iter().map(|(_, message)| message.clone()).collect();
        let about = messages.iter().map(|message| place(&message.account)).collect();
        let replies = self.runtime.block_on(self.store.exchange(messages)).unwrap();
        self.calls += count;
        for ((who, message), reply) in asked.into_iter().zip(replies) {
            let expected = self.expect(&message);
            assert_eq!(reply, expected, "{message:?}");
            if let Some(who) = who {
                self.hear(who, &message, &reply);
            }
            self.late.push(message);
            if self.late.len() > 64 {
                self.late.remove(0);
            }
        }
        about
    }

    fn message(&mut self, who: usize) -> Message {
        let now = self.time();
        let (account, guest, tenants) = &mut self.guests[who];
        let wants_money = !self.dice.once_in(4);
        let mut sync = wants_money.then(|| guest.ask(&mut self.dice, SCALES[*account], now));
        let is_user = USERS_FROM <= *account;
        if let Some(sync) = sync.as_mut().filter(|_| is_user) {
            sync.cap = Some(cap(&mut self.dice, SCALES[*account]));
        }
        let mut rates = Vec::new();
        for tenant in tenants {
            if self.dice.once_in(3) && !is_user {
                rates.push(tenant.ask(&mut self.dice));
            }
        }
        Message { account: ACCOUNTS[*account].into(), session: guest.id.clone(), sync, rates }
    }

    fn hear(&mut self, who: usize, message: &Message, reply: &Reply) {
        let now = self.time();
        let (account, guest, tenants) = &mut self.guests[who];
        if let Some((request, answer)) = message.sync.zip(reply.sync.as_ref()) {
            guest.hear(&mut self.dice, &request, answer, now);
        }
        for (request, answer) in message.rates.iter().zip(&reply.rates) {
            let tenant = tenants.iter_mut().find(|tenant| tenant.group() == request.group);
            tenant.unwrap().hear(&mut self.dice, answer);
            if let Ok(RateReply { due: Some(due), .. }) = answer {
                self.steps.push((*account, request.group.clone(), due.version));
            }
        }
    }

    /// What the law in Rust answers.
    fn expect(&mut self, message: &Message) -> Reply {
        let (now, index) = (self.time(), place(&message.account));
        let account = message.account.clone();
        if let Err(refusal) = self.begin_user(message, index) {
            return Reply { account, sync: Some(Err(refusal)), rates: Vec::new() };
        }
        if !self.pools.contains_key(&index) {
            return Reply::refused(message, Refusal::NoSuchAccount);
        }
        let rates: Vec<_> =
            message.rates.iter().map(|request| self.expect_rate(index, &message.session, request)).collect();
        let pool = self.pools.get_mut(&index).unwrap();
        pool.cover(&rates, &self.rules.pool, now);
        let sync = message.sync.map(|request| pool.sync(&message.session, &request, &self.rules.pool, now));
        Reply { account, sync, rates }
    }

    /// A user of an account that is there begins with the first message that is taken; why this one is not.
    fn begin_user(&mut self, message: &Message, index: usize) -> Result<(), Refusal> {
        let parent = place(account_of(&message.account));
        let is_known = self.pools.contains_key(&index) || !self.pools.contains_key(&parent);
        if let Some(request) = message.sync.filter(|_| index != parent && !is_known) {
            let (name, now, rules) = (message.account.clone(), self.time(), &self.rules.pool);
            let pool = Pool::of_user(name, rules, now);
            pool.clone().sync(&message.session, &request, rules, now)?;
            self.pools.insert(index, pool);
        }
        Ok(())
    }

    fn expect_rate(&mut self, index: usize, session: &SessionId, request: &RateRequest) -> Result<RateReply, Refusal> {
        let (now, rules) = (self.time(), self.rules.rate);
        let key = (index, request.group.clone());
        if let Some(bucket) = self.buckets.get_mut(&key) {
            return bucket.sync(session, request, &rules, now);
        }
        let mut bucket = RatePool::seeded(request, now)?;
        let reply = bucket.sync(session, request, &rules, now)?;
        self.buckets.insert(key, bucket);
        Ok(reply)
    }

    /// An adaptive step that was due, or is due no more, or never was.
    fn propose(&mut self) {
        let Some((index, group, version)) = self.steps.pop() else { return };
        let bounds = Bounds { start: 1_000, floor: 10, ceiling: None, pinned: false };
        let step = StepProposal {
            account: ACCOUNTS[index].into(),
            group: group.clone(),
            version: if self.dice.once_in(6) { version + 1 } else { version },
            states: (!self.dice.once_in(3))
                .then(|| [0, 1, 2].map(|_| Adaptive::start(bounds, self.dice.below(30_000_000)))),
            limits: [0, 1, 2].map(|_| *self.dice.one(&[0, 1, 7_001, 3_600_000, (1 << 46) - 1, 1 << 46, u64::MAX])),
            reserved: self.dice.once_in(2).then(|| Reservation {
                per_minute: Credit::from_nanos(*self.dice.one(&[0, 70_000_000, 1 << 34, 1 << 43, (1 << 43) + 1])),
                tokens: [0, 1, 2].map(|_| *self.dice.one(&[0, 1, 3_333_333, 1 << 40, (1 << 46) - 1, 1 << 46])),
            }),
        };
        let (now, rules) = (self.time(), self.rules.rate);
        self.runtime.block_on(self.store.propose(vec![step.clone()])).unwrap();
        self.calls += 1;
        self.buckets.get_mut(&(index, group)).unwrap().propose(&step, &rules, now);
    }

    fn credit(&mut self) {
        let index = usize::try_from(self.dice.below(4)).unwrap();
        let most = *self.dice.one(&[SCALES[index], 1_000_000_000_000_000_000, SCALES[index] * 3]);
        let again = self.dice.once_in(4) && !self.purchases.is_empty();
        let mut purchase = Purchase {
            account: ACCOUNTS[index].into(),
            id: format!("purchase {}", self.purchases.len()),
            amount: Credit::from_nanos(self.dice.amount(most) - if self.dice.once_in(5) { most / 2 } else { 0 }),
            kind: *self.dice.one(&KINDS),
            papers: Papers { note: "why ' not".into(), ..Papers::default() },
        };
        if purchase.kind == CreditKind::Refund && !self.purchases.is_empty() {
            purchase.papers.refund_of = self.dice.one(&self.purchases).id.clone();
            purchase.amount =
                if self.dice.once_in(3) { purchase.amount } else { self.dice.one(&self.purchases).amount };
        }
        if again {
            let known = self.dice.one(&self.purchases).clone();
            let amount = if self.dice.once_in(3) { purchase.amount } else { known.amount };
            purchase = Purchase { amount, ..known };
        }
        let pending = self.pools.get(&index).and_then(|pool| pool.summary(self.time()).topup_pending);
        if let Some(key) = pending.filter(|_| !again && self.dice.once_in(3)) {
            purchase.id = key;
        }
        let got = self.runtime.block_on(self.store.add_credits(purchase.clone()));
        self.calls += 1;
        let expected = self.expect_credit(&purchase);
        compare_records(got, expected);
    }

    fn expect_credit(&mut self, purchase: &Purchase) -> Result<AccountRecord, StoreError> {
        let (now, account) = (self.time(), place(&purchase.account));
        let Some(pool) = self.pools.get_mut(&account) else {
            return Err(StoreError::NoSuchAccount(purchase.account.to_string()));
        };
        let known = self.purchases.iter().find(|known| known.account == purchase.account && known.id == purchase.id);
        match known {
            Some(known) if purchase.is_again(known.kind, known.amount, &known.papers.refund_of) => {
                return Ok(record(pool, now));
            }
            Some(_) => return Err(StoreError::PurchaseDiffers(purchase.id.clone())),
            None => {}
        }
        if purchase.kind == CreditKind::Refund {
            refundable(&self.purchases, purchase)?;
        }
        let version = pool.summary(now).credit_version + 1;
        let credited = pool.book(version, purchase.receipt(), &self.rules.pool, now);
        credited.map_err(|_| StoreError::TooMuchCredit)?;
        if of_pool(pool).buys_nothing() {
            self.due.remove(&account);
        }
        self.purchases.push(purchase.clone());
        Ok(record(pool, now))
    }

    /// The purchase in flight is declined, or one that is not.
    fn decline(&mut self) {
        let (index, now) = (usize::try_from(self.dice.below(4)).unwrap(), self.time());
        let pending = self.pools.get(&index).and_then(|pool| pool.summary(now).topup_pending);
        let key = pending.filter(|_| !self.dice.once_in(5)).unwrap_or_else(|| "another".into());
        let got = self.runtime.block_on(self.store.top_up_failed(ACCOUNTS[index].into(), key.clone()));
        self.calls += 1;
        let missing = || StoreError::NoSuchAccount(ACCOUNTS[index].into());
        let expected = self.pools.get_mut(&index).ok_or_else(missing).map(|pool| {
            if pool.top_up_failed(&key, &self.rules.pool, now) {
                let retry_at = pool.top_up_retry_at();
                self.due.remove(&index);
                self.due.extend(retry_at.map(|at| (index, at.0)));
            }
            record(pool, now)
        });
        compare_records(got, expected);
    }

    fn configure(&mut self) {
        let index = usize::try_from(self.dice.below(4)).unwrap();
        let terms = terms(&mut self.dice, SCALES[index]);
        let now = self.time();
        let known = self.pools.get(&index).map_or(1, |pool| pool.summary(now).terms_version);
        let version = if self.dice.once_in(6) { known + 1 } else { known };
        let got = self.runtime.block_on(self.store.configure(ACCOUNTS[index].into(), version, terms.clone()));
        self.calls += 1;
        let account = ACCOUNTS[index].to_string();
        let expected = match self.pools.get_mut(&index) {
            None => Err(StoreError::NoSuchAccount(account)),
            Some(_) if known != version => {
                Err(StoreError::VersionConflict { account, expected: version, found: known })
            }
            Some(pool) => {
                pool.configure(version + 1, terms, &self.rules.pool, now);
                Ok(record(pool, now))
            }
        };
        compare_records(got, expected);
    }

    fn create(&mut self) {
        let index = usize::try_from(self.dice.below(4)).unwrap();
        let terms = terms(&mut self.dice, SCALES[index]);
        let got = self.runtime.block_on(self.store.create_account(ACCOUNTS[index].into(), terms.clone()));
        self.calls += 1;
        let now = self.time();
        let expected = match self.pools.get(&index) {
            Some(_) => Err(StoreError::AccountExists(ACCOUNTS[index].into())),
            None => {
                self.pools.insert(index, Pool::new(ACCOUNTS[index].into(), terms, &self.rules.pool, now));
                Ok(record(&self.pools[&index], now))
            }
        };
        compare_records(got, expected);
    }

    fn look(&mut self) {
        let index = usize::try_from(self.dice.below(4)).unwrap();
        let got = self.runtime.block_on(self.store.account(ACCOUNTS[index].into()));
        self.calls += 1;
        let missing = || StoreError::NoSuchAccount(ACCOUNTS[index].into());
        compare_records(got, self.pools.get(&index).map(|pool| record(pool, self.time())).ok_or_else(missing));
        let Some(pool) = self.pools.get(&index) else { return };
        let (_, leases) = self.runtime.block_on(self.store.inspect(ACCOUNTS[index].into())).unwrap();
        assert_eq!(leases, pool.leases(self.time().max(UnixMs(of_pool(pool).now))));
    }

    /// What the law has to tell of.
    fn take_events(&mut self) {
        for (index, pool) in &mut self.pools {
            let events = pool.take_events();
            let asks = |event: &&Event| matches!(event.what, Happening::TopUpNeeded { .. });
            self.due.extend(events.iter().filter(asks).map(|event| (*index, event.at.0)));
            self.events.extend(events);
            self.entries.entry(*index).or_default().extend(pool.take_entries());
        }
    }
}

pub(super) fn place(account: &str) -> usize {
    ACCOUNTS.iter().position(|name| *name == account).unwrap()
}

pub(super) fn record(pool: &Pool, now: UnixMs) -> AccountRecord {
    // An account's time never runs back.
    let now = now.max(UnixMs(of_pool(pool).now));
    crate::reconcile::embedded::record(pool.summary(now))
}

fn compare_records(got: Result<AccountRecord, StoreError>, expected: Result<AccountRecord, StoreError>) {
    let told = |result: Result<AccountRecord, StoreError>| result.map_err(|error| error.to_string());
    assert_eq!(told(got), told(expected));
}
