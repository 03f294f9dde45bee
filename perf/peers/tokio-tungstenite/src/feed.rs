//! Numbering, and the channel that every connection listens to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, de::IgnoredAny};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Ticks that a connection may lag behind before it loses some.
const LAG_MAX: usize = 8_192;

/// One tick, encoded once; a receiver's clone is two reference counts.
#[derive(Clone)]
pub struct Tick {
    /// Decides who gets it.
    pub symbol: Arc<str>,
    /// The message as it goes out.
    pub text: Utf8Bytes,
}

/// Where publishers and subscribers meet.
pub struct Feed {
    epoch: u128,
    seqs: Mutex<HashMap<Arc<str>, Seqs>>,
    sender: broadcast::Sender<Tick>,
}

#[derive(Default)]
struct Seqs {
    trade: u64,
    quote: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    Trade,
    Quote,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(rename = "type")]
    channel: Channel,
    symbol: &'a str,
    epoch: Option<IgnoredAny>,
    seq: Option<IgnoredAny>,
}

impl Feed {
    /// An empty feed whose epoch is the current time, ms.
    pub fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (sender, _) = broadcast::channel(LAG_MAX);
        Self {
            epoch: now.as_millis(),
            seqs: Mutex::default(),
            sender,
        }
    }

    /// Hears every tick published from now on.
    pub fn listen(&self) -> broadcast::Receiver<Tick> {
        self.sender.subscribe()
    }

    /// Numbers one tick object and sends it to everyone; `false` if it is none.
    pub fn publish(&self, object: &str) -> bool {
        let object = object.trim();
        let Ok(identity) = serde_json::from_str::<Identity>(object) else {
            return false;
        };
        if identity.epoch.is_some() || identity.seq.is_some() {
            return false;
        }
        let mut seqs = self.seqs.lock().unwrap_or_else(PoisonError::into_inner);
        let (symbol, seq) = next(&mut seqs, &identity);
        // The object passes through as it came; only its number is put in front.
        let text = format!("{{\"epoch\":{},\"seq\":{seq},{}", self.epoch, &object[1..]);
        // Sent under the lock, so that the channel's order is the numbers' order. No receiver is
        // no error.
        let _ = self.sender.send(Tick {
            symbol,
            text: text.into(),
        });
        true
    }
}

fn next(seqs: &mut HashMap<Arc<str>, Seqs>, identity: &Identity) -> (Arc<str>, u64) {
    let symbol = seqs.get_key_value(identity.symbol).map_or_else(
        || Arc::from(identity.symbol),
        |(symbol, _)| Arc::clone(symbol),
    );
    let last = seqs.entry(Arc::clone(&symbol)).or_default();
    let seq = match identity.channel {
        Channel::Trade => &mut last.trade,
        Channel::Quote => &mut last.quote,
    };
    *seq += 1;
    (symbol, *seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_of_a_symbol_is_numbered_by_itself() {
        let feed = Feed::new();
        let mut ticks = feed.listen();
        for object in [
            r#"{"type":"trade","symbol":"A","price":"1"}"#,
            r#"{"type":"quote","symbol":"A","bid":"1"}"#,
            r#"{"type":"trade","symbol":"B"}"#,
            r#"{"type":"trade","symbol":"A"}"#,
        ] {
            assert!(feed.publish(object));
        }
        let seqs = [1, 1, 1, 2].map(|expected| {
            let text = ticks.try_recv().unwrap().text;
            let tick: serde_json::Value = serde_json::from_str(&text).unwrap();
            (tick["seq"].as_u64().unwrap(), expected)
        });
        assert!(
            seqs.iter().all(|(seq, expected)| seq == expected),
            "{seqs:?}"
        );
    }

    #[test]
    fn what_is_no_tick_is_refused() {
        let feed = Feed::new();
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"trade"}"#,
            r#"{"type":"trade","symbol":"A","seq":4}"#,
        ] {
            assert!(!feed.publish(bad), "{bad}");
        }
    }
}
