//! Rate requests and replies, and adaptive steps, as the scripts read and write them.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::answer::{answered, unexpected};
use super::packed::{Numbers, Packed, packed};
use crate::decision::Credit;
use crate::decision::adaptive::Adaptive;
use crate::decision::rate::UNITS_PER_TOKEN;
use crate::pool::Refusal;
use crate::pool::message::{Group, RateReply, RateRequest, Reservation, StepDue, StepProposal};
use crate::reconcile::store::StoreError;

/// Parts of a token in which scripts keep a level: its time is in milliseconds, so nothing finer ever comes up.
const PARTS_PER_TOKEN: u128 = 60_000;

/// A group's name among an account's buckets.
pub(super) fn group_name(group: &Group) -> String {
    match group {
        Group::Requests => "requests".into(),
        Group::Model(name) => format!("model {name}"),
    }
}

/// In the order of `lua/lend.lua`.
pub(super) fn request(request: &RateRequest) -> Vec<u8> {
    let metrics = [
        request.granted_known,
        request.debt,
        request.returned,
        request.used,
        request.at_hand,
        request.want,
        request.need,
        request.seed,
    ];
    let head = [u64::from(request.generation), request.seq, u64::from(request.burst_seconds)];
    let priced = u64::try_from(request.priced.nanos()).unwrap_or(u64::MAX);
    packed(head.iter().chain(metrics.as_flattened()).copied().chain([priced]))
}

/// The reply to `request`, or a refusal.
pub(super) fn answer(request: &RateRequest, value: &Value) -> Result<Result<RateReply, Refusal>, StoreError> {
    answered(value, |answer| reply(request, answer))
}

fn reply(request: &RateRequest, mut answer: Packed<'_>) -> Result<RateReply, StoreError> {
    let reply = RateReply {
        group: request.group.clone(),
        generation: answer.whole()?,
        seq: answer.whole()?,
        granted: three(&mut answer)?,
        fresh: three(&mut answer)?,
        chunk_life: answer.millis()?,
        limits: three(&mut answer)?,
        burst_seconds: answer.whole()?,
        levels: [level(&mut answer)?, level(&mut answer)?, level(&mut answer)?],
        version: answer.whole()?,
        reserved: reserved(&mut answer)?,
        covered: answer.nanos()?,
        due: None,
    };
    Ok(RateReply { due: due(reply.version, answer)?, ..reply })
}

fn three(answer: &mut impl Numbers) -> Result<[u64; 3], StoreError> {
    Ok([answer.whole()?, answer.whole()?, answer.whole()?])
}

/// Whole tokens and parts of one.
fn level(answer: &mut impl Numbers) -> Result<u128, StoreError> {
    let (tokens, parts): (u128, u128) = (answer.whole()?, answer.whole()?);
    Ok(tokens * UNITS_PER_TOKEN + parts * (UNITS_PER_TOKEN / PARTS_PER_TOKEN))
}

fn due(version: u64, mut answer: Packed<'_>) -> Result<Option<StepDue>, StoreError> {
    let current_minute = answer.whole()?;
    let mut minutes = Vec::new();
    for _ in 0..answer.number()? {
        minutes.push((answer.whole()?, three(&mut answer)?));
    }
    let states = answer.rest()?.map(states).transpose()?.map(Arc::new);
    Ok((!minutes.is_empty()).then_some(StepDue { version, states, minutes, current_minute }))
}

/// What is reserved; a number below nothing stands where nothing is.
fn reserved(answer: &mut Packed<'_>) -> Result<Option<Reservation>, StoreError> {
    let (per_minute, tokens) = (answer.nanos()?, three(answer)?);
    Ok((Credit::ZERO <= per_minute).then_some(Reservation { per_minute, tokens }))
}

pub(super) fn states(written: &str) -> Result<[Adaptive; 3], StoreError> {
    serde_json::from_str(written).map_err(|error| StoreError::Corrupt(format!("adaptive states: {error}")))
}

/// Offers adaptive steps; each is taken only if its version still holds.
pub(super) async fn propose(store: &Redis, steps: Vec<StepProposal>) -> Result<(), StoreError> {
    let calls: Vec<_> =
        steps.iter().map(|step| store.call(&store.scripts.propose, &step.account, offer(step))).collect();
    for answer in store.connection.run(&calls).await? {
        // Taken, or outdated and offered anew: both are as they should be.
        if !matches!(answer, Value::Int(0 | 1)) {
            return Err(unexpected(&answer));
        }
    }
    Ok(())
}

/// As `lua/propose.lua` takes it.
fn offer(step: &StepProposal) -> Vec<Vec<u8>> {
    let written = |states: &[Adaptive; 3]| serde_json::to_string(states).expect("states are plain values");
    let states = step.states.as_ref().map_or_else(String::new, written);
    let limits = step.limits.map(|limit| limit.to_string());
    let [a, b, c] = limits;
    let texts = [step.account.to_string(), group_name(&step.group), step.version.to_string(), states, a, b, c];
    let reserved = step.reserved.iter().flat_map(|reserved| {
        let per_minute = reserved.per_minute.nanos().unsigned_abs();
        [per_minute].into_iter().chain(reserved.tokens).map(|number| number.to_string())
    });
    texts.into_iter().chain(reserved).map(String::into_bytes).collect()
}
