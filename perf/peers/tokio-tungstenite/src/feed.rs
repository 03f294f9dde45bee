//! The channel that every connection listens to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;
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
    /// Names that were published, to share them.
    symbols: Mutex<HashMap<Box<str>, Arc<str>>>,
    sender: broadcast::Sender<Tick>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    Trade,
    Quote,
}

/// What a tick needs to be passed on. Its numbers are the publisher's.
#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(rename = "type")]
    _channel: Channel,
    symbol: &'a str,
    #[serde(rename = "epoch")]
    _epoch: u64,
    #[serde(rename = "seq")]
    _seq: u64,
}

impl Feed {
    /// An empty feed.
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(LAG_MAX);
        Self {
            symbols: Mutex::default(),
            sender,
        }
    }

    /// Hears every tick published from now on.
    pub fn listen(&self) -> broadcast::Receiver<Tick> {
        self.sender.subscribe()
    }

    /// Sends one tick object to everyone as it came; `false` if it is none.
    pub fn publish(&self, object: &str) -> bool {
        let object = object.trim();
        let Ok(identity) = serde_json::from_str::<Identity>(object) else {
            return false;
        };
        // No receiver is no error.
        let _ = self.sender.send(Tick {
            symbol: self.shared(identity.symbol),
            text: object.into(),
        });
        true
    }

    fn shared(&self, symbol: &str) -> Arc<str> {
        let mut symbols = self.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = symbols.get(symbol) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = symbol.into();
        symbols.insert(symbol.into(), Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_passes_through_as_it_came() {
        let feed = Feed::new();
        let mut ticks = feed.listen();
        let object = r#"{"type":"trade","symbol":"A","epoch":7,"seq":42,"ts":5,"price":"1"}"#;
        assert!(feed.publish(&format!(" {object}")));
        let tick = ticks.try_recv().unwrap();
        assert_eq!((&*tick.symbol, &*tick.text), ("A", object));
    }

    #[test]
    fn what_is_no_numbered_tick_is_refused() {
        let feed = Feed::new();
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"trade","epoch":1,"seq":4}"#,
            r#"{"type":"trade","symbol":"A"}"#,
            r#"{"type":"candle","symbol":"A","epoch":1,"seq":4}"#,
        ] {
            assert!(!feed.publish(bad), "{bad}");
        }
    }
}
