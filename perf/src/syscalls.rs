//! How many system calls a server makes, by `perf stat` and, where that is not allowed, `strace`.
//!
//! Counting slows a server down, `strace` a lot, so it has a window of its own.

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::Tree;

/// From the start of the counter to its counting.
const ATTACH: Duration = Duration::from_millis(500);

/// A counter at work.
#[derive(Debug)]
pub struct Counter {
    child: Child,
    parse: fn(&str) -> Option<u64>,
}

impl Counter {
    /// Counts the calls of all processes of `tree` from now on.
    pub fn start(tree: Tree) -> io::Result<Self> {
        let pids: Vec<String> = tree.pids()?.iter().map(u32::to_string).collect();
        let pids = pids.join(",");
        let mut perf = Command::new("perf");
        perf.args([
            "stat",
            "-x",
            ",",
            "-e",
            "raw_syscalls:sys_enter",
            "-p",
            &pids,
        ]);
        let perf = Self::spawn(&mut perf, parse_perf);
        if let Ok(counter) = perf {
            return Ok(counter);
        }
        let mut strace = Command::new("strace");
        strace.args(["-c", "-f"]);
        for pid in pids.split(',') {
            strace.args(["-p", pid]);
        }
        Self::spawn(&mut strace, parse_strace)
    }

    fn spawn(command: &mut Command, parse: fn(&str) -> Option<u64>) -> io::Result<Self> {
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        thread::sleep(ATTACH);
        match child.try_wait()? {
            None => Ok(Self { child, parse }),
            Some(status) => Err(io::Error::other(format!("the counter ended: {status}"))),
        }
    }

    /// Ends it; what it counted.
    pub fn stop(mut self) -> io::Result<u64> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut said)?;
        }
        self.child.wait()?;
        (self.parse)(&said)
            .ok_or_else(|| io::Error::other(format!("system calls were not counted: {said}")))
    }
}

/// `12345,,raw_syscalls:sys_enter,…`
fn parse_perf(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("sys_enter"))?;
    line.split(',').next()?.parse().ok()
}

/// `100.00    0.001234           1      1234        56 total`: the fourth column.
fn parse_strace(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.ends_with(" total"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_both_say() {
        let perf = "4711,,raw_syscalls:sys_enter,2000123,100.00,,\n";
        assert_eq!(parse_perf(perf), Some(4_711));
        assert_eq!(
            parse_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"),
            None
        );
        let strace = "strace: Process 5 attached\n% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            99.00    0.001000           1      1000           sendto\n\
            100.00    0.001234           1      1234        56 total\n";
        assert_eq!(parse_strace(strace), Some(1_234));
        assert_eq!(
            parse_strace("strace: attach: Operation not permitted"),
            None
        );
    }
}
