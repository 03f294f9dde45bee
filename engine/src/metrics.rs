//! Prometheus metrics, one place for all names.
//!
//! Each thread has counters of its own, told apart by a label, so that no two cores ever write to
//! the same cache line on the way of a tick.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tickwire_proto::{close::CloseReason, code::ErrorCode, reply::GapReason};

use crate::ingest::{HostCounts, SequencerCounts};

/// Registers the metrics of every part with one registry.
pub struct Metrics {
    floor: FloorFamilies,
    ingest: IngestFamilies,
    closes: IntCounterVec,
    registry: Registry,
}

struct FloorFamilies {
    connections: IntGaugeVec,
    subscriptions: IntGaugeVec,
    ticks: IntCounterVec,
    gaps: IntCounterVec,
    overrun_ticks: IntCounterVec,
    laps: IntCounterVec,
    sends: IntCounterVec,
    sent_bytes: IntCounterVec,
    mailbox: IntGaugeVec,
    requests: IntGaugeVec,
    joins: IntGaugeVec,
    runnable_joins: IntGaugeVec,
    timers: IntGaugeVec,
    queued_bytes: IntGaugeVec,
    queued_ticks: IntGaugeVec,
    longest_backlog: IntGaugeVec,
    audiences: IntGaugeVec,
    ingest_to_send: HistogramVec,
}

struct IngestFamilies {
    publishers: IntGauge,
    accepted: IntCounter,
    duplicates: IntCounter,
    late: IntCounter,
    gaps: IntCounter,
    refused: IntCounterVec,
    held: IntGauge,
    lane_ticks: IntGauge,
    carried: IntCounterVec,
    host_entries: IntGauge,
}

/// The counters of one floor.
pub struct FloorMetrics {
    /// Connections now.
    pub connections: IntGauge,
    /// Live subscriptions to single symbols now.
    pub subscriptions: IntGauge,
    /// Live ticks handed to sockets.
    pub delivered_ticks: IntCounter,
    /// Ticks dropped in favour of later ones for clients that lag, each told in a `gap`.
    pub dropped_ticks: IntCounter,
    /// Ticks that `conflate` dropped, each told in a `skipped`.
    pub conflated_ticks: IntCounter,
    /// Ticks sent by resumes and replays.
    pub replayed_ticks: IntCounter,
    /// Snapshot ticks.
    pub snapshot_ticks: IntCounter,
    /// Ticks that this floor itself missed, each told in a `gap`.
    pub overrun_ticks: IntCounter,
    /// How often the tape lapped this floor.
    pub laps: IntCounter,
    /// Writes started.
    pub sends: IntCounter,
    /// Bytes written.
    pub sent_bytes: IntCounter,
    /// Letters that wait.
    pub mailbox: IntGauge,
    /// Connections that have spoken and are not reached yet.
    pub requests: IntGauge,
    /// Snapshots, resumes and replays under way or queued.
    pub joins: IntGauge,
    /// Those of them that could go on now.
    pub runnable_joins: IntGauge,
    /// Entries in the timer heap.
    pub timers: IntGauge,
    /// Bytes queued of everything but ticks, over all connections.
    pub queued_bytes: IntGauge,
    /// Ticks queued or held by reference, over all connections.
    pub queued_ticks: IntGauge,
    /// Ticks queued for the connection that is furthest behind.
    pub longest_backlog: IntGauge,
    /// Groups of subscribers who get their ticks together.
    pub audiences: IntGauge,
    /// From admission to the submission of the sends, per tick and floor.
    pub ingest_to_send: Histogram,
    gaps: Vec<IntCounter>,
    closes: Vec<IntCounter>,
}

/// The counters of ingest.
pub struct IngestMetrics {
    /// Publishers' connections now.
    pub publishers: IntGauge,
    /// Ticks that wait in lanes.
    pub lane_ticks: IntGauge,
    host_entries: IntGauge,
    carried: [IntCounter; 3],
    accepted: IntCounter,
    duplicates: IntCounter,
    late: IntCounter,
    gaps: IntCounter,
    held: IntGauge,
    refused: Vec<IntCounter>,
    closes: Vec<IntCounter>,
}

impl Metrics {
    /// Registers every family with a new registry.
    ///
    /// # Errors
    ///
    /// Never in practice: names are unique and well-formed.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let closes = counters(
            &registry,
            "tickwire_closes_total",
            "Connections ended, by reason.",
            &["endpoint", "reason"],
        )?;
        Ok(Self {
            floor: FloorFamilies::register(&registry)?,
            ingest: IngestFamilies::register(&registry)?,
            closes,
            registry,
        })
    }

    /// The registry, for what other parts register and for scraping.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of one floor.
    pub fn floor(&self, number: u32) -> FloorMetrics {
        let number = number.to_string();
        let label = [number.as_str()];
        let ticks = |outcome: &str| {
            self.floor
                .ticks
                .with_label_values(&[number.as_str(), outcome])
        };
        FloorMetrics {
            connections: self.floor.connections.with_label_values(&label),
            subscriptions: self.floor.subscriptions.with_label_values(&label),
            delivered_ticks: ticks("delivered"),
            dropped_ticks: ticks("dropped"),
            conflated_ticks: ticks("conflated"),
            replayed_ticks: ticks("replayed"),
            snapshot_ticks: ticks("snapshot"),
            overrun_ticks: self.floor.overrun_ticks.with_label_values(&label),
            laps: self.floor.laps.with_label_values(&label),
            sends: self.floor.sends.with_label_values(&label),
            sent_bytes: self.floor.sent_bytes.with_label_values(&label),
            mailbox: self.floor.mailbox.with_label_values(&label),
            requests: self.floor.requests.with_label_values(&label),
            joins: self.floor.joins.with_label_values(&label),
            runnable_joins: self.floor.runnable_joins.with_label_values(&label),
            timers: self.floor.timers.with_label_values(&label),
            queued_bytes: self.floor.queued_bytes.with_label_values(&label),
            queued_ticks: self.floor.queued_ticks.with_label_values(&label),
            longest_backlog: self.floor.longest_backlog.with_label_values(&label),
            audiences: self.floor.audiences.with_label_values(&label),
            ingest_to_send: self.floor.ingest_to_send.with_label_values(&label),
            gaps: GapReason::ALL
                .iter()
                .map(|reason| {
                    self.floor
                        .gaps
                        .with_label_values(&[number.as_str(), reason.as_str()])
                })
                .collect(),
            closes: self.closes("subscribe"),
        }
    }

    /// The counters of ingest.
    pub fn ingest(&self) -> IngestMetrics {
        IngestMetrics {
            publishers: self.ingest.publishers.clone(),
            lane_ticks: self.ingest.lane_ticks.clone(),
            host_entries: self.ingest.host_entries.clone(),
            carried: ["accepted", "duplicate", "refused"]
                .map(|outcome| self.ingest.carried.with_label_values(&[outcome])),
            accepted: self.ingest.accepted.clone(),
            duplicates: self.ingest.duplicates.clone(),
            late: self.ingest.late.clone(),
            gaps: self.ingest.gaps.clone(),
            held: self.ingest.held.clone(),
            refused: ErrorCode::ALL
                .iter()
                .map(|code| self.ingest.refused.with_label_values(&[code.as_str()]))
                .collect(),
            closes: self.closes("publish"),
        }
    }

    fn closes(&self, endpoint: &str) -> Vec<IntCounter> {
        CloseReason::ALL
            .iter()
            .map(|reason| self.closes.with_label_values(&[endpoint, reason.label()]))
            .collect()
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

impl FloorFamilies {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str| -> prometheus::Result<IntGaugeVec> {
            register(
                registry,
                IntGaugeVec::new(Opts::new(name, help), &["floor"])?,
            )
        };
        Ok(Self {
            connections: gauges("tickwire_floor_connections", "Subscribers' connections, by floor.")?,
            subscriptions: gauges("tickwire_subscriptions", "Live subscriptions to single symbols, by floor.")?,
            ticks: counters(registry,
                "tickwire_ticks_out_total",
                "Ticks by what became of them for one subscriber: delivered, dropped (told as gap), conflated (told as skipped), replayed, snapshot.",
                &["floor", "outcome"],
            )?,
            gaps: counters(registry, "tickwire_gaps_total", "Gap messages fanned out, by reason.", &["floor", "reason"])?,
            overrun_ticks: counters(registry, "tickwire_overrun_ticks_total", "Ticks that a floor itself missed.", &["floor"])?,
            laps: counters(registry, "tickwire_tape_laps_total", "How often the tape lapped a floor.", &["floor"])?,
            sends: counters(registry, "tickwire_sends_total", "Writes started.", &["floor"])?,
            sent_bytes: counters(registry, "tickwire_sent_bytes_total", "Bytes handed to sockets.", &["floor"])?,
            mailbox: gauges("tickwire_handover_queue", "Letters waiting for a floor (bound: handover_queue_max).")?,
            requests: gauges("tickwire_requests_waiting", "Connections that have spoken and are not reached yet.")?,
            joins: gauges("tickwire_replays", "Snapshots, resumes and replays under way or queued.")?,
            runnable_joins: gauges("tickwire_replays_runnable", "Those that could go on now (bound at once: replays_max).")?,
            timers: gauges("tickwire_timers", "Entries in the timer heap.")?,
            queued_bytes: gauges(
                "tickwire_queued_bytes",
                "Bytes of own frames and control messages queued (bound: queued_bytes_max each).",
            )?,
            queued_ticks: gauges(
                "tickwire_queued_ticks",
                "Ticks queued by reference, over all connections.",
            )?,
            longest_backlog: gauges(
                "tickwire_longest_backlog_ticks",
                "Ticks queued for the connection that is furthest behind (bound: lag_soft_ticks).",
            )?,
            audiences: gauges(
                "tickwire_audiences",
                "Groups of subscribers who get exactly the same ticks, and get them together.",
            )?,
            ingest_to_send: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "tickwire_ingest_to_send_seconds",
                        "From a tick's admission to the submission of its sends, per tick and floor.",
                    )
                    .buckets(prometheus::exponential_buckets(2e-6, 2.0, 20)?),
                    &["floor"],
                )?,
            )?,
        })
    }
}

impl IngestFamilies {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            register(registry, IntGauge::new(name, help)?)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            register(registry, IntCounter::new(name, help)?)
        };
        Ok(Self {
            publishers: gauge("tickwire_publishers", "Publishers' connections.")?,
            accepted: counter("tickwire_ticks_accepted_total", "Ticks placed on the tape.")?,
            duplicates: counter(
                "tickwire_ticks_duplicate_total",
                "Copies of ticks placed before.",
            )?,
            late: counter(
                "tickwire_ticks_late_total",
                "Copies that came after their gap was declared.",
            )?,
            gaps: counter(
                "tickwire_source_gaps_total",
                "Gaps declared for holes in what sources sent.",
            )?,
            refused: counters(
                registry,
                "tickwire_ticks_refused_total",
                "Ticks refused, by code.",
                &["code"],
            )?,
            held: gauge(
                "tickwire_arbitration_held",
                "Ticks held behind a hole (bound: arbitration_held_max).",
            )?,
            lane_ticks: gauge(
                "tickwire_lane_ticks",
                "Ticks waiting in lanes (bound: lane_slots each).",
            )?,
            carried: counters(
                registry,
                "tickwire_bridge_ticks_total",
                "Other hosts' ticks, by what became of them.",
                &["outcome"],
            )?,
            host_entries: gauge(
                "tickwire_bridge_lane",
                "Other hosts' entries waiting for ingest (bound: bridge_lane_slots).",
            )?,
        })
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl FloorMetrics {
    /// Gap messages for `reason`.
    pub fn gaps(&self, reason: GapReason) -> &IntCounter {
        &self.gaps[reason as usize]
    }

    /// Connections ended for `reason`.
    pub fn closes(&self, reason: CloseReason) -> &IntCounter {
        &self.closes[reason as usize]
    }
}

impl IngestMetrics {
    /// Ticks refused with `code`.
    pub fn refused(&self, code: ErrorCode) -> &IntCounter {
        &self.refused[code as usize]
    }

    /// Connections ended for `reason`.
    pub fn closes(&self, reason: CloseReason) -> &IntCounter {
        &self.closes[reason as usize]
    }

    /// Brings the counters up to the sequencer's own.
    pub fn observe(&self, counts: &SequencerCounts) {
        raise(&self.accepted, counts.placed);
        raise(&self.duplicates, counts.duplicates);
        raise(&self.late, counts.late);
        raise(&self.gaps, counts.gaps);
        self.held.set(counts.held as i64);
    }

    /// Brings the counters up to what other hosts' ticks came to.
    pub fn observe_hosts(&self, counts: &HostCounts, waiting: usize) {
        let [accepted, duplicates, refused] = &self.carried;
        raise(accepted, counts.accepted);
        raise(duplicates, counts.duplicates);
        raise(refused, counts.refused);
        self.host_entries.set(waiting as i64);
    }
}

/// Brings a counter to what was counted elsewhere.
pub fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
