//! What a check costs: CPU per request and ratios, all sides measured in one run.
//!
//! `cargo bench` runs everything; `cargo bench -- wire` (or `process`, `envoy`, `start`) runs one part. Machines are shared and
//! noisy: trust the ratios to the no-logic server, which is measured in the same rounds, and not the times.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod baseline;
mod load;
mod machine;
mod message;
mod process;
mod sidecar;
mod start;
mod through_envoy;
mod wire;

/// As in the binary that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["baseline", listen] => baseline::serve(listen),
        ["saturate", socket] => wire::saturate(socket),
        ["memory", state, accounts] => process::print_resident_bytes(state, accounts),
        parts => {
            println!("machine: {}", machine::name());
            let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
            if wanted("process") {
                process::measure();
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

/// The middle one of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
