//! The store in a file: what it keeps, what it refuses, and what it says about a file it cannot use.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Embedded, OpenError, audit};
use crate::clock::{Now, Time, UnixMs};
use crate::decision::terms::{Mode, Terms, TopUpTerms};
use crate::decision::{Credit, Month};
use crate::pool::message::{Group, Happening, RateRequest, SyncReply};
use crate::pool::{Message, Refusal, Reply, SessionId, SyncRequest};
use crate::reconcile::store::{Audited, CreditKind, Entry, Page, Papers, Pending, Purchase, Rules, Store, StoreError};

mod auditing;

/// A store in a folder of its own, and a clock that only the test moves.
struct Bench {
    folder: tempfile::TempDir,
    millis: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), millis: Arc::new(AtomicU64::new(1_790_000_000_000)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }

    fn open(&self) -> Result<Embedded, OpenError> {
        let millis = Arc::clone(&self.millis);
        Embedded::open(&self.path(), Rules::default(), move || {
            let millis = millis.load(Ordering::Relaxed);
            Now { time: Time::from_nanos(millis * 1_000_000), unix: UnixMs(millis) }
        })
    }

    /// A store with the account `acme`, which bought 10 USD.
    fn with_credit(&self) -> Embedded {
        let store = self.open().unwrap();
        done(store.create_account("acme".into(), Terms::default())).unwrap();
        done(store.add_credits(purchase("first", 10))).unwrap();
        store
    }

    fn pass(&self, duration: Duration) {
        self.millis.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

fn done<T>(pending: Pending<'_, T>) -> Result<T, StoreError> {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(pending)
}

fn usd(dollars: i64) -> Credit {
    Credit::from_nanos(dollars * 1_000_000_000)
}

fn purchase(id: &str, dollars: i64) -> Purchase {
    Purchase {
        account: "acme".into(),
        id: id.into(),
        amount: usd(dollars),
        kind: CreditKind::Purchased,
        papers: Papers::default(),
    }
}

fn session(run: u128) -> SessionId {
    SessionId { node: "node".into(), run }
}

/// A request of a session that spent `used` of what it knows to be granted and wants `want`.
fn sync(seq: u64, granted_known: Credit, used: Credit, want: Credit) -> SyncRequest {
    SyncRequest {
        seq,
        used,
        granted_known,
        want,
        need: want,
        month: Month::of(UnixMs(1_790_000_000_000)),
        ..SyncRequest::default()
    }
}

fn exchange(store: &Embedded, run: u128, sync: Option<SyncRequest>, rates: Vec<RateRequest>) -> Reply {
    let message = Message { account: "acme".into(), session: session(run), sync, rates };
    done(store.exchange(vec![message])).unwrap().remove(0)
}

fn synced(store: &Embedded, run: u128, request: SyncRequest) -> SyncReply {
    exchange(store, run, Some(request), Vec::new()).sync.unwrap().unwrap()
}

fn tokens(seq: u64, want: u64) -> RateRequest {
    RateRequest {
        group: Group::Model("kimi-k3".into()),
        generation: 0,
        seq,
        granted_known: [0; 3],
        debt: [0; 3],
        returned: [0; 3],
        used: [0; 3],
        priced: Credit::ZERO,
        at_hand: [0; 3],
        want: [want; 3],
        need: [want; 3],
        seed: [6_000; 3],
        burst_seconds: 60,
    }
}

#[test]
fn reopening_keeps_everything_that_was_acknowledged() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let digest = [7; 32];
    let key = done(store.create_key("acme".into(), digest, "laptop".into())).unwrap();
    let lent = synced(&store, 1, sync(1, Credit::ZERO, Credit::ZERO, usd(3)));
    assert_eq!(lent.granted, usd(3));
    synced(&store, 1, sync(2, usd(3), usd(1), Credit::ZERO));
    let before = done(store.account("acme".into())).unwrap();
    drop(store);

    let store = bench.open().unwrap();
    assert_eq!(done(store.account("acme".into())).unwrap(), before);
    assert_eq!((before.used, before.leased, before.balance), (usd(1), usd(2), usd(9)));
    assert_eq!(done(store.find_key(digest)).unwrap().as_deref(), Some("acme"));
    assert_eq!(done(store.keys("acme".into())).unwrap(), [key]);
    drop(store);
    assert_eq!(audit(&bench.path()).unwrap(), Audited { accounts: 1, users: 0, drifted: vec![] });
}

#[test]
fn what_a_dead_session_held_stays_in_limbo_for_a_day() {
    let bench = Bench::new();
    let store = bench.with_credit();
    synced(&store, 1, sync(1, Credit::ZERO, Credit::ZERO, usd(10)));
    drop(store);
    bench.pass(Duration::from_hours(1));

    let store = bench.open().unwrap();
    let next = synced(&store, 2, sync(1, Credit::ZERO, Credit::ZERO, usd(1)));
    assert_eq!(next.granted, Credit::ZERO);
    assert_eq!(done(store.account("acme".into())).unwrap().limbo, usd(10));
    bench.pass(Duration::from_hours(25));
    assert_eq!(synced(&store, 2, sync(2, Credit::ZERO, Credit::ZERO, usd(1))).granted, usd(1));
}

#[test]
fn a_purchase_counts_once() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let again = done(store.add_credits(purchase("first", 10))).unwrap();
    assert_eq!(again.credits_purchased, usd(10));
    let other_amount = done(store.add_credits(purchase("first", 11)));
    assert!(matches!(other_amount, Err(StoreError::PurchaseDiffers(id)) if id == "first"));
    let promotional = Purchase { kind: CreditKind::Promotional, ..purchase("first", 10) };
    assert!(matches!(done(store.add_credits(promotional)), Err(StoreError::PurchaseDiffers(_))));
    assert_eq!(done(store.add_credits(purchase("second", 5))).unwrap().balance, usd(15));
    drop(store);

    let store = bench.open().unwrap();
    assert_eq!(done(store.add_credits(purchase("second", 5))).unwrap().balance, usd(15));
}

#[test]
fn credit_beyond_the_largest_balance_is_refused_and_changes_nothing() {
    let store = Bench::new();
    let store = store.with_credit();
    for amount in [Credit::MAX, Credit::from_nanos(i64::MAX), Credit::from_nanos(i64::MIN)] {
        let refused = done(store.add_credits(Purchase { amount, ..purchase("much", 0) }));
        assert!(matches!(refused, Err(StoreError::TooMuchCredit)), "{refused:?}");
    }
    assert_eq!(done(store.add_credits(purchase("much", 1))).unwrap().balance, usd(11));
}

#[test]
fn terms_change_only_at_the_version_that_was_read() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let terms = Terms { payment_method: true, ..Terms::default() };
    let changed = done(store.configure("acme".into(), 1, terms.clone())).unwrap();
    assert_eq!((changed.terms_version, &changed.terms), (2, &terms));
    let late = done(store.configure("acme".into(), 1, Terms::default()));
    assert!(matches!(late, Err(StoreError::VersionConflict { expected: 1, found: 2, .. })));
    assert_eq!(done(store.account("acme".into())).unwrap().terms, terms);
}

#[test]
fn names_that_are_taken_or_unknown_are_refused() {
    let bench = Bench::new();
    let store = bench.with_credit();
    assert!(matches!(
        done(store.create_account("acme".into(), Terms::default())),
        Err(StoreError::AccountExists(name)) if name == "acme"
    ));
    let nobody = || Arc::<str>::from("nobody");
    assert!(matches!(done(store.account(nobody())), Err(StoreError::NoSuchAccount(_))));
    assert!(matches!(done(store.keys(nobody())), Err(StoreError::NoSuchAccount(_))));
    assert!(matches!(done(store.create_key(nobody(), [1; 32], String::new())), Err(StoreError::NoSuchAccount(_))));
    assert!(matches!(done(store.configure(nobody(), 1, Terms::default())), Err(StoreError::NoSuchAccount(_))));
    let purchase = Purchase { account: nobody(), ..purchase("first", 1) };
    assert!(matches!(done(store.add_credits(purchase)), Err(StoreError::NoSuchAccount(_))));
    let message =
        Message { account: nobody(), session: session(1), sync: Some(sync(1, usd(0), usd(0), usd(1))), rates: vec![] };
    assert_eq!(done(store.exchange(vec![message])).unwrap()[0].sync, Some(Err(Refusal::NoSuchAccount)));
}

#[test]
fn accounts_are_listed_in_pages_by_name() {
    let bench = Bench::new();
    let store = bench.open().unwrap();
    for name in ["c", "a", "d", "b"] {
        done(store.create_account(name.into(), Terms::default())).unwrap();
    }
    let page = |after: Option<&str>| -> Vec<Arc<str>> {
        let listed = done(store.accounts(after.map(Into::into), 2)).unwrap();
        listed.into_iter().map(|record| record.account).collect()
    };
    assert_eq!(page(None), [Arc::from("a"), Arc::from("b")]);
    assert_eq!(page(Some("b")), [Arc::from("c"), Arc::from("d")]);
    assert_eq!(page(Some("bb")), [Arc::from("c"), Arc::from("d")]);
    assert!(page(Some("d")).is_empty());
}

#[test]
fn a_revoked_key_belongs_to_nobody_and_cannot_be_revoked_again() {
    let bench = Bench::new();
    let store = bench.with_credit();
    done(store.create_account("acm".into(), Terms::default())).unwrap();
    let (ours, theirs) = ([1; 32], [2; 32]);
    let key = done(store.create_key("acme".into(), ours, "a".into())).unwrap();
    done(store.create_key("acm".into(), theirs, "b".into())).unwrap();
    assert!(matches!(done(store.revoke_key("acm".into(), key.id.clone())), Err(StoreError::NoSuchKey(_))));
    assert_eq!(done(store.revoke_key("acme".into(), key.id.clone())).unwrap(), ours);
    assert_eq!(done(store.find_key(ours)).unwrap(), None);
    assert!(done(store.keys("acme".into())).unwrap().is_empty());
    assert!(matches!(done(store.revoke_key("acme".into(), key.id)), Err(StoreError::NoSuchKey(_))));
    assert_eq!(done(store.find_key(theirs)).unwrap().as_deref(), Some("acm"));
}

#[test]
fn events_are_kept_in_order_with_the_change_that_caused_them() {
    let bench = Bench::new();
    let store = bench.open().unwrap();
    let top_up = Some(TopUpTerms { minimum: usd(5), amount: usd(20), monthly_cap: None });
    let terms = Terms { payment_method: true, top_up, ..Terms::default() };
    done(store.create_account("acme".into(), terms)).unwrap();
    done(store.add_credits(purchase("first", 10))).unwrap();
    synced(&store, 1, sync(1, usd(0), usd(0), usd(8)));
    drop(store);

    let store = bench.open().unwrap();
    let events = done(store.events(0, 10)).unwrap();
    assert!(events.iter().map(|(number, _)| *number).eq(1..=u64::try_from(events.len()).unwrap()));
    assert!(matches!(&events.last().unwrap().1.what, Happening::TopUpNeeded { amount, .. } if *amount == usd(20)));
    assert!(done(store.events(events.last().unwrap().0, 10)).unwrap().is_empty());
}

#[test]
fn rate_buckets_reach_the_file_within_seconds() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let fresh =
        |store: &Embedded, run, request| exchange(store, run, None, vec![request]).rates[0].clone().unwrap().fresh;
    assert_eq!(fresh(&store, 1, tokens(1, 4_000)), [4_000; 3]);
    bench.pass(Duration::from_secs(5));
    // Five seconds drained 500 of them; the round after that writes what is left.
    fresh(&store, 1, RateRequest { granted_known: [4_000; 3], ..tokens(2, 0) });
    drop(store);
    let store = bench.open().unwrap();
    assert_eq!(fresh(&store, 2, tokens(1, 2_501)), [0; 3]);
    assert_eq!(fresh(&store, 3, tokens(1, 2_500)), [2_500; 3]);
}

#[test]
fn store_time_never_runs_back_over_a_restart() {
    let bench = Bench::new();
    let store = bench.with_credit();
    bench.pass(Duration::from_hours(2));
    let later = done(store.create_account("b".into(), Terms::default())).unwrap().created;
    drop(store);
    bench.millis.fetch_sub(3_600_000, Ordering::Relaxed);
    let store = bench.open().unwrap();
    bench.pass(Duration::from_secs(5));
    let created = done(store.create_account("c".into(), Terms::default())).unwrap().created;
    assert_eq!(created, UnixMs(later.0 + 5_000));
}

#[test]
fn a_file_in_use_is_refused_by_name() {
    let bench = Bench::new();
    let _store = bench.open().unwrap();
    let error = bench.open().err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)));
    assert!(error.to_string().contains(bench.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let text =
        b"this is somebody's shopping list, and longer than any header that a database may look for in it".repeat(99);
    let bench = Bench::new();
    fs::write(bench.path(), &text).unwrap();
    assert!(matches!(bench.open(), Err(OpenError::Foreign(_))));
    assert_eq!(fs::read(bench.path()).unwrap(), text);

    let bench = Bench::new();
    let other = redb::Database::create(bench.path()).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    write.commit().unwrap();
    drop(other);
    assert!(matches!(bench.open(), Err(OpenError::Foreign(_))));
}

#[test]
fn a_file_of_another_version_is_refused() {
    let bench = Bench::new();
    drop(bench.open().unwrap());
    // Before accounts had lots, and one that is not there yet.
    for version in [2, 4] {
        let file = redb::Database::open(bench.path()).unwrap();
        let write = file.begin_write().unwrap();
        write.open_table(super::file::META).unwrap().insert("schema", version).unwrap();
        write.commit().unwrap();
        drop(file);
        assert!(matches!(bench.open(), Err(OpenError::Version { found, .. }) if found == version), "{version}");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let path = Bench::new().path();
    let error = Embedded::open(&path, Rules::default(), Now::default).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

/// Damage is found when the file is opened. Checked at places all over the file, and for every kind of shortening.
#[test]
fn a_damaged_file_is_refused_or_whole_but_never_wrong() {
    let bench = Bench::new();
    let store = bench.with_credit();
    for run in 1..=40 {
        synced(&store, run, sync(1, usd(0), usd(0), Credit::from_nanos(1_000)));
    }
    let expected = done(store.account("acme".into())).unwrap();
    drop(store);
    let whole = fs::read(bench.path()).unwrap();
    let refused = AtomicBool::new(false);
    let check = |bytes: &[u8], what: &str| {
        let bench = Bench::new();
        fs::write(bench.path(), bytes).unwrap();
        match bench.open() {
            Ok(store) => assert_eq!(done(store.account("acme".into())).unwrap(), expected, "{what}"),
            Err(error) => {
                refused.store(true, Ordering::Relaxed);
                assert!(error.to_string().contains(bench.path().to_str().unwrap()), "{what}: {error}");
            }
        }
    };
    for place in (0..whole.len()).step_by(1_531) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        check(&damaged, &format!("a bit at {place}"));
    }
    for left in [1, 64, 500, 4_095, whole.len() / 2, whole.len() - 1] {
        check(&whole[..left], &format!("{left} bytes left"));
    }
    assert!(refused.load(Ordering::Relaxed));
}

#[test]
fn a_refund_takes_no_more_than_is_left_of_its_purchase() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let refund = |id: &str, dollars, of: &str| Purchase {
        kind: CreditKind::Refund,
        papers: Papers { refund_of: of.into(), ..Papers::default() },
        ..purchase(id, dollars)
    };
    assert_eq!(done(store.add_credits(refund("r1", 4, "first"))).unwrap().balance, usd(6));
    assert_eq!(done(store.add_credits(refund("r1", 4, "first"))).unwrap().balance, usd(6));
    for (refused, because) in [
        (refund("r2", 7, "first"), "amount: $6.00 of purchase \"first\" is not refunded yet; send at most that"),
        (refund("r2", 1, "r1"), "refund_of: no purchase \"r1\" of that account; send the id under which it was bought"),
        (refund("r1", 4, "second"), "purchase_id: \"r1\" was recorded with another amount or kind"),
    ] {
        let error = done(store.add_credits(refused)).unwrap_err().to_string();
        assert!(error.starts_with(because), "{error}");
    }
    let record = done(store.add_credits(refund("r2", 6, "first"))).unwrap();
    assert_eq!((record.balance, record.lifetime_paid), (usd(0), usd(0)));
    let page = Page { newest_first: true, after: None, max: 2 };
    let lines = done(store.history("acme".into(), page)).unwrap().entries;
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(lines.iter().map(Entry::amount).collect::<Vec<_>>(), [usd(-6), usd(-4)]);
    let page = Page { after: Some(2), ..page };
    assert_eq!(done(store.history("acme".into(), page)).unwrap().entries.len(), 1);
}

#[test]
fn whoever_looks_at_a_history_finds_the_month_that_ended_settled_for_good() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let lent = synced(&store, 1, sync(1, Credit::ZERO, Credit::ZERO, usd(3)));
    synced(&store, 1, sync(2, lent.granted, usd(2), Credit::ZERO));
    bench.pass(Duration::from_hours(40 * 24));
    let page = Page { newest_first: true, after: None, max: 9 };
    let history = done(store.history("acme".into(), page)).unwrap();
    assert_eq!(history.entries.iter().map(Entry::amount).collect::<Vec<_>>(), [usd(-2), usd(10)]);
    assert_eq!((history.balance, history.open_usage), (usd(8), usd(0)));
    // What came in late waits for its line, and counts until then.
    synced(&store, 1, sync(3, lent.granted, usd(3), Credit::ZERO));
    let open = done(store.history("acme".into(), page)).unwrap();
    assert_eq!((open.entries.len(), open.balance, open.open_usage), (2, usd(7), usd(1)));
    // A process that is killed here leaves the file as it is.
    let killed = Bench { folder: tempfile::tempdir().unwrap(), millis: Arc::clone(&bench.millis) };
    fs::copy(bench.path(), killed.path()).unwrap();
    bench.pass(Duration::from_hours(2));
    let store = killed.open().unwrap();
    let kept = done(store.history("acme".into(), page)).unwrap();
    assert_eq!(kept.entries[1..], history.entries);
    assert_eq!((kept.entries[0].amount(), kept.balance, kept.open_usage), (usd(-1), usd(7), usd(0)));
    drop(store);
    assert_eq!(super::audit(&killed.path()).unwrap().drifted, []);
}

/// A disk that fails is shown by a step that reports it after changing memory, and by a file that is gone.
#[test]
fn a_step_that_fails_is_forgotten_whole_and_the_next_one_heals() {
    let bench = Bench::new();
    let store = bench.with_credit();
    let failed: Result<(), _> = store.inner.change(|state, database, now| {
        let time = state.time(now);
        let kept = state.load(database, &"acme".into())?.unwrap();
        kept.pool.credit(9, usd(0), usd(99), &Rules::default().pool, time).unwrap();
        Err(StoreError::Unavailable("the disk is full".into()))
    });
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));

    let away = bench.folder.path().join("away");
    fs::rename(bench.path(), &away).unwrap();
    let gone = done(store.account("acme".into()));
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");
    assert!(!bench.path().exists());
    fs::write(bench.path(), "").unwrap();
    assert!(matches!(done(store.account("acme".into())), Err(StoreError::Unavailable(_))));
    fs::rename(&away, bench.path()).unwrap();
    assert_eq!(done(store.account("acme".into())).unwrap().balance, usd(10));
    assert_eq!(synced(&store, 1, sync(1, usd(0), usd(0), usd(10))).granted, usd(10));
}

#[test]
fn a_postpaid_account_borrows_down_to_its_line() {
    let bench = Bench::new();
    let store = bench.open().unwrap();
    let terms = Terms { mode: Mode::Postpaid, credit_line: usd(7), ..Terms::default() };
    done(store.create_account("acme".into(), terms)).unwrap();
    assert_eq!(synced(&store, 1, sync(1, usd(0), usd(0), usd(7))).granted, usd(7));
    assert_eq!(synced(&store, 2, sync(1, usd(0), usd(0), usd(1))).granted, usd(0));
}
