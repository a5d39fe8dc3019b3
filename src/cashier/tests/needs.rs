//! Thousands of needs, a payment provider that fails in every way, and cashiers that are killed while they buy.
//!
//! The store, its clock apart, the law and the cashier's own steps are the real ones; only calls are not made over a network.
//! A mutant of the cashier has to fail it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::runtime::Runtime;

use super::super::purchase::{body, verdict};
use super::super::settings::{CashierSettings, Endpoint, Secrets};
use super::super::webhook::{Answer, CallError};
use super::super::{AT_ONCE, Cashier, LIVES};
use crate::clock::{Clock, Now, Time, UnixMs};
use crate::decision::terms::{Suspension, Terms, TopUpTerms};
use crate::decision::{Credit, Month};
use crate::pool::message::Wanted;
use crate::pool::{Message, SessionId, SyncRequest};
use crate::reconcile::embedded::Embedded;
use crate::reconcile::outbox::{Outbox, Take};
use crate::reconcile::store::{CreditKind, Papers, Purchase, Rules, Store};

const START: u64 = 1_791_211_200_000;
const TIMEOUT: Duration = Duration::from_secs(10);
const CASHIERS: usize = 3;
/// Every need is 20 USD, and arises when 5 are left.
const AMOUNT: i64 = 20_000_000_000;
const FIRST: i64 = 10_000_000_000;
const MINIMUM: i64 = 5_000_000_000;
/// Seconds within which all needs must have been met; a quarter of an hour or two will do.
const TICKS: u64 = 10_000;

/// A cashier as it is, or one that makes a mistake.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Right,
    /// Asks under another key whenever it asks again.
    FreshKeys,
    /// Takes what it did not hear for a no.
    SilenceIsNo,
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Moves money once for each key, and says so badly.
#[derive(Default)]
struct Provider {
    /// Whether each purchase was made; a no is remembered too.
    made: BTreeMap<String, bool>,
    charges: BTreeMap<String, u64>,
    calls: u64,
    /// Says no to everything.
    declines: bool,
}

impl Provider {
    fn ask(&mut self, dice: &mut Dice, said: &str) -> Result<Answer, CallError> {
        self.calls += 1;
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        let (key, account) = (said["purchase_id"].as_str().unwrap(), said["account"].as_str().unwrap());
        let trouble = dice.below(20);
        let is_made = match self.made.get(key) {
            Some(is_made) => *is_made,
            // It fails before it did anything.
            None if trouble < 3 => return failure(trouble),
            None => {
                let is_made = !self.declines && (said["attempt"] != 0 || dice.below(20) > 0);
                self.made.insert(key.to_owned(), is_made);
                *self.charges.entry(account.to_owned()).or_default() += u64::from(is_made);
                is_made
            }
        };
        match trouble {
            // It fails after it did what it was asked for.
            3..8 => failure(trouble),
            _ if is_made => answer(200, r#"{"status":"succeeded"}"#),
            _ => answer(402, ""),
        }
    }
}

fn failure(trouble: u64) -> Result<Answer, CallError> {
    match trouble % 4 {
        0 => Err(CallError::Late(TIMEOUT)),
        1 => answer(503, r#"{"status":"declined"}"#),
        2 => answer(200, r#"{"status":"succ"#),
        _ => answer(200, r#"{"status":"pending"}"#),
    }
}

fn answer(status: u16, body: &'static str) -> Result<Answer, CallError> {
    Ok(Answer { status: StatusCode::from_u16(status).unwrap(), body: Bytes::from_static(body.as_bytes()) })
}

/// One process: what it has under way dies with it.
#[derive(Default)]
struct Process {
    /// When each call ends, and how.
    calls: Vec<(u64, Wanted, Result<Answer, CallError>)>,
    dead_until: u64,
}

struct World {
    kind: Kind,
    needs: u64,
    dice: Dice,
    millis: Arc<AtomicU64>,
    store: Arc<Embedded>,
    cashier: Cashier,
    /// Accounts that something happened to.
    changed: Arc<Mutex<BTreeSet<String>>>,
    processes: [Process; CASHIERS],
    provider: Provider,
    accounts: BTreeMap<String, Account>,
    runtime: Runtime,
    kills: u64,
    _folder: tempfile::TempDir,
}

/// What its only sidecar says of it.
#[derive(Default)]
struct Account {
    seq: u64,
    met: u64,
}

impl World {
    fn new(kind: Kind, accounts: u64, needs: u64) -> Self {
        let folder =
            tempfile::tempdir_in(["/dev/shm", "/tmp"].into_iter().find(|at| std::fs::exists(at).unwrap()).unwrap());
        let folder = folder.unwrap();
        let millis = Arc::new(AtomicU64::new(START));
        let clock = millis.clone();
        let store = Embedded::open(&folder.path().join("store"), Rules::default(), move || {
            let millis = clock.load(Ordering::Relaxed);
            Now { time: Time::from_nanos(millis * 1_000_000), unix: UnixMs(millis) }
        });
        let store = Arc::new(store.unwrap());
        let changed = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = changed.clone();
        let changes = move |account: &str| noted.lock().unwrap().extend([account.to_owned()]);
        let cashier = Cashier::new(store.clone(), settings(), Clock, changes);
        let cashier = Cashier { dice: || 20, ..cashier.unwrap() };
        let mut world = Self {
            kind,
            needs,
            dice: Dice(1),
            millis,
            store,
            cashier,
            changed,
            processes: std::array::from_fn(|_| Process::default()),
            provider: Provider::default(),
            accounts: BTreeMap::new(),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            kills: 0,
            _folder: folder,
        };
        (0..accounts).for_each(|number| world.open(&format!("a{number}")));
        world
    }

    fn open(&mut self, account: &str) {
        let usd = Credit::from_nanos;
        let top_up = Some(TopUpTerms { minimum: usd(MINIMUM), amount: usd(AMOUNT), monthly_cap: None });
        let terms = Terms { payment_method: true, top_up, ..Terms::default() };
        self.runtime.block_on(self.store.create_account(account.into(), terms)).unwrap();
        let first = Purchase {
            account: account.into(),
            id: "first".into(),
            amount: usd(FIRST),
            kind: CreditKind::Purchased,
            papers: Papers::default(),
        };
        self.runtime.block_on(self.store.add_credits(first)).unwrap();
        self.accounts.insert(account.to_owned(), Account::default());
        self.changed.lock().unwrap().insert(account.to_owned());
    }

    /// One second.
    fn tick(&mut self) {
        let now = self.millis.fetch_add(1_000, Ordering::Relaxed) + 1_000;
        self.spend();
        for number in 0..CASHIERS {
            if self.dice.below(100) == 0 {
                self.kills += 1;
                let dead_until = now + 1_000 * self.dice.below(60);
                self.processes[number] = Process { calls: Vec::new(), dead_until };
            }
            if self.processes[number].dead_until <= now {
                self.hear(number, now);
                self.take(number, now);
            }
        }
    }

    /// Accounts that were topped up spend until the next need.
    fn spend(&mut self) {
        let changed = std::mem::take(&mut *self.changed.lock().unwrap());
        let messages: Vec<Message> = changed.iter().map(|name| self.message(name)).collect();
        if messages.is_empty() {
            return;
        }
        for reply in self.runtime.block_on(self.store.exchange(messages)).unwrap() {
            let view = reply.sync.unwrap().unwrap().view;
            let account = self.accounts.get_mut(&*reply.account).unwrap();
            let used = spent(account.met.min(self.needs - 1)).nanos();
            let met = u64::try_from((view.balance.nanos() + used - FIRST) / AMOUNT).unwrap();
            if account.met < met && met < self.needs {
                self.changed.lock().unwrap().insert(reply.account.to_string());
            }
            account.met = met;
        }
    }

    fn message(&mut self, name: &str) -> Message {
        let account = self.accounts.get_mut(name).unwrap();
        account.seq += 1;
        let used = spent(account.met.min(self.needs - 1));
        let sync = SyncRequest {
            seq: account.seq,
            used,
            granted_known: used,
            month: Month::of(UnixMs(START)),
            ..SyncRequest::default()
        };
        let session = SessionId { node: "node".into(), run: 1 };
        Message { account: name.into(), session, sync: Some(sync), rates: Vec::new() }
    }

    fn take(&mut self, number: usize, now: u64) {
        let purchases_max = AT_ONCE - self.processes[number].calls.len();
        let taken = self.store.take(Take { purchases_max, events_max: 0, life: TIMEOUT * LIVES });
        for wanted in self.runtime.block_on(taken).unwrap().purchases {
            let key = match self.kind {
                Kind::FreshKeys => format!("{}-{}", wanted.key, self.provider.calls),
                Kind::Right | Kind::SilenceIsNo => wanted.key.clone(),
            };
            let answered = self.provider.ask(&mut self.dice, &body(&Wanted { key, ..wanted.clone() }));
            let ends = if matches!(answered, Err(CallError::Late(_))) { 10_000 } else { 1_000 * self.dice.below(10) };
            self.processes[number].calls.push((now + ends, wanted, answered));
        }
    }

    fn hear(&mut self, number: usize, now: u64) {
        let calls = std::mem::take(&mut self.processes[number].calls);
        let (ended, running) = calls.into_iter().partition(|(ends, ..)| *ends <= now);
        self.processes[number].calls = running;
        for (_, wanted, answered) in ended {
            let answered = match answered {
                Err(_) if self.kind == Kind::SilenceIsNo => answer(402, ""),
                answered => answered,
            };
            let verdict = verdict(&wanted, answered);
            self.runtime.block_on(self.cashier.conclude(&wanted, verdict));
        }
    }

    /// Lets time pass until every need was met, and nothing is under way.
    fn run(&mut self) {
        let is_done = |world: &Self| {
            let is_idle = world.processes.iter().all(|process| process.calls.is_empty());
            is_idle && world.accounts.values().all(|account| account.met >= world.needs)
        };
        let mut ticks = 0;
        while !is_done(self) && ticks < TICKS {
            ticks += 1;
            self.tick();
        }
    }

    /// Accounts for which more or less was bought than was needed, or was not booked.
    fn wrong(&self) -> Vec<String> {
        let check = |(name, account): (&String, &Account)| {
            let record = self.runtime.block_on(self.store.account(name.as_str().into())).unwrap();
            let booked = (record.credits_purchased.nanos() - FIRST) / AMOUNT;
            let charged = self.provider.charges.get(name).copied().unwrap_or(0);
            let is_right = charged == self.needs && booked == i64::try_from(charged).unwrap();
            (!is_right || account.met != self.needs).then(|| format!("{name}: {charged} charged, {booked} booked"))
        };
        self.accounts.iter().filter_map(check).collect()
    }
}

/// So much that the next need arises.
fn spent(met: u64) -> Credit {
    Credit::from_nanos(FIRST + i64::try_from(met).unwrap() * AMOUNT - MINIMUM)
}

fn settings() -> CashierSettings {
    CashierSettings {
        payments: Endpoint::parse("http://127.0.0.1:1").ok(),
        alerts: None,
        secrets: Secrets::parse("0123456789abcdef0123456789abcdef").unwrap(),
        timeout: TIMEOUT,
        ca: None,
    }
}

#[test]
fn ten_thousand_needs_are_met_once_each() {
    let mut world = World::new(Kind::Right, 500, 20);
    world.run();
    assert_eq!(world.wrong(), [""; 0]);
    assert_eq!(world.provider.charges.values().sum::<u64>(), 10_000);
    let (calls, kills) = (world.provider.calls, world.kills);
    assert!(calls > 12_000 && kills > 10, "there was trouble: {calls} calls, {kills} kills");
}

#[test]
fn a_card_that_is_always_declined_is_tried_four_times_without_any_traffic() {
    let mut world = World::new(Kind::Right, 1, 1);
    world.provider.declines = true;
    world.run();
    let keys: Vec<&str> = world.provider.made.keys().map(String::as_str).collect();
    assert_eq!(keys, ["a0.1.0", "a0.1.1", "a0.1.2", "a0.1.3"]);
    let record = world.runtime.block_on(world.store.account("a0".into())).unwrap();
    assert_eq!((record.terms.suspension, record.terms.top_up), (Suspension::FailedPayments, None));
    assert_eq!((record.topup_pending, record.credits_purchased.nanos()), (None, FIRST));
}

#[test]
fn a_cashier_that_makes_a_mistake_is_found() {
    for kind in [Kind::FreshKeys, Kind::SilenceIsNo] {
        let mut world = World::new(kind, 50, 4);
        world.run();
        assert_ne!(world.wrong(), [""; 0]);
    }
}
