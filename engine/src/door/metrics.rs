//! What the door counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::answer::Refusal;

/// The door's metrics.
#[derive(Clone)]
pub struct Metrics {
    /// `tickwire_handshakes_total{outcome,reason}`: connections by how their handshake ended.
    handshakes: IntCounterVec,
    /// `tickwire_half_open`: connections being shaken hands with.
    pub half_open: IntGauge,
    /// `tickwire_lingering`: refused connections whose answer is still on its way.
    pub lingering: IntGauge,
    /// `tickwire_asking`: connections without a place that may ask `/v1/admit` why.
    pub asking: IntGauge,
    /// `tickwire_connections`: connections handed over and not ended.
    pub connections: IntGauge,
    /// `tickwire_per_ip_table`: IPs remembered.
    pub per_ip_table: IntGauge,
    /// `tickwire_users`: users with a connection.
    pub users: IntGauge,
    /// `tickwire_client_ips`: IPs with a connection.
    pub client_ips: IntGauge,
    /// `tickwire_auth_queue`: in-band tokens waiting for verification.
    pub auth_queue: IntGauge,
    /// `tickwire_accept_errors_total`: accepts that failed, as when descriptors run out.
    pub accept_errors: IntCounter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error`] where `registry` already has one of the names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let handshakes = IntCounterVec::new(
            Opts::new(
                "tickwire_handshakes_total",
                "Connections by how their handshake ended",
            ),
            &["outcome", "reason"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        // So that the line is there before the first handshake is.
        handshakes.with_label_values(&["admitted", ""]);
        let accept_errors = IntCounter::new("tickwire_accept_errors_total", "Accepts that failed")?;
        registry.register(Box::new(accept_errors.clone()))?;
        Ok(Self {
            handshakes,
            half_open: gauge("tickwire_half_open", "Connections being shaken hands with")?,
            lingering: gauge("tickwire_lingering", "Refused connections not closed yet")?,
            asking: gauge("tickwire_asking", "Connections that may only ask why")?,
            connections: gauge(
                "tickwire_connections",
                "Connections handed over and not ended",
            )?,
            per_ip_table: gauge("tickwire_per_ip_table", "IPs remembered by the door")?,
            users: gauge("tickwire_users", "Users with a connection")?,
            client_ips: gauge("tickwire_client_ips", "IPs with a connection")?,
            auth_queue: gauge(
                "tickwire_auth_queue",
                "In-band tokens waiting for verification",
            )?,
            accept_errors,
        })
    }

    /// Counts an admission.
    pub fn admitted(&self) {
        self.handshakes.with_label_values(&["admitted", ""]).inc();
    }

    /// Counts a peer that left before its handshake ended.
    pub fn gone(&self) {
        self.handshakes.with_label_values(&["gone", ""]).inc();
    }

    /// Counts an answer of `/v1/admit`.
    pub fn told(&self) {
        self.handshakes.with_label_values(&["told", ""]).inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, refusal: &Refusal) {
        self.handshakes
            .with_label_values(&[refusal.code(), refusal.reason()])
            .inc();
    }
}
