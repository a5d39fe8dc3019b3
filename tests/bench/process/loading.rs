//! How long checks of accounts in use take while a million others load, and how long the machine itself stands still: the
//! two take turns and as much time each, so that the machine's own pauses meet both as often.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::clock::Clock;
use tollgate::decision::RequestId;
use tollgate::ledger::Ledger;

use crate::{STEP, USAGE, World, ask, is_admitted, name, resident_bytes};

const ACCOUNTS: usize = 1_000_000;
const KNOWN: usize = 1_000;
/// Messages in one exchange, as the rounds of a sidecar have.
const BATCH: usize = 256;

/// What was seen of one kind of step.
#[derive(Default)]
struct Steps {
    nanos: Vec<u32>,
    long: usize,
    spent: Duration,
}

pub fn measure() {
    let mut world = World::new(ACCOUNTS, false);
    let known: Vec<String> = (0..KNOWN).map(name).collect();
    load(&mut world, &known);
    let (ledger, is_loaded) = (Arc::clone(&world.ledger), Arc::new(AtomicBool::new(false)));
    let has_ended = Arc::clone(&is_loaded);
    let checking = thread::spawn(move || check_until(&ledger, &known, &has_ended));
    for first in (KNOWN..ACCOUNTS).step_by(STEP) {
        let names: Vec<String> = (first..(first + STEP).min(ACCOUNTS)).map(name).collect();
        load(&mut world, &names);
    }
    is_loaded.store(true, Ordering::Relaxed);
    let (mut checks, mut pauses, unanswered) = checking.join().expect("the checks end");
    println!(
        "\n{ACCOUNTS} accounts loading beside checks of {KNOWN} in use, {} MB afterwards",
        resident_bytes() / 1_000_000
    );
    checks.tell("check and settle");
    pauses.tell("counting to 1,000");
    println!("  {unanswered} checks waited for a round");
}

/// Asks for these accounts and brings them, in rounds as a sidecar has them.
fn load(world: &mut World, names: &[String]) {
    world.now = Clock.now();
    for name in names {
        assert!(world.ledger.want(name, world.now), "there is room for every account");
    }
    while world.exchange(BATCH) {
        world.now = Clock.now();
    }
}

/// Checks, and after each check counts until both have taken as long in all, which shows what the machine adds.
fn check_until(ledger: &Ledger, known: &[String], has_ended: &AtomicBool) -> (Steps, Steps, usize) {
    let (mut checks, mut pauses, mut unanswered) = (Steps::default(), Steps::default(), 0);
    for (digest, name) in (1_u128..).zip(known.iter().cycle()) {
        if has_ended.load(Ordering::Relaxed) {
            break;
        }
        let id = RequestId { digest: digest.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), attempt: 1 };
        let now = Clock.now();
        let admitted = checks.time(|| {
            let admitted = is_admitted(ledger.check(&ask(name, id), now));
            if admitted {
                ledger.settle(name, id, USAGE, None, now).expect("the hold was opened a moment ago");
            }
            admitted
        });
        unanswered += usize::from(!admitted);
        while pauses.spent < checks.spent {
            pauses.time(|| (0..1_000).for_each(|number| _ = black_box(number)));
        }
    }
    (checks, pauses, unanswered)
}

impl Steps {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn time<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = step();
        let took = began.elapsed();
        self.nanos.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        self.long += usize::from(took > Duration::from_millis(5));
        self.spent += took;
        done
    }

    fn tell(&mut self, what: &str) {
        self.nanos.sort_unstable();
        let at = |share: usize| f64::from(self.nanos[(self.nanos.len() - 1) * share / 10_000]) / 1e3;
        println!(
            "  {what}: {} times, p50 {:.1} us, p99.99 {:.0} us, slowest {:.0} us, {} above 5 ms",
            self.nanos.len(),
            at(5_000),
            at(9_999),
            at(10_000),
            self.long
        );
    }
}
