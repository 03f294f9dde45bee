//! Two hosts on one machine: network namespaces (`network_namespaces(7)`), joined by a cable that
//! can be pulled.

use std::process::Command;

use crate::{
    harness::eventually,
    process::{Process, command},
};

/// The address of the host that serves.
pub const NEAR: &str = "10.83.0.1";
const FAR: &str = "10.83.0.2";

/// Both end with this value, but not what was started on them.
pub struct Hosts {
    near: Process,
    far: Process,
}

impl Hosts {
    /// Two hosts that reach each other.
    pub fn new() -> Self {
        // A namespace of users comes first, which lets anyone make the others (`user_namespaces(7)`).
        let near = host(command("unshare"), &["--user", "--map-root-user", "--net"]);
        let mut unshare = within(&near, "unshare");
        unshare.arg("--net");
        let far = host(unshare, &[]);
        let hosts = Self { near, far };
        let far_id = hosts.far.id().to_string();
        let pair = ["type", "veth", "peer", "name", "cable", "netns", &far_id];
        ip(
            &hosts.near,
            &[&["link", "add", "cable"][..], &pair[..]].concat(),
        );
        for (host, address) in [(&hosts.near, NEAR), (&hosts.far, FAR)] {
            let address = format!("{address}/24");
            ip(host, &["address", "add", &address, "dev", "cable"]);
            ip(host, &["link", "set", "cable", "up"]);
            ip(host, &["link", "set", "lo", "up"]);
        }
        hosts
    }

    /// `command` on the host that serves.
    pub fn near(&self, command: &Command) -> Command {
        moved(&self.near, command)
    }

    /// `command` on the other.
    pub fn far(&self, command: &Command) -> Command {
        moved(&self.far, command)
    }

    /// From now on nothing arrives, and nobody is told.
    pub fn pull_the_cable(&self) {
        ip(&self.near, &["link", "set", "cable", "down"]);
    }

    /// From now on everything arrives again.
    pub fn plug_the_cable_in(&self) {
        ip(&self.near, &["link", "set", "cable", "up"]);
    }

    /// From now on the host that serves sends no more than `kbit` kbit/s, and what is above that is
    /// dropped (`tc-tbf(8)`).
    pub fn narrow_the_cable(&self, kbit: u32) {
        let rate = format!("{kbit}kbit");
        let bucket = ["tbf", "rate", &rate, "burst", "2kb", "limit", "4kb"];
        self.shape(&[&["replace", "dev", "cable", "root"][..], &bucket].concat());
    }

    /// From now on it sends as fast as it can again; how many packets were dropped until then.
    pub fn widen_the_cable(&self) -> u64 {
        let said = self.shape(&["show", "dev", "cable"]);
        self.shape(&["del", "dev", "cable", "root"]);
        let dropped = said
            .split_once("dropped ")
            .and_then(|(_, behind)| behind.split_once(','));
        let (count, _) = dropped.expect("a count of dropped packets");
        count.parse().expect("a number")
    }

    fn shape(&self, args: &[&str]) -> String {
        run(&self.near, "tc", &[&["-s", "qdisc"], args].concat()).join("\n")
    }
}

/// A process that does nothing but keep its namespaces.
fn host(mut unshare: Command, flags: &[&str]) -> Process {
    unshare.args(flags);
    unshare.args(["--", "bash", "-c", "echo ready && exec cat"]);
    let host = Process::start(unshare);
    eventually("a host", || {
        let said = host.stderr();
        assert!(
            said.is_empty(),
            "this test needs namespaces of users and networks, which this system denies: {said:?}"
        );
        host.stdout() == ["ready"]
    });
    host
}

fn within(host: &Process, program: &str) -> Command {
    let mut nsenter = command("nsenter");
    let target = host.id().to_string();
    nsenter.args(["--target", &target, "--user", "--net"]);
    nsenter.args(["--preserve-credentials", "--", program]);
    nsenter
}

fn moved(host: &Process, command: &Command) -> Command {
    let mut moved = within(host, &command.get_program().to_string_lossy());
    moved.args(command.get_args());
    moved
}

fn ip(host: &Process, args: &[&str]) {
    run(host, "ip", args);
}

/// What a program that succeeds on a host says.
fn run(host: &Process, program: &str, args: &[&str]) -> Vec<String> {
    let mut command = within(host, program);
    command.args(args);
    Process::run(command).ok()
}
