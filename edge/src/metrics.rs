//! What an edge counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tickwire_proto::close::CloseReason;

/// The edge's metrics; a bound's gauge stands beside its config key in README.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `tickwire_edge_requests_total{page,code}`: requests by how they were answered.
    requests: IntCounterVec,
    /// `tickwire_edge_ended_total{reason}`: streams that the edge has ended.
    ended: IntCounterVec,
    /// `tickwire_edge_upstream_connected`: whether an engine is within reach.
    pub upstream_connected: IntGauge,
    /// `tickwire_edge_upstream_connects_total`: connections made to engines.
    pub upstream_connects: IntCounter,
    /// `tickwire_edge_upstream_refused_total`: requests that an engine has refused.
    pub upstream_refused: IntCounter,
    /// `tickwire_edge_violations_total`: times that an engine broke its own account.
    pub violations: IntCounter,
    /// `tickwire_edge_ticks_total`: ticks that came from the engine.
    pub ticks: IntCounter,
    /// `tickwire_edge_gaps_total`: gaps that came from the engine.
    pub gaps: IntCounter,
    /// `tickwire_edge_delivered_ticks_total`: ticks handed to clients' sockets.
    pub delivered_ticks: IntCounter,
    /// `tickwire_edge_dropped_ticks_total`: ticks that slow clients were told of in a gap.
    pub dropped_ticks: IntCounter,
    /// `tickwire_edge_symbols_refused_total`: events of symbols beyond `symbols_max`.
    pub symbols_refused: IntCounter,
    /// `tickwire_edge_resumes_own_total`: resumes from the edge's history.
    pub resumes_own: IntCounter,
    /// `tickwire_edge_resumes_engine_total`: resumes that the engine had to replay.
    pub resumes_engine: IntCounter,
    /// `tickwire_edge_sockets`: sockets open.
    pub sockets: IntGauge,
    /// `tickwire_edge_streams`: SSE streams open.
    pub streams: IntGauge,
    /// `tickwire_edge_polls`: polls waiting.
    pub polls: IntGauge,
    /// `tickwire_edge_clients`: clients in the hub, streams and polls.
    pub clients: IntGauge,
    /// `tickwire_edge_parked`: cut polls that wait for the next.
    pub parked: IntGauge,
    /// `tickwire_edge_history`: events in the history.
    pub history: IntGauge,
    /// `tickwire_edge_symbols`: symbols in the table.
    pub symbols: IntGauge,
    /// `tickwire_edge_union`: symbols and patterns followed at the engine.
    pub union: IntGauge,
    /// `tickwire_edge_replays`: resumes under way at the engine.
    pub replays: IntGauge,
    /// `tickwire_edge_replays_waiting`: resumes that wait for it.
    pub replays_waiting: IntGauge,
    /// `tickwire_edge_per_ip_table`: IPs remembered.
    pub per_ip_table: IntGauge,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error`] where `registry` already has one of the names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("tickwire_edge_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("tickwire_edge_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let family = |name: &str, help: &str, labels: &[&str]| {
            let opts = Opts::new(format!("tickwire_edge_{name}"), help);
            let family = IntCounterVec::new(opts, labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self {
            requests: family(
                "requests_total",
                "Requests by how they were answered",
                &["page", "code"],
            )?,
            ended: family(
                "ended_total",
                "Streams that the edge has ended",
                &["reason"],
            )?,
            upstream_connected: gauge("upstream_connected", "Whether an engine is within reach")?,
            upstream_connects: counter("upstream_connects_total", "Connections made to engines")?,
            upstream_refused: counter("upstream_refused_total", "Requests an engine has refused")?,
            violations: counter("violations_total", "Times an engine broke its own account")?,
            ticks: counter("ticks_total", "Ticks that came from the engine")?,
            gaps: counter("gaps_total", "Gaps that came from the engine")?,
            delivered_ticks: counter("delivered_ticks_total", "Ticks handed to clients' sockets")?,
            dropped_ticks: counter(
                "dropped_ticks_total",
                "Ticks that slow clients were told of in a gap",
            )?,
            symbols_refused: counter("symbols_refused_total", "Events beyond symbols_max")?,
            resumes_own: counter("resumes_own_total", "Resumes from the edge's history")?,
            resumes_engine: counter("resumes_engine_total", "Resumes the engine had to replay")?,
            sockets: gauge("sockets", "Sockets open")?,
            streams: gauge("streams", "SSE streams open")?,
            polls: gauge("polls", "Polls waiting")?,
            clients: gauge("clients", "Clients, streams and polls")?,
            parked: gauge("parked", "Cut polls that wait for the next")?,
            history: gauge("history", "Events in the history")?,
            symbols: gauge("symbols", "Symbols in the table")?,
            union: gauge("union", "Symbols and patterns followed at the engine")?,
            replays: gauge("replays", "Resumes under way at the engine")?,
            replays_waiting: gauge("replays_waiting", "Resumes that wait for the engine")?,
            per_ip_table: gauge("per_ip_table", "IPs remembered")?,
        })
    }

    /// Counts a request by its page and the code of its answer, `ok` where it was served.
    pub fn answered(&self, page: &str, code: &str) {
        self.requests.with_label_values(&[page, code]).inc();
    }

    /// Counts a stream that the edge has ended.
    pub fn ended(&self, reason: CloseReason) {
        self.ended.with_label_values(&[reason.label()]).inc();
    }
}
