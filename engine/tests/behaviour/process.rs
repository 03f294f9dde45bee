//! The binary as a process: started on free ports, read line by line, ended by its id.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Client, PATIENCE, deny_uring, eventually, uring_is_denied};

pub const TICKWIRE: &str = env!("CARGO_BIN_EXE_tickwire");
/// At least 32 bytes; the newline is none of it.
const SECRET: &str = "the secret of a process, and some more\n";

/// A command that inherits none of this project's environment variables, so that those of the
/// test run are not taken for settings.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TICKWIRE_") {
            command.env_remove(name);
        }
    }
    command
}

/// `tickwire` with arguments.
pub fn tickwire(args: &[&str]) -> Command {
    let mut command = command(TICKWIRE);
    command.args(args);
    command
}

/// A running process whose output is gathered; dropping it kills it.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines,
    stderr: Lines,
}

/// What a stream has said so far.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                theirs.lock().expect("nobody panics").push(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    fn now(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics").clone()
    }

    /// Everything, once the process has ended.
    fn read_to_end(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.now()
    }
}

/// A process that has ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Ended {
    /// The process succeeded; what it printed.
    pub fn ok(self) -> Vec<String> {
        assert!(self.status.success(), "{}: {:?}", self.status, self.stderr);
        self.stdout
    }

    /// The exit code and all of stderr.
    pub fn failure(self) -> (Option<i32>, String) {
        (self.status.code(), self.stderr.join("\n"))
    }
}

impl Process {
    /// Starts a command, without io_uring where the run is to go without.
    pub fn start(command: Command) -> Self {
        if uring_is_denied() {
            Self::start_without_uring(command)
        } else {
            Self::spawn(command)
        }
    }

    /// Starts a command under a seccomp filter, as a container's.
    pub fn start_without_uring(command: Command) -> Self {
        // The filter holds for the thread that applies it and what that starts, and is never
        // lifted: hence a thread of its own.
        std::thread::spawn(|| {
            deny_uring();
            Self::spawn(command)
        })
        .join()
        .expect("the process starts")
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the process starts");
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            stdout: Lines::of(child.stdout.take().expect("a pipe")),
            stderr: Lines::of(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// Runs a command to its end.
    pub fn run(command: Command) -> Ended {
        Self::start(command).wait()
    }

    /// Writes a line to its stdin.
    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the process listens");
    }

    pub fn stdout(&self) -> Vec<String> {
        self.stdout.now()
    }

    pub fn stderr(&self) -> Vec<String> {
        self.stderr.now()
    }

    /// Waits until `find` makes something of a line of stdout.
    pub fn stdout_line<T>(&self, find: impl FnMut(&String) -> Option<T>) -> T {
        self.line(&self.stdout, find)
    }

    /// As [`Process::stdout_line`], on stderr.
    pub fn stderr_line<T>(&self, find: impl FnMut(&String) -> Option<T>) -> T {
        self.line(&self.stderr, find)
    }

    fn line<T>(&self, stream: &Lines, mut find: impl FnMut(&String) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = stream.now().iter().find_map(&mut find) {
                return found;
            }
            assert!(
                Instant::now() < until,
                "the line did not come: {:?} {:?}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        eventually("the end of the process", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        Ended {
            status: status.expect("it has ended"),
            stdout: self.stdout.read_to_end(),
            stderr: self.stderr.read_to_end(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it has ended already, there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tickwire serve` on ports of its own, and files for its clients.
pub struct Serve {
    pub process: Process,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
    folder: TempDir,
}

impl Serve {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments of `serve`.
    pub fn with(args: &[&str]) -> Self {
        Self::adjusted(|command, _| {
            command.args(args);
        })
    }

    /// With a changed command; it is told the folder that holds the secret, `secret`.
    pub fn adjusted(change: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("secret"), SECRET).expect("a file");
        let secret = folder.path().join("secret").display().to_string();
        let mut command = tickwire(&[
            "serve",
            "--listen=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--floors=1",
            "--per-ip-rate=0",
            "--jwt-hs256-file",
            &secret,
            "--set=tape_slots=65536",
            "--set=drain_s=5",
        ]);
        change(&mut command, folder.path());
        let process = Process::start(command);
        let (listen, admin) = process.stderr_line(|line| addresses(line));
        let token = token(&secret, &["--publish=*"]);
        std::fs::write(folder.path().join("token"), &token).expect("a file");
        Self {
            process,
            listen,
            admin,
            token,
            folder,
        }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.listen)
    }

    /// `tickwire publish` or `subscribe` to it.
    pub fn client(&self, name: &str, args: &[&str]) -> Command {
        let mut command = tickwire(&[
            name,
            "--url",
            &self.url(),
            "--token-file",
            &self.path("token"),
        ]);
        command.args(args);
        command
    }

    /// Publishes a file as fast as it goes; returns the summary.
    pub fn publish(&self, file: &Path, args: &[&str]) -> Vec<String> {
        let file = file.display().to_string();
        let mut command = self.client("publish", &["--speed=max", "--file", &file]);
        command.args(args);
        Process::run(command).ok()
    }

    /// A WebSocket that has read its `welcome`.
    pub fn connect(&self, path_and_query: &str, subprotocol: Option<&str>) -> Client {
        let mut client = Client::open(self.listen, path_and_query, &self.token, subprotocol)
            .expect("the upgrade succeeds");
        assert_eq!(client.next()["type"], "welcome");
        client
    }
}

/// `tickwire token` of alice, for an hour.
pub fn token(secret: &str, args: &[&str]) -> String {
    let mut command = tickwire(&[
        "token",
        "--jwt-hs256-file",
        secret,
        "--sub=alice",
        "--ttl=1h",
    ]);
    command.args(args);
    Process::run(command).ok().remove(0)
}

/// `listen` and `admin` of the line that says that the engine serves.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, fields) = line.split_once("serving ")?;
    let field = |name: &str| {
        fields
            .split(' ')
            .find_map(|field| field.strip_prefix(name)?.parse().ok())
    };
    Some((field("listen=")?, field("admin=")?))
}
