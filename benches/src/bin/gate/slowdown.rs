//! Code made slow on purpose, in a copy of the workspace.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    error::GateError,
    kept,
    workspace::{Workspace, run},
};

/// A file of `benches/slowdowns/`: lines to insert, and who notices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDown {
    /// The file to change, from the workspace's folder.
    file: PathBuf,
    /// The text behind which the lines come. It stands in the file exactly once.
    after: String,
    /// The lines.
    insert: String,
    /// What has to get worse by it.
    pub stopped_by: Guards,
    /// What must not: without this, a gate that always fails would pass.
    #[serde(default)]
    pub let_through_by: Guards,
}

/// Steps and cases.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Steps of `ratios.toml`.
    pub ratios: Vec<String>,
    /// Cases of `instructions.toml`.
    pub instructions: Vec<String>,
}

impl Guards {
    /// All of their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let both = self.ratios.iter().chain(&self.instructions);
        both.map(String::as_str)
    }
}

impl SlowDown {
    /// The slow-downs that the workspace in a folder keeps, by name.
    pub fn all(root: &Path) -> Result<BTreeMap<String, Self>, GateError> {
        let folder = root.join("benches/slowdowns");
        let at = |source| GateError::File {
            path: folder.clone(),
            source,
        };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                all.insert(name.to_owned(), kept::read(&path)?);
            }
        }
        Ok(all)
    }

    /// Copies the workspace as it lies on the disk, and slows the copy down.
    pub fn copy(&self, workspace: &Workspace, name: &str) -> Result<Workspace, GateError> {
        let root = workspace.scratch(&format!("slowed-{name}"));
        match fs::remove_dir_all(&root) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(GateError::File { path: root, source });
            }
            _ => {}
        }
        copy_tree(&workspace.root, &root)?;
        let (path, text) = self.applied(&root)?;
        fs::write(&path, text).map_err(|source| GateError::File { path, source })?;
        rename(&root, name)?;
        Ok(workspace.copy_at(root))
    }

    /// The file that changes, and its text with the lines in it.
    ///
    /// # Errors
    ///
    /// [`GateError::Mark`] where their place is gone or in doubt: a slow-down that no longer
    /// applies must not look like one that is stopped.
    pub fn applied(&self, root: &Path) -> Result<(PathBuf, String), GateError> {
        let path = root.join(&self.file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(GateError::File { path, source }),
        };
        let found = text.matches(&self.after).count();
        if found != 1 {
            return Err(GateError::Mark {
                path,
                after: self.after.clone(),
                found,
            });
        }
        let behind = format!("{}\n{}", self.after, self.insert);
        let text = text.replacen(&self.after, &behind, 1);
        Ok((path, text))
    }
}

/// Copies every file that git knows or would add.
fn copy_tree(from: &Path, to: &Path) -> Result<(), GateError> {
    let mut list = Command::new("git");
    list.current_dir(from).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let names = run(&mut list)?.stdout;
    for name in String::from_utf8_lossy(&names).split_terminator('\0') {
        let (source, copy) = (from.join(name), to.join(name));
        // What was deleted and not committed yet is on the list and not on the disk.
        if !source.is_file() {
            continue;
        }
        let parent = copy.parent().unwrap_or(to);
        fs::create_dir_all(parent)
            .and_then(|()| fs::copy(&source, &copy))
            .map_err(|error| GateError::File {
                path: source,
                source: error,
            })?;
    }
    Ok(())
}

/// Gives the copy's packages a version of their own.
///
/// It builds into the original's folder, where all crates from elsewhere are built already; by
/// their version cargo never takes its packages for the original's, nor the other way around.
fn rename(root: &Path, name: &str) -> Result<(), GateError> {
    kept::rewrite(&root.join("Cargo.toml"), |document| {
        let package = document["workspace"]["package"].as_table_mut();
        if let Some(package) = package {
            kept::set(package, "version", format!("0.0.0-slowed.{name}"));
        }
    })
}

#[cfg(test)]
impl SlowDown {
    /// A slow-down of nothing.
    pub fn guarded_by(stopped_by: Guards, let_through_by: Guards) -> Self {
        Self {
            file: "a.rs".into(),
            after: String::new(),
            insert: "    dawdle();".to_owned(),
            stopped_by,
            let_through_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_down(after: &str) -> SlowDown {
        SlowDown {
            after: after.to_owned(),
            ..SlowDown::guarded_by(Guards::default(), Guards::default())
        }
    }

    #[test]
    fn lines_are_inserted_behind_the_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.rs");
        fs::write(&file, "fn a() {\n}\n\nfn b() {\n}\n").expect("it is written");
        let (path, text) = slow_down("fn b() {")
            .applied(folder.path())
            .expect("the mark is there");
        assert_eq!(path, file);
        assert_eq!(text, "fn a() {\n}\n\nfn b() {\n    dawdle();\n}\n");
    }

    #[test]
    fn a_mark_that_is_gone_or_in_doubt_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.rs");
        fs::write(file, "fn a() {\n}\nfn ab() {\n}\n").expect("it is written");
        for (after, times) in [("fn c", 0), ("fn a", 2)] {
            let error = slow_down(after)
                .applied(folder.path())
                .expect_err("there is no single mark");
            assert!(matches!(error, GateError::Mark { found, .. } if found == times));
        }
    }
}
