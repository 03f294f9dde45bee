//! The live page beside the demo: `tickwire-edge` as a process of its own, as it always is.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tickwire_engine::Engine;

use super::{Claims, TOKEN_TTL_S, sign_hs256, token};

/// How often the page's token is made anew.
const RENEW_EVERY: Duration = Duration::from_secs(TOKEN_TTL_S / 4);
/// How long the edge may take to end.
const END_WITHIN: Duration = Duration::from_secs(3);

/// A running edge; dropping it ends it.
pub struct Page {
    edge: Child,
    files: TempDir,
    secret: String,
    renewed: Instant,
}

impl Page {
    /// Starts the edge that lies beside this program; `None` where there is none.
    pub fn open(
        listen: SocketAddr,
        admin: SocketAddr,
        engine: &Engine,
        secret: &str,
    ) -> anyhow::Result<Option<Self>> {
        let program = std::env::current_exe()?.with_file_name("tickwire-edge");
        if !program.exists() {
            return Ok(None);
        }
        let files = tempfile::tempdir().context("no folder for the edge's files")?;
        let file = |name: &str| files.path().join(name).display().to_string();
        let url = format!("ws://{}/v1/ws", engine.listen_addr());
        let own = Self::write_files(files.path(), secret);
        own.context("cannot write the edge's files")?;
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TICKWIRE_EDGE_") {
                command.env_remove(name);
            }
        }
        let edge = command
            .args(["--listen", &listen.to_string()])
            .args(["--admin", &admin.to_string()])
            .args(["--upstream", &url])
            .args(["--upstream-token-file", &file("upstream")])
            .args(["--jwt-hs256-file", &file("secret")])
            .arg(format!("--set=page_engine={url}"))
            .arg(format!("--set=page_token_file={}", file("page")))
            .arg("--set=log_level=warn")
            // It ends with this process, however that ends.
            .arg("--while-stdin")
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Some(Self {
            edge,
            files,
            secret: secret.to_owned(),
            renewed: Instant::now(),
        }))
    }

    fn write_files(folder: &Path, secret: &str) -> io::Result<()> {
        write(&folder.join("secret"), secret)?;
        Self::write_tokens(folder, secret)
    }

    fn write_tokens(folder: &Path, secret: &str) -> io::Result<()> {
        let upstream = Claims {
            sub: "edge".to_owned(),
            exp: token::now_s() + TOKEN_TTL_S,
            // One connection for all that its clients follow.
            max_symbols: Some(100_000),
            ops_per_s: Some(1_000),
            ..Claims::default()
        };
        let upstream = sign_hs256(secret.as_bytes(), &upstream);
        write(&folder.join("upstream"), &upstream)?;
        write(&folder.join("page"), &super::token_for_all(secret))
    }

    /// Renews the tokens when it is time.
    ///
    /// # Errors
    ///
    /// Where the edge has ended, as when its address is taken.
    pub fn look_after(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.edge.try_wait()? {
            bail!("the edge has ended ({status}); --no-page runs the engine alone");
        }
        if self.renewed.elapsed() >= RENEW_EVERY {
            self.renewed = Instant::now();
            Self::write_tokens(self.files.path(), &self.secret)?;
        }
        Ok(())
    }
}

/// Writes a file that only this user can read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // Renamed into place, so that nobody reads half of it.
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(&mut options.open(&fresh)?, text.as_bytes())?;
    fs::rename(&fresh, path)
}

impl Drop for Page {
    fn drop(&mut self) {
        // Of one that has ended the id may be another's by now.
        let runs = matches!(self.edge.try_wait(), Ok(None));
        let pid = Pid::from_raw(self.edge.id() as i32).filter(|_| runs);
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        let deadline = Instant::now() + END_WITHIN;
        while asked && Instant::now() < deadline {
            if matches!(self.edge.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It is gone already, or does not listen: both are fine to end so.
        let _ = self.edge.kill();
        let _ = self.edge.wait();
    }
}
