//! How servers are talked to. A dialect says what to send, and turns what comes into events; the
//! connections themselves are the same for all.
//!
//! Every parser here is written apart from the servers' own codecs, so that a mistake in one is
//! not hidden by the other.

mod json;
mod nats;
mod nchan;
mod sbe;
mod socketio;
mod sse;
mod tickwire;

use std::{collections::VecDeque, io, net::SocketAddr};

use serde::Deserialize;

use crate::{
    body::BodyError,
    event_stream::EventStreamError,
    frame::{FrameError, Opcode},
    publisher::{Link, PublishError},
    ticks::{Batch, Symbols},
    upgrade::UpgradeError,
};

/// Which of a symbol's two numberings a tick belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Trades.
    Trade = 0,
    /// Quotes.
    Quote = 1,
}

/// What counts of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Its channel.
    pub channel: Channel,
    /// Its symbol; `None` if the run has no such symbol.
    pub symbol: Option<u32>,
    /// The source's epoch.
    pub epoch: u64,
    /// Its number in symbol, channel and epoch.
    pub seq: u64,
    /// When the source meant it to happen, µs since 1970 UTC.
    pub ts_us: u64,
    /// Ticks that conflation left out before it.
    pub skipped: u64,
    /// Snapshots and replays stand outside the account.
    pub accounted: bool,
}

/// What a server says to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A delivery.
    Tick(Tick),
    /// Opens an account: epoch, and per channel the last number that it does not cover.
    Start(Option<u32>, u64, [Option<u64>; 2]),
    /// Ticks of symbol, channel and epoch that will not come: first and last.
    Gap((Option<u32>, Channel, u64), Option<u64>, Option<u64>),
    /// It waits for the next message of the opening.
    Next,
    /// The subscription is in force.
    Live,
    /// To be answered with these bytes.
    Answer(Vec<u8>),
    /// The subscription is not granted.
    Refused(String),
    /// Part of a replay, which stands outside every account.
    Aside,
}

/// How what a server sends to a subscriber is made of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// WebSocket frames, behind an upgrade.
    WebSocket,
    /// Server-Sent Events, in the answer to a GET. The data of one are a text message.
    EventStream,
}

/// Why a connection ended, though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum LostReason {
    /// TCP failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No upgrade.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// No frame.
    #[error("the server sent {0}")]
    Frame(#[from] FrameError),
    /// No event stream.
    #[error(transparent)]
    EventStream(#[from] EventStreamError),
    /// No body of one, or its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A close frame.
    #[error("the server closed the connection: {code} {reason}")]
    Closed {
        /// Its code; 1005 without one.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// A message that is none of the dialect's.
    #[error("the server sent what is no message: {0}")]
    NotAMessage(String),
    /// The subscription was not granted, wholly or in part.
    #[error("the server refused the subscription: {0}")]
    Refused(String),
}

/// What a subscriber sends before it is live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Path of the request.
    pub path: String,
    /// Headers beyond those of every request of its framing.
    pub headers: Vec<(&'static str, String)>,
    /// Messages, ready to be written; the first after the answer, each further one when the
    /// server waits for it ([`Event::Next`]). Without any the connection is live at once.
    pub messages: VecDeque<Vec<u8>>,
}

/// Turns one connection's messages into events.
pub trait Reader {
    /// Takes a text or binary message.
    fn take(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason>;

    /// Whether the next message stands by itself, no part of an earlier one being held.
    fn is_between_messages(&self) -> bool {
        true
    }
}

/// What a server has said to a publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// Ticks taken since the connection was made, as far as it has told.
    pub accepted: u64,
    /// Flushes answered.
    pub flushed: u64,
    /// Its first complaint.
    pub first_error: Option<String>,
    /// What it wants to be answered.
    pub answer: Vec<u8>,
}

/// The publisher's side of a dialect.
pub trait Outlet: Send {
    /// Appends what publishes `batch`.
    fn publish(&mut self, batch: &Batch, out: &mut Vec<u8>);

    /// Appends what asks whether everything has arrived.
    fn flush(&mut self, out: &mut Vec<u8>);

    /// Takes the whole messages at the head of `bytes`; returns how many bytes they took.
    fn read(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, PublishError>;
}

/// One way to talk to servers.
pub trait Dialect: Send + Sync {
    /// Its name, for [`of_worker`].
    fn name(&self) -> &'static str;

    /// How its subscribers' connections are framed.
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    /// What the subscriber with `token` sends to get `symbols`.
    fn opening(&self, symbols: &[&str], token: &str) -> Opening;

    /// The same of one who was away since tick `seq` of `epoch` of each symbol; servers without
    /// history are not asked for any.
    fn opening_since(&self, symbols: &[&str], _since: (u64, u64), token: &str) -> Opening {
        self.opening(symbols, token)
    }

    /// The messages by which a subscriber gets all symbols at once; `None` where each has to be
    /// listed.
    fn opening_all(&self, _token: &str) -> Option<Opening> {
        None
    }

    /// For a new connection.
    fn reader(&self) -> Box<dyn Reader>;

    /// A publisher's connection.
    fn publisher(
        &self,
        server: SocketAddr,
        symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError>;
}

/// By its name in a manifest.
pub fn named(name: &str) -> Option<Box<dyn Dialect>> {
    Some(match name {
        "tickwire" => Box::new(tickwire::Tickwire::of_peers()),
        "socketio" => Box::new(socketio::SocketIo),
        "nchan" => Box::new(nchan::Nchan),
        "nats" => Box::new(nats::Nats),
        "tickwire-sse" => Box::new(sse::TickwireSse),
        "nchan-sse" => Box::new(sse::NchanSse),
        _ => return None,
    })
}

/// As tickwire itself speaks: with patterns, binary on request, and a latency budget.
pub fn tickwire(sbe: bool, max_delay_ms: Option<u32>) -> Box<dyn Dialect> {
    Box::new(tickwire::Tickwire {
        sbe,
        max_delay_ms,
        patterns: true,
    })
}

/// For a process that takes part in a run whose dialect has this name.
pub fn of_worker(name: &str) -> Option<Box<dyn Dialect>> {
    match name {
        "tickwire-sbe" => Some(tickwire(true, None)),
        name => named(name),
    }
}

fn not_a_message(payload: &[u8]) -> LostReason {
    let shown = &payload[..payload.len().min(200)];
    LostReason::NotAMessage(String::from_utf8_lossy(shown).into_owned())
}
