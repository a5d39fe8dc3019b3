//! What the tests stand on: real processes on free ports, a plain HTTP client, and waiting for conditions.

pub mod envoy;
pub mod http;
pub mod payee;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod redises;
pub mod sidecar;
pub mod upstream;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

pub use envoy::Envoy;
pub use http::{Request, Response};
pub use sidecar::Sidecar;
pub use upstream::Upstream;

/// How long a condition may take before the test fails. Far above what any takes; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(20);

/// Waits until `probe` gives something.
pub async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe).await
}

/// Waits until `probe` gives something, and fails where that takes longer than promised.
pub async fn within<T>(promised: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = interval(TICK);
    let begin = Instant::now();
    let found = timeout(PATIENCE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    });
    let found = found.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
    assert!(begin.elapsed() <= promised, "{what}: after {:?}, promised {promised:?}", begin.elapsed());
    found
}

/// A port that nobody listens on. Below the range from which the system takes ports for connections, and begun at
/// another place in every process, so that tests side by side do not meet.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let start = u16::try_from(start).expect("it is below a u16");
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A program that `tests/run` fetched.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join(".tools").join(name);
    assert!(path.exists(), "{} is not there; start the tests with tests/run", path.display());
    path
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
