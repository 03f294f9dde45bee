//! Whether the gate stops what it is there to stop.

use crate::{
    error::GateError,
    instructions::Instructions,
    judge::{Finding, Findings},
    kept,
    ratios::Ratios,
    slowdown::{Guards, SlowDown},
    workspace::Workspace,
};

/// Slows a copy of the code down, in each of the named ways or in all, and runs the gate there.
///
/// A finding is a step or case that did not notice, or one that has nothing to do with it and
/// failed.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<Findings, GateError> {
    let all = SlowDown::all(&workspace.root)?;
    let mut findings = Findings::new();
    for (name, slow_down) in kept::pick(&all, names, "slow-down")? {
        println!("slow-down {name}");
        let slowed = slow_down.copy(workspace, name)?;
        findings.extend(judge(name, slow_down, |guards| worse(&slowed, guards))?);
    }
    Ok(findings)
}

/// Judges one slow-down by what `worse` finds among the guards that it names.
fn judge(
    name: &str,
    slow_down: &SlowDown,
    worse: impl Fn(&Guards) -> Result<Vec<String>, GateError>,
) -> Result<Findings, GateError> {
    let stopped = worse(&slow_down.stopped_by)?;
    let guards = slow_down.stopped_by.names();
    let asleep = guards
        .filter(|guard| !stopped.iter().any(|stopped| stopped == guard))
        .map(|guard| Finding::new(name, format!("{guard} did not notice")));
    let mut findings: Findings = asleep.collect();
    for guard in worse(&slow_down.let_through_by)? {
        findings.push(Finding::new(
            name,
            format!("{guard} has nothing to do with it, and failed"),
        ));
    }
    Ok(findings)
}

/// Those of the guards that find something in a workspace.
fn worse(workspace: &Workspace, guards: &Guards) -> Result<Vec<String>, GateError> {
    let mut findings = Findings::new();
    // No names would mean all of them.
    if !guards.instructions.is_empty() {
        findings.extend(Instructions::of(&workspace.root)?.check(workspace, &guards.instructions)?);
    }
    if !guards.ratios.is_empty() {
        findings.extend(Ratios::of(&workspace.root)?.check(workspace, &guards.ratios)?);
    }
    Ok(findings
        .into_iter()
        .map(|finding| finding.subject)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_slow_down_applies_to_this_code_and_names_guards_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let all = SlowDown::all(&root).expect("they can be read");
        assert!(!all.is_empty());
        let ratios = Ratios::of(&root).expect("it can be read");
        let instructions = Instructions::of(&root).expect("it can be read");
        for slow_down in all.values() {
            slow_down.applied(&root).expect("it applies");
            for guards in [&slow_down.stopped_by, &slow_down.let_through_by] {
                ratios.pick(&guards.ratios).expect("there are such steps");
                instructions
                    .pick(&guards.instructions)
                    .expect("there are such cases");
            }
        }
    }

    fn findings_where_worse(worse: &[&str]) -> Vec<String> {
        let guards = |names: &[&str]| Guards {
            ratios: Vec::new(),
            instructions: names.iter().map(ToString::to_string).collect(),
        };
        let slow_down = SlowDown::guarded_by(guards(&["hot", "watchlist"]), guards(&["skip"]));
        let found = |guards: &Guards| {
            let names = guards.names().filter(|name| worse.contains(name));
            Ok(names.map(ToOwned::to_owned).collect())
        };
        let findings = judge("encoder", &slow_down, found).expect("all is judged");
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slow_down_that_every_guard_stops_is_as_it_should_be() {
        assert!(findings_where_worse(&["hot", "watchlist"]).is_empty());
    }

    #[test]
    fn a_guard_that_sleeps_is_found() {
        assert_eq!(
            findings_where_worse(&["hot"]),
            ["encoder: watchlist did not notice"]
        );
    }

    #[test]
    fn a_guard_that_stops_everything_is_found() {
        assert_eq!(
            findings_where_worse(&["hot", "watchlist", "skip"]),
            ["encoder: skip has nothing to do with it, and failed"]
        );
    }
}
