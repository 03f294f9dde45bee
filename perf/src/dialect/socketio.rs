//! Socket.IO 4 over Engine.IO 4, WebSocket only
//! (<https://socket.io/docs/v4/socket-io-protocol/>).

use std::net::SocketAddr;

use super::{Dialect, Event, LostReason, Opening, Outlet, Reader, Replies, json, not_a_message};
use crate::{
    frame::{Opcode, each_frame, masked, write_masked},
    publisher::{Link, PublishError},
    ticks::{Batch, Symbols},
};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
/// An event's packet in front of the tick object, and behind it.
const TICK: (&[u8], &[u8]) = (br#"42["tick","#, b"]");

/// The dialect.
pub(super) struct SocketIo;

struct Subscription;

struct Publish;

impl Dialect for SocketIo {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        let subscribe = serde_json::json!(["subscribe", {"symbols": symbols}]);
        let subscribe = format!("421{subscribe}");
        Opening {
            path: PATH.to_owned(),
            headers: Vec::new(),
            // The first goes once the upgrade is done: Engine.IO's `0{…}` is on its way then, and
            // needs no answer but this one.
            messages: [
                masked(Opcode::Text, connect(token).as_bytes()),
                masked(Opcode::Text, subscribe.as_bytes()),
            ]
            .into(),
        }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Subscription)
    }

    fn publisher(
        &self,
        server: SocketAddr,
        _symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        let mut link = Link::upgraded(server, PATH, &[])?;
        link.send(&masked(Opcode::Text, connect(token).as_bytes()))?;
        // An outlet of its own awaits the answer; its packet counts as the flush.
        let mut outlet: Box<dyn Outlet> = Box::new(Publish);
        link.await_reply(outlet.as_mut())?;
        Ok((link, outlet))
    }
}

fn connect(token: &str) -> String {
    format!("40{}", serde_json::json!({"token": token}))
}

impl Reader for Subscription {
    fn take(
        &mut self,
        _opcode: Opcode,
        packet: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason> {
        let object = packet
            .strip_prefix(TICK.0)
            .and_then(|packet| packet.strip_suffix(TICK.1));
        if let Some(tick) = object.and_then(|object| json::tick(object, symbols)) {
            return each(Event::Tick(tick));
        }
        match packet {
            [b'2'] => each(Event::Answer(masked(Opcode::Text, b"3"))),
            [b'4', b'0', ..] => each(Event::Next),
            [b'4', b'3', b'1', ..] => {
                let text = String::from_utf8_lossy(&packet[3..]);
                if text.contains("error") {
                    each(Event::Refused(text.into_owned()))
                } else {
                    each(Event::Live)
                }
            }
            [b'4', b'4', rest @ ..] => {
                each(Event::Refused(String::from_utf8_lossy(rest).into_owned()))
            }
            // Opening, noop and other events.
            [b'0' | b'6', ..] | [b'4', b'2', ..] => Ok(()),
            _ => Err(not_a_message(packet)),
        }
    }
}

impl Outlet for Publish {
    fn publish(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let mut text = br#"42["publish",["#.to_vec();
        batch.write_list(&mut text);
        text.extend_from_slice(b"]]");
        write_masked(out, Opcode::Text, &text);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        write_masked(out, Opcode::Text, br#"422["flush"]"#);
    }

    fn read(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, PublishError> {
        each_frame(bytes, |frame| {
            match frame.opcode {
                Opcode::Text => take_reply(frame.payload, replies),
                Opcode::Ping => replies.answer.extend(masked(Opcode::Pong, frame.payload)),
                Opcode::Close => return Err(PublishError::closed(frame.payload)),
                Opcode::Binary | Opcode::Pong => {}
            }
            Ok(())
        })
    }
}

fn take_reply(packet: &[u8], replies: &mut Replies) {
    match packet {
        [b'2'] => replies.answer.extend(masked(Opcode::Text, b"3")),
        [b'4', b'0', ..] => replies.flushed += 1,
        [b'4', b'3', b'2', answer @ ..] => {
            replies.flushed += 1;
            let counts = serde_json::from_slice::<serde_json::Value>(answer).unwrap_or_default();
            replies.accepted = counts[0]["accepted"].as_u64().unwrap_or_default();
        }
        [b'4', b'4', error @ ..] => {
            let error = String::from_utf8_lossy(error).into_owned();
            replies.first_error.get_or_insert(error);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(packets: &[&str]) -> Vec<Event> {
        let symbols = Symbols::numbered(2);
        let mut events = Vec::new();
        for packet in packets {
            let mut each = |event| {
                events.push(event);
                Ok(())
            };
            let mut reader = Subscription;
            reader
                .take(Opcode::Text, packet.as_bytes(), &symbols, &mut each)
                .unwrap();
        }
        events
    }

    #[test]
    fn a_subscription_goes_step_by_step() {
        let seen = events(&[
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#,
            r#"40{"sid":"y"}"#,
            r#"431[{"ok":true}]"#,
            "2",
            r#"42["tick",{"type":"trade","symbol":"S0001","epoch":1,"seq":3,"ts":5}]"#,
        ]);
        assert_eq!(seen[..2], [Event::Next, Event::Live]);
        assert_eq!(seen[2], Event::Answer(masked(Opcode::Text, b"3")));
        let Event::Tick(tick) = &seen[3] else {
            panic!("{seen:?}")
        };
        assert_eq!((tick.symbol, tick.seq, tick.ts_us), (Some(1), 3, 5));
        assert_eq!(SocketIo.opening(&["S0001"], "t").messages.len(), 2);
    }

    #[test]
    fn refusals_are_told() {
        let seen = events(&[r#"44{"message":"unauthorized"}"#, r#"431[{"error":"no"}]"#]);
        assert!(
            seen.iter().all(|event| matches!(event, Event::Refused(_))),
            "{seen:?}"
        );
    }

    #[test]
    fn a_flush_is_answered_with_what_was_taken() {
        let text = r#"432[{"accepted":12}]"#;
        let bytes = [&[0x81, text.len() as u8], text.as_bytes(), &[0x81, 1, b'2']].concat();
        let mut replies = Replies::default();
        assert_eq!(Publish.read(&bytes, &mut replies).unwrap(), bytes.len());
        assert_eq!((replies.accepted, replies.flushed), (12, 1));
        assert_eq!(replies.answer, masked(Opcode::Text, b"3"));
    }
}
