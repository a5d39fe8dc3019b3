//! One round: many messages in one call of a script, all calls in one pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Redis;
use super::answer::{Answer, list};
use super::connection::{Call, Purpose};
use super::layout::bucket_of;
use super::{money, rates};
use crate::pool::{Message, Refusal, Reply, SessionId};
use crate::reconcile::store::StoreError;

/// Accounts in one call of a script, so that no call holds the server up for longer than some milliseconds.
const ACCOUNTS_MAX: usize = 100;

/// Replies in the order of the messages, without those that failed; an error where all did.
///
/// One server takes accounts of any buckets in one call, which saves it half of the work. A cluster takes the accounts of
/// one slot at a time, so that one server's failure is its own accounts' alone.
pub(super) async fn exchange(store: &Redis, messages: Vec<Message>) -> Result<Vec<Reply>, StoreError> {
    let parts = parts(&messages, store.connection.is_cluster());
    let calls: Vec<Call<'_>> = parts
        .iter()
        .map(|part| Call {
            script: &store.scripts.exchange,
            keys: part.iter().map(|place| store.layout.bucket(bucket_of(&messages[*place].account))).collect(),
            args: part.iter().flat_map(|place| arguments(&messages[*place])).collect(),
        })
        .collect();
    let ran = store.connection.run_each(&calls, Purpose::Round).await;
    if ran.iter().all(Result::is_err) {
        return ran
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(Vec::new()), |cause| Err(StoreError::Unavailable(cause)));
    }
    let mut replies: Vec<Option<Reply>> = vec![None; messages.len()];
    for (part, answer) in parts.iter().zip(ran) {
        match answer {
            Ok(answer) => {
                let mut answers = list(answer)?;
                for place in part {
                    let message = &messages[*place];
                    let read = reply(message, answers.part(answers_to(message))?);
                    // Others of the round have nothing to do with one that cannot be read.
                    replies[*place] = Some(read.unwrap_or_else(|error| {
                        store.unreadable.tell(&message.account, &error.to_string());
                        Reply::refused(message, Refusal::Unreadable)
                    }));
                }
            }
            Err(cause) => tracing::debug!(%cause, accounts = part.len(), "a part of a round failed"),
        }
    }
    Ok(replies.into_iter().flatten().collect())
}

/// Which messages go into one call.
fn parts(messages: &[Message], by_slot: bool) -> Vec<Vec<usize>> {
    let mut by_call: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (place, message) in messages.iter().enumerate() {
        by_call.entry(if by_slot { bucket_of(&message.account) } else { 0 }).or_default().push(place);
    }
    by_call.into_values().flat_map(|part| part.chunks(ACCOUNTS_MAX).map(<[_]>::to_vec).collect::<Vec<_>>()).collect()
}

/// As `lua/exchange.lua` takes them.
fn arguments(message: &Message) -> Vec<Vec<u8>> {
    let sync = message.sync.as_ref().map_or_else(Vec::new, money::request);
    let rates = message.rates.len().to_string().into_bytes();
    let mut arguments =
        vec![message.account.as_bytes().to_vec(), session_name(&message.session).into_bytes(), sync, rates];
    for rate in &message.rates {
        arguments.extend([rates::group_name(&rate.group).into_bytes(), rates::request(rate)]);
    }
    arguments
}

/// Names are in the order of sessions: a space is below everything that a node's name may have.
pub(super) fn session_name(session: &SessionId) -> String {
    format!("{} {:032x}", session.node, session.run)
}

fn answers_to(message: &Message) -> usize {
    usize::from(message.sync.is_some()) + message.rates.len()
}

/// An answer to each request of the message, in order.
fn reply(message: &Message, mut answers: Answer) -> Result<Reply, StoreError> {
    let sync = message.sync.is_some().then(|| money::answer(&answers.value()?)).transpose()?;
    let mut rates = Vec::with_capacity(message.rates.len());
    for request in &message.rates {
        rates.push(rates::answer(request, &answers.value()?)?);
    }
    Ok(Reply { account: Arc::clone(&message.account), sync, rates })
}
