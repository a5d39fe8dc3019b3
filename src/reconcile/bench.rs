//! What the tests of this room and of the gate share: a ledger, an ask, and a store that is away.

use std::sync::Arc;
use std::time::Duration;

use super::store::{
    AccountRecord, Audited, History, KeyDigest, KeyRecord, Leased, Page, Pending, Purchase, Store, StoreError,
    UserRecord,
};
use crate::decision::catalogue::FIREWORKS_2026_10;
use crate::decision::terms::Terms;
use crate::decision::{Ask, Catalogue, Prompt, RequestId, ServiceTier};
use crate::ledger::{Ledger, LedgerSettings};
use crate::pool::message::{Event, StepProposal};
use crate::pool::{Message, Reply, SessionId};

pub(crate) fn ledger() -> Ledger {
    let settings = LedgerSettings {
        workers: 1,
        accounts_max: 1_000,
        holds_max: 10_000,
        ended_max: 10_000,
        ended_keep: Duration::from_mins(15),
        hold_life: Duration::from_mins(5),
        hold_life_max: Duration::from_hours(1),
        unknown_max: 1_000,
        unknown_keep: Duration::from_secs(5),
        sync_every: Duration::from_millis(200),
        idle_bye: Duration::from_hours(1),
    };
    Ledger::new(settings, catalogue(), session())
}

pub(crate) fn catalogue() -> Arc<Catalogue> {
    Arc::new(Catalogue::parse(FIREWORKS_2026_10).unwrap())
}

pub(crate) fn session() -> SessionId {
    SessionId { node: "node".into(), run: 1 }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

pub(crate) fn id(number: u128) -> RequestId {
    RequestId { digest: number, attempt: 0 }
}

/// 1,000 prompt tokens and at most 100 generated of kimi-k3: 0.0045 USD.
pub(crate) fn ask(account: &str, number: u128) -> Ask<'_> {
    Ask {
        account,
        user: None,
        model: "kimi-k3",
        service_tier: ServiceTier::Standard,
        prompt: Prompt::Tokens(1_000),
        cached_tokens_hint: None,
        max_tokens: Some(100),
        n: 1,
        request_id: id(number),
        deadline: None,
        capped: false,
    }
}

/// A store that cannot be reached.
pub(crate) struct Away;

fn away<T: Send + 'static>() -> Pending<'static, T> {
    Box::pin(async { Err(StoreError::Unavailable("away".into())) })
}

impl Store for Away {
    fn exchange(&self, _: Vec<Message>) -> Pending<'_, Vec<Reply>> {
        away()
    }
    fn propose(&self, _: Vec<StepProposal>) -> Pending<'_, ()> {
        away()
    }
    fn find_key(&self, _: KeyDigest) -> Pending<'_, Option<Arc<str>>> {
        away()
    }
    fn create_account(&self, _: Arc<str>, _: Terms) -> Pending<'_, AccountRecord> {
        away()
    }
    fn account(&self, _: Arc<str>) -> Pending<'_, AccountRecord> {
        away()
    }
    fn inspect(&self, _: Arc<str>) -> Pending<'_, (AccountRecord, Vec<Leased>)> {
        away()
    }
    fn accounts(&self, _: Option<Arc<str>>, _: usize) -> Pending<'_, Vec<AccountRecord>> {
        away()
    }
    fn users(&self, _: Arc<str>, _: Arc<str>, _: usize) -> Pending<'_, Vec<UserRecord>> {
        away()
    }
    fn configure(&self, _: Arc<str>, _: u64, _: Terms) -> Pending<'_, AccountRecord> {
        away()
    }
    fn add_credits(&self, _: Purchase) -> Pending<'_, AccountRecord> {
        away()
    }
    fn top_up_failed(&self, _: Arc<str>, _: String) -> Pending<'_, AccountRecord> {
        away()
    }
    fn create_key(&self, _: Arc<str>, _: KeyDigest, _: String) -> Pending<'_, KeyRecord> {
        away()
    }
    fn keys(&self, _: Arc<str>) -> Pending<'_, Vec<KeyRecord>> {
        away()
    }
    fn revoke_key(&self, _: Arc<str>, _: String) -> Pending<'_, KeyDigest> {
        away()
    }
    fn history(&self, _: Arc<str>, _: Page) -> Pending<'_, History> {
        away()
    }
    fn audit(&self) -> Pending<'_, Audited> {
        away()
    }
    fn events(&self, _: u64, _: usize) -> Pending<'_, Vec<(u64, Event)>> {
        away()
    }
}
