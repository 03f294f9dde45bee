//! The workspace whose code is judged, and how cargo is called in it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::error::GateError;

/// A checked-out workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where cargo builds.
    target: PathBuf,
    cargo: OsString,
    /// How cargo is to treat `Cargo.lock`.
    lock: &'static str,
}

/// What `cargo metadata` says, as far as it is of use here.
#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// A line that `cargo build` writes, as far as it is of use here.
#[derive(Deserialize)]
struct Built {
    executable: Option<PathBuf>,
}

impl Workspace {
    /// The workspace in a folder.
    pub fn at(root: &Path) -> Result<Self, GateError> {
        let mut workspace = Self {
            root: root.to_owned(),
            target: PathBuf::new(),
            // Set by `cargo run`, so that the same toolchain is used throughout.
            cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            lock: "--locked",
        };
        let mut metadata = workspace.cargo("metadata");
        metadata.args(["--format-version", "1", "--no-deps"]);
        let metadata: Metadata = json("cargo metadata", &run(&mut metadata)?.stdout)?;
        workspace.target = metadata.target_directory;
        Ok(workspace)
    }

    /// A changed copy of this workspace, in another folder, that builds into the same one.
    ///
    /// Its `Cargo.lock` follows its changed `Cargo.toml`. All that it needs has been fetched for the
    /// original.
    pub fn copy_at(&self, root: PathBuf) -> Self {
        Self {
            root,
            lock: "--offline",
            ..self.clone()
        }
    }

    /// A folder for what the gate itself leaves behind.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.target.join("gate").join(name)
    }

    /// A call of cargo in this workspace.
    pub fn cargo(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root).args([verb, self.lock]);
        if !self.target.as_os_str().is_empty() {
            command.env("CARGO_TARGET_DIR", &self.target);
        }
        command
    }

    /// Builds a program with all optimizations; where it lies.
    pub fn build(&self, package: &str, program: &str) -> Result<PathBuf, GateError> {
        let mut build = self.cargo("build");
        build
            .args(["--release", "--package", package, "--bin", program])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit());
        let output = run(&mut build)?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Built>(line).ok()?.executable)
            .find(|path| path.file_stem().is_some_and(|stem| stem == program))
            .ok_or_else(|| GateError::Silent {
                program: "cargo build".to_owned(),
                what: format!("where {program} lies"),
            })
    }
}

/// Runs a program to its end; what it writes is kept, unless the caller has sent it elsewhere.
///
/// # Errors
///
/// Where it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<Output, GateError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| GateError::Start { program, source })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(GateError::Failed {
        command: summary(command),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A program and its first argument: the rest says more than anybody wants to read.
fn summary(command: &Command) -> String {
    let words = [command.get_program()].into_iter();
    let words = words.chain(command.get_args().take(1));
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Reads the JSON that a program has written.
pub fn json<T: DeserializeOwned>(from: &str, bytes: &[u8]) -> Result<T, GateError> {
    serde_json::from_slice(bytes).map_err(|source| GateError::Json {
        from: from.to_owned(),
        source,
    })
}
