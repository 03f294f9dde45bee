//! The one connection to an engine: what it says goes to the hub, what the hub orders is asked.
//!
//! What to say, what is new, and when to come back is decided by the session of `tickwire-proto`, as
//! in every client. Addresses are tried in turn, the next one whenever a connection ends.

mod socket;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_engine::client::Target;
use tickwire_proto::{
    reply::Reply,
    request::Op,
    session::{Disconnect, Event, Next, Options, Session},
};
use tokio::time::{sleep, sleep_until, timeout};

use self::socket::{Heard, Socket};
use crate::{
    config::Config,
    hub::{Hub, Order},
};

/// How long an engine may take to let the edge in.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait where the engine says not to come back by oneself: somebody has to see to the
/// token, and until then clients are told that everything is stale.
const TURNED_AWAY: Duration = Duration::from_secs(30);
/// Orders of a moment go out together.
const GATHER: Duration = Duration::from_millis(2);
/// Events handed to the hub in one go.
const EVENTS_AT_ONCE: usize = 4_096;

/// Follows the engines of `config` for ever.
pub async fn follow(config: Arc<Config>, hub: Arc<Hub>) {
    let mut upstream = Upstream {
        started: Instant::now(),
        session: Session::new(Options {
            seed: rand::random(),
            ..Options::default()
        }),
        hub,
        config,
    };
    for attempt in 0.. {
        let addresses = &upstream.config.upstream.0;
        let address = addresses[attempt % addresses.len()].clone();
        let ended = upstream.serve(&address).await;
        upstream.hub.lost();
        let wait = match upstream.session.disconnected(ended) {
            Next::ConnectAfter { ms, .. } => Duration::from_millis(ms),
            Next::Stop { reason } => {
                tracing::error!(%address, %reason, "the engine turns this edge away");
                TURNED_AWAY
            }
        };
        tracing::info!(%address, ?ended, ?wait, "not connected to the engine");
        upstream.wait(wait).await;
    }
}

struct Upstream {
    started: Instant,
    session: Session,
    hub: Arc<Hub>,
    config: Arc<Config>,
}

impl Upstream {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Waits without a connection; what is ordered meanwhile is part of the next.
    async fn wait(&mut self, time: Duration) {
        let end = sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                () = self.hub.ordered() => self.carry_out_orders(),
            }
        }
    }

    /// Serves one connection; how it ended.
    async fn serve(&mut self, address: &str) -> Disconnect {
        let token = match token(self.config.upstream_token_file.as_deref()) {
            Ok(token) => token,
            Err(error) => {
                tracing::error!(%error, "no token for the engine");
                return Disconnect::Io;
            }
        };
        // The check of the settings has read it.
        let Ok(target) = Target::parse(address) else {
            return Disconnect::Io;
        };
        let opened = timeout(CONNECT_WITHIN, Socket::open(&target, &token)).await;
        let mut socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(ended)) => return ended,
            Err(_) => return Disconnect::Io,
        };
        self.session.connected(self.now_ms());
        loop {
            let now_ms = self.now_ms();
            if self.session.timed_out(now_ms) {
                return Disconnect::Silent;
            }
            while let Some(request) = self.session.next_request(now_ms) {
                if let Err(ended) = socket.send(&request).await {
                    return ended;
                }
            }
            let due_ms = self.session.deadline_ms().unwrap_or(now_ms + 1_000);
            let due = self.started + Duration::from_millis(due_ms);
            tokio::select! {
                heard = socket.hear() => match heard {
                    Ok(heard) => if let Err(ended) = self.take(heard, &mut socket).await {
                        return ended;
                    },
                    Err(ended) => return ended,
                },
                () = self.hub.ordered() => {
                    sleep(GATHER).await;
                    self.carry_out_orders();
                }
                () = sleep_until(due.into()) => {}
            }
        }
    }

    /// Takes a message, and all that have come with it.
    async fn take(&mut self, heard: Heard, socket: &mut Socket) -> Result<(), Disconnect> {
        let mut events = Vec::new();
        let mut expires = false;
        // What came before an end counts all the same.
        let mut ended = Ok(());
        let mut next = Some(heard);
        while let Some(heard) = next.take() {
            match heard {
                Heard::Replies(replies) => {
                    for reply in replies {
                        expires |= self.receive(reply, &mut events);
                    }
                }
                Heard::Life => self.session.heard(self.now_ms()),
            }
            if events.len() < EVENTS_AT_ONCE {
                match socket.heard_already() {
                    Ok(heard) => next = heard,
                    Err(end) => ended = Err(end),
                }
            }
        }
        self.hub.tell(events);
        ended?;
        if expires {
            self.renew_token(socket).await?;
        }
        Ok(())
    }

    /// Takes one reply; whether it says that the token expires.
    fn receive(&mut self, reply: Reply, events: &mut Vec<Event>) -> bool {
        let now_ms = self.now_ms();
        let mut expires = false;
        self.session.receive(now_ms, reply, |event| {
            expires |= matches!(event, Event::TokenExpiring { .. });
            events.push(event);
        });
        expires
    }

    /// Sends the token that the file holds by now.
    async fn renew_token(&mut self, socket: &mut Socket) -> Result<(), Disconnect> {
        match token(self.config.upstream_token_file.as_deref()) {
            Ok(token) => {
                let now_ms = self.now_ms();
                let request = self.session.fresh_token(now_ms, token);
                socket.send(&request).await
            }
            Err(error) => {
                tracing::error!(%error, "no fresh token for the engine");
                Ok(())
            }
        }
    }

    fn carry_out_orders(&mut self) {
        for order in self.hub.take_orders() {
            match order {
                Order::Subscribe(selectors) => self.session.subscribe(selectors),
                Order::Unsubscribe(selectors) => self.session.unsubscribe(selectors),
                Order::Replay {
                    client,
                    session,
                    replay,
                } => {
                    let id = self.session.ask(Op::Replay(replay));
                    self.hub.replay_asked(client, session, id);
                }
            }
        }
    }
}

/// Reads the token for the engine.
fn token(file: Option<&Path>) -> Result<String, TokenFileError> {
    let path = file.ok_or(TokenFileError::NotConfigured)?;
    let text = fs::read_to_string(path).map_err(|source| TokenFileError::Unreadable {
        path: path.display().to_string(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// Why there is no token for the engine.
#[derive(Debug, thiserror::Error)]
enum TokenFileError {
    /// The key is not set.
    #[error("`upstream_token_file` is not set")]
    NotConfigured,
    /// The file cannot be read.
    #[error("upstream_token_file = {path}: {source}")]
    Unreadable {
        /// Its path.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}
