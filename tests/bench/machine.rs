//! Processes on this machine: started on a core, waited for, accounted for, stopped by their own id.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process on core 0; it is stopped when this is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` pinned to `core` and waits until `target` (`host:port` or `unix:/path`) accepts connections.
    pub fn start(core: &str, command: &[String], target: &str) -> Self {
        let child = Command::new("taskset")
            .args(["-c", core])
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("taskset of util-linux starts the command");
        let process = Self { child };
        wait_until(Duration::from_secs(20), || accepts(target));
        process
    }

    /// Memory that it has now, in MB of a million bytes.
    pub fn rss_mb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024 / 1_000_000
    }

    /// CPU time of all its threads so far, of those that ended too; in steps of ten milliseconds.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 1_000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("a killed child can be waited for");
        }
    }
}

/// Polls until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "a benchmark waits for a real process")]
pub fn wait_until(patience: Duration, condition: impl Fn() -> bool) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "it did not come about within {patience:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether something accepts connections at `host:port` or `unix:/path`.
pub fn accepts(target: &str) -> bool {
    match target.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).is_ok(),
        None => TcpStream::connect(target).is_ok(),
    }
}

/// A loopback address that is free now.
pub fn free_address() -> String {
    let [address] = free_addresses();
    address
}

/// As many different ones.
pub fn free_addresses<const N: usize>() -> [String; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener has an address").to_string())
}

/// Keeps this process on one core, so that load and server do not share one.
pub fn pin_self(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).expect("this machine has that core");
}

/// How busy the other processes of the machine were, in cores, is not ours to know; the machine names itself.
pub fn name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} cores,{}", model.trim_start_matches(['\t', ':']))
}
