//! Tokens that come in-band (`{"op":"auth"}`) are verified here, at the door, not on a floor.

use std::{fmt, io, sync::Arc};

use tickwire_proto::claims::Grant;

use super::auth::{TokenError, Verifier};
use crate::{
    bell::{Bell, Mailbox},
    clock,
    config::Config,
};

/// Tokens verified in one go before sockets get their turn again: RS256 takes some 100 µs each.
const REQUESTS_PER_TURN: usize = 16;

/// A fresh token, and where its verdict goes.
pub struct AuthRequest {
    /// The JWT.
    pub token: String,
    /// Called on the door's thread with the verdict; must not block.
    pub reply: Box<dyn FnOnce(Result<Grant, TokenError>) + Send>,
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token in a log is a token in someone else's hands.
        f.write_str("AuthRequest(…)")
    }
}

/// The bounded queue of fresh tokens in front of the door's thread.
#[derive(Clone)]
pub struct AuthDesk(Arc<Mailbox<AuthRequest>>);

impl AuthDesk {
    /// A desk for `auth_queue_max` waiting tokens.
    ///
    /// # Errors
    ///
    /// Where the system has no descriptor left.
    pub fn new(config: &Config) -> io::Result<Self> {
        Ok(Self(Mailbox::new(
            config.auth_queue_max.max(1),
            Bell::new()?,
        )))
    }

    /// Hands a token in; its reply is called once it is verified.
    ///
    /// # Errors
    ///
    /// Gives the request back where the queue is full (`rate_limited`).
    pub fn submit(&self, request: AuthRequest) -> Result<(), AuthRequest> {
        self.0.post(request)
    }

    /// How many tokens wait.
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Verifies what waits, a bounded number of tokens; `true` if none is left.
    pub(super) fn serve(&self, verifier: &Verifier) -> bool {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(AuthRequest { token, reply }) = self.0.take() else {
                return true;
            };
            reply(verifier.verify(&token, clock::wall_s()));
        }
        self.0.is_empty()
    }

    /// What wakes the door's thread.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        self.0.bell()
    }
}
