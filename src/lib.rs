//! Tollgate answers one question for every LLM inference request, from memory: *may it run?*
//!
//! Read the rooms in this order; `ARCHITECTURE.md` has the whole picture.

pub mod clock;
pub mod fields;
pub mod telemetry;

pub mod decision;
pub mod ledger;
pub mod pool;

pub mod cashier;
pub mod gate;
pub mod reconcile;

pub mod transport;

pub mod cli;
pub mod config;
