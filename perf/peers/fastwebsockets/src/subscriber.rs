//! A subscriber's connection: requests in, ticks out.

use std::pin::pin;

use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError, WebSocketWrite};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter},
    sync::mpsc,
};

use crate::{
    feed::{Feed, LAG_MAX},
    requests::{self, Request},
};

/// Ticks taken from the queue at once.
const BURST_MAX: usize = 64;

#[derive(Deserialize)]
struct Subscribe {
    op: String,
    id: Option<u32>,
    symbols: Vec<String>,
}

/// Serves one subscriber until it goes.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocket<S>,
    feed: &Feed,
    write_buffer_bytes: usize,
) -> Result<(), WebSocketError> {
    // A buffer of 0 bytes passes everything through.
    let (read, mut write) = socket.split(|stream| {
        let (read, write) = tokio::io::split(stream);
        (read, BufWriter::with_capacity(write_buffer_bytes, write))
    });
    let mut requests = pin!(requests::of(read));
    let (queue, mut ticks) = mpsc::channel(LAG_MAX);
    let mut burst = Vec::new();
    loop {
        tokio::select! {
            // Requests are rare and never wait behind ticks; without `biased` a random number is
            // drawn per tick.
            biased;
            request = requests.next() => match request {
                None => return Ok(()),
                Some(request) => {
                    let request = request?;
                    if let Some(subscribe) = subscription(&request) {
                        // Before the subscriptions, so that no tick overtakes the ack.
                        acknowledge(&mut write, &subscribe).await?;
                        for symbol in &subscribe.symbols {
                            feed.listen(symbol, &queue);
                        }
                    } else if let Some(answer) = requests::answer(&request) {
                        write.write_frame(answer).await?;
                        write.flush().await?;
                    }
                    if request.opcode == OpCode::Close {
                        return Ok(());
                    }
                }
            },
            _ = ticks.recv_many(&mut burst, BURST_MAX) => {
                for tick in &burst {
                    write.write_frame(Frame::text(Payload::Borrowed(tick))).await?;
                }
                burst.clear();
                write.flush().await?;
            },
        }
    }
}

fn subscription(request: &Request) -> Option<Subscribe> {
    if request.opcode != OpCode::Text {
        return None;
    }
    let subscribe: Subscribe = serde_json::from_slice(&request.payload).ok()?;
    (subscribe.op == "subscribe").then_some(subscribe)
}

async fn acknowledge<S: AsyncWrite + Unpin>(
    write: &mut WebSocketWrite<S>,
    subscribe: &Subscribe,
) -> Result<(), WebSocketError> {
    let ack = serde_json::json!({
        "type": "ack", "id": subscribe.id, "op": "subscribe",
        "symbols": subscribe.symbols, "rejected": [],
    });
    let frame = Frame::text(Payload::Owned(ack.to_string().into_bytes()));
    write.write_frame(frame).await?;
    write.flush().await
}
