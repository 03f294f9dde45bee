//! Further processes that take part in a run, and say in a line of JSON how it went.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};

/// Below those who measure, which are on the same core.
const NICE: i32 = 5;

/// One of them, from outside; it ends with this value.
pub struct Worker(Option<Child>);

impl Worker {
    /// Starts this program again, with `command` and its flags.
    pub fn start<'a>(
        command: &str,
        flags: impl IntoIterator<Item = (&'a str, String)>,
    ) -> io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg(command)
            .args(flat(flags))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self(Some(child)))
    }

    /// Waits for its end; how it went.
    pub fn end<T: DeserializeOwned>(mut self) -> io::Result<T> {
        let child = self.0.take();
        let child = child.expect("it is taken here and when dropped");
        let output = child.wait_with_output()?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| io::Error::other(format!("a worker came to nothing: {error}")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It must not outlive the run; where it has ended there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a worker does first.
pub fn step_back() -> io::Result<()> {
    rustix::process::nice(NICE)?;
    Ok(())
}

/// What it says last.
pub fn report(outcome: &impl Serialize) -> io::Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}

/// Names and values, one behind the other.
pub fn flat<'a>(flags: impl IntoIterator<Item = (&'a str, String)>) -> Vec<String> {
    let flags = flags.into_iter();
    flags
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}
