//! What every handler of the main port shares: the gate, the settings, and a count of what runs.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;

use super::identity::Who;
use super::settings::TransportSettings;
use crate::clock::Time;
use crate::decision::{Denial, Reason};
use crate::gate::{Gate, KeyOwner};
use crate::telemetry;

/// When to come back after trouble of ours.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Wire {
    pub gate: Arc<Gate>,
    pub settings: TransportSettings,
    /// Asks under way. At most `settings.wire.asks_max`.
    running: AtomicUsize,
}

/// An ask under way, for as long as this lives.
pub struct Running<'a>(&'a Wire);

/// Who pays, once it is known.
pub enum Payer<'a> {
    Named(Cow<'a, str>),
    Owner(Arc<str>),
}

impl Wire {
    pub fn new(gate: Arc<Gate>, settings: TransportSettings) -> Self {
        Self { gate, settings, running: AtomicUsize::new(0) }
    }

    /// Takes a place among the asks under way, if there is one.
    pub fn enter(&self) -> Option<Running<'_>> {
        let running = Running(self);
        (self.running.fetch_add(1, Ordering::Relaxed) < self.settings.wire.asks_max).then_some(running)
    }

    /// Who pays, or why nobody does; `None` where memory alone cannot tell.
    pub fn payer_now<'a>(&self, who: Who<'a>, now: Time) -> Option<Result<Payer<'a>, Denial>> {
        Some(match who {
            Who::Account(account) => Ok(Payer::Named(account)),
            Who::Nobody => Err(Denial::of(Reason::UnknownAccount)),
            Who::Key(digest) => payer_of(self.gate.owner_now(&digest, now)?),
        })
    }

    /// Who pays, or why nobody does.
    pub async fn payer<'a>(&self, who: Who<'a>) -> Result<Payer<'a>, Denial> {
        let digest = match who {
            Who::Account(account) => return Ok(Payer::Named(account)),
            Who::Nobody => return Err(Denial::of(Reason::UnknownAccount)),
            Who::Key(digest) => digest,
        };
        payer_of(self.gate.owner_of(digest).await)
    }
}

fn payer_of(owner: KeyOwner) -> Result<Payer<'static>, Denial> {
    match owner {
        KeyOwner::Account(account) => Ok(Payer::Owner(account)),
        KeyOwner::Nobody => Err(Denial::of(Reason::UnknownAccount)),
        KeyOwner::Unavailable => Err(Denial { retry_after: Some(RETRY_AFTER), ..Denial::of(Reason::Unavailable) }),
    }
}

impl Payer<'_> {
    pub fn name(&self) -> &str {
        match self {
            Self::Named(account) => account,
            Self::Owner(account) => account,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Too much runs at once.
pub fn overloaded() -> Denial {
    Denial { retry_after: Some(RETRY_AFTER), ..Denial::of(Reason::Overloaded) }
}

/// Counts a denial that never reached the gate, which counts its own.
pub fn count_denied(reason: Reason) {
    counter!(telemetry::DECISIONS, "outcome" => "denied", "reason" => reason.name()).increment(1);
}
