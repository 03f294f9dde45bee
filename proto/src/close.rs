//! Why a WebSocket ends: the one table of close codes, reasons, metric labels and what clients do.

/// Every reason for which a connection is closed by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer asked for it.
    Normal,
    /// The process is draining.
    Draining,
    /// RFC 6455 was violated (unmasked frame, reserved bits, bad fragments).
    ProtocolError,
    /// A binary message where only text is understood.
    UnsupportedData,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message above `message_bytes`.
    MessageTooBig,
    /// The engine cannot serve the connection now.
    TryAgainLater,
    /// The token expired and its grace ran out.
    TokenExpired,
    /// A ping went unanswered.
    NoPong,
    /// Nothing was taken for `stall_s`, or the hard bound of held bytes was passed.
    SlowConsumer,
    /// No subscription within `first_subscribe_s`.
    NothingSubscribed,
    /// The rate of operations was passed again and again.
    TooManyMessages,
    /// Malformed requests again and again.
    MalformedRequests,
    /// Entitlement was revoked.
    NotEntitled,
    /// A newer connection of the same user took the place.
    Replaced,
    /// The peer vanished without a close frame; never sent.
    PeerGone,
}

/// What a client of ours does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    /// Reconnect with backoff.
    Reconnect,
    /// Reconnect with backoff and a fresh token.
    ReconnectWithFreshToken,
    /// Do not come back without a human.
    StayAway,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::Draining,
        Self::ProtocolError,
        Self::UnsupportedData,
        Self::InvalidUtf8,
        Self::MessageTooBig,
        Self::TryAgainLater,
        Self::TokenExpired,
        Self::NoPong,
        Self::SlowConsumer,
        Self::NothingSubscribed,
        Self::TooManyMessages,
        Self::MalformedRequests,
        Self::NotEntitled,
        Self::Replaced,
        Self::PeerGone,
    ];

    /// The close code (RFC 6455 § 7.4; 4000–4999 are ours).
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The metric label and log field.
    pub fn label(self) -> &'static str {
        self.row().1
    }

    /// The reason text of the close frame.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Normal => (1000, "normal", "bye"),
            Self::Draining => (1001, "draining", "draining"),
            Self::ProtocolError => (1002, "protocol_error", "protocol error"),
            Self::UnsupportedData => (1003, "unsupported_data", "only text is understood here"),
            Self::InvalidUtf8 => (1007, "invalid_utf8", "text is not UTF-8"),
            Self::MessageTooBig => (1009, "message_too_big", "message too big"),
            Self::TryAgainLater => (1013, "try_again_later", "try again later"),
            Self::TokenExpired => (4401, "token_expired", "token expired"),
            Self::NoPong => (4408, "no_pong", "no pong"),
            Self::SlowConsumer => (4410, "slow_consumer", "slow consumer"),
            Self::NothingSubscribed => (4412, "nothing_subscribed", "nothing subscribed"),
            Self::TooManyMessages => (4429, "too_many_messages", "too many messages"),
            Self::MalformedRequests => (4500, "malformed_requests", "repeated malformed requests"),
            Self::NotEntitled => (4503, "not_entitled", "no longer entitled"),
            Self::Replaced => (4509, "replaced", "replaced by a newer connection"),
            Self::PeerGone => (1006, "peer_gone", ""),
        }
    }

    /// The reason behind a code that arrived, where it is one of ours.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl AfterClose {
    /// What any close code asks of a client: 4500–4999 mean "do not come back by yourself".
    pub fn of(code: u16) -> Self {
        match code {
            4401 => Self::ReconnectWithFreshToken,
            4500..=4999 => Self::StayAway,
            _ => Self::Reconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_labels_are_unique() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(CloseReason::from_code(reason.code()), Some(reason));
            assert!(
                CloseReason::ALL[..index]
                    .iter()
                    .all(|other| other.label() != reason.label())
            );
            // RFC 6455 § 5.5: a control frame carries at most 125 bytes, two of them the code.
            assert!(reason.text().len() <= 123);
        }
    }

    #[test]
    fn the_hundreds_decide_what_clients_do() {
        assert_eq!(AfterClose::of(4401), AfterClose::ReconnectWithFreshToken);
        assert_eq!(AfterClose::of(4410), AfterClose::Reconnect);
        assert_eq!(AfterClose::of(1006), AfterClose::Reconnect);
        assert_eq!(AfterClose::of(4509), AfterClose::StayAway);
    }
}
