//! What a check costs: CPU per request and ratios, all sides measured in one run.
//!
//! `cargo bench` runs everything; `cargo bench --bench tollgate -- wire` (or `redis`, `envoy`, `start`) runs one part, and
//! `-- saturate tcp` (or `unix`) one long run to look at with a profiler; `-- against BINARY` compares with another build, and
//! `-- redis-million` loads a million accounts, `-- redis-million 1000` so many a second.
//! Machines are shared and noisy: trust the ratios to the no-logic server, which is measured in the same rounds, and not the
//! times. That server is what one gets without further thought: tonic, Envoy's types, the system's allocator.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod baseline;
mod flood;
mod load;
mod machine;
mod median;
mod message;
mod million;
mod redis;
mod sidecar;
mod start;
mod through_envoy;
mod wire;

use median::median;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["baseline", listen] => baseline::serve(listen),
        ["saturate", socket] => wire::saturate(socket),
        ["against", binary] => wire::against(binary),
        ["redis-million"] => million::measure(million::LOADING),
        ["redis-million", rate] => million::measure(rate.parse().expect("first checks a second")),
        parts => {
            println!("machine: {}", machine::name());
            let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
            if wanted("redis") {
                redis::measure();
            }
            if wanted("start") {
                start::measure();
            }
            if wanted("wire") {
                wire::measure();
            }
            if wanted("envoy") {
                through_envoy::measure();
            }
        }
    }
}
