//! A check over gRPC: the sidecar with the whole law against the server with none, saturated and at a fixed rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::baseline;
use crate::load::{self, Pace, Plan};
use crate::machine::{self, Process};
use crate::median;
use crate::message::Template;
use crate::sidecar::Sidecar;

const ACCOUNTS: usize = 10_000;
const ROUNDS: usize = 5;
const SATURATED: Pace = Pace::Closed { streams: 16 };
const STEADY: Pace = Pace::Open { rate: 20_000 };

struct Target {
    name: &'static str,
    address: String,
    server: usize,
    cpu_us: Vec<f64>,
    p99_us: Vec<f64>,
}

pub fn measure() {
    machine::pin_self(1);
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let sidecar = Sidecar::start("0", folder.path(), ACCOUNTS);
    let baseline_tcp = machine::free_address();
    let baseline_unix = format!("unix:{}", folder.path().join("baseline.sock").display());
    let servers = [baseline::start(&baseline_tcp), baseline::start(&baseline_unix), sidecar.process];
    let target = |name, address, server| Target { name, address, server, cpu_us: Vec::new(), p99_us: Vec::new() };
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
            target.cpu_us.push(cpu_per_request(server, &sidecar.keys, &target.address, SATURATED));
            target.p99_us.push(run(server, &sidecar.keys, &target.address, STEADY).1);
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
        let base = cpu_per_request(&baseline, &sidecar.keys, &address, SATURATED);
        let cpu = cpu_per_request(&sidecar.process, &sidecar.keys, ours, SATURATED);
        println!("{cpu:.2} us against {base:.2} us: {:.2}x", cpu / base);
    }
}

/// A check of leased accounts over Redis against the same over the embedded store: CPU of the sidecar alone.
pub fn over_redis(url: &str) {
    machine::pin_self(1);
    let folders = [(); 2].map(|()| tempfile::tempdir_in("/dev/shm").expect("a folder in memory"));
    let embedded = Sidecar::start("0", folders[0].path(), ACCOUNTS);
    let redis = Sidecar::with_store("0", folders[1].path(), url, ACCOUNTS);
    let [redis, embedded, ratio] = cpu_of([(&redis, &redis.address), (&embedded, &embedded.address)]);
    println!(
        "check over TCP, {ACCOUNTS} accounts, saturated: {redis:.2} us over Redis, {embedded:.2} us embedded, {ratio:.2}x"
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
            figures[turn].push(cpu_per_request(&sidecar.process, &sidecar.keys, address, SATURATED));
        }
    }
    let [first, second] = figures;
    let ratios = first.iter().zip(&second).map(|(first, second)| first / second).collect();
    [median(first), median(second), median(ratios)]
}

fn cpu_per_request(server: &Process, keys: &[String], address: &str, pace: Pace) -> f64 {
    run(server, keys, address, pace).0
}

/// CPU microseconds per request, and the 99th percentile of latency in microseconds.
fn run(server: &Process, keys: &[String], address: &str, pace: Pace) -> (f64, f64) {
    let template = Template::new(&keys[0]);
    let keys: Vec<String> = keys.to_vec();
    let count = keys.len() as u64;
    let plan = Plan {
        target: address.to_owned(),
        path: "/envoy.service.auth.v3.Authorization/Check",
        headers: vec![("te", "trailers".to_owned()), ("content-type", "application/grpc".to_owned())],
        connections: 4,
        pace,
        warmup: warmup_of(pace),
        duration: Duration::from_secs(3),
        body: Box::new(move |number| template.render(&keys[(number % count) as usize], unique())),
        varying: Box::new(|_| None),
        is_right: is_admitted,
    };
    let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
    let seen = load::run(plan, || before = server.cpu(), || after = server.cpu());
    assert!(seen.wrong == 0, "{address}: {} of {} answers were not OK", seen.wrong, seen.answered);
    ((after - before).as_secs_f64() * 1e6 / seen.answered as f64, seen.quantile_us(0.99))
}

/// At a fixed rate, long enough for the holds of a saturated run before it to end.
const fn warmup_of(pace: Pace) -> Duration {
    match pace {
        Pace::Closed { .. } => Duration::from_millis(1_500),
        Pace::Open { .. } => Duration::from_secs(3),
    }
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
    println!("{:<24} {:>10} {:>8} {:>10} {:>8}", "server", "CPU us", "ratio", "p99 us", "ratio");
    for target in targets {
        let ratio = |mine: &[f64], theirs: &[f64]| median(mine.iter().zip(theirs).map(|(a, b)| a / b).collect());
        println!(
            "{:<24} {:>10.2} {:>7.2}x {:>10.0} {:>7.2}x",
            target.name,
            median(target.cpu_us.clone()),
            ratio(&target.cpu_us, &base.cpu_us),
            median(target.p99_us.clone()),
            ratio(&target.p99_us, &base.p99_us),
        );
    }
}
