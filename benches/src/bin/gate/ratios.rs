//! Hot steps beside the obvious alternative: criterion's times as ratios.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    error::GateError,
    judge::{Comparison, Figure, Finding, Findings, Verdict},
    kept,
    samples::{self, Fastest},
    workspace::Workspace,
};

/// By how much a ratio may be worse than the kept one.
const TOLERANCE: f64 = 0.15;
/// In how many runs in a row it has to be, before that counts: machines are noisy.
const RUNS: u32 = 3;

/// `benches/ratios.toml`.
pub struct Ratios {
    path: PathBuf,
    steps: BTreeMap<String, Step>,
}

/// One hot step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The file in `benches/benches/` that has both benchmarks.
    bench: String,
    /// The id of our benchmark.
    ours: String,
    /// The id of the alternative's.
    reference: String,
    /// Our time ÷ the alternative's, as it was when it was last kept.
    ratio: Option<f64>,
}

/// Some of the steps, by name.
pub type Steps<'a> = Vec<(&'a str, &'a Step)>;

impl Ratios {
    /// What the workspace in a folder keeps.
    pub fn of(root: &Path) -> Result<Self, GateError> {
        let path = root.join("benches/ratios.toml");
        let steps = kept::read(&path)?;
        Ok(Self { path, steps })
    }

    /// The named steps, or all.
    pub fn pick(&self, names: &[String]) -> Result<Steps<'_>, GateError> {
        kept::pick(&self.steps, names, "step")
    }

    /// Measures the named steps, or all, and tells which of them lost too much against what is kept.
    ///
    /// A step that is within bounds once has passed. Those that are not are measured again,
    /// [`RUNS`] times in all.
    pub fn check(&self, workspace: &Workspace, names: &[String]) -> Result<Findings, GateError> {
        let mut left = self.pick(names)?;
        build(workspace, &left)?;
        let mut findings = Findings::new();
        for run in 1..=RUNS {
            let fastest = measure(workspace, &left)?;
            let mut off = Vec::new();
            findings.clear();
            for (name, step) in left {
                let comparison = Comparison {
                    kept: step.kept(name)?,
                    measured: step.ratio_in(&fastest)?,
                };
                let remark = match comparison.judge(TOLERANCE) {
                    Verdict::Held => "",
                    Verdict::Better => "  better: `make gate-update` keeps it",
                    Verdict::Worse => {
                        let what = format!("{comparison}, the last of {RUNS} runs that were worse");
                        findings.push(Finding::new(name, what));
                        off.push((name, step));
                        "  worse"
                    }
                };
                println!("ratio {run}/{RUNS}  {name:<24} {comparison}{remark}");
            }
            left = off;
            if left.is_empty() {
                break;
            }
        }
        Ok(findings)
    }

    /// Keeps the median ratio of `runs` runs for the named steps, or for all.
    pub fn update(
        &self,
        workspace: &Workspace,
        names: &[String],
        runs: u32,
    ) -> Result<Findings, GateError> {
        let steps = self.pick(names)?;
        build(workspace, &steps)?;
        let mut measured: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for run in 1..=runs {
            println!("run {run} of {runs}");
            let fastest = measure(workspace, &steps)?;
            for &(name, step) in &steps {
                measured
                    .entry(name)
                    .or_default()
                    .push(step.ratio_in(&fastest)?);
            }
        }
        kept::rewrite(&self.path, |document| {
            for (name, ratios) in measured {
                let ratio = Figure(median(ratios)).rounded();
                println!("kept  {name:<24} {}", Figure(ratio));
                if let Some(table) = document[name].as_table_mut() {
                    kept::set(table, "ratio", ratio);
                }
            }
        })?;
        Ok(Findings::new())
    }
}

impl Step {
    fn kept(&self, name: &str) -> Result<f64, GateError> {
        self.ratio.ok_or_else(|| GateError::NothingKept {
            name: name.to_owned(),
        })
    }

    fn ratio_in(&self, fastest: &Fastest) -> Result<f64, GateError> {
        let time = |id: &String| {
            fastest.get(id).copied().ok_or_else(|| GateError::Silent {
                program: format!("bench {}", self.bench),
                what: format!("the time of {id}"),
            })
        };
        Ok(time(&self.ours)? / time(&self.reference)?)
    }
}

fn build(workspace: &Workspace, steps: &Steps<'_>) -> Result<(), GateError> {
    samples::build(workspace, &files(steps))
}

fn measure(workspace: &Workspace, steps: &Steps<'_>) -> Result<Fastest, GateError> {
    let ids = steps
        .iter()
        .flat_map(|(_, step)| [step.ours.as_str(), step.reference.as_str()])
        .collect();
    samples::measure(workspace, &files(steps), &ids)
}

fn files<'a>(steps: &Steps<'a>) -> BTreeSet<&'a str> {
    steps.iter().map(|(_, step)| step.bench.as_str()).collect()
}

/// The middle one; the lower of the two middle ones where there is an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_benchmark_that_is_gone_is_an_error() {
        let step = Step {
            bench: "frame".to_owned(),
            ours: "frame/ours".to_owned(),
            reference: "frame/theirs".to_owned(),
            ratio: None,
        };
        let fastest = Fastest::from([("frame/ours".to_owned(), 10.0)]);
        let error = step.ratio_in(&fastest).expect_err("half of it is missing");
        assert_eq!(
            error.to_string(),
            "bench frame did not report the time of frame/theirs"
        );
        assert!(matches!(
            step.kept("frame"),
            Err(GateError::NothingKept { .. })
        ));
    }
}
