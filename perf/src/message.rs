//! What servers say: ticks by a scan of their own, everything else by `serde_json`.
//!
//! The load generator reads 100,000 ticks a second on one core beside the publisher, and needs
//! but five fields of each.

use serde::Deserialize;

/// Which of a symbol's two numberings a tick belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Trades.
    Trade = 0,
    /// Quotes.
    Quote = 1,
}

/// What counts of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick<'a> {
    /// Its channel.
    pub channel: Channel,
    /// Its symbol.
    pub symbol: &'a [u8],
    /// The source's epoch.
    pub epoch: u64,
    /// Its number in symbol, channel and epoch.
    pub seq: u64,
    /// When the source meant it to happen, µs since 1970 UTC.
    pub ts_us: u64,
    /// Ticks that conflation left out before it.
    pub skipped: u64,
    /// Snapshots and replays stand outside the account.
    pub accounted: bool,
}

/// Messages other than ticks.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Control {
    /// Opens an account.
    Start {
        /// The symbol.
        symbol: String,
        /// The epoch of both seqs.
        epoch: u64,
        /// Last trade not covered.
        trade: Option<u64>,
        /// Last quote not covered.
        quote: Option<u64>,
    },
    /// Ticks that will not come.
    Gap {
        /// The symbol.
        symbol: String,
        /// The channel.
        channel: Channel,
        /// The epoch.
        epoch: u64,
        /// First missing; absent where unknown.
        from: Option<u64>,
        /// Last missing; absent where an older epoch ends.
        to: Option<u64>,
    },
    /// A request was carried out, or a publisher's counts.
    Ack {
        /// The request's id.
        id: Option<u32>,
        /// The request's op; publishers' counts have none.
        op: Option<String>,
        /// Publishers: ticks taken.
        accepted: Option<u64>,
        /// Subscribers: a list of refused entries. Publishers: ticks refused.
        #[serde(default)]
        rejected: serde_json::Value,
    },
    /// A request or a tick was refused.
    Error {
        /// Machine-readable.
        code: String,
        /// For people.
        message: String,
    },
    /// The server is about to close.
    Goodbye {
        /// Why.
        reason: String,
    },
    /// `welcome`, `heartbeat`, `cursor`, `feed`, …
    #[serde(other)]
    Other,
}

/// Reads a tick: a flat object whose `type` is `trade` or `quote`, fields in any order, no
/// whitespace and no escapes. `None`: it is something else, for [`Control`] to judge.
pub fn tick(text: &[u8]) -> Option<Tick<'_>> {
    let mut channel = None;
    let mut symbol = None;
    let (mut epoch, mut seq, mut ts_us) = (None, None, None);
    let mut skipped = 0;
    let mut accounted = true;
    let mut rest = text.strip_prefix(b"{")?;
    loop {
        let (key, value, after) = field(rest)?;
        match key {
            b"type" => channel = Some(channel_of(value)?),
            b"symbol" => symbol = Some(value),
            b"epoch" => epoch = Some(number(value)?),
            b"seq" => seq = Some(number(value)?),
            b"ts" => ts_us = Some(number(value)?),
            b"skipped" => skipped = number(value)?,
            b"snapshot" | b"replay" => accounted = false,
            _ => {}
        }
        match after {
            [b',', next @ ..] => rest = next,
            [b'}'] => break,
            _ => return None,
        }
    }
    Some(Tick {
        channel: channel?,
        symbol: symbol?,
        epoch: epoch?,
        seq: seq?,
        ts_us: ts_us?,
        skipped,
        accounted,
    })
}

/// Key and value at the head of `rest`, without quotes, and what follows them.
fn field(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key, rest) = quoted(rest)?;
    let rest = rest.strip_prefix(b":")?;
    if rest.first() == Some(&b'"') {
        let (value, rest) = quoted(rest)?;
        return Some((key, value, rest));
    }
    let end = rest.iter().position(|&byte| byte == b',' || byte == b'}')?;
    let (value, rest) = rest.split_at(end);
    let flat = !value.iter().any(|byte| matches!(byte, b'{' | b'[' | b'"'));
    flat.then_some((key, value, rest))
}

fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text
        .iter()
        .position(|&byte| byte == b'"' || byte == b'\\')?;
    (text[end] == b'"').then(|| (&text[..end], &text[end + 1..]))
}

fn channel_of(value: &[u8]) -> Option<Channel> {
    match value {
        b"trade" => Some(Channel::Trade),
        b"quote" => Some(Channel::Quote),
        _ => None,
    }
}

/// A number of at most 19 digits, which a u64 always holds.
fn number(digits: &[u8]) -> Option<u64> {
    let sound = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| {
        digits
            .iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_read_whatever_the_order_of_their_fields() {
        let expected = Tick {
            channel: Channel::Trade,
            symbol: b"AAPL",
            epoch: 7,
            seq: 42,
            ts_us: 1_763_776_800_000_123,
            skipped: 0,
            accounted: true,
        };
        for text in [
            r#"{"type":"trade","symbol":"AAPL","epoch":7,"seq":42,"ts":1763776800000123,"price":"187.23","size":"100","side":"buy"}"#,
            r#"{"epoch":7,"seq":42,"type":"trade","symbol":"AAPL","price":"1","ts":1763776800000123}"#,
        ] {
            assert_eq!(tick(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn conflated_and_snapshot_ticks_are_told_apart() {
        let conflated =
            br#"{"type":"quote","symbol":"A","epoch":1,"seq":9,"ts":5,"bid":"1","skipped":3}"#;
        let conflated = tick(conflated).unwrap();
        assert_eq!((conflated.channel, conflated.skipped), (Channel::Quote, 3));
        let snapshot = br#"{"type":"trade","symbol":"A","epoch":1,"seq":9,"ts":5,"snapshot":true}"#;
        assert!(!tick(snapshot).unwrap().accounted);
    }

    #[test]
    fn what_is_no_tick_is_left_to_the_other_parser() {
        let start = r#"{"type":"start","symbol":"AAPL","epoch":7,"trade":41}"#;
        assert_eq!(tick(start.as_bytes()), None);
        assert_eq!(
            serde_json::from_str::<Control>(start).unwrap(),
            Control::Start {
                symbol: "AAPL".into(),
                epoch: 7,
                trade: Some(41),
                quote: None
            }
        );
        for (text, expected) in [
            (
                r#"{"type":"welcome","session":"1","limits":{"symbols":1}}"#,
                Control::Other,
            ),
            (r#"{"type":"heartbeat","ts":1}"#, Control::Other),
        ] {
            assert_eq!(tick(text.as_bytes()), None);
            assert_eq!(serde_json::from_str::<Control>(text).unwrap(), expected);
        }
    }

    #[test]
    fn both_kinds_of_ack_are_read() {
        for text in [
            r#"{"type":"ack","id":1,"op":"subscribe","symbols":["A"],"rejected":[{"symbol":"X","code":"not_entitled"}]}"#,
            r#"{"type":"ack","accepted":5,"rejected":0,"duplicates":0,"messages":5}"#,
        ] {
            assert!(
                matches!(serde_json::from_str(text).unwrap(), Control::Ack { .. }),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[{}\":,a-z0-9\\\\]{0,80}") {
            let _ = tick(text.as_bytes());
        }
    }
}
