//! A network between two programs that can be cut, in either direction or both. What was sent meanwhile arrives late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    target: Arc<AtomicU16>,
    forth: watch::Sender<bool>,
    back: watch::Sender<bool>,
    /// Counts moves to another target; connections to the old one end.
    moves: watch::Sender<u32>,
}

impl Proxy {
    /// Leads to a port of this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a port");
        let proxy = Self {
            port: listener.local_addr().expect("it is bound").port(),
            target: Arc::new(AtomicU16::new(port)),
            forth: watch::Sender::new(true),
            back: watch::Sender::new(true),
            moves: watch::Sender::new(0),
        };
        let (target, moves) = (Arc::clone(&proxy.target), proxy.moves.subscribe());
        let (forth, back) = (proxy.forth.subscribe(), proxy.back.subscribe());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", target.load(Ordering::Relaxed))).await;
                let Ok(far) = far else { continue };
                tokio::spawn(join(near, far, forth.clone(), back.clone(), moves.clone()));
            }
        });
        proxy
    }

    /// Whether requests get through.
    pub fn forth(&self, is_open: bool) {
        self.forth.send_replace(is_open);
    }

    /// Whether answers get through.
    pub fn back(&self, is_open: bool) {
        self.back.send_replace(is_open);
    }

    /// Leads elsewhere from now on; connections end.
    pub fn turn_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
        self.moves.send_modify(|moves| *moves += 1);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn join(
    near: TcpStream,
    far: TcpStream,
    forth: watch::Receiver<bool>,
    back: watch::Receiver<bool>,
    mut moves: watch::Receiver<u32>,
) {
    let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
    moves.mark_unchanged();
    tokio::select! {
        () = carry(near_reads, far_writes, forth) => {}
        () = carry(far_reads, near_writes, back) => {}
        _ = moves.changed() => {}
    }
}

/// Carries bytes one way while that is open.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if open.wait_for(|is_open| *is_open).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
