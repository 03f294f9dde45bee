//! One publisher's connection.

mod desk;
mod requests;
mod ticks;

use std::{io, time::Duration};

use monoio::{io::AsyncWriteRentExt, net::TcpStream};
use rustc_hash::FxHashMap;
use tickwire_proto::{
    claims::Grant,
    close::CloseReason,
    frame::{self, Opcode},
    reply::{Ack, AckBody, Limits, Reply, Welcome},
    symbol::Symbol,
};

pub use self::desk::{Desk, Note};
use super::{sequencer::SourceId, settlement::Settlement, thread::Shared};
use crate::{
    clock::{Millis, wall_ns, wall_s},
    door::{Admitted, ConnectionSlot},
    peer::{
        conduct::Conduct,
        goodbye::goodbye,
        inbound::{Flow, Inbound, Received},
        liveness::{Due, Liveness},
    },
    sys::socket::SocketView,
};

/// A publisher's connection, on ingest's thread.
struct Publisher<'a> {
    shared: &'a Shared,
    source: SourceId,
    session: u64,
    grant: Grant,
    inbound: Inbound,
    out: Vec<u8>,
    liveness: Liveness,
    conduct: Conduct,
    settlement: Settlement,
    declared: FxHashMap<u32, (Symbol, Option<u64>)>,
    ack_due: Option<Millis>,
    errors: ErrorBudget,
    _slot: ConnectionSlot,
}

/// Errors told in the current interval.
#[derive(Default)]
struct ErrorBudget {
    began: Millis,
    told: u32,
}

/// How the connection's turn ended.
enum Step {
    Go,
    /// Close with this, after what is queued.
    Close(CloseReason),
    /// The peer closed, or is gone: send what is queued, then end.
    End,
}

/// Serves one publisher until its connection ends.
pub async fn serve(shared: &Shared, source: SourceId, desk: &Desk, admitted: Admitted) {
    let session = admitted.session;
    let reason = match converse(shared, source, desk, admitted).await {
        Ok(reason) => reason,
        Err(_) => CloseReason::PeerGone,
    };
    desk.closed.set(true);
    shared.metrics.closes(reason).inc();
    tracing::debug!(session, reason = reason.label(), "publisher closed");
}

async fn converse(
    shared: &Shared,
    source: SourceId,
    desk: &Desk,
    admitted: Admitted,
) -> io::Result<CloseReason> {
    let Admitted {
        socket,
        response,
        early,
        subprotocol,
        grant,
        session,
        slot,
        ..
    } = admitted;
    let mut stream = TcpStream::from_std(socket)?;
    let view = SocketView::of(&stream);
    let now = shared.clock.now();
    let mut publisher = Publisher {
        shared,
        source,
        session,
        liveness: Liveness::new(now, grant.exp, false, &shared.config),
        grant,
        inbound: Inbound::default(),
        out: response,
        conduct: Conduct::default(),
        settlement: Settlement::default(),
        declared: FxHashMap::default(),
        ack_due: None,
        errors: ErrorBudget::default(),
        _slot: slot,
    };
    publisher.welcome(subprotocol);
    let mut step = if early.is_empty() {
        Step::Go
    } else {
        publisher.take_bytes(&early)
    };
    let reason = loop {
        publisher.write(&mut stream).await?;
        match step {
            Step::Go => {}
            Step::Close(reason) => break reason,
            Step::End => return Ok(CloseReason::Normal),
        }
        let wait = shared.clock.until(publisher.deadline());
        let woken = monoio::select! {
            ready = stream.readable(false) => ready.map(|()| Woken::Bytes)?,
            () = desk.noted() => Woken::Notes,
            () = monoio::time::sleep(wait) => Woken::Time,
        };
        step = match woken {
            Woken::Bytes => match publisher.read(&view)? {
                Some(step) => step,
                None => return Ok(CloseReason::PeerGone),
            },
            Woken::Notes => publisher.take_notes(desk),
            Woken::Time => Step::Go,
        };
        if let Step::Go = step {
            step = publisher.run_deadlines();
        }
    };
    publisher.end(reason);
    publisher.write(&mut stream).await?;
    let _ = rustix::net::shutdown(&view, rustix::net::Shutdown::Write);
    // Until the peer has read the close and closed its side, or for as long as that may take.
    let _ = monoio::time::timeout(CLOSE_WITHIN, read_to_end(&stream, &view)).await;
    Ok(reason)
}

/// What ended a wait.
enum Woken {
    Bytes,
    Notes,
    Time,
}

const CLOSE_WITHIN: Duration = Duration::from_secs(2);

async fn read_to_end(stream: &TcpStream, view: &SocketView) {
    let mut sink = [0; 4096];
    while stream.readable(false).await.is_ok() {
        match rustix::net::recv(view, &mut sink[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return,
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

impl Publisher<'_> {
    fn welcome(&mut self, protocol: tickwire_proto::upgrade::Subprotocol) {
        let config = &self.shared.config;
        let welcome = Welcome {
            session: format!("{:016x}", self.session),
            protocol,
            heartbeat_ms: config.heartbeat_ms,
            token_exp: self.grant.exp,
            limits: Limits {
                symbols: self
                    .grant
                    .max_symbols
                    .unwrap_or(config.symbols_per_connection),
                message_bytes: config.publish_message_bytes as u32,
                ops_per_s: self.grant.ops_per_s.unwrap_or(config.ops_per_s),
            },
        };
        self.say(&Reply::Welcome(welcome));
    }

    fn say(&mut self, reply: &Reply) {
        frame::write_with(&mut self.out, Opcode::Text, |out| reply.write_json(out));
    }

    /// Sends what is queued. A publisher that does not read its acks is given up on.
    async fn write(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.liveness.sent(self.shared.clock.now());
        let bytes = std::mem::take(&mut self.out);
        let stall = Duration::from_secs(self.shared.config.stall_s);
        match monoio::time::timeout(stall, stream.write_all(bytes)).await {
            Ok((Ok(_), mut bytes)) => {
                bytes.clear();
                self.out = bytes;
                Ok(())
            }
            Ok((Err(error), _)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads once; `None` when the peer has gone.
    fn read(&mut self, view: &SocketView) -> io::Result<Option<Step>> {
        let shared = self.shared;
        let mut buffer = shared.read_buffer.borrow_mut();
        match rustix::net::recv(view, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(None),
            Ok((_, bytes)) => Ok(Some(self.take_bytes(&buffer[..bytes]))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Some(Step::Go)),
            Err(error) => Err(error.into()),
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) -> Step {
        let mut messages = Vec::new();
        // Apart, since the echo of a close has to stand behind the answers to what came before it.
        let mut replies = Vec::new();
        let limit = self.shared.config.publish_message_bytes;
        let flow = self
            .inbound
            .feed(bytes, limit, &mut replies, |message| messages.push(message));
        self.liveness.heard(&mut messages, self.shared.clock.now());
        for message in messages {
            if let Some(reason) = self.take_message(&message) {
                return Step::Close(reason);
            }
            self.shared.wake_floors();
        }
        self.shared.publish();
        let step = match flow {
            Ok(Flow::Open) => Step::Go,
            Ok(Flow::Closed) => {
                self.last_ack();
                Step::End
            }
            Err(reason) => return Step::Close(reason),
        };
        self.out.append(&mut replies);
        step
    }

    fn take_message(&mut self, message: &Received) -> Option<CloseReason> {
        match message {
            Received::Text(text) => self.take_text(text),
            Received::Binary(bytes) => {
                self.take_sbe(bytes);
                self.expect_ack();
                None
            }
            Received::Ping | Received::Pong => self.take_operation(None).err().flatten(),
            Received::Part => None,
        }
    }

    fn take_notes(&mut self, desk: &Desk) -> Step {
        let notes = std::mem::take(&mut *desk.notes.borrow_mut());
        for note in notes {
            match note {
                Note::Settled { message } => self.settlement.settle(message),
                Note::Authenticated { id, outcome } => self.authenticated(id, outcome),
                Note::Replaced => return Step::Close(CloseReason::Replaced),
                Note::Drain => return Step::Close(CloseReason::Draining),
            }
        }
        self.answer_flushes();
        self.expect_ack();
        Step::Go
    }

    /// An ack follows within the interval, if there is anything to tell.
    fn expect_ack(&mut self) {
        if self.ack_due.is_none() && self.settlement.has_news() {
            self.ack_due = Some(
                self.shared
                    .clock
                    .now()
                    .after(self.shared.config.ack_interval_ms),
            );
        }
    }

    fn answer_flushes(&mut self) {
        for id in self.settlement.take_flushed() {
            self.ack(id);
        }
    }

    fn ack(&mut self, id: Option<u32>) {
        self.ack_due = None;
        let counts = self.settlement.told();
        self.say(&Reply::Ack(Ack {
            id,
            body: AckBody::Published(counts),
        }));
    }

    fn last_ack(&mut self) {
        if self.settlement.has_news() {
            self.ack(None);
        }
    }

    fn deadline(&self) -> Millis {
        let liveness = self.liveness.deadline(&self.shared.config);
        self.ack_due.map_or(liveness, |ack| ack.min(liveness))
    }

    fn run_deadlines(&mut self) -> Step {
        let now = self.shared.clock.now();
        if self.ack_due.is_some_and(|due| now >= due) {
            self.ack(None);
        }
        while let Some(due) = self.liveness.due(now, &self.shared.config) {
            match due {
                Due::Heartbeat => self.say(&Reply::Heartbeat {
                    ts_us: wall_ns() / 1_000,
                }),
                Due::Ping => frame::write(&mut self.out, Opcode::Ping, b""),
                Due::TokenExpiring => {
                    let in_s = self.grant.exp.saturating_sub(wall_s());
                    self.say(&Reply::TokenExpiring { in_s });
                }
                Due::Close(reason) => return Step::Close(reason),
            }
        }
        Step::Go
    }

    /// The last words: the final ack, `goodbye` where the engine drains, the close frame.
    fn end(&mut self, reason: CloseReason) {
        self.last_ack();
        if reason == CloseReason::Draining {
            self.say(&goodbye(&self.shared.config));
        }
        frame::write_close(&mut self.out, reason.code(), reason.text());
    }
}
