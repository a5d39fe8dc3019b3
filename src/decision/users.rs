//! Spend caps of an account's users: what each may spend in a month, and which of several caps is in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::credit::Credit;

/// The caps of an account's users. Who belongs to a group is configured here, so no request can choose its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCaps {
    /// For users that neither an override nor a group names; none if `None`.
    pub default: Option<Credit>,
    pub groups: BTreeMap<Box<str>, UserGroup>,
    pub overrides: BTreeMap<Box<str>, Credit>,
}

/// Users with a cap in common: each of them may spend so much, they do not share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserGroup {
    pub cap: Credit,
    pub members: BTreeSet<Box<str>>,
}

/// Where the cap in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapSource<'a> {
    Override,
    Group(&'a str),
    Default,
}

impl UserCaps {
    /// The cap in force: the override, else the highest of the user's groups, even below the default, else the default.
    pub fn in_force(&self, user: &str) -> Option<Credit> {
        self.overrides.get(user).copied().or_else(|| self.highest_group(user).map(|(cap, _)| cap)).or(self.default)
    }

    /// As [`UserCaps::in_force`], and where it comes from; of groups with the same cap, the first by name.
    pub fn with_source(&self, user: &str) -> Option<(Credit, CapSource<'_>)> {
        if let Some(cap) = self.overrides.get(user) {
            return Some((*cap, CapSource::Override));
        }
        let group = self.highest_group(user).map(|(cap, name)| (cap, CapSource::Group(name)));
        group.or(self.default.map(|cap| (cap, CapSource::Default)))
    }

    /// No user has a cap.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.groups.is_empty() && self.overrides.is_empty()
    }

    /// Everybody that an override or a group names.
    pub fn named(&self) -> BTreeSet<&str> {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.chain(self.overrides.keys()).map(|user| &**user).collect()
    }

    fn highest_group(&self, user: &str) -> Option<(Credit, &str)> {
        let groups = self.groups.iter().filter(|(_, group)| group.members.contains(user));
        // The last of equals is the greatest, so the order is turned round.
        groups.rev().map(|(name, group)| (group.cap, &**name)).max_by_key(|(cap, _)| *cap)
    }
}
