//! From `exec` to ready, and how large the binary is.

use std::time::{Duration, Instant};

use crate::machine;
use crate::median;

const STARTS: usize = 11;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn measure() {
    let binary = env!("CARGO_BIN_EXE_tollgate");
    let bytes = std::fs::metadata(binary).expect("the binary was built").len();
    let millis = (0..STARTS).map(|_| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [main, operators, http] = machine::free_addresses();
        let store = folder.path().join("store.redb").display().to_string();
        let words =
            ["serve", "--listen", &main, "--listen-accounts", &operators, "--listen-http", &http, "--store", &store];
        let before = Instant::now();
        let mut child = std::process::Command::new(binary)
            .args(words)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        machine::wait_until(Duration::from_secs(10), || is_ready(&http));
        let millis = before.elapsed().as_secs_f64() * 1e3;
        child.kill().and_then(|()| child.wait()).expect("a child can be stopped");
        millis
    });
    let millis = median(millis.collect());
    println!("\nstart to ready: {millis:.1} ms (median of {STARTS}); binary: {:.1} MB", bytes as f64 / 1e6);
}

fn is_ready(http: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(http) else { return false };
    let mut answer = String::new();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
