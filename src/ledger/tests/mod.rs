//! The ledger, tested by scripts of events against a real pool, and by properties.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test that overflows or misses fails, as it should"
)]

mod bounds;
mod compact;
mod holds;
mod locks;
mod properties;
mod protocol;
mod scripts;
mod users;
mod words;
mod world;
