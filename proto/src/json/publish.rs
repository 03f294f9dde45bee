//! Publishers' ticks: the only JSON that comes in by the million, so it is parsed by SIMD into
//! buffers that are used again.

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::publish_tick;
use crate::{code::ErrorCode, tick::PublishedTick};

/// The deepest nesting of a message. A tick in an array is two levels; the rest is room for fields
/// of the source's own, which are ignored.
const DEPTH_MAX: usize = 32;

/// What a text message of a publisher was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Ticks, good and bad, each of which was handed out.
    Ticks {
        /// How many, good and bad.
        count: u32,
    },
    /// An object with `op`: to be read by [`crate::request::Request::from_json`] from the same text.
    Request,
}

/// Why a tick, or a whole message, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TickError {
    /// The code on the wire.
    pub code: ErrorCode,
    /// A sentence for humans that names the field and the allowed range.
    pub message: &'static str,
    /// The tick's `symbol` as it was written, cut to 64 bytes; `None` where it is no string.
    pub symbol: Option<String>,
}

/// Reads publishers' text messages; one serves any number of connections.
///
/// Holds a copy of the last message and an index of it, up to some 40 bytes per byte of the
/// longest message.
pub struct PublishParser {
    /// The message, padded: simd-json reads past the end, and undoes escapes in place, which
    /// leaves the caller's text as it was.
    input: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for PublishParser {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            buffers: Buffers::with_max_depth(0, DEPTH_MAX),
            tape: Tape::null(),
        }
    }
}

impl PublishParser {
    /// Reads one text message: a tick, an array of ticks, or a request.
    ///
    /// `each` gets every tick with its index in the message, from 0, in order. A field that stands
    /// twice counts as it stands last; `null` counts as absent. Whether a message is a request is
    /// decided after all of it was parsed, by the keys of the outermost object alone.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::BadJson`] for a message that is no JSON, is nested deeper than 32 levels, or is
    /// neither an object nor an array; `each` has not been called then.
    pub fn parse(
        &mut self,
        message: &[u8],
        mut each: impl FnMut(u32, Result<PublishedTick, TickError>),
    ) -> Result<Message, TickError> {
        self.input.clear();
        self.input.extend_from_slice(message);
        self.input.resize(message.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape_padded(
            &mut self.input,
            message.len(),
            &mut self.buffers,
            &mut tape,
        );
        let outcome = match parsed {
            Ok(()) => take_message(&tape.0, &mut each),
            Err(_) => Err(whole("the message is not JSON")),
        };
        self.tape = tape.reset();
        outcome
    }
}

fn whole(message: &'static str) -> TickError {
    TickError {
        code: ErrorCode::BadJson,
        message,
        symbol: None,
    }
}

fn take_message(
    nodes: &[Node<'_>],
    each: &mut impl FnMut(u32, Result<PublishedTick, TickError>),
) -> Result<Message, TickError> {
    match nodes.first() {
        Some(Node::Object { .. }) => {
            if entries(nodes).any(|(name, _)| name == "op") {
                return Ok(Message::Request);
            }
            each(0, publish_tick::read(nodes));
            Ok(Message::Ticks { count: 1 })
        }
        Some(Node::Array { .. }) => {
            let mut count = 0;
            let mut rest = &nodes[1..];
            while !rest.is_empty() {
                let (item, behind) = rest.split_at(node_count(rest));
                each(count, publish_tick::read(item));
                count += 1;
                rest = behind;
            }
            Ok(Message::Ticks { count })
        }
        _ => Err(whole(
            "the message is neither a tick nor an array of ticks nor a request",
        )),
    }
}

/// The names and values of the object that `nodes` begins with; a value is given by its first node.
pub(super) fn entries<'n, 'de>(
    nodes: &'n [Node<'de>],
) -> impl Iterator<Item = (&'de str, Node<'de>)> + use<'n, 'de> {
    let mut rest = &nodes[1..node_count(nodes)];
    std::iter::from_fn(move || {
        let (Some(Node::String(name)), Some(value)) = (rest.first(), rest.get(1)) else {
            return None;
        };
        rest = &rest[1 + node_count(&rest[1..])..];
        Some((*name, *value))
    })
}

/// How many nodes the value at the start of `nodes` takes, itself included.
fn node_count(nodes: &[Node<'_>]) -> usize {
    match nodes[0] {
        Node::Object { count, .. } | Node::Array { count, .. } => 1 + count,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// Whether a field says nothing.
pub(super) fn is_null(node: Node<'_>) -> bool {
    node == Node::Static(StaticNode::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(
        text: &str,
    ) -> (
        Result<Message, TickError>,
        Vec<Result<PublishedTick, TickError>>,
    ) {
        let mut ticks = Vec::new();
        let message = PublishParser::default().parse(text.as_bytes(), |index, tick| {
            assert_eq!(index as usize, ticks.len());
            ticks.push(tick);
        });
        (message, ticks)
    }

    const TRADE: &str = r#"{"type":"trade","symbol":"A","price":"1.5"}"#;

    #[test]
    fn one_tick_or_an_array_of_them() {
        let (message, ticks) = outcome(TRADE);
        assert_eq!(message, Ok(Message::Ticks { count: 1 }));
        assert!(ticks[0].is_ok());
        let (message, ticks) = outcome(&format!(
            "[{TRADE}, 7, [{TRADE}], {{\"x\":{{\"y\":[1]}}}}, {TRADE}]"
        ));
        assert_eq!(message, Ok(Message::Ticks { count: 5 }));
        let codes: Vec<_> = ticks
            .iter()
            .map(|tick| tick.as_ref().err().map(|error| error.code))
            .collect();
        let bad = Some(ErrorCode::BadTick);
        assert_eq!(codes, [None, bad, bad, bad, None]);
        assert_eq!(outcome("[]"), (Ok(Message::Ticks { count: 0 }), Vec::new()));
    }

    #[test]
    fn only_an_op_of_the_outermost_object_makes_a_request() {
        for request in [
            r#"{"op":"flush"}"#,
            r#"{"a":{"b":[1,{}]},"\u006fp":7}"#,
            r#"{"type":"trade","op":null}"#,
        ] {
            assert_eq!(
                outcome(request),
                (Ok(Message::Request), Vec::new()),
                "{request}"
            );
        }
        let nested =
            r#"{"type":"trade","symbol":"A","price":"1","x":{"op":"flush"},"y":["op"],"z":"op"}"#;
        let (message, ticks) = outcome(nested);
        assert_eq!(message, Ok(Message::Ticks { count: 1 }));
        assert!(ticks[0].is_ok());
    }

    #[test]
    fn a_message_that_is_no_json_is_refused_whole() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let broken = format!("[{TRADE},{{]");
        for text in [
            "",
            " ",
            "{",
            "nonsense",
            "7",
            "null",
            "\"x\"",
            "[1,]",
            &format!("{TRADE}{TRADE}"),
            &broken,
            &deep,
        ] {
            let (message, ticks) = outcome(text);
            assert_eq!(message.unwrap_err().code, ErrorCode::BadJson, "{text}");
            assert_eq!(ticks, []);
        }
    }

    #[test]
    fn a_parser_forgets_the_message_before() {
        let mut parser = PublishParser::default();
        for (text, count) in [
            (format!("[{TRADE},{TRADE},{TRADE}]"), 3),
            ("[]".to_owned(), 0),
            (TRADE.to_owned(), 1),
        ] {
            assert_eq!(
                parser.parse(text.as_bytes(), |_, _| {}),
                Ok(Message::Ticks { count })
            );
            assert!(parser.parse(b"{", |_, _| {}).is_err());
        }
    }
}
