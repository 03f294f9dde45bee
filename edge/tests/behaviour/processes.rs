//! Engines and edges as processes, ended by their ids.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use crate::harness::{PATIENCE, Site};

/// A process that is killed with the test.
pub struct Process(Child);

impl Process {
    pub fn of(child: Child) -> Self {
        Self(child)
    }

    /// Starts a process, and waits until it listens.
    pub fn listening(mut command: Command, address: SocketAddr) -> Self {
        let process = Self(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The engine's binary, which lies beside the edge's.
pub fn tickwire() -> Command {
    let edge = Path::new(env!("CARGO_BIN_EXE_tickwire-edge"));
    let tickwire = edge.with_file_name("tickwire");
    assert!(
        tickwire.exists(),
        "no {}: cargo build -p tickwire-engine",
        tickwire.display()
    );
    Command::new(tickwire)
}

/// An edge as a process, on an address that outlives it.
pub fn edge(site: &Site, listen: SocketAddr) -> Process {
    edge_of(site, listen, site.engine.listen_addr())
}

/// The same of another engine.
pub fn edge_of(site: &Site, listen: SocketAddr, engine: SocketAddr) -> Process {
    let file = |name: &str| site.files.path().join(name);
    let mut edge = Command::new(env!("CARGO_BIN_EXE_tickwire-edge"));
    edge.arg(format!("--listen={listen}"))
        .arg("--admin=127.0.0.1:0")
        .arg(format!("--upstream=ws://{engine}/v1/ws"))
        .arg("--upstream-token-file")
        .arg(file("token"))
        .arg("--jwt-hs256-file")
        .arg(file("secret"))
        .arg("--set=retry_ms=200")
        .arg("--set=log_level=warn");
    Process::listening(edge, listen)
}

/// An engine as a process.
pub fn engine(site: &Site, listen: SocketAddr) -> Process {
    let mut engine = tickwire();
    engine
        .arg("serve")
        .arg(format!("--listen={listen}"))
        .arg("--admin=127.0.0.1:0")
        .arg("--jwt-hs256-file")
        .arg(site.files.path().join("secret"))
        .arg("--set=per_ip_rate=0")
        .arg("--set=log_level=error");
    Process::listening(engine, listen)
}

/// What a process says on its standard output, a line at a time.
pub fn lines(process: &mut Process) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stdout = process.0.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
