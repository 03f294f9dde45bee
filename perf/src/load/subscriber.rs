//! One subscriber: upgrade, subscribe, receive.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use super::Tally;
use crate::{
    account::Ledger,
    frame::{Carry, Frame, FrameError, Opcode, each_frame, masked},
    message::{self, Control},
    schedule::Clock,
    upgrade::{Upgrade, UpgradeError},
};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TCP connection is being made.
    Connecting,
    /// The request is out.
    Upgrading,
    /// `subscribe` is out.
    Subscribing,
    /// The subscription is acknowledged.
    Live,
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
    /// A close frame.
    #[error("the server closed the connection: {code} {reason}")]
    Closed {
        /// Its code; 1005 without one.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// A text message that is none of the protocol's.
    #[error("the server sent what is no message: {0}")]
    NotAMessage(String),
    /// An `error`, or an entry of the request refused.
    #[error("the server refused the subscription: {0}")]
    Refused(String),
}

pub(super) struct Subscriber {
    pub(super) stream: TcpStream,
    pub(super) phase: Phase,
    request: String,
    carry: Carry,
    ledger: Ledger,
}

impl Subscriber {
    pub(super) fn new(stream: TcpStream, request: String) -> Self {
        Self {
            stream,
            phase: Phase::Connecting,
            request,
            carry: Carry::default(),
            ledger: Ledger::default(),
        }
    }

    /// Called once the socket can be written to: it is connected, or has failed.
    pub(super) fn send_request(&mut self) -> Result<(), LostReason> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error.into());
        }
        // An empty send buffer holds any request whole; a short write is an error.
        (&self.stream).write_all(std::mem::take(&mut self.request).as_bytes())?;
        self.phase = Phase::Upgrading;
        Ok(())
    }

    /// Reads once and takes what is complete.
    pub(super) fn receive(
        &mut self,
        shared: &mut [u8],
        upgrade: &Upgrade,
        subscribe: &str,
        clock: &Clock,
        tally: &mut Tally,
    ) -> Result<(), LostReason> {
        let mut carry = std::mem::take(&mut self.carry);
        let bytes = match carry.read(&mut self.stream, shared) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.carry = carry;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        tally.now_us = clock.now_us();
        let head_bytes = self.finish_upgrade(bytes, upgrade, subscribe)?;
        let mut used = head_bytes;
        if self.phase != Phase::Upgrading {
            used += each_frame(&bytes[head_bytes..], |frame| self.take(frame, tally))?;
        }
        carry.keep(&bytes[used..]);
        self.carry = carry;
        Ok(())
    }

    /// The bytes of the upgrade's answer in front of the frames.
    fn finish_upgrade(
        &mut self,
        bytes: &[u8],
        upgrade: &Upgrade,
        subscribe: &str,
    ) -> Result<usize, LostReason> {
        if self.phase != Phase::Upgrading {
            return Ok(0);
        }
        let Some(head_bytes) = upgrade.answer(bytes)? else {
            return Ok(0);
        };
        (&self.stream).write_all(&masked(Opcode::Text, subscribe.as_bytes()))?;
        self.phase = Phase::Subscribing;
        Ok(head_bytes)
    }

    fn take(&mut self, frame: Frame<'_>, tally: &mut Tally) -> Result<(), LostReason> {
        match frame.opcode {
            Opcode::Text => match message::tick(frame.payload) {
                Some(tick) => {
                    if tick.accounted {
                        self.ledger.tick(&tick, &mut tally.counts);
                        tally.delivered(tick.ts_us);
                    }
                    Ok(())
                }
                None => self.control(frame.payload, tally),
            },
            Opcode::Ping => Ok((&self.stream).write_all(&masked(Opcode::Pong, frame.payload))?),
            Opcode::Close => Err(closed(frame.payload)),
            Opcode::Pong => Ok(()),
            Opcode::Binary => Err(LostReason::NotAMessage("a binary message".to_owned())),
        }
    }

    fn control(&mut self, text: &[u8], tally: &mut Tally) -> Result<(), LostReason> {
        let control = serde_json::from_slice(text)
            .map_err(|_| LostReason::NotAMessage(String::from_utf8_lossy(text).into_owned()))?;
        match control {
            Control::Start {
                symbol,
                epoch,
                trade,
                quote,
            } => {
                self.ledger.start(&symbol, epoch, [trade, quote]);
            }
            Control::Gap {
                symbol,
                channel,
                epoch,
                from,
                to,
            } => {
                self.ledger
                    .gap((&symbol, channel, epoch), from, to, &mut tally.counts);
            }
            Control::Ack { rejected, .. } => {
                if rejected
                    .as_array()
                    .is_some_and(|entries| !entries.is_empty())
                {
                    return Err(LostReason::Refused(rejected.to_string()));
                }
                self.phase = Phase::Live;
            }
            Control::Error { code, message } => {
                return Err(LostReason::Refused(format!("{code}: {message}")));
            }
            Control::Goodbye { .. } | Control::Other => {}
        }
        Ok(())
    }
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
