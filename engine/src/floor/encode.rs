//! Encoding: each tick once per wire format, then shared by all who get it.

use tickwire_proto::{
    cursor::Cursor,
    frame::{self, Opcode},
    json,
    reply::{Gap, Reply, Start},
    sbe,
    symbol::Symbol,
    tick::{FeedState, Identity, Marks, Tick},
    upgrade::Subprotocol,
};

use crate::tape::{Event, Position, ReadError, Record, Tape};

/// The longest frame of a tick: a JSON quote with every field at its widest, and its header.
const FRAME_BYTES_MAX: usize = 336;
/// Recent ticks kept encoded, as many as a floor may be behind and still gather them; beyond, a tick
/// is encoded again, which costs some 300 ns.
const CACHED_TICKS: usize = 32_768;
/// Bytes of their frames: 128 each, and a tick in JSON has some 110.
const CACHED_BYTES: usize = 4 << 20;

/// Encoded frames of recent ticks in one wire format, by tape position.
///
/// Frames lie back to back in a ring of bytes, so that those of a burst are neighbours.
pub struct FrameCache {
    index: Box<[CachedFrame]>,
    ring: Box<[u8]>,
    /// Bytes of the ring used up since the start, those skipped at its end included.
    used: usize,
}

#[derive(Clone, Default)]
struct CachedFrame {
    /// The position, plus one; 0 while nothing is cached.
    stamp: u64,
    /// Where the frame begins, counted as `used` is.
    begin: usize,
    bytes: usize,
}

// A frame that is skipped to the begin of the ring must not meet itself.
const _: () = assert!(2 * FRAME_BYTES_MAX < CACHED_BYTES && CACHED_BYTES.is_power_of_two());

impl FrameCache {
    fn new() -> Self {
        Self {
            index: vec![CachedFrame::default(); CACHED_TICKS].into_boxed_slice(),
            ring: vec![0; CACHED_BYTES].into_boxed_slice(),
            used: 0,
        }
    }

    /// The frame of the tick at `position`.
    #[inline]
    pub fn find(&self, position: Position) -> Option<&[u8]> {
        let cached = &self.index[position.0 as usize % CACHED_TICKS];
        let overwritten = self.used - cached.begin > CACHED_BYTES;
        if cached.stamp != position.0 + 1 || overwritten {
            return None;
        }
        let begin = cached.begin % CACHED_BYTES;
        Some(&self.ring[begin..begin + cached.bytes])
    }

    fn keep(&mut self, position: Position, frame: &[u8]) {
        let left = CACHED_BYTES - self.used % CACHED_BYTES;
        if left < frame.len() {
            self.used += left;
        }
        let begin = self.used % CACHED_BYTES;
        self.ring[begin..begin + frame.len()].copy_from_slice(frame);
        self.index[position.0 as usize % CACHED_TICKS] = CachedFrame {
            stamp: position.0 + 1,
            begin: self.used,
            bytes: frame.len(),
        };
        self.used += frame.len();
    }
}

/// A symbol in one epoch as SBE names it on this floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireId(pub u32);

/// Encodes for one floor.
pub struct Encoder {
    json: FrameCache,
    sbe: FrameCache,
    scratch: Vec<u8>,
}

impl Encoder {
    /// An encoder with empty caches.
    pub fn new() -> Self {
        Self {
            json: FrameCache::new(),
            sbe: FrameCache::new(),
            scratch: Vec::with_capacity(FRAME_BYTES_MAX),
        }
    }

    /// The frames of one format that are at hand.
    pub fn cache(&self, format: Subprotocol) -> &FrameCache {
        match format {
            Subprotocol::Json => &self.json,
            Subprotocol::Sbe => &self.sbe,
        }
    }

    /// Appends the frame of the live tick at `position`, encoded now or before.
    ///
    /// `names` is asked only where the tick is not in the cache.
    ///
    /// # Errors
    ///
    /// The tape's, where the tick is neither cached nor retained.
    pub fn append_tick(
        &mut self,
        out: &mut Vec<u8>,
        format: Subprotocol,
        position: Position,
        tape: &Tape,
        names: impl FnOnce(u64) -> (Symbol, WireId),
    ) -> Result<(), ReadError> {
        let cache = match format {
            Subprotocol::Json => &mut self.json,
            Subprotocol::Sbe => &mut self.sbe,
        };
        if let Some(frame) = cache.find(position) {
            out.extend_from_slice(frame);
            return Ok(());
        }
        let record = tape.read(position)?;
        let (symbol, wire_id) = names(record.epoch);
        self.scratch.clear();
        let marks = Marks::default();
        write_tick(&mut self.scratch, format, &record, &symbol, wire_id, &marks);
        out.extend_from_slice(&self.scratch);
        cache.keep(position, &self.scratch);
        Ok(())
    }
}

/// Appends the frame of a tick record; a record of another kind writes nothing.
pub fn write_tick(
    out: &mut Vec<u8>,
    format: Subprotocol,
    record: &Record,
    symbol: &Symbol,
    wire_id: WireId,
    marks: &Marks,
) {
    let Event::Tick { seq, ts_ns, values } = record.event else {
        return;
    };
    let tick = Tick {
        symbol: *symbol,
        identity: Identity {
            epoch: record.epoch,
            seq,
        },
        ts_ns,
        values,
    };
    match format {
        Subprotocol::Json => {
            frame::write_with(out, Opcode::Text, |out| json::write_tick(out, &tick, marks));
        }
        Subprotocol::Sbe => {
            frame::write_with(out, Opcode::Binary, |out| {
                sbe::write_tick(out, wire_id.0, &tick, marks);
            });
        }
    }
}

/// Appends the frame of a `start`.
pub fn write_start(out: &mut Vec<u8>, format: Subprotocol, start: &Start, wire_id: WireId) {
    match format {
        Subprotocol::Json => write_json(out, &Reply::Start(*start)),
        Subprotocol::Sbe => {
            frame::write_with(out, Opcode::Binary, |out| {
                sbe::write_definition(out, wire_id.0, start);
            });
        }
    }
}

/// Appends the frame of a `gap`.
pub fn write_gap(out: &mut Vec<u8>, format: Subprotocol, gap: &Gap, wire_id: WireId) {
    match format {
        Subprotocol::Json => write_json(out, &Reply::Gap(*gap)),
        Subprotocol::Sbe => frame::write_with(out, Opcode::Binary, |out| {
            sbe::write_gap(out, wire_id.0, gap);
        }),
    }
}

/// Appends the frame of a `feed`.
pub fn write_feed(
    out: &mut Vec<u8>,
    format: Subprotocol,
    symbol: Symbol,
    state: FeedState,
    wire_id: WireId,
) {
    match format {
        Subprotocol::Json => write_json(out, &Reply::Feed { symbol, state }),
        Subprotocol::Sbe => {
            frame::write_with(out, Opcode::Binary, |out| {
                sbe::write_feed(out, wire_id.0, state);
            });
        }
    }
}

/// Appends the frame of a `cursor`.
pub fn write_cursor(out: &mut Vec<u8>, format: Subprotocol, cursor: &Cursor) {
    match format {
        Subprotocol::Json => write_json(out, &Reply::Cursor(*cursor)),
        Subprotocol::Sbe => {
            frame::write_with(out, Opcode::Binary, |out| sbe::write_cursor(out, cursor));
        }
    }
}

/// Appends the frame of a `heartbeat`.
pub fn write_heartbeat(out: &mut Vec<u8>, format: Subprotocol, now_ns: u64) {
    match format {
        Subprotocol::Json => write_json(
            out,
            &Reply::Heartbeat {
                ts_us: now_ns / 1_000,
            },
        ),
        Subprotocol::Sbe => {
            frame::write_with(out, Opcode::Binary, |out| sbe::write_heartbeat(out, now_ns));
        }
    }
}

/// Appends the frame of what is JSON in either subprotocol.
pub fn write_json(out: &mut Vec<u8>, reply: &Reply) {
    frame::write_with(out, Opcode::Text, |out| reply.write_json(out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_frames_are_found_and_overwritten_ones_are_not() {
        let mut cache = FrameCache::new();
        let frame = |position: u64| vec![position as u8; 300 + position as usize % 36];
        for position in 0..3 * CACHED_TICKS as u64 {
            cache.keep(Position(position), &frame(position));
            if position % 997 != 0 {
                continue;
            }
            let found: Vec<u64> = (position.saturating_sub(4_000)..=position)
                .filter(|&earlier| cache.find(Position(earlier)).is_some())
                .collect();
            // The ring holds some 3,300 of these; what is found is a run that ends here, and right.
            assert_eq!(found.last(), Some(&position));
            assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert!(found.len() > (position as usize).min(3_000));
            for earlier in found {
                assert_eq!(cache.find(Position(earlier)).unwrap(), frame(earlier));
            }
        }
        assert_eq!(cache.find(Position(3 * CACHED_TICKS as u64)), None);
    }
}
