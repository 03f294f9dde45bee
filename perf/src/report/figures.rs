//! Medians and spreads over rounds, and how figures are written.

use std::{collections::BTreeMap, fmt};

/// A figure of each round.
pub type Rounds = BTreeMap<u32, f64>;

/// A figure over rounds. Written as its median, with smallest and largest where they differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean of the middle two of an even number.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Spread {
    /// Of all values that are numbers; none without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            median,
            min,
            max,
            rounds: sorted.len(),
        })
    }

    /// Of the ratios of rounds that have both figures: what disturbs the machine for a while then
    /// disturbs both sides of a ratio.
    pub fn paired(of: &Rounds, against: &Rounds) -> Option<Self> {
        Self::of(
            of.iter()
                .filter_map(|(round, figure)| Some(figure / against.get(round)?)),
        )
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bracketed(*self, number))
    }
}

/// The median, with smallest and largest in brackets where they look different.
pub fn bracketed(spread: Spread, digits: impl Fn(f64) -> String) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(digits);
    if min == max {
        median
    } else {
        format!("{median} ({min}–{max})")
    }
}

/// Three significant digits, and all digits of what is larger: `0.0123`, `1.23`, `123`, `123,456`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        return grouped(value);
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = if magnitude >= 9.995 {
        1
    } else if magnitude >= 0.9995 {
        2
    } else {
        // 0.5 has 3 decimals then, 0.05 has 4; below a millionth nothing is worth telling apart.
        (2 - magnitude.log10().floor() as i32).clamp(3, 8) as usize
    };
    format!("{value:.decimals$}")
}

/// A whole number, its digits in groups of three.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 {
        text.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier_and_what_is_no_number() {
        let spread = Spread::of([9.0, f64::NAN, 1.0, 2.0]).unwrap();
        assert_eq!(spread.to_string(), "2.00 (1.00–9.00)");
        assert_eq!(spread.rounds, 3);
        let even = Spread::of([1.0, 100.0, 2.0, 3.0]).unwrap();
        assert!((even.median - 2.5).abs() < f64::EPSILON);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([5.0]).unwrap().to_string(), "5.00");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let of = Rounds::from([(1, 2.0), (2, 30.0), (3, 4.0)]);
        let against = Rounds::from([(1, 1.0), (2, 10.0), (4, 1.0)]);
        let ratio = Spread::paired(&of, &against).unwrap();
        assert_eq!(ratio.to_string(), "2.50 (2.00–3.00)");
        assert_eq!(Spread::paired(&of, &Rounds::new()), None);
        assert_eq!(Spread::paired(&of, &Rounds::from([(1, 0.0)])), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let written = [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.9994, "0.999"),
            (0.9996, "1.00"),
            (5.999, "6.00"),
            (9.996, "10.0"),
            (99.96, "100"),
            (460.4, "460"),
            (999.6, "1,000"),
            (4_512_345.6, "4,512,346"),
            (-1_234.0, "−1,234"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in written {
            assert_eq!(number(value), text);
        }
    }
}
