//! How fast single benchmarks are, by criterion's samples.
//!
//! What counts is the fastest of many short samples. Whatever else a machine does only adds to a
//! time, and with other work on the same two cores it adds to most samples: there the ratio of two
//! medians was seen off by a factor of ten, and that of two fastest samples by a few percent.

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

/// Many samples, and so short ones, of which some find the machine quiet.
const SETTINGS: [&str; 9] = [
    "--noplot",
    "--warm-up-time",
    "0.1",
    "--measurement-time",
    "0.4",
    "--sample-size",
    "100",
    "--nresamples",
    "1000",
];

/// The fastest sample by benchmark id (`group/function/parameter`), ns an iteration.
pub type Fastest = BTreeMap<String, f64>;

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
) -> Result<Fastest, GateError> {
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
    let mut fastest = Fastest::new();
    collect(&results, &mut fastest)?;
    Ok(fastest)
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

/// `new/sample.json`, as far as it is of use here.
#[derive(Deserialize)]
struct Samples {
    /// Iterations of each sample.
    iters: Vec<f64>,
    /// How long they took, ns.
    times: Vec<f64>,
}

impl Samples {
    fn fastest(&self) -> Option<f64> {
        let samples = self.times.iter().zip(&self.iters);
        samples
            .map(|(time, iterations)| time / iterations)
            .min_by(f64::total_cmp)
    }
}

/// Reads every result below a folder.
///
/// The id comes from criterion's own note of it: names of folders are ids that were made safe for
/// a file system.
fn collect(folder: &Path, fastest: &mut Fastest) -> Result<(), GateError> {
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
            let samples: Samples = read(&path.join("sample.json"))?;
            fastest.extend(samples.fastest().map(|time| (full_id, time)));
        } else {
            collect(&path, fastest)?;
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
    fn the_fastest_sample_is_told_per_iteration() {
        let samples = Samples {
            iters: vec![10.0, 20.0, 30.0],
            times: vec![50.0, 60.0, 300.0],
        };
        assert_eq!(samples.fastest(), Some(3.0));
    }

    #[test]
    fn the_filter_names_each_benchmark_in_full() {
        let ids = BTreeSet::from(["frame/ours/64", "jwt/a.b"]);
        assert_eq!(exactly(&ids), r"^(frame/ours/64|jwt/a\.b)$");
    }
}
