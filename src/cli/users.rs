//! Users of an account: their caps as a person sets them, and the table of who spent what.

use std::collections::HashMap;

use clap::Args;

use super::output::{Sheet, Value, table};
use crate::transport::proto::tollgate::{CapSource, TermsChange, User, UserCaps, UserGroupChange};

/// Caps to set; what is not named stays as it is.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Spend caps of users, by month")]
pub struct UserTerms {
    /// For each user whom nothing else names, or "none"
    #[arg(long, value_name = "USD|none", allow_negative_numbers = true)]
    user_cap: Option<String>,
    /// For one user, whatever groups and default say, or "none"
    #[arg(long, value_name = "USER=USD|none", value_parser = |text: &str| pair(text, "USER=USD, as in alice=25", str::rsplit_once))]
    user_cap_of: Vec<(String, String)>,
    /// For each member of a group; makes the group where there is none
    #[arg(long, value_name = "GROUP=USD", value_parser = |text: &str| pair(text, "GROUP=USD, as in research=50", str::rsplit_once))]
    user_group: Vec<(String, String)>,
    /// Add a user to a group
    #[arg(long, value_name = "GROUP=USER", value_parser = |text: &str| pair(text, MEMBER, str::split_once))]
    user_group_add: Vec<(String, String)>,
    /// Take a user out of a group
    #[arg(long, value_name = "GROUP=USER", value_parser = |text: &str| pair(text, MEMBER, str::split_once))]
    user_group_remove: Vec<(String, String)>,
    /// Remove a group
    #[arg(long, value_name = "GROUP")]
    no_user_group: Vec<String>,
}

const MEMBER: &str = "GROUP=USER, as in research=alice";

/// Two names with an equals sign between, where `split` finds it.
fn pair(
    text: &str,
    form: &str,
    split: for<'a> fn(&'a str, char) -> Option<(&'a str, &'a str)>,
) -> Result<(String, String), String> {
    let (one, other) = split(text, '=').ok_or_else(|| format!("write {form}; not {text:?}"))?;
    Ok((one.to_owned(), other.to_owned()))
}

impl UserTerms {
    /// The change on the wire; of other terms it says nothing.
    pub fn change(&self) -> TermsChange {
        let mut groups: HashMap<String, UserGroupChange> = HashMap::new();
        for (name, usd) in &self.user_group {
            groups.entry(name.clone()).or_default().cap = Some(usd.clone());
        }
        for (name, user) in &self.user_group_add {
            groups.entry(name.clone()).or_default().add_members.push(user.clone());
        }
        for (name, user) in &self.user_group_remove {
            groups.entry(name.clone()).or_default().remove_members.push(user.clone());
        }
        TermsChange {
            user_cap_default: self.user_cap.clone(),
            user_groups: groups,
            remove_user_groups: self.no_user_group.clone(),
            user_cap_overrides: self.user_cap_of.iter().cloned().collect(),
            ..TermsChange::default()
        }
    }
}

/// An account's caps, in a few rows.
pub fn cap_rows(sheet: &mut Sheet, caps: &UserCaps) {
    sheet.row_if("cap of each user", caps.default_cap.as_deref().map(Value::usd));
    let mut groups: Vec<_> = caps.groups.iter().collect();
    groups.sort_unstable_by_key(|(name, _)| name.as_str());
    for (name, group) in groups {
        let members = match group.members.len() {
            1 => "1 member".to_owned(),
            count => format!("{count} members"),
        };
        sheet.row("user group", Value::text(format!("{name}: ${} for each of {members}", group.cap)));
    }
    if !caps.overrides.is_empty() {
        sheet.row("users with a cap of their own", Value::Count(caps.overrides.len().try_into().unwrap_or(u64::MAX)));
    }
}

pub fn user_list(users: &[User], json: bool) -> String {
    if json {
        return users.iter().map(|user| user_sheet(user).render(true)).collect();
    }
    if users.is_empty() {
        return "No user has a cap and spent anything, and the account's terms name none.\n".into();
    }
    let rows: Vec<Vec<Value>> = users.iter().map(user_row).collect();
    table(&["user", "spent this month", "cap", "from"], &rows)
}

fn user_row(user: &User) -> Vec<Value> {
    vec![
        Value::text(&user.user),
        Value::usd(&user.month_used),
        user.cap.as_ref().map_or_else(|| Value::text("none"), Value::usd),
        Value::text(source(user)),
    ]
}

fn user_sheet(user: &User) -> Sheet {
    let mut sheet = Sheet::new(&user.user);
    sheet.row("user", Value::text(&user.user));
    sheet.row("month used", Value::usd(&user.month_used));
    sheet.row_if("cap", user.cap.as_ref().map(Value::usd));
    sheet.row("cap source", Value::text(source(user)));
    sheet.row("leased", Value::usd(&user.leased));
    sheet
}

fn source(user: &User) -> String {
    match user.cap_source() {
        CapSource::Unspecified => String::new(),
        CapSource::Override => "override".into(),
        CapSource::Group => format!("group {}", user.group),
        CapSource::Default => "default".into(),
    }
}
