//! Envoy's external authorization: a check read into an ask, an answer written as Envoy wants it.

mod answer;
mod ask;
mod call;
mod check;
mod fields;

#[cfg(test)]
mod tests;

pub use call::{CHECK, answer};
