//! A subscriber's connection: requests in, ticks out.

use std::collections::HashSet;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{net::TcpStream, sync::broadcast::error::RecvError};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};

use crate::feed::{Feed, Tick};

/// Ticks written to one connection before it flushes and lets others run.
const BURST_MAX: usize = 64;

#[derive(Default)]
struct Subscriptions {
    all: bool,
    symbols: HashSet<String>,
}

#[derive(Deserialize)]
struct Subscribe {
    op: String,
    id: Option<u32>,
    symbols: Vec<String>,
}

/// Serves one subscriber until it goes.
pub async fn serve(mut socket: WebSocketStream<TcpStream>, feed: &Feed) -> Result<(), Error> {
    let mut subscriptions = Subscriptions::default();
    let mut ticks = feed.listen();
    loop {
        tokio::select! {
            // Requests and control frames are rare and never wait behind ticks; without `biased`
            // a random number is drawn per tick.
            biased;
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let reply = subscriptions.apply(&text);
                    socket.send(reply).await?;
                }
                // tungstenite answers pings and closes by itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            tick = ticks.recv() => match tick {
                Ok(first) => {
                    subscriptions.feed(&mut socket, first).await?;
                    // What has gathered meanwhile goes out in the same write.
                    for _ in 1..BURST_MAX {
                        let Ok(tick) = ticks.try_recv() else { break };
                        subscriptions.feed(&mut socket, tick).await?;
                    }
                    socket.flush().await?;
                }
                // The client sees the hole in the numbers.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

impl Subscriptions {
    async fn feed(&self, socket: &mut WebSocketStream<TcpStream>, tick: Tick) -> Result<(), Error> {
        if self.all || self.symbols.contains(&*tick.symbol) {
            socket.feed(Message::Text(tick.text)).await?;
        }
        Ok(())
    }

    fn apply(&mut self, text: &str) -> Message {
        let Ok(request) = serde_json::from_str::<Subscribe>(text) else {
            return error("bad_json", "not a request");
        };
        if request.op != "subscribe" {
            return error("unknown_op", "only subscribe is known here");
        }
        let ack = serde_json::json!({
            "type": "ack", "id": request.id, "op": "subscribe",
            "symbols": request.symbols, "rejected": [],
        });
        self.all |= request.symbols.iter().any(|symbol| symbol == "*");
        self.symbols.extend(request.symbols);
        Message::text(ack.to_string())
    }
}

fn error(code: &str, message: &str) -> Message {
    Message::text(
        serde_json::json!({"type": "error", "code": code, "message": message}).to_string(),
    )
}
