//! A further process that says what no client should: every file of a folder, such as the seeds of
//! the fuzz targets, as a request, as messages, and as bare bytes behind an upgrade.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    frame::{Opcode, each_frame, masked},
    schedule::Clock,
    upgrade::{ServerUrl, Upgrade},
    worker::{self, Contact, Worker},
};

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);
const ENDPOINTS: [&str; 2] = ["/v1/ws", "/v1/publish"];

/// What the process is told.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Task {
    /// Whom it talks to.
    #[command(flatten)]
    pub contact: Contact,
    /// What it says: every file below this folder.
    #[arg(long)]
    pub corpus: PathBuf,
    /// When it ends, µs since 1970 UTC.
    #[arg(long)]
    pub until_us: u64,
    /// The address of the first connection; the others follow.
    #[arg(long)]
    pub first_source: Ipv4Addr,
    /// Addresses.
    #[arg(long)]
    pub sources: u32,
}

/// How it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Abused {
    /// Connections made.
    pub connections: u64,
    /// Those that were answered in HTTP, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Those of them that were closed after their upgrade, by code.
    pub closed: BTreeMap<u16, u64>,
}

/// How bytes are said.
#[derive(Clone, Copy)]
enum Way {
    /// Instead of a request.
    Request,
    /// As a message.
    Message(Opcode),
    /// Behind the upgrade.
    Bare,
}

const WAYS: [Way; 4] = [
    Way::Request,
    Way::Message(Opcode::Text),
    Way::Message(Opcode::Binary),
    Way::Bare,
];

impl Task {
    /// Does it, and prints how it was answered.
    pub fn run(&self) -> io::Result<()> {
        let corpus = files(&self.corpus)?;
        if corpus.is_empty() {
            let empty = format!("{}: no file in it", self.corpus.display());
            return Err(io::Error::other(empty));
        }
        let token = self.contact.signer()?.publisher();
        let upgrade = Upgrade::new(&ServerUrl::from(self.contact.server));
        let heads = ENDPOINTS.map(|path| {
            let bearer = format!("Bearer {token}");
            upgrade.request(path, &[("Authorization", bearer)])
        });
        let ways = WAYS
            .iter()
            .flat_map(|&way| heads.iter().map(move |head| (head, way)));
        let sayings = ways.flat_map(|(head, way)| {
            corpus.iter().map(move |bytes| match way {
                Way::Request => bytes.clone(),
                Way::Message(opcode) => [head.as_bytes(), &masked(opcode, bytes)].concat(),
                Way::Bare => [head.as_bytes(), bytes].concat(),
            })
        });
        let clock = Clock::start();
        let mut abused = Abused::default();
        for saying in sayings.cycle() {
            if clock.now_us() >= self.until_us {
                break;
            }
            let offset = abused.connections as u32 % self.sources.max(1);
            let source = Ipv4Addr::from(u32::from(self.first_source) + offset);
            abused.connections += 1;
            // Being cut off is an answer as well.
            if let Ok(answer) = say(self.contact.server, source, &saying) {
                abused.count(&answer);
            }
        }
        worker::report(&abused)
    }

    /// Has another process do it.
    pub fn start(&self) -> io::Result<Worker> {
        Worker::start("abuse", self.flags())
    }

    fn flags(&self) -> Vec<String> {
        self.contact.flags([
            ("--corpus", self.corpus.display().to_string()),
            ("--until-us", self.until_us.to_string()),
            ("--first-source", self.first_source.to_string()),
            ("--sources", self.sources.to_string()),
        ])
    }
}

impl Abused {
    fn count(&mut self, answer: &[u8]) {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(head_bytes)) = response.parse(answer) else {
            return;
        };
        let status = response.code.unwrap_or_default();
        *self.statuses.entry(status).or_default() += 1;
        // An answer that is cut short has no frame at its end.
        let _ = each_frame(&answer[head_bytes..], |frame| {
            if let (Opcode::Close, Some(&[high, low])) = (frame.opcode, frame.payload.first_chunk())
            {
                let code = u16::from_be_bytes([high, low]);
                *self.closed.entry(code).or_default() += 1;
            }
            Ok::<_, crate::frame::FrameError>(())
        });
    }
}

/// Says `bytes` on a connection from `source`; what came back in time.
fn say(server: SocketAddr, source: Ipv4Addr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    // Who leaves resets: no port is kept from the next by TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.set_write_timeout(Some(ANSWER_WITHIN))?;
    socket.connect(&server.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// What the files below `folder` hold.
fn files(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(named)? {
        let path = entry?.path();
        if path.is_dir() {
            files.append(&mut self::files(&path)?);
        } else {
            files.push(fs::read(path)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_everything_by_its_flags() {
        let task = Task {
            contact: Contact::example(),
            corpus: "proto/fuzz/seeds".into(),
            until_us: 2,
            first_source: Ipv4Addr::new(127, 3, 0, 1),
            sources: 16,
        };
        assert_eq!(worker::told::<Task>(task.flags()), task);
    }

    #[test]
    fn answers_are_counted_by_their_last_word() {
        let mut abused = Abused::default();
        abused.count(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        abused.count(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02{}\x88\x02\x11\x94\x81");
        abused.count(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02{}");
        abused.count(b"HTTP");
        assert_eq!(abused.statuses, [(400, 1), (101, 2)].into());
        assert_eq!(abused.closed, [(4500, 1)].into());
    }
}
