//! The ranges of a rate request, checked before anything changes.

use super::super::message::{RateRequest, Refusal};
use super::each;
use crate::decision::Credit;
use crate::decision::reserved::RESERVED_MAX;

/// A session's counters stay below this, 2^50 tokens.
const TOKENS_MAX: u64 = 1_125_899_906_842_624;
/// Limits and what is wanted at once stay below this, 2^46 tokens: what an hour of it makes is still exact in a store that
/// counts in doubles.
pub(super) const LIMIT_MAX: u64 = 70_368_744_177_664;
/// A burst of an hour: no sensible bucket holds more.
const BURST_SECONDS_MAX: u32 = 3_600;

pub(super) fn validate(request: &RateRequest) -> Result<(), Refusal> {
    let bounded = [
        (request.granted_known, TOKENS_MAX, "granted"),
        (request.debt, TOKENS_MAX, "debt"),
        (request.returned, TOKENS_MAX, "returned"),
        (request.used, TOKENS_MAX, "used"),
        (request.at_hand, TOKENS_MAX, "at hand"),
        (request.want, LIMIT_MAX, "want"),
        (request.need, LIMIT_MAX, "need"),
        (request.seed, LIMIT_MAX, "seed"),
    ];
    for (tokens, bound, name) in bounded {
        if tokens.iter().any(|tokens| bound <= *tokens) {
            return Err(Refusal::Malformed(name));
        }
    }
    if request.need.iter().zip(request.want).any(|(need, want)| want < *need) {
        return Err(Refusal::Malformed("need above want"));
    }
    if !(Credit::ZERO..RESERVED_MAX).contains(&request.priced) {
        return Err(Refusal::Malformed("priced"));
    }
    let taken = each(request.granted_known, request.debt, u64::saturating_add);
    if request.returned.iter().zip(taken).any(|(returned, taken)| taken < *returned) {
        return Err(Refusal::Malformed("returned more than was granted or charged"));
    }
    if !(1..=BURST_SECONDS_MAX).contains(&request.burst_seconds) {
        return Err(Refusal::Malformed("burst seconds"));
    }
    Ok(())
}
