//! The ranges of a rate request, checked before anything changes.

use super::super::message::{RateRequest, Refusal};
use super::each;

/// A session's counters, wants and limits stay below this, 2^50 tokens.
pub(super) const TOKENS_MAX: u64 = 1_125_899_906_842_624;
/// A burst of an hour: no sensible bucket holds more.
const BURST_SECONDS_MAX: u32 = 3_600;

pub(super) fn validate(request: &RateRequest) -> Result<(), Refusal> {
    let bounded = [
        (request.granted_known, "granted"),
        (request.debt, "debt"),
        (request.returned, "returned"),
        (request.used, "used"),
        (request.at_hand, "at hand"),
        (request.want, "want"),
        (request.need, "need"),
        (request.seed, "seed"),
    ];
    for (tokens, name) in bounded {
        if tokens.iter().any(|tokens| TOKENS_MAX <= *tokens) {
            return Err(Refusal::Malformed(name));
        }
    }
    if request.need.iter().zip(request.want).any(|(need, want)| want < *need) {
        return Err(Refusal::Malformed("need above want"));
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
