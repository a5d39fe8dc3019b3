//! One round: many messages in one call of a script, all calls in one pipeline.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::answer::{answered, list};
use super::connection::Call;
use super::layout::bucket_of;
use super::{money, rates};
use crate::pool::{Message, Refusal, Reply, SessionId};
use crate::reconcile::store::StoreError;

/// Accounts in one call of a script, so that no call holds the server up for longer than some milliseconds.
const ACCOUNTS_MAX: usize = 100;

/// One server takes accounts of any buckets in one call, which saves it half of the work. A cluster would take the accounts
/// of one bucket at a time.
pub(super) async fn exchange(store: &Redis, messages: Vec<Message>) -> Result<Vec<Reply>, StoreError> {
    let calls: Vec<Call<'_>> = messages
        .chunks(ACCOUNTS_MAX)
        .map(|part| Call {
            script: &store.scripts.exchange,
            keys: part.iter().map(|message| store.layout.bucket(bucket_of(&message.account))).collect(),
            args: part.iter().flat_map(arguments).collect(),
        })
        .collect();
    let mut replies = Vec::with_capacity(messages.len());
    for (part, answer) in messages.chunks(ACCOUNTS_MAX).zip(store.connection.run(&calls).await?) {
        let mut answers = list(answer)?;
        for message in part {
            replies.push(reply(message, answers.value()?)?);
        }
    }
    Ok(replies)
}

/// As `lua/exchange.lua` takes them.
fn arguments(message: &Message) -> Vec<Vec<u8>> {
    let sync = message.sync.as_ref().map_or_else(String::new, money::request);
    let mut arguments =
        vec![message.account.to_string(), session_name(&message.session), sync, message.rates.len().to_string()];
    for rate in &message.rates {
        arguments.extend([rates::group_name(&rate.group), rates::request(rate)]);
    }
    arguments.into_iter().map(String::into_bytes).collect()
}

/// Names are in the order of sessions: a space is below everything that a node's name may have.
pub(super) fn session_name(session: &SessionId) -> String {
    format!("{} {:032x}", session.node, session.run)
}

fn reply(message: &Message, value: Value) -> Result<Reply, StoreError> {
    let account = Arc::clone(&message.account);
    let mut answers = match answered(value)? {
        Ok(answers) => answers,
        Err(refusal) => return Ok(refuse(message, refusal)),
    };
    let sync = answers.value()?;
    let sync = message.sync.is_some().then(|| money::answer(sync)).transpose()?;
    let mut rates = Vec::with_capacity(message.rates.len());
    for request in &message.rates {
        rates.push(rates::reply(request, answers.value()?)?);
    }
    Ok(Reply { account, sync, rates })
}

fn refuse(message: &Message, refusal: Refusal) -> Reply {
    Reply {
        account: Arc::clone(&message.account),
        sync: message.sync.is_some().then_some(Err(refusal)),
        rates: message.rates.iter().map(|_| Err(refusal)).collect(),
    }
}
