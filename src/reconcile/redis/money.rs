//! Sync requests and replies, as the scripts read and write them.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::answer::answered;
use super::packed::{Numbers, Packed, packed};
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
const NANOS_PER_USD: u64 = 1_000_000_000;

/// In the order of `lua/sync.lua`. Money below nothing is no request either.
pub(super) fn request(request: &SyncRequest) -> Vec<u8> {
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
    .map(|credit| u64::try_from(credit.nanos()).unwrap_or(u64::MAX));
    let mut numbers = packed([
        request.generation.into(),
        request.seq,
        used,
        returned,
        granted,
        reclaimed,
        want,
        need,
        request.month.yyyymm().into(),
        before,
        request.terms_known,
        u64::try_from(silence).unwrap_or(u64::MAX),
        flags.into(),
    ]);
    if let Some(UserCap { limit, reclaim_mode }) = request.cap {
        let returns = u64::from(reclaim_mode == ReclaimMode::Return);
        let nanos = u64::try_from(limit.nanos()).unwrap_or(u64::MAX);
        // In the order of `lua/user.lua`.
        numbers.extend(packed([request.terms_known, nanos / NANOS_PER_USD, nanos % NANOS_PER_USD, returns]));
    }
    numbers
}

/// The reply, or a refusal.
pub(super) fn answer(value: &Value) -> Result<Result<SyncReply, Refusal>, StoreError> {
    answered(value, reply)
}

/// In the order of `reply` in `lua/sync.lua`.
fn reply(mut answer: Packed<'_>) -> Result<SyncReply, StoreError> {
    let reply = SyncReply {
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
        terms: None,
        ops: answer.whole()?,
        next_sync: answer.millis()?,
        view: view(&mut answer)?,
    };
    let terms = answer.rest()?.map(terms::read).transpose()?;
    Ok(SyncReply { terms: terms.map(Arc::new), ..reply })
}

fn view(answer: &mut Packed<'_>) -> Result<View, StoreError> {
    let topup_pending = u64::try_from(answer.number()?).ok().map(Duration::from_millis);
    let (credits, given, purchased) = (answer.credit()?, answer.credit()?, answer.is_set()?);
    let (used, month_used, paid) = (answer.credit()?, answer.credit()?, answer.credit()?);
    let balance = Credit::from_store(credits.minus(used).nanos());
    Ok(View {
        balance: balance.ok_or_else(|| StoreError::Corrupt("credits and usage too far apart".into()))?,
        promotional_gone: given <= used,
        lifetime_paid: paid.max(used.minus(given)),
        purchased,
        month_used,
        topup_pending,
    })
}
