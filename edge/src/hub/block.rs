//! What clients are told, encoded once for all who are told the same.

use std::sync::Arc;

use tickwire_proto::{
    cursor::EdgeCursor,
    json,
    reply::{Gap, Reply, Start},
    symbol::Symbol,
    tick::{Channel, Channels, FeedState, Identity, Marks, Tick},
};

/// A symbol of this edge, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SymbolId(pub u32);

/// One event of a symbol's account.
#[derive(Debug)]
pub struct Block {
    /// Its place in the history; what the engine replays for one client has none.
    pub position: Option<u64>,
    /// Whose account.
    pub symbol: SymbolId,
    /// Its name.
    pub name: Symbol,
    /// What happened.
    pub what: What,
    /// The same as one JSON object.
    pub json: Box<[u8]>,
}

/// What happened to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A trade or a quote.
    Tick(Channel, Identity),
    /// Ticks that will not come.
    Gap(Gap),
    /// An account opened, or another epoch's.
    Start(Start),
    /// Its sources came, or went.
    Feed(FeedState),
}

impl What {
    /// The name of the event in a stream.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Tick(channel, _) => channel.as_str(),
            Self::Gap(_) => "gap",
            Self::Start(_) => "start",
            Self::Feed(_) => "feed",
        }
    }

    /// Whether it concerns anyone who has `channels`.
    pub fn is_for(&self, channels: Channels) -> bool {
        match self {
            Self::Tick(channel, _) => channels.contains(*channel),
            Self::Gap(gap) => channels.contains(gap.channel),
            Self::Start(_) | Self::Feed(_) => true,
        }
    }
}

/// One thing in a client's queue.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event of the history.
    Shared(Arc<Block>),
    /// A tick before which `conflate` has left some out.
    Skipped(Arc<Block>, u32),
    /// What is told this client alone.
    Own {
        /// The event's name.
        event: &'static str,
        /// One JSON object.
        json: Box<[u8]>,
    },
    /// Up to where everything before it is accounted for.
    Cursor(EdgeCursor),
}

impl Item {
    /// A message that has no place in an account.
    pub fn reply(event: &'static str, reply: &Reply) -> Self {
        let mut json = Vec::with_capacity(128);
        reply.write_json(&mut json);
        Self::Own {
            event,
            json: json.into(),
        }
    }

    /// A tick with marks of its own.
    pub fn tick(tick: &Tick, marks: &Marks) -> Self {
        Self::Own {
            event: tick.values.channel().as_str(),
            json: tick_json(tick, marks),
        }
    }

    /// A gap of this client's own.
    pub fn gap(gap: &Gap) -> Self {
        Self::reply("gap", &Reply::Gap(*gap))
    }

    /// A `start` of the channels that the client has; `None` where it says nothing of them.
    pub fn start(start: &Start, channels: Channels) -> Option<Self> {
        let kept = |channel, seq: Option<u64>| seq.filter(|_| channels.contains(channel));
        let start = Start {
            trade: kept(Channel::Trade, start.trade),
            quote: kept(Channel::Quote, start.quote),
            replay: None,
            ..*start
        };
        let says_something = start.trade.is_some() || start.quote.is_some();
        says_something.then(|| Self::reply("start", &Reply::Start(start)))
    }

    /// A symbol's feed state.
    pub fn feed(symbol: Symbol, state: FeedState) -> Self {
        Self::reply("feed", &Reply::Feed { symbol, state })
    }

    /// The end of a stream, and when to come back.
    pub fn goodbye(reason: &str, reconnect_after_ms: Option<u64>) -> Self {
        let goodbye = Reply::Goodbye {
            reason: reason.to_owned(),
            reconnect_after_ms,
        };
        Self::reply("goodbye", &goodbye)
    }

    /// Bytes that only this client's queue keeps.
    pub fn own_bytes(&self) -> usize {
        match self {
            Self::Own { json, .. } => json.len(),
            _ => 0,
        }
    }

    /// How many ticks it brings.
    pub fn ticks(&self) -> u64 {
        match self {
            Self::Shared(block) | Self::Skipped(block, _) => {
                u64::from(matches!(block.what, What::Tick(..)))
            }
            Self::Own { event, .. } => u64::from(*event == "trade" || *event == "quote"),
            Self::Cursor(_) => 0,
        }
    }

    /// Appends it as a block of an event stream
    /// (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>).
    pub fn write_sse(&self, out: &mut Vec<u8>) {
        let event = match self {
            Self::Shared(block) | Self::Skipped(block, _) => block.what.event(),
            Self::Own { event, .. } => event,
            Self::Cursor(cursor) => {
                out.extend_from_slice(format!("id: {cursor}\n\n").as_bytes());
                return;
            }
        };
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        self.write_json(out);
        out.extend_from_slice(b"\n\n");
    }

    /// Appends it as one JSON object; nothing for a cursor.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Shared(block) => out.extend_from_slice(&block.json),
            Self::Skipped(block, skipped) => {
                // It is a tick's last field.
                out.extend_from_slice(&block.json[..block.json.len() - 1]);
                out.extend_from_slice(format!(",\"skipped\":{skipped}}}").as_bytes());
            }
            Self::Own { json, .. } => out.extend_from_slice(json),
            Self::Cursor(_) => {}
        }
    }
}

/// A tick as JSON.
pub fn tick_json(tick: &Tick, marks: &Marks) -> Box<[u8]> {
    let mut text = Vec::with_capacity(256);
    json::write_tick(&mut text, tick, marks);
    text.into()
}

#[cfg(test)]
mod tests {
    use tickwire_proto::{cursor::Cursor, price::Decimal, tick::Values};

    use super::*;

    fn block() -> Arc<Block> {
        let tick = Tick {
            symbol: Symbol::parse("A").unwrap(),
            identity: Identity { epoch: 1, seq: 2 },
            ts_ns: 3_000,
            values: Values::trade(Decimal::parse("1.5").unwrap(), None, None).unwrap(),
        };
        Arc::new(Block {
            position: Some(0),
            symbol: SymbolId(0),
            name: tick.symbol,
            what: What::Tick(Channel::Trade, tick.identity),
            json: tick_json(&tick, &Marks::default()),
        })
    }

    fn sse(item: &Item) -> String {
        let mut out = Vec::new();
        item.write_sse(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_a_name_and_one_line_of_data() {
        let json = r#"{"type":"trade","symbol":"A","epoch":1,"seq":2,"ts":3,"price":"1.5""#;
        assert_eq!(
            sse(&Item::Shared(block())),
            format!("event: trade\ndata: {json}}}\n\n")
        );
        assert_eq!(
            sse(&Item::Skipped(block(), 7)),
            format!("event: trade\ndata: {json},\"skipped\":7}}\n\n")
        );
        assert_eq!(
            sse(&Item::goodbye("draining", Some(5))),
            "event: goodbye\ndata: {\"type\":\"goodbye\",\"reason\":\"draining\",\"reconnect_after_ms\":5}\n\n"
        );
    }

    #[test]
    fn a_cursor_is_an_id_without_data() {
        let engine = Cursor {
            tape: 1,
            position: 2,
            admitted_ns: 3,
        };
        let cursor = EdgeCursor { engine, own: None };
        assert_eq!(sse(&Item::Cursor(cursor)), format!("id: {cursor}\n\n"));
    }

    #[test]
    fn a_start_names_the_clients_channels_only() {
        let start = Start {
            symbol: Symbol::parse("A").unwrap(),
            epoch: 1,
            trade: Some(4),
            quote: None,
            replay: Some(9),
        };
        let text = |channels| Item::start(&start, channels).map(|item| sse(&item));
        assert_eq!(
            text(Channels::BOTH).unwrap(),
            "event: start\ndata: {\"type\":\"start\",\"symbol\":\"A\",\"epoch\":1,\"trade\":4}\n\n"
        );
        assert_eq!(text(Channel::Quote.into()), None);
    }
}
