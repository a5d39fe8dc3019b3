//! An account's terms as a person types them and reads them.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::history::kind_name;
use super::output::{Sheet, Table, Value, grouped};
use super::users::{UserTerms, cap_rows};
use crate::transport::proto::tollgate::{
    Account, AlertPercents, FailurePolicy, Lot, Mode, ReclaimMode, Suspension, TermsChange, Tier, TokenLimits, TopUp,
};

/// Terms to set; what is not named stays as it is.
#[derive(Args, Debug, Default)]
pub struct Terms {
    /// How the account pays: prepaid stops at zero, postpaid and contract may owe up to their credit line
    #[arg(long, value_parser = word(["prepaid", "postpaid", "contract"], |name| Mode::from_str_name(&tagged("MODE", name))))]
    mode: Option<Mode>,
    /// A payment method is on file
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false", require_equals = true)]
    payment_method: Option<bool>,
    /// A billing profile is on file
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false", require_equals = true)]
    billing_profile: Option<bool>,
    /// The most to use in a month, or "none"
    #[arg(long, value_name = "USD|none", allow_negative_numbers = true)]
    monthly_limit: Option<String>,
    /// Announce these percents of the monthly limit, each once a month; "none", or "usual" for the usual ones
    #[arg(long, value_name = "PERCENT,…|none|usual", value_parser = alerts)]
    alert_at: Option<Alerts>,
    /// How far the balance may fall below zero
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    credit_line: Option<String>,
    /// Auto top-up: buy when what is available falls to this
    #[arg(long, value_name = "USD", allow_negative_numbers = true, requires = "top_up_amount")]
    top_up_minimum: Option<String>,
    /// Auto top-up: buy so much at once
    #[arg(long, value_name = "USD", allow_negative_numbers = true, requires = "top_up_minimum")]
    top_up_amount: Option<String>,
    /// Auto top-up: buy no more than this in a month
    #[arg(long, value_name = "USD", allow_negative_numbers = true, requires = "top_up_amount")]
    top_up_monthly_cap: Option<String>,
    /// Turn auto top-up off
    #[arg(long, conflicts_with = "top_up_amount")]
    no_top_up: bool,
    /// Tell others when what is available falls to this, or "none"
    #[arg(long, value_name = "USD|none", allow_negative_numbers = true)]
    balance_alert: Option<String>,
    /// The tier, whatever was paid; "derived" follows what was paid
    #[arg(long, value_parser = word(TIERS, |name| Tier::from_str_name(&tagged("TIER", name))))]
    tier: Option<Tier>,
    /// Why all requests are denied
    #[arg(long, value_parser = word(["none", "failed_payments", "abuse"], |name| {
        Suspension::from_str_name(&tagged("SUSPENSION", name))
    }))]
    suspension: Option<Suspension>,
    /// What requests see when the store is away and the lease has ended
    #[arg(long, value_parser = word(["closed", "allowance", "open"], |name| {
        FailurePolicy::from_str_name(&tagged("FAILURE_POLICY", name))
    }))]
    failure_policy: Option<FailurePolicy>,
    /// What becomes of credit lent to a sidecar that died
    #[arg(long, value_parser = word(["limbo", "return"], |name| ReclaimMode::from_str_name(&tagged("RECLAIM_MODE", name))))]
    reclaim: Option<ReclaimMode>,
    /// Decide and count, but never deny
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false", require_equals = true)]
    shadow: Option<bool>,
    /// Fixed tokens per minute for a model in place of the adaptive limit; "NAME:fast" for its fast limits
    #[arg(long, value_name = "MODEL=PROMPT,UNCACHED,GENERATED", value_parser = limit)]
    limit: Vec<(String, TokenLimits)>,
    /// Back to the adaptive limit for a model
    #[arg(long, value_name = "MODEL")]
    no_limit: Vec<String>,
    /// Reserve throughput of a model: paid for each minute, used or lost; "NAME:fast" for its fast service tier
    #[arg(long, value_name = "MODEL=USD", value_parser = reserved)]
    reserve: Vec<(String, String)>,
    /// End a reservation
    #[arg(long, value_name = "MODEL")]
    no_reserve: Vec<String>,
    #[command(flatten)]
    users: UserTerms,
}

/// Alerts of the monthly limit: an account's own, or the usual ones.
#[derive(Clone, Debug)]
enum Alerts {
    Own(Vec<u32>),
    Usual,
}

const TIERS: [&str; 7] = ["derived", "none", "one", "two", "three", "four", "unlimited"];

/// A name of an enum in the proto: `MODE_PREPAID`.
fn tagged(tag: &str, name: &str) -> String {
    let name = if name == "derived" { "unspecified" } else { name };
    format!("{tag}_{}", name.to_uppercase())
}

/// One of `names`, as the value that `read` gives for it.
fn word<T: Clone + Send + Sync + 'static>(
    names: impl IntoIterator<Item = &'static str>,
    read: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).map(move |name| read(&name).expect("only listed names pass"))
}

fn alerts(text: &str) -> Result<Alerts, String> {
    let wrong = |_| format!("write percents as in 50,80,100, or none, or usual; not {text:?}");
    match text {
        "usual" => Ok(Alerts::Usual),
        "none" => Ok(Alerts::Own(Vec::new())),
        percents => {
            let percents = percents.split(',').map(|percent| percent.trim().parse()).collect::<Result<_, _>>();
            percents.map(Alerts::Own).map_err(wrong)
        }
    }
}

fn reserved(text: &str) -> Result<(String, String), String> {
    let (model, usd) =
        text.rsplit_once('=').ok_or_else(|| format!("write MODEL=USD, as in kimi-k3=10; not {text:?}"))?;
    Ok((model.to_owned(), usd.to_owned()))
}

fn limit(text: &str) -> Result<(String, TokenLimits), String> {
    let wrong =
        || format!("write MODEL=PROMPT,UNCACHED,GENERATED, as in gpt-oss-120b=3600000,900000,36000; not {text:?}");
    let (model, numbers) = text.rsplit_once('=').ok_or_else(wrong)?;
    let numbers: Vec<u64> =
        numbers.split(',').map(|number| number.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    let [prompt, uncached_prompt, generated] = numbers[..] else { return Err(wrong()) };
    Ok((model.to_owned(), TokenLimits { prompt, uncached_prompt, generated }))
}

impl Terms {
    /// The change on the wire.
    pub fn change(&self) -> TermsChange {
        let top_up = self.top_up_amount.as_ref().zip(self.top_up_minimum.as_ref());
        TermsChange {
            mode: self.mode.map(Into::into),
            suspension: self.suspension.map(Into::into),
            payment_method: self.payment_method,
            billing_profile: self.billing_profile,
            tier_override: self.tier.map(Into::into),
            monthly_limit: self.monthly_limit.clone(),
            credit_line: self.credit_line.clone(),
            top_up: top_up.map(|(amount, minimum)| TopUp {
                minimum: minimum.clone(),
                amount: amount.clone(),
                monthly_cap: self.top_up_monthly_cap.clone(),
            }),
            remove_top_up: self.no_top_up,
            balance_alert: self.balance_alert.clone(),
            failure_policy: self.failure_policy.map(Into::into),
            reclaim_mode: self.reclaim.map(Into::into),
            shadow: self.shadow,
            custom_limits: self.limit.iter().cloned().collect(),
            remove_custom_limits: self.no_limit.clone(),
            alert_percents: match &self.alert_at {
                Some(Alerts::Own(percents)) => Some(AlertPercents { percents: percents.clone() }),
                Some(Alerts::Usual) | None => None,
            },
            reserved: self.reserve.iter().cloned().collect(),
            remove_reserved: self.no_reserve.clone(),
            remove_alert_percents: matches!(self.alert_at, Some(Alerts::Usual)),
            ..self.users.change()
        }
    }
}

/// The flag that sets a field of a request; what no flag of terms sets stays as it is.
pub fn as_typed(field: &str) -> String {
    let Some(term) = field.strip_prefix("terms.") else { return field.to_owned() };
    let flag = match term {
        "tier_override" => "tier",
        "reclaim_mode" => "reclaim",
        "custom_limits" => "limit",
        "reserved" => "reserve",
        "alert_percents" => "alert-at",
        "user_cap_default" => "user-cap",
        "user_cap_overrides" => "user-cap-of",
        "user_groups" => "user-group",
        "remove_user_groups" => "no-user-group",
        same => return format!("--{}", same.replace(['.', '_'], "-")),
    };
    format!("--{flag}")
}

/// An account, money first.
pub fn sheet(account: &Account) -> Sheet {
    let mut sheet = Sheet::new(account.account.clone());
    sheet.unsaid("account", Value::text(&account.account));
    sheet.unsaid("version", Value::Count(account.version));
    money_rows(&mut sheet, account);
    term_rows(&mut sheet, account);
    for (model, limits) in &account.custom_limits {
        sheet.row("custom limit", Value::text(format!("{model}: {}", triple(limits))));
    }
    account.user_caps.iter().for_each(|caps| cap_rows(&mut sheet, caps));
    for (model, usd) in &account.reserved {
        sheet.row("reserved", Value::text(format!("{model}: ${usd} a minute, used or lost")));
    }
    sheet.row("created", Value::text(&account.created_at));
    sheet.table(lots(account));
    sheet
}

fn money_rows(sheet: &mut Sheet, account: &Account) {
    sheet.row("balance", Value::usd(&account.balance));
    sheet.row("credits given", Value::usd(&account.credits_promotional));
    sheet.row("credits bought", Value::usd(&account.credits_purchased));
    sheet.row("used", Value::usd(&account.used));
    sheet.row("used this month", Value::usd(&account.month_used));
    sheet.row_if("monthly limit", account.month_limit.as_deref().map(Value::usd));
    sheet.row_if("alerts at", account.alert_percents.as_ref().map(|alerts| Value::text(percents(alerts))));
    sheet.row("credit line", Value::usd(&account.credit_line));
    sheet.row("leased", Value::usd(&account.leased));
    if account.limbo != "0" {
        sheet.row("of that in limbo", Value::usd(&account.limbo));
    }
}

/// What came in and what is left of it, in the order in which usage takes from it.
fn lots(account: &Account) -> Table {
    let row = |lot: &Lot| vec![Value::text(kind_name(lot.kind())), Value::usd(&lot.amount), Value::usd(&lot.left)];
    Table { name: "lots", columns: &["lot", "credits", "left"], rows: account.lots.iter().map(row).collect() }
}

fn term_rows(sheet: &mut Sheet, account: &Account) {
    sheet.row("mode", Value::text(mode(account)));
    sheet.row("payment method", Value::Flag(account.payment_method));
    sheet.row("billing profile", Value::Flag(account.billing_profile));
    sheet.row("counts for tier", Value::usd(&account.lifetime_paid));
    let tier = untagged(account.tier().as_str_name(), "TIER_");
    let origin = if account.tier_override() == Tier::Unspecified { "" } else { ", set by an operator" };
    sheet.row("tier", Value::text(format!("{tier}{origin}")));
    if account.suspension() > Suspension::None {
        sheet.row("suspended", Value::text(untagged(account.suspension().as_str_name(), "SUSPENSION_")));
    }
    sheet.row("auto top-up", Value::text(account.top_up.as_ref().map_or("off".into(), top_up)));
    sheet.row_if("balance alert", account.balance_alert.as_deref().map(Value::usd));
    sheet.row_if("top-up pending", account.topup_pending.as_deref().map(Value::text));
    sheet.row("failure policy", Value::text(untagged(account.failure_policy().as_str_name(), "FAILURE_POLICY_")));
    sheet.row("reclaim mode", Value::text(untagged(account.reclaim_mode().as_str_name(), "RECLAIM_MODE_")));
    if account.shadow {
        sheet.row("shadow", Value::text("yes: decides and counts, never denies"));
    }
}

pub fn mode(account: &Account) -> String {
    untagged(account.mode().as_str_name(), "MODE_")
}

/// `MODE_PREPAID` as `prepaid`.
pub fn untagged(name: &str, tag: &str) -> String {
    name.trim_start_matches(tag).to_lowercase()
}

fn top_up(top_up: &TopUp) -> String {
    let cap = top_up.monthly_cap.as_ref().map_or(String::new(), |cap| format!(", no more than ${cap} a month"));
    format!("${} whenever ${} or less is available{cap}", top_up.amount, top_up.minimum)
}

fn percents(alerts: &AlertPercents) -> String {
    let percents: Vec<String> = alerts.percents.iter().map(|percent| format!("{percent} %")).collect();
    if percents.is_empty() { "none".into() } else { percents.join(", ") }
}

fn triple(limits: &TokenLimits) -> String {
    let [prompt, uncached, generated] = [limits.prompt, limits.uncached_prompt, limits.generated].map(grouped);
    format!("{prompt} prompt, {uncached} uncached, {generated} generated tokens a minute")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as the Accounts port names them where they are at fault.
    const FIELDS: [&str; 18] = [
        "terms.mode",
        "terms.suspension",
        "terms.tier_override",
        "terms.monthly_limit",
        "terms.alert_percents",
        "terms.credit_line",
        "terms.top_up.minimum",
        "terms.top_up.amount",
        "terms.top_up.monthly_cap",
        "terms.balance_alert",
        "terms.failure_policy",
        "terms.reclaim_mode",
        "terms.custom_limits",
        "terms.reserved",
        "terms.user_cap_default",
        "terms.user_cap_overrides",
        "terms.user_groups",
        "terms.remove_user_groups",
    ];

    #[test]
    fn a_field_at_fault_is_named_by_the_flag_that_sets_it() {
        let command = Terms::augment_args(clap::Command::new("set"));
        for field in FIELDS {
            let flag = as_typed(field);
            let is_there = command.get_arguments().any(|arg| Some(&flag[2..]) == arg.get_long());
            assert!(is_there, "{field}: no {flag}");
        }
        assert_eq!(as_typed("amount"), "amount");
    }
}
