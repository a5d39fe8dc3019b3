//! The scripts on a real server, held against the law in Rust: call by call, every reply and the whole state.
#![allow(clippy::cast_possible_truncation, reason = "small random numbers")]

mod buckets;
mod call;
mod catalogue;
mod chance;
mod compare;
mod dice;
mod difference;
mod guest;
mod history;
mod life;
mod mutants;
mod outbox;
mod purchases;
mod replaced;
mod server;
mod state;
mod tenant;
