//! A connection to a running sidecar, and what to say when there is none.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

use super::terms::as_typed;
use crate::transport::status::retry_seconds;

/// The longest a command waits for a connection, and for an answer.
const WAIT: Duration = Duration::from_secs(5);

/// Why a command did not do as asked, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0:?} is not an address; write HOST:PORT, or unix:/path/to/socket")]
    BadAddress(String),
    #[error(
        "no sidecar answers at {address} ({cause})\n\
         Start one with `tollgate serve --demo`, or name where yours listens with `--at HOST:PORT`."
    )]
    Unreachable { address: String, cause: String },
    #[error(
        "{address} answers, but not as {service}\n\
         Name the right port with `--at`: a sidecar serves requests on 7300 and accounts on 7301 unless told otherwise."
    )]
    WrongPort { address: String, service: &'static str },
    #[error("{address} went away before it answered ({cause})")]
    Lost { address: String, cause: String },
    #[error("{message}")]
    Refused { code: Code, message: String },
    #[error(
        "{cause}\n\
         Whether the credits were added is not known. Repeat the command with `--purchase-id {purchase_id}`: they are \
         added once at most."
    )]
    Unsure { purchase_id: String, cause: Box<CliError> },
    #[error("the answer from {0} has no content; is it another version of tollgate?")]
    Empty(String),
    #[error("standard output cannot be written: {0}")]
    Output(std::io::Error),
    #[error("the system gave no random bytes for a request id ({0}); name one with `--request-id`")]
    NoRandom(#[from] getrandom::Error),
}

/// A channel to a sidecar, and the name of the service that is called on it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub channel: Channel,
    address: String,
    service: &'static str,
}

impl CliError {
    /// What a purchase that was sent and not answered leads to; another failure stays as it is.
    pub fn of_purchase(self, purchase_id: &str) -> Self {
        let unsure = match &self {
            Self::Lost { .. } | Self::Empty(_) => true,
            Self::Refused { code, .. } => matches!(code, Code::Cancelled | Code::DeadlineExceeded | Code::Unknown),
            Self::BadAddress(_)
            | Self::Unreachable { .. }
            | Self::WrongPort { .. }
            | Self::Unsure { .. }
            | Self::Output(_)
            | Self::NoRandom(_) => false,
        };
        if unsure { Self::Unsure { purchase_id: purchase_id.to_owned(), cause: Box::new(self) } } else { self }
    }
}

/// Connects to `HOST:PORT` or `unix:/path`.
pub async fn connect(address: &str, service: &'static str) -> Result<Connection, CliError> {
    let bad = || CliError::BadAddress(address.to_owned());
    let with_scheme = |address: &str| address.contains("://") || address.starts_with("unix:");
    let uri = if with_scheme(address) { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?.connect_timeout(WAIT).timeout(WAIT);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| CliError::Unreachable { address: address.to_owned(), cause: root_cause(&error) })?;
    Ok(Connection { channel, address: address.to_owned(), service })
}

impl Connection {
    /// What a status means to the person who typed the command.
    pub fn explain(&self, status: &Status) -> CliError {
        let address = self.address.clone();
        let code = status.code();
        if code == Code::Unimplemented {
            CliError::WrongPort { address, service: self.service }
        } else if code == Code::Unavailable && std::error::Error::source(status).is_some() {
            CliError::Lost { address, cause: root_cause(status) }
        } else {
            CliError::Refused { code, message: told(status) }
        }
    }

    /// An answer without the content that every answer has.
    pub fn empty(&self) -> CliError {
        CliError::Empty(self.address.clone())
    }
}

/// A failure as a person reads it: each field that is at fault on a line of its own, and whether to come back.
fn told(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = match details.bad_request() {
        Some(faults) if !faults.field_violations.is_empty() => {
            let line = |fault: &FieldViolation| format!("\n  {}: {}", as_typed(&fault.field), fault.description);
            format!("nothing was done{}", faults.field_violations.iter().map(line).collect::<String>())
        }
        Some(_) | None => status.message().to_owned(),
    };
    if let Some(wait) = details.retry_info().and_then(|retry| retry.retry_delay) {
        text.push_str(&format!("\nTry again in {} s.", retry_seconds(wait)));
    }
    text
}

/// The last error in the chain: the system's own words.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
