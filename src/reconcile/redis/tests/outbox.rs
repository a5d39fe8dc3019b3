//! Events are handed out alike by both stores: to one at a time, again where nobody finished them, and in the end no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::super::Redis;
use super::super::accounts::arguments;
use super::super::address::Address;
use super::super::connection::Connection;
use super::super::scripts::Script;
use super::call::{CLOCK, PATIENCE, START};
use super::server::Server;
use crate::clock::{Now, Time, UnixMs};
use crate::decision::terms::{Terms, TopUpTerms};
use crate::decision::{Credit, Month};
use crate::pool::message::Happening;
use crate::pool::{Message, SessionId, SyncRequest};
use crate::reconcile::embedded::Embedded;
use crate::reconcile::outbox::{Outbox, Take};
use crate::reconcile::store::{CreditKind, Papers, Purchase, Rules};

/// A store, and how its time passes.
struct Bench<'a> {
    store: &'a dyn Outbox,
    pass: &'a dyn Fn(u64),
    runtime: &'a Runtime,
}

impl Bench<'_> {
    /// Has an account bought 10 USD and use them up: one event.
    fn deplete(&self, account: &str) {
        let amount = Credit::from_nanos(10_000_000_000);
        let purchase = Purchase {
            account: account.into(),
            id: "first".into(),
            amount,
            kind: CreditKind::Purchased,
            papers: Papers::default(),
        };
        self.runtime.block_on(self.store.create_account(account.into(), Terms::default())).unwrap();
        self.runtime.block_on(self.store.add_credits(purchase)).unwrap();
        let sync = SyncRequest {
            seq: 1,
            used: amount,
            granted_known: amount,
            month: Month::of(UnixMs(START)),
            ..SyncRequest::default()
        };
        let session = SessionId { node: "node".into(), run: 1 };
        let message = Message { account: account.into(), session, sync: Some(sync), rates: Vec::new() };
        let replies = self.runtime.block_on(self.store.exchange(vec![message])).unwrap();
        assert!(matches!(replies[0].sync, Some(Ok(_))), "{replies:?}");
    }

    /// Names and ids of what is handed out for ten seconds, by name.
    fn take(&self, events_max: usize) -> Vec<(Arc<str>, String)> {
        let take = Take { purchases_max: 0, events_max, life: Duration::from_secs(10) };
        let taken = self.runtime.block_on(self.store.take(take)).unwrap();
        assert!(taken.events.iter().all(|waiting| waiting.event.what == Happening::Depleted), "{taken:?}");
        let mut events: Vec<_> = taken.events.into_iter().map(|waiting| (waiting.event.account, waiting.id)).collect();
        events.sort();
        events
    }

    fn waiting(&self) -> u64 {
        let nothing = Take { purchases_max: 0, events_max: 0, life: Duration::ZERO };
        self.runtime.block_on(self.store.take(nothing)).unwrap().backlog.events
    }

    fn credit(&self, id: &str) {
        let amount = Credit::from_nanos(10_000_000);
        let (account, kind) = ("needy".into(), CreditKind::Promotional);
        let purchase = Purchase { account, id: id.into(), amount, kind, papers: Papers::default() };
        self.runtime.block_on(self.store.add_credits(purchase)).unwrap();
    }

    /// Keys of purchases that are handed out for a second.
    fn wanted(&self) -> Vec<String> {
        let take = Take { purchases_max: 9, events_max: 0, life: Duration::from_secs(1) };
        let taken = self.runtime.block_on(self.store.take(take)).unwrap();
        taken.purchases.into_iter().map(|wanted| wanted.key).collect()
    }

    fn finish(&self, id: &str) {
        self.runtime.block_on(self.store.finish_events(vec![id.to_owned()])).unwrap();
    }
}

fn check(bench: &Bench<'_>) {
    assert_eq!((bench.take(9), bench.waiting()), (vec![], 0));
    ["a", "b", "c"].into_iter().for_each(|account| bench.deplete(account));
    let first = bench.take(2);
    let rest = bench.take(2);
    assert_eq!((first.len(), rest.len(), bench.take(2).len(), bench.waiting()), (2, 1, 0, 3));
    let all: Vec<_> = {
        let mut all = [first, rest].concat();
        all.sort();
        all
    };
    let names: Vec<&str> = all.iter().map(|(account, _)| &**account).collect();
    assert_eq!(names, ["a", "b", "c"]);

    (bench.pass)(9_999);
    assert_eq!(bench.take(9), []);
    (bench.pass)(1);
    assert_eq!(bench.take(9), all, "nobody finished them");

    bench.finish(&all[0].1);
    bench.finish(&all[0].1);
    bench.runtime.block_on(bench.store.put_off_event(all[1].1.clone(), Duration::from_secs(60))).unwrap();
    (bench.pass)(10_000);
    assert_eq!((bench.take(9), bench.waiting()), (all[2..].to_vec(), 2));
    (bench.pass)(50_000);
    assert_eq!(bench.take(9), all[1..]);
    all.iter().for_each(|(_, id)| bench.finish(id));
    (bench.pass)(100_000);
    assert_eq!((bench.take(9), bench.waiting()), (vec![], 0));

    bench.deplete("d");
    let last = bench.take(9);
    assert_eq!(last.len(), 1);
    assert!(all.iter().all(|(_, id)| *id != last[0].1), "a number is never used again");
}

/// Credits that come in while a declined purchase waits to be tried again do not have it forgotten.
fn check_retry(bench: &Bench<'_>) {
    let amount = Credit::from_nanos(20_000_000_000);
    let top_up = TopUpTerms { minimum: Credit::from_nanos(1_000_000_000), amount, monthly_cap: None };
    let terms = Terms { payment_method: true, top_up: Some(top_up), ..Terms::default() };
    bench.runtime.block_on(bench.store.create_account("needy".into(), terms)).unwrap();
    bench.credit("one");
    assert_eq!(bench.wanted(), ["needy.1.0"]);
    bench.runtime.block_on(bench.store.top_up_failed("needy".into(), "needy.1.0".into())).unwrap();
    bench.credit("two");
    (bench.pass)(59_999);
    assert_eq!(bench.wanted(), [""; 0]);
    (bench.pass)(1);
    assert_eq!(bench.wanted(), ["needy.2.1"]);
}

#[test]
fn a_file_hands_events_out() {
    let folder = tempfile::tempdir().unwrap();
    let millis = Arc::new(AtomicU64::new(START));
    let clock = millis.clone();
    let store = Embedded::open(&folder.path().join("store"), Rules::default(), move || {
        let millis = clock.load(Ordering::Relaxed);
        Now { time: Time::from_nanos(millis * 1_000_000), unix: UnixMs(millis) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pass = |more| drop(millis.fetch_add(more, Ordering::Relaxed).to_string());
    let store = store.unwrap();
    let bench = Bench { store: &store, pass: &pass, runtime: &runtime };
    check(&bench);
    check_retry(&bench);
}

#[test]
fn a_server_hands_events_out() {
    let server = Server::start();
    let connection = Connection::to(&Address::parse(&server.url()).unwrap(), PATIENCE).unwrap();
    let store = Redis::with_clock(connection, "outbox", &Rules::default(), CLOCK);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let millis = AtomicU64::new(START);
    let script = Script::of(&["redis.call('SET', 'test-now', ARGV[1])"]);
    let pass = |more| {
        let now = millis.fetch_add(more, Ordering::Relaxed) + more;
        runtime.block_on(store.run(store.call(&script, "any", arguments([&now.to_string()])))).unwrap();
    };
    pass(0);
    let bench = Bench { store: &store, pass: &pass, runtime: &runtime };
    check(&bench);
    check_retry(&bench);
}
