//! A check over gRPC: the sidecar with the whole law against the server with none, saturated and at a fixed rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::baseline;
use crate::flood::{self, Calls, Served};
use crate::load::{self, Plan};
use crate::machine::{self, Process};
use crate::median;
use crate::message::Template;
use crate::sidecar::Sidecar;

const ACCOUNTS: usize = 10_000;
/// Accounts that the same Redis serves meanwhile: with all of [`ACCOUNTS`] busy every second, it would take the core that it
/// shares from the load, and most of the sidecar's work would be waiting for it.
const OVER_REDIS: usize = 1_000;
const ROUNDS: usize = 5;
/// Two builds or stores that differ by a few hundredths are told apart by many short turns on a machine that is shared.
const TURNS: usize = 15;
const STEADY: u64 = 20_000;
/// Checks a second that leave a Redis server room on the load's core. Saturated, what it takes there leaves the sidecar idle
/// now and then, and a check that wakes it costs more than one of many.
const EASY: u64 = 30_000;
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

struct Target {
    name: &'static str,
    address: String,
    server: usize,
    cpu_us: Vec<f64>,
    busy: Vec<f64>,
    p99_us: Vec<f64>,
}

pub fn measure() {
    machine::pin_self(1);
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let sidecar = Sidecar::start("0", folder.path(), ACCOUNTS);
    let baseline_tcp = machine::free_address();
    let baseline_unix = format!("unix:{}", folder.path().join("baseline.sock").display());
    let servers = [baseline::start(&baseline_tcp), baseline::start(&baseline_unix), sidecar.process];
    let target = |name, address, server| Target {
        name,
        address,
        server,
        cpu_us: Vec::new(),
        busy: Vec::new(),
        p99_us: Vec::new(),
    };
    let mut targets = [
        target("no logic, TCP", baseline_tcp, 0),
        target("no logic, unix socket", baseline_unix, 1),
        target("tollgate, TCP", sidecar.address.clone(), 2),
        target("tollgate, unix socket", sidecar.socket.clone(), 2),
    ];
    for round in 0..ROUNDS {
        for offset in 0..targets.len() {
            let target = &mut targets[(round + offset) % 4];
            let server = &servers[target.server];
            let served = saturated(server, &sidecar.keys, &target.address);
            target.cpu_us.push(served.cpu_us);
            target.busy.push(served.busy);
            target.p99_us.push(steady_p99_us(&sidecar.keys, &target.address));
        }
    }
    report(&targets);
}

/// The sidecar alone on one socket (`tcp` or `unix`), saturated for long enough to look at it with a profiler; the server
/// without logic now and then, to compare with.
pub fn saturate(socket: &str) {
    machine::pin_self(1);
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let sidecar = Sidecar::start("0", folder.path(), ACCOUNTS);
    let address = machine::free_address();
    let baseline = baseline::start(&address);
    let ours = if socket == "unix" { &sidecar.socket } else { &sidecar.address };
    for _ in 0..5 {
        let base = saturated(&baseline, &sidecar.keys, &address).cpu_us;
        let Served { cpu_us, busy } = saturated(&sidecar.process, &sidecar.keys, ours);
        println!("{cpu_us:.2} us against {base:.2} us: {:.2}x, its core busy for {busy:.2}", cpu_us / base);
    }
}

/// A check of leased accounts over Redis against the same over the embedded store: CPU of the sidecar alone.
pub fn over_redis(url: &str) {
    machine::pin_self(1);
    let folders = [(); 2].map(|()| tempfile::tempdir_in("/dev/shm").expect("a folder in memory"));
    let embedded = Sidecar::start("0", folders[0].path(), OVER_REDIS);
    let redis = Sidecar::with_store("0", folders[1].path(), url, OVER_REDIS);
    for rate in [Some(EASY), None] {
        let how = rate.map_or("saturated".to_owned(), |rate| format!("{rate}/s"));
        let compared = in_turn([(&redis, &redis.address), (&embedded, &embedded.address)], rate);
        println!("check over TCP, {OVER_REDIS} accounts, {how}, Redis against embedded: {compared}");
    }
}

/// This build against another one, whose binary this is: CPU of each alone.
pub fn against(binary: &str) {
    machine::pin_self(1);
    let folders = [(); 2].map(|()| tempfile::tempdir_in("/dev/shm").expect("a folder in memory"));
    let this = Sidecar::start("0", folders[0].path(), ACCOUNTS);
    let store = folders[1].path().join("store.redb").display().to_string();
    let other = Sidecar::of(binary, "0", folders[1].path(), &store, ACCOUNTS);
    for (name, addresses) in [("TCP", [&this.address, &other.address]), ("unix socket", [&this.socket, &other.socket])]
    {
        let compared = in_turn([(&this, addresses[0]), (&other, addresses[1])], None);
        println!("check over {name}, saturated, this build against the other: {compared}");
    }
}

/// CPU per request of two sidecars that are loaded in turn at these addresses, and how the first compares to the second.
fn in_turn(sidecars: [(&Sidecar, &str); 2], rate: Option<u64>) -> String {
    let mut figures = [(); 2].map(|()| Vec::new());
    for round in 0..TURNS {
        for offset in 0..2 {
            let turn = (round + offset) % 2;
            let (sidecar, address) = sidecars[turn];
            figures[turn].push(served(&sidecar.process, &sidecar.keys, address, rate).cpu_us);
        }
    }
    let [first, second] = figures;
    let mut ratios: Vec<f64> = first.iter().zip(&second).map(|(first, second)| first / second).collect();
    ratios.sort_by(f64::total_cmp);
    let [low, middle, high] = [1, 2, 3].map(|quarter| ratios[TURNS * quarter / 4]);
    let [first, second] = [first, second].map(median);
    format!("{first:.2} us, {second:.2} us; {middle:.2}x, half of {TURNS} turns within {low:.2}x to {high:.2}x")
}

/// As many checks as the server can answer, the accounts in turn.
fn saturated(server: &Process, keys: &[String], address: &str) -> Served {
    served(server, keys, address, None)
}

/// As many checks as the server can answer, but `rate` a second at most, the accounts in turn.
fn served(server: &Process, keys: &[String], address: &str, rate: Option<u64>) -> Served {
    let template = Template::new(&keys[0]);
    let body = || {
        let number = unique();
        template.render(&keys[number as usize % keys.len()], number)
    };
    let calls = Calls {
        target: address,
        path: CHECK,
        body: &body,
        is_right: |frame| is_admitted(200, frame),
        rate,
        warmup: Duration::from_millis(1_500),
        duration: Duration::from_secs(3),
    };
    flood::run(server, &calls)
}

/// The 99th percentile of latency at a fixed rate, in microseconds.
fn steady_p99_us(keys: &[String], address: &str) -> f64 {
    let template = Template::new(&keys[0]);
    let keys: Vec<String> = keys.to_vec();
    let count = keys.len() as u64;
    let plan = Plan {
        target: address.to_owned(),
        path: CHECK,
        headers: vec![("te", "trailers".to_owned()), ("content-type", "application/grpc".to_owned())],
        connections: 4,
        rate: STEADY,
        // Long enough for the holds of a saturated run before it to end.
        warmup: Duration::from_secs(3),
        duration: Duration::from_secs(3),
        body: Box::new(move |number| template.render(&keys[(number % count) as usize], unique())),
        varying: Box::new(|_| None),
        is_right: is_admitted,
    };
    let seen = load::run(plan);
    assert!(seen.wrong == 0, "{address}: {} of {} answers were not OK", seen.wrong, seen.answered);
    seen.quantile_us(0.99)
}

/// Request numbers that no earlier run of this process used, so that no ask is a repetition.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A `CheckResponse` inside its gRPC frame that admits: among its fields, all of which are length-delimited, is no
/// `denied_response` (2) and no `error_response` (5).
pub fn is_admitted(status: u16, frame: &[u8]) -> bool {
    let mut rest = frame.get(5..).unwrap_or_default();
    while let Some((&key, after)) = rest.split_first() {
        let mut after = after;
        if matches!(key >> 3, 2 | 5) {
            return false;
        }
        let Ok(length) = prost::encoding::decode_varint(&mut after) else { return false };
        rest = after.get(length as usize..).unwrap_or_default();
    }
    status == 200 && frame.len() >= 5
}

fn report(targets: &[Target; 4]) {
    let base = &targets[0];
    println!(
        "\nCheck over gRPC, {ACCOUNTS} accounts, one core: CPU per request saturated (4 x 16 streams), p99 at 20,000/s"
    );
    println!("{:<24} {:>8} {:>10} {:>8} {:>10} {:>8}", "server", "busy", "CPU us", "ratio", "p99 us", "ratio");
    for target in targets {
        let ratio = |mine: &[f64], theirs: &[f64]| median(mine.iter().zip(theirs).map(|(a, b)| a / b).collect());
        println!(
            "{:<24} {:>7.0}% {:>10.2} {:>7.2}x {:>10.0} {:>7.2}x",
            target.name,
            median(target.busy.clone()) * 100.0,
            median(target.cpu_us.clone()),
            ratio(&target.cpu_us, &base.cpu_us),
            median(target.p99_us.clone()),
            ratio(&target.p99_us, &base.p99_us),
        );
    }
}
