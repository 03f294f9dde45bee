//! One subscriber: ask, subscribe, receive.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::TcpStream,
};

use super::{Tally, handshake::Handshake};
use crate::{
    account::Ledger,
    body::Body,
    dialect::{Event, LostReason, Reader, Tick},
    event_stream::first_event,
    frame::{Carry, Frame, Opcode, first_frame, masked},
    reference::{Place, References},
    schedule::Clock,
    ticks::Symbols,
};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TCP connection is being made.
    Connecting,
    /// The request is out.
    Upgrading,
    /// What asks for ticks is out.
    Subscribing,
    /// The subscription is in force.
    Live,
}

pub(super) struct Subscriber {
    pub(super) stream: TcpStream,
    pub(super) phase: Phase,
    request: String,
    messages: VecDeque<Vec<u8>>,
    /// Where its messages are events, what they come in.
    body: Option<Body>,
    /// Bytes of the handshake's answer, or of a message; those of a body without its chunks.
    carry: Carry,
    reader: Box<dyn Reader>,
    ledger: Ledger,
}

/// What all subscribers use in turn.
pub(super) struct Shared<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) handshake: &'a Handshake,
    pub(super) symbols: &'a Symbols,
    pub(super) references: &'a mut References,
    pub(super) clock: &'a Clock,
    pub(super) tally: &'a mut Tally,
}

/// What of a subscriber its messages change.
struct Conversation<'a> {
    stream: &'a TcpStream,
    phase: &'a mut Phase,
    messages: &'a mut VecDeque<Vec<u8>>,
    ledger: &'a mut Ledger,
    tally: &'a mut Tally,
    /// Events of the message at hand.
    events: u32,
    /// Its last tick, if that was the next in its account.
    next: Option<Tick>,
}

impl Subscriber {
    pub(super) fn new(
        stream: TcpStream,
        request: String,
        messages: VecDeque<Vec<u8>>,
        reader: Box<dyn Reader>,
        ledger: Ledger,
    ) -> Self {
        Self {
            stream,
            phase: Phase::Connecting,
            request,
            messages,
            body: None,
            carry: Carry::default(),
            reader,
            ledger,
        }
    }

    /// Called once the socket can be written to: it is connected, or has failed.
    pub(super) fn send_request(&mut self) -> Result<(), LostReason> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error.into());
        }
        say(&self.stream, std::mem::take(&mut self.request).as_bytes())?;
        self.phase = Phase::Upgrading;
        Ok(())
    }

    /// Reads once and takes what is complete.
    pub(super) fn receive(&mut self, shared: &mut Shared<'_>) -> Result<(), LostReason> {
        let mut carry = std::mem::take(&mut self.carry);
        let bytes = match carry.read(&mut self.stream, shared.bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.carry = carry;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        shared.tally.read_at(shared.clock.now_us());
        if self.phase == Phase::Live {
            shared.tally.bytes += (bytes.len() - carry.len()) as u64;
        }
        let head_bytes = self.finish_handshake(bytes, shared.handshake)?;
        let mut rest = &mut bytes[head_bytes..];
        let mut used = 0;
        if self.phase != Phase::Upgrading {
            let (symbols, references) = (shared.symbols, &mut *shared.references);
            let tally = &mut *shared.tally;
            used = if let Some(body) = &mut self.body {
                // Behind a head nothing has been kept yet.
                let kept = carry.len().saturating_sub(head_bytes);
                let length = kept + body.decode(&mut rest[kept..])?;
                rest = &mut rest[..length];
                self.take_all(first_event, rest, symbols, references, tally)?
            } else {
                self.take_all(first_frame, rest, symbols, references, tally)?
            };
        }
        carry.keep(&rest[used..]);
        self.carry = carry;
        let open = self.body.as_ref().map_or(Ok(()), Body::check_open);
        open.map_err(Into::into)
    }

    /// The bytes of the handshake's answer in front of the messages.
    fn finish_handshake(
        &mut self,
        bytes: &[u8],
        handshake: &Handshake,
    ) -> Result<usize, LostReason> {
        if self.phase != Phase::Upgrading {
            return Ok(0);
        }
        let Some((head_bytes, body)) = handshake.answer(bytes)? else {
            return Ok(0);
        };
        self.body = body;
        self.phase = Phase::Live;
        if let Some(message) = self.messages.pop_front() {
            self.phase = Phase::Subscribing;
            say(&self.stream, &message)?;
        }
        Ok(head_bytes)
    }

    /// Takes all whole messages at the head of `bytes`, which `first` finds one by one; returns how
    /// many bytes they took.
    fn take_all<E>(
        &mut self,
        first: impl Fn(&[u8]) -> Result<Option<(Frame<'_>, usize)>, E>,
        bytes: &[u8],
        symbols: &Symbols,
        references: &mut References,
        tally: &mut Tally,
    ) -> Result<usize, LostReason>
    where
        LostReason: From<E>,
    {
        let mut used = 0;
        loop {
            if self.reader.is_between_messages() {
                used += self.take_known(&bytes[used..], references, tally);
            }
            let Some((frame, frame_bytes)) = first(&bytes[used..])? else {
                return Ok(used);
            };
            let next = self.take(frame, symbols, tally)?;
            if let Some((place, ts_us)) = next {
                let frame = &bytes[used..used + frame_bytes];
                references.learn(place, ts_us, frame);
            }
            used += frame_bytes;
        }
    }

    /// Takes frames that are byte for byte those which the account expects.
    fn take_known(&mut self, bytes: &[u8], references: &References, tally: &mut Tally) -> usize {
        let frames_max = if self.ledger.is_single() {
            usize::MAX
        } else {
            1
        };
        let mut used = 0;
        while used < bytes.len() {
            let Some((symbol, account)) = self.ledger.expected() else {
                break;
            };
            let place = Place {
                symbol,
                epoch: account.epoch(),
                seq: account.last() + 1,
            };
            let mut ticks = 0;
            let matched = references.matching(place, &bytes[used..], frames_max, |ts_us, count| {
                tally.delivered(ts_us, count);
                ticks += count;
            });
            if matched == 0 {
                break;
            }
            account.advance(ticks, &mut tally.counts);
            tally.compared += ticks;
            self.ledger.turn();
            used += matched;
        }
        used
    }

    /// Takes any frame. Where it holds the next tick of its account and nothing else, that is
    /// returned with its intended time.
    fn take(
        &mut self,
        frame: Frame<'_>,
        symbols: &Symbols,
        tally: &mut Tally,
    ) -> Result<Option<(Place, u64)>, LostReason> {
        match frame.opcode {
            Opcode::Ping => say(&self.stream, &masked(Opcode::Pong, frame.payload))?,
            Opcode::Close => return Err(closed(frame.payload)),
            Opcode::Pong => {}
            Opcode::Text | Opcode::Binary => return self.take_message(frame, symbols, tally),
        }
        Ok(None)
    }

    fn take_message(
        &mut self,
        frame: Frame<'_>,
        symbols: &Symbols,
        tally: &mut Tally,
    ) -> Result<Option<(Place, u64)>, LostReason> {
        let whole = self.reader.is_between_messages();
        let mut conversation = Conversation {
            stream: &self.stream,
            phase: &mut self.phase,
            messages: &mut self.messages,
            ledger: &mut self.ledger,
            tally,
            events: 0,
            next: None,
        };
        let mut each = |event| conversation.take(event);
        self.reader
            .take(frame.opcode, frame.payload, symbols, &mut each)?;
        let alone = conversation.events == 1 && whole && self.reader.is_between_messages();
        let next = conversation.next.filter(|_| alone);
        Ok(next.and_then(|tick| {
            let place = Place {
                symbol: tick.symbol?,
                epoch: tick.epoch,
                seq: tick.seq,
            };
            Some((place, tick.ts_us))
        }))
    }
}

impl Conversation<'_> {
    fn take(&mut self, event: Event) -> Result<(), LostReason> {
        self.events += 1;
        match event {
            Event::Tick(tick) if tick.accounted => {
                let next = self.ledger.tick(&tick, &mut self.tally.counts);
                self.next = next.then_some(tick);
                self.tally.delivered(tick.ts_us, 1);
            }
            Event::Tick(_) | Event::Aside => {}
            Event::Start(symbol, epoch, last) => {
                self.ledger
                    .start(symbol, epoch, last, &mut self.tally.counts);
            }
            Event::Gap(account, from, to) => {
                self.ledger.gap(account, from, to, &mut self.tally.counts);
            }
            Event::Next => {
                if let Some(message) = self.messages.pop_front() {
                    say(self.stream, &message)?;
                }
            }
            Event::Live => *self.phase = Phase::Live,
            Event::Answer(bytes) => say(self.stream, &bytes)?,
            Event::Refused(why) => return Err(LostReason::Refused(why)),
        }
        Ok(())
    }
}

/// Writes a message, which an empty send buffer holds whole; a short write is an error.
///
/// Whoever answers what it has just received is interactive to the kernel (`TCP_QUICKACK` of
/// `tcp(7)` turned off): it does not acknowledge what it reads, but when too much is unacknowledged,
/// and on loopback that is on the core and the account of the server that sends. How long it stays
/// so depends on the sizes of the first messages. So this is taken back, for all servers alike, and
/// a subscriber pays for its own acknowledgements.
fn say(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    rustix::net::sockopt::set_tcp_quickack(stream, true).map_err(Into::into)
}

fn closed(payload: &[u8]) -> LostReason {
    let (code, reason) = payload
        .split_first_chunk()
        .map_or((1005, &[][..]), |(&code, reason)| {
            (u16::from_be_bytes(code), reason)
        });
    LostReason::Closed {
        code,
        reason: String::from_utf8_lossy(reason).into_owned(),
    }
}
