//! Redis for hosts that share ticks: one server, or a cluster.

use std::{io, net::SocketAddr, path::PathBuf, process::Command, thread, time::Duration};

use crate::{
    contender::Stage,
    process::Tree,
    server::{Program, Server, ServerError, free_address},
};

/// How long a cluster may take to form.
const FORMS_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Of a cluster's members.
const MASTERS: usize = 3;

/// Running servers, which end with this value.
#[derive(Debug)]
pub struct Redis {
    servers: Vec<(Server, SocketAddr)>,
}

impl Redis {
    /// One server, on `cores`; without, on all.
    pub fn alone(stage: &Stage, cores: Option<Vec<usize>>) -> Result<Self, ServerError> {
        Ok(Self {
            servers: vec![start(stage, "redis", cores, &[])?],
        })
    }

    /// Three masters, each with a replica that takes over a second after it has died.
    pub fn cluster(stage: &Stage) -> Result<Self, ServerError> {
        let flags = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let members = (0..2 * MASTERS)
            .map(|member| start(stage, &format!("redis-{member}"), None, &flags))
            .collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { servers: members };
        cluster.form().map_err(|error| ServerError::Io {
            name: "redis-cluster".to_owned(),
            error,
        })?;
        Ok(cluster)
    }

    /// The URLs of all servers, with commas.
    pub fn urls(&self) -> String {
        let urls = self.servers.iter();
        let urls: Vec<String> = urls.map(|(_, at)| format!("redis://{at}")).collect();
        urls.join(",")
    }

    /// The first server's port.
    pub fn port(&self) -> u16 {
        self.servers[0].1.port()
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.servers.len() > 1
    }

    /// The processes of each server.
    pub fn trees(&self) -> impl Iterator<Item = Tree> {
        self.servers.iter().map(|(server, _)| server.tree())
    }

    /// Kills the master that has `key`.
    pub fn kill_the_master_of(&mut self, key: &str) -> io::Result<()> {
        for (server, at) in &mut self.servers {
            if say(*at, &["EXISTS", key])?.starts_with('1') {
                return server.kill();
            }
        }
        Err(io::Error::other(format!("no master has {key}")))
    }

    fn form(&self) -> io::Result<()> {
        let addresses: Vec<String> = self.servers.iter().map(|(_, at)| at.to_string()).collect();
        let mut words = vec!["--cluster", "create"];
        words.extend(addresses.iter().map(String::as_str));
        words.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        cli(&words)?;
        let deadline = std::time::Instant::now() + FORMS_WITHIN;
        while !self.is_formed()? {
            if std::time::Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Whether it serves, and every member has a replica or is one.
    fn is_formed(&self) -> io::Result<bool> {
        for (_, at) in &self.servers {
            let replication = say(*at, &["INFO", "replication"])?;
            let is_replicated = replication.contains("connected_slaves:1")
                || replication.contains("master_link_status:up");
            if !is_replicated || !say(*at, &["CLUSTER", "INFO"])?.contains("cluster_state:ok") {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn start(
    stage: &Stage,
    name: &str,
    cores: Option<Vec<usize>>,
    flags: &[&str],
) -> Result<(Server, SocketAddr), ServerError> {
    let failed = |error| ServerError::Io {
        name: name.to_owned(),
        error,
    };
    let listen = free_address().map_err(failed)?;
    let folder = tempfile::tempdir_in(&stage.folder).map_err(failed)?;
    let (port, bus) = (listen.port().to_string(), (listen.port() + 1).to_string());
    let at = ["--bind", "127.0.0.1", "--port", &port];
    // Persistence is not needed: a host says again what Redis has lost.
    let folder = folder.keep();
    let folder = folder.display().to_string();
    let keeps_nothing = ["--save", "", "--appendonly", "no", "--dir", &folder];
    let mut args = [&at[..], &keeps_nothing, flags].concat();
    if !flags.is_empty() {
        args.extend(["--cluster-port", &bus]);
    }
    let program = Program {
        name: name.to_owned(),
        path: PathBuf::from("redis-server"),
        args: args.into_iter().map(str::to_owned).collect(),
        listen,
        cores,
    };
    Ok((program.start(&stage.folder)?, listen))
}

fn say(at: SocketAddr, words: &[&str]) -> io::Result<String> {
    let port = at.port().to_string();
    cli(&[&["-p", &port], words].concat())
}

fn cli(words: &[&str]) -> io::Result<String> {
    let output = Command::new("redis-cli").args(words).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
