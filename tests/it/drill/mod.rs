//! The contract, proven on real processes while Redis, sidecars and the network between them fail.
//!
//! `cargo test --test it drill -- --nocapture | grep '^|'` prints one line for each drill: what was done, what requests saw,
//! how far spending went beyond all credits, how far it may, and what the audit says. `DRILL_FREEZE_SECONDS=30`
//! freezes Redis for that long.

mod failures;
mod load;
mod network;
mod policies;
mod sharing;

use std::time::Duration;

use rust_decimal::Decimal;
use tollgate::transport::proto::tollgate as api;

use crate::harness::redis::Redis;
use crate::harness::{Sidecar, eventually};
use crate::lifecycle::tireless;
use load::Load;

const ACCOUNTS: usize = 4;
/// Between two requests of one caller.
const PACE: Duration = Duration::from_millis(4);
/// As many milliseconds as a sidecar waits for the pool by default.
const HURRIED: &str = "check.pool_wait = \"50ms\"";
const NO_CREDIT: [api::Reason; 2] = [api::Reason::CreditsDepleted, api::Reason::ExceedsBalance];

/// Sidecars that share accounts.
struct Scene {
    sidecars: Vec<Sidecar>,
    accounts: Vec<String>,
    credits: Decimal,
}

/// How a drill ended.
struct Reckoning {
    used: Decimal,
    leased: Decimal,
    limbo: Decimal,
    overspend: Decimal,
    audit: String,
}

impl Scene {
    /// One sidecar for each of `stores`, and accounts with `usd` each.
    async fn on(stores: &[String], usd: &str) -> Self {
        Self::with(ACCOUNTS, stores, usd).await
    }

    async fn with(accounts: usize, stores: &[String], usd: &str) -> Self {
        let mut sidecars = Vec::new();
        for store in stores {
            sidecars.push(Sidecar::on_with(store, HURRIED).await);
        }
        let accounts: Vec<String> = (0..accounts).map(|number| format!("a{number}")).collect();
        for account in &accounts {
            sidecars[0].account(account, tireless(), usd).await;
        }
        let credits = usd.parse::<Decimal>().expect("USD") * Decimal::from(accounts.len());
        Self { sidecars, accounts, credits }
    }

    async fn load(&self, round: &str) -> Load {
        Load::on(&self.sidecars, &self.accounts, round, PACE).await
    }

    /// Goes on until nobody admits anything for lack of credit, then has every sidecar say goodbye, and reads the books.
    async fn spend_up(&mut self, load: &mut Load, redis: &Redis) -> Reckoning {
        let alive: Vec<usize> =
            (0..self.sidecars.len()).filter(|place| self.sidecars[*place].program.ended().is_none()).collect();
        load.ends_in(&alive, &NO_CREDIT, ACCOUNTS).await;
        self.end(load, redis).await
    }

    /// Has every sidecar say goodbye, and reads the books.
    async fn end(&mut self, load: &mut Load, redis: &Redis) -> Reckoning {
        load.stop().await;
        for sidecar in &mut self.sidecars {
            if sidecar.program.ended().is_none() {
                sidecar.program.signal("TERM");
                assert!(sidecar.program.end().await.success(), "it says goodbye");
            }
        }
        let audit = audit(&redis.url());
        let reader = Sidecar::on(&redis.url()).await;
        let sums = sums(&reader, &self.accounts).await;
        Reckoning { overspend: (sums.used - self.credits).max(Decimal::ZERO), audit, ..sums }
    }
}

/// What the store says of all accounts together.
async fn sums(reader: &Sidecar, accounts: &[String]) -> Reckoning {
    let zero = Decimal::ZERO;
    let mut sums = Reckoning { used: zero, leased: zero, limbo: zero, overspend: zero, audit: String::new() };
    let usd = |text: &str| text.parse::<Decimal>().expect("USD");
    for account in accounts {
        let account = eventually("an account", async || reader.try_look_up(account).await).await;
        sums.used += usd(&account.used);
        sums.leased += usd(&account.leased);
        sums.limbo += usd(&account.limbo);
    }
    sums
}

/// What `tollgate audit` says; it must find nothing.
fn audit(store: &str) -> String {
    let (code, said) = crate::audit::audit(store);
    assert_eq!(code, 0, "{said}");
    said.trim().to_owned()
}

/// One line of the report.
fn tell(drill: &str, seen: &str, reckoning: &Reckoning, bound: &str) {
    let Reckoning { overspend, audit, .. } = reckoning;
    println!("| {drill:<34} | {seen:<74} | {:>12} | {bound:<22} | {audit} |", format!("${}", overspend.normalize()));
}
