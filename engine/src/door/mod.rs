//! The door: where connections are accepted, limited, verified, and handed to those who serve them.
//!
//! ```text
//!  accept ─ per-IP limit, half-open bound ─► greeting ─ head, deadline ─► handshake ─ auth ─► Handover
//!               │ 429, 503                      │ 408, 431        │          │ 400–426          │ 503 (full)
//!               │                               │               admit        │                  │
//!               └──────────────── answer, linger, close ◄───────┴──────────┴─────────────────┘
//!  floors, ingest ─ AuthRequest ─► desk ─► verdict        (in-band tokens, the same thread)
//! ```
//!
//! A storm of reconnects ends here: no floor sees a connection before its token is verified, and
//! who is turned away costs one `write`. The door is one thread with its own event loop, and every
//! table and queue in it is bounded (`half_open_max`, `per_ip_table_max`, `connections_max`,
//! `auth_queue_max`, `greeting::LINGERING_MAX`, `greeting::ASKING_MAX`).

pub mod accept;
pub mod admit;
pub mod answer;
pub mod auth;
mod closing;
pub mod desk;
mod greeting;
pub mod handover;
pub mod handshake;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod origin;
pub mod users;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

pub use auth::{TokenError, Verifier};
pub use desk::{AuthDesk, AuthRequest};
pub use greeting::{ASKING_MAX, LINGERING_MAX};
pub use handover::{Admitted, Handover};
pub use keys::{KeyError, read_hs256_secret};
pub use metrics::Metrics;
pub use users::ConnectionSlot;

use crate::{bell::Bell, config::Config, threads::Driver};

/// What a door works with.
pub struct Parts {
    /// The settings.
    pub config: Arc<Config>,
    /// Who knows the tokens.
    pub verifier: Arc<Verifier>,
    /// Where fresh tokens of open connections come in.
    pub desk: AuthDesk,
    /// Where connections go.
    pub handover: Arc<dyn Handover>,
    /// What is counted.
    pub metrics: Metrics,
    /// Which system interface the event loop uses.
    pub driver: Driver,
}

/// A running door. Dropping it closes the listener and ends its thread; connections that were
/// handed over are not touched.
pub struct Door {
    orders: Arc<Orders>,
    bell: Arc<Bell>,
    address: SocketAddr,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the door's thread is told from outside.
#[derive(Default)]
struct Orders {
    draining: AtomicBool,
    leaving: AtomicBool,
    stop: AtomicBool,
    /// What the thread says in return: it accepts no more, and no handshake is under way.
    left: AtomicBool,
}

impl Orders {
    // Relaxed is enough for all flags: nothing else is published through them, and the bell's
    // fences order an order before the look that must see it.
    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Door {
    /// Starts the door's thread on a bound listener. `on_thread` runs first on it, to pin or renice
    /// it.
    ///
    /// # Errors
    ///
    /// Where the listener cannot be used, or the system denies the thread or its event loop.
    pub fn start(
        listener: TcpListener,
        parts: Parts,
        on_thread: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let orders = Arc::new(Orders::default());
        let bell = Arc::clone(parts.desk.bell());
        let (report, started) = mpsc::channel();
        let their_orders = Arc::clone(&orders);
        let thread = thread::Builder::new()
            .name("tickwire-door".to_owned())
            .spawn(move || {
                on_thread();
                accept::run(listener, parts, their_orders, report)
            })?;
        let mut door = Self {
            orders,
            bell,
            address,
            thread: Some(thread),
        };
        match started.recv() {
            Ok(()) => Ok(door),
            // The thread ended before it could report: its result says why.
            Err(mpsc::RecvError) => door.end().and(Err(io::ErrorKind::Other.into())),
        }
    }

    /// Where it listens; tells the port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether its thread has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// From now on every new connection is answered 503 `draining`, and so are those that are being
    /// shaken hands with.
    pub fn drain(&self) {
        self.orders.draining.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// From now on new connections are left in the listener's queue, for another process to accept;
    /// handshakes that have begun go on.
    pub fn leave(&self) {
        self.orders.leaving.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Whether it has left the listener and no handshake is under way any more.
    pub fn has_left(&self) -> bool {
        self.orders.left.load(Ordering::Relaxed)
    }

    /// Stops listening, answers 503 to what is half-open, and waits for the thread to end, a
    /// second or two at most.
    ///
    /// # Errors
    ///
    /// What made the thread end earlier, if something did.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.orders.draining.store(true, Ordering::Relaxed);
        self.orders.stop.store(true, Ordering::Relaxed);
        self.bell.ring();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the door's thread panicked")),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Whoever wants to know why it ended calls `stop`.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests;
