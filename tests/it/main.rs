//! The whole, from outside: the real binary between a real Envoy, a real Prometheus, an OpenAI SDK and gRPC clients.
//!
//! `tests/run` fetches what these need. Nothing here waits for time, only for conditions.

mod harness;

mod accounts;
mod admission;
mod audit;
mod cashier;
mod checks;
mod configuration;
mod demo;
mod drill;
mod embedded;
mod errors;
mod garbage;
mod history;
mod life;
mod lifecycle;
mod metrics;
mod operator;
mod rates;
mod reasons;
mod redis;
mod sdk;
mod servers;
mod trouble;
mod users;
