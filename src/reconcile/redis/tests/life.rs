//! Minutes of two sidecars over the scripts, with a clock that is told: a limit grows, and a reservation is shared.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::super::Redis;
use super::super::accounts::arguments;
use super::super::address::Address;
use super::super::connection::Connection;
use super::super::scripts::Script;
use super::call::{CLOCK, PATIENCE};
use super::server::Server;
use crate::clock::{Now, Time, UnixMs};
use crate::decision::catalogue::FIREWORKS_2026_10;
use crate::decision::terms::{Mode, Terms, Tier};
use crate::decision::{Ask, Catalogue, Credit, Prompt, RequestId, ServiceTier, Usage};
use crate::ledger::{Checked, Ledger, LedgerSettings, Verdict};
use crate::pool::SessionId;
use crate::reconcile::embedded::Rules;
use crate::reconcile::store::Store;

const MODEL: &str = "kimi-k3";
/// 2026-10-05T14:40:00Z.
const START: u64 = 1_791_211_200_000;

struct World {
    now: Now,
    ledgers: Vec<Ledger>,
    store: Redis,
    set_time: Script,
    runtime: Runtime,
    asked: u128,
}

impl World {
    fn new(server: &Server, terms: Terms) -> Self {
        let mut catalogue = Catalogue::parse(FIREWORKS_2026_10).unwrap();
        catalogue.rates.start = [1_000_000; 3];
        let catalogue = Arc::new(catalogue);
        let ledger = |run| {
            let session = SessionId { node: "node".into(), run };
            Ledger::new(settings(), Arc::clone(&catalogue), session)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = Connection::to(&Address::parse(&server.url()).unwrap(), PATIENCE).unwrap();
        let mut world = Self {
            now: Now { time: Time::from_nanos(1 << 40), unix: UnixMs(START) },
            ledgers: (1..=2).map(ledger).collect(),
            store: Redis::with_clock(connection, "life", &Rules::default(), CLOCK),
            set_time: Script::of(&["redis.call('SET', 'test-now', ARGV[1])"]),
            runtime,
            asked: 0,
        };
        world.pass(Duration::ZERO);
        world.runtime.block_on(world.store.create_account("acme".into(), terms)).unwrap();
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let args = arguments([&self.now.unix.0.to_string()]);
        self.runtime.block_on(self.store.run(self.store.call(&self.set_time, "", args))).unwrap();
        for ledger in 0..self.ledgers.len() {
            self.round(ledger);
        }
    }

    fn round(&self, ledger: usize) {
        let ledger = &self.ledgers[ledger];
        let messages = ledger.collect(self.now, 10);
        let replies = self.runtime.block_on(self.store.exchange(messages)).unwrap();
        let steps = ledger.proposals(&replies, self.now);
        self.runtime.block_on(self.store.propose(steps)).unwrap();
        ledger.apply(replies, self.now, self.now);
    }

    /// Asks and settles; the limit of uncached prompt tokens that the answer told.
    fn run(&mut self, ledger: usize, prompt: u64) -> u64 {
        self.asked += 1;
        let ask = Ask {
            account: "acme",
            user: None,
            model: MODEL,
            service_tier: ServiceTier::Standard,
            prompt: Prompt::Tokens(prompt),
            cached_tokens_hint: None,
            max_tokens: Some(1),
            n: 1,
            request_id: RequestId { digest: self.asked, attempt: 0 },
            deadline: None,
            capped: false,
        };
        for _ in 0..5 {
            let Checked::Answered(answer) = self.ledgers[ledger].check(&ask, self.now) else {
                self.round(ledger);
                continue;
            };
            assert!(matches!(answer.verdict, Verdict::Admitted(_)), "{:?}", answer.verdict);
            let usage = Usage { prompt, cached: 0, generated: 0 };
            self.ledgers[ledger].settle("acme", ask.request_id, usage, None, self.now).unwrap();
            return answer.limits.unwrap().tokens.unwrap()[1].limit.per_minute;
        }
        panic!("no answer");
    }

    /// So many requests of 10,000 tokens within a minute, which is $0.03 each.
    fn minute(&mut self, requests: u32) -> u64 {
        let mut limit = 0;
        for request in 0..requests {
            limit = self.run(request as usize % 2, 10_000);
            self.pass(Duration::from_secs(40) / requests);
        }
        let left = 60_000 - self.now.unix.0 % 60_000;
        self.pass(Duration::from_millis(left - 2_000));
        self.pass(Duration::from_millis(2_500));
        limit
    }

    fn used(&self) -> Credit {
        self.runtime.block_on(self.store.account("acme".into())).unwrap().used
    }
}

fn settings() -> LedgerSettings {
    let second = Duration::from_secs(1);
    LedgerSettings {
        workers: 1,
        accounts_max: 8,
        holds_max: 1_000,
        ended_max: 1_000,
        ended_keep: second,
        hold_life: 60 * second,
        hold_life_max: 60 * second,
        unknown_max: 8,
        unknown_keep: second,
        sync_every: second / 5,
        idle_bye: 3_600 * second,
    }
}

fn contract() -> Terms {
    Terms {
        mode: Mode::Contract,
        payment_method: true,
        tier_override: Some(Tier::Unlimited),
        credit_line: Credit::from_nanos(1_000_000_000_000),
        ..Terms::default()
    }
}

#[test]
fn a_limit_grows_after_a_quarter_of_an_hour_in_use() {
    let server = Server::start();
    let mut world = World::new(&server, contract());
    let told: Vec<u64> = (0..17).map(|_| world.minute(51)).collect();
    assert_eq!((told[0], told[14], told[16]), (1_000_000, 1_000_000, 1_250_000), "{told:?}");
}

#[test]
fn a_reservation_pays_for_its_part_of_each_minute() {
    let server = Server::start();
    let usd = |usd: i64| Credit::from_nanos(usd * 1_000_000_000);
    let terms = Terms { reserved: [(MODEL.into(), usd(10))].into(), ..contract() };
    let mut world = World::new(&server, terms.clone());
    world.minute(2);
    // $9.90, $12, and $12 with a reservation of $4.
    assert_eq!((world.minute(330), world.used()), (4_333_333, Credit::ZERO));
    world.minute(400);
    assert_eq!(world.used(), usd(2));
    let terms = Terms { reserved: [(MODEL.into(), usd(4))].into(), ..terms };
    world.runtime.block_on(world.store.configure("acme".into(), 1, terms)).unwrap();
    world.ledgers.iter().for_each(|ledger| assert!(ledger.touch("acme", world.now)));
    (0..3).for_each(|_| world.pass(Duration::from_secs(1)));
    world.minute(200);
    assert_eq!(world.used(), usd(4));
    assert_eq!(world.runtime.block_on(world.store.audit()).unwrap().drifted.len(), 0);
}
