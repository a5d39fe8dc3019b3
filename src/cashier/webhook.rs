//! One signed call to a webhook, and what it answered.
//!
//! Each call has a connection of its own: calls are rare, and a call that was sent is never sent again by itself.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::settings::{CashierSettings, Endpoint, Secrets};
use super::signature::signature;

/// Bytes of an answer that are read: many times what any needs.
const ANSWER_MAX: usize = 64 << 10;

/// Who calls.
pub(super) struct Caller {
    secrets: Secrets,
    timeout: Duration,
    tls: Option<TlsConnector>,
}

/// What a webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no answer. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("the call broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Unreadable(Box<dyn Error + Send + Sync>),
}

/// Why nobody can be called over TLS, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cashier.ca holds no certificate that can be read; write PEM")]
    Unreadable,
    #[error("this system trusts nobody; name the webhook's authority in cashier.ca")]
    Nobody,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Caller {
    pub fn new(settings: &CashierSettings) -> Result<Self, TrustError> {
        let is_secure = [&settings.payments, &settings.alerts].into_iter().flatten().any(|at| at.is_secure);
        let tls = if is_secure { Some(connector(settings.ca.as_deref())?) } else { None };
        Ok(Self { secrets: settings.secrets.clone(), timeout: settings.timeout, tls })
    }

    /// Posts JSON under an idempotency key. `now` is in seconds since 1970.
    pub async fn post(&self, to: &Endpoint, key: &str, body: String, now: u64) -> Result<Answer, CallError> {
        let request = Request::post(&to.path)
            .header(HOST, &to.authority)
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header("tollgate-timestamp", now)
            .header("tollgate-signature", signature(&self.secrets, now, body.as_bytes()))
            .body(Full::new(Bytes::from(body)))
            .expect("keys and addresses are visible ASCII");
        let answered = timeout(self.timeout, self.connect_and_send(to, request)).await;
        answered.unwrap_or(Err(CallError::Late(self.timeout)))
    }

    async fn connect_and_send(&self, to: &Endpoint, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
        stream.set_nodelay(true)?;
        if !to.is_secure {
            return send(stream, request).await;
        }
        let tls = self.tls.as_ref().expect("who has secure addresses has a connector");
        let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
        send(tls.connect(name, stream).await?, request).await
    }
}

async fn send(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answered = pin!(async { read(sender.send_request(request).await?).await });
    tokio::select! {
        biased;
        answer = &mut answered => return answer,
        // Where it failed, the call tells.
        _ = connection => {}
    }
    answered.await
}

async fn read(response: Response<Incoming>) -> Result<Answer, CallError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(CallError::Unreadable)?;
    Ok(Answer { status, body: body.to_bytes() })
}

fn connector(ca: Option<&[u8]>) -> Result<TlsConnector, TrustError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|_| TrustError::Unreadable)?)?;
            }
            if roots.is_empty() {
                return Err(TrustError::Unreadable);
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TrustError::Nobody);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}
