//! The gate as a program, with cargo, rustc and valgrind replaced by scripts that tell it what to
//! find: whether it holds what is within bounds, and stops what is not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const RATIOS: &str = r#"
# The frame of one tick.
[frame]
bench = "frame"
ours = "frame/ours"
reference = "frame/theirs"
ratio = 0.2 # steady
"#;

const INSTRUCTIONS: &str = r#"
[driver]
package = "tickwire-benches"
program = "floor_run"
function = "*turn"

[compiler]
rustc = "rustc 1.95.0 (59807616e 2026-04-14)"
host = "x86_64-unknown-linux-gnu"

# Everybody gets everything.
[case.hot]
ticks = 100
per = "delivery"
instructions = 200.0
"#;

/// A workspace in which nothing but figures exists.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        fs::create_dir(bench.path("benches")).expect("it is new");
        bench.write("benches/ratios.toml", RATIOS);
        bench.write("benches/instructions.toml", INSTRUCTIONS);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it can be written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it is there")
    }

    /// Runs the gate; our benchmark takes these times, ns, one after the other.
    fn ratios(&self, times: &[u32], args: &[&str]) -> Output {
        let lines: Vec<String> = times.iter().map(|time| format!("{time}\n")).collect();
        self.write("times", &lines.concat());
        self.gate("ratios", args)
    }

    /// Runs the gate; a tick, which three get, takes this many instructions.
    fn instructions(&self, per_tick: u32, args: &[&str]) -> Output {
        self.write("per_tick", &per_tick.to_string());
        self.gate("instructions", args)
    }

    fn gate(&self, verb: &str, args: &[&str]) -> Output {
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gate/fake");
        let path = env::var("PATH").expect("there is one");
        Command::new(env!("CARGO_BIN_EXE_gate"))
            .arg(verb)
            .args(args)
            .current_dir(self.folder.path())
            .env("CARGO", fake.join("cargo"))
            .env("RUSTC", fake.join("rustc"))
            .env("PATH", format!("{}:{path}", fake.display()))
            .output()
            .expect("it starts")
    }

    /// How often benchmarks were run.
    fn runs(&self) -> usize {
        let calls = self.read("calls");
        let runs = calls.lines().filter(|call| call.contains(" -- "));
        runs.count()
    }
}

/// Exit status and what was said.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).expect("it is text");
    (output.status.code(), text)
}

#[track_caller]
fn assert_told(output: &Output, status: i32, what: &str) {
    let (code, text) = told(output);
    assert_eq!(code, Some(status), "{text}");
    assert!(text.contains(what), "{text}");
}

#[test]
fn a_ratio_within_bounds_is_measured_once() {
    let bench = Bench::new();
    assert_told(
        &bench.ratios(&[22], &[]),
        0,
        "0.2200 beside 0.2000 kept (+10.0 %)",
    );
    assert_eq!(bench.runs(), 1);
}

#[test]
fn a_ratio_that_is_off_twice_and_then_not_passes() {
    let bench = Bench::new();
    assert_told(&bench.ratios(&[24, 30, 21], &[]), 0, "(+20.0 %)  worse");
    assert_eq!(bench.runs(), 3);
}

#[test]
fn a_ratio_that_is_off_three_times_in_a_row_stops() {
    let bench = Bench::new();
    assert_told(
        &bench.ratios(&[24, 30, 25, 20], &[]),
        1,
        "gate: frame: 0.2500",
    );
    assert_eq!(bench.runs(), 3);
}

#[test]
fn a_better_ratio_passes_and_asks_to_be_kept() {
    let bench = Bench::new();
    assert_told(&bench.ratios(&[10], &[]), 0, "make gate-update");
}

#[test]
fn updating_keeps_the_median_ratio_and_the_comments() {
    let bench = Bench::new();
    let output = bench.ratios(&[90, 31, 30, 29, 1], &["--update"]);
    assert_told(&output, 0, "0.3000");
    assert_eq!(
        bench.read("benches/ratios.toml"),
        RATIOS.replace("ratio = 0.2 ", "ratio = 0.3 ")
    );
    assert_eq!(bench.runs(), 5);
}

#[test]
fn a_step_without_a_figure_or_of_no_name_cannot_be_judged() {
    let bench = Bench::new();
    assert_told(
        &bench.ratios(&[20], &["--step", "fram"]),
        2,
        "there are frame",
    );
    bench.write("benches/ratios.toml", &RATIOS.replace("ratio = 0.2", ""));
    assert_told(&bench.ratios(&[20], &[]), 2, "frame: no figure is kept");
    let renamed = RATIOS.replace("frame/ours", "frame/mine");
    bench.write("benches/ratios.toml", &renamed);
    assert_told(&bench.ratios(&[20], &[]), 2, "the time of frame/mine");
}

#[test]
fn instructions_within_bounds_pass() {
    let bench = Bench::new();
    assert_told(&bench.instructions(600, &[]), 0, "200.0 beside 200.0 kept");
    assert_told(&bench.instructions(628, &[]), 0, "(+4.7 %)");
}

#[test]
fn instructions_beyond_bounds_stop() {
    let bench = Bench::new();
    assert_told(&bench.instructions(632, &[]), 1, "gate: hot: 210.7");
}

#[test]
fn fewer_instructions_pass_and_ask_to_be_kept() {
    let bench = Bench::new();
    assert_told(&bench.instructions(560, &[]), 0, "make gate-update");
}

#[test]
fn another_compiler_is_told_and_gets_more_room() {
    let bench = Bench::new();
    let other = INSTRUCTIONS.replace("rustc 1.95.0", "rustc 1.94.0");
    bench.write("benches/instructions.toml", &other);
    assert_told(&bench.instructions(660, &[]), 0, "kept for rustc 1.94.0");
    assert_told(&bench.instructions(696, &[]), 1, "gate: hot: 232.0");
}

#[test]
fn updating_keeps_the_counts_and_the_compiler() {
    let bench = Bench::new();
    let other = INSTRUCTIONS.replace("rustc 1.95.0", "rustc 1.94.0");
    bench.write("benches/instructions.toml", &other);
    assert_told(&bench.instructions(300, &["--update"]), 0, "100.0");
    assert_eq!(
        bench.read("benches/instructions.toml"),
        INSTRUCTIONS.replace("instructions = 200.0", "instructions = 100.0")
    );
}

#[test]
fn a_program_that_fails_is_told_and_is_no_regression() {
    let bench = Bench::new();
    // Without the file that the fake reads.
    assert_told(&bench.gate("instructions", &[]), 2, "per_tick");
}
