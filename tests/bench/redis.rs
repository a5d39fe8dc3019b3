//! What a sync costs a Redis server: its own CPU, every reply checked to be a grant.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tollgate::decision::terms::Terms;
use tollgate::decision::{Credit, Month};
use tollgate::pool::message::{Group, RateRequest};
use tollgate::pool::{Message, SessionId, SyncReply, SyncRequest};
use tollgate::reconcile::redis::{Address, Redis};
use tollgate::reconcile::store::{CreditKind, Papers, Purchase, Rules, Store};

use crate::machine::{self, Process};
use crate::{median, wire};

/// Accounts in one exchange, as many as a round has at most.
const ACCOUNTS: usize = 1_000;
const ROUNDS: usize = 60;
const TIMES: usize = 5;

/// One exchange after another over the same accounts, as one sidecar makes them.
struct Caller {
    store: Redis,
    runtime: Runtime,
    accounts: Vec<Arc<str>>,
    replies: Vec<Option<SyncReply>>,
    seq: u64,
    rates: bool,
}

pub fn measure() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    machine::pin_self(1);
    println!("redis: server CPU for one sync, {ACCOUNTS} accounts in one pipeline, each reply a grant");
    let (server, at) = start("0", &[], folder.path());
    report(&server, &at, "money", false);
    report(&server, &at, "money and one rate bucket", true);
    drop(server);
    // On the load's core: what it took of the sidecar's would change what a check costs there.
    let (_server, at) = start("1", &[], folder.path());
    wire::over_redis(&format!("redis://{at}"));
}

/// A server on `core` that keeps nothing, and its `host:port`; `before` is what its command begins with.
pub fn start(core: &str, before: &[&str], folder: &Path) -> (Process, String) {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/redis-server").display().to_string();
    let at = machine::free_address();
    let port = at.rsplit_once(':').expect("an address has a port").1;
    let folder = folder.display().to_string();
    let words = [&*program, "--port", port, "--save", "", "--appendonly", "no", "--dir", &*folder];
    let command: Vec<String> = before.iter().chain(&words).copied().map(str::to_owned).collect();
    (Process::start(core, &command, &at), at)
}

fn report(server: &Process, at: &str, what: &str, rates: bool) {
    let accounts: Vec<Arc<str>> = (0..ACCOUNTS).map(|number| format!("account-{number}").into()).collect();
    let mut caller = Caller::start(at, &format!("rates-{rates}"), accounts, rates);
    caller.round();
    let figures = (0..TIMES).map(|_| {
        let before = server.cpu();
        (0..ROUNDS).for_each(|_| caller.round());
        micros(server.cpu().saturating_sub(before)) / (ROUNDS * ACCOUNTS) as f64
    });
    println!("  {what}: {:.1} us", median(figures.collect()));
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

impl Caller {
    fn start(at: &str, prefix: &str, accounts: Vec<Arc<str>>, rates: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = Address::parse(&format!("redis://{at}")).expect("an address");
        let store = Redis::new(&address, prefix, &Rules::default()).expect("a store");
        runtime.block_on(async {
            for account in &accounts {
                store.create_account(account.clone(), Terms::default()).await.expect("a new account");
                let amount = Credit::from_nanos(1_000_000_000_000);
                let purchase = Purchase {
                    account: account.clone(),
                    id: "first".into(),
                    amount,
                    kind: CreditKind::Purchased,
                    papers: Papers::default(),
                };
                store.add_credits(purchase).await.expect("credits are added");
            }
        });
        let replies = vec![None; accounts.len()];
        Self { store, runtime, accounts, replies, seq: 0, rates }
    }

    /// Reports what was spent since, and borrows as much again.
    fn round(&mut self) {
        self.seq += 1;
        let messages =
            self.accounts.iter().zip(&self.replies).map(|(account, reply)| self.message(account, reply.as_ref()));
        let messages: Vec<Message> = messages.collect();
        let replies = self.runtime.block_on(self.store.exchange(messages)).expect("the server answers");
        for (reply, before) in replies.into_iter().zip(&mut self.replies) {
            let granted = reply.sync.expect("it was asked").expect("it is no refusal");
            let was = before.as_ref().map_or(Credit::ZERO, |reply| reply.granted);
            assert!(was < granted.granted && granted.seq == self.seq, "no grant: {granted:?}");
            assert!(reply.rates.iter().all(|rate| rate.as_ref().is_ok_and(|rate| rate.fresh[0] > 0)), "no tokens");
            *before = Some(granted);
        }
    }

    fn message(&self, account: &Arc<str>, reply: Option<&SyncReply>) -> Message {
        let known = reply.map_or(Credit::ZERO, |reply| reply.granted);
        let sync = SyncRequest {
            seq: self.seq,
            used: known,
            granted_known: known,
            want: Credit::from_nanos(10_000_000),
            need: Credit::from_nanos(1_000_000),
            month: reply.map_or(Month::default(), |reply| reply.month),
            terms_known: reply.map_or(0, |reply| reply.terms_version),
            silence: reply.map(|_| Duration::from_secs(1)),
            ..SyncRequest::default()
        };
        let rates = if self.rates { vec![self.rate()] } else { Vec::new() };
        Message {
            account: account.clone(),
            session: SessionId { node: "node".into(), run: 1 },
            sync: Some(sync),
            rates,
        }
    }

    fn rate(&self) -> RateRequest {
        let none = [0; 3];
        RateRequest {
            group: Group::Model("gpt-oss-120b".into()),
            generation: 0,
            seq: self.seq,
            granted_known: none,
            debt: none,
            returned: none,
            used: [self.seq; 3],
            priced: Credit::ZERO,
            at_hand: none,
            want: [1; 3],
            need: [1; 3],
            seed: [3_600_000, 900_000, 36_000],
            burst_seconds: 60,
        }
    }
}
