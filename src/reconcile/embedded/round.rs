//! One round against the file: the pool's law for every message, then one durable step, then the replies.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::Database;

use super::state::{Kept, State};
use crate::clock::{Now, UnixMs};
use crate::pool::message::{RateReply, RateRequest, StepProposal};
use crate::pool::{Message, RatePool, Refusal, Reply};
use crate::reconcile::store::{Rules, StoreError};

/// Replies in the order of `messages`. A grant is durable before it is told.
pub(super) fn exchange(
    state: &mut State,
    database: &Database,
    rules: &Rules,
    now: Now,
    messages: &[Message],
) -> Result<Vec<Reply>, StoreError> {
    let time = state.time(now);
    let mut changed = BTreeSet::new();
    let mut replies = Vec::with_capacity(messages.len());
    for message in messages {
        let (reply, is_covered) = match state.load_or_begin(database, &message.account, (&rules.pool, time)) {
            Ok(Some(kept)) => answer(kept, message, rules, time),
            Ok(None) => (Reply::refused(message, Refusal::NoSuchAccount), false),
            Err(StoreError::Corrupt(detail)) => {
                state.unreadable.tell(&message.account, &detail);
                (Reply::refused(message, Refusal::Unreadable), false)
            }
            Err(error) => return Err(error),
        };
        if is_covered || matches!(reply.sync, Some(Ok(_))) {
            changed.insert(Arc::clone(&message.account));
        }
        for rate in reply.rates.iter().flatten() {
            state.rate_changed(&message.account, &rate.group, time);
        }
        replies.push(reply);
    }
    if !changed.is_empty() || state.rates_are_due(time) {
        state.commit(database, time, &changed, |_| Ok(()))?;
    }
    Ok(replies)
}

/// Takes adaptive steps whose version still holds; the others are outdated and offered anew.
pub(super) fn propose(
    state: &mut State,
    database: &Database,
    rules: &Rules,
    now: Now,
    steps: &[StepProposal],
) -> Result<(), StoreError> {
    let time = state.time(now);
    for step in steps {
        let kept = state.load(database, &step.account)?;
        let bucket = kept.and_then(|kept| kept.rates.get_mut(&step.group));
        if bucket.is_some_and(|bucket| bucket.propose(step, &rules.rate, time)) {
            state.rate_changed(&step.account, &step.group, time);
        }
    }
    Ok(())
}

/// The reply, and whether reservations paid for a part of the usage in it.
fn answer(kept: &mut Kept, message: &Message, rules: &Rules, now: UnixMs) -> (Reply, bool) {
    let rates: Vec<_> = message.rates.iter().map(|request| lend(kept, message, request, rules, now)).collect();
    let is_covered = kept.pool.cover(&rates, &rules.pool, now);
    let sync = message.sync.as_ref().map(|request| kept.pool.sync(&message.session, request, &rules.pool, now));
    (Reply { account: Arc::clone(&message.account), sync, rates }, is_covered)
}

fn lend(
    kept: &mut Kept,
    message: &Message,
    request: &RateRequest,
    rules: &Rules,
    now: UnixMs,
) -> Result<RateReply, Refusal> {
    if let Some(bucket) = kept.rates.get_mut(&request.group) {
        return bucket.sync(&message.session, request, &rules.rate, now);
    }
    let mut bucket = RatePool::seeded(request, now)?;
    let reply = bucket.sync(&message.session, request, &rules.rate, now)?;
    kept.rates.insert(request.group.clone(), bucket);
    Ok(reply)
}
