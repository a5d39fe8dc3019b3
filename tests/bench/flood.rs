//! As many calls as a server can answer, or a rate of them: HTTP/2 frames written and read as they are, because a client that
//! costs as much as the server would leave it idle now and then.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::machine::Process;

/// Connections, and calls under way on each of them.
const CONNECTIONS: usize = 4;
const CALLS: usize = 16;
/// What the server may send before it hears from us; it hears when half is used up.
const WINDOW: u32 = 1 << 30;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
/// Flags: of data and headers, that nothing follows; of settings and pings, that this is the answer; of headers, that they
/// are whole.
const END: u8 = 1;
const ANSWER: u8 = 1;
const WHOLE: u8 = 4;
const HEAD_BYTES: usize = 9;

/// What is asked, and how its answer is told from a wrong one.
pub struct Calls<'a> {
    pub target: &'a str,
    pub path: &'static str,
    /// The body of the next call, as a gRPC frame.
    pub body: &'a (dyn Fn() -> Bytes + Sync),
    /// Whether an answer's body, a gRPC frame, is what a right server says.
    pub is_right: fn(&[u8]) -> bool,
    /// Calls a second at most.
    pub rate: Option<u64>,
    pub warmup: Duration,
    pub duration: Duration,
}

/// What a server did in the measured window.
#[derive(Clone, Copy)]
pub struct Served {
    pub cpu_us: f64,
    /// Of its core.
    pub busy: f64,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    wrong: AtomicU64,
    is_over: AtomicBool,
}

/// CPU of `server` for each call.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn run(server: &Process, calls: &Calls<'_>) -> Served {
    let counts = Counts::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut talks: Vec<_> =
                (0..CONNECTIONS).map(|_| Talk::begin(connect(calls.target), calls, &counts)).collect();
            let mut pace = Pace { rate: calls.rate, began: Instant::now(), called: 0 };
            while !counts.is_over.load(Relaxed) {
                talks.iter_mut().for_each(|talk| talk.go_on(&mut pace));
                thread::yield_now();
            }
        });
        thread::sleep(calls.warmup);
        let (began, cpu, answered) = (Instant::now(), server.cpu(), counts.answered.load(Relaxed));
        thread::sleep(calls.duration);
        let (took, cpu) = (began.elapsed(), server.cpu() - cpu);
        let answered = counts.answered.load(Relaxed) - answered;
        counts.is_over.store(true, Relaxed);
        assert!(counts.wrong.load(Relaxed) == 0, "{}: answers were not OK", calls.target);
        Served { cpu_us: cpu.as_secs_f64() * 1e6 / answered as f64, busy: cpu.as_secs_f64() / took.as_secs_f64() }
    })
}

/// When the next call is due.
struct Pace {
    /// Calls a second; without one, a call is always due.
    rate: Option<u64>,
    began: Instant,
    /// Calls made since it began.
    called: u64,
}

impl Pace {
    /// Whether one more is due, which is then made. They are due as many at once as can be under way: what a call costs depends
    /// on how many come with it.
    fn may_call(&mut self) -> bool {
        let at_once = (CONNECTIONS * CALLS) as u64;
        let due = |rate: u64| (self.began.elapsed().as_secs_f64() * rate as f64) as u64;
        let may_call = self.rate.is_none_or(|rate| self.called / at_once < due(rate) / at_once);
        self.called += u64::from(may_call);
        may_call
    }
}

trait Io: Read + Write {}
impl<T: Read + Write> Io for T {}

/// A connection that is read and written without waiting: to wake a client that sleeps is work of the server's core.
fn connect(target: &str) -> Box<dyn Io> {
    if let Some(path) = target.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_nonblocking(true).expect("a socket option");
        return Box::new(stream);
    }
    let stream = TcpStream::connect(target).expect("it listens");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_nonblocking(true).expect("a socket option");
    Box::new(stream)
}

/// What was read or written, unless that would have to wait.
fn now(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        result => Some(result.expect("the server goes on")),
    }
}

/// Of the frame in front, with its head, if all of it is here.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = *bytes else { return None };
    let length = HEAD_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
    (length <= bytes.len()).then_some(length)
}

/// One connection, with as many calls under way as there may be at any time.
struct Talk<'a> {
    io: Box<dyn Io>,
    calls: &'a Calls<'a>,
    counts: &'a Counts,
    /// The number of the next stream.
    next: u32,
    /// Streams, and what was seen of their answers.
    under_way: Vec<(u32, Vec<u8>)>,
    /// Bytes of answers since the server was told to send on.
    used: u32,
    /// What is to be written.
    out: Vec<u8>,
    /// What was read and not taken yet: the start of a frame.
    seen: Vec<u8>,
    filled: usize,
}

impl<'a> Talk<'a> {
    fn begin(io: Box<dyn Io>, calls: &'a Calls<'a>, counts: &'a Counts) -> Self {
        let (out, seen) = (PREFACE.to_vec(), vec![0; 1 << 17]);
        let mut talk = Self { io, calls, counts, next: 1, under_way: Vec::new(), used: 0, out, seen, filled: 0 };
        talk.frame(SETTINGS, 0, 0, &[]);
        talk.frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        talk
    }

    /// Reads and writes what can be now, and asks anew for each answer.
    fn go_on(&mut self, pace: &mut Pace) {
        if let Some(read) = now(self.io.read(&mut self.seen[self.filled..])) {
            assert!(read > 0, "the server hung up");
            self.filled += read;
            let seen = std::mem::take(&mut self.seen);
            let mut at = 0;
            while let Some(length) = frame_length(&seen[at..self.filled]) {
                self.take(&seen[at..at + length]);
                at += length;
            }
            self.seen = seen;
            self.seen.copy_within(at..self.filled, 0);
            self.filled -= at;
        }
        while self.under_way.len() < CALLS && pace.may_call() {
            self.call();
        }
        if !self.out.is_empty()
            && let Some(written) = now(self.io.write(&self.out))
        {
            self.out.drain(..written);
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        let [_, length @ ..] = u32::try_from(content.len()).expect("a small frame").to_be_bytes();
        self.out.extend_from_slice(&length);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(content);
    }

    fn call(&mut self) {
        let stream = self.next;
        self.next += 2;
        let headers = headers(stream == 1, self.calls.path);
        self.frame(HEADERS, WHOLE, stream, &headers);
        self.frame(DATA, END, stream, &(self.calls.body)());
        self.under_way.push((stream, Vec::new()));
    }

    fn take(&mut self, frame: &[u8]) {
        let (&[_, _, _, kind, flags, a, b, c, d], content) = frame.split_first_chunk().expect("a whole frame");
        let stream = u32::from_be_bytes([a, b, c, d]);
        let is_end = matches!(kind, DATA | HEADERS) && flags & END > 0;
        match kind {
            DATA => {
                self.used += u32::try_from(content.len()).expect("a small frame");
                let call = self.under_way.iter_mut().find(|(call, _)| *call == stream);
                call.expect("an answer to a call").1.extend_from_slice(content);
            }
            SETTINGS if flags & ANSWER == 0 => self.frame(SETTINGS, ANSWER, 0, &[]),
            PING if flags & ANSWER == 0 => self.frame(PING, ANSWER, 0, content),
            HEADERS | SETTINGS | PING | WINDOW_UPDATE => {}
            _ => panic!("a frame of kind {kind} ends the stream or the connection"),
        }
        if is_end {
            self.end(stream);
        }
        if self.used > WINDOW / 2 {
            self.frame(WINDOW_UPDATE, 0, 0, &self.used.to_be_bytes());
            self.used = 0;
        }
    }

    /// Counts an answer.
    fn end(&mut self, stream: u32) {
        let place = self.under_way.iter().position(|(call, _)| *call == stream).expect("an answer to a call");
        let (_, body) = self.under_way.swap_remove(place);
        self.counts.answered.fetch_add(1, Relaxed);
        self.counts.wrong.fetch_add(u64::from(!(self.calls.is_right)(&body)), Relaxed);
    }
}

/// Headers as HPACK has them. The first call of a connection names them, later ones name their places in the table.
fn headers(is_first: bool, path: &str) -> Vec<u8> {
    // POST and http stand in the static table.
    let mut block = vec![0x83, 0x86];
    if !is_first {
        block.extend_from_slice(&[0xc1, 0xc0, 0xbf, 0xbe]);
        return block;
    }
    // To be remembered: path, authority and content type under the static table's names, `te` under its own.
    let named: [(&[u8], &str); 4] =
        [(&[0x44], path), (&[0x41], "bench"), (&[0x40, 2, b't', b'e'], "trailers"), (&[0x5f], "application/grpc")];
    for (name, value) in named {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("a short text"));
        block.extend_from_slice(value.as_bytes());
    }
    block
}
