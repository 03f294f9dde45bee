//! What was measured beside what is kept.

use std::fmt;

/// Something that the gate does not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The step, case or slow-down.
    pub subject: String,
    /// What is wrong with it.
    pub what: String,
}

impl Finding {
    /// A finding about a step, case or slow-down.
    pub fn new(subject: impl Into<String>, what: impl Into<String>) -> Self {
        let (subject, what) = (subject.into(), what.into());
        Self { subject, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)
    }
}

/// All that is not let through; empty where everything holds.
pub type Findings = Vec<Finding>;

/// A figure of which less is better, beside the one that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// What the repository keeps.
    pub kept: f64,
    /// What was measured.
    pub measured: f64,
}

/// What a comparison says at a tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Better by more than the tolerance: the kept figure no longer guards anything.
    Better,
    /// Within the tolerance.
    Held,
    /// Worse by more than the tolerance.
    Worse,
}

impl Comparison {
    /// How much worse it got: 0.05 is 5 %, negative is better.
    pub fn change(self) -> f64 {
        self.measured / self.kept - 1.0
    }

    /// Judges at a tolerance such as 0.05; what changed by exactly that much still holds.
    ///
    /// Whatever is no number counts as worse: a broken measurement must not pass.
    pub fn judge(self, tolerance: f64) -> Verdict {
        let change = self.change();
        if change < -tolerance {
            Verdict::Better
        } else if change <= tolerance {
            Verdict::Held
        } else {
            Verdict::Worse
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} beside {} kept ({:+.1} %)",
            Figure(self.measured),
            Figure(self.kept),
            self.change() * 100.0
        )
    }
}

/// A number with four digits that count, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Figure(pub f64);

impl Figure {
    /// The number that is shown, which is also the one that is kept.
    pub fn rounded(self) -> f64 {
        self.to_string().parse().unwrap_or(self.0)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs().log10().floor();
        let places = (3.0 - magnitude).clamp(0.0, 9.0) as usize;
        write!(f, "{:.places$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(measured: f64) -> Verdict {
        let kept = 200.0;
        Comparison { kept, measured }.judge(0.05)
    }

    #[test]
    fn what_lies_within_the_tolerance_holds() {
        assert_eq!(judged(200.0), Verdict::Held);
        assert_eq!(judged(209.9), Verdict::Held);
        assert_eq!(judged(190.1), Verdict::Held);
    }

    #[test]
    fn what_lies_beyond_the_tolerance_is_told_by_its_side() {
        assert_eq!(judged(210.1), Verdict::Worse);
        assert_eq!(judged(189.9), Verdict::Better);
    }

    #[test]
    fn no_number_never_passes() {
        assert_eq!(judged(f64::NAN), Verdict::Worse);
        assert_eq!(judged(f64::INFINITY), Verdict::Worse);
    }

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(Figure(0.062_345_6).to_string(), "0.06235");
        assert_eq!(Figure(1.234_56).to_string(), "1.235");
        assert_eq!(Figure(1234.56).to_string(), "1235");
        assert_eq!(Figure(123_456.7).to_string(), "123457");
        assert!((Figure(0.062_345_6).rounded() - 0.062_35).abs() < 1e-12);
    }
}
