//! What the passing of time asks of a connection.

use tickwire_proto::close::CloseReason;

use super::inbound::Received;
use crate::{
    clock::{Millis, wall_ns},
    config::Config,
};

/// The times that decide when a connection is pinged, warned, or closed.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    last_sent: Millis,
    /// When the peer was heard last, or pinged since.
    heard_or_pinged: Millis,
    /// When nothing subscribed closes the connection; `None` once something was.
    subscribe_by: Option<Millis>,
    expired_at: Millis,
    /// Whether a pong is waited for.
    pinged: bool,
    /// Whether the peer knows that its token expires.
    warned: bool,
}

/// Something that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send `heartbeat`.
    Heartbeat,
    /// Send a WebSocket ping (RFC 6455 § 5.5.2).
    Ping,
    /// Send `token_expiring`.
    TokenExpiring,
    /// Close.
    Close(CloseReason),
}

impl Liveness {
    /// A connection admitted at `now` with a token that expires at `token_exp_s`.
    pub fn new(now: Millis, token_exp_s: u64, must_subscribe: bool, config: &Config) -> Self {
        let mut liveness = Self {
            last_sent: now,
            heard_or_pinged: now,
            subscribe_by: must_subscribe.then(|| now.after(config.first_subscribe_s * 1_000)),
            expired_at: now,
            pinged: false,
            warned: false,
        };
        liveness.token(now, token_exp_s, config);
        liveness
    }

    /// A token came into force.
    pub fn token(&mut self, now: Millis, exp_s: u64, config: &Config) {
        let left_ms = exp_s
            .saturating_mul(1_000)
            .saturating_sub(wall_ns() / 1_000_000);
        self.warned = false;
        self.expired_at = now.after(left_ms.saturating_add(config.token_grace_s * 1_000));
    }

    /// Something was sent.
    pub fn sent(&mut self, now: Millis) {
        self.last_sent = now;
    }

    /// Something was received. Without a message in it it is no sign of life: one that never ends
    /// would be. The pong that was waited for is taken out, since it is no operation of the peer's.
    pub fn heard(&mut self, messages: &mut Vec<Received>, now: Millis) {
        if messages.is_empty() {
            return;
        }
        self.heard_or_pinged = now;
        if std::mem::take(&mut self.pinged) {
            let is_pong = |message: &Received| matches!(message, Received::Pong);
            if let Some(place) = messages.iter().position(is_pong) {
                messages.remove(place);
            }
        }
    }

    /// The connection subscribed to something.
    pub fn subscribed(&mut self) {
        self.subscribe_by = None;
    }

    /// The earliest moment at which [`Liveness::due`] may have something to say.
    pub fn deadline(&self, config: &Config) -> Millis {
        [self.subscribe_by, self.expiring_at(config)]
            .into_iter()
            .flatten()
            .chain([
                self.last_sent.after(config.heartbeat_ms),
                self.ping_or_pong_by(config),
                self.expired_at,
            ])
            .min()
            .unwrap_or(self.expired_at)
    }

    /// When `token_expiring` is due; `None` once it was sent.
    fn expiring_at(&self, config: &Config) -> Option<Millis> {
        let before_end_s = config.token_expiring_s + config.token_grace_s;
        (!self.warned).then(|| self.expired_at.before(before_end_s * 1_000))
    }

    /// When the peer is pinged, or the pong is overdue.
    fn ping_or_pong_by(&self, config: &Config) -> Millis {
        let wait_s = if self.pinged {
            config.pong_wait_s
        } else {
            config.ping_idle_s
        };
        self.heard_or_pinged.after(wait_s * 1_000)
    }

    /// The next thing due at `now`, marked as done; call it until `None`.
    pub fn due(&mut self, now: Millis, config: &Config) -> Option<Due> {
        if now >= self.expired_at {
            return Some(Due::Close(CloseReason::TokenExpired));
        }
        if self.subscribe_by.is_some_and(|by| now >= by) {
            return Some(Due::Close(CloseReason::NothingSubscribed));
        }
        if now >= self.ping_or_pong_by(config) {
            if self.pinged {
                return Some(Due::Close(CloseReason::NoPong));
            }
            self.heard_or_pinged = now;
            self.pinged = true;
            return Some(Due::Ping);
        }
        if self.expiring_at(config).is_some_and(|at| now >= at) {
            self.warned = true;
            return Some(Due::TokenExpiring);
        }
        if now >= self.last_sent.after(config.heartbeat_ms) {
            self.last_sent = now;
            return Some(Due::Heartbeat);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wall_s;

    fn drain(liveness: &mut Liveness, now: Millis, config: &Config) -> Vec<Due> {
        std::iter::from_fn(|| liveness.due(now, config))
            .take(8)
            .collect()
    }

    #[test]
    fn the_pong_that_was_waited_for_is_taken_out_and_no_other() {
        let config = Config::default();
        let mut liveness = Liveness::new(Millis::new(0), wall_s() + 3_600, false, &config);
        let mut heard = |at: u64, pongs: usize| {
            let now = Millis::new(at);
            drain(&mut liveness, now, &config);
            let mut messages: Vec<_> = (0..pongs).map(|_| Received::Pong).collect();
            liveness.heard(&mut messages, now);
            messages.len()
        };
        assert_eq!(heard(1_000, 2), 2, "nobody asked");
        assert_eq!(heard(21_000, 2), 1, "pinged just now");
        assert_eq!(heard(21_001, 1), 1);
    }

    #[test]
    fn silence_brings_heartbeats_a_ping_and_the_end() {
        let config = Config::default();
        let mut liveness = Liveness::new(Millis::new(0), wall_s() + 3_600, false, &config);
        assert_eq!(drain(&mut liveness, Millis::new(4_999), &config), []);
        assert_eq!(
            drain(&mut liveness, Millis::new(5_000), &config),
            [Due::Heartbeat]
        );
        assert_eq!(
            drain(&mut liveness, Millis::new(20_000), &config),
            [Due::Ping, Due::Heartbeat]
        );
        liveness.sent(Millis::new(44_999));
        assert_eq!(drain(&mut liveness, Millis::new(44_999), &config), []);
        assert_eq!(
            liveness.due(Millis::new(45_000), &config),
            Some(Due::Close(CloseReason::NoPong))
        );
    }

    #[test]
    fn a_pong_buys_another_round() {
        let config = Config::default();
        let mut liveness = Liveness::new(Millis::new(0), wall_s() + 3_600, false, &config);
        liveness.sent(Millis::new(20_000));
        assert_eq!(
            drain(&mut liveness, Millis::new(20_000), &config),
            [Due::Ping]
        );
        liveness.heard(&mut vec![Received::Pong], Millis::new(20_010));
        liveness.sent(Millis::new(45_000));
        assert_eq!(
            drain(&mut liveness, Millis::new(45_000), &config),
            [Due::Ping]
        );
    }

    #[test]
    fn nothing_subscribed_closes() {
        let config = Config::default();
        let mut liveness = Liveness::new(Millis::new(0), wall_s() + 3_600, true, &config);
        assert_eq!(
            liveness.due(Millis::new(30_000), &config),
            Some(Due::Close(CloseReason::NothingSubscribed))
        );
        liveness.subscribed();
        assert_ne!(
            liveness.due(Millis::new(30_000), &config),
            Some(Due::Close(CloseReason::NothingSubscribed))
        );
    }

    #[test]
    fn a_token_warns_then_closes_unless_it_is_renewed() {
        let config = Config::default();
        let mut liveness = Liveness::new(Millis::new(0), wall_s() + 61, false, &config);
        assert_eq!(
            drain(&mut liveness, Millis::new(2_000), &config),
            [Due::TokenExpiring]
        );
        let mut renewed = liveness;
        renewed.token(Millis::new(3_000), wall_s() + 3_600, &config);
        let end = Millis::new(91_000);
        assert_eq!(
            liveness.due(end, &config),
            Some(Due::Close(CloseReason::TokenExpired))
        );
        assert_ne!(
            renewed.due(end, &config),
            Some(Due::Close(CloseReason::TokenExpired))
        );
    }
}
