//! Stands where a billing system stands: takes the cashier's calls, and answers them as badly as it is told to.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::OptionFuture;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What it does with a call. Whatever it answers, a purchase that it does not decline or refuse is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Yes,
    /// Says yes twice in one answer.
    Twice,
    /// Dies in the middle of saying yes.
    Half,
    /// Never answers.
    Silence,
    /// Says yes when the test says so.
    WhenTold,
    No,
    /// Does nothing, and answers this status.
    Refuse(u16),
    /// Says something that is no answer.
    Garbage,
}

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    pub head: String,
    pub body: Value,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

#[derive(Clone)]
pub struct Payee {
    pub port: u16,
    state: Arc<Mutex<State>>,
    told: Arc<Notify>,
}

#[derive(Default)]
struct State {
    manners: VecDeque<Manner>,
    calls: Vec<Call>,
    made: BTreeSet<String>,
}

impl Payee {
    /// Behaves as `manners` say, one for each call, and then well.
    pub async fn start(manners: &[Manner]) -> Self {
        Self::begin(manners, None).await
    }

    /// Behaves well, over TLS, with the certificates that are in `folder`.
    pub async fn secure(folder: &Path) -> Self {
        let certificates = CertificateDer::pem_file_iter(folder.join("server.pem")).expect("a certificate");
        let certificates = certificates.map(|certificate| certificate.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(certificates, key);
        Self::begin(&[], Some(TlsAcceptor::from(Arc::new(config.expect("they belong together"))))).await
    }

    async fn begin(manners: &[Manner], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State { manners: manners.iter().copied().collect(), ..State::default() };
        let payee = Self { port, state: Arc::new(Mutex::new(state)), told: Arc::default() };
        let server = payee.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (payee, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => payee.serve(stream).await,
                        Some(tls) => drop(
                            OptionFuture::from(tls.accept(stream).await.ok().map(|stream| payee.serve(stream))).await,
                        ),
                    }
                });
            }
        });
        payee
    }

    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("nothing panics while it holds this lock").calls.clone()
    }

    /// Keys of purchases that were made.
    pub fn made(&self) -> BTreeSet<String> {
        self.state.lock().expect("nothing panics while it holds this lock").made.clone()
    }

    /// Lets everybody who waits have their answer.
    pub fn tell(&self) {
        self.told.notify_waiters();
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(call) = read(&mut stream).await else { return };
        let answer =
            |status: u16, body: &str| format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let yes = answer(200, r#"{"status":"succeeded","reference":"ch_7"}"#);
        let waiting = self.told.notified();
        let manner = self.note(call);
        let answer = match manner {
            Manner::Yes => yes,
            Manner::Twice => yes.repeat(2),
            Manner::Half => yes[..yes.len() - 5].to_owned(),
            Manner::Silence => return std::future::pending().await,
            Manner::WhenTold => {
                waiting.await;
                yes
            }
            Manner::No => answer(402, r#"{"status":"declined","reason":"card expired"}"#),
            Manner::Refuse(status) => answer(status, ""),
            Manner::Garbage => answer(200, "<html>"),
        };
        // Who was killed does not hear it.
        drop(stream.write_all(answer.as_bytes()).await);
    }

    fn note(&self, call: Call) -> Manner {
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        let manner = state.manners.pop_front().unwrap_or(Manner::Yes);
        if !matches!(manner, Manner::No | Manner::Refuse(_)) {
            state.made.insert(call.header("idempotency-key").to_owned());
        }
        state.calls.push(call);
        manner
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Call> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
            if body.len() == length {
                return Some(Call { head: head.to_owned(), body: serde_json::from_str(body).ok()? });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
