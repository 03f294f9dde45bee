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
/// Recent ticks kept encoded. Beyond it a tick is encoded again, which costs some 300 ns.
const CACHED_TICKS: usize = 1024;

/// Encoded frames of recent ticks in one wire format, by tape position.
struct FrameCache {
    frames: Box<[CachedFrame]>,
}

#[derive(Clone)]
struct CachedFrame {
    /// The position, plus one; 0 while nothing is cached.
    stamp: u64,
    bytes: usize,
    frame: [u8; FRAME_BYTES_MAX],
}

impl FrameCache {
    fn new() -> Self {
        let empty = CachedFrame {
            stamp: 0,
            bytes: 0,
            frame: [0; FRAME_BYTES_MAX],
        };
        Self {
            frames: vec![empty; CACHED_TICKS].into_boxed_slice(),
        }
    }

    fn place(&mut self, position: Position) -> &mut CachedFrame {
        &mut self.frames[position.0 as usize % CACHED_TICKS]
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

    /// The frame of the live tick at `position`, encoded now or before.
    ///
    /// `wire_id` is asked only where the tick is not in the cache.
    ///
    /// # Errors
    ///
    /// The tape's, where the tick is neither cached nor retained.
    pub fn tick(
        &mut self,
        format: Subprotocol,
        position: Position,
        tape: &Tape,
        symbol: &Symbol,
        wire_id: impl FnOnce(u64) -> WireId,
    ) -> Result<&[u8], ReadError> {
        let cache = match format {
            Subprotocol::Json => &mut self.json,
            Subprotocol::Sbe => &mut self.sbe,
        };
        let cached = cache.place(position);
        if cached.stamp != position.0 + 1 {
            let record = tape.read(position)?;
            self.scratch.clear();
            write_tick(
                &mut self.scratch,
                format,
                &record,
                symbol,
                wire_id(record.epoch),
                &Marks::default(),
            );
            cached.stamp = position.0 + 1;
            cached.bytes = self.scratch.len();
            cached.frame[..self.scratch.len()].copy_from_slice(&self.scratch);
        }
        Ok(&cached.frame[..cached.bytes])
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
