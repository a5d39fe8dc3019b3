//! Users with a spend cap: each has a pool of its own, which lends what the cap leaves of the month, and nothing else.
//!
//! It is made for the first message about it, follows the same law as an account's pool, and tells nobody of anything.
//! Nobody pays into it: a request needs rights of the account as well. Its cap comes with the messages; the one of the
//! newest terms counts.

use std::sync::Arc;

use super::account::Pool;
use super::message::{Refusal, SyncRequest, UserCap};
use super::rules::PoolRules;
use crate::clock::UnixMs;
use crate::decision::Credit;
use crate::decision::terms::{Mode, Terms, Tier};

/// Stands between account and user in the name of a user's pool. No account's name has it.
const MARK: char = '/';

/// The name of a user's pool.
pub fn pool_of_user(account: &str, user: &str) -> String {
    format!("{account}{MARK}{user}")
}

/// The account that a pool, or a user's pool, belongs to.
pub fn account_of(pool: &str) -> &str {
    pool.split_once(MARK).map_or(pool, |(account, _)| account)
}

/// Whose pool it is, where it is a user's.
pub fn user_of(pool: &str) -> Option<&str> {
    pool.split_once(MARK).map(|(_, user)| user)
}

/// The user's name, if this is the pool of one of `account`'s users.
pub fn user_in<'a>(pool: &'a str, account: &str) -> Option<&'a str> {
    pool.strip_prefix(account)?.strip_prefix(MARK)
}

impl Pool {
    /// The pool of a user of whom nothing was heard yet, `name` as [`pool_of_user`] gives it.
    pub fn of_user(name: Arc<str>, rules: &PoolRules, now: UnixMs) -> Self {
        // Credit without end, so that the cap alone counts: it is the limit of the month.
        let terms = Terms {
            mode: Mode::Postpaid,
            credit_line: Credit::MAX,
            monthly_limit: Some(Credit::ZERO),
            ..Terms::default()
        };
        Self { terms_version: 0, tier: Tier::None, limit_max: None, ..Self::new(name, terms, rules, now) }
    }

    pub(super) fn is_user(&self) -> bool {
        user_of(&self.account).is_some()
    }

    /// A cap comes with every message about a user, and with no other.
    pub(super) fn check_cap(&self, request: &SyncRequest) -> Result<(), Refusal> {
        let is_cap = |cap: UserCap| (Credit::ZERO..=Credit::MAX).contains(&cap.limit);
        let fits = if self.is_user() { request.cap.is_some_and(is_cap) } else { request.cap.is_none() };
        if fits { Ok(()) } else { Err(Refusal::Malformed("cap")) }
    }

    /// Takes the cap of terms that are not older than those that were heard of.
    pub(super) fn take_cap(&mut self, request: &SyncRequest) {
        let Some(cap) = request.cap.filter(|_| self.terms_version <= request.terms_known) else { return };
        self.terms_version = request.terms_known;
        let (monthly_limit, reclaim_mode) = (Some(cap.limit), cap.reclaim_mode);
        if (self.terms.monthly_limit, self.terms.reclaim_mode) != (monthly_limit, reclaim_mode) {
            let terms = Arc::make_mut(&mut self.terms);
            (terms.monthly_limit, terms.reclaim_mode) = (monthly_limit, reclaim_mode);
        }
    }
}
