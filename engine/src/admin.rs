//! The admin listener: metrics, liveness, readiness.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder as _, IntGauge, Registry, TextEncoder};
use tokio::sync::oneshot;

use crate::{bridge, clock::wall_ns, config::Config, tape::Tape, threads::Placement};

/// Where the engine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Threads are being started.
    Starting = 0,
    /// Connections are accepted.
    Ready = 1,
    /// Connections are being sent away.
    Draining = 2,
}

/// The engine's phase, as everyone sees it.
#[derive(Debug, Default)]
pub struct Life(AtomicU8);

impl Life {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// What the pages are made from.
#[derive(Clone)]
struct Pages {
    registry: Registry,
    life: Arc<Life>,
    bridge: Option<Arc<bridge::Status>>,
    /// When the engine is ready even if the bridge has not caught up.
    ready_by: Instant,
    history: Arc<History>,
}

/// How far back the tape reaches; read when somebody asks.
struct History {
    tape: Arc<Tape>,
    warn_below_s: u64,
    reach_s: IntGauge,
    positions: IntGauge,
    symbols: IntGauge,
}

/// The running admin listener.
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Admin {
    /// Serves on a bound listener until [`Admin::stop`].
    ///
    /// # Errors
    ///
    /// Where the thread or its metrics cannot be set up.
    pub fn start(
        listener: TcpListener,
        registry: Registry,
        life: Arc<Life>,
        bridge: Option<Arc<bridge::Status>>,
        tape: Arc<Tape>,
        config: &Config,
        placement: &Placement,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let history = Arc::new(
            History::new(tape, config.history_reach_s, &registry).map_err(io::Error::other)?,
        );
        let pages = Pages {
            registry,
            life,
            bridge,
            ready_by: Instant::now() + Duration::from_secs(config.bridge_start_s),
            history,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = placement.spawn(move || serve(listener, pages, stopped))?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, and waits for the thread.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panicked page server has nothing left to clean up.
            let _ = thread.join();
        }
    }
}

fn serve(listener: TcpListener, pages: Pages, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        tokio::spawn(watch_history(Arc::clone(&pages.history)));
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(pages);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // A scraper that keeps its connection open does not hold the engine up.
        tokio::select! {
            outcome = async { axum::serve(listener, router).await } => outcome,
            // A dropped sender stops as well as a sent word.
            _ = stopped => Ok(()),
        }
    })
}

async fn metrics(State(pages): State<Pages>) -> Response {
    pages.history.observe();
    let mut text = Vec::new();
    match TextEncoder::new().encode(&pages.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(pages): State<Pages>) -> Response {
    let is_waiting = Instant::now() < pages.ready_by
        && pages
            .bridge
            .as_ref()
            .is_some_and(|bridge| !bridge.has_caught_up());
    let (code, phase) = match pages.life.phase() {
        Phase::Ready if is_waiting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Ready => (StatusCode::OK, "ready"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let bridge = pages.bridge.map(|bridge| bridge.to_string());
    let body = format!("{phase}\n{}", bridge.unwrap_or_default());
    (code, body).into_response()
}

/// Warns once when the tape has become too short for the rate.
async fn watch_history(history: Arc<History>) {
    const LOOK_EVERY: Duration = Duration::from_secs(10);
    let mut warned = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let short = history.observe();
        if short && !warned {
            tracing::warn!(
                history_reach_s = history.reach_s.get(),
                "the tape holds less history than history_reach_s asks for; raise tape_slots"
            );
        }
        warned = short;
    }
}

impl History {
    fn new(tape: Arc<Tape>, warn_below_s: u64, registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            tape,
            warn_below_s,
            reach_s: gauge(
                "tickwire_history_reach_seconds",
                "Age of the oldest tick that a resume can still get.",
            )?,
            positions: gauge(
                "tickwire_tape_position",
                "Records written to the tape since it began.",
            )?,
            symbols: gauge(
                "tickwire_symbols",
                "Symbols in the table (bound: symbols_max).",
            )?,
        })
    }

    /// Brings the gauges up to date; returns whether a full tape reaches back too little.
    fn observe(&self) -> bool {
        let oldest = self.tape.oldest();
        let reach_s = self.tape.read(oldest).map_or(0, |record| {
            wall_ns().saturating_sub(record.admitted_ns) / 1_000_000_000
        });
        self.reach_s.set(reach_s as i64);
        self.positions.set(self.tape.head().0 as i64);
        self.symbols.set(i64::from(self.tape.symbols()));
        oldest.0 > 0 && reach_s < self.warn_below_s
    }
}
