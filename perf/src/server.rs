//! Servers under measurement, as child processes on cores of their own.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{host, process::Tree};

/// How long a server may take to accept, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 10;
/// Ports that a server may have, beginning with the one that it is told.
const PORTS: u16 = 10;
/// Where free ports are looked for: below those that the kernel gives to clients.
const PORT_RANGE: std::ops::Range<u16> = 20_000..32_000;

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in reports.
    pub name: String,
    /// The binary.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it will listen.
    pub listen: SocketAddr,
    /// The cores that it gets; `None` leaves all of them to it.
    pub cores: Option<Vec<usize>>,
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    cores: Option<Vec<usize>>,
    log: PathBuf,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It could not be started, or watched.
    #[error("{name}: {error}")]
    Io {
        /// Which.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended at its start: {status}\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its last words.
        log: String,
    },
    /// It does not accept.
    #[error("{name} does not accept connections within 30 s\n{log}")]
    Silent {
        /// Which.
        name: String,
        /// Its last words.
        log: String,
    },
}

impl Program {
    /// Starts it and waits until it accepts connections. Its output goes to a file in `folder`.
    pub fn start(&self, folder: &Path) -> Result<Server, ServerError> {
        let log = folder.join(format!("{}.log", self.name));
        let io = |error| ServerError::Io {
            name: self.name.clone(),
            error,
        };
        let child = self
            .command(&log)
            .and_then(|mut command| command.spawn())
            .map_err(io)?;
        let mut server = Server {
            child,
            cores: self.cores.clone(),
            log,
        };
        self.wait_until_accepting(&mut server)?;
        server.confine().map_err(io)?;
        Ok(server)
    }

    /// `taskset` sets the cores before the server's first instruction, `setpriv` has the kernel
    /// end it should this process die; both replace themselves, so the child's id is the
    /// server's.
    fn command(&self, log: &Path) -> io::Result<Command> {
        let output = File::create(log)?;
        let cores: Vec<String> = match &self.cores {
            Some(cores) => cores.iter().map(usize::to_string).collect(),
            None => (0..host::cores_online())
                .map(|core| core.to_string())
                .collect(),
        };
        let mut command = Command::new("taskset");
        command
            .args(["-c", &cores.join(","), "setpriv", "--pdeathsig", "KILL"])
            .arg(&self.path)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command)
    }

    fn wait_until_accepting(&self, server: &mut Server) -> Result<(), ServerError> {
        let began = Instant::now();
        let name = self.name.clone();
        while TcpStream::connect_timeout(&self.listen, POLL).is_err() {
            match server.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    return Err(ServerError::Ended {
                        name,
                        status,
                        log: server.last_words(),
                    });
                }
                Err(error) => return Err(ServerError::Io { name, error }),
            }
            if began.elapsed() > PATIENCE {
                return Err(ServerError::Silent {
                    name,
                    log: server.last_words(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Server {
    /// Its processes.
    pub fn tree(&self) -> Tree {
        Tree::of(self.child.id())
    }

    /// The end of what it has written to its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Kills it, as a fault does.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Confines whatever it has pinned or started itself.
    pub fn confine(&self) -> io::Result<()> {
        match &self.cores {
            Some(cores) => self.tree().confine(cores),
            None => Ok(()),
        }
    }

    /// Fails where a thread of it may run on another core: then what it used is no longer
    /// comparable.
    pub fn check_confined(&self) -> io::Result<()> {
        let Some(cores) = &self.cores else {
            return Ok(());
        };
        let strays = self.tree().strays(cores)?;
        if strays.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "threads {strays:?} left the cores {cores:?}"
        )))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let children = self.tree().pids().unwrap_or_default();
        // A child that is not waited for keeps its id, so these signals cannot hit another.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
            let asked = Instant::now();
            while asked.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(POLL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What has outlived it would compete with the next server.
        for child in children.into_iter().skip(1) {
            if let Some(pid) = Pid::from_raw(child as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The first of ten free ports of 127.0.0.1. Another process could take one before the server
/// does; the server then says so and ends.
pub fn free_address() -> io::Result<SocketAddr> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let rows = (PORT_RANGE.end - PORT_RANGE.start) / PORTS;
    // Another generator on this machine begins elsewhere.
    let begin = (std::process::id() % u32::from(rows)) as u16;
    for _ in 0..rows {
        let row = (begin + TRIED.fetch_add(1, Ordering::Relaxed)) % rows;
        let first = PORT_RANGE.start + row * PORTS;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + PORTS).all(free) {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, first)));
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str, args: &[&str]) -> Program {
        Program {
            name: "x".to_owned(),
            path: path.into(),
            args: args.iter().map(ToString::to_string).collect(),
            listen: free_address().unwrap(),
            cores: Some(vec![host::own_cores().unwrap()[0]]),
        }
    }

    #[test]
    fn a_server_that_ends_at_its_start_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let program = program("/bin/sh", &["-c", "echo no such key >&2; exit 3"]);
        let error = program.start(folder.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("no such key"),
            "{text}"
        );
    }

    #[test]
    fn a_server_is_confined_and_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let program = program("/bin/sleep", &["60"]);
        let child = program.command(&log).unwrap().spawn().unwrap();
        let server = Server {
            child,
            cores: program.cores,
            log,
        };
        let folder = PathBuf::from(format!("/proc/{}", server.child.id()));
        let name = || std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        while name() != "sleep\n" {
            thread::sleep(Duration::from_millis(1));
        }
        server.check_confined().unwrap();
        drop(server);
        assert!(!folder.exists());
    }
}
