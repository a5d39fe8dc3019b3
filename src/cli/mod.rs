//! What a person types: each subcommand a thin call to a running sidecar or to its store, and what they see.

pub mod account;
pub mod admit;
mod ask;
pub mod audit;
pub mod client;
pub mod demo;
mod history;
mod output;
mod standing;
mod terms;
mod users;
mod watch;
mod why;

pub use client::CliError;

/// 128 random bits in hex: a request or purchase id where none was named.
fn random_id() -> Result<String, CliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
