//! A million accounts in one sidecar over Redis: its memory, and how long checks take while they load.

use std::thread;
use std::time::Duration;

use redis::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::baseline;
use crate::load::{self, Plan, Seen};
use crate::machine;
use crate::message::Template;
use crate::redis::start;
use crate::sidecar::Sidecar;
use crate::wire::{CHECK, is_admitted, unique};

const ACCOUNTS: u64 = 1_000_000;
/// First checks a second: what a server that shares a fast core with the sidecar can keep up with.
pub const LOADING: u64 = 2_000;
/// Checks a second of accounts that are in use, at the same time.
const KNOWN: u64 = 1_000;
const KNOWN_ACCOUNTS: u64 = 50;
/// As many when all are loaded, and give back what they did not use.
const AFTERWARDS: u64 = 5_000;
/// Checks a second of a server without logic on the same core: what is late there is late because of the machine.
const CONTROL: u64 = 500;
/// A check that takes longer is late.
const LATE: Duration = Duration::from_millis(5);
/// Written in one pipeline.
const PART: u64 = 5_000;

pub fn measure(loading: u64) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    // It lets the sidecar on its core pass first, as if it were elsewhere.
    let (server, at) = start("0", &["nice", "-n10"], folder.path());
    let sidecar = Sidecar::with_store("0", folder.path(), &format!("redis://{at}"), 1);
    machine::pin_self(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    copy_accounts(&runtime, &at);
    println!("{ACCOUNTS} accounts: sidecar {} MB before", sidecar.process.rss_mb());
    let control_at = machine::free_address();
    let _control = baseline::start(&control_at);
    let run = |target: &str, rate, seconds| {
        let plan = plan(target, rate, seconds, |number| number % KNOWN_ACCOUNTS);
        thread::spawn(move || load::run(plan()))
    };
    let meanwhile = ACCOUNTS / loading - 3;
    let (known, control) = (run(&sidecar.address, KNOWN, meanwhile), run(&control_at, CONTROL, meanwhile));
    let loading = plan(&sidecar.address, loading, ACCOUNTS / loading + 1, |number| number % ACCOUNTS);
    let cpu = (sidecar.process.cpu(), server.cpu());
    tell("first checks", &load::run(loading()));
    tell("known accounts meanwhile", &known.join().expect("the load ends"));
    tell("no logic meanwhile", &control.join().expect("the load ends"));
    let (ours, theirs) = (sidecar.process.cpu() - cpu.0, server.cpu() - cpu.1);
    println!("  CPU: sidecar {:.1} s, server {:.1} s", ours.as_secs_f64(), theirs.as_secs_f64());
    println!("  sidecar {} MB, server {} MB", sidecar.process.rss_mb(), server.rss_mb());
    let (known, control) = (run(&sidecar.address, AFTERWARDS, 10), run(&control_at, CONTROL, 10));
    tell("known accounts afterwards", &known.join().expect("the load ends"));
    tell("no logic afterwards", &control.join().expect("the load ends"));
    println!("  sidecar {} MB", sidecar.process.rss_mb());
}

fn tell(what: &str, seen: &Seen) {
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|part| seen.quantile_us(part));
    println!(
        "  {what}: {} checks, {} wrong, p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, slowest {max:.0} us, {} late",
        seen.answered,
        seen.wrong,
        seen.above(LATE),
    );
}

/// A load for another thread to make: what it holds cannot be sent there.
fn plan(target: &str, rate: u64, seconds: u64, account: fn(u64) -> u64) -> impl FnOnce() -> Plan + Send + use<> {
    let target = target.to_owned();
    move || {
        let template = Template::new(&key(0));
        Plan {
            target,
            path: CHECK,
            headers: vec![("te", "trailers".to_owned()), ("content-type", "application/grpc".to_owned())],
            connections: 4,
            rate,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(seconds),
            body: Box::new(move |number| template.render(&key(account(number)), unique())),
            varying: Box::new(|_| None),
            is_right: is_admitted,
        }
    }
}

/// The API key of the account with this number.
fn key(number: u64) -> String {
    format!("key-of-{number:040}")
}

/// Makes a million accounts of the first one's state, as its sidecar would have left them.
fn copy_accounts(runtime: &Runtime, at: &str) {
    let client = redis::Client::open(format!("redis://{at}")).expect("an address");
    runtime.block_on(async {
        let mut connection = client.get_multiplexed_async_connection().await.expect("it listens");
        let mut read = redis::pipe();
        let first = tag("acct-0000000000");
        read.cmd("GET").arg(format!("{first}a:acct-0000000000")).cmd("GET").arg(format!("{first}c:acct-0000000000"));
        let kept: Vec<Vec<u8>> = read.query_async(&mut connection).await.expect("the first account");
        for from in (0..ACCOUNTS).step_by(usize::try_from(PART).expect("a small number")) {
            let mut write = redis::pipe();
            for number in from..from + PART {
                let account = format!("copy-{number:010}");
                let tag = tag(&account);
                write.cmd("SET").arg(format!("{tag}a:{account}")).arg(&kept[0]).ignore();
                write.cmd("SET").arg(format!("{tag}c:{account}")).arg(&kept[1]).ignore();
                let digest: String = Sha256::digest(key(number)).iter().map(|byte| format!("{byte:02x}")).collect();
                write.cmd("SET").arg(format!("tollgate:{{{digest}}}:k")).arg(account).ignore();
            }
            let _written: Value = write.query_async(&mut connection).await.expect("they are written");
        }
    });
}

/// The beginning of an account's keys.
fn tag(account: &str) -> String {
    let crc = account.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    format!("tollgate:{{{}}}:", crc % 1_024)
}
