//! The users of an account: what may be configured of their caps, and what each has spent of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Accounts, AccountsError, FieldFault, PAGE_MAX, fault};
use crate::decision::Credit;
use crate::decision::terms::Terms;
use crate::decision::users::{CapSource, UserCaps};
use crate::reconcile::store::UserRecord;

/// Bytes in a user's name, as requests may carry it.
const USER_MAX: usize = 128;
/// Characters in a group's name.
const GROUP_MAX: usize = 64;
/// Groups of one account: each is looked through for a request of a user without an override.
const GROUPS_MAX: usize = 64;
/// Members of all groups, and overrides: they are told to every sidecar with each change of the account's terms.
const NAMED_MAX: usize = 4_096;

/// A user as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLine {
    pub user: Arc<str>,
    /// The cap in force and where it comes from; `None` for somebody who had one and has none any more.
    pub cap: Option<(Credit, CapOrigin)>,
    /// Spent in this month, as far as it was reported. What was spent without a cap is not counted by user.
    pub month_used: Credit,
    /// Lent to sidecars and not yet reported as spent.
    pub leased: Credit,
}

/// As [`CapSource`], to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapOrigin {
    Override,
    Group(Box<str>),
    Default,
}

impl Accounts {
    /// Users in order of name, after `after`, at most `max` and never more than 1,000: those whom an override or a group
    /// names, and those who spent under a cap lately.
    pub async fn users(&self, account: &str, after: &str, max: usize) -> Result<Vec<UserLine>, AccountsError> {
        let max = max.min(PAGE_MAX);
        let terms = self.store.account(account.into()).await?.terms;
        let caps = terms.user_caps.as_deref().cloned().unwrap_or_default();
        let known = self.store.users(account.into(), after.into(), max).await?;
        let mut users: BTreeMap<Arc<str>, UserRecord> =
            known.into_iter().map(|record| (Arc::clone(&record.user), record)).collect();
        // Beyond the last that was read there may be more, so nobody after it is told of yet.
        let last = users.keys().next_back().filter(|_| users.len() == max).cloned();
        let named = caps.named().into_iter().filter(|user| after < *user);
        for user in named.filter(|user| last.as_deref().is_none_or(|last| *user < last)) {
            users.entry(user.into()).or_insert_with_key(|user| UserRecord::idle(Arc::clone(user)));
        }
        Ok(users.into_values().take(max).map(|record| line(&caps, record)).collect())
    }
}

fn line(caps: &UserCaps, record: UserRecord) -> UserLine {
    let UserRecord { user, month_used, leased } = record;
    let cap = caps.with_source(&user).map(|(cap, source)| {
        let origin = match source {
            CapSource::Override => CapOrigin::Override,
            CapSource::Group(name) => CapOrigin::Group(name.into()),
            CapSource::Default => CapOrigin::Default,
        };
        (cap, origin)
    });
    UserLine { user, cap, month_used, leased }
}

/// What is wrong with an account's caps.
pub(super) fn faults(terms: &Terms) -> Vec<FieldFault> {
    let Some(caps) = terms.user_caps.as_deref() else { return Vec::new() };
    let mut faults = Vec::new();
    let is_amount = |cap: &Credit| (Credit::ZERO..=Credit::MAX).contains(cap);
    let amount = format!("must be from 0 to {}", Credit::MAX);
    if !caps.default.iter().all(is_amount) {
        faults.push(fault("terms.user_cap_default", amount.clone()));
    }
    if let Some((name, _)) = caps.groups.iter().find(|(_, group)| !is_amount(&group.cap)) {
        faults.push(fault("terms.user_groups", format!("the cap of {name:?} {amount}")));
    }
    if let Some((name, _)) = caps.overrides.iter().find(|(_, cap)| !is_amount(cap)) {
        faults.push(fault("terms.user_cap_overrides", format!("the cap of {name:?} {amount}")));
    }
    if caps.groups.len() > GROUPS_MAX {
        faults.push(fault("terms.user_groups", format!("must be at most {GROUPS_MAX}, not {}", caps.groups.len())));
    }
    let is_plain = |name: &str, max: usize| (1..=max).contains(&name.len()) && !name.contains(char::is_control);
    if let Some(name) = caps.groups.keys().find(|name| !is_plain(name, GROUP_MAX)) {
        let message = format!("{name:?} is no name; write 1 to {GROUP_MAX} bytes without control characters");
        faults.push(fault("terms.user_groups", message));
    }
    let no_name = |name: &str| format!("{name:?} is no user; write 1 to {USER_MAX} bytes without control characters");
    let members: BTreeSet<&str> = caps.groups.values().flat_map(|group| &group.members).map(|name| &**name).collect();
    if let Some(name) = members.iter().find(|name| !is_plain(name, USER_MAX)) {
        faults.push(fault("terms.user_groups", no_name(name)));
    }
    if let Some(name) = caps.overrides.keys().find(|name| !is_plain(name, USER_MAX)) {
        faults.push(fault("terms.user_cap_overrides", no_name(name)));
    }
    let named = caps.groups.values().map(|group| group.members.len()).sum::<usize>() + caps.overrides.len();
    if named > NAMED_MAX {
        let message = format!("members and overrides must be at most {NAMED_MAX} in all, not {named}; use the default");
        faults.push(fault("terms.user_groups", message));
    }
    faults
}
