//! The range of every key, and what keys must hold between each other.

use tickwire_proto::sbe::DEFINITIONS_MAX;

use super::{
    Config, Idle,
    ranges::{Check, Invalid},
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_S: u64 = 24 * 60 * 60;

/// Checks every key's range and what must hold between keys.
///
/// # Errors
///
/// [`Invalid`] with all that is wrong, not just the first.
pub fn validate(config: &Config) -> Result<(), Invalid> {
    let mut check = Check::default();
    check.log_level(&config.log_level);
    check.threads_and_tokens(config);
    check.door(config);
    check.connections(config);
    check.subscriptions(config);
    check.ingest_and_tape(config);
    check.bridge(config);
    check.relations(config);
    check.result()
}

impl Check {
    fn bridge(&mut self, config: &Config) {
        self.range("redis_shards", config.redis_shards, 1..=64);
        self.range(
            "redis_stream_entries",
            config.redis_stream_entries,
            100..=1 << 28,
        );
        self.range(
            "redis_memory_s",
            config.redis_memory_s,
            86_400..=366 * 86_400,
        );
        self.range("bridge_batch_bytes", config.bridge_batch_bytes, 256..=MIB);
        self.range("bridge_linger_us", config.bridge_linger_us, 10..=1_000_000);
        self.range("bridge_queue_max", config.bridge_queue_max, 1..=1 << 20);
        self.range("bridge_backlog", config.bridge_backlog, 1_024..=1 << 28);
        self.range("bridge_lane_slots", config.bridge_lane_slots, 1..=1 << 20);
        self.range("bridge_hosts_max", config.bridge_hosts_max, 1..=4_096);
        self.range("bridge_start_s", config.bridge_start_s, 0..=3_600);
    }

    fn threads_and_tokens(&mut self, config: &Config) {
        // 64: one bit a floor in the table that says which floors to wake.
        self.range("floors", config.floors, 0..=64);
        self.range("spin_us", config.spin_us, 0..=1_000_000);
        self.token_rules(&config.token_rules(), config.jwt_reload_ms);
        self.token_times(config.token_grace_s, config.token_expiring_s);
    }

    fn door(&mut self, config: &Config) {
        self.per_ip(
            config.per_ip_rate,
            config.per_ip_burst,
            config.per_ip_table_max,
            config.per_ip_connections_max,
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
            "resume_overlap_ms",
            config.resume_overlap_ms,
            3_000..=3_600_000,
        );
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
            config.redis.is_empty() || config.bridge_backlog < config.tape_slots,
            "bridge_backlog",
            "tape_slots",
            "what waits for Redis waits on the tape",
        );
        self.holds(
            config.redis.is_empty() || config.symbols_max <= DEFINITIONS_MAX,
            "symbols_max",
            "redis",
            "hosts name at most 262144 symbols in one entry",
        );
        let is_tls = |url: &String| url.starts_with("rediss:");
        self.holds(
            config.redis_ca_file.is_none() || config.redis.iter().all(is_tls),
            "redis_ca_file",
            "redis",
            "only rediss:// has certificates",
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
            (
                |config| {
                    config.redis = ["redis://a".to_owned()].into_iter().collect();
                    config.symbols_max = DEFINITIONS_MAX + 1;
                },
                "`symbols_max`",
            ),
            (
                |config| {
                    config.redis = ["redis://a".to_owned()].into_iter().collect();
                    config.bridge_backlog = config.tape_slots;
                },
                "`bridge_backlog`",
            ),
            (
                |config| {
                    config.redis = ["redis://a".to_owned()].into_iter().collect();
                    config.redis_ca_file = Some("a".into());
                },
                "`redis_ca_file`",
            ),
        ] {
            assert!(refused(change).starts_with(key), "{key}");
        }
    }
}
