//! A tick object, read by a scan of its own: the generator needs but five fields of each.

use super::{Channel, Tick};
use crate::ticks::Symbols;

/// Reads a tick: a flat object whose `type` is `trade` or `quote`, fields in any order, no
/// whitespace and no escapes. `None`: it is something else.
pub(super) fn tick(text: &[u8], symbols: &Symbols) -> Option<Tick> {
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
            b"symbol" => symbol = Some(symbols.index(value)),
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
pub(super) fn number(digits: &[u8]) -> Option<u64> {
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

    fn symbols() -> Symbols {
        Symbols::new(vec!["A".into(), "AAPL".into()])
    }

    #[test]
    fn ticks_are_read_whatever_the_order_of_their_fields() {
        let expected = Tick {
            channel: Channel::Trade,
            symbol: Some(1),
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
            assert_eq!(tick(text.as_bytes(), &symbols()), Some(expected), "{text}");
        }
    }

    #[test]
    fn conflated_snapshot_and_foreign_ticks_are_told_apart() {
        let of = |text: &str| tick(text.as_bytes(), &symbols()).unwrap();
        let conflated =
            of(r#"{"type":"quote","symbol":"A","epoch":1,"seq":9,"ts":5,"bid":"1","skipped":3}"#);
        assert_eq!((conflated.channel, conflated.skipped), (Channel::Quote, 3));
        let snapshot =
            of(r#"{"type":"trade","symbol":"A","epoch":1,"seq":9,"ts":5,"snapshot":true}"#);
        assert!(!snapshot.accounted);
        let foreign = of(r#"{"type":"trade","symbol":"B","epoch":1,"seq":9,"ts":5}"#);
        assert_eq!(foreign.symbol, None);
    }

    #[test]
    fn what_is_no_tick_is_none() {
        for text in [
            r#"{"type":"start","symbol":"AAPL","epoch":7,"trade":41}"#,
            r#"{"type":"welcome","session":"1","limits":{"symbols":1}}"#,
            r#"{"type":"trade","symbol":"A","epoch":1,"seq":9,"ts":5"#,
            r#"{"type":"trade","symbol":"A","epoch":1,"ts":5}"#,
        ] {
            assert_eq!(tick(text.as_bytes(), &symbols()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[{}\":,a-z0-9\\\\]{0,80}") {
            let _ = tick(text.as_bytes(), &symbols());
        }
    }
}
