//! Server-Sent Events: the messages that subscribers otherwise get over WebSocket, as the data of
//! events.

use std::net::SocketAddr;

use super::{Dialect, Framing, Opening, Outlet, Reader, nchan::Nchan, tickwire::Tickwire};
use crate::{
    publisher::{Link, PublishError},
    ticks::Symbols,
};

/// tickwire's edge. Ticks are published to the engine behind it, on the port above.
pub(super) struct TickwireSse;

/// Nchan's `eventsource` subscribers.
pub(super) struct NchanSse;

impl Dialect for TickwireSse {
    fn name(&self) -> &'static str {
        "tickwire-sse"
    }

    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        Opening {
            path: format!("/v1/sse?snapshot=false&symbols={}", symbols.join(",")),
            headers: vec![("Authorization", format!("Bearer {token}"))],
            messages: [].into(),
        }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Tickwire::of_peers().reader()
    }

    fn publisher(
        &self,
        edge: SocketAddr,
        symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        let engine = SocketAddr::new(edge.ip(), edge.port() + 1);
        Tickwire::of_peers().publisher(engine, symbols, token)
    }
}

impl Dialect for NchanSse {
    fn name(&self) -> &'static str {
        "nchan-sse"
    }

    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        Opening {
            path: format!("/sse?id={}", symbols.join(",")),
            ..Nchan.opening(symbols, token)
        }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Nchan.reader()
    }

    fn publisher(
        &self,
        server: SocketAddr,
        symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        Nchan.publisher(server, symbols, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::{Channel, Event, Tick},
        event_stream::first_event,
        frame::Opcode,
    };

    /// What a subscriber of `dialect` makes of a body.
    fn events(dialect: &dyn Dialect, body: &str) -> Vec<Event> {
        let symbols = Symbols::new(vec!["A".into(), "B".into()]);
        let mut reader = dialect.reader();
        let mut events = Vec::new();
        let mut rest = body.as_bytes();
        while let Some((frame, bytes)) = first_event(rest).unwrap() {
            if frame.opcode == Opcode::Text {
                let mut each = |event| {
                    events.push(event);
                    Ok(())
                };
                reader
                    .take(frame.opcode, frame.payload, &symbols, &mut each)
                    .unwrap();
            }
            rest = &rest[bytes..];
        }
        events
    }

    fn tick(symbol: u32, seq: u64) -> Event {
        Event::Tick(Tick {
            channel: Channel::Trade,
            symbol: Some(symbol),
            epoch: 7,
            seq,
            ts_us: 5,
            skipped: 0,
            accounted: true,
        })
    }

    #[test]
    fn an_edges_events_are_accounted_as_messages_are() {
        let body = r#"retry: 1500

event: ack
data: {"type":"ack","op":"subscribe","symbols":["B"],"rejected":[]}

event: feed
data: {"type":"feed","symbol":"B","state":"live"}

event: start
data: {"type":"start","symbol":"B","epoch":7,"trade":41}

event: trade
data: {"type":"trade","symbol":"B","epoch":7,"seq":42,"ts":5,"price":"1"}

id: 1.2.3

:

event: gap
data: {"type":"gap","symbol":"B","channel":"quote","epoch":7,"from":1,"to":2,"reason":"source"}

"#;
        let expected = [
            Event::Start(Some(1), 7, [Some(41), None]),
            tick(1, 42),
            Event::Gap((Some(1), Channel::Quote, 7), Some(1), Some(2)),
        ];
        assert_eq!(events(&TickwireSse, body), expected);
    }

    #[test]
    fn a_symbol_that_an_edge_refuses_is_told() {
        let body = "event: ack\ndata: {\"type\":\"ack\",\"op\":\"subscribe\",\
                    \"rejected\":[{\"symbol\":\"X\",\"code\":\"not_entitled\"}]}\n\n";
        let seen = events(&TickwireSse, body);
        assert!(matches!(&seen[..], [Event::Refused(_)]), "{seen:?}");
    }

    #[test]
    fn nchans_events_are_ticks_behind_an_id_and_pings_are_none() {
        let tick_of = |seq| {
            let object = r#"{"type":"trade","symbol":"A","epoch":7,"#;
            format!("id: 1763776800:{seq}\ndata: {object}\"seq\":{seq},\"ts\":5}}\n\n")
        };
        let body = format!(": hi\n\n{}event: ping\n\n{}", tick_of(1), tick_of(2));
        assert_eq!(events(&NchanSse, &body), [tick(0, 1), tick(0, 2)]);
    }

    #[test]
    fn symbols_stand_in_the_query() {
        let edge = TickwireSse.opening(&["A", "B"], "t");
        assert_eq!(edge.path, "/v1/sse?snapshot=false&symbols=A,B");
        let nchan = NchanSse.opening(&["A", "B"], "t");
        assert_eq!(nchan.path, "/sse?id=A,B");
        for opening in [edge, nchan] {
            let token = ("Authorization", "Bearer t".to_owned());
            assert_eq!(opening.headers, [token]);
            assert!(opening.messages.is_empty());
        }
    }
}
