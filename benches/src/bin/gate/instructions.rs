//! Instructions per delivered tick: a small run of the real floor code, under callgrind.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    callgrind::{self, Counted, Report},
    error::GateError,
    judge::{Comparison, Figure, Finding, Findings, Verdict},
    kept, profile,
    workspace::{Workspace, run},
};

/// By how much a count may be worse than the kept one.
const TOLERANCE: f64 = 0.05;
/// The same where another compiler made the code. Compilers differ by some percent; what is
/// left of the bound still stops what is worth stopping, and counts can be kept anew.
const TOLERANCE_OTHER_COMPILER: f64 = 0.15;

/// The case whose profile is told: what most floors do.
const PROFILED: &str = "watchlist-json";

/// Instructions by case.
type Counts<'a> = BTreeMap<&'a str, f64>;

/// `benches/instructions.toml`.
pub struct Instructions {
    path: PathBuf,
    kept: Kept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    driver: Driver,
    compiler: Compiler,
    case: BTreeMap<String, Case>,
}

/// The program that drives floor turns.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Driver {
    package: String,
    program: String,
    /// The function that is counted, with all that it calls; `*` stands for any text.
    function: String,
}

/// What made the code that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Compiler {
    /// The first line of `rustc -V`.
    rustc: String,
    /// The target triple.
    host: String,
}

/// One run to count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Ticks of the shorter of its two runs.
    ticks: u64,
    /// What its instructions are divided by.
    per: Per,
    /// Instructions per one of that, as they were when they were last kept.
    instructions: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Per {
    Delivery,
    /// For what delivers nothing, such as skipping.
    Tick,
}

impl Per {
    fn plural(self) -> &'static str {
        match self {
            Self::Delivery => "deliveries",
            Self::Tick => "ticks",
        }
    }

    fn of(self, report: Report) -> u64 {
        match self {
            Self::Delivery => report.deliveries,
            Self::Tick => report.ticks,
        }
    }
}

impl Instructions {
    /// What the workspace in a folder keeps.
    pub fn of(root: &Path) -> Result<Self, GateError> {
        let path = root.join("benches/instructions.toml");
        let kept = kept::read(&path)?;
        Ok(Self { path, kept })
    }

    /// The named cases, or all.
    pub fn pick(&self, names: &[String]) -> Result<Vec<(&str, &Case)>, GateError> {
        kept::pick(&self.kept.case, names, "case")
    }

    /// Counts the named cases, or all, and tells which of them take too many more than is kept.
    pub fn check(&self, workspace: &Workspace, names: &[String]) -> Result<Findings, GateError> {
        let cases = self.pick(names)?;
        let tolerance = self.kept.compiler.tolerance_for(&Compiler::here()?)?;
        let driver = self.kept.driver.build(workspace)?;
        let function = &self.kept.driver.function;
        let mut findings = Findings::new();
        for (name, case) in cases {
            let comparison = Comparison {
                kept: case.kept(name)?,
                measured: case.count(name, |ticks| {
                    callgrind::count(workspace, &driver, function, name, ticks)
                })?,
            };
            let remark = match comparison.judge(tolerance) {
                Verdict::Held => "",
                Verdict::Better => "  better: `make gate-update` keeps it",
                Verdict::Worse => {
                    findings.push(Finding::new(name, comparison.to_string()));
                    "  worse"
                }
            };
            println!("instructions  {name:<16} {comparison}{remark}");
        }
        Ok(findings)
    }

    /// Counts all cases.
    fn count_all(&self, workspace: &Workspace, driver: &Path) -> Result<Counts<'_>, GateError> {
        let function = &self.kept.driver.function;
        let mut counts = BTreeMap::new();
        for (name, case) in &self.kept.case {
            let count = case.count(name, |ticks| {
                callgrind::count(workspace, driver, function, name, ticks)
            })?;
            println!("{name:<16} {}", Figure(count));
            counts.insert(&**name, count);
        }
        Ok(counts)
    }

    /// Writes the counts of all cases and the profile of one into a folder, as JSON.
    pub fn write(&self, workspace: &Workspace, out: &Path) -> Result<Findings, GateError> {
        let driver = self.kept.driver.build(workspace)?;
        let counts = self.count_all(workspace, &driver)?;
        let function = &self.kept.driver.function;
        let ticks = self.kept.case.get(PROFILED).map_or(1, |case| case.ticks);
        let profiled = callgrind::count(workspace, &driver, function, PROFILED, ticks)?;
        write_json(&out.join("instructions.json"), &counts)?;
        write_json(
            &out.join("profile.json"),
            &profile::shares(&profiled.profile),
        )?;
        Ok(Findings::new())
    }

    /// Keeps the counts of all cases, and the compiler that they belong to.
    pub fn update(&self, workspace: &Workspace) -> Result<Findings, GateError> {
        let driver = self.kept.driver.build(workspace)?;
        let counts = self.count_all(workspace, &driver)?;
        let compiler = Compiler::here()?;
        kept::rewrite(&self.path, |document| {
            for (name, count) in counts {
                if let Some(table) = document["case"][name].as_table_mut() {
                    kept::set(table, "instructions", Figure(count).rounded());
                }
            }
            if let Some(table) = document["compiler"].as_table_mut() {
                kept::set(table, "rustc", compiler.rustc);
                kept::set(table, "host", compiler.host);
            }
        })?;
        Ok(Findings::new())
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), GateError> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    std::fs::write(path, text).map_err(|source| GateError::File {
        path: path.to_owned(),
        source,
    })
}

impl Driver {
    fn build(&self, workspace: &Workspace) -> Result<PathBuf, GateError> {
        workspace.build(&self.package, &self.program)
    }
}

impl Case {
    fn kept(&self, name: &str) -> Result<f64, GateError> {
        self.instructions.ok_or_else(|| GateError::NothingKept {
            name: name.to_owned(),
        })
    }

    /// Instructions per delivery or tick, between a run and one of twice its length: what both
    /// spend on their setting-up falls out.
    fn count(
        &self,
        name: &str,
        run: impl Fn(u64) -> Result<Counted, GateError>,
    ) -> Result<f64, GateError> {
        let (short, long) = (run(self.ticks)?, run(2 * self.ticks)?);
        let growth = |what, of: &dyn Fn(&Counted) -> u64| match (of(&short), of(&long)) {
            (short, long) if short < long => Ok((long - short) as f64),
            (short, long) => Err(GateError::NotGrowing {
                case: name.to_owned(),
                what,
                short,
                long,
            }),
        };
        let instructions = growth("instructions", &|run| run.instructions)?;
        let per = growth(self.per.plural(), &|run| self.per.of(run.report))?;
        Ok(instructions / per)
    }
}

impl Compiler {
    /// The one that cargo uses here.
    fn here() -> Result<Self, GateError> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = run(Command::new(rustc).arg("-vV"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            rustc: text.lines().next().unwrap_or_default().to_owned(),
            host: host.unwrap_or_default().to_owned(),
        })
    }

    /// How closely counts of `here` are held to the kept ones.
    fn tolerance_for(&self, here: &Self) -> Result<f64, GateError> {
        if self.host != here.host {
            return Err(GateError::OtherHost {
                kept: self.host.clone(),
                host: here.host.clone(),
            });
        }
        if self.rustc == here.rustc {
            return Ok(TOLERANCE);
        }
        println!(
            "instructions  kept for {}, and this is {}: up to {:+.0} % is taken; \
             `make gate-update` keeps this compiler's",
            self.rustc,
            here.rustc,
            TOLERANCE_OTHER_COMPILER * 100.0
        );
        Ok(TOLERANCE_OTHER_COMPILER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that spends `setup` once and `each` per tick, and delivers every tick to `fans`.
    fn run(ticks: u64, fans: u64, setup: u64, each: u64) -> Counted {
        let deliveries = ticks * fans;
        Counted {
            report: Report { ticks, deliveries },
            instructions: setup + ticks * each,
            profile: String::new(),
        }
    }

    fn case(per: Per) -> Case {
        Case {
            ticks: 100,
            per,
            instructions: None,
        }
    }

    #[test]
    fn setting_up_falls_out_of_a_count() {
        let count = |per, fans| {
            case(per)
                .count("any", |ticks| Ok(run(ticks, fans, 1_000_000, 500)))
                .expect("it grows")
        };
        assert!((count(Per::Delivery, 10) - 50.0).abs() < 1e-9);
        assert!((count(Per::Tick, 0) - 500.0).abs() < 1e-9);
    }

    #[test]
    fn a_case_that_does_nothing_is_no_measurement() {
        let what = |fans, each| {
            let error = case(Per::Delivery)
                .count("hot", |ticks| Ok(run(ticks, fans, 1_000, each)))
                .expect_err("nothing was done");
            error.to_string()
        };
        assert_eq!(
            what(0, 1),
            "hot: no more deliveries for twice the ticks, 0 and 0"
        );
        // As where the function that is counted has got another name.
        assert_eq!(
            what(1, 0),
            "hot: no more instructions for twice the ticks, 1000 and 1000"
        );
    }

    #[test]
    fn another_compiler_gets_more_room_and_another_host_none() {
        let compiler = |rustc: &str, host: &str| Compiler {
            rustc: rustc.to_owned(),
            host: host.to_owned(),
        };
        let kept = compiler("rustc 1", "x86_64");
        let of = |rustc, host| kept.tolerance_for(&compiler(rustc, host));
        assert_eq!(of("rustc 1", "x86_64").ok(), Some(TOLERANCE));
        assert_eq!(of("rustc 2", "x86_64").ok(), Some(TOLERANCE_OTHER_COMPILER));
        assert!(matches!(
            of("rustc 1", "aarch64"),
            Err(GateError::OtherHost { .. })
        ));
    }
}
