//! What comes in: letters from other threads, and bytes from subscribers.

use std::sync::{Arc, atomic::Ordering};

use monoio::net::TcpStream;
use tickwire_proto::{
    close::CloseReason,
    reply::{Limits, Reply, Welcome},
};

use super::{
    Floor, Letter, connection::Connection, encode, mark_dirty, outbox::Outbox, reader::Read,
    selections::Selections, sender::Sender, timers::Armed,
};
use crate::{
    door::Admitted,
    peer::{
        conduct::Conduct,
        inbound::{Flow, Inbound, Received},
        liveness::Liveness,
    },
    sys::socket::SocketView,
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

    fn add_connection(&mut self, admitted: Admitted) -> std::io::Result<()> {
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
        let stream = TcpStream::from_std(socket)?;
        let view = SocketView::of(&stream);
        self.reader.watch(&view, index, generation)?;
        let mut connection = Connection {
            generation,
            session,
            peer,
            _slot: slot,
            socket: view,
            sender: Sender::new(stream, index),
            inbound: Inbound::default(),
            outbox: Outbox::default(),
            format: subprotocol,
            liveness: Liveness::new(self.now, grant.exp, subscribe.is_none(), &self.config),
            grant: Box::new(grant),
            conduct: Conduct::default(),
            selections: Selections::default(),
            members: rustc_hash::FxHashMap::default(),
            conflated: rustc_hash::FxHashMap::default(),
            requests: 0,
            joins: std::collections::VecDeque::new(),
            replays: std::collections::VecDeque::new(),
            max_delay_ms,
            held_since: None,
            cursor: None,
            dirty: false,
            stalled_since: None,
            closing: None,
            armed: Armed::default(),
        };
        connection.outbox.control.extend_from_slice(&response);
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
        let symbols = self.symbols_max(index);
        let (ops_per_s, _) = self.op_limits(index);
        let connection = &mut self.connections[index as usize];
        let welcome = Welcome {
            session: format!("{:016x}", connection.session),
            protocol: connection.format,
            heartbeat_ms: self.config.heartbeat_ms,
            token_exp: connection.grant.exp,
            limits: Limits {
                symbols,
                message_bytes: self.config.message_bytes as u32,
                ops_per_s,
            },
        };
        encode::write_json(&mut connection.outbox.control, &Reply::Welcome(welcome));
        mark_dirty(&mut self.dirty, connection, index);
    }

    fn replace(&mut self, session: u64) {
        let found = self
            .connections
            .iter()
            .find(|(_, connection)| connection.session == session);
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

    /// Reads from connections that have something to say; returns whether any had.
    pub(super) fn take_readable(&mut self) -> std::io::Result<bool> {
        let mut readable = std::mem::take(&mut self.readable);
        self.reader.ready(&mut readable)?;
        let any = !readable.is_empty();
        for (index, generation) in readable.drain(..) {
            if self.connection(index, generation).is_some() {
                self.read_connection(index);
            }
        }
        self.readable = readable;
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
                    connection.liveness.heard(self.now);
                    let limit = self.config.message_bytes;
                    connection
                        .inbound
                        .feed(bytes, limit, &mut replies, |message| messages.push(message))
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
                connection.outbox.control.append(replies);
                if flow == Flow::Closed {
                    self.close_echoed(index);
                } else if !connection.outbox.control.is_empty() {
                    mark_dirty(&mut self.dirty, connection, index);
                }
            }
            Err(reason) => self.close(index, reason),
        }
    }
}
