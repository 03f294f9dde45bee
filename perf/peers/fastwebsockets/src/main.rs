//! A fan-out server as one would write it with tokio and fastwebsockets alone: a task and a queue
//! per connection, each tick's bytes shared by all of them.
//!
//! `README.md` beside it says which settings and why, and what it leaves out.

#![forbid(unsafe_code)]

mod feed;
mod gate;
mod publisher;
mod requests;
mod subscriber;
mod upgrade;

use std::{
    error::Error, net::Ipv4Addr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::{feed::Feed, gate::Gate, upgrade::Service};

/// Command line.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Port on 127.0.0.1 to listen on.
    #[arg(long)]
    port: u16,
    /// File with the HS256 secret (trailing newline ignored).
    #[arg(long)]
    secret: PathBuf,
    /// Ignored: nothing is written.
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// Bytes of a subscriber's write buffer; 0 writes each frame on its own, as fastwebsockets does
    /// by itself.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    write_buffer: u32,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn Error>> {
    let secret = std::fs::read(&args.secret)
        .map_err(|error| format!("{}: {error}", args.secret.display()))?;
    let service = Arc::new(Service {
        gate: Gate::new(secret.trim_ascii_end()),
        feed: Feed::default(),
        write_buffer_bytes: args.write_buffer as usize,
    });
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(accept(args.port, service))
}

async fn accept(port: u16, service: Arc<Service>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(upgrade::serve(stream, Arc::clone(&service)));
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One file per connection: as many as the system allows.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where that is denied, fewer connections are accepted.
    let _ = setrlimit(Resource::Nofile, raised);
}
