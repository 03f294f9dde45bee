//! A publisher's connection: ticks in, an ack for each `flush`.

use std::pin::pin;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{feed::Feed, requests};

#[derive(Default)]
struct Counts {
    accepted: u64,
    rejected: u64,
    messages: u64,
}

#[derive(Deserialize)]
struct Flush {
    op: String,
    id: Option<u32>,
}

/// Reads ticks until the publisher goes.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocket<S>,
    feed: &Feed,
) -> Result<(), WebSocketError> {
    let (read, mut write) = socket.split(tokio::io::split);
    let mut requests = pin!(requests::of(read));
    let mut counts = Counts::default();
    while let Some(request) = requests.next().await {
        let request = request?;
        match request.opcode {
            OpCode::Text => {
                if let Some(ack) = counts.take(&request.payload, feed) {
                    let frame = Frame::text(Payload::Owned(ack.into_bytes()));
                    write.write_frame(frame).await?;
                }
            }
            opcode => {
                if let Some(answer) = requests::answer(&request) {
                    write.write_frame(answer).await?;
                }
                if opcode == OpCode::Close {
                    break;
                }
            }
        }
    }
    Ok(())
}

impl Counts {
    /// Takes a message, and returns what it is to be answered with.
    fn take(&mut self, message: &Bytes, feed: &Feed) -> Option<String> {
        if message.starts_with(b"[") {
            self.messages += 1;
            match serde_json::from_slice::<Vec<&RawValue>>(message) {
                Ok(ticks) => {
                    for tick in ticks {
                        // Part of the message's bytes, not a copy.
                        let object = message.slice_ref(tick.get().as_bytes());
                        self.count(feed.publish(&object));
                    }
                }
                Err(_) => self.rejected += 1,
            }
            return None;
        }
        match serde_json::from_slice::<Flush>(message) {
            Ok(flush) if flush.op == "flush" => Some(self.ack(flush.id)),
            _ => {
                self.messages += 1;
                self.count(feed.publish(message));
                None
            }
        }
    }

    fn count(&mut self, accepted: bool) {
        if accepted {
            self.accepted += 1;
        } else {
            self.rejected += 1;
        }
    }

    fn ack(&self, id: Option<u32>) -> String {
        let ack = serde_json::json!({
            "type": "ack", "id": id, "accepted": self.accepted, "rejected": self.rejected,
            "duplicates": 0, "messages": self.messages,
        });
        ack.to_string()
    }
}
