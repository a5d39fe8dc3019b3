//! An OpenAI-shaped body, whole or cut off: the model, the bounds and the user, read without building a document.
//!
//! One pass, no recursion, no allocation unless a wanted string has escapes. Only members of the outermost object
//! count. Where the body was cut, what came before the cut is known; a value that the cut may have shortened is not.

mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use scan::{Scan, Stop, Value};

/// What a body says about the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body<'a> {
    pub model: Option<Cow<'a, str>>,
    pub user: Option<Cow<'a, str>>,
    pub service_tier: Option<Cow<'a, str>>,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, however often they are given.
    pub max_tokens: Option<u64>,
    /// The larger of `n` and `best_of`: how many completions are generated for each prompt.
    pub n: Option<u64>,
    /// How many prompts a list under `prompt` has; each is completed on its own.
    pub prompts: Option<u64>,
}

/// Why a body cannot say what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is no JSON object, or breaks off being one.
    NotJson,
    /// The member is given twice, with different values: servers would not agree which one counts.
    Ambiguous(&'static str),
    NotText(&'static str),
    NotWholeNumber(&'static str),
}

/// The members that are looked at.
#[derive(Clone, Copy)]
enum Member {
    Model,
    User,
    ServiceTier,
    MaxTokens,
    Completions,
    Prompt,
}

impl<'a> Body<'a> {
    /// Reads a body, or as much of it as there is. An empty body says nothing.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BodyFault> {
        let mut body = Self::default();
        match body.take_members(&mut Scan::of(bytes)) {
            Ok(()) | Err(Stop::Cut) => Ok(body),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    fn take_members(&mut self, scan: &mut Scan<'a>) -> Result<(), Stop> {
        scan.expect(b'{')?;
        if scan.next()? == b'}' {
            return Ok(());
        }
        loop {
            let key = scan.text()?;
            scan.expect(b':')?;
            let value = scan.value()?;
            if let Some((member, name)) = member(key) {
                self.take(member, name, value)?;
            }
            match scan.next()? {
                b',' => scan.step(),
                b'}' => return Ok(()),
                _ => return Err(BodyFault::NotJson.into()),
            }
        }
    }

    fn take(&mut self, member: Member, name: &'static str, value: Value<'a>) -> Result<(), BodyFault> {
        if matches!(value, Value::Bare(b"null")) {
            return Ok(());
        }
        match member {
            Member::Model => take_text(&mut self.model, name, value),
            Member::User => take_text(&mut self.user, name, value),
            Member::ServiceTier => take_text(&mut self.service_tier, name, value),
            Member::MaxTokens => take_largest(&mut self.max_tokens, name, value),
            Member::Completions => take_largest(&mut self.n, name, value),
            Member::Prompt => {
                if let Value::Nested { list: true, parts } = value {
                    self.prompts = self.prompts.max(Some(parts.max(1)));
                }
                Ok(())
            }
        }
    }
}

/// The member that a key (with its quotes) names.
fn member(key: &[u8]) -> Option<(Member, &'static str)> {
    const LONGEST: usize = "max_completion_tokens".len();
    let plain = key.get(1..key.len().checked_sub(1)?)?;
    if !plain.contains(&b'\\') {
        return member_named(plain);
    }
    // An escape takes at most six bytes for each of the key's.
    if plain.len() > 6 * LONGEST {
        return None;
    }
    member_named(serde_json::from_slice::<String>(key).ok()?.as_bytes())
}

fn member_named(key: &[u8]) -> Option<(Member, &'static str)> {
    Some(match key {
        b"model" => (Member::Model, "model"),
        b"user" => (Member::User, "user"),
        b"service_tier" => (Member::ServiceTier, "service_tier"),
        b"max_tokens" => (Member::MaxTokens, "max_tokens"),
        b"max_completion_tokens" => (Member::MaxTokens, "max_completion_tokens"),
        b"max_output_tokens" => (Member::MaxTokens, "max_output_tokens"),
        b"n" => (Member::Completions, "n"),
        b"best_of" => (Member::Completions, "best_of"),
        b"prompt" => (Member::Prompt, "prompt"),
        _ => return None,
    })
}

fn take_text<'a>(slot: &mut Option<Cow<'a, str>>, name: &'static str, value: Value<'a>) -> Result<(), BodyFault> {
    let Value::Text(quoted) = value else { return Err(BodyFault::NotText(name)) };
    let text = unquoted(quoted).ok_or(BodyFault::NotText(name))?;
    match slot {
        Some(before) if *before != text => Err(BodyFault::Ambiguous(name)),
        Some(_) => Ok(()),
        None => {
            *slot = Some(text);
            Ok(())
        }
    }
}

fn take_largest(slot: &mut Option<u64>, name: &'static str, value: Value<'_>) -> Result<(), BodyFault> {
    let Value::Bare(digits) = value else { return Err(BodyFault::NotWholeNumber(name)) };
    let number = whole_number(digits).ok_or(BodyFault::NotWholeNumber(name))?;
    *slot = (*slot).max(Some(number));
    Ok(())
}

fn unquoted(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let plain = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if plain.contains(&b'\\') {
        return serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned);
    }
    std::str::from_utf8(plain).ok().map(Cow::Borrowed)
}

/// The number that digits say; what is too large for a `u64` is as good as its largest.
fn whole_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}
