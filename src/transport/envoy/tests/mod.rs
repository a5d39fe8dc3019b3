//! What Envoy sends and reads, and what becomes of it here.

mod ask;
mod wire;
