//! The servers of a comparison: their order, and which of them stand for what.

use std::cmp::Ordering;

/// The bare kernel with an io_uring batch a tick.
pub const KERNEL_URING: &str = "kernel-uring";
/// The bare kernel with everything of a millisecond in one batch.
pub const KERNEL_1MS: &str = "kernel-1ms";
/// The fastest server that there is for the job.
pub const UWEBSOCKETS: &str = "uwebsockets";
/// The fair baseline in Rust.
pub const TOKIO_4K: &str = "tokio-tungstenite-4k";
/// What all is about.
pub const TICKWIRE: &str = "tickwire";
/// The same with an edge in front of it.
pub const TICKWIRE_EDGE: &str = "tickwire-edge";

/// What a server is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Tickwire and its variants.
    Ours,
    /// A server that does the same job.
    Peer,
    /// A bare program that shows what the kernel takes, and does nothing else.
    Limit,
}

/// Servers of one family differ in settings only: names begin alike, and so do plots.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    prefix: &'static str,
    /// What its members are.
    pub role: Role,
    /// Red, green, blue.
    pub colour: (u8, u8, u8),
}

/// A server of the comparison. Ordered as tables show it: ours, peers, limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As the files of runs have it.
    pub name: String,
    /// For people.
    pub title: String,
}

/// In the order of tables. Most colours are those of Okabe and Ito, which stay apart for colour-blind
/// readers. Their yellow is darkened, for it would vanish on white; their orange is left out, so that
/// nothing is near ours; indigo and brown stand apart by being dark.
const FAMILIES: [Family; 9] = [
    family("tickwire", Role::Ours, (0xd5, 0x5e, 0x00)),
    family("uwebsockets", Role::Peer, (0x00, 0x72, 0xb2)),
    family("fastwebsockets", Role::Peer, (0x00, 0x9e, 0x73)),
    family("tokio-tungstenite", Role::Peer, (0x56, 0xb4, 0xe9)),
    family("nats", Role::Peer, (0xcc, 0x79, 0xa7)),
    family("nchan", Role::Peer, (0x5d, 0x3a, 0x9b)),
    family("npm-ws", Role::Peer, (0xb8, 0xa4, 0x00)),
    family("nestjs-socketio", Role::Peer, (0x7a, 0x4a, 0x1e)),
    family("kernel", Role::Limit, (0x4d, 0x4d, 0x4d)),
];

/// Servers that the table does not know.
const OTHERS: Family = family("", Role::Peer, (0x99, 0x99, 0x99));

const fn family(prefix: &'static str, role: Role, colour: (u8, u8, u8)) -> Family {
    Family {
        prefix,
        role,
        colour,
    }
}

impl Server {
    /// A server by its name and title.
    pub fn new(name: &str, title: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
        }
    }

    /// The family of its name.
    pub fn family(&self) -> &'static Family {
        FAMILIES.get(self.place()).unwrap_or(&OTHERS)
    }

    /// What it is in the comparison.
    pub fn role(&self) -> Role {
        self.family().role
    }

    /// Where its family stands in the order of tables.
    pub fn place(&self) -> usize {
        let known = |family: &Family| self.name.starts_with(family.prefix);
        FAMILIES.iter().position(known).unwrap_or(FAMILIES.len())
    }

    /// Its title in Markdown; ours stand out.
    pub fn cell(&self) -> String {
        match self.role() {
            Role::Ours => format!("**{}**", self.title),
            Role::Peer => self.title.clone(),
            Role::Limit => format!("*{}*", self.title),
        }
    }
}

impl Ord for Server {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.place(), &self.name).cmp(&(other.place(), &other.name))
    }
}

impl PartialOrd for Server {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_come_first_and_the_limits_last() {
        let names = [
            "kernel-1ms",
            "something-new",
            "npm-ws-send",
            "tickwire-sbe",
            "npm-ws",
            "uwebsockets",
            "tickwire",
        ];
        let mut servers: Vec<Server> = names.map(|name| Server::new(name, name)).to_vec();
        servers.sort();
        let sorted: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        let expected = [
            "tickwire",
            "tickwire-sbe",
            "uwebsockets",
            "npm-ws",
            "npm-ws-send",
            "kernel-1ms",
            "something-new",
        ];
        assert_eq!(sorted, expected);
        assert_eq!(Server::new("something-new", "x").role(), Role::Peer);
    }
}
