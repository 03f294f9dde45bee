//! What comes in: letters from other threads, and bytes from subscribers.

use std::{
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tickwire_proto::{
    close::CloseReason,
    reply::{Limits, Reply, Welcome},
};

use super::{
    Floor, Letter,
    connection::{Connection, Rights, budget},
    encode, mark_dirty,
    outbox::Outbox,
    reader::Read,
    selections::Selections,
    timers::Armed,
};
use crate::{
    door::Admitted,
    few::FewMap,
    peer::{
        conduct::Conduct,
        inbound::{Flow, Inbound, Received},
        liveness::Liveness,
    },
};

/// Reads of one connection in one turn; what is left stays ready.
const READS_PER_TURN: usize = 4;

impl Floor {
    /// Opens at most `handovers_per_turn` letters; returns whether there were any.
    pub(super) fn take_letters(&mut self) -> bool {
        let desk = Arc::clone(&self.desk);
        let mut any = false;
        for _ in 0..self.config.handovers_per_turn {
            let Some(letter) = desk.mailbox.take() else {
                break;
            };
            any = true;
            match letter {
                Letter::Admitted(admitted) => self.take_over(*admitted),
                Letter::Authenticated(answer) => self.authenticated(*answer),
                Letter::Replace(session) => self.replace(session),
                Letter::Drain => self.drain(),
            }
        }
        any
    }

    fn take_over(&mut self, admitted: Admitted) {
        let session = admitted.session;
        if self.draining {
            self.desk.load.fetch_sub(1, Ordering::Relaxed);
            admitted.turn_away();
            return;
        }
        if let Err(error) = self.add_connection(admitted) {
            self.desk.load.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(session, %error, "a connection could not be taken over");
        }
    }

    pub(super) fn add_connection(&mut self, admitted: Admitted) -> std::io::Result<()> {
        let Admitted {
            socket,
            early,
            subprotocol,
            grant,
            subscribe,
            max_delay_ms,
            peer,
            session,
            slot,
            response,
            ..
        } = admitted;
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let index = entry.key() as u32;
        self.reader.watch(&socket, index, generation)?;
        self.sends.seat(index, socket.as_fd());
        tracing::debug!(session, %peer, "taken over");
        let mut connection = Box::new(Connection {
            generation,
            slot,
            socket,
            unsent: None,
            inbound: Inbound::default(),
            outbox: Outbox::default(),
            format: subprotocol,
            liveness: Liveness::new(self.now, grant.exp, subscribe.is_none(), &self.config),
            rights: Rights::new(grant),
            conduct: Conduct::default(),
            selections: Selections::default(),
            members: FewMap::default(),
            conflated: None,
            requests: 0,
            under_way: None,
            max_delay_ms: budget(max_delay_ms),
            held_since: None,
            cursor: None,
            dirty: false,
            resting: false,
            holding: false,
            seeks_audience: true,
            closing: None,
            armed: Armed::default(),
        });
        connection.outbox.control_mut().extend_from_slice(&response);
        let due = connection.deadline(&self.config);
        self.timers
            .arm(&mut connection.armed, due, index, generation);
        entry.insert(connection);
        self.metrics.connections.inc();
        self.welcome(index);
        if let Some(subscribe) = subscribe {
            self.subscribe(index, None, subscribe);
        }
        if !early.is_empty() {
            self.take_bytes(index, &early);
        }
        Ok(())
    }

    fn welcome(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        let welcome = Welcome {
            session: format!("{:016x}", connection.slot.session()),
            protocol: connection.format,
            heartbeat_ms: self.config.heartbeat_ms,
            token_exp: connection.rights.exp,
            limits: Limits {
                symbols: connection.rights.symbols_max(&self.config),
                message_bytes: self.config.message_bytes as u32,
                ops_per_s: connection.rights.ops(&self.config).0,
            },
        };
        encode::write_json(connection.outbox.control_mut(), &Reply::Welcome(welcome));
        mark_dirty(&mut self.dirty, connection, index);
    }

    fn replace(&mut self, session: u64) {
        let found = self
            .connections
            .iter()
            .find(|(_, connection)| connection.slot.session() == session);
        if let Some((index, _)) = found {
            self.close(index as u32, CloseReason::Replaced);
        }
    }

    /// Says goodbye to everyone, each with another time to come back, so that the next process is
    /// not met by all of them at once.
    ///
    /// Ingest has ended by then, so what is left on the tape is little, and the last.
    fn drain(&mut self) {
        self.draining = true;
        while self.take_live() {}
        let indices: Vec<u32> = self
            .connections
            .iter()
            .map(|(index, _)| index as u32)
            .collect();
        for index in indices {
            if self.connections[index as usize].closing.is_none() {
                self.say_goodbye(index);
            }
        }
    }

    /// Reads from connections that have something to say, and goes on with sends whose socket was
    /// full, for `requests_us_per_turn`; who is not reached is first in the next turn. Returns whether
    /// there were any.
    pub(super) fn take_ready(&mut self) -> std::io::Result<bool> {
        if self.ready.is_empty() {
            self.reader.ready(&mut self.ready)?;
            for place in 0..self.ready.len() {
                let ready = self.ready[place];
                if ready.writable {
                    self.take_writable(ready.index, ready.generation);
                }
            }
        }
        let any = !self.ready.is_empty();
        let until = Instant::now() + Duration::from_micros(self.config.requests_us_per_turn);
        while let Some(ready) = self.ready.pop_front() {
            if ready.readable && self.connection(ready.index, ready.generation).is_some() {
                self.read_connection(ready.index);
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(any)
    }

    fn read_connection(&mut self, index: u32) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(index as usize) else {
                return;
            };
            let mut messages = Vec::new();
            let mut replies = Vec::new();
            let outcome = match self.reader.read(&connection.socket) {
                // A closing connection is only read to its end.
                Ok(Read::Bytes(_)) if connection.closing.is_some() => Ok(Flow::Open),
                Ok(Read::Bytes(bytes)) => {
                    let limit = self.config.message_bytes;
                    let inbound = &mut connection.inbound;
                    let outcome =
                        inbound.feed(bytes, limit, &mut replies, |message| messages.push(message));
                    connection.liveness.heard(&mut messages, self.now);
                    outcome
                }
                Ok(Read::Nothing) => return,
                Ok(Read::End) | Err(_) => {
                    return self.drop_connection(index, CloseReason::PeerGone);
                }
            };
            self.take_messages(index, messages, &mut replies, outcome);
        }
    }

    fn take_bytes(&mut self, index: u32, bytes: &[u8]) {
        let connection = &mut self.connections[index as usize];
        let mut messages = Vec::new();
        let mut replies = Vec::new();
        let limit = self.config.message_bytes;
        let outcome = connection
            .inbound
            .feed(bytes, limit, &mut replies, |message| messages.push(message));
        self.take_messages(index, messages, &mut replies, outcome);
    }

    /// Takes what was received, then answers on WebSocket's own level: the echo of a close has to
    /// stand behind the answers to what came before it.
    fn take_messages(
        &mut self,
        index: u32,
        messages: Vec<Received>,
        replies: &mut Vec<u8>,
        outcome: Result<Flow, CloseReason>,
    ) {
        for message in messages {
            match message {
                Received::Text(text) => self.take_text(index, &text),
                Received::Binary(_) => self.close(index, CloseReason::UnsupportedData),
                Received::Ping | Received::Pong => self.take_control(index),
                Received::Part => {}
            }
        }
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        match outcome {
            Ok(flow) => {
                if !replies.is_empty() {
                    connection.outbox.control_mut().append(replies);
                }
                if flow == Flow::Closed {
                    self.close_echoed(index);
                } else if !connection.outbox.control().is_empty() {
                    mark_dirty(&mut self.dirty, connection, index);
                }
            }
            Err(reason) => self.close(index, reason),
        }
    }
}
