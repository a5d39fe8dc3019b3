//! From a check to an ask: who, for what, under which name. Reads in place; what does not parse ends here.

use std::borrow::Cow;

use super::fields::{Fields, Malformed};
use crate::decision::{Ask, Prompt, RequestId, ServiceTier};
use crate::transport::body::{Body, BodyFault};
use crate::transport::identity::{Credentials, IdentitySettings, Who, identify, metadata_string, user_name};
use crate::transport::request_id;
use crate::transport::settings::TransportSettings;

/// What a check is looked at for. A header that is given twice with different values is there but empty: it says nothing.
#[derive(Clone, Debug, Default)]
pub struct Found<'a> {
    credentials: Credentials<'a>,
    /// Envoy's dynamic metadata, not looked into yet.
    metadata: &'a [u8],
    /// The body as far as Envoy sent it.
    body: &'a [u8],
    user: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    attempt: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    hints: Hints<'a>,
    /// Names of headers of ours that came in from outside.
    pub ours: Vec<&'a [u8]>,
}

/// Model and bounds as headers tell them.
#[derive(Clone, Copy, Debug, Default)]
struct Hints<'a> {
    model: Option<&'a [u8]>,
    prompt_tokens: Option<&'a [u8]>,
    cached_tokens: Option<&'a [u8]>,
    max_tokens: Option<&'a [u8]>,
    n: Option<&'a [u8]>,
    service_tier: Option<&'a [u8]>,
}

/// The name of a request, as text for others and as digest for us.
#[derive(Clone, Debug)]
pub struct Name<'a> {
    pub text: Cow<'a, [u8]>,
    pub id: RequestId,
}

/// What is asked for, once it is known who pays.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub model: Cow<'a, str>,
    pub user: Option<Cow<'a, str>>,
    service_tier: ServiceTier,
    prompt: Prompt,
    cached_tokens_hint: Option<u64>,
    max_tokens: Option<u64>,
    n: u32,
    capped: bool,
}

/// Why a request says too little, or nothing that can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    NoModel,
    Body(BodyFault),
    Header(&'static str),
    UnknownServiceTier,
    /// Who uses the account is said, and is no name: without one, no cap would bind.
    User,
}

/// The prefix of headers that only we write.
pub const OURS: &[u8] = b"x-tollgate-";

/// Fields of Envoy's messages: a check's attributes, inside them the request, inside it the HTTP request and what it consists of.
mod number {
    pub const ATTRIBUTES: u64 = 1;
    pub const REQUEST: u64 = 4;
    pub const METADATA: u64 = 11;
    pub const HTTP: u64 = 2;
    pub const HEADERS: u64 = 3;
    pub const BODY: u64 = 11;
    pub const RAW_BODY: u64 = 12;
    pub const HEADER_MAP: u64 = 13;
    /// Of the map of headers in its raw form.
    pub const ENTRY: u64 = 1;
    /// Of a header, in either form. One of the values is there.
    pub const KEY: u64 = 1;
    pub const VALUE: u64 = 2;
    pub const RAW_VALUE: u64 = 3;
}

impl<'a> Found<'a> {
    /// Looks once through a `CheckRequest`; `None` where it is about no HTTP request.
    pub fn in_check(check: &'a [u8], settings: &TransportSettings) -> Result<Option<Self>, Malformed> {
        let mut attributes = &[][..];
        for field in Fields::of(check) {
            if let (number::ATTRIBUTES, content) = field? {
                attributes = content;
            }
        }
        Self::among(attributes, settings)
    }

    pub fn among(attributes: &'a [u8], settings: &TransportSettings) -> Result<Option<Self>, Malformed> {
        let mut found = Self::default();
        let mut is_http = false;
        for field in Fields::of(attributes) {
            match field? {
                (number::REQUEST, request) => {
                    for field in Fields::of(request) {
                        if let (number::HTTP, http) = field? {
                            is_http = true;
                            found.look_through(http, settings)?;
                        }
                    }
                }
                (number::METADATA, metadata) => found.metadata = metadata,
                _ => {}
            }
        }
        if !settings.ask.trust_headers {
            found.hints = Hints::default();
        }
        Ok(is_http.then_some(found))
    }

    /// Headers come in one of two forms, and so does the body, as Envoy was told.
    fn look_through(&mut self, http: &'a [u8], settings: &TransportSettings) -> Result<(), Malformed> {
        for field in Fields::of(http) {
            match field? {
                (number::HEADERS, header) => self.look_at(header, settings)?,
                (number::HEADER_MAP, map) => {
                    for field in Fields::of(map) {
                        if let (number::ENTRY, header) = field? {
                            self.look_at(header, settings)?;
                        }
                    }
                }
                (number::BODY | number::RAW_BODY, body) if !body.is_empty() => self.body = body,
                _ => {}
            }
        }
        Ok(())
    }

    fn look_at(&mut self, header: &'a [u8], settings: &TransportSettings) -> Result<(), Malformed> {
        let (mut key, mut value) = (&[][..], &[][..]);
        for field in Fields::of(header) {
            match field? {
                (number::KEY, name) => key = name,
                (number::VALUE | number::RAW_VALUE, text) if !text.is_empty() => value = text,
                _ => {}
            }
        }
        if key.starts_with(OURS) {
            self.ours.push(key);
        }
        let is = |name: &Option<String>| name.as_ref().is_some_and(|name| name.as_bytes() == key);
        if is(&settings.identity.account_header) {
            put(&mut self.credentials.account, value);
        } else if is(&settings.identity.user_header) {
            put(&mut self.user, value);
        } else if is(&settings.ask.request_id_header) {
            put(&mut self.request_id, value);
        } else if is(&settings.ask.model_header) {
            put(&mut self.hints.model, value);
        } else if let Some(slot) = self.slot(key) {
            put(slot, value);
        }
        Ok(())
    }

    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            b"authorization" => &mut self.credentials.authorization,
            b"x-api-key" => &mut self.credentials.api_key,
            b"content-length" => &mut self.content_length,
            b"x-envoy-attempt-count" => &mut self.attempt,
            b"x-tollgate-model" => &mut self.hints.model,
            b"x-tollgate-prompt-tokens" => &mut self.hints.prompt_tokens,
            b"x-tollgate-cached-tokens" => &mut self.hints.cached_tokens,
            b"x-tollgate-max-tokens" => &mut self.hints.max_tokens,
            b"x-tollgate-n" => &mut self.hints.n,
            b"x-tollgate-service-tier" => &mut self.hints.service_tier,
            _ => return None,
        })
    }

    pub fn who(&self, settings: &TransportSettings) -> Who<'a> {
        identify(&settings.identity, self.credentials, self.metadata)
    }

    /// The request's name: the one it has, or a random one.
    pub fn name(&self) -> Name<'a> {
        let attempt = self.attempt.and_then(number).and_then(|attempt| u32::try_from(attempt).ok());
        let attempt = attempt.unwrap_or(0);
        match self.request_id.filter(|id| request_id::is_valid(id)) {
            Some(id) => Name { text: id.into(), id: RequestId { digest: request_id::digest(id), attempt } },
            None => {
                let (digest, text) = request_id::random();
                Name { text: text.into_bytes().into(), id: RequestId { digest, attempt } }
            }
        }
    }

    /// What is asked for: from headers where they are trusted, the rest from the body.
    pub fn wanted(&self, settings: &TransportSettings) -> Result<Wanted<'a>, Unclear> {
        let hints = &self.hints;
        let body = self.body(&settings.identity)?;
        let model = match hints.model {
            Some(model) => {
                Some(Cow::Borrowed(std::str::from_utf8(model).map_err(|_| Unclear::Header("x-tollgate-model"))?))
            }
            None => body.model,
        };
        let completions = body.n.unwrap_or(1).saturating_mul(body.prompts.unwrap_or(1));
        let n = hint("x-tollgate-n", hints.n)?.unwrap_or(completions);
        Ok(Wanted {
            model: model.filter(|model| !model.is_empty()).ok_or(Unclear::NoModel)?,
            user: self.user(&settings.identity, body.user)?,
            service_tier: service_tier(hints.service_tier, body.service_tier.as_deref())?,
            prompt: self.prompt()?,
            cached_tokens_hint: hint("x-tollgate-cached-tokens", hints.cached_tokens)?,
            max_tokens: hint("x-tollgate-max-tokens", hints.max_tokens)?.or(body.max_tokens),
            n: u32::try_from(n).unwrap_or(u32::MAX),
            capped: settings.ask.capped,
        })
    }

    /// The body as far as it is needed. One that is not JSON does no harm where a header names the model.
    fn body(&self, identity: &IdentitySettings) -> Result<Body<'a>, Unclear> {
        let hints = &self.hints;
        if self.body.is_empty()
            || (hints.model.is_some()
                && hints.prompt_tokens.is_some()
                && hints.max_tokens.is_some()
                && !identity.user_from_body)
        {
            return Ok(Body::default());
        }
        match Body::read(self.body) {
            Err(BodyFault::NotJson) if hints.model.is_some() => Ok(Body::default()),
            body => body.map_err(Unclear::Body),
        }
    }

    /// Tokens where a header counts them, else the size of the whole body, also of the part that was cut off.
    fn prompt(&self) -> Result<Prompt, Unclear> {
        if let Some(tokens) = hint("x-tollgate-prompt-tokens", self.hints.prompt_tokens)? {
            return Ok(Prompt::Tokens(tokens));
        }
        let announced = self.content_length.and_then(number).unwrap_or(0);
        let seen = u64::try_from(self.body.len()).unwrap_or(u64::MAX);
        Ok(Prompt::Bytes(announced.max(seen)))
    }

    /// The user that the proxy vouches for; where clients are believed and it vouches for none, the one that they name.
    fn user(&self, identity: &IdentitySettings, named: Option<Cow<'a, str>>) -> Result<Option<Cow<'a, str>>, Unclear> {
        let of_proxy = identity.user_metadata.as_ref().and_then(|path| metadata_string(path, self.metadata));
        if let Some(user) = of_proxy.filter(|user| !user.is_empty()) {
            let name = user_name(&user).ok_or(Unclear::User)?;
            return Ok(Some(Cow::Owned(name.to_owned())));
        }
        if let Some(user) = self.user {
            return user_name(user).map(|user| Some(Cow::Borrowed(user))).ok_or(Unclear::User);
        }
        let named = named.filter(|user| identity.user_from_body && !user.is_empty());
        if named.as_ref().is_some_and(|user| user_name(user.as_bytes()).is_none()) {
            return Err(Unclear::User);
        }
        Ok(named)
    }
}

impl Wanted<'_> {
    pub fn ask<'a>(&'a self, account: &'a str, id: RequestId) -> Ask<'a> {
        Ask {
            account,
            user: self.user.as_deref(),
            model: &self.model,
            service_tier: self.service_tier,
            prompt: self.prompt,
            cached_tokens_hint: self.cached_tokens_hint,
            max_tokens: self.max_tokens,
            n: self.n,
            request_id: id,
            deadline: None,
            capped: self.capped,
        }
    }
}

impl Unclear {
    /// What is wrong, and what to change.
    pub fn words(self) -> (String, &'static str) {
        match self {
            Self::NoModel => ("The request names no model".into(), "name it as \"model\" in a JSON body"),
            Self::Body(BodyFault::NotJson) => ("The body is not a JSON object".into(), "send a JSON object"),
            Self::Body(BodyFault::Ambiguous(name)) => {
                (format!("The body has \"{name}\" twice, with different values"), "send it once")
            }
            Self::Body(BodyFault::NotText(name)) => (format!("\"{name}\" is not a string"), "send a string"),
            Self::Body(BodyFault::NotWholeNumber(name)) => {
                (format!("\"{name}\" is not a whole number of at least 0"), "send a whole number or leave it out")
            }
            Self::Header(name) => {
                (format!("The header {name} cannot be read"), "have the proxy send it once, as it should be")
            }
            Self::User => {
                ("The user's name cannot be read".into(), "name the user in 1 to 128 bytes without control characters")
            }
            Self::UnknownServiceTier => {
                ("The service_tier is not known".into(), "send standard, priority, fast or batch, or leave it out")
            }
        }
    }
}

fn put<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) {
    *slot = match slot {
        Some(before) if *before != value => Some(&[]),
        _ => Some(value),
    };
}

fn hint(name: &'static str, value: Option<&[u8]>) -> Result<Option<u64>, Unclear> {
    value.map(|digits| number(digits).ok_or(Unclear::Header(name))).transpose()
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A service tier by our names or OpenAI's; standard where none is named.
fn service_tier(header: Option<&[u8]>, body: Option<&str>) -> Result<ServiceTier, Unclear> {
    let name = match header {
        Some(name) => std::str::from_utf8(name).map_err(|_| Unclear::UnknownServiceTier)?,
        None => body.unwrap_or("default"),
    };
    match name {
        "default" | "auto" => Ok(ServiceTier::Standard),
        name => ServiceTier::from_name(name).ok_or(Unclear::UnknownServiceTier),
    }
}
