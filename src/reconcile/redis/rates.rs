//! Rate requests and replies, and adaptive steps, as the scripts read and write them.

use std::sync::Arc;

use redis::Value;

use super::Redis;
use super::answer::{Answer, answered, text, unexpected};
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

/// Numbers in one text, in the order of `lua/lend.lua`.
pub(super) fn request(request: &RateRequest) -> String {
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
    let priced = request.priced.is_positive().then(|| request.priced.nanos().unsigned_abs());
    let numbers = head.iter().chain(metrics.as_flattened()).chain(&priced);
    numbers.map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// The reply to `request`, or a refusal.
pub(super) fn reply(request: &RateRequest, value: Value) -> Result<Result<RateReply, Refusal>, StoreError> {
    let mut answer = match answered(value)? {
        Ok(answer) => answer,
        Err(refusal) => return Ok(Err(refusal)),
    };
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
        reserved: None,
        covered: Credit::ZERO,
        due: None,
    };
    let due = due(reply.version, &mut answer)?;
    let (reserved, covered) = reserved(answer)?;
    Ok(Ok(RateReply { due, reserved, covered, ..reply }))
}

fn three(answer: &mut Answer) -> Result<[u64; 3], StoreError> {
    Ok([answer.whole()?, answer.whole()?, answer.whole()?])
}

/// Whole tokens and parts of one.
fn level(answer: &mut Answer) -> Result<u128, StoreError> {
    let (tokens, parts): (u128, u128) = (answer.whole()?, answer.whole()?);
    Ok(tokens * UNITS_PER_TOKEN + parts * (UNITS_PER_TOKEN / PARTS_PER_TOKEN))
}

fn due(version: u64, answer: &mut Answer) -> Result<Option<StepDue>, StoreError> {
    let current_minute = answer.whole()?;
    let states = match answer.value()? {
        Value::Nil => None,
        written => Some(Arc::new(states(&text(&written)?)?)),
    };
    let mut flat = answer.list()?;
    let mut minutes = Vec::new();
    while let Some(minute) = flat.next() {
        minutes.push((super::answer::whole(&minute)?, three(&mut flat)?));
    }
    Ok((!minutes.is_empty()).then_some(StepDue { version, states, minutes, current_minute }))
}

/// What is reserved and what that covered, which stand at the end for those who have it.
fn reserved(mut answer: Answer) -> Result<(Option<Reservation>, Credit), StoreError> {
    let Some(per_minute) = answer.next() else { return Ok((None, Credit::ZERO)) };
    let reserved = Reservation { per_minute: nanos(super::answer::whole(&per_minute)?), tokens: three(&mut answer)? };
    Ok((Some(reserved), nanos(answer.whole()?)))
}

fn nanos(nanos: u64) -> Credit {
    Credit::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
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
