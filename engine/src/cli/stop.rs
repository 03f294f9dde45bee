//! Ending on SIGINT and SIGTERM: the first asks, the second insists.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// How often a wait looks whether a signal came.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Exit code of a process that a second signal ends, as shells report SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether the user asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes over SIGINT and SIGTERM.
    pub fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag still unset, and only then sets it.
            flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop.0))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.0)))
                .context("cannot handle signals")?;
        }
        Ok(stop)
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        // Relaxed: the flag stands for itself, nothing else is read because of it.
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, unless a signal comes; returns whether one came.
    pub fn sleep(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while !self.asked() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        true
    }
}
