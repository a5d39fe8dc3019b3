//! The scripts on a real server, held against the law in Rust: call by call, every reply and the whole state.

mod buckets;
mod call;
mod dice;
mod difference;
mod guest;
mod server;
mod state;
mod tenant;
