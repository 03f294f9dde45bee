//! The range of every key, and what keys must hold between each other.

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
};

use super::{Config, Idle};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_S: u64 = 24 * 60 * 60;
const DAY_MS: u64 = 1000 * DAY_S;

/// Everything that is wrong with a [`Config`], at least one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Values by themselves.
    pub out_of_range: Vec<OutOfRange>,
    /// Values beside each other.
    pub conflicts: Vec<Conflict>,
}

/// A value outside the range of its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {value}, allowed is {allowed}")]
pub struct OutOfRange {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub allowed: String,
}

/// Two keys that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` and `{other}` do not go together: {why}")]
pub struct Conflict {
    /// The key to change first.
    pub key: &'static str,
    /// What it is at odds with.
    pub other: &'static str,
    /// What must hold, and why.
    pub why: &'static str,
}

impl Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.out_of_range.iter().map(ToString::to_string);
        let conflicts = self.conflicts.iter().map(ToString::to_string);
        f.write_str(&ranges.chain(conflicts).collect::<Vec<_>>().join("; "))
    }
}

impl std::error::Error for Invalid {}

/// Checks every key's range and what must hold between keys.
///
/// # Errors
///
/// [`Invalid`] with all that is wrong, not just the first.
pub fn validate(config: &Config) -> Result<(), Invalid> {
    let mut check = Check::default();
    check.texts(config);
    check.threads_and_tokens(config);
    check.door(config);
    check.connections(config);
    check.subscriptions(config);
    check.ingest_and_tape(config);
    check.relations(config);
    check.0.into_result()
}

impl Invalid {
    fn into_result(self) -> Result<(), Self> {
        if self.out_of_range.is_empty() && self.conflicts.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

struct Check(Invalid);

impl Default for Check {
    fn default() -> Self {
        Self(Invalid {
            out_of_range: Vec::new(),
            conflicts: Vec::new(),
        })
    }
}

impl Check {
    fn range(
        &mut self,
        key: &'static str,
        value: impl TryInto<u64> + Display + Copy,
        allowed: RangeInclusive<u64>,
    ) {
        if !value.try_into().is_ok_and(|value| allowed.contains(&value)) {
            self.refuse(key, value, format!("{}–{}", allowed.start(), allowed.end()));
        }
    }

    fn power_of_two(&mut self, key: &'static str, value: usize, allowed: RangeInclusive<u64>) {
        if !value.is_power_of_two() || !allowed.contains(&(value as u64)) {
            self.refuse(
                key,
                value,
                format!("a power of two, {}–{}", allowed.start(), allowed.end()),
            );
        }
    }

    fn refuse(&mut self, key: &'static str, value: impl Display, allowed: String) {
        self.0.out_of_range.push(OutOfRange {
            key,
            value: value.to_string(),
            allowed,
        });
    }

    fn holds(&mut self, holds: bool, key: &'static str, other: &'static str, why: &'static str) {
        if !holds {
            self.0.conflicts.push(Conflict { key, other, why });
        }
    }

    fn texts(&mut self, config: &Config) {
        if config
            .log_level
            .parse::<tracing_subscriber::EnvFilter>()
            .is_err()
        {
            self.refuse(
                "log_level",
                &config.log_level,
                "a level or filter such as info or tickwire_engine=debug".into(),
            );
        }
        for (key, text) in [
            ("jwt_issuer", &config.jwt_issuer),
            ("jwt_audience", &config.jwt_audience),
        ] {
            if text.as_deref() == Some("") {
                self.refuse(key, "empty", "a text, or no such key".into());
            }
        }
    }

    fn threads_and_tokens(&mut self, config: &Config) {
        // 64: one bit a floor in the table that says which floors to wake.
        self.range("floors", config.floors, 0..=64);
        self.range("spin_us", config.spin_us, 0..=1_000_000);
        self.range("jwt_reload_ms", config.jwt_reload_ms, 100..=DAY_MS);
        self.range("token_grace_s", config.token_grace_s, 0..=DAY_S);
        self.range("token_expiring_s", config.token_expiring_s, 1..=DAY_S);
    }

    fn door(&mut self, config: &Config) {
        self.range("per_ip_rate", config.per_ip_rate, 0..=1_000_000);
        self.range("per_ip_burst", config.per_ip_burst, 1..=1_000_000);
        self.range("per_ip_table_max", config.per_ip_table_max, 1..=1 << 24);
        self.range(
            "per_ip_connections_max",
            config.per_ip_connections_max,
            0..=10_000_000,
        );
        self.range("handshakes_per_s", config.handshakes_per_s, 0..=1_000_000);
        self.range("half_open_max", config.half_open_max, 1..=1 << 20);
        self.range("connections_max", config.connections_max, 1..=10_000_000);
        self.range("head_bytes_max", config.head_bytes_max, 1_024..=MIB);
        self.range("head_timeout_ms", config.head_timeout_ms, 100..=600_000);
        self.range("auth_queue_max", config.auth_queue_max, 1..=1 << 20);
        self.range("handover_queue_max", config.handover_queue_max, 1..=1 << 20);
    }

    fn connections(&mut self, config: &Config) {
        self.range("heartbeat_ms", config.heartbeat_ms, 100..=600_000);
        self.range("ping_idle_s", config.ping_idle_s, 1..=DAY_S);
        self.range("pong_wait_s", config.pong_wait_s, 1..=DAY_S);
        self.range("first_subscribe_s", config.first_subscribe_s, 1..=DAY_S);
        self.range("ops_per_s", config.ops_per_s, 1..=1_000_000);
        self.range("ops_burst", config.ops_burst, 1..=1_000_000);
        self.range("message_bytes", config.message_bytes, 1_024..=64 * MIB);
        self.range("drain_s", config.drain_s, 0..=3_600);
    }

    fn subscriptions(&mut self, config: &Config) {
        self.range(
            "symbols_per_connection",
            config.symbols_per_connection,
            1..=1_000_000,
        );
        self.range("lag_soft_ticks", config.lag_soft_ticks, 1..=1 << 28);
        self.range("queued_bytes_max", config.queued_bytes_max, 64 * KIB..=GIB);
        self.range("stall_s", config.stall_s, 1..=DAY_S);
        self.range("hold_bytes_max", config.hold_bytes_max, 1_024..=64 * MIB);
        self.range("send_bytes_max", config.send_bytes_max, 1_024..=64 * MIB);
        self.range(
            "notsent_lowat_bytes",
            config.notsent_lowat_bytes,
            1_024..=GIB,
        );
        self.range(
            "requests_us_per_turn",
            config.requests_us_per_turn,
            10..=1_000_000,
        );
        self.range(
            "replay_us_per_turn",
            config.replay_us_per_turn,
            10..=1_000_000,
        );
        self.range("replays_max", config.replays_max, 1..=1 << 20);
        self.range(
            "replays_per_connection",
            config.replays_per_connection,
            1..=1_024,
        );
        self.range("replays_queued_max", config.replays_queued_max, 0..=65_536);
        self.range("handovers_per_turn", config.handovers_per_turn, 1..=65_536);
        self.range("ticks_per_turn", config.ticks_per_turn, 1..=1 << 20);
        self.range("sends_per_turn", config.sends_per_turn, 1..=4_096);
    }

    fn ingest_and_tape(&mut self, config: &Config) {
        self.range(
            "publish_message_bytes",
            config.publish_message_bytes,
            1_024..=64 * MIB,
        );
        self.range("arbitration_ms", config.arbitration_ms, 0..=60_000);
        self.range(
            "arbitration_held_max",
            config.arbitration_held_max,
            1..=1 << 20,
        );
        self.power_of_two("lane_slots", config.lane_slots, 64..=1 << 24);
        self.range("ack_interval_ms", config.ack_interval_ms, 1..=60_000);
        self.range(
            "errors_per_interval",
            config.errors_per_interval,
            1..=100_000,
        );
        // At 128 bytes a slot: 128 KiB to 32 GiB.
        self.power_of_two("tape_slots", config.tape_slots, 1 << 10..=1 << 28);
        self.range("symbols_max", config.symbols_max, 1..=1 << 22);
        self.range("history_reach_s", config.history_reach_s, 0..=30 * DAY_S);
    }

    fn relations(&mut self, config: &Config) {
        self.holds(
            config.listen != config.admin || config.listen.port() == 0,
            "admin",
            "listen",
            "two listeners need two addresses",
        );
        for (key, other, both) in [
            (
                "jwt_pem_file",
                "jwt_hs256_file",
                config.jwt_pem_file.is_some() && config.jwt_hs256_file.is_some(),
            ),
            (
                "jwt_jwks_file",
                "jwt_hs256_file",
                config.jwt_jwks_file.is_some() && config.jwt_hs256_file.is_some(),
            ),
            (
                "jwt_jwks_file",
                "jwt_pem_file",
                config.jwt_jwks_file.is_some() && config.jwt_pem_file.is_some(),
            ),
        ] {
            self.holds(!both, key, other, "the algorithm is pinned by one key file");
        }
        self.holds(
            config.lag_soft_ticks < config.tape_slots,
            "lag_soft_ticks",
            "tape_slots",
            "a backlog longer than the tape would be lost before it is conflated",
        );
        self.holds(
            config.ticks_per_turn < config.tape_slots,
            "ticks_per_turn",
            "tape_slots",
            "a turn must not be longer than the tape",
        );
        self.holds(
            config.replays_per_connection <= config.replays_max,
            "replays_per_connection",
            "replays_max",
            "one connection cannot have more replays under way than its floor",
        );
        self.holds(
            config.hold_bytes_max <= config.queued_bytes_max,
            "hold_bytes_max",
            "queued_bytes_max",
            "what is held back counts as queued",
        );
        self.holds(
            config.idle != Idle::Hybrid || config.spin_us > 0,
            "spin_us",
            "idle",
            "hybrid without time to spin is park; say so",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        validate(&config).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(validate(&Config::default()), Ok(()));
    }

    #[test]
    fn a_refusal_names_key_value_and_range() {
        assert_eq!(
            refused(|config| config.floors = 65),
            "`floors` is 65, allowed is 0–64"
        );
        assert_eq!(
            refused(|config| config.tape_slots = 1_000_000),
            "`tape_slots` is 1000000, allowed is a power of two, 1024–268435456",
        );
        assert_eq!(
            refused(|config| config.per_ip_burst = 0),
            "`per_ip_burst` is 0, allowed is 1–1000000"
        );
        assert!(
            refused(|config| config.log_level = "a=b=c".into()).starts_with("`log_level` is a=b=c")
        );
    }

    #[test]
    fn no_per_ip_limit_is_a_rate_of_zero() {
        let config = Config {
            per_ip_rate: 0,
            ..Config::default()
        };
        assert_eq!(validate(&config), Ok(()));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let text = refused(|config| {
            config.floors = 100;
            config.stall_s = 0;
        });
        assert!(
            text.contains("`floors`") && text.contains("`stall_s`"),
            "{text}"
        );
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        for (change, key) in [
            (
                (|config: &mut Config| config.admin = config.listen) as fn(&mut Config),
                "`admin`",
            ),
            (
                |config| config.lag_soft_ticks = config.tape_slots,
                "`lag_soft_ticks`",
            ),
            (
                |config| (config.idle, config.spin_us) = (Idle::Hybrid, 0),
                "`spin_us`",
            ),
            (
                |config| {
                    config.jwt_hs256_file = Some("a".into());
                    config.jwt_jwks_file = Some("b".into());
                },
                "`jwt_jwks_file`",
            ),
        ] {
            assert!(refused(change).starts_with(key), "{key}");
        }
    }
}
