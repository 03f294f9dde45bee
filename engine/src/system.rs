//! What the engine needs of the system: raised where it may be, and told at start where it lacks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{config::Config, door::LINGERING_MAX, listeners::QUEUE_MAX};

/// Open files beside connections: listeners, rings, epoll sets, bells, publishers' spare, logs.
const OWN_FILES: u64 = 256;
/// A connection at the door is watched through a duplicate.
const FILES_AT_THE_DOOR: u64 = 2;
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// Takes all open files that the system allows, and says what is less than `config` asks for.
pub fn prepare(config: &Config) {
    let queue_max = std::fs::read_to_string(SOMAXCONN);
    let queue_max = queue_max.ok().and_then(|text| text.trim().parse().ok());
    for shortcoming in shortcomings(config, raise_open_files(), queue_max) {
        tracing::warn!("{shortcoming}");
    }
}

/// Raises the limit of open files to the hard limit; the limit in force then.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            limit.current
        }
    }
}

/// What is less than `config` asks for, and how to change that. A limit that is `None` is none.
fn shortcomings(config: &Config, files: Option<u64>, queue_max: Option<u64>) -> Vec<String> {
    let mut shortcomings = Vec::new();
    let at_the_door = (config.half_open_max + LINGERING_MAX) as u64 * FILES_AT_THE_DOOR;
    let beside = OWN_FILES + at_the_door;
    let needed = config.connections_max as u64 + beside;
    if let Some(files) = files.filter(|&files| files < needed) {
        shortcomings.push(format!(
            "{files} open files are enough for {} connections, `connections_max` is {}: raise the hard \
             limit to {needed} (ulimit -Hn, LimitNOFILE= of a systemd unit, --ulimit nofile= of a \
             container) or lower `connections_max`",
            files.saturating_sub(beside),
            config.connections_max,
        ));
    }
    if let Some(queue_max) = queue_max.filter(|&queue_max| queue_max < QUEUE_MAX) {
        shortcomings.push(format!(
            "net.core.somaxconn lets {queue_max} connections wait to be accepted, a storm needs \
             {QUEUE_MAX}: sysctl -w net.core.somaxconn={QUEUE_MAX}"
        ));
    }
    shortcomings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_told_with_its_remedy() {
        let config = Config {
            connections_max: 10_000,
            half_open_max: 1_024,
            ..Config::default()
        };
        let needed = 10_000 + 2 * (1_024 + LINGERING_MAX as u64) + OWN_FILES;
        let enough = shortcomings(&config, Some(needed), Some(QUEUE_MAX));
        assert_eq!(enough, Vec::<String>::new());
        assert_eq!(shortcomings(&config, None, None), enough);
        let told = shortcomings(&config, Some(needed - 1), Some(128));
        assert!(
            told[0].contains("9999 connections") && told[0].contains("LimitNOFILE"),
            "{told:?}"
        );
        assert!(
            told[1].contains("lets 128") && told[1].contains("sysctl -w"),
            "{told:?}"
        );
    }
}
