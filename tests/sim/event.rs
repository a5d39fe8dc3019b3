//! What happens in a history, instant by instant, and how its log tells it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Now;
use tollgate::pool::{Message, Reply};

/// Something that happens at one instant.
pub enum Event {
    /// The next ask, or the next misfortune.
    Turn,
    /// A sidecar's loop runs a round; a regular one, whose number is the node's newest, is followed by the next.
    Round {
        node: usize,
        life: usize,
        turn: Option<u64>,
    },
    /// A message reaches the store.
    ToStore(Packet),
    /// A reply reaches the sidecar, and when the store gave it.
    FromStore(Packet, Box<Reply>, Duration),
    /// No reply came in time.
    GiveUpRound {
        node: usize,
        life: usize,
        number: u64,
    },
    Client {
        request: usize,
        step: Step,
    },
    Change(Change),
    /// Faults stop, and what runs comes to its end.
    Calm,
    Insist,
    Farewell,
}

/// What a client or an inference server does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ask,
    AskAgain,
    GiveUp,
    /// Asks again and again.
    Insist {
        until: Duration,
    },
    Report {
        part: u64,
    },
    Extend {
        last: bool,
    },
    Finish,
    FinishAgain,
    /// Its sidecar died: another one is told.
    SettleElsewhere {
        last: bool,
    },
}

/// The end of a misfortune.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Heal {
        node: usize,
    },
    Start {
        node: usize,
    },
    Exit {
        node: usize,
        life: usize,
        back: Option<Duration>,
        byes_left: u32,
    },
    /// Whoever sold credits says so again.
    Redeliver {
        account: usize,
    },
}

/// A message and where it came from.
#[derive(Clone)]
pub struct Packet {
    pub number: u64,
    pub node: usize,
    pub life: usize,
    pub message: Arc<Message>,
    pub sent: Now,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => write!(f, "turn"),
            Self::Round { node, .. } => write!(f, "round at node {node}"),
            Self::ToStore(packet) => write!(f, "store takes {packet:?}"),
            Self::FromStore(packet, reply, _) => {
                write!(f, "session {} hears of packet {}: {}", packet.life, packet.number, in_a_line(reply))
            }
            Self::GiveUpRound { number, .. } => write!(f, "packet {number} is given up"),
            Self::Client { request, step } => write!(f, "request {request}: {step:?}"),
            Self::Change(change) => write!(f, "{change:?}"),
            Self::Calm => write!(f, "calm"),
            Self::Insist => write!(f, "all is quiet"),
            Self::Farewell => write!(f, "farewell"),
        }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet {} from session {}: {}", self.number, self.life, self.message.account)?;
        let Some(sync) = &self.message.sync else { return write!(f, ", rates only") };
        let flags = if sync.bye {
            " bye"
        } else if sync.declare {
            " declare"
        } else {
            ""
        };
        write!(f, " {}.{}{flags}: U {} R {}", sync.generation, sync.seq, sync.used.nanos(), sync.returned.nanos())?;
        write!(f, " knows G {} C {}", sync.granted_known.nanos(), sync.reclaimed_known.nanos())?;
        write!(f, " wants {} needs {}", sync.want.nanos(), sync.need.nanos())?;
        write!(f, " in {}, before {}", sync.month, sync.used_before.nanos())
    }
}

/// The part of a reply that is about money, in a line.
pub fn in_a_line(reply: &Reply) -> String {
    match &reply.sync {
        None => "rates only".to_owned(),
        Some(Err(refusal)) => format!("refused: {refusal}"),
        Some(Ok(sync)) => {
            let (granted, reclaimed) = (sync.granted.nanos(), sync.reclaimed.nanos());
            let (ttl, available) = (sync.ttl, sync.available.nanos());
            let recall = if sync.recall { ", recall" } else { "" };
            format!(
                "{}.{}: G {granted} C {reclaimed} for {ttl:?}, {available} available{recall}",
                sync.generation, sync.seq
            )
        }
    }
}
