//! A progress bar on a terminal, nothing elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

const STEPS: u64 = 1_000;

/// How far the run is.
#[derive(Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar on stderr where that is a terminal; a spinner where the run has no end.
    pub fn on_stderr(has_end: bool) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template) = if has_end {
            (
                ProgressBar::new(STEPS),
                "{wide_bar} {percent}% {msg} ticks accepted, {elapsed}",
            )
        } else {
            (
                ProgressBar::new_spinner(),
                "{spinner} {msg} ticks accepted, {elapsed}",
            )
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// Shows the state; indicatif draws it at most 20 times a second.
    pub fn update(&self, fraction: Option<f64>, accepted: u64) {
        if let Some(bar) = &self.0 {
            match fraction {
                Some(fraction) => bar.set_position((fraction * STEPS as f64) as u64),
                None => bar.tick(),
            }
            bar.set_message(accepted.to_string());
        }
    }

    /// Takes the bar away, so that the summary stands alone.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
