//! Further processes that take part in a run, and say in a line of JSON how it went.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    dialect::{self, Dialect},
    session::Target,
    token::Signer,
};

/// Whom a process talks to, and how: what all of them are told.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Contact {
    /// Where to.
    #[arg(long)]
    pub server: SocketAddr,
    /// The dialect.
    #[arg(long)]
    pub dialect: String,
    /// File with the secret that tokens are signed with.
    #[arg(long)]
    pub secret: PathBuf,
}

impl Contact {
    /// The server that is measured.
    pub fn of(target: &Target<'_>, signer: &Signer) -> Self {
        Self {
            server: target.server,
            dialect: target.dialect.name().to_owned(),
            secret: signer.secret().to_owned(),
        }
    }

    /// Its dialect, by the name.
    pub fn dialect(&self) -> io::Result<Box<dyn Dialect>> {
        dialect::of_worker(&self.dialect)
            .ok_or_else(|| io::Error::other(format!("there is no dialect {}", self.dialect)))
    }

    /// Signs as the process that starts this one does.
    pub fn signer(&self) -> io::Result<Signer> {
        Signer::from_file(&self.secret)
    }

    /// As flags, with those of the task itself behind them.
    pub fn flags<const N: usize>(&self, own: [(&'static str, String); N]) -> Vec<String> {
        let contact = [
            ("--server", self.server.to_string()),
            ("--dialect", self.dialect.clone()),
            ("--secret", self.secret.display().to_string()),
        ];
        let flags = contact.into_iter().chain(own);
        flags
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }
}

/// What a worker would understand of its flags.
#[cfg(test)]
pub fn told<T: clap::Args>(flags: Vec<String>) -> T {
    let command = T::augment_args(clap::Command::new("worker").no_binary_name(true));
    let matches = command.try_get_matches_from(flags);
    T::from_arg_matches(&matches.expect("it knows them")).expect("it has them all")
}

#[cfg(test)]
impl Contact {
    /// One that nobody answers at.
    pub fn example() -> Self {
        Self {
            server: SocketAddr::from(([127, 0, 0, 1], 9001)),
            dialect: "tickwire-sbe".to_owned(),
            secret: "/x/secret".into(),
        }
    }
}

/// One of them, from outside; it ends with this value.
pub struct Worker(Option<Child>);

impl Worker {
    /// Starts this program again, with `command` and its flags.
    pub fn start(command: &str, flags: Vec<String>) -> io::Result<Self> {
        // They share a core with those who measure, who must find it free at any moment: a process
        // that is merely less important keeps it for some ms first.
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .arg(command)
            .args(flags)
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

/// What it says last.
pub fn report(outcome: &impl Serialize) -> io::Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}
