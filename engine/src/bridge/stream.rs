//! A shard's stream: adding entries, reading them on, and noticing that it went back.

use std::{fmt, time::Duration};

use redis::{RedisError, Value, aio::MultiplexedConnection, cmd, pipe};
use tickwire_proto::symbol::Symbol;

use super::outgoing::Sealed;

/// The one field of an entry.
const FIELD: &str = "e";
/// How long a read waits for an entry, ms.
const READ_WAIT_MS: u64 = 1_000;
/// Fields of a hash in one round trip.
pub const KEPT_AT_ONCE: usize = 512;
/// How long an answer may take, the wait of a read apart.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// An entry's id, `ms-n` by the clock of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970 by the server's clock.
    pub ms: u64,
    /// Which of that millisecond.
    pub n: u64,
}

impl EntryId {
    fn parse(text: &[u8]) -> Option<Self> {
        let (ms, n) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            n: n.parse().ok()?,
        })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The newest id that it ever had.
    pub id: EntryId,
    /// Entries that were ever added; 0 where the server, older than Redis 7, does not say.
    pub added: u64,
    /// Entries that it has.
    pub length: u64,
}

/// An entry as Redis has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: EntryId,
    /// What it says; `None` where it has no such field.
    pub bytes: Option<Vec<u8>>,
}

/// Adds entries in one round trip, and trims the stream to about `length`.
///
/// # Errors
///
/// Where the server does not answer or takes none of them; they may have been added all the same.
pub async fn add(
    connection: &mut MultiplexedConnection,
    stream: &str,
    length: usize,
    entries: &[Sealed],
) -> Result<(), RedisError> {
    let mut pipe = pipe();
    if entries.len() > 1 {
        // All or none: an entry behind one that was refused would make that a repeat when it comes again.
        pipe.atomic();
    }
    for entry in entries {
        pipe.cmd("XADD")
            .arg(stream)
            .arg("MAXLEN")
            .arg("~")
            .arg(length)
            .arg("*")
            .arg(FIELD)
            .arg(&entry[..])
            .ignore();
    }
    within(ANSWER_WITHIN, pipe.exec_async(connection)).await
}

/// Reads on behind `after`, at most `count` entries; waits for some where `waits`.
///
/// # Errors
///
/// Where the server does not answer, or not as it should.
pub async fn read(
    connection: &mut MultiplexedConnection,
    stream: &str,
    after: EntryId,
    count: usize,
    waits: bool,
) -> Result<Vec<Stored>, RedisError> {
    let mut read = cmd("XREAD");
    read.arg("COUNT").arg(count);
    let mut limit = ANSWER_WITHIN;
    if waits {
        read.arg("BLOCK").arg(READ_WAIT_MS);
        limit += Duration::from_millis(READ_WAIT_MS);
    }
    read.arg("STREAMS").arg(stream).arg(after.to_string());
    let answer: Value = within(limit, read.query_async(connection)).await?;
    Ok(entries_of(answer))
}

/// Where the stream ends; as of a stream that was never written to where there is none.
///
/// # Errors
///
/// As [`read`].
pub async fn end(connection: &mut MultiplexedConnection, stream: &str) -> Result<End, RedisError> {
    let mut exists = cmd("EXISTS");
    exists.arg(stream);
    let exists: bool = within(ANSWER_WITHIN, exists.query_async(connection)).await?;
    if !exists {
        return Ok(End::default());
    }
    let mut info = cmd("XINFO");
    info.arg("STREAM").arg(stream);
    let answer = within(ANSWER_WITHIN, info.query_async(connection)).await?;
    Ok(end_of(answer))
}

/// Keeps symbols' last ticks in a hash.
///
/// # Errors
///
/// As [`read`].
pub async fn keep(
    connection: &mut MultiplexedConnection,
    hash: &str,
    changed: &[(Symbol, Vec<u8>)],
) -> Result<(), RedisError> {
    let mut keep = cmd("HSET");
    keep.arg(hash);
    for (symbol, bytes) in changed {
        keep.arg(symbol.as_str()).arg(&bytes[..]);
    }
    within(ANSWER_WITHIN, keep.exec_async(connection)).await
}

/// The last ticks that a hash has, of whatever symbol, with their fields; at least `limit` of them where
/// there are so many.
///
/// # Errors
///
/// As [`read`].
pub async fn kept(
    connection: &mut MultiplexedConnection,
    hash: &str,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RedisError> {
    let mut all = Vec::new();
    let mut cursor = 0u64;
    loop {
        let mut scan = cmd("HSCAN");
        scan.arg(hash).arg(cursor).arg("COUNT").arg(KEPT_AT_ONCE);
        let (next, flat): (u64, Vec<Vec<u8>>) =
            within(ANSWER_WITHIN, scan.query_async(connection)).await?;
        let mut flat = flat.into_iter();
        while let (Some(field), Some(value)) = (flat.next(), flat.next()) {
            all.push((field, value));
        }
        cursor = next;
        if cursor == 0 || all.len() >= limit {
            return Ok(all);
        }
    }
}

/// Takes fields out of a hash.
///
/// # Errors
///
/// As [`read`].
pub async fn forget(
    connection: &mut MultiplexedConnection,
    hash: &str,
    fields: &[Vec<u8>],
) -> Result<(), RedisError> {
    for fields in fields.chunks(KEPT_AT_ONCE) {
        let mut forget = cmd("HDEL");
        forget.arg(hash).arg(fields);
        within(ANSWER_WITHIN, forget.exec_async(connection)).await?;
    }
    Ok(())
}

/// The server's clock, milliseconds since 1970.
///
/// # Errors
///
/// As [`read`].
pub async fn now_ms(connection: &mut MultiplexedConnection) -> Result<u64, RedisError> {
    let time = cmd("TIME");
    let (seconds, micros): (u64, u64) = within(ANSWER_WITHIN, time.query_async(connection)).await?;
    Ok(seconds * 1_000 + micros / 1_000)
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

/// The entries in the answer to `XREAD` of one stream: RESP3 has `{stream: [[id, [field, value]]]}`,
/// RESP2 `[[stream, [[id, [field, value]]]]]`, and neither anything where there is none.
fn entries_of(answer: Value) -> Vec<Stored> {
    let entries = match answer {
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        Value::Array(streams) => streams.into_iter().next().and_then(|stream| match stream {
            Value::Array(parts) => parts.into_iter().nth(1),
            _ => None,
        }),
        _ => None,
    };
    let Some(Value::Array(entries)) = entries else {
        return Vec::new();
    };
    entries.into_iter().filter_map(stored).collect()
}

/// The answer to `XINFO STREAM`: names and values, which RESP3 has as a map.
fn end_of(answer: Value) -> End {
    let pairs = match answer {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => pairs_of(flat),
        _ => Vec::new(),
    };
    let mut end = End::default();
    for (name, value) in &pairs {
        match (bytes_of(name).unwrap_or_default(), value) {
            (b"last-generated-id", id) => {
                end.id = bytes_of(id).and_then(EntryId::parse).unwrap_or_default();
            }
            (b"entries-added", &Value::Int(added)) => end.added = added.cast_unsigned(),
            (b"length", &Value::Int(length)) => end.length = length.cast_unsigned(),
            _ => {}
        }
    }
    end
}

fn stored(entry: Value) -> Option<Stored> {
    let Value::Array(parts) = entry else {
        return None;
    };
    let mut parts = parts.into_iter();
    let id = EntryId::parse(bytes_of(&parts.next()?)?)?;
    let fields = match parts.next() {
        Some(Value::Array(flat)) => pairs_of(flat),
        Some(Value::Map(pairs)) => pairs,
        _ => Vec::new(),
    };
    let bytes = fields.into_iter().find_map(|(name, value)| {
        let is_it = bytes_of(&name) == Some(FIELD.as_bytes());
        match value {
            Value::BulkString(bytes) if is_it => Some(bytes),
            _ => None,
        }
    });
    Some(Stored { id, bytes })
}

fn pairs_of(flat: Vec<Value>) -> Vec<(Value, Value)> {
    let mut flat = flat.into_iter();
    std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|field| bulk(field)).collect();
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn entries_are_found_in_both_protocols() {
        let entries = || {
            Value::Array(vec![
                entry("5-0", &["e", "one"]),
                entry("5-1", &["foreign", "two"]),
            ])
        };
        let expected = [
            Stored {
                id: EntryId { ms: 5, n: 0 },
                bytes: Some(b"one".to_vec()),
            },
            Stored {
                id: EntryId { ms: 5, n: 1 },
                bytes: None,
            },
        ];
        let resp3 = Value::Map(vec![(bulk("tickwire:{0}"), entries())]);
        assert_eq!(entries_of(resp3), expected);
        let stream = Value::Array(vec![bulk("tickwire:{0}"), entries()]);
        assert_eq!(entries_of(Value::Array(vec![stream])), expected);
        assert_eq!(entries_of(Value::Nil), []);
    }

    #[test]
    fn a_streams_end_is_found_in_both_protocols() {
        let flat = || {
            vec![
                bulk("length"),
                Value::Int(3),
                bulk("last-generated-id"),
                bulk("9-1"),
                bulk("entries-added"),
                Value::Int(70),
                bulk("groups"),
                Value::Int(0),
            ]
        };
        let expected = End {
            id: EntryId { ms: 9, n: 1 },
            added: 70,
            length: 3,
        };
        assert_eq!(end_of(Value::Array(flat())), expected);
        assert_eq!(end_of(Value::Map(pairs_of(flat()))), expected);
        assert_eq!(end_of(Value::Nil), End::default());
    }

    #[test]
    fn ids_are_ordered_as_the_server_orders_them() {
        let id = |text: &str| EntryId::parse(text.as_bytes());
        assert!(id("9-5") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("10-2").unwrap().to_string(), "10-2");
        for bad in ["", "10", "a-b", "1-", "-1"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
