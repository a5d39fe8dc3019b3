//! Buys what accounts with auto top-up need, and tells others what happened to accounts.
//!
//! Work comes from the store's outbox, where any number of cashiers take it for a while. A purchase is asked for under a key
//! that follows from the account's state, and its credits are added under the same key: whatever is repeated, by whomever,
//! is one purchase. Nothing is known of a purchase but what the webhook said of it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::pool::message::Wanted;
use crate::reconcile::outbox::{Outbox, Take, Taken, Waiting};
use crate::reconcile::store::{CreditKind, Papers, Purchase, StoreError};
use crate::telemetry;
use alert::alert;
use purchase::{Verdict, verdict, wait};
use settings::{CashierSettings, Endpoint};
use webhook::{Answer, CallError, Caller};

mod alert;
mod purchase;
pub mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod webhook;

pub use webhook::TrustError;

/// Purchases under way at once, and as many alerts: a webhook that is slow for one kind does not hold up the other.
const AT_ONCE: usize = 32;
/// From one look for work to the next, where there was none.
const IDLE: Duration = Duration::from_secs(1);
/// The same where there was some.
const BUSY: Duration = Duration::from_millis(50);
/// The same where the store is away.
const AWAY: Duration = Duration::from_secs(2);
/// Work is taken for so many times as a call may take: long enough to book what came of it.
const LIVES: u32 = 3;
/// An alert that could not be told for so long is given up: a weekend.
const ALERT_KEEP: Duration = Duration::from_hours(72);

/// One cashier. It keeps nothing that is not in the store.
pub struct Cashier {
    outbox: Arc<dyn Outbox>,
    settings: CashierSettings,
    caller: Caller,
    clock: Clock,
    /// Has this process hear of an account that was changed.
    changed: Box<dyn Fn(&str) + Send + Sync>,
    /// Gives any number, so that cashiers do not all ask at once.
    dice: fn() -> u64,
}

/// Calls under way.
#[derive(Default)]
struct UnderWay {
    purchases: JoinSet<()>,
    alerts: JoinSet<()>,
}

impl Cashier {
    /// `changed` is told of accounts whose credits or terms changed.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        settings: CashierSettings,
        clock: Clock,
        changed: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, TrustError> {
        let caller = Caller::new(&settings)?;
        Ok(Self { outbox, settings, caller, clock, changed: Box::new(changed), dice })
    }

    /// Works until `stop`, and then finishes what it began.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let (mut stop, mut under_way, mut is_away) = (pin!(stop), UnderWay::default(), false);
        loop {
            let looked = self.outbox.take(self.take(&under_way)).await;
            let pause = match &looked {
                Ok(taken) if taken.purchases.is_empty() && taken.events.is_empty() => IDLE,
                Ok(_) => BUSY,
                Err(_) => AWAY,
            };
            tell_whether_away(looked.as_ref().err(), &mut is_away);
            if let Ok(taken) = looked {
                self.begin(taken, &mut under_way).await;
            }
            tokio::select! {
                () = &mut stop => break,
                () = sleep(pause) => under_way.clear_away(),
            }
        }
        under_way.purchases.join_all().await;
        under_way.alerts.join_all().await;
    }

    /// What there is room for.
    fn take(&self, under_way: &UnderWay) -> Take {
        let purchases = AT_ONCE.saturating_sub(under_way.purchases.len());
        Take {
            purchases_max: if self.settings.payments.is_some() { purchases } else { 0 },
            events_max: AT_ONCE.saturating_sub(under_way.alerts.len()),
            life: self.settings.timeout * LIVES,
        }
    }

    async fn begin(self: &Arc<Self>, taken: Taken, under_way: &mut UnderWay) {
        show(&taken);
        for wanted in taken.purchases {
            let cashier = self.clone();
            under_way.purchases.spawn(async move { cashier.buy(wanted).await });
        }
        let Some(alerts) = &self.settings.alerts else {
            self.finish(taken.events.into_iter().map(|waiting| waiting.id).collect()).await;
            return;
        };
        for waiting in taken.events {
            let (cashier, alerts) = (self.clone(), alerts.clone());
            under_way.alerts.spawn(async move { cashier.tell(&alerts, waiting).await });
        }
    }

    async fn buy(&self, wanted: Wanted) {
        let Some(payments) = &self.settings.payments else { return };
        let answered = self.call("payment", payments, &wanted.key, purchase::body(&wanted)).await;
        let verdict = verdict(&wanted, answered);
        self.conclude(&wanted, verdict).await;
    }

    /// Books what came of a purchase. Where that fails, the purchase is asked for again under the same key.
    async fn conclude(&self, wanted: &Wanted, verdict: Verdict) {
        let Wanted { account, key, amount, age, .. } = wanted;
        let (outcome, booked) = match verdict {
            Verdict::Bought(reference) => ("bought", self.book(wanted, reference).await),
            Verdict::Declined(reason) => {
                tracing::warn!(%account, key, %amount, reason, "a purchase of auto top-up was declined; its owner has to mend the payment method");
                ("declined", self.outbox.top_up_failed(account.clone(), key.clone()).await.map(drop))
            }
            Verdict::Unknown(cause) => {
                let wait = wait(*age, (self.dice)());
                tracing::warn!(%account, key, ?wait, "the payment webhook did not say whether it bought: {cause}");
                ("unknown", self.outbox.put_off_purchase(account.clone(), key.clone(), wait).await)
            }
        };
        counter!(telemetry::PURCHASES, "outcome" => outcome).increment(1);
        match booked {
            Ok(()) => (self.changed)(account),
            Err(error) => self.not_booked(wanted, outcome, &error).await,
        }
    }

    async fn book(&self, wanted: &Wanted, reference: String) -> Result<(), StoreError> {
        let Wanted { account, key, amount, .. } = wanted;
        let purchase = Purchase {
            account: account.clone(),
            id: key.clone(),
            amount: *amount,
            kind: CreditKind::Purchased,
            papers: Papers { reference, ..Papers::default() },
        };
        self.outbox.add_credits(purchase).await?;
        tracing::info!(%account, key, %amount, "auto top-up bought credits");
        Ok(())
    }

    async fn not_booked(&self, wanted: &Wanted, outcome: &str, error: &StoreError) {
        let Wanted { account, key, age, .. } = wanted;
        tracing::error!(%account, key, outcome, %error, "what the payment webhook said could not be booked; it is asked again");
        // Where this fails too, the purchase comes back by itself.
        drop(self.outbox.put_off_purchase(account.clone(), key.clone(), wait(*age, (self.dice)())).await);
    }

    async fn tell(&self, alerts: &Endpoint, waiting: Waiting) {
        let Waiting { id, event, age } = waiting;
        let Some(alert) = alert(&event) else { return self.finish(vec![id]).await };
        if age > ALERT_KEEP {
            tracing::error!(account = %event.account, alert = alert.id, "nobody could be told this for too long; it is given up");
            counter!(telemetry::ALERTS, "outcome" => "given_up").increment(1);
            return self.finish(vec![id]).await;
        }
        let cause = match self.call("alerts", alerts, &alert.id, alert.body).await {
            Ok(answer) if answer.status.is_success() => {
                counter!(telemetry::ALERTS, "outcome" => "told").increment(1);
                return self.finish(vec![id]).await;
            }
            Ok(answer) => format!("it answered {}", answer.status),
            Err(error) => error.to_string(),
        };
        counter!(telemetry::ALERTS, "outcome" => "unheard").increment(1);
        tracing::warn!(account = %event.account, alert = alert.id, "the alerts webhook did not take this, and is told again: {cause}");
        // Where this fails, the event comes back by itself.
        drop(self.outbox.put_off_event(id, wait(age, (self.dice)())).await);
    }

    /// Where this fails, the events come back and are told again.
    async fn finish(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        if let Err(error) = self.outbox.finish_events(ids).await {
            tracing::warn!(%error, "events that were told stay in the outbox, and are told again");
        }
    }

    async fn call(&self, hook: &'static str, to: &Endpoint, key: &str, body: String) -> Result<Answer, CallError> {
        let begun = self.clock.now();
        let answered = self.caller.post(to, key, body, begun.unix.0 / 1_000).await;
        let took = self.clock.time().since(begun.time);
        histogram!(telemetry::WEBHOOK_SECONDS, "hook" => hook).record(took.as_secs_f64());
        answered
    }
}

impl UnderWay {
    fn clear_away(&mut self) {
        for set in [&mut self.purchases, &mut self.alerts] {
            while set.try_join_next().is_some() {}
        }
    }
}

/// Logs once that the store is away, and once that it is back.
fn tell_whether_away(error: Option<&StoreError>, is_away: &mut bool) {
    match error {
        Some(error) if !*is_away => {
            tracing::warn!(%error, "the cashier cannot look for work; nothing is lost meanwhile")
        }
        None if *is_away => tracing::info!("the cashier finds the store again"),
        _ => {}
    }
    *is_away = error.is_some();
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats; a gauge off by one in 2^53 is close enough")]
fn show(taken: &Taken) {
    let Taken { purchases, backlog, .. } = taken;
    if let Some(age) = purchases.iter().map(|wanted| wanted.age).max() {
        gauge!(telemetry::PURCHASE_AGE_SECONDS).set(age.as_secs_f64());
    } else if backlog.purchases == 0 {
        gauge!(telemetry::PURCHASE_AGE_SECONDS).set(0.0);
    }
    gauge!(telemetry::PURCHASES_WAITING).set(backlog.purchases as f64);
    gauge!(telemetry::EVENTS_WAITING).set(backlog.events as f64);
    gauge!(telemetry::EVENTS_AGE_SECONDS).set(backlog.events_age.as_secs_f64());
}

/// The system's; where it has none, the middle.
fn dice() -> u64 {
    getrandom::u64().unwrap_or(20)
}
