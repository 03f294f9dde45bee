//! What leaves the door, and to whom: finished connections, and verdicts on fresh tokens.

use std::{
    fmt,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tickwire_proto::{
    claims::Grant,
    request::Subscribe,
    upgrade::{Endpoint, Subprotocol},
};

use super::{answer::Refusal, limits::retry_after_s, users::ConnectionSlot};

/// A connection that was let in. Whoever takes it sends `response` first, then `welcome`.
pub struct Admitted {
    /// Non-blocking; nothing has been written to it.
    pub socket: TcpStream,
    /// The whole `101 Switching Protocols`.
    pub response: Vec<u8>,
    /// Bytes that came behind the request's head: the client's first frames, or a part of them.
    pub early: Vec<u8>,
    /// What the client came for.
    pub endpoint: Endpoint,
    /// How messages are written.
    pub subprotocol: Subprotocol,
    /// What its token allows.
    pub grant: Grant,
    /// The subscription in the upgrade's query.
    pub subscribe: Option<Subscribe>,
    /// The latency budget in the upgrade's query, else 0.
    pub max_delay_ms: u32,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Unique among all connections of this process, counting upwards from a random start.
    pub session: u64,
    /// Its place among the connections: drop it when the connection has ended, not before.
    pub slot: ConnectionSlot,
}

impl Admitted {
    /// Answers 503 `draining` instead of the 101: the process began to end while the connection
    /// was on its way.
    pub fn turn_away(self) {
        let refusal = Refusal::Draining {
            retry_after_s: retry_after_s(Duration::ZERO),
        };
        // Nothing was written before, so the answer fits; a peer that is gone need not know.
        let _ = (&self.socket).write(&refusal.to_bytes());
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("session", &self.session)
            .field("peer", &self.peer)
            .field("endpoint", &self.endpoint)
            .field("sub", &self.grant.sub)
            .finish_non_exhaustive()
    }
}

/// Who takes connections over from the door; called on the door's thread, so it must not block.
pub trait Handover: Send + Sync {
    /// Takes a connection over.
    ///
    /// # Errors
    ///
    /// Gives it back where the queue is full; the client is then told 503.
    #[expect(
        clippy::result_large_err,
        reason = "handing the value back is the point"
    )]
    fn hand_over(&self, admitted: Admitted) -> Result<(), Admitted>;

    /// A newer connection of the same user took the place of `session`: its owner should close it
    /// with `CloseReason::Replaced`. The session may have ended already.
    fn replace(&self, session: u64);
}
