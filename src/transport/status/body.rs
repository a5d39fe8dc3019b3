//! The JSON body of a denial.

use bytes::Bytes;
use serde::Serialize;

use super::{Amount, Profile, Told};
use crate::clock::wait_millis;

impl Told {
    /// The body to give to the client.
    pub fn body(&self, request_id: &str) -> Bytes {
        let body = Body {
            kind: matches!(self.profile, Profile::Anthropic).then_some("error"),
            error: Error {
                kind: self.kind,
                code: self.code,
                message: &self.message,
                param: None,
                metadata: Metadata {
                    reason: self.reason.name(),
                    limit: self.limit,
                    used: self.used,
                    requested: self.requested,
                    retry_after_ms: self.retry_after.map(wait_millis),
                    resets_at: self.resets_at.as_deref(),
                    affordable_max_tokens: self.affordable_max_tokens,
                    remedy: self.remedy,
                },
            },
            request_id,
        };
        Bytes::from(serde_json::to_vec(&body).expect("strings and numbers are always JSON"))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    error: Error<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: Option<&'static str>,
    message: &'a str,
    param: Option<()>,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    reason: &'static str,
    limit: Option<Amount>,
    used: Option<Amount>,
    requested: Option<Amount>,
    retry_after_ms: Option<u64>,
    resets_at: Option<&'a str>,
    affordable_max_tokens: Option<u64>,
    remedy: &'static str,
}
