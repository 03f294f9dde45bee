//! A publisher's connection: ticks in, an ack for each `flush`.

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};

use crate::feed::Feed;

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
pub async fn serve(mut socket: WebSocketStream<TcpStream>, feed: &Feed) -> Result<(), Error> {
    let mut counts = Counts::default();
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        match serde_json::from_str::<Flush>(&text) {
            Ok(flush) if flush.op == "flush" => socket.send(counts.ack(flush.id)).await?,
            _ => counts.take(&text, feed),
        }
    }
    Ok(())
}

impl Counts {
    fn take(&mut self, text: &str, feed: &Feed) {
        self.messages += 1;
        if !text.trim_start().starts_with('[') {
            return self.count(feed.publish(text));
        }
        match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(ticks) => ticks
                .iter()
                .for_each(|tick| self.count(feed.publish(tick.get()))),
            Err(_) => self.rejected += 1,
        }
    }

    fn count(&mut self, accepted: bool) {
        if accepted {
            self.accepted += 1;
        } else {
            self.rejected += 1;
        }
    }

    fn ack(&self, id: Option<u32>) -> Message {
        let ack = serde_json::json!({
            "type": "ack", "id": id, "accepted": self.accepted, "rejected": self.rejected,
            "duplicates": 0, "messages": self.messages,
        });
        Message::text(ack.to_string())
    }
}
