//! Sync requests and replies, as the scripts read and write them.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::answer::{Answer, answered, text, unexpected};
use super::terms;
use crate::decision::terms::ReclaimMode;
use crate::decision::{Credit, Month};
use crate::pool::message::{UserCap, View};
use crate::pool::{Refusal, SyncReply, SyncRequest};
use crate::reconcile::store::StoreError;

/// Numbers are exact in scripts below this, 2^53.
const EXACT_MAX: u128 = 9_007_199_254_740_991;

const DECLARE: u8 = 1;
const BYE: u8 = 2;
const WAS_ANSWERED: u8 = 4;

/// Numbers in one text, in the order of `lua/sync.lua`.
pub(super) fn request(request: &SyncRequest) -> String {
    let silence = request.silence.map_or(0, |silence| silence.as_nanos().min(EXACT_MAX));
    let answered = if request.silence.is_some() { WAS_ANSWERED } else { 0 };
    let flags = answered | if request.declare { DECLARE } else { 0 } | if request.bye { BYE } else { 0 };
    let [used, returned, granted, reclaimed, want, need, before] = [
        request.used,
        request.returned,
        request.granted_known,
        request.reclaimed_known,
        request.want,
        request.need,
        request.used_before,
    ]
    .map(Credit::nanos);
    let (generation, seq, month, terms) =
        (request.generation, request.seq, request.month.yyyymm(), request.terms_known);
    let numbers = format!(
        "{generation} {seq} {used} {returned} {granted} {reclaimed} {want} {need} {month} {before} {terms} {silence} {flags}"
    );
    match request.cap {
        None => numbers,
        // In the order of `lua/user.lua`.
        Some(UserCap { limit, reclaim_mode }) => {
            let returns = u8::from(reclaim_mode == ReclaimMode::Return);
            format!("{numbers} cap {terms} {} {returns}", terms::amount_text(limit))
        }
    }
}

/// The reply, or a refusal.
pub(super) fn answer(value: Value) -> Result<Result<SyncReply, Refusal>, StoreError> {
    match answered(value)? {
        Ok(answer) => Ok(Ok(reply(answer)?)),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// In the order of `reply` in `lua/sync.lua`.
fn reply(mut answer: Answer) -> Result<SyncReply, StoreError> {
    Ok(SyncReply {
        generation: answer.whole()?,
        seq: answer.whole()?,
        granted: answer.nanos()?,
        reclaimed: answer.nanos()?,
        ttl: answer.millis()?,
        available: answer.credit()?,
        is_final: answer.is_set()?,
        recall: answer.is_set()?,
        month: Month::from_yyyymm(answer.whole()?),
        month_left: answer.millis()?,
        terms_version: answer.whole()?,
        terms: match answer.value()? {
            Value::Nil => None,
            written @ Value::BulkString(_) => Some(Arc::new(terms::read(&text(&written)?)?)),
            other => return Err(unexpected(&other)),
        },
        ops: answer.whole()?,
        next_sync: answer.millis()?,
        view: view(answer)?,
    })
}

fn view(mut answer: Answer) -> Result<View, StoreError> {
    let topup_pending = u64::try_from(answer.number()?).ok().map(Duration::from_millis);
    let (promotional, purchased) = (answer.credit()?, answer.credit()?);
    let (used, month_used, paid_before) = (answer.credit()?, answer.credit()?, answer.credit()?);
    Ok(View {
        balance: promotional.plus(purchased).minus(used),
        promotional_gone: promotional <= used,
        lifetime_paid: paid_before.max(purchased).max(used.minus(promotional)),
        purchased: purchased.is_positive(),
        month_used,
        topup_pending,
    })
}
