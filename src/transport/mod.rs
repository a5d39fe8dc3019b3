//! The wire: the only room that knows protobuf, tonic and HTTP.
//!
//! A translation and nothing more. The main port (TCP, or a unix socket) answers Envoy's checks and our own Admission;
//! the accounts port is for operators alone; the HTTP port has the probes and the metrics page. A denial leaves here as
//! an answer, a failure as a status; `status` has the one table of both.

pub mod accounts;
mod admission;
mod body;
mod calls;
mod connection;
mod envoy;
pub mod headers;
pub mod http;
pub mod identity;
pub mod proto;
mod request_id;
pub mod serve;
pub mod settings;
pub mod status;
mod unvectored;
pub mod wire;

#[cfg(test)]
mod tests;
