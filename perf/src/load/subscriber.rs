//! One subscriber: upgrade, subscribe, receive.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::TcpStream,
};

use super::Tally;
use crate::{
    account::Ledger,
    dialect::{Event, LostReason, Reader, Tick},
    frame::{Carry, Frame, Opcode, first_frame, masked},
    reference::{Place, References},
    schedule::Clock,
    ticks::Symbols,
    upgrade::Upgrade,
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
    carry: Carry,
    reader: Box<dyn Reader>,
    ledger: Ledger,
}

/// What all subscribers use in turn.
pub(super) struct Shared<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) upgrade: &'a Upgrade,
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
        let mut used = self.finish_upgrade(bytes, shared.upgrade)?;
        while self.phase != Phase::Upgrading {
            if self.reader.is_between_messages() {
                used += self.take_known(&bytes[used..], shared.references, shared.tally);
            }
            let Some((frame, frame_bytes)) = first_frame(&bytes[used..])? else {
                break;
            };
            let next = self.take(frame, shared.symbols, shared.tally)?;
            if let Some((place, ts_us)) = next {
                let frame = &bytes[used..used + frame_bytes];
                shared.references.learn(place, ts_us, frame);
            }
            used += frame_bytes;
        }
        carry.keep(&bytes[used..]);
        self.carry = carry;
        Ok(())
    }

    /// The bytes of the upgrade's answer in front of the frames.
    fn finish_upgrade(&mut self, bytes: &[u8], upgrade: &Upgrade) -> Result<usize, LostReason> {
        if self.phase != Phase::Upgrading {
            return Ok(0);
        }
        let Some(head_bytes) = upgrade.answer(bytes)? else {
            return Ok(0);
        };
        self.phase = Phase::Live;
        if let Some(message) = self.messages.pop_front() {
            self.phase = Phase::Subscribing;
            say(&self.stream, &message)?;
        }
        Ok(head_bytes)
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
