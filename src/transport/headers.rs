//! The headers of an answer: what may still be taken, holds taken off, on every response, admitted or denied.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use itoa::Buffer;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::length_delimiter_len;

use super::status::retry_seconds;
use crate::clock::wait_seconds;
use crate::decision::Reason;
use crate::ledger::{Limits, Remaining};

/// What token headers count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateUnit {
    #[default]
    PerMinute,
    /// A sixtieth of the limit and of what is left, rounded down.
    PerSecond,
}

/// Headers under way, as they stand in an answer to Envoy.
pub struct Headers {
    answer: Writer,
    /// The field of the answer whose entries they are.
    field: u32,
}

/// A value under way: its length is written before it.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

/// A protobuf message under way, in one buffer. What has to be written is known field by field, so no tree of it is built
/// first: an answer has some fifteen headers, and a tree of them costs more than the decision.
pub struct Writer(Vec<u8>);

/// Of an entry that sets a header: the header, inside it name and value, and what to do where it is there already, as bytes.
const HEADER: u32 = 1;
const NAME: u32 = 1;
const VALUE: u32 = 2;
/// Field 3, a number: Envoy's `OVERWRITE_IF_EXISTS_OR_ADD`.
const OVERWRITTEN: [u8; 2] = [3 << 3, 2];

/// Names of the policies: requests, then tokens in the order of [`crate::decision::Metric`].
const POLICY_NAMES: [&str; 4] = ["requests", "prompt", "uncached-prompt", "generated"];

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Leaves room for what [`Writer::framed`] puts in front.
    pub fn behind_a_frame(bytes: usize) -> Self {
        let mut writer = Self::with_capacity(FRAME_BYTES + bytes);
        writer.0.resize(FRAME_BYTES, 0);
        writer
    }

    /// This message as `field` of another one, behind `before`, which is delimited too: a field and its content. All in the
    /// frame of a gRPC call: not compressed, and how long. Begun with [`Writer::behind_a_frame`].
    pub fn framed(mut self, field: u32, before: (u32, &[u8])) -> Bytes {
        let mut fields = [0; FRAME_BYTES - PREFIX_BYTES];
        let mut rest = &mut fields[..];
        let length = self.0.len() - FRAME_BYTES;
        for (field, length, content) in [(before.0, before.1.len(), before.1), (field, length, &[])] {
            encode_key(field, WireType::LengthDelimited, &mut rest);
            encode_varint(u64::try_from(length).unwrap_or(u64::MAX), &mut rest);
            rest.put_slice(content);
        }
        let unused = rest.len();
        let fields = &fields[..FRAME_BYTES - PREFIX_BYTES - unused];
        let prefix = &mut self.0[unused..FRAME_BYTES];
        let message = u32::try_from(fields.len() + length).expect("an answer is small");
        prefix[1..PREFIX_BYTES].copy_from_slice(&message.to_be_bytes());
        prefix[PREFIX_BYTES..].copy_from_slice(fields);
        Bytes::from(self.0).slice(unused..)
    }

    pub fn write_number(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
    }

    #[inline]
    pub fn write_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.begin(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// A message, or bytes, of `length` follows. Nearly all are short, and then key and length are a byte each.
    #[inline]
    pub fn begin(&mut self, field: u32, length: usize) {
        if let (Ok(field @ ..16), Ok(length @ ..128)) = (u8::try_from(field), u8::try_from(length)) {
            self.0.extend_from_slice(&[field << 3 | WireType::LengthDelimited as u8, length]);
            return;
        }
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(u64::try_from(length).unwrap_or(u64::MAX), &mut self.0);
    }

    /// The headers in `field` come next.
    pub fn headers(self, field: u32) -> Headers {
        Headers { answer: self, field }
    }

    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Room in front of an answer: the prefix of a gRPC message, and the fields around the answer.
const FRAME_BYTES: usize = 32;
/// The prefix of a gRPC message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// The longest value that we put together: the list of policies, with the largest limits there can be.
const LINE_BYTES: usize = 192;

/// The bytes of a field with a small number and `length` bytes inside.
fn framed(length: usize) -> usize {
    1 + length_delimiter_len(length) + length
}

impl Headers {
    /// Inlined, because every length but that of the value is then known where it is called.
    #[inline]
    pub fn add(&mut self, name: &'static str, value: &[u8]) {
        let header = framed(name.len()) + framed(value.len());
        self.answer.begin(self.field, framed(header) + 2);
        self.answer.begin(HEADER, header);
        self.answer.write_bytes(NAME, name.as_bytes());
        self.answer.write_bytes(VALUE, value);
        self.answer.0.extend_from_slice(&OVERWRITTEN);
    }

    #[inline]
    pub fn add_number(&mut self, name: &'static str, value: u64) {
        self.add(name, Buffer::new().format(value).as_bytes());
    }

    pub fn finish(self) -> Writer {
        self.answer
    }

    /// Limits, what is left of them, and whether coming back helps. `reason` is why it was (or would have been) denied.
    pub fn add_answer(
        &mut self,
        limits: Option<&Limits>,
        unit: RateUnit,
        reason: Option<Reason>,
        retry: Option<Duration>,
    ) {
        if let Some(limits) = limits {
            self.add_requests(limits.requests);
            if let Some(tokens) = &limits.tokens {
                self.add_tokens(tokens, unit);
            }
            self.add_policies(limits);
        }
        let over_limit = reason.is_some_and(is_rate);
        self.add("x-ratelimit-over-limit", if over_limit { b"yes" } else { b"no" });
        self.add("x-should-retry", if retry.is_some() { b"true" } else { b"false" });
        if let Some(wait) = retry {
            self.add_number("retry-after", retry_seconds(wait));
        }
    }

    fn add_requests(&mut self, requests: Remaining) {
        self.add_number("x-ratelimit-limit-requests", requests.limit.per_minute);
        self.add_number("x-ratelimit-remaining-requests", requests.remaining);
        self.add_number("x-ratelimit-reset-requests", wait_seconds(requests.reset));
    }

    fn add_tokens(&mut self, tokens: &[Remaining; 3], unit: RateUnit) {
        let divisor = match unit {
            RateUnit::PerMinute => 1,
            RateUnit::PerSecond => 60,
        };
        let [prompt, uncached, generated] = tokens;
        self.add_number("x-ratelimit-limit-tokens-prompt", prompt.limit.per_minute / divisor);
        self.add_number("x-ratelimit-remaining-tokens-prompt", prompt.remaining / divisor);
        self.add_number("x-ratelimit-limit-tokens-cache-adjusted-prompt", uncached.limit.per_minute / divisor);
        self.add_number("x-ratelimit-remaining-tokens-cache-adjusted-prompt", uncached.remaining / divisor);
        self.add_number("x-ratelimit-limit-tokens-generated", generated.limit.per_minute / divisor);
        self.add_number("x-ratelimit-remaining-tokens-generated", generated.remaining / divisor);
    }

    /// `RateLimit-Policy` lists every limit; `RateLimit` tells the one that is closest to its end.
    fn add_policies(&mut self, limits: &Limits) {
        let tokens = limits.tokens.as_ref().map_or(&[][..], |tokens| &tokens[..]);
        let policies = || POLICY_NAMES.iter().zip(std::iter::once(&limits.requests).chain(tokens));
        let mut line = Line::new();
        for (at, (name, policy)) in policies().enumerate() {
            line.push(if at == 0 { b"\"" } else { b", \"" });
            line.push(name.as_bytes());
            line.push(b"\";q=");
            line.push_number(policy.limit.per_minute);
            line.push(b";w=60");
        }
        self.add("ratelimit-policy", line.written());

        let closest = policies().reduce(|closest, next| if is_closer(next.1, closest.1) { next } else { closest });
        let (name, policy) = closest.expect("requests are always limited");
        let mut line = Line::new();
        line.push(b"\"");
        line.push(name.as_bytes());
        line.push(b"\";r=");
        line.push_number(policy.remaining);
        line.push(b";t=");
        line.push_number(wait_seconds(policy.reset));
        self.add("ratelimit", line.written());
    }
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; LINE_BYTES], length: 0 }
    }

    #[inline]
    fn push(&mut self, text: &[u8]) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text);
        self.length = end;
    }

    fn push_number(&mut self, number: u64) {
        self.push(Buffer::new().format(number).as_bytes());
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Whether less of `left` than of `right` remains, as a share of its limit.
fn is_closer(left: &Remaining, right: &Remaining) -> bool {
    let share = |one: &Remaining, other: &Remaining| u128::from(one.remaining) * u128::from(other.limit.per_minute);
    share(left, right) < share(right, left)
}

/// Whether a reason is a rate that was exceeded.
fn is_rate(reason: Reason) -> bool {
    match reason {
        Reason::ExceedsLimit
        | Reason::RequestsPerMinute
        | Reason::PromptTokensPerMinute
        | Reason::UncachedPromptTokensPerMinute
        | Reason::GeneratedTokensPerMinute => true,
        Reason::InvalidRequest
        | Reason::UnknownAccount
        | Reason::AbuseBlock
        | Reason::FailedPayments
        | Reason::StarterExhausted
        | Reason::MonthlyLimit
        | Reason::ExceedsMonthRoom
        | Reason::UserLimit
        | Reason::CreditsDepleted
        | Reason::ExceedsBalance
        | Reason::TopUpPending
        | Reason::InFlight
        | Reason::Overloaded
        | Reason::Unavailable => false,
    }
}
