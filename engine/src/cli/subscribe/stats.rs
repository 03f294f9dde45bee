//! Rate, age and losses, once a second.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tickwire_engine::clock;
use tickwire_proto::session::{Event, Totals};

const EVERY: Duration = Duration::from_secs(1);
/// Ages above an hour count as one: they are recordings, not delays.
const AGE_MAX_US: u64 = 3_600_000_000;
/// Plain lines repeat the heading after so many.
const HEADING_EVERY: u64 = 20;
const HEADING: &str =
    "    ticks/s      p50 ms      p99 ms      max ms        ticks      gaps  reconnects";

/// What is counted within a second, and over all.
#[derive(Debug)]
pub struct Stats {
    ages: Ages,
    all: Ages,
    gaps: u64,
    started: Instant,
    shown: Instant,
    rows: u64,
    terminal: bool,
}

/// How old ticks were when they arrived: our clock against their event time.
#[derive(Debug)]
struct Ages(Histogram<u64>);

impl Ages {
    fn new() -> Self {
        Self(
            Histogram::new_with_max(AGE_MAX_US, 3)
                .expect("bounds and digits are within the crate's"),
        )
    }

    fn record(&mut self, age_us: u64) {
        self.0.saturating_record(age_us);
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl Stats {
    /// Begins to count.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            ages: Ages::new(),
            all: Ages::new(),
            gaps: 0,
            started: now,
            shown: now,
            rows: 0,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Counts an event. Snapshots have no age: they are as old as the last trade.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Tick(tick, marks) if !marks.snapshot => {
                let age_us = clock::wall_ns().saturating_sub(tick.ts_ns) / 1_000;
                self.ages.record(age_us);
                self.all.record(age_us);
            }
            Event::Gap(_) | Event::Lost(_) => self.gaps += 1,
            _ => {}
        }
    }

    /// Prints the last second, if it is over.
    pub fn show_if_due(&mut self, totals: &Totals) -> io::Result<()> {
        let elapsed = self.shown.elapsed();
        if elapsed < EVERY {
            return Ok(());
        }
        let row = Row::new(&self.ages, elapsed, self.gaps, totals).to_string();
        self.print(&row)?;
        self.shown = Instant::now();
        self.ages.0.reset();
        Ok(())
    }

    /// Prints the whole run.
    pub fn finish(&mut self, totals: &Totals) -> io::Result<()> {
        let row = Row::new(&self.all, self.started.elapsed(), self.gaps, totals);
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "in all\n{HEADING}\n{row}")?;
        let Totals {
            skipped,
            gapped,
            lost,
            repeats,
            violations,
            ..
        } = *totals;
        writeln!(
            stdout,
            "skipped {skipped}, gapped {gapped}, lost {lost}, repeats dropped {repeats}, violations {violations}",
        )
    }

    fn print(&mut self, row: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.terminal {
            // Back to the heading of the last time, and over it.
            let up = if self.rows > 0 { "\x1b[2A" } else { "" };
            write!(stdout, "{up}\x1b[2K{HEADING}\n\x1b[2K{row}\n")?;
        } else {
            if self.rows.is_multiple_of(HEADING_EVERY) {
                writeln!(stdout, "{HEADING}")?;
            }
            writeln!(stdout, "{row}")?;
        }
        self.rows += 1;
        stdout.flush()
    }
}

/// One line of the table.
struct Row {
    rate: f64,
    ages_ms: [f64; 3],
    ticks: u64,
    gaps: u64,
    reconnects: u64,
}

impl Row {
    fn new(ages: &Ages, elapsed: Duration, gaps: u64, totals: &Totals) -> Self {
        Self {
            rate: ages.0.len() as f64 / elapsed.as_secs_f64().max(0.001),
            ages_ms: [ages.ms(0.5), ages.ms(0.99), ages.ms(1.0)],
            ticks: totals.ticks,
            gaps,
            reconnects: totals.connections.saturating_sub(1),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>11.0}", self.rate)?;
        for age_ms in self.ages_ms {
            write!(f, " {age_ms:>11.3}")?;
        }
        write!(
            f,
            " {:>12} {:>9} {:>11}",
            self.ticks, self.gaps, self.reconnects
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_below_its_heading() {
        let mut ages = Ages::new();
        for age_us in 1..=1_000 {
            ages.record(age_us);
        }
        let totals = Totals {
            connections: 3,
            ticks: 5_000,
            ..Totals::default()
        };
        let row = Row::new(&ages, Duration::from_secs(2), 4, &totals).to_string();
        assert_eq!(row.len(), HEADING.len());
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["500", "0.500", "0.990", "1.000", "5000", "4", "2"]);
    }

    #[test]
    fn ages_out_of_all_bounds_count_as_the_largest() {
        let mut ages = Ages::new();
        ages.record(u64::MAX);
        assert!(ages.ms(1.0) >= 3_600_000.0);
    }
}
