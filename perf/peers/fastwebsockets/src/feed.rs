//! Who hears a symbol: a queue per connection, and a list of queues per symbol.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Ticks that a connection may lag behind before it loses some.
pub const LAG_MAX: usize = 65_536;

/// Where publishers and subscribers meet.
#[derive(Default)]
pub struct Feed {
    listeners: Mutex<FxHashMap<Box<str>, Vec<mpsc::Sender<Bytes>>>>,
}

#[derive(Deserialize)]
struct Tick<'a> {
    symbol: &'a str,
}

impl Feed {
    /// Sends ticks of `symbol` to `queue` from now on.
    pub fn listen(&self, symbol: &str, queue: &mpsc::Sender<Bytes>) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let queues = listeners.entry(symbol.into()).or_default();
        if !queues.iter().any(|known| known.same_channel(queue)) {
            queues.push(queue.clone());
        }
    }

    /// Passes a tick object on to those who hear its symbol; `false` if it is none.
    pub fn publish(&self, object: &Bytes) -> bool {
        let Ok(tick) = serde_json::from_slice::<Tick>(object) else {
            return false;
        };
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = listeners.get_mut(tick.symbol) {
            // A full queue loses the tick, and the client sees the hole in the numbers. A closed
            // one belonged to a connection that has ended.
            queues.retain(|queue| {
                !matches!(queue.try_send(object.clone()), Err(TrySendError::Closed(_)))
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_reaches_those_who_hear_its_symbol_once() {
        let feed = Feed::default();
        let (queue, mut ticks) = mpsc::channel(LAG_MAX);
        feed.listen("A", &queue);
        feed.listen("A", &queue);
        let a = Bytes::from_static(br#"{"type":"trade","symbol":"A","seq":1}"#);
        assert!(feed.publish(&a));
        assert!(feed.publish(&Bytes::from_static(br#"{"symbol":"B"}"#)));
        assert!(!feed.publish(&Bytes::from_static(b"{}")));
        assert_eq!(ticks.try_recv(), Ok(a));
        assert!(ticks.try_recv().is_err());
    }
}
