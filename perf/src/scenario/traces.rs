//! What a server has in use, by its processes and by its own account.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    process::Tree,
    session::{SessionError, Target},
};

/// tickwire's tables, each of which is to be empty when all have gone. `tickwire_per_ip_table` is not
/// among them: addresses are forgotten by its own clock.
const GAUGES: [&str; 9] = [
    "tickwire_connections",
    "tickwire_half_open",
    "tickwire_lingering",
    "tickwire_users",
    "tickwire_client_ips",
    "tickwire_floor_connections",
    "tickwire_subscriptions",
    "tickwire_replays",
    "tickwire_timers",
];
const HTTP_WITHIN: Duration = Duration::from_secs(5);

/// What the server has in use.
pub(super) struct Traces {
    pub(super) rss_bytes: u64,
    pub(super) files: u64,
    /// By name; empty where there is no metrics page.
    pub(super) gauges: BTreeMap<String, f64>,
}

impl Traces {
    pub(super) fn of(target: &Target<'_>) -> Result<Self, SessionError> {
        let page = Page::of(target);
        let gauges = GAUGES.map(|name| Some((name.to_owned(), page.sum(name, "")?)));
        let tree = target.tree;
        Ok(Self {
            rss_bytes: tree.map(Tree::rss_bytes).transpose()?.unwrap_or_default(),
            files: tree.map(Tree::open_files).transpose()?.unwrap_or_default(),
            gauges: gauges.into_iter().flatten().collect(),
        })
    }
}

/// The server's page of metrics.
pub(super) struct Page(String);

impl Page {
    /// Reads it; empty where there is none.
    pub(super) fn of(target: &Target<'_>) -> Self {
        // tickwire is started with its admin pages on the next port.
        let admin = SocketAddr::new(target.server.ip(), target.server.port() + 1);
        Self(read(admin).unwrap_or_default())
    }

    /// A metric over all its labels that contain `labels`; `None` where the page has no such line.
    pub(super) fn sum(&self, name: &str, labels: &str) -> Option<f64> {
        let own = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = (rest.starts_with([' ', '{']) && rest.contains(labels))
                .then(|| rest.rsplit(' ').next())??;
            value.parse::<f64>().ok()
        });
        own.reduce(|sum, value| sum + value)
    }
}

fn read(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, HTTP_WITHIN)?;
    stream.set_read_timeout(Some(HTTP_WITHIN))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let page = "# HELP a b\na{floor=\"0\"} 2\na{floor=\"1\"} 3\nab 7\nb 0\n";
        let page = Page(page.to_owned());
        assert_eq!(page.sum("a", ""), Some(5.0));
        assert_eq!(page.sum("a", "floor=\"1\""), Some(3.0));
        assert_eq!(page.sum("b", ""), Some(0.0));
        assert_eq!(page.sum("c", ""), None);
    }
}
