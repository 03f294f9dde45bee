//! Real Redis servers on ports of their own, alone or as a cluster.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{PATIENCE, eventually};

/// Forgets everything when it ends.
const FORGETFUL: [&str; 4] = ["--save", "", "--appendonly", "no"];
/// Has everything again when it starts again.
const REMEMBERING: [&str; 6] = [
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
];
/// After so long a master of a cluster is taken for dead.
const NODE_TIMEOUT_MS: &str = "1000";

/// A server that ends with the test, by its process id.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    args: Vec<String>,
    child: Option<Child>,
}

/// Three masters, each with a replica.
pub struct Cluster {
    servers: Vec<RedisServer>,
}

impl RedisServer {
    /// One without persistence.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with persistence.
    pub fn that_remembers() -> Self {
        Self::with(&REMEMBERING)
    }

    /// One that follows this one, and has what this one has.
    pub fn replica(&self) -> Self {
        let master = format!("127.0.0.1 {}", self.port);
        let replica = Self::with(&["--replicaof", &master]);
        eventually("the replica follows", || {
            replica
                .say(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        replica
    }

    /// One with further arguments.
    pub fn with(args: &[&str]) -> Self {
        let args = FORGETFUL.iter().chain(args);
        let mut server = Self {
            port: free_port(),
            folder: TempDir::new().expect("a folder"),
            args: args.map(|&arg| arg.to_owned()).collect(),
            child: None,
        };
        server.start_again();
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it, and waits until it answers.
    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--dir", &self.folder.path().display().to_string()])
            .args(&self.args)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing: apt-get install redis-server");
        let child = self.child.insert(child);
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "port {} is taken: {ended:?}", self.port);
            if answers(self.port) {
                return;
            }
            assert!(Instant::now() < until, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().expect("it ends");
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal).expect("it runs");
        }
    }

    /// Says something to it by redis-cli; its answer.
    pub fn say(&self, words: &[&str]) -> String {
        redis_cli(&[&["-p", &self.port.to_string()], words].concat())
    }

    /// Whether it has a replica, or is one.
    fn is_replicated(&self) -> bool {
        let said = self.say(&["INFO", "replication"]);
        said.contains("connected_slaves:1") || said.contains("master_link_status:up")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

impl Cluster {
    /// Starts it, and waits until it serves.
    pub fn start() -> Self {
        let member = || {
            // By default this is its port and 10,000, which may be none.
            let bus = free_port().to_string();
            let timeout = ["--cluster-node-timeout", NODE_TIMEOUT_MS];
            let member = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            RedisServer::with(&[&member[..], &timeout].concat())
        };
        let servers: Vec<RedisServer> = (0..6).map(|_| member()).collect();
        let addresses: Vec<String> = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let said = redis_cli(&create);
        let cluster = Self { servers };
        eventually("the cluster serves", || {
            let says = |words: &[&str], part| {
                let mut servers = cluster.servers.iter();
                servers.all(|server| server.say(words).contains(part))
            };
            says(&["CLUSTER", "INFO"], "cluster_state:ok")
                && cluster.servers.iter().all(RedisServer::is_replicated)
        });
        assert!(said.contains("All 16384 slots covered"), "{said}");
        cluster
    }

    /// The URLs of all.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        self.servers.iter().map(RedisServer::url)
    }

    /// Kills the master that has `key`.
    pub fn kill_the_master_of(&mut self, key: &str) {
        let mut servers = self.servers.iter_mut();
        let master = servers.find(|server| server.say(&["EXISTS", key]).starts_with('1'));
        master.expect("a master has the key").kill();
    }
}

fn answers(port: u16) -> bool {
    let answer = redis_cli(&["-p", &port.to_string(), "PING"]);
    answer.starts_with("PONG") || answer.contains("NOAUTH")
}

/// Free now, and hardly anyone else's a moment later.
pub fn free_port() -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.expect("a port").port()
}

/// What redis-cli says, which waits for a server for as long as it takes.
fn redis_cli(words: &[&str]) -> String {
    let limit = PATIENCE.as_secs().to_string();
    let output = Command::new("timeout")
        .args([&limit, "redis-cli"])
        .args(words)
        .output()
        .expect("redis-cli is missing: apt-get install redis-tools");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
