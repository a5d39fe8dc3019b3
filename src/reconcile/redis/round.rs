//! One round: the messages of each bucket in one script, all of them in one pipeline, and the replies in order again.

use std::collections::BTreeMap;
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

pub(super) async fn exchange(store: &Redis, messages: Vec<Message>) -> Result<Vec<Reply>, StoreError> {
    let mut buckets: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        buckets.entry(bucket_of(&message.account)).or_default().push(index);
    }
    let parts: Vec<(u16, &[usize])> =
        buckets.iter().flat_map(|(bucket, indices)| indices.chunks(ACCOUNTS_MAX).map(|part| (*bucket, part))).collect();
    let calls: Vec<Call<'_>> = parts
        .iter()
        .map(|(bucket, part)| Call {
            script: &store.scripts.exchange,
            key: store.layout.bucket(*bucket),
            args: part.iter().flat_map(|index| arguments(&messages[*index])).collect(),
        })
        .collect();
    let answers = store.connection.run(&calls).await?;
    let mut replies: Vec<Option<Reply>> = messages.iter().map(|_| None).collect();
    for ((_, part), answer) in parts.iter().zip(answers) {
        let mut answers = list(answer)?;
        for index in *part {
            replies[*index] = Some(reply(&messages[*index], answers.value()?)?);
        }
    }
    Ok(replies.into_iter().map(|reply| reply.expect("every message is in one part")).collect())
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
