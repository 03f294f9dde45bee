//! Servers under measurement, as child processes on cores of their own.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::host;

/// How long a server may take to accept, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 10;

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
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    cores: Vec<usize>,
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
    #[error("{name} does not accept connections within 10 s\n{log}")]
    Silent {
        /// Which.
        name: String,
        /// Its last words.
        log: String,
    },
}

impl Program {
    /// Starts it on `cores` and waits until it accepts connections. Its output goes to a file in
    /// `folder`.
    pub fn start(&self, cores: &[usize], folder: &Path) -> Result<Server, ServerError> {
        let log = folder.join(format!("{}.log", self.name));
        let io = |error| ServerError::Io {
            name: self.name.clone(),
            error,
        };
        let child = self
            .command(cores, &log)
            .and_then(|mut command| command.spawn())
            .map_err(io)?;
        let mut server = Server {
            child,
            cores: cores.to_vec(),
            log,
        };
        self.wait_until_accepting(&mut server)?;
        host::confine(server.pid(), cores).map_err(io)?;
        Ok(server)
    }

    /// What `--version` says, for the report.
    pub fn version(&self) -> String {
        let output = Command::new(&self.path).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_else(|error| format!("{}: {error}", self.path.display()))
    }

    /// `taskset` sets the cores before the server's first instruction, `setpriv` has the kernel
    /// end it should this process die; both replace themselves, so the child's id is the
    /// server's.
    fn command(&self, cores: &[usize], log: &Path) -> io::Result<Command> {
        let output = File::create(log)?;
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
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
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has written to its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Fails where a thread of it may run on another core: then what it used is no longer
    /// comparable.
    pub fn check_confined(&self) -> io::Result<()> {
        let strays = host::strays(self.pid(), &self.cores)?;
        if strays.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "threads {strays:?} left the cores {:?}",
            self.cores
        )))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
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
    }
}

/// A free port of 127.0.0.1. Another process could take it before the server does; the server
/// then says so and ends.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()
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
        }
    }

    #[test]
    fn a_server_that_ends_at_its_start_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let program = program("/bin/sh", &["-c", "echo no such key >&2; exit 3"]);
        let error = program
            .start(&host::own_cores().unwrap(), folder.path())
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("no such key"),
            "{text}"
        );
    }

    #[test]
    fn a_server_is_confined_and_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let core = host::own_cores().unwrap()[0];
        let log = folder.path().join("log");
        let child = program("/bin/sleep", &["60"])
            .command(&[core], &log)
            .unwrap()
            .spawn()
            .unwrap();
        let server = Server {
            child,
            cores: vec![core],
            log,
        };
        let folder = PathBuf::from(format!("/proc/{}", server.pid()));
        let name = || std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        while name() != "sleep\n" {
            thread::sleep(Duration::from_millis(1));
        }
        server.check_confined().unwrap();
        drop(server);
        assert!(!folder.exists());
    }
}
