//! What is wrong with the fields of a request: gathered, and told all at once.

use std::fmt::Write as _;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::failure::DOMAIN;
use crate::reconcile::accounts::FieldFault;

/// Faults of one request, each with the path of its field as in the proto.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldViolation>);

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(FieldViolation::new(field, why));
    }

    /// A required field that is not there.
    pub fn missing(&mut self, field: &str) {
        self.add(field, "is missing; it is required");
    }

    /// What was read; where it is at fault, that is noted.
    pub fn take<T>(&mut self, read: Result<T, FieldFault>) -> Option<T> {
        read.map_err(|fault| self.add(fault.field, fault.message)).ok()
    }

    /// Faults that somebody else found in the same request.
    pub fn join(&mut self, others: Vec<FieldFault>) {
        others.into_iter().for_each(|fault| self.add(fault.field, fault.message));
    }

    /// As [`Faults::join`], where the field on which they depend is without fault itself.
    pub fn join_beside(&mut self, field: &str, others: Vec<FieldFault>) {
        if !self.0.iter().any(|fault| fault.field == field) {
            self.join(others);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the call where there is any.
    pub fn refuse(self) -> Result<(), Status> {
        if self.is_empty() { Ok(()) } else { Err(self.status()) }
    }

    /// As [`Faults::refuse`], where the fields stand in the field `outer`.
    pub fn refuse_inside(mut self, outer: &str) -> Result<(), Status> {
        self.0.iter_mut().for_each(|fault| fault.field = format!("{outer}.{}", fault.field));
        self.refuse()
    }

    /// One line for each, and the same as `google.rpc.BadRequest`.
    pub fn status(self) -> Status {
        let mut lines = String::new();
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(lines, "{separator}{}: {}", fault.field, fault.description).expect("a String takes everything");
        }
        let mut details = ErrorDetails::with_bad_request(self.0);
        details.set_error_info("INVALID_REQUEST", DOMAIN, std::collections::HashMap::new());
        Status::with_error_details(Code::InvalidArgument, lines, details)
    }
}
