//! What the wire is told by the configuration.

use std::time::Duration;

use super::headers::RateUnit;
use super::identity::IdentitySettings;
use super::status::Profile;

/// Everything the wire is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportSettings {
    pub identity: IdentitySettings,
    pub ask: AskSettings,
    pub answer: AnswerSettings,
    pub wire: WireSettings,
}

/// How a request that Envoy shows us becomes an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskSettings {
    /// Take model and bounds from headers (`x-tollgate-model`, `-prompt-tokens`, `-cached-tokens`, `-max-tokens`, `-n`,
    /// `-service-tier`), and only what they do not say from the body. Only where the proxy sets or removes them on
    /// every request: a client that could write them would choose its own price.
    pub trust_headers: bool,
    /// A further header that names the model, in lower case; read under the same condition.
    pub model_header: Option<String>,
    /// The header that names the request, in lower case; a request without one gets a random name. Only a header that
    /// the proxy makes itself: whoever can choose it can have two requests take one hold.
    pub request_id_header: Option<String>,
    /// Admit with fewer generated tokens rather than deny for money. Only where the inference server obeys
    /// `x-tollgate-max-tokens`.
    pub capped: bool,
}

impl Default for AskSettings {
    fn default() -> Self {
        Self {
            trust_headers: false,
            model_header: Some("x-ai-model".into()),
            request_id_header: Some("x-request-id".into()),
            capped: false,
        }
    }
}

/// How answers look to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerSettings {
    pub profile: Profile,
    /// What token headers count per.
    pub token_unit: RateUnit,
    /// Tell clients the account's balance.
    pub show_balances: bool,
}

/// Bounds on what strangers may open, send and keep waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireSettings {
    /// The largest message that is read, in bytes. A check carries as much of the body as Envoy was told to send.
    pub message_bytes_max: usize,
    /// Calls at once on one connection; more wait in the client.
    pub streams_max: u32,
    /// Checks and admissions under way at once, over all connections; above it the answer is `overloaded`.
    pub asks_max: usize,
    /// The longest that a call to the accounts port takes.
    pub call_life: Duration,
}

impl Default for WireSettings {
    fn default() -> Self {
        Self { message_bytes_max: 4 << 20, streams_max: 4_096, asks_max: 65_536, call_life: Duration::from_secs(5) }
    }
}
