//! What a bridge counts, by shard.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{incoming::Incoming, lag::Lag, outgoing::Outgoing};
use crate::metrics::raise;

/// The families.
pub struct Families {
    entries: IntCounterVec,
    bytes: IntCounterVec,
    missing: IntCounterVec,
    repeats: IntCounterVec,
    bad: IntCounterVec,
    forgotten: IntCounterVec,
    dropped: IntCounterVec,
    reconnects: IntCounterVec,
    catch_ups: IntCounterVec,
    queue: IntGaugeVec,
    behind: IntGaugeVec,
    hosts: IntGaugeVec,
    lag_entries: IntGaugeVec,
    lag_ms: IntGaugeVec,
}

/// The counters of one shard.
pub struct ShardMetrics {
    /// Entries that Redis has confirmed.
    pub sent: IntCounter,
    /// Their bytes.
    pub sent_bytes: IntCounter,
    /// Bytes of other hosts' entries.
    pub received_bytes: IntCounter,
    /// Connections that ended or did not come about.
    pub reconnects: IntCounter,
    /// Times that a reader read on from where it stood.
    pub catch_ups: IntCounter,
    received: IntCounter,
    missing: IntCounter,
    repeats: IntCounter,
    bad: IntCounter,
    forgotten: IntCounter,
    dropped: IntCounter,
    queue: IntGauge,
    behind: IntGauge,
    hosts: IntGauge,
    lag_entries: IntGauge,
    lag_ms: IntGauge,
}

impl Families {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// Never in practice: names are unique and well-formed.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            prometheus::Result::Ok(family)
        };
        let gauges = |name: &str, help: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &["shard"])?;
            registry.register(Box::new(family.clone()))?;
            prometheus::Result::Ok(family)
        };
        let ways = ["shard", "way"];
        let shard = ["shard"];
        Ok(Self {
            entries: counters(
                "tickwire_bridge_entries_total",
                "Entries of streams, by the way that they went.",
                &ways,
            )?,
            bytes: counters(
                "tickwire_bridge_bytes_total",
                "Bytes of entries, by the way that they went.",
                &ways,
            )?,
            missing: counters(
                "tickwire_bridge_missing_total",
                "Entries of other hosts that never came.",
                &shard,
            )?,
            repeats: counters(
                "tickwire_bridge_repeats_total",
                "Entries of other hosts that came again.",
                &shard,
            )?,
            bad: counters(
                "tickwire_bridge_bad_entries_total",
                "Entries that could not be read.",
                &shard,
            )?,
            forgotten: counters(
                "tickwire_bridge_forgotten_total",
                "Hosts that were forgotten for others (bound: bridge_hosts_max).",
                &shard,
            )?,
            dropped: counters(
                "tickwire_bridge_dropped_total",
                "Records of the tape, of whatever shard and host, given up unsent (bound: bridge_backlog).",
                &shard,
            )?,
            reconnects: counters(
                "tickwire_bridge_reconnects_total",
                "Connections to Redis that ended or did not come about.",
                &shard,
            )?,
            catch_ups: counters(
                "tickwire_bridge_catch_ups_total",
                "Times that what was missed was read.",
                &shard,
            )?,
            queue: gauges(
                "tickwire_bridge_queue",
                "Entries that Redis has not confirmed (bound: bridge_queue_max).",
            )?,
            behind: gauges(
                "tickwire_bridge_behind",
                "Records of the tape not looked at yet (bound: bridge_backlog).",
            )?,
            hosts: gauges(
                "tickwire_bridge_hosts",
                "Other hosts that speak (bound: bridge_hosts_max).",
            )?,
            lag_entries: gauges(
                "tickwire_bridge_lag_entries",
                "Entries of the stream that were not read when it was last looked at.",
            )?,
            lag_ms: gauges(
                "tickwire_bridge_lag_ms",
                "How much older the last entry that was read is than the stream's last, by Redis's clock.",
            )?,
        })
    }

    /// The counters of one shard.
    pub fn shard(&self, number: u32) -> ShardMetrics {
        let number = number.to_string();
        let label = [number.as_str()];
        let way =
            |family: &IntCounterVec, way: &str| family.with_label_values(&[number.as_str(), way]);
        ShardMetrics {
            sent: way(&self.entries, "out"),
            received: way(&self.entries, "in"),
            sent_bytes: way(&self.bytes, "out"),
            received_bytes: way(&self.bytes, "in"),
            missing: self.missing.with_label_values(&label),
            repeats: self.repeats.with_label_values(&label),
            bad: self.bad.with_label_values(&label),
            forgotten: self.forgotten.with_label_values(&label),
            dropped: self.dropped.with_label_values(&label),
            reconnects: self.reconnects.with_label_values(&label),
            catch_ups: self.catch_ups.with_label_values(&label),
            queue: self.queue.with_label_values(&label),
            behind: self.behind.with_label_values(&label),
            hosts: self.hosts.with_label_values(&label),
            lag_entries: self.lag_entries.with_label_values(&label),
            lag_ms: self.lag_ms.with_label_values(&label),
        }
    }
}

impl ShardMetrics {
    /// Brings up to date what the shard counts by itself.
    pub fn observe(&self, outgoing: &Outgoing, incoming: &Incoming, lag: &Lag) {
        let counts = incoming.counts();
        raise(&self.received, counts.taken);
        raise(&self.missing, counts.missing);
        raise(&self.repeats, counts.repeats);
        raise(&self.bad, counts.bad);
        raise(&self.forgotten, counts.forgotten);
        raise(&self.dropped, outgoing.dropped());
        self.queue.set(outgoing.queued() as i64);
        self.behind.set(outgoing.behind() as i64);
        self.hosts.set(incoming.alive() as i64);
        self.lag_entries.set(lag.entries() as i64);
        self.lag_ms.set(lag.ms() as i64);
    }
}
