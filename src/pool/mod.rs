//! The shared truth, as law: what one account has, what is lent of it, and how sessions and pool agree.
//!
//! Pure and synchronous. It is the embedded store, the model that other stores are tested against, and the store of the
//! simulation.
//!
//! What always holds, for every account, with `K = credits in + credit line`:
//! `leased = sum(G - A - R - C)` over the session records, every term `>= 0`; `used = sum(A) + retired`; and a grant
//! leaves `used + leased <= K`. An account's balance is the sum of its history, less usage that no line tells of yet.
#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "money and tokens: every step that could wrap, round or panic is spelled out"
)]

mod account;
mod announce;
mod audit;
mod credits;
mod history;
pub mod message;
mod month;
mod rate;
mod reap;
mod rules;
mod session;
mod sync;
mod topup;
mod user;
mod when;

#[cfg(test)]
mod tests;

pub use account::{Leased, Oddities, Pool, Summary};
pub use audit::{Audit, Drift};
pub use credits::{CreditKind, Credits, Lot};
pub use history::{Booking, Entry, LATE_WAIT, Papers, Receipt, Sums, money_changes};
pub use message::{Message, Refusal, Reply, SessionId, SyncReply, SyncRequest};
pub use rate::RatePool;
pub use rules::{PoolRules, RateRules};
pub use user::{account_of, pool_of_user, user_in, user_of};
