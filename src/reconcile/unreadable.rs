//! Accounts that a store cannot read. They are asked for again and again, and told once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// More than this are not told one by one.
const TOLD_MAX: usize = 1_000;

/// Which were told since the process began.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<BTreeSet<Arc<str>>>);

impl Unreadable {
    pub fn tell(&self, account: &Arc<str>, detail: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(Arc::clone(account)) {
            tracing::error!(
                %account,
                detail,
                "an account cannot be read: it is damaged, or another version of the program wrote it; nobody can use it \
                 but by its failure policy, and `tollgate audit` tells of all"
            );
        }
    }
}
