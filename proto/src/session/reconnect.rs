//! After a disconnect: come back, and when, or stay away.

use crate::close::{AfterClose, CloseReason};

/// How often in a row an upgrade may be refused for its token before the client gives up.
pub const TOKEN_REFUSALS_MAX: u32 = 3;

/// How a connection ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// A close frame came.
    Closed {
        /// Its code; 1005 where it had none (RFC 6455 § 7.1.5).
        code: u16,
    },
    /// The upgrade was answered by an HTTP status.
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After`, or `retry_after_ms` of `/v1/admit`.
        retry_after_ms: Option<u64>,
    },
    /// The connection could not be made, broke, or ended without a close frame.
    Io,
    /// Nothing was heard for too long: [`super::Session::timed_out`] said so.
    Silent,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Connect again after a wait.
    ConnectAfter {
        /// The wait.
        ms: u64,
        /// The old token will not do.
        fresh_token: bool,
    },
    /// Do not come back by yourself.
    Stop {
        /// Why.
        reason: Stop,
    },
}

/// Why a client stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// The engine closed with a code that says so.
    #[error("closed by the engine with {code} ({})", reason_text(*.code))]
    Closed {
        /// 4500–4999.
        code: u16,
    },
    /// The upgrade was refused for a reason that waiting does not change.
    #[error("the upgrade was refused with HTTP status {status}")]
    Refused {
        /// The status.
        status: u16,
    },
    /// [`TOKEN_REFUSALS_MAX`] fresh tokens in a row were refused.
    #[error("{TOKEN_REFUSALS_MAX} tokens in a row were refused")]
    TokenRefused,
}

fn reason_text(code: u16) -> &'static str {
    CloseReason::from_code(code).map_or("unknown", CloseReason::text)
}

/// What a disconnect asks for, before backoff says how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Again {
        fresh_token: bool,
        at_least_ms: Option<u64>,
    },
    TokenRefused,
    Away(Stop),
}

impl Disconnect {
    pub(super) fn verdict(self) -> Verdict {
        let again = |fresh_token, at_least_ms| Verdict::Again {
            fresh_token,
            at_least_ms,
        };
        match self {
            Self::Io | Self::Silent => again(false, None),
            Self::Closed { code } => match AfterClose::of(code) {
                AfterClose::Reconnect => again(false, None),
                AfterClose::ReconnectWithFreshToken => again(true, None),
                AfterClose::StayAway => Verdict::Away(Stop::Closed { code }),
            },
            Self::Refused { status: 401, .. } => Verdict::TokenRefused,
            Self::Refused {
                status: 408 | 429 | 500..=599,
                retry_after_ms,
            } => again(false, retry_after_ms),
            Self::Refused { status, .. } => Verdict::Away(Stop::Refused { status }),
        }
    }
}
