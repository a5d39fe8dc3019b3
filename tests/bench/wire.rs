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
const STEADY: u64 = 20_000;
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
    let [redis, embedded, ratio] = cpu_of([(&redis, &redis.address), (&embedded, &embedded.address)]);
    println!(
        "check over TCP, {OVER_REDIS} accounts, saturated: {redis:.2} us over Redis, {embedded:.2} us embedded, {ratio:.2}x"
    );
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
        let [own, others, ratio] = cpu_of([(&this, addresses[0]), (&other, addresses[1])]);
        println!("check over {name}, saturated: {own:.2} us by this build, {others:.2} us by the other, {ratio:.2}x");
    }
}

/// CPU microseconds per request of two sidecars that are saturated in turn at these addresses, and the ratio of the first to
/// the second.
fn cpu_of(sidecars: [(&Sidecar, &str); 2]) -> [f64; 3] {
    let mut figures = [(); 2].map(|()| Vec::new());
    for round in 0..ROUNDS {
        for offset in 0..2 {
            let turn = (round + offset) % 2;
            let (sidecar, address) = sidecars[turn];
            figures[turn].push(saturated(&sidecar.process, &sidecar.keys, address).cpu_us);
        }
    }
    let [first, second] = figures;
    let ratios = first.iter().zip(&second).map(|(first, second)| first / second).collect();
    [median(first), median(second), median(ratios)]
}

/// As many checks as the server can answer, the accounts in turn.
fn saturated(server: &Process, keys: &[String], address: &str) -> Served {
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
