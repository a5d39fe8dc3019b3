//! What operators do with accounts: validated, durable before it is acknowledged, and felt here at once.

use std::fmt;
use std::sync::Arc;

use super::Rounds;
use super::keys::{Keys, digest_of};
use super::store::{AccountRecord, CreditKind, History, KeyRecord, Leased, Page, Papers, Purchase, Store, StoreError};
use crate::clock::Clock;
use crate::decision::reserved::RESERVED_MAX;
use crate::decision::terms::{ALERTS_MAX, Mode, Terms};
use crate::decision::{Catalogue, Credit, RateKey};
use crate::ledger::Ledger;

#[cfg(test)]
mod tests;
pub mod users;

/// The operators' door to accounts, keys and credits.
pub struct Accounts {
    pub store: Arc<dyn Store>,
    pub catalogue: Arc<Catalogue>,
    pub ledger: Arc<Ledger>,
    pub rounds: Arc<Rounds>,
    pub keys: Arc<Keys>,
    pub clock: Clock,
}

/// Why an operation on an account was not done. Nothing was half done.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error("{}", lines(.0))]
    Invalid(Vec<FieldFault>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness for a key: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// What is wrong with one field, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// As in `terms.monthly_limit`.
    pub field: &'static str,
    pub message: String,
}

/// A key at its creation: the only time that it can be read.
#[derive(Clone)]
pub struct NewKey {
    pub key: String,
    pub record: KeyRecord,
}

/// The purchase id of every account's starter credit, so that it is given once.
pub const STARTER_PURCHASE: &str = "starter";

/// Characters in an account's name; it is part of keys and log lines everywhere.
const NAME_MAX: usize = 64;
/// Characters in a purchase id: room for the ids of payment providers.
const PURCHASE_ID_MAX: usize = 128;
/// Characters in a note.
const NOTE_MAX: usize = 500;
/// Characters in a key's label.
const LABEL_MAX: usize = 128;
/// Accounts in one page of a list.
const PAGE_MAX: usize = 1_000;

impl Accounts {
    /// Creates an account, with the catalogue's starter credit if asked for.
    ///
    /// If it fails between the two, the account exists without: add credits with the purchase id `starter`.
    pub async fn create(&self, account: &str, terms: Terms, starter: bool) -> Result<AccountRecord, AccountsError> {
        refuse(self.new_account_faults(account, &terms))?;
        let mut record = self.store.create_account(account.into(), terms).await?;
        if starter && self.catalogue.starter_credit.is_positive() {
            record = self.store.add_credits(self.starter_credit(account)).await?;
        }
        self.changed(account);
        Ok(record)
    }

    pub async fn get(&self, account: &str) -> Result<AccountRecord, AccountsError> {
        refuse(name_faults(account))?;
        Ok(self.store.account(account.into()).await?)
    }

    /// An account and what is lent of it.
    pub async fn inspect(&self, account: &str) -> Result<(AccountRecord, Vec<Leased>), AccountsError> {
        refuse(name_faults(account))?;
        Ok(self.store.inspect(account.into()).await?)
    }

    /// Accounts in order of name, after `after`; at most `max`, and never more than 1,000.
    pub async fn list(&self, after: Option<&str>, max: usize) -> Result<Vec<AccountRecord>, AccountsError> {
        Ok(self.store.accounts(after.map(Into::into), max.min(PAGE_MAX)).await?)
    }

    /// Replaces the terms if they are still at `version`, so that two operators cannot undo each other unawares.
    pub async fn configure(&self, account: &str, version: u64, terms: Terms) -> Result<AccountRecord, AccountsError> {
        refuse(name_faults(account))?;
        let before = self.store.account(account.into()).await?;
        refuse(self.terms_faults(&terms, Some(&before)))?;
        let record = self.store.configure(account.into(), version, terms).await?;
        self.changed(account);
        Ok(record)
    }

    /// Books credits once for each id.
    pub async fn add_credits(&self, purchase: Purchase) -> Result<AccountRecord, AccountsError> {
        let Purchase { account, id, amount, kind, papers } = &purchase;
        refuse(purchase_faults(account, id, Some(*amount), Some(*kind), papers))?;
        let account = purchase.account.clone();
        let record = self.store.add_credits(purchase).await?;
        self.changed(&account);
        Ok(record)
    }

    /// Lines of an account's history; never more than 1,000.
    pub async fn history(&self, account: &str, page: Page) -> Result<History, AccountsError> {
        refuse(name_faults(account))?;
        Ok(self.store.history(account.into(), Page { max: page.max.min(PAGE_MAX), ..page }).await?)
    }

    /// Makes a key for an account. Only its digest is stored: show it now or never.
    pub async fn create_key(&self, account: &str, label: &str) -> Result<NewKey, AccountsError> {
        let mut faults = name_faults(account);
        faults.extend(label_faults(label));
        refuse(faults)?;
        let key = random_key()?;
        let digest = digest_of(&key);
        let record = self.store.create_key(account.into(), digest, label.into()).await?;
        self.keys.forget(&digest);
        Ok(NewKey { key, record })
    }

    pub async fn keys(&self, account: &str) -> Result<Vec<KeyRecord>, AccountsError> {
        refuse(name_faults(account))?;
        Ok(self.store.keys(account.into()).await?)
    }

    /// Ends a key: at once here, within two seconds on every other node.
    pub async fn revoke_key(&self, account: &str, id: &str) -> Result<(), AccountsError> {
        let mut faults = name_faults(account);
        if id.is_empty() {
            faults.push(fault("id", "is missing; it is required"));
        }
        refuse(faults)?;
        let digest = self.store.revoke_key(account.into(), id.into()).await?;
        self.keys.forget(&digest);
        Ok(())
    }

    /// Has this node hear of a change at once; the others hear of it with their next round.
    pub fn changed(&self, account: &str) {
        self.ledger.touch(account, self.clock.now());
        self.rounds.nudge();
    }

    fn starter_credit(&self, account: &str) -> Purchase {
        Purchase {
            account: account.into(),
            id: STARTER_PURCHASE.into(),
            amount: self.catalogue.starter_credit,
            kind: CreditKind::Promotional,
            papers: Papers { note: "starter credit".into(), ..Papers::default() },
        }
    }

    /// What is wrong with an account that is to be made.
    pub fn new_account_faults(&self, account: &str, terms: &Terms) -> Vec<FieldFault> {
        let mut faults = name_faults(account);
        faults.extend(self.terms_faults(terms, None));
        faults
    }

    /// What is wrong with terms that an account is to have next, or to begin with.
    pub fn terms_faults(&self, terms: &Terms, before: Option<&AccountRecord>) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        faults.extend(self.monthly_limit_fault(terms, before));
        faults.extend(alerts_fault(terms));
        faults.extend(credit_line_fault(terms));
        faults.extend(balance_alert_fault(terms));
        faults.extend(top_up_faults(terms));
        faults.extend(users::faults(terms));
        faults.extend(self.reserved_faults(terms));
        for name in terms.custom_limits.keys() {
            if self.catalogue.model_id(name.strip_suffix(":fast").unwrap_or(name)).is_none() {
                let message = format!("{name:?} is no model of the catalogue; write a model's name, or name:fast");
                faults.push(fault("terms.custom_limits", message));
            }
        }
        faults
    }

    fn reserved_faults(&self, terms: &Terms) -> Vec<FieldFault> {
        let is_offered = |name: &str| {
            let (model, fast) = name.strip_suffix(":fast").map_or((name, false), |model| (model, true));
            let key = self.catalogue.model_id(model).map(|model| RateKey { model, fast });
            key.is_some_and(|key| self.catalogue.reserved_tokens(key, RESERVED_MAX) != [0; 3])
        };
        let mut faults = Vec::new();
        for (name, per_minute) in &terms.reserved {
            if !is_offered(name) {
                let message = format!(
                    "{name:?} is no model of the catalogue, or has no fast price; write a model's name, or name:fast"
                );
                faults.push(fault("terms.reserved", message));
            }
            if !per_minute.is_positive() || *per_minute > RESERVED_MAX {
                let message = format!("{name}: must be more than 0 and at most {RESERVED_MAX} a minute");
                faults.push(fault("terms.reserved", message));
            }
        }
        faults
    }

    fn monthly_limit_fault(&self, terms: &Terms, before: Option<&AccountRecord>) -> Option<FieldFault> {
        let limit = terms.monthly_limit?;
        if limit < Credit::ZERO || !limit.usd().is_integer() {
            return Some(fault("terms.monthly_limit", "must be whole USD, 0 or more"));
        }
        // A refund may have lowered the tier below a limit that stays as it is: the tier's is in force then.
        let limits = |terms: &Terms| (terms.monthly_limit, terms.mode);
        if before.is_some_and(|before| limits(&before.terms) == limits(terms)) {
            return None;
        }
        let tier = self.catalogue.tier(terms, before.map_or(Credit::ZERO, |before| before.lifetime_paid));
        let max = self.catalogue.tier_rule(tier).and_then(|rule| rule.monthly_limit_max);
        let above = terms.mode == Mode::Postpaid && max.is_some_and(|max| limit > max);
        let max = max.filter(|_| above)?;
        let message =
            format!("must be at most {max} for a postpaid account of tier {tier:?}; override the tier to raise it");
        Some(fault("terms.monthly_limit", message))
    }
}

/// Who prints a key by accident prints its record.
impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("record", &self.record).finish_non_exhaustive()
    }
}

fn alerts_fault(terms: &Terms) -> Option<FieldFault> {
    let percents = terms.alert_percents.as_ref()?;
    let are_apart = percents.iter().enumerate().all(|(place, percent)| !percents[..place].contains(percent));
    let is_sound =
        are_apart && percents.len() <= ALERTS_MAX && percents.iter().all(|percent| (1..1_000).contains(percent));
    let message = || format!("must be at most {ALERTS_MAX} different percents from 1 to 999");
    (!is_sound).then(|| fault("terms.alert_percents", message()))
}

fn credit_line_fault(terms: &Terms) -> Option<FieldFault> {
    let line = terms.credit_line;
    if line < Credit::ZERO || line > Credit::MAX {
        return Some(fault("terms.credit_line", format!("must be from 0 to {}", Credit::MAX)));
    }
    let unpaid = terms.mode == Mode::Prepaid && line.is_positive();
    unpaid.then(|| fault("terms.credit_line", "must be 0 for a prepaid account; choose postpaid or contract to lend"))
}

fn balance_alert_fault(terms: &Terms) -> Option<FieldFault> {
    let is_bad = terms.balance_alert.is_some_and(|alert| alert < Credit::ZERO || alert > Credit::MAX);
    is_bad.then(|| fault("terms.balance_alert", format!("must be from 0 to {}; \"none\" removes it", Credit::MAX)))
}

fn top_up_faults(terms: &Terms) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    let Some(top_up) = terms.top_up else {
        return faults;
    };
    if !top_up.amount.is_positive() || top_up.amount > Credit::MAX {
        faults.push(fault("terms.top_up.amount", format!("must be more than 0 and at most {}", Credit::MAX)));
    }
    if top_up.minimum < Credit::ZERO || top_up.minimum > Credit::MAX {
        faults.push(fault("terms.top_up.minimum", format!("must be from 0 to {}", Credit::MAX)));
    }
    if top_up.monthly_cap.is_some_and(|cap| cap < top_up.amount) {
        faults.push(fault("terms.top_up.monthly_cap", "must be at least one amount; leave it out for no cap"));
    }
    faults
}

/// What is wrong with the name of an account.
pub fn name_faults(account: &str) -> Vec<FieldFault> {
    let plain = account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && (1..=NAME_MAX).contains(&account.len()) {
        return Vec::new();
    }
    vec![fault("account", format!("must have 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -"))]
}

fn purchase_id_fault(field: &'static str, id: &str) -> Option<FieldFault> {
    let is_fine = id.bytes().all(|byte| byte.is_ascii_graphic()) && (1..=PURCHASE_ID_MAX).contains(&id.len());
    (!is_fine).then(|| fault(field, format!("must have 1 to {PURCHASE_ID_MAX} visible ASCII characters")))
}

/// What is wrong with credits to book; an amount or a kind that could not be read has its fault already.
pub fn purchase_faults(
    account: &str,
    id: &str,
    amount: Option<Credit>,
    kind: Option<CreditKind>,
    Papers { refund_of, reference, note }: &Papers,
) -> Vec<FieldFault> {
    let mut faults = name_faults(account);
    faults.extend(purchase_id_fault("purchase_id", id));
    let is_adjustment = kind == Some(CreditKind::Adjustment);
    if is_adjustment && amount == Some(Credit::ZERO) {
        faults.push(fault("amount", "must not be 0; an adjustment goes up or down"));
    }
    if !is_adjustment && amount.is_some_and(|amount| !amount.is_positive()) {
        faults.push(fault("amount", "must be more than 0; only an adjustment may be less"));
    }
    if kind == Some(CreditKind::Refund) && refund_of.is_empty() {
        faults.push(fault("refund_of", "is missing; send the id of the purchase"));
    } else if kind == Some(CreditKind::Refund) {
        faults.extend(purchase_id_fault("refund_of", refund_of));
    }
    if kind.is_some_and(|kind| kind != CreditKind::Refund) && !refund_of.is_empty() {
        faults.push(fault("refund_of", "must be empty; only a refund has it"));
    }
    if is_adjustment && note.is_empty() {
        faults.push(fault("note", "is missing; say why the balance is adjusted"));
    }
    for (field, text, most) in [("reference", reference, Papers::REFERENCE_MAX), ("note", note, NOTE_MAX)] {
        if text.chars().count() > most || text.chars().any(char::is_control) {
            let message = format!("must have at most {most} characters, none of them a control character");
            faults.push(fault(field, message));
        }
    }
    faults
}

fn label_faults(label: &str) -> Vec<FieldFault> {
    if label.chars().count() <= LABEL_MAX && !label.chars().any(char::is_control) {
        return Vec::new();
    }
    vec![fault("label", format!("must have at most {LABEL_MAX} characters, none of them a control character"))]
}

/// `tg_` and 256 random bits in hex: recognised by secret scanners, and beyond guessing.
fn random_key() -> Result<String, getrandom::Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits)?;
    Ok(bits.iter().fold("tg_".into(), |key, byte| format!("{key}{byte:02x}")))
}

fn fault(field: &'static str, message: impl Into<String>) -> FieldFault {
    FieldFault { field, message: message.into() }
}

fn refuse(faults: Vec<FieldFault>) -> Result<(), AccountsError> {
    if faults.is_empty() { Ok(()) } else { Err(AccountsError::Invalid(faults)) }
}

fn lines(faults: &[FieldFault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    lines.join("\n")
}
