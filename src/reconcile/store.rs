//! What a store can do, and how it fails.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::clock::{Clock, UnixMs};
use crate::decision::Credit;
use crate::decision::terms::{Terms, Tier};
pub use crate::pool::message::Happening;
use crate::pool::message::{Event, StepProposal};
pub use crate::pool::{Booking, CreditKind, Entry, Lot, Papers, Receipt};
use crate::pool::{Drift, Message, PoolRules, RateRules, Reply, user_of};

pub use crate::pool::Leased;

/// A boxed future: the trait is used as `dyn Store`.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do as asked. Nothing was half done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    #[error("account {0:?} exists already; choose another name or update it")]
    AccountExists(String),
    #[error("no account {0:?}; create it first")]
    NoSuchAccount(String),
    #[error("account {account:?} is at version {found}, not {expected}; read it again and repeat the change")]
    VersionConflict { account: String, expected: u64, found: u64 },
    #[error(
        "purchase_id: {0:?} was recorded with another amount or kind; an id names one purchase, adjustment or refund"
    )]
    PurchaseDiffers(String),
    #[error("refund_of: no purchase {0:?} of that account; send the id under which it was bought")]
    NoSuchPurchase(String),
    #[error("amount: {left} of purchase {purchase:?} is not refunded yet; send at most that")]
    RefundTooLarge { purchase: String, left: Credit },
    #[error("no key {0:?} of that account")]
    NoSuchKey(String),
    #[error(
        "amount: credits of this kind would not lie between {least} and {most}; more or less an account cannot have",
        least = Credit::ZERO.minus(Credit::MAX),
        most = Credit::MAX
    )]
    TooMuchCredit,
    #[error("the store's data cannot be read: {0}")]
    Corrupt(String),
}

/// The numbers of the pool's law.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub pool: PoolRules,
    pub rate: RateRules,
}

/// Something about a store that an operator should mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Which part of the store: a server's address.
    pub place: String,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// What can be wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Nothing of it answers.
    Unreachable,
    /// A part of it does not answer.
    PartUnreachable,
    /// It wants another password, or grants too few rights.
    Refused,
    /// It may drop accounts to make room.
    Eviction,
    ReadOnly,
    Version,
    /// It keeps nothing on disk.
    Persistence,
    Clock,
    /// It does not let itself be asked.
    Unchecked,
}

impl FaultKind {
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::PartUnreachable,
        Self::Refused,
        Self::Eviction,
        Self::ReadOnly,
        Self::Version,
        Self::Persistence,
        Self::Clock,
        Self::Unchecked,
    ];

    /// As the metric's label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::PartUnreachable => "part_unreachable",
            Self::Refused => "refused",
            Self::Eviction => "eviction",
            Self::ReadOnly => "read_only",
            Self::Version => "version",
            Self::Persistence => "persistence",
            Self::Clock => "clock",
            Self::Unchecked => "unchecked",
        }
    }
}

/// SHA-256 of an API key.
pub type KeyDigest = [u8; 32];

/// An API key as it is listed: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Names the key to its owner: the first characters of its digest, in hex.
    pub id: String,
    pub label: String,
    pub created: UnixMs,
}

/// Credits to book, once for each id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub account: Arc<str>,
    pub id: String,
    /// Above zero, but for an adjustment downwards; a refund takes it away.
    pub amount: Credit,
    pub kind: CreditKind,
    pub papers: Papers,
}

impl Purchase {
    /// As the account's history has it.
    pub fn receipt(&self) -> Receipt {
        Receipt { kind: self.kind, amount: self.amount, id: self.id.clone(), papers: self.papers.clone() }
    }

    /// Whether it is a repetition of what was booked: its note may be another.
    pub fn is_again(&self, kind: CreditKind, amount: Credit, refund_of: &str) -> bool {
        (self.kind, self.amount, self.papers.refund_of.as_str()) == (kind, amount, refund_of)
    }
}

/// Which lines of an account's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub newest_first: bool,
    /// The number of the last line that was read; `None` begins at the end that comes first.
    pub after: Option<u64>,
    /// At most so many.
    pub max: usize,
}

/// Some lines of an account's history. The sum of all of them, less `open_usage`, is the balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub entries: Vec<Entry>,
    pub balance: Credit,
    /// Usage that no line tells of yet: the running month's, and what came in late within the last hour.
    pub open_usage: Credit,
}

/// An account as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    pub account: Arc<str>,
    pub terms: Terms,
    pub terms_version: u64,
    pub credits_promotional: Credit,
    pub credits_purchased: Credit,
    /// Of each kind, promotional first.
    pub lots: Vec<Lot>,
    pub credit_version: u64,
    /// Usage of all sessions as reported, ever.
    pub used: Credit,
    /// Lent to live sessions and not reported as used.
    pub leased: Credit,
    /// The part of `leased` whose session fell silent.
    pub limbo: Credit,
    /// Credits in minus used.
    pub balance: Credit,
    pub lifetime_paid: Credit,
    /// The tier in force.
    pub tier: Tier,
    pub month: crate::decision::Month,
    pub month_used: Credit,
    /// The monthly limit in force: for postpaid no more than the tier allows.
    pub month_limit: Option<Credit>,
    /// The purchase key of an auto top-up in flight.
    pub topup_pending: Option<String>,
    pub created: UnixMs,
}

/// What is heard of changes that others make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing yet, but from now on.
    Following,
    Account(&'a str),
    Key(&'a KeyDigest),
}

/// A user with a spend cap, as far as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub user: Arc<str>,
    /// Usage that counts in this month.
    pub month_used: Credit,
    /// Of the cap, lent to live sessions and not reported as used.
    pub leased: Credit,
}

/// What a walk over all accounts found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audited {
    pub accounts: usize,
    /// Users with a spend cap.
    pub users: usize,
    /// Accounts and users whose sums are not what their records say, each with what is wrong: none, unless there is a bug or damage.
    pub drifted: Vec<(Arc<str>, String)>,
}

impl Audited {
    /// Counts an account, or a user, that was looked at. One that is named but cannot be read does not come out either; where
    /// the store is away, nothing is known.
    pub(super) fn note(&mut self, account: &str, looked: Result<Option<Drift>, StoreError>) -> Result<(), StoreError> {
        let wrong = match looked {
            Ok(drift) => drift.map(|drift| drift.to_string()),
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        let count = if user_of(account).is_some() { &mut self.users } else { &mut self.accounts };
        *count += 1;
        self.drifted.extend(wrong.map(|wrong| (account.into(), wrong)));
        Ok(())
    }
}

impl UserRecord {
    /// `pool` is the user's own.
    pub(super) fn of(user: Arc<str>, pool: &AccountRecord) -> Self {
        Self { user, month_used: pool.month_used, leased: pool.leased }
    }

    /// Somebody who spent nothing in this month.
    pub(super) fn idle(user: Arc<str>) -> Self {
        Self { user, month_used: Credit::ZERO, leased: Credit::ZERO }
    }
}

/// Where pools, keys and purchases live. Every operation is idempotent and takes effect whole or not at all.
///
/// What is acknowledged is durable. Times are the store's.
pub trait Store: Send + Sync {
    /// One round: replies in the order of the messages. A message without a reply failed alone: its part of the store is
    /// away.
    fn exchange(&self, messages: Vec<Message>) -> Pending<'_, Vec<Reply>>;
    /// Whether what keeps accounts was replaced, or began anew, since this was asked last: it may have forgotten what it
    /// lent, so every account must be declared. Rounds fail until this was asked.
    fn take_replaced(&self) -> bool {
        false
    }
    /// What is wrong with the store now.
    fn faults(&self, _clock: Clock) -> Pending<'_, Vec<Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// Tells what others change, until that can no longer be heard. Some of it may be missed.
    fn follow<'a>(&'a self, _heard: &'a (dyn Fn(Heard<'_>) + Send + Sync)) -> Pending<'a, ()> {
        Box::pin(std::future::pending())
    }
    /// Adaptive steps, each taken only if its version still holds.
    fn propose(&self, steps: Vec<StepProposal>) -> Pending<'_, ()>;

    fn find_key(&self, digest: KeyDigest) -> Pending<'_, Option<Arc<str>>>;

    fn create_account(&self, account: Arc<str>, terms: Terms) -> Pending<'_, AccountRecord>;
    fn account(&self, account: Arc<str>) -> Pending<'_, AccountRecord>;
    /// An account and what is lent of it, in one look.
    fn inspect(&self, account: Arc<str>) -> Pending<'_, (AccountRecord, Vec<Leased>)>;
    /// Accounts in order of name, after `after`, at most `max`.
    fn accounts(&self, after: Option<Arc<str>>, max: usize) -> Pending<'_, Vec<AccountRecord>>;
    /// Users of an account who spent under a cap lately, in order of name, after `after`, at most `max`.
    fn users(&self, account: Arc<str>, after: Arc<str>, max: usize) -> Pending<'_, Vec<UserRecord>>;
    /// Replaces the terms if they are still at `version`.
    fn configure(&self, account: Arc<str>, version: u64, terms: Terms) -> Pending<'_, AccountRecord>;
    /// Books credits once for each id; again, it returns the account as it is.
    fn add_credits(&self, purchase: Purchase) -> Pending<'_, AccountRecord>;
    /// Notes that the purchase under this key was declined, so that it is tried again later or auto top-up ends. Where another
    /// one, or none, is in flight, it returns the account as it is.
    fn top_up_failed(&self, account: Arc<str>, key: String) -> Pending<'_, AccountRecord>;
    fn create_key(&self, account: Arc<str>, digest: KeyDigest, label: String) -> Pending<'_, KeyRecord>;
    fn keys(&self, account: Arc<str>) -> Pending<'_, Vec<KeyRecord>>;
    fn revoke_key(&self, account: Arc<str>, id: String) -> Pending<'_, KeyDigest>;
    /// Lines of an account's history, after those that are due were written.
    fn history(&self, account: Arc<str>, page: Page) -> Pending<'_, History>;
    /// Compares the sums of every account with its records and its history. Changes nothing; accounts may be in use.
    fn audit(&self) -> Pending<'_, Audited>;
    /// Events in order, after `after`, at most `max`.
    fn events(&self, after: u64, max: usize) -> Pending<'_, Vec<(u64, Event)>>;
}
