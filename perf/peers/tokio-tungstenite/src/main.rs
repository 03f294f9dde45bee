//! A broadcast server as one would write it with tokio and tokio-tungstenite alone: a task per
//! connection, one `tokio::sync::broadcast` channel, each tick's text shared by all of them.
//!
//! It takes the tokens, the `subscribe` text and the tick objects of tickwire's protocol, so that
//! one load generator drives both. `README.md` beside it says what it leaves out.

mod feed;
mod publisher;
mod subscriber;
mod upgrade;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{accept_hdr_async_with_config, tungstenite::protocol::WebSocketConfig};

use crate::{
    feed::Feed,
    upgrade::{Gate, Role},
};

/// Command line.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// The port of 127.0.0.1 to listen on.
    #[arg(long)]
    port: u16,
    /// File with the HS256 secret (trailing newline ignored).
    #[arg(long)]
    secret: PathBuf,
    /// Scratch; not needed here.
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// Worker threads; 1 runs tokio's current-thread runtime, which costs least on one core.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Bytes of tungstenite's read buffer per connection; its own default is 131072.
    #[arg(long, default_value_t = 128 * 1024, value_parser = clap::value_parser!(u32).range(512..=1 << 24))]
    read_buffer: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::fs::read(&args.secret)
        .map_err(|error| format!("{}: {error}", args.secret.display()))?;
    let gate = Arc::new(Gate::new(secret.trim_ascii_end()));
    let runtime = if args.workers == 1 {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(usize::from(args.workers))
            .enable_all()
            .build()?
    };
    let config = WebSocketConfig::default().read_buffer_size(args.read_buffer as usize);
    runtime.block_on(accept(
        SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        gate,
        config,
    ))
}

async fn accept(
    listen: SocketAddr,
    gate: Arc<Gate>,
    config: WebSocketConfig,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("{listen}: {error}"))?;
    let feed = Arc::new(Feed::new());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&gate), Arc::clone(&feed), config));
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                eprintln!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, gate: Arc<Gate>, feed: Arc<Feed>, config: WebSocketConfig) {
    // A failing option means a socket that is gone; the handshake reports it.
    let _ = stream.set_nodelay(true);
    let mut role = None;
    let upgraded =
        accept_hdr_async_with_config(stream, gate.callback(&mut role), Some(config)).await;
    let Ok(socket) = upgraded else { return };
    // However a connection ends, it is over: its task goes and the socket with it.
    let _ = match role {
        Some(Role::Subscriber) => subscriber::serve(socket, &feed).await,
        Some(Role::Publisher) => publisher::serve(socket, &feed).await,
        None => Ok(()),
    };
}
