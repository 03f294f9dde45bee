//! What is published, and when each tick is due.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use tickwire_engine::{clock, market::Market};
use tickwire_proto::{symbol::Symbol, tick::PublishedTick};

use super::recording::{BadRow, Recording, RecordingError};

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// As fast as the engine takes it.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(times) if times > 0.0 && times.is_finite() => Ok(Self::Times(times)),
            _ => Err("expected a number above 0, or max"),
        }
    }
}

/// A tick and when to send it, counted from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    pub due: Duration,
    pub tick: PublishedTick,
    /// Its line in the file, where it comes from one.
    pub line: Option<u64>,
}

/// Where ticks come from.
#[derive(Debug)]
pub enum Source {
    Replay(Box<Replay>),
    Synthetic(Box<Synthetic>),
}

impl Source {
    /// The next tick, `None` at the end; the inner error is a row to skip.
    pub fn next(&mut self) -> Result<Option<Result<Timed, BadRow>>, RecordingError> {
        match self {
            Self::Replay(replay) => replay.next(),
            Self::Synthetic(synthetic) => Ok(synthetic.next().map(Ok)),
        }
    }

    /// Every symbol that will come.
    pub fn symbols(&self) -> Result<Vec<Symbol>, RecordingError> {
        match self {
            Self::Replay(replay) => symbols_of(&replay.path),
            Self::Synthetic(synthetic) => Ok(synthetic.market.symbols().to_vec()),
        }
    }

    /// How far the run is, 0…1, where it has an end.
    pub fn progress(&self, elapsed: Duration) -> Option<f64> {
        match self {
            Self::Replay(replay) => Some(replay.progress()),
            Self::Synthetic(synthetic) => Some(elapsed.div_duration_f64(synthetic.duration?)),
        }
    }
}

fn symbols_of(path: &Path) -> Result<Vec<Symbol>, RecordingError> {
    let mut recording = Recording::open(path)?;
    let mut symbols = BTreeSet::new();
    while let Some(row) = recording.next()? {
        symbols.extend(row.ok().map(|tick| tick.symbol));
    }
    Ok(symbols.into_iter().collect())
}

/// How a file is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Replaying {
    pub speed: Speed,
    /// How often the file is played, at least once.
    pub passes: u32,
    /// Longest pause between two ticks as recorded: nights and weekends are cut to it.
    pub pause_max: Duration,
}

/// A file, played once or several times.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    file_bytes: u64,
    how: Replaying,
    recording: Recording,
    /// Passes begun, from 1.
    pass: u32,
    /// No row has come yet, good or bad.
    empty: bool,
    /// First and last event time of the file so far, ns.
    range_ns: Option<(u64, u64)>,
    /// What is added to event times in this pass, ns.
    shift_ns: u64,
    previous_ns: Option<u64>,
    clock: Duration,
}

impl Replay {
    pub fn open(path: &Path, how: Replaying) -> Result<Self, RecordingError> {
        let file_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(Self {
            path: path.to_owned(),
            file_bytes,
            how,
            recording: Recording::open(path)?,
            pass: 1,
            empty: true,
            range_ns: None,
            shift_ns: 0,
            previous_ns: None,
            clock: Duration::ZERO,
        })
    }

    fn next(&mut self) -> Result<Option<Result<Timed, BadRow>>, RecordingError> {
        loop {
            if let Some(row) = self.recording.next()? {
                self.empty = false;
                return Ok(Some(row.map(|tick| self.time(tick))));
            }
            // A file without rows would be opened again and again, deaf to signals.
            if self.pass >= self.how.passes || self.empty {
                return Ok(None);
            }
            self.rewind()?;
        }
    }

    fn rewind(&mut self) -> Result<(), RecordingError> {
        self.recording = Recording::open(&self.path)?;
        self.pass += 1;
        let (first, last) = self.range_ns.unwrap_or_default();
        self.shift_ns = self.shift_ns.saturating_add(last - first);
        Ok(())
    }

    fn time(&mut self, mut tick: PublishedTick) -> Timed {
        if let Some(recorded_ns) = tick.ts_ns {
            if self.pass == 1 {
                let (first, last) = self.range_ns.unwrap_or((recorded_ns, recorded_ns));
                self.range_ns = Some((first.min(recorded_ns), last.max(recorded_ns)));
            }
            let ts_ns = recorded_ns.saturating_add(self.shift_ns);
            tick.ts_ns = Some(ts_ns);
            let previous_ns = self.previous_ns.replace(ts_ns).unwrap_or(ts_ns);
            // Ticks recorded out of order follow at once.
            let pause =
                Duration::from_nanos(ts_ns.saturating_sub(previous_ns)).min(self.how.pause_max);
            if let Speed::Times(times) = self.how.speed {
                self.clock += pause.div_f64(times);
            }
        }
        Timed {
            due: self.clock,
            tick,
            line: Some(self.recording.line()),
        }
    }

    fn progress(&self) -> f64 {
        let passes = f64::from(self.pass - 1)
            + self.recording.bytes() as f64 / self.file_bytes.max(1) as f64;
        passes / f64::from(self.how.passes.max(1))
    }
}

/// A synthetic market, stamped with the time at which each tick is due: what happens to a tick
/// that is sent late counts as its delay.
#[derive(Debug)]
pub struct Synthetic {
    market: Market,
    /// When the first tick was asked for, nanoseconds since 1970 UTC: the run may begin long
    /// after this was made, once there is a connection.
    started_ns: Option<u64>,
    duration: Option<Duration>,
    clock: Duration,
}

impl Synthetic {
    /// Ends after `duration`, or never.
    pub fn new(market: Market, duration: Option<Duration>) -> Self {
        Self {
            market,
            started_ns: None,
            duration,
            clock: Duration::ZERO,
        }
    }

    fn next(&mut self) -> Option<Timed> {
        let started_ns = *self.started_ns.get_or_insert_with(clock::wall_ns);
        let (delay, mut tick) = self.market.next();
        self.clock += delay;
        if self.duration.is_some_and(|duration| self.clock > duration) {
            return None;
        }
        tick.ts_ns = Some(started_ns.saturating_add(self.clock.as_nanos() as u64));
        Some(Timed {
            due: self.clock,
            tick,
            line: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Plays a file of trades at these seconds; returns when they are due and their event times,
    /// both in seconds.
    fn play(seconds: &[u64], how: Replaying) -> Vec<(f64, u64)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(
            file,
            "ts,type,symbol,price,size,side,bid,bid_size,ask,ask_size"
        )
        .unwrap();
        for second in seconds {
            writeln!(file, "{second}000000,trade,A,1,,,,,,").unwrap();
        }
        let mut source = Source::Replay(Box::new(Replay::open(file.path(), how).unwrap()));
        std::iter::from_fn(|| source.next().unwrap())
            .map(|row| row.unwrap())
            .map(|timed| {
                (
                    timed.due.as_secs_f64(),
                    timed.tick.ts_ns.unwrap() / 1_000_000_000,
                )
            })
            .collect()
    }

    fn times(times: f64) -> Replaying {
        Replaying {
            speed: Speed::Times(times),
            passes: 1,
            pause_max: 1_000 * SECOND,
        }
    }

    #[test]
    fn recorded_gaps_are_divided_by_the_speed() {
        assert_eq!(
            play(&[100, 110, 140], times(10.0)),
            [(0.0, 100), (1.0, 110), (4.0, 140)]
        );
        let at_once = Replaying {
            speed: Speed::Max,
            ..times(1.0)
        };
        assert_eq!(play(&[100, 140], at_once), [(0.0, 100), (0.0, 140)]);
    }

    #[test]
    fn long_pauses_are_cut_and_steps_back_take_no_time() {
        let how = Replaying {
            pause_max: 5 * SECOND,
            ..times(1.0)
        };
        let due: Vec<f64> = play(&[100, 1_000_000, 200, 203], how)
            .iter()
            .map(|row| row.0)
            .collect();
        assert_eq!(due, [0.0, 5.0, 5.0, 8.0]);
    }

    #[test]
    fn a_repeated_file_goes_on_where_it_ended() {
        let how = Replaying {
            passes: 3,
            ..times(1.0)
        };
        let rows = play(&[100, 104], how);
        assert_eq!(
            rows,
            [
                (0.0, 100),
                (4.0, 104),
                (4.0, 104),
                (8.0, 108),
                (8.0, 108),
                (12.0, 112)
            ]
        );
    }

    #[test]
    fn a_file_without_rows_ends_at_once_however_often_it_is_to_be_played() {
        let how = Replaying {
            passes: u32::MAX,
            ..times(1.0)
        };
        assert_eq!(play(&[], how), []);
    }

    #[test]
    fn speed_is_a_positive_number_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("2.5".parse(), Ok(Speed::Times(2.5)));
        for bad in ["0", "-1", "fast", "inf", "NaN", ""] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_synthetic_run_ends_with_its_duration_and_is_stamped_when_due() {
        let mut source = Synthetic::new(Market::new(1, 5, 1_000.0), Some(SECOND));
        let before_ns = clock::wall_ns();
        let ticks: Vec<_> = std::iter::from_fn(|| source.next()).collect();
        assert!((300..3_000).contains(&ticks.len()), "{}", ticks.len());
        let started_ns = source.started_ns.unwrap();
        assert!((before_ns..=clock::wall_ns()).contains(&started_ns));
        for timed in ticks {
            assert!(timed.due <= SECOND);
            assert_eq!(
                timed.tick.ts_ns,
                Some(started_ns + timed.due.as_nanos() as u64)
            );
        }
    }
}
