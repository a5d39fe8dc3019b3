//! Users and their caps, as messages of our own API.

use std::collections::HashMap;

use super::messages::usd;
use super::terms::{NONE, credit, invalid};
use crate::decision::Credit;
use crate::decision::users::{UserCaps, UserGroup};
use crate::reconcile::accounts::FieldFault;
use crate::reconcile::accounts::users::{CapOrigin, UserLine};
use crate::transport::proto::tollgate as api;
use crate::transport::status::faults::Faults;

/// What a change of terms says of users.
pub(super) struct Change {
    pub default: Option<String>,
    pub groups: HashMap<String, api::UserGroupChange>,
    pub remove_groups: Vec<String>,
    pub overrides: HashMap<String, String>,
}

/// `caps` with the change made, as far as it is without fault; nothing is kept where nobody has a cap.
pub(super) fn changed(caps: Option<Box<UserCaps>>, change: Change, faults: &mut Faults) -> Option<Box<UserCaps>> {
    let mut caps = caps.unwrap_or_default();
    if let Some(usd) = change.default {
        caps.default = faults.take(cap("terms.user_cap_default", &usd)).flatten();
    }
    for name in change.remove_groups {
        if caps.groups.remove(name.as_str()).is_none() {
            faults.add("terms.remove_user_groups", format!("there is no group {name:?}"));
        }
    }
    for (name, change) in change.groups {
        let group = changed_group(&name, caps.groups.remove(name.as_str()), change);
        caps.groups.extend(faults.take(group).map(|group| (Box::from(name), group)));
    }
    for (user, usd) in change.overrides {
        let Some(cap) = faults.take(cap("terms.user_cap_overrides", &usd)) else { continue };
        match cap {
            Some(cap) => caps.overrides.insert(user.into(), cap),
            None => caps.overrides.remove(user.as_str()),
        };
    }
    (!caps.is_empty()).then_some(caps)
}

fn changed_group(name: &str, group: Option<UserGroup>, change: api::UserGroupChange) -> Result<UserGroup, FieldFault> {
    let field = "terms.user_groups";
    let cap = change.cap.map(|usd| credit(field, &usd)).transpose()?;
    let Some(cap) = cap.or(group.as_ref().map(|group| group.cap)) else {
        return Err(invalid(field, format!("{name:?} is new and has no cap; send one")));
    };
    let mut members = group.map(|group| group.members).unwrap_or_default();
    for user in change.remove_members {
        if !members.remove(user.as_str()) {
            return Err(invalid(field, format!("{user:?} is no member of {name:?}")));
        }
    }
    members.extend(change.add_members.into_iter().map(Box::from));
    Ok(UserGroup { cap, members })
}

fn cap(field: &'static str, usd: &str) -> Result<Option<Credit>, FieldFault> {
    if usd == NONE { Ok(None) } else { credit(field, usd).map(Some) }
}

pub(super) fn caps_message(caps: UserCaps) -> api::UserCaps {
    let group = |group: UserGroup| api::UserGroup {
        cap: usd(group.cap),
        members: group.members.into_iter().map(String::from).collect(),
    };
    api::UserCaps {
        default_cap: caps.default.map(usd),
        groups: caps.groups.into_iter().map(|(name, members)| (name.into(), group(members))).collect(),
        overrides: caps.overrides.into_iter().map(|(user, cap)| (user.into(), usd(cap))).collect(),
    }
}

pub(super) fn user_message(line: UserLine) -> api::User {
    let (cap, origin) = line.cap.unzip();
    let (source, group) = match origin {
        None => (api::CapSource::Unspecified, String::new()),
        Some(CapOrigin::Override) => (api::CapSource::Override, String::new()),
        Some(CapOrigin::Group(name)) => (api::CapSource::Group, name.into()),
        Some(CapOrigin::Default) => (api::CapSource::Default, String::new()),
    };
    api::User {
        user: line.user.to_string(),
        cap: cap.map(usd),
        cap_source: source.into(),
        group,
        month_used: usd(line.month_used),
        leased: usd(line.leased),
    }
}
