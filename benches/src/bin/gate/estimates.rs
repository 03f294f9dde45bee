//! Criterion's medians of single benchmarks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::Stdio,
};

use serde::Deserialize;

use crate::{
    error::GateError,
    workspace::{Workspace, json, run},
};

/// The package whose benchmarks these are.
const PACKAGE: &str = "tickwire-benches";

/// Short, since a ratio that is off is measured again; long enough that it seldom is.
const SETTINGS: [&str; 9] = [
    "--noplot",
    "--warm-up-time",
    "0.15",
    "--measurement-time",
    "0.5",
    "--sample-size",
    "20",
    "--nresamples",
    "1000",
];

/// Medians by benchmark id (`group/function/parameter`), ns an iteration.
pub type Medians = BTreeMap<String, f64>;

/// Builds the given bench files, so that nothing is compiled while something is measured.
pub fn build(workspace: &Workspace, files: &BTreeSet<&str>) -> Result<(), GateError> {
    let mut bench = bench(workspace, files);
    run(bench.arg("--no-run").stderr(Stdio::inherit()))?;
    Ok(())
}

/// Runs the given benchmarks of the given bench files.
pub fn measure(
    workspace: &Workspace,
    files: &BTreeSet<&str>,
    ids: &BTreeSet<&str>,
) -> Result<Medians, GateError> {
    // A folder of our own: what a developer's `cargo bench` compares with stays as it is. And an
    // empty one: a benchmark that is gone must not be answered for by its last run.
    let results = workspace.scratch("criterion");
    match fs::remove_dir_all(&results) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(GateError::File {
                path: results,
                source,
            });
        }
        _ => {}
    }
    let mut bench = bench(workspace, files);
    bench
        .env("CRITERION_HOME", &results)
        .arg("--")
        .args(SETTINGS)
        .arg(exactly(ids));
    run(&mut bench)?;
    let mut medians = Medians::new();
    collect(&results, &mut medians)?;
    Ok(medians)
}

fn bench(workspace: &Workspace, files: &BTreeSet<&str>) -> std::process::Command {
    let mut bench = workspace.cargo("bench");
    bench.args(["--package", PACKAGE]);
    for file in files {
        bench.args(["--bench", file]);
    }
    bench
}

/// The regular expression that matches these ids and no others.
fn exactly(ids: &BTreeSet<&str>) -> String {
    let escaped: Vec<String> = ids.iter().map(|id| escape(id)).collect();
    format!("^({})$", escaped.join("|"))
}

fn escape(id: &str) -> String {
    let mut escaped = String::with_capacity(id.len());
    for character in id.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '_' | '/' | '-') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// `new/benchmark.json`, as far as it is of use here.
#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

/// `new/estimates.json`, as far as it is of use here.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Reads every result below a folder.
///
/// The id comes from criterion's own note of it: names of folders are ids that were made safe for
/// a file system.
fn collect(folder: &Path, medians: &mut Medians) -> Result<(), GateError> {
    let at = |source| GateError::File {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            let Benchmark { full_id } = read(&path.join("benchmark.json"))?;
            let Estimates { median } = read(&path.join("estimates.json"))?;
            medians.insert(full_id, median.point_estimate);
        } else {
            collect(&path, medians)?;
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, GateError> {
    let bytes = fs::read(path).map_err(|source| GateError::File {
        path: path.to_owned(),
        source,
    })?;
    json(&path.display().to_string(), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_names_each_benchmark_in_full() {
        let ids = BTreeSet::from(["frame/ours/64", "jwt/a.b"]);
        assert_eq!(exactly(&ids), r"^(frame/ours/64|jwt/a\.b)$");
    }
}
