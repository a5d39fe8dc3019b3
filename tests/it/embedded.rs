//! The store in a file, under a process that is killed again and again: nothing that was acknowledged is lost, and
//! nothing is spent twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::env;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Clock;
use tollgate::decision::catalogue::FIREWORKS_2026_10;
use tollgate::decision::terms::Terms;
use tollgate::decision::{Ask, Catalogue, Credit, Prompt, RequestId, ServiceTier, Usage};
use tollgate::gate::{Gate, GateParts, GateSettings};
use tollgate::ledger::{Ledger, LedgerSettings, Verdict};
use tollgate::pool::SessionId;
use tollgate::reconcile::embedded::{Embedded, audit};
use tollgate::reconcile::keys::{KeySettings, Keys};
use tollgate::reconcile::store::{AccountRecord, Booking, CreditKind, Page, Papers, Purchase, Rules, Store};
use tollgate::reconcile::{RoundSettings, Rounds};

const KILLS: u32 = 20;
const ACCOUNT: &str = "acme";
const PURCHASE: Credit = Credit::from_nanos(50_000_000);
/// All that a request may take is used: a settle costs what was held.
const USED: Usage = Usage { prompt: 1_000, cached: 0, generated: 10 };
/// Where the spender finds its store, and which of the spenders it is.
const FOLDER: &str = "TOLLGATE_TEST_FOLDER";
const GENERATION: &str = "TOLLGATE_TEST_GENERATION";

/// What a spender said before it died.
#[derive(Default)]
struct Said {
    purchases: i64,
    spent: Credit,
    lines: u32,
}

#[test]
fn killed_at_any_moment_the_store_loses_nothing_and_lends_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let created = waited(open(folder.path()).create_account(ACCOUNT.into(), terms())).unwrap();
    assert_eq!(created.balance, Credit::ZERO);
    let (mut acknowledged, mut spent) = (0, Credit::ZERO);
    for kill in 0..KILLS {
        let said = spend_and_kill(folder.path(), kill, kill * 7 % 41);
        acknowledged += said.purchases;
        spent = spent.plus(said.spent);
        let record = reopen(folder.path());
        let bought = record.credits_purchased.nanos() / PURCHASE.nanos();
        // A purchase may be booked and its acknowledgement die with the process.
        assert!((acknowledged..=acknowledged + i64::from(kill) + 1).contains(&bought), "{acknowledged} of {bought}");
        assert_eq!(receipts(folder.path()), bought, "a purchase and its line are kept together");
        let (used, leased, credits) = (record.used, record.leased, record.credits_purchased);
        assert!(used <= spent, "booked {used}, but only {spent} was ever admitted");
        assert!(spent <= used.plus(leased), "{spent} spent, but only {used} booked and {leased} set aside");
        assert!(used.plus(leased) <= credits, "{used} booked and {leased} set aside of {credits}");
    }
    let record = reopen(folder.path());
    assert!(spent > PURCHASE && record.used.is_positive(), "the spenders did spend");
    assert!(record.leased.is_positive(), "some died with a lease, which stays in the books");
}

/// The process that is killed. It tells each purchase after, and each admitted request before it is settled.
#[test]
#[ignore = "run by the test above, which kills it"]
fn the_spender() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let generation = env::var_os(GENERATION).unwrap().into_string().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(&folder));
    let clock = Clock;
    let catalogue = Arc::new(Catalogue::parse(FIREWORKS_2026_10).unwrap());
    let session = SessionId { node: "node".into(), run: generation.parse().unwrap() };
    let ledger = Arc::new(Ledger::new(ledger_settings(), catalogue.clone(), session.clone()));
    let paced = RoundSettings { every: Duration::from_millis(20), ..RoundSettings::default() };
    let rounds = Arc::new(Rounds::new(ledger.clone(), store.clone(), clock, paced));
    let keys = Arc::new(Keys::new(store.clone(), clock, KeySettings::default()));
    let parts = GateParts { ledger, rounds: rounds.clone(), keys, catalogue, session, clock };
    let gate = Gate::new(parts, GateSettings::default());
    runtime().block_on(async {
        tokio::select! {
            () = spend(&gate, &*store, &generation) => {}
            () = rounds.run(std::future::pending()) => {}
        }
    });
}

async fn spend(gate: &Gate, store: &dyn Store, generation: &str) {
    for number in 0_u32.. {
        let id = RequestId { digest: u128::from(number), attempt: 0 };
        let admitted = match gate.check(&ask(id)).await.verdict {
            Verdict::Admitted(admitted) => Some(admitted.cost),
            Verdict::Denied(_) => None,
        };
        if let Some(cost) = admitted {
            tell("spent", cost.nanos());
            let ended = gate.settle(ACCOUNT, id, USED, None).await.expect("the hold is open");
            assert_eq!(ended.cost, cost);
        }
        if admitted.is_none() || number % 8 == 0 {
            let id = format!("{generation}-{number}");
            let purchase = Purchase {
                account: ACCOUNT.into(),
                id,
                amount: PURCHASE,
                kind: CreditKind::Purchased,
                papers: Papers::default(),
            };
            store.add_credits(purchase).await.unwrap();
            tell("bought", PURCHASE.nanos());
        }
    }
}

/// Starts a spender, kills it after it said `lines` lines, and returns all that it said.
fn spend_and_kill(folder: &Path, generation: u32, lines: u32) -> Said {
    let mut spender = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "embedded::the_spender"])
        .env(FOLDER, folder)
        .env(GENERATION, generation.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Said::default();
    let mut out = BufReader::new(spender.stdout.take().unwrap()).lines();
    while said.lines < lines {
        said.hear(&out.next().expect("a spender ends only when it is killed").unwrap());
    }
    spender.kill().unwrap();
    spender.wait().unwrap();
    out.for_each(|line| said.hear(&line.unwrap()));
    said
}

impl Said {
    fn hear(&mut self, line: &str) {
        // The test harness writes its own words on the same lines.
        let Some((what, nanos)) = line.split_once("tell ").and_then(|(_, told)| told.split_once(' ')) else { return };
        let nanos: i64 = nanos.parse().unwrap();
        self.lines += 1;
        match what {
            "spent" => self.spent = self.spent.plus(Credit::from_nanos(nanos)),
            "bought" => self.purchases += 1,
            other => panic!("nobody says {other}"),
        }
    }
}

/// One line, written in one step before anything else happens.
fn tell(what: &str, nanos: impl Display) {
    std::io::stdout().lock().write_all(format!("tell {what} {nanos}\n").as_bytes()).unwrap();
}

/// The account, from a store that opens cleanly and whose sums are right.
fn reopen(folder: &Path) -> AccountRecord {
    assert_eq!(audit(&folder.join("store.redb")).unwrap().drifted, []);
    let store = open(folder);
    waited(store.account(ACCOUNT.into())).unwrap()
}

/// Lines of history about credits.
fn receipts(folder: &Path) -> i64 {
    let page = Page { newest_first: false, after: None, max: 10_000 };
    let history = waited(open(folder).history(ACCOUNT.into(), page)).unwrap();
    history.entries.iter().map(|entry| i64::from(matches!(entry.what, Booking::Credits(_)))).sum()
}

fn open(folder: &Path) -> Embedded {
    Embedded::open(&folder.join("store.redb"), Rules::default(), || Clock.now()).unwrap()
}

fn waited<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn terms() -> Terms {
    Terms { payment_method: true, billing_profile: true, ..Terms::default() }
}

fn ask(request_id: RequestId) -> Ask<'static> {
    Ask {
        account: ACCOUNT,
        user: None,
        model: "kimi-k3",
        service_tier: ServiceTier::Standard,
        prompt: Prompt::Tokens(USED.prompt),
        cached_tokens_hint: None,
        max_tokens: Some(USED.generated),
        n: 1,
        request_id,
        deadline: None,
        capped: false,
    }
}

fn ledger_settings() -> LedgerSettings {
    LedgerSettings {
        workers: 1,
        accounts_max: 100,
        holds_max: 100,
        ended_max: 10_000,
        ended_keep: Duration::from_mins(15),
        hold_life: Duration::from_mins(5),
        hold_life_max: Duration::from_hours(1),
        unknown_max: 100,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(20),
        idle_bye: Duration::from_hours(1),
    }
}
