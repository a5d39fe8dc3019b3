//! What the cashier is told by the configuration: whom to call, how calls are signed, and how long to wait.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;

/// Everything the cashier is told.
#[derive(Clone, Debug)]
pub struct CashierSettings {
    /// Who buys; nothing is bought without.
    pub payments: Option<Endpoint>,
    /// Who hears of accounts; nobody does without.
    pub alerts: Option<Endpoint>,
    pub secrets: Secrets,
    /// The longest that a call may take.
    pub timeout: Duration,
    /// PEM of whom to trust instead of what the system trusts.
    pub ca: Option<Vec<u8>>,
}

/// A webhook's address.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) is_secure: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the header `host` has it.
    pub(super) authority: String,
    /// With the query.
    pub(super) path: String,
}

impl Endpoint {
    /// `https://HOST[:PORT][/PATH]`, or with `http` on this machine. Or why it is none.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no address")?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("does not begin with https://"),
        };
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return Err("names no host") };
        if authority.as_str().contains('@') {
            return Err(
                "has a user or a password in it, which calls do not carry; they are signed with cashier.secret",
            );
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        if !is_secure && !is_here(&host) {
            return Err("is plain http to another machine, where anybody in between could change it");
        }
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { is_secure, host, port, authority: authority.to_string(), path })
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without the path, which may be a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_secure { "https" } else { "http" }, self.authority)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What calls are signed with: one secret, or while it is being replaced the new one and the old one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

/// Characters in a secret: 128 random bits in hex.
const SECRET_MIN: usize = 32;

impl Secrets {
    /// One secret or two with white space in between. Or why it is none; never the secret itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let secrets: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if secrets.is_empty() || secrets.len() > 2 {
            return Err(format!("has {} secrets; write one, or the new one and the old one", secrets.len()));
        }
        if secrets.iter().any(|secret| secret.len() < SECRET_MIN) {
            return Err(format!("is shorter than {SECRET_MIN} characters; make one with `openssl rand -hex 32`"));
        }
        Ok(Self(secrets))
    }

    pub(super) fn all(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}
