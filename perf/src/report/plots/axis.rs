//! Axes: where a value lies, and what is written beside them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::super::figures::number;

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: String,
    /// The value at its beginning.
    pub from: f64,
    /// The value at its end.
    pub to: f64,
    /// Grid lines, and what is written there.
    pub ticks: Vec<(f64, String)>,
    scale: Scale,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    Linear,
    Log,
    /// Each nine as wide as the one before.
    Nines,
}

/// More decades than this have a grid line each, fewer have several.
const FINE_DECADES_MAX: f64 = 3.0;
const FINE: &[f64] = &[1.0, 2.0, 5.0];
const DECADES: &[f64] = &[1.0];

impl Axis {
    /// A logarithmic axis over all of `values` above 0; none without any.
    pub fn log(title: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
        let drawn = |value: &f64| value.is_finite() && *value > 0.0;
        for value in values.into_iter().filter(drawn) {
            (min, max) = (min.min(value), max.max(value));
        }
        if max == 0.0 {
            return None;
        }
        let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
        let marks = |steps: &'static [f64]| {
            let decades = (first..=last).map(|exponent| 10_f64.powi(exponent));
            decades.flat_map(move |decade| steps.iter().map(move |step| step * decade))
        };
        // The last mark below all values, and the first one above.
        let below = marks(FINE).take_while(|mark| *mark <= min);
        let low = below.last().unwrap_or(min);
        let high = marks(FINE).find(|mark| *mark >= max).unwrap_or(max);
        let high = if high > low { high } else { low * 2.0 };
        let fine = (max / min).log10() <= FINE_DECADES_MAX;
        let lines = marks(if fine { FINE } else { DECADES });
        let shown = lines.filter(|mark| (low..=high).contains(mark));
        Some(Self {
            title: title.to_owned(),
            from: low,
            to: high,
            ticks: shown.map(|mark| (mark, short(mark))).collect(),
            scale: Scale::Log,
        })
    }

    /// A linear axis from 0 to `max`.
    pub fn linear(title: &str, max: f64) -> Self {
        let step = round_up(max.max(f64::MIN_POSITIVE) / 5.0);
        let marks = (0..=6)
            .map(|index| f64::from(index) * step)
            .filter(|mark| *mark <= max);
        Self {
            title: title.to_owned(),
            from: 0.0,
            to: max,
            ticks: marks.map(|mark| (mark, short(mark))).collect(),
            scale: Scale::Linear,
        }
    }

    /// An axis with a name per row, the first one on top: row `index` lies around the value
    /// `names.len() - index - 0.5`.
    pub fn rows(names: &[String]) -> Self {
        let rows = names.len() as f64;
        let tick = |(index, name): (usize, &String)| (rows - index as f64 - 0.5, name.clone());
        Self {
            title: String::new(),
            from: 0.0,
            to: rows,
            ticks: names.iter().enumerate().map(tick).collect(),
            scale: Scale::Linear,
        }
    }

    /// Percentiles from 50 to 99.999, each nine as wide as the one before: latencies differ in the
    /// tail, for which a linear axis has no room.
    pub fn percentiles() -> Self {
        let marks = ["50", "90", "99", "99.9", "99.99", "99.999"];
        let value = |mark: &str| mark.parse().expect("a number");
        Self {
            title: "percentile".to_owned(),
            from: value(marks[0]),
            to: value(marks[5]),
            ticks: marks
                .iter()
                .map(|mark| (value(mark), (*mark).to_owned()))
                .collect(),
            scale: Scale::Nines,
        }
    }
}

/// The place of a percentile: how many nines it has.
pub fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// The percentile that has so many nines.
pub fn of_nines(nines: f64) -> f64 {
    100.0 * (1.0 - 10_f64.powf(-nines))
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => nines(value),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (from, to) = (self.scale.place(self.from), self.scale.place(self.to));
        let share = (self.scale.place(*value) - from) / (to - from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light lines, which plotters asks for separately, would say nothing here.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.iter().map(|(value, _)| *value).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        // Asked for the values that `key_points` gave, and for no others.
        let tick = self
            .ticks
            .iter()
            .find(|(tick, _)| tick.total_cmp(value).is_eq());
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|step| step * decade);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(10.0 * decade)
}

/// `0.05`, `20`, `5 k`, `2 M`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let text = number(value);
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn a_log_axis_begins_and_ends_at_grid_lines() {
        let axis = Axis::log("ms", [0.06, 0.0, 3.0]).unwrap();
        assert_eq!(labels(&axis), ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"]);
        let wide = Axis::log("ms", [0.5, 40_000.0]).unwrap();
        assert_eq!(labels(&wide), ["1", "10", "100", "1,000", "10 k"]);
        let one = Axis::log("ms", [100.0]).unwrap();
        assert!(one.to > one.from);
        assert!(Axis::log("ms", [0.0]).is_none());
    }

    #[test]
    fn a_linear_axis_has_round_steps() {
        assert_eq!(labels(&Axis::linear("µs", 17.3)), ["0", "5", "10", "15"]);
        assert_eq!(
            labels(&Axis::linear("µs", 1.0)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
    }

    #[test]
    fn values_are_placed_by_their_scale() {
        let axis = Axis::percentiles();
        assert_eq!(axis.map(&50.0, (0, 470)), 0);
        assert_eq!(axis.map(&99.999, (0, 470)), 470);
        assert_eq!(axis.map(&99.9, (0, 470)) - axis.map(&99.0, (0, 470)), 100);
        assert!((of_nines(nines(99.9)) - 99.9).abs() < 1e-9);
        let log = Axis::log("ms", [1.0, 100.0]).unwrap();
        assert_eq!(log.map(&10.0, (400, 0)), 200, "upwards");
    }
}
