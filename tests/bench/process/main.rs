//! The decision itself, in process: time for decide, hold and settle, and memory for each account.
//!
//! `cargo bench --bench process`; with ` -- time 10000` for the time alone, to run under a profiler, and with ` -- loading` for
//! the slowest checks while a million accounts load.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for people")]

mod loading;
#[path = "../median.rs"]
mod median;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use median::median;
use tollgate::clock::{Now, Time, UnixMs};
use tollgate::decision::catalogue::FIREWORKS_2026_10;
use tollgate::decision::terms::Terms;
use tollgate::decision::{Ask, Catalogue, Credit, Prompt, RequestId, ServiceTier, Usage};
use tollgate::ledger::{Checked, Ledger, LedgerSettings, Verdict};
use tollgate::pool::message::Group;
use tollgate::pool::{CreditKind, Message, Papers, Pool, PoolRules, RatePool, RateRules, Receipt, Reply, SessionId};

/// As in the binary that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ACCOUNTS: usize = 10_000;
const BATCHES: usize = 60;
const WARM_UP: usize = 20;
const MANY_ACCOUNTS: usize = 300_000;
const FEW_ACCOUNTS: usize = 50_000;
const STEP: usize = 10_000;
const USAGE: Usage = Usage { prompt: 200, cached: 0, generated: 12 };

fn main() {
    // As the binary that is measured does.
    rustix::thread::disable_transparent_huge_pages(true).expect("the system knows huge pages");
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["memory", state, accounts] => print_resident_bytes(state, accounts),
        ["loading"] => loading::measure(),
        ["time", accounts] => println!("{:.0}", nanos_per_request(accounts.parse().expect("a number of accounts"))),
        _ => measure(),
    }
}

fn measure() {
    let nanos = nanos_per_request(ACCOUNTS);
    println!("\ndecide + hold + settle in process, {ACCOUNTS} accounts, one thread: {nanos:.0} ns");
    let (idle, in_use) = (bytes_per_account("idle"), bytes_per_account("in-use"));
    println!("memory per account: known but idle {idle:.0} B, with one model in use {in_use:.0} B");
}

/// A ledger and the books it squares with.
struct World {
    ledger: Arc<Ledger>,
    books: HashMap<Arc<str>, Books>,
    /// Keep the books between rounds; else each message meets books as good as new, and their memory is not counted.
    keep_books: bool,
    now: Now,
    requests: u128,
}

struct Books {
    pool: Pool,
    rates: HashMap<Group, RatePool>,
}

impl World {
    fn new(accounts: usize, keep_books: bool) -> Self {
        let catalogue = Arc::new(Catalogue::parse(FIREWORKS_2026_10).expect("the shipped catalogue is valid"));
        let settings = LedgerSettings { accounts_max: accounts, ..settings() };
        let session = SessionId { node: Arc::from("bench"), run: 1 };
        Self {
            ledger: Arc::new(Ledger::new(settings, catalogue, session)),
            books: HashMap::new(),
            keep_books,
            now: Now { time: Time::from_nanos(1_000_000_000_000), unix: UnixMs(1_793_500_000_000) },
            requests: 0,
        }
    }

    /// Says everything that is due, and lets a tenth of a second pass.
    fn round(&mut self) {
        while self.exchange(10_000) {}
        self.now = self.now.after(Duration::from_millis(100));
    }

    /// Says what is due, so much at most. False where nothing was.
    fn exchange(&mut self, max: usize) -> bool {
        let messages = self.ledger.collect(self.now, max);
        let replies = messages.iter().map(|message| self.answer(message)).collect();
        self.ledger.apply(replies, self.now, self.now);
        !messages.is_empty()
    }

    fn answer(&mut self, message: &Message) -> Reply {
        let now = self.now.unix;
        let mut books = self.books.remove(&message.account).unwrap_or_else(|| Books::new(&message.account, now));
        let sync = message.sync.as_ref();
        let sync = sync.map(|request| books.pool.sync(&message.session, request, &PoolRules::default(), now));
        let rates = message.rates.iter().map(|request| {
            let fresh = || RatePool::seeded(request, now).expect("a valid seed");
            let bucket = books.rates.entry(request.group.clone()).or_insert_with(fresh);
            bucket.sync(&message.session, request, &RateRules::default(), now)
        });
        let reply = Reply { account: Arc::clone(&message.account), sync, rates: rates.collect() };
        if self.keep_books {
            self.books.insert(Arc::clone(&message.account), books);
        }
        reply
    }

    /// Asks once for each of these accounts; settles what was admitted. Returns how many were.
    fn ask(&mut self, names: &[String]) -> usize {
        let mut admitted = 0;
        for name in names {
            self.requests += 1;
            let id =
                RequestId { digest: self.requests.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), attempt: 1 };
            if is_admitted(self.ledger.check(&ask(name, id), self.now)) {
                admitted += 1;
                self.ledger.settle(name, id, USAGE, None, self.now).expect("the hold was opened a moment ago");
            }
        }
        admitted
    }
}

impl Books {
    fn new(account: &Arc<str>, now: UnixMs) -> Self {
        let terms = Terms { payment_method: true, billing_profile: true, ..Terms::default() };
        let mut pool = Pool::new(Arc::clone(account), terms, &PoolRules::default(), now);
        let (kind, amount) = (CreditKind::Purchased, Credit::from_nanos(10_000_000_000_000));
        let receipt = Receipt { kind, amount, id: "first".into(), papers: Papers::default() };
        pool.book(1, receipt, &PoolRules::default(), now).expect("a valid credit");
        Self { pool, rates: HashMap::new() }
    }
}

fn nanos_per_request(accounts: usize) -> f64 {
    let mut world = World::new(accounts, true);
    let names: Vec<String> = (0..accounts).map(name).collect();
    let mut figures = Vec::new();
    for batch in 0..WARM_UP + BATCHES {
        let before = own_cpu();
        let admitted = world.ask(&names);
        let nanos = (own_cpu() - before).as_secs_f64() * 1e9 / accounts as f64;
        if batch >= WARM_UP {
            assert!(admitted == accounts, "only {admitted} of {accounts} were admitted in batch {batch}");
            figures.push(nanos);
        }
        world.round();
    }
    median(figures)
}

/// Growth of resident memory from few accounts to many, each in a fresh process that does the same in equal steps. What was
/// let go is given back at once there, and not after a second, when such a process has ended.
fn bytes_per_account(state: &str) -> f64 {
    let resident = |accounts: usize| {
        let own = std::env::current_exe().expect("a benchmark has a path");
        let mut child = std::process::Command::new(own);
        let child = child.args(["memory", state, &accounts.to_string()]);
        let child = child.env("MIMALLOC_PURGE_DELAY", "0").output();
        let output = child.expect("the benchmark runs itself").stdout;
        String::from_utf8_lossy(&output).trim().parse::<f64>().expect("a number of bytes")
    };
    (resident(MANY_ACCOUNTS) - resident(FEW_ACCOUNTS)) / (MANY_ACCOUNTS - FEW_ACCOUNTS) as f64
}

/// Prints the resident memory of a ledger with so many accounts that are `idle` or `in-use`. Run in a process of its own.
pub fn print_resident_bytes(state: &str, accounts: &str) {
    let accounts: usize = accounts.parse().expect("a number of accounts");
    let mut world = World::new(accounts, false);
    for first in (0..accounts).step_by(STEP) {
        let names: Vec<String> = (first..first + STEP).map(name).collect();
        for name in &names {
            assert!(world.ledger.want(name, world.now), "there is room for every account");
        }
        world.round();
        if state == "in-use" {
            world.ask(&names);
            world.round();
            let admitted = world.ask(&names);
            assert!(admitted == STEP, "only {admitted} of {STEP} were admitted");
        }
    }
    println!("{}", resident_bytes());
}

fn name(number: usize) -> String {
    format!("acct-{number:010}")
}

fn ask(account: &str, request_id: RequestId) -> Ask<'_> {
    Ask {
        account,
        user: None,
        model: "kimi-k3",
        service_tier: ServiceTier::Standard,
        prompt: Prompt::Tokens(200),
        cached_tokens_hint: None,
        max_tokens: Some(16),
        n: 1,
        request_id,
        deadline: None,
        capped: false,
    }
}

fn is_admitted(checked: Checked) -> bool {
    match checked {
        Checked::Answered(answer) => matches!(answer.verdict, Verdict::Admitted(_)),
        Checked::Unknown | Checked::Short(_) => false,
    }
}

fn settings() -> LedgerSettings {
    LedgerSettings {
        workers: 1,
        accounts_max: 1_000_000,
        holds_max: 1_000_000,
        ended_max: 10_000,
        ended_keep: Duration::from_secs(900),
        hold_life: Duration::from_secs(300),
        hold_life_max: Duration::from_secs(3_600),
        unknown_max: STEP,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(200),
        idle_bye: Duration::from_secs(3_600),
    }
}

/// CPU time of this thread so far.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}
