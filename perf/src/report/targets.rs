//! What tickwire is to reach (`targets.toml`), and whether the runs show it.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{
    figures::{Spread, bracketed, number},
    markdown::{Table, plural},
    metric::{Metric, Which},
    results::{Place, Results},
};

/// Fewer rounds than this prove nothing.
const ROUNDS_MIN: usize = 5;

/// The list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    target: Vec<Target>,
}

/// One bound on one figure: either of runs or of counted instructions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    goal: u32,
    what: String,
    of: Option<Figure>,
    against: Option<Against>,
    instructions: Option<Counted>,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    server: String,
    scenario: String,
    metric: Metric,
    label: Option<String>,
    subscribers: Option<u64>,
    rate: Option<f64>,
}

/// A count of instructions, by its name, and what it is divided by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    of: String,
    against: Option<String>,
}

/// The other side of a ratio: a [`Figure`] but for what is named here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Against {
    server: Option<String>,
    scenario: Option<String>,
    metric: Option<Metric>,
    label: Option<String>,
    subscribers: Option<u64>,
    rate: Option<f64>,
}

/// What the runs say of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// It has no bound.
    Shown,
    NotMeasured,
}

/// How many targets came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Within their bound.
    pub met: usize,
    /// Not within it.
    pub missed: usize,
    /// Without a figure.
    pub not_measured: usize,
}

impl Targets {
    /// Those that this program was built with.
    pub fn built_in() -> Self {
        toml::from_str(include_str!("targets.toml")).expect("a test reads targets.toml too")
    }

    /// Whether one of them is about `server` in `scenario`.
    pub fn mention(&self, scenario: &str, server: &str) -> bool {
        self.target.iter().any(|target| {
            let of = target.of.as_ref();
            of.is_some_and(|of| {
                let against = target.against.as_ref();
                let against = against.and_then(|against| against.server.as_deref());
                of.scenario == scenario && (of.server == server || against == Some(server))
            })
        })
    }

    /// How they ended.
    pub fn tally(&self, results: &Results) -> Tally {
        let mut tally = Tally::default();
        for target in &self.target {
            match target.verdict(target.figure(results)) {
                Verdict::Met => tally.met += 1,
                Verdict::Missed => tally.missed += 1,
                Verdict::NotMeasured => tally.not_measured += 1,
                Verdict::Shown => {}
            }
        }
        tally
    }

    /// The section of the report.
    pub fn section(&self, results: &Results, text: &mut String) {
        let _ = write!(
            text,
            "## Targets\n\n\
             A ratio is the median of the rounds' ratios. *Missed* means just that; *not measured* \
             means that these runs have no such figure. Fewer than {ROUNDS_MIN} rounds, and runs \
             with faults, are remarked on: a figure from them is weak whatever the verdict.\n\n"
        );
        let mut table = Table::text(["goal", "target", "bound", "measured", "verdict", "remarks"]);
        for target in &self.target {
            let figure = target.figure(results);
            table.row([
                target.goal.to_string(),
                target.what.clone(),
                target.bound(),
                figure.map(exact).unwrap_or_default(),
                target.verdict(figure).to_string(),
                target.remarks(results, figure),
            ]);
        }
        let _ = writeln!(text, "{table}");
    }
}

impl Target {
    fn figure(&self, results: &Results) -> Option<Spread> {
        if let Some(counted) = &self.instructions {
            return Spread::of(counted.figure(results));
        }
        let of = self.of.as_ref()?;
        let (place, metric) = of.place();
        let own = results.by_round(place, metric);
        let Some(against) = &self.against else {
            return Spread::of(own.into_values());
        };
        let (other, metric) = of.but(against);
        Spread::paired(&own, &results.by_round(other, metric))
    }

    fn verdict(&self, figure: Option<Spread>) -> Verdict {
        let Some(Spread { median, .. }) = figure else {
            return Verdict::NotMeasured;
        };
        if self.at_most.is_none() && self.at_least.is_none() {
            return Verdict::Shown;
        }
        let low_enough = self.at_most.is_none_or(|bound| median <= bound);
        let high_enough = self.at_least.is_none_or(|bound| median >= bound);
        if low_enough && high_enough {
            Verdict::Met
        } else {
            Verdict::Missed
        }
    }

    fn bound(&self) -> String {
        let most = self.at_most.map(|bound| format!("≤ {}", number(bound)));
        let least = self.at_least.map(|bound| format!("≥ {}", number(bound)));
        [least, most]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn remarks(&self, results: &Results, figure: Option<Spread>) -> String {
        // Counts need no rounds: they come out the same.
        let Some(of) = &self.of else {
            return String::new();
        };
        let mut remarks = Vec::new();
        if let Some(figure) = figure.filter(|figure| figure.rounds < ROUNDS_MIN) {
            remarks.push(format!("{} only", plural(figure.rounds, "round")));
        }
        let other = self.against.as_ref().map(|against| of.but(against).0);
        for place in [Some(of.place().0), other].into_iter().flatten() {
            let runs = results.runs_of(place.scenario, place.server);
            let faulty: Vec<bool> = runs.map(|run| !run.faults.is_empty()).collect();
            let faults = faulty.iter().filter(|&&faulty| faulty).count();
            if faults > 0 {
                let all = faulty.len();
                remarks.push(format!(
                    "`{}`: {faults} of {all} runs with faults",
                    place.server
                ));
            }
        }
        remarks.join("; ")
    }
}

impl Counted {
    fn figure(&self, results: &Results) -> Option<f64> {
        let count = |name: &String| results.instructions.get(name).copied();
        match &self.against {
            None => count(&self.of),
            Some(against) => Some(count(&self.of)? / count(against)?),
        }
    }
}

impl Figure {
    fn place(&self) -> (Place<'_>, &Metric) {
        let which = Which {
            label: self.label.as_deref(),
            subscribers: self.subscribers,
            rate: self.rate,
        };
        let place = Place {
            scenario: &self.scenario,
            server: &self.server,
            which,
        };
        (place, &self.metric)
    }

    fn but<'a>(&'a self, against: &'a Against) -> (Place<'a>, &'a Metric) {
        let (own, metric) = self.place();
        let which = Which {
            label: against.label.as_deref().or(own.which.label),
            subscribers: against.subscribers.or(own.which.subscribers),
            rate: against.rate.or(own.which.rate),
        };
        let place = Place {
            scenario: against.scenario.as_deref().unwrap_or(own.scenario),
            server: against.server.as_deref().unwrap_or(own.server),
            which,
        };
        (place, against.metric.as_ref().unwrap_or(metric))
    }
}

/// With one digit more than bounds have, so that a miss by a hair does not look like a hit.
fn exact(figure: Spread) -> String {
    let digits = |value: f64| {
        if value != 0.0 && value.abs() < 100.0 {
            format!("{value:.3}")
        } else {
            number(value)
        }
    };
    bracketed(figure, digits)
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Shown => "shown",
            Self::NotMeasured => "not measured",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_of_something_and_has_one_bound_at_most() {
        for target in Targets::built_in().target {
            assert_ne!(
                target.of.is_some(),
                target.instructions.is_some(),
                "{target:?}"
            );
            assert!(
                target.of.is_some() || target.against.is_none(),
                "{target:?}"
            );
            assert!(
                target.at_most.is_none() || target.at_least.is_none(),
                "{target:?}"
            );
        }
    }

    #[test]
    fn counts_of_instructions_have_bounds_too() {
        let targets = r#"
            [[target]]
            goal = 9
            what = "skip"
            instructions = { of = "skip" }
            at_most = 20
            [[target]]
            goal = 8
            what = "flush"
            instructions = { of = "adaptive", against = "plain" }
            at_most = 1.02
            [[target]]
            goal = 8
            what = "unknown"
            instructions = { of = "unknown" }
            at_most = 1
        "#;
        let targets: Targets = toml::from_str(targets).unwrap();
        let counts = [("skip", 14.5), ("adaptive", 103.0), ("plain", 100.0)];
        let results = Results {
            instructions: counts.map(|(name, count)| (name.to_owned(), count)).into(),
            ..Results::default()
        };
        let expected = Tally {
            met: 1,
            missed: 1,
            not_measured: 1,
        };
        assert_eq!(targets.tally(&results), expected);
        let mut text = String::new();
        targets.section(&results, &mut text);
        assert!(text.contains("| ≤ 1.02 | 1.030 | **missed** |"), "{text}");
    }
}
