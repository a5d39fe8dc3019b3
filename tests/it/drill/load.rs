//! Requests from many callers to many sidecars: each is settled, and what was acknowledged is written down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rust_decimal::Decimal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tollgate::transport::proto::tollgate as api;
use tollgate::transport::proto::tollgate::admission_client::AdmissionClient;
use tollgate::transport::proto::tollgate::admit_response::Result as Answer;
use tonic::transport::Channel;

use crate::harness::sidecar::ask;
use crate::harness::{Sidecar, eventually};

/// Callers of one sidecar.
const CALLERS: usize = 2;

/// What callers know of one sidecar.
#[derive(Clone, Debug, Default)]
struct Book {
    /// USD that a settle acknowledged.
    settled: Decimal,
    /// USD of settles that were never answered.
    unsure: Decimal,
    /// The newest answer for each account: the reason of a denial.
    latest: BTreeMap<String, Option<api::Reason>>,
    admitted: u32,
    denied: BTreeMap<&'static str, u32>,
    /// How long decisions took, since somebody asked for it.
    waits: Vec<Duration>,
}

/// What one caller needs.
struct Caller {
    client: AdmissionClient<Channel>,
    name: String,
    accounts: Vec<String>,
    book: Arc<Mutex<Book>>,
    stop: watch::Receiver<bool>,
    pace: Duration,
}

pub struct Load {
    books: Vec<Arc<Mutex<Book>>>,
    stop: watch::Sender<bool>,
    callers: Vec<JoinHandle<()>>,
}

/// What requests saw in some time.
pub struct Seen {
    pub admitted: u32,
    pub denied: BTreeMap<&'static str, u32>,
    pub p95: Duration,
    pub p99: Duration,
}

impl Load {
    /// Begins to ask. `round` makes the request ids of this load its own; `pace` is between two requests of a caller.
    pub async fn on(sidecars: &[Sidecar], accounts: &[String], round: &str, pace: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let (mut books, mut callers) = (Vec::new(), Vec::new());
        for (place, sidecar) in sidecars.iter().enumerate() {
            let book = Arc::new(Mutex::new(Book::default()));
            for number in 0..CALLERS {
                let caller = Caller {
                    client: sidecar.admission().await,
                    name: format!("{round}-{place}-{number}"),
                    accounts: accounts.to_vec(),
                    book: Arc::clone(&book),
                    stop: stop.subscribe(),
                    pace,
                };
                callers.push(tokio::spawn(caller.go_on()));
            }
            books.push(book);
        }
        Self { books, stop, callers }
    }

    /// Waits until every sidecar admitted so many more.
    pub async fn admits(&self, more: u32) {
        let before: Vec<u32> = (0..self.books.len()).map(|place| self.book(place).admitted).collect();
        let enough = || before.iter().enumerate().all(|(place, before)| self.book(place).admitted >= before + more);
        eventually("admissions", async || enough().then_some(())).await;
    }

    /// Waits until one sidecar admitted so many more.
    pub async fn admits_at(&self, place: usize, more: u32) {
        let before = self.book(place).admitted;
        eventually("admissions", async || (self.book(place).admitted >= before + more).then_some(())).await;
    }

    /// Waits until so many seconds were spent asking.
    pub async fn goes_on_for(&self, time: Duration) {
        let begin = Instant::now();
        let mut ticks = interval(Duration::from_millis(50));
        while begin.elapsed() < time {
            ticks.tick().await;
        }
    }

    /// Waits until the sidecars at `places` have denied every account, for one of these reasons, with their newest answers.
    pub async fn ends_in(&self, places: &[usize], reasons: &[api::Reason], accounts: usize) {
        let is_one = |latest: &Option<api::Reason>| latest.is_some_and(|reason| reasons.contains(&reason));
        let all = |book: &Book| book.latest.len() == accounts && book.latest.values().all(is_one);
        eventually("a denial of every account everywhere", async || {
            places.iter().all(|place| all(&self.book(*place))).then_some(())
        })
        .await;
    }

    /// What requests saw since this was last asked.
    pub fn seen(&self) -> Seen {
        let (mut admitted, mut denied, mut waits) = (0, BTreeMap::new(), Vec::new());
        for place in 0..self.books.len() {
            let mut book = self.book(place);
            waits.append(&mut book.waits);
            for (reason, count) in std::mem::take(&mut book.denied) {
                *denied.entry(reason).or_insert(0) += count;
            }
        }
        waits.sort_unstable();
        let percentile = |percent| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
        let (p95, p99) = (percentile(95), percentile(99));
        admitted += u32::try_from(waits.len()).expect("few").saturating_sub(denied.values().sum());
        Seen { admitted, denied, p95, p99 }
    }

    /// Waits until no caller asks any more.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        for caller in self.callers.drain(..) {
            caller.await.expect("a caller does not panic");
        }
    }

    /// USD that settles at one sidecar acknowledged.
    pub fn settled_at(&self, place: usize) -> Decimal {
        self.book(place).settled
    }

    /// USD that settles acknowledged.
    pub fn settled(&self) -> Decimal {
        (0..self.books.len()).map(|place| self.settled_at(place)).sum()
    }

    /// USD of settles that nobody answered.
    pub fn unsure(&self) -> Decimal {
        (0..self.books.len()).map(|place| self.book(place).unsure).sum()
    }

    fn book(&self, place: usize) -> MutexGuard<'_, Book> {
        self.books[place].lock().expect("nobody panics while writing")
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let denied: Vec<String> = self.denied.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let denied = if denied.is_empty() { "none denied".into() } else { denied.join(", ") };
        write!(f, "{} admitted, {denied}", self.admitted)
    }
}

impl Caller {
    /// Until it is told to stop, or nobody answers.
    async fn go_on(mut self) {
        let mut ticks = interval(self.pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            ticks.tick().await;
            if *self.stop.borrow() || self.ask(number).await.is_err() {
                return;
            }
        }
    }

    /// Asks, and settles what was admitted: less than was held, and never the same for long.
    async fn ask(&mut self, number: usize) -> Result<(), tonic::Status> {
        let account = self.accounts[number % self.accounts.len()].clone();
        let id = format!("{}-{number}", self.name);
        let begin = Instant::now();
        let answer = self.client.admit(ask(&account, &id, 100)).await?.into_inner();
        let denial = match answer.result {
            Some(Answer::Denial(denial)) => Some(denial),
            Some(Answer::Admitted(_)) => None,
            None => panic!("an answer without content"),
        };
        {
            let mut book = self.book.lock().expect("nobody panics while writing");
            book.waits.push(begin.elapsed());
            book.latest.insert(account.clone(), denial.as_ref().map(api::Denial::reason));
            if let Some(denial) = denial {
                *book.denied.entry(denial.reason().as_str_name().trim_start_matches("REASON_")).or_default() += 1;
                return Ok(());
            }
            book.admitted += 1;
        }
        self.settle(account, id, u32::try_from(number % 100).expect("it is small") + 1).await
    }

    async fn settle(&mut self, account: String, request_id: String, generated: u32) -> Result<(), tonic::Status> {
        let usage = Some(api::Usage { prompt_tokens: 1_000, cached_tokens: 0, generated_tokens: generated });
        let hold = Some(api::Hold { account, request_id, attempt: 0 });
        let settled = self.client.settle(api::SettleRequest { hold, usage, ..Default::default() }).await;
        let mut book = self.book.lock().expect("nobody panics while writing");
        match settled {
            Ok(settled) => {
                let ended = settled.into_inner().ended.expect("an end");
                book.settled += ended.cost.parse::<Decimal>().expect("USD");
                Ok(())
            }
            Err(error) => {
                book.unsure += Decimal::new(150_000 + 600 * i64::from(generated), 9);
                Err(error)
            }
        }
    }
}
