//! Servers to compare with, as their folders in `peers/` describe them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

const MANIFEST: &str = "peer.toml";

/// `peers/<name>/peer.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For tables.
    pub title: String,
    /// How it is talked to.
    pub dialect: String,
    /// Whether it refuses whoever has no valid token.
    #[serde(default)]
    pub verifies_jwt: bool,
    /// Script that brings what it needs; may be called again.
    pub install: Option<String>,
    /// Script that becomes the server.
    pub start: String,
    /// Script that prints program and version, one a line.
    pub version: Option<String>,
    /// How it is started; each is a server of its own in the results.
    #[serde(rename = "variant")]
    pub variants: Vec<Variant>,
}

/// One way to start it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The server's name in results.
    pub name: String,
    /// Added to the start script's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Instead of the manifest's.
    pub title: Option<String>,
    /// Instead of the manifest's.
    pub dialect: Option<String>,
}

/// A folder with its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The folder.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

/// Reads all peers in `folder`, by name.
pub fn discover(folder: &Path) -> io::Result<Vec<Peer>> {
    let entries = fs::read_dir(folder).map_err(|error| named(folder, &error))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join(MANIFEST).is_file())
        .collect();
    folders.sort();
    folders.iter().map(|folder| Peer::read(folder)).collect()
}

impl Peer {
    fn read(folder: &Path) -> io::Result<Self> {
        // The scripts run inside it, so a relative path would not lead there.
        let folder = folder.canonicalize()?;
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| named(&path, &error))?;
        let manifest = toml::from_str(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        Ok(Self { folder, manifest })
    }

    /// Runs its install script; fails with the end of what it says.
    pub fn install(&self) -> io::Result<()> {
        match &self.manifest.install {
            Some(script) => self.output(script).map(drop),
            None => Ok(()),
        }
    }

    /// Programs and versions.
    pub fn versions(&self) -> Vec<String> {
        let Some(script) = &self.manifest.version else {
            return Vec::new();
        };
        match self.output(script) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) => vec![format!("{}: {error}", self.manifest.title)],
        }
    }

    /// The script that starts it.
    pub fn start(&self) -> PathBuf {
        self.folder.join(&self.manifest.start)
    }

    fn output(&self, script: &str) -> io::Result<String> {
        let path = self.folder.join(script);
        let output = Command::new(&path)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| named(&path, &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = said.lines().rev().take(5).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        let end = end.join("\n");
        Err(io::Error::other(format!(
            "{}: {}\n{end}",
            path.display(),
            output.status
        )))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SOUND: &str = r#"
        title = "npm ws"
        dialect = "tickwire"
        install = "install"
        start = "start"
        version = "version"
        [[variant]]
        name = "npm-ws"
        [[variant]]
        name = "npm-ws-send"
        args = ["--delivery", "send"]
        title = "npm ws, send()"
        dialect = "socketio"
    "#;

    fn script(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn folders_with_a_manifest_are_peers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "no-peer"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["a", "b"] {
            fs::write(folder.path().join(name).join(MANIFEST), SOUND).unwrap();
        }
        let peers = discover(folder.path()).unwrap();
        assert_eq!(peers.len(), 2);
        assert!(peers[0].folder.ends_with("a"));
        let variants = &peers[0].manifest.variants;
        assert_eq!(variants[1].args, ["--delivery", "send"]);
        assert_eq!((&variants[0].title, &variants[0].dialect), (&None, &None));
        assert_eq!(variants[1].dialect.as_deref(), Some("socketio"));
    }

    #[test]
    fn a_mistake_in_a_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(MANIFEST),
            SOUND.replace("title", "tilte"),
        )
        .unwrap();
        let error = Peer::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("tilte") && error.contains(MANIFEST),
            "{error}"
        );
    }

    #[test]
    fn scripts_say_versions_and_why_they_fail() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), SOUND).unwrap();
        script(
            folder.path(),
            "version",
            "#!/bin/sh\necho ws 8; echo node $(basename $PWD | wc -l)\n",
        );
        script(
            folder.path(),
            "install",
            "#!/bin/sh\necho no compiler >&2\nexit 3\n",
        );
        let peer = Peer::read(folder.path()).unwrap();
        assert_eq!(peer.versions(), ["ws 8", "node 1"]);
        let error = peer.install().unwrap_err().to_string();
        assert!(
            error.contains("no compiler") && error.contains('3'),
            "{error}"
        );
    }
}
