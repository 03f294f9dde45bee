//! What one connection has yet to be sent.
//!
//! Control messages go first. Behind them stands one queue, in order: ticks as references into
//! the tape, and frames of the connection's own. A backlog of ticks therefore costs 32 bytes
//! each and no copy; one above `lag_soft_ticks` is conflated to the latest tick of each symbol and
//! channel, with a `gap` for what that drops, until the client has caught up.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use tickwire_proto::{
    reply::{Gap, GapReason},
    tick::{Channel, Marks},
    upgrade::Subprotocol,
};

use super::{
    encode::{self, Encoder},
    log::Log,
    pieces::{OwnFrame, Piece},
    queue::{Entry, Queue},
    rows::Rows,
    stream::Stream,
};
use crate::tape::{Position, SymbolId, Tape};

/// The ping that a silent peer gets (RFC 6455 § 5.5.2), without a payload.
pub const PING: [u8; 2] = [0x89, 0];

/// Some 150 bytes in JSON; near enough for a bound on how much may wait.
pub const TICK_BYTES: usize = 160;

/// A tick on its way, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Where it stands on the tape.
    pub position: Position,
    /// Its epoch.
    pub epoch: u64,
    /// Its seq.
    pub seq: u64,
    /// Its symbol and channel.
    pub stream: Stream,
    /// Ticks that a `conflate` dropped before it.
    pub skipped: u32,
}

// A backlog has millions of them, and two fit a cache line.
const _: () = assert!(size_of::<Queued>() == 32);

/// What of one symbol and channel a lagging client will get: the latest tick, and the range
/// that it replaces.
#[derive(Clone, Copy, Debug)]
struct Lagging {
    dropped_from: Option<u64>,
    latest: Queued,
}

/// The queue of one connection.
#[derive(Default)]
pub struct Outbox {
    queue: Queue,
    #[expect(
        clippy::box_collection,
        reason = "most connections have none most of the time, and 16 bytes each add up"
    )]
    control: Option<Box<Vec<u8>>>,
    lag: Option<Box<FxHashMap<Stream, Lagging>>>,
}

/// What an assembly found, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Ticks written.
    pub ticks: u64,
    /// Ticks told as a gap since the tape no longer held them.
    pub lost: u64,
}

/// The last send that consisted of shared ticks alone, to hand the same bytes to the next
/// connection that wants exactly those.
#[derive(Default)]
pub struct Shared {
    format: Subprotocol,
    ticks: Vec<Position>,
    /// Whether more ticks waited behind them, which the largest send did not take.
    is_cut: bool,
    bytes: Option<Rc<Vec<u8>>>,
}

/// Where a send's bytes come from, and what writing them takes.
pub struct Assembly<'a> {
    /// The connection's wire format.
    pub format: Subprotocol,
    /// Encoded ticks.
    pub encoder: &'a mut Encoder,
    /// Names and wire ids.
    pub rows: &'a mut Rows,
    /// The ticks.
    pub tape: &'a Tape,
    /// Largest send.
    pub bytes_max: usize,
}

impl Outbox {
    /// Queues a tick; conflates the backlog where it passes `lag_soft_ticks`.
    ///
    /// Returns how many ticks were dropped in favour of later ones.
    #[inline]
    pub fn push_tick(&mut self, tick: Queued, lag_soft_ticks: usize) -> u64 {
        if self.lag.is_none() && self.queue.len() < lag_soft_ticks {
            self.queue.push_tick(tick);
            return 0;
        }
        self.push_late_tick(tick, lag_soft_ticks)
    }

    #[cold]
    fn push_late_tick(&mut self, tick: Queued, lag_soft_ticks: usize) -> u64 {
        if let Some(lag) = &mut self.lag {
            return note(lag, tick);
        }
        self.queue.push_tick(tick);
        self.conflate_late(lag_soft_ticks)
    }

    /// Conflates the backlog where it is above `lag_soft_ticks`; returns how many ticks that drops.
    pub fn conflate_late(&mut self, lag_soft_ticks: usize) -> u64 {
        if self.queue.len() > lag_soft_ticks {
            self.conflate_backlog()
        } else {
            0
        }
    }

    /// Queues a frame about a symbol, which others may share, behind what is queued.
    pub fn push_frame(&mut self, symbol: SymbolId, bytes: Rc<[u8]>) {
        self.queue.push_frame(OwnFrame::about(symbol, bytes));
    }

    /// Queues frames of the connection's own, behind what is queued.
    pub fn push_piece(&mut self, piece: Piece) {
        self.queue.push_frame(piece.into());
    }

    /// Frames that may overtake ticks: `ack`, `error`, `pong`, control frames.
    pub fn control(&self) -> &[u8] {
        self.control.as_ref().map_or(&[], |control| control)
    }

    /// Where to add one.
    pub fn control_mut(&mut self) -> &mut Vec<u8> {
        self.control.get_or_insert_default()
    }

    /// Moves them to the end of `out`.
    pub fn take_control(&mut self, out: &mut Vec<u8>) {
        // Rare beside ticks, and not worth keeping room for.
        if let Some(control) = self.control.take() {
            out.extend_from_slice(&control);
        }
    }

    /// Bytes of own frames in the queue.
    pub fn frame_bytes(&self) -> usize {
        self.queue.frame_bytes()
    }

    /// Bytes of everything but ticks: own frames, and control messages, which a client that
    /// pings without reading could pile up.
    pub fn own_bytes(&self) -> usize {
        self.frame_bytes() + self.control().len()
    }

    /// Ticks in the queue, those of a lagging client counted once per symbol and channel.
    pub fn ticks(&self) -> usize {
        self.queue.len() + self.lag.as_ref().map_or(0, |lag| lag.len())
    }

    /// What waits to be sent, but for control messages, bytes; ticks are reckoned, not encoded.
    pub fn waiting_bytes(&self) -> usize {
        self.frame_bytes() + self.ticks() * TICK_BYTES
    }

    /// Whether the client lags so far behind that its ticks are conflated.
    pub fn is_lagging(&self) -> bool {
        self.lag.is_some()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.control().is_empty() && self.is_control_only()
    }

    /// Whether nothing is queued but a ping, which browsers do not see.
    pub fn is_ping_only(&self) -> bool {
        self.control() == PING && self.is_control_only()
    }

    /// Whether only messages that may not wait are queued.
    pub fn is_control_only(&self) -> bool {
        self.queue.is_empty() && self.lag.is_none()
    }

    /// Drops everything but control messages; what a closing connection still sends.
    pub fn abandon_queue(&mut self) {
        self.queue.clear();
        self.lag = None;
    }

    /// Ends the conflation of one symbol before something of its own order follows (`start`,
    /// `gap`, a replaced subscription).
    pub fn settle(&mut self, symbol: SymbolId, format: Subprotocol, rows: &mut Rows) {
        let Some(mut lag) = self.lag.take() else {
            return;
        };
        let mut latest: Vec<_> = Channel::BOTH
            .into_iter()
            .filter_map(|channel| lag.remove(&Stream::new(symbol, channel)))
            .collect();
        latest.sort_unstable_by_key(|lagging| lagging.latest.position);
        for lagging in &latest {
            self.release(lagging, format, rows);
        }
        self.lag = Some(lag);
    }

    /// Ends the conflation of every symbol before the last frame of all.
    pub fn settle_all(&mut self, format: Subprotocol, rows: &mut Rows) {
        let Some(lag) = self.lag.take() else { return };
        let mut latest: Vec<Lagging> = lag.into_values().collect();
        latest.sort_unstable_by_key(|lagging| lagging.latest.position);
        for lagging in &latest {
            self.release(lagging, format, rows);
        }
    }

    /// Drops what is queued of a symbol that the client is no longer entitled to.
    pub fn forget(&mut self, symbol: SymbolId) {
        if let Some(lag) = &mut self.lag {
            lag.retain(|stream, _| stream.symbol() != symbol);
        }
        self.queue.forget(symbol);
    }

    fn release(&mut self, lagging: &Lagging, format: Subprotocol, rows: &mut Rows) {
        let latest = lagging.latest;
        if let Some(from) = lagging.dropped_from {
            let mut frame = Vec::with_capacity(160);
            write_lost(&mut frame, format, rows, &latest, from, latest.seq - 1);
            self.push_frame(latest.stream.symbol(), frame.into());
        }
        self.queue.push_tick(latest);
    }

    /// Replaces the queued ticks by the latest of each symbol and channel.
    ///
    /// Own frames keep their place, and a tick never passes one: those before a frame of any
    /// kind stay as they are, so only what follows the last own frame is conflated.
    fn conflate_backlog(&mut self) -> u64 {
        let mut lag = Box::new(FxHashMap::default());
        let tail = self.queue.take_tail();
        let dropped = tail.into_iter().map(|tick| note(&mut lag, tick)).sum();
        self.lag = Some(lag);
        dropped
    }

    /// Writes the next send into `out`: control first, then the queue up to the bound.
    pub fn assemble(&mut self, out: &mut Vec<u8>, assembly: &mut Assembly<'_>) -> Assembled {
        let mut assembled = Assembled::default();
        let mut lost = Lost::default();
        self.take_control(out);
        self.catch_up(assembly);
        loop {
            if lost.is_empty() {
                assembled.ticks += self.append_cached(out, assembly);
            }
            if out.len() >= assembly.bytes_max {
                break;
            }
            let Some(entry) = self.queue.pop() else {
                break;
            };
            match entry {
                Entry::Frame(frame) => {
                    lost.write_at(out.len(), out, assembly);
                    out.extend_from_slice(&frame.bytes);
                }
                Entry::Tick(tick) => {
                    let begin = out.len();
                    if write_queued(out, &tick, assembly) {
                        lost.write_at(begin, out, assembly);
                        assembled.ticks += 1;
                    } else {
                        lost.add(&tick);
                        assembled.lost += 1 + u64::from(tick.skipped);
                    }
                }
            }
        }
        lost.write_at(out.len(), out, assembly);
        self.shrink((assembled.ticks + assembled.lost) as usize);
        assembled
    }

    /// Writes the ticks that come first as long as their frames are at hand; returns how many.
    ///
    /// Under load that is nearly all there is to do, and so its loop is kept short: the processor
    /// then fetches the next frames while it copies one.
    fn append_cached(&mut self, out: &mut Vec<u8>, assembly: &Assembly<'_>) -> u64 {
        let cache = assembly.encoder.cache(assembly.format);
        let mut count = 0;
        for tick in self.queue.run().iter() {
            if tick.skipped > 0 || out.len() >= assembly.bytes_max {
                break;
            }
            let Some(frame) = cache.find(tick.position) else {
                break;
            };
            out.extend_from_slice(frame);
            count += 1;
        }
        if count > 0 {
            self.queue.take_run(count);
        }
        count as u64
    }

    /// As [`Outbox::assemble`], but hands out the bytes of the connection before where they are
    /// the same. `None` where this queue holds anything but shared ticks.
    pub fn assemble_shared(
        &mut self,
        shared: &mut Shared,
        spare: impl FnOnce() -> Rc<Vec<u8>>,
        assembly: &mut Assembly<'_>,
    ) -> Option<(Rc<Vec<u8>>, Assembled)> {
        if self.control.is_some() || self.lag.is_some() || self.queue.has_frames() {
            return None;
        }
        let ticks = self.queue.ticks();
        if let Some(bytes) = &shared.bytes
            && shared.format == assembly.format
            && shared.begins(&ticks)
        {
            let bytes = Rc::clone(bytes);
            let count = shared.ticks.len();
            drop(ticks);
            self.queue.take_run(count);
            self.shrink(count);
            let ticks = count as u64;
            return Some((bytes, Assembled { ticks, lost: 0 }));
        }
        shared.bytes = None;
        if ticks.iter().any(|tick| tick.skipped > 0) {
            return None;
        }
        shared.format = assembly.format;
        shared.ticks.clear();
        shared.ticks.extend(ticks.iter().map(|tick| tick.position));
        drop(ticks);
        let mut bytes = spare();
        let assembled = self.assemble(Rc::make_mut(&mut bytes), assembly);
        if assembled.lost == 0 {
            shared.ticks.truncate(assembled.ticks as usize);
            shared.is_cut = !self.queue.is_empty();
            shared.bytes = Some(Rc::clone(&bytes));
        }
        Some((bytes, assembled))
    }

    /// A client whose queue has drained gets the latest of what it missed, and the full stream
    /// from there on.
    fn catch_up(&mut self, assembly: &mut Assembly<'_>) {
        if self.queue.is_empty() {
            self.settle_all(assembly.format, assembly.rows);
        }
    }

    /// A large queue that is empty keeps its memory only while sends of `taken` ticks need it: the
    /// next burst would ask for it again.
    fn shrink(&mut self, taken: usize) {
        const TICKS_KEPT: usize = 1_024;
        let room = self.queue.capacity();
        if room > TICKS_KEPT && room / 4 > taken && self.queue.is_empty() {
            self.queue = Queue::default();
        }
    }

    /// The audience that its ticks come from.
    pub fn audience(&self) -> Option<u32> {
        self.queue.log().map(|log| log.audience())
    }

    /// See [`Queue::share`].
    pub fn share(&mut self, log: Rc<Log>) {
        self.queue.share(log);
    }

    /// See [`Queue::unshare`].
    pub fn unshare(&mut self) {
        self.queue.unshare();
    }

    /// See [`Queue::listen`].
    #[inline]
    pub fn listen(&mut self) -> Option<u32> {
        self.queue.listen()
    }

    /// See [`Queue::hear`].
    #[inline]
    pub fn hear(&mut self, of: &Rc<Log>) -> bool {
        self.queue.hear(of)
    }

    /// Gives back all memory that a silent connection does not need.
    pub fn rest(&mut self) {
        self.queue.rest();
    }
}

impl Shared {
    /// Whether a send of these ticks is the last send again. A position names its tick, whatever
    /// else is known of it; what `conflate` has marked is nobody else's.
    fn begins(&self, ticks: &[Queued]) -> bool {
        let same = |(own, tick): (&Position, &Queued)| *own == tick.position && tick.skipped == 0;
        let goes_on = ticks.len() > self.ticks.len();
        ticks.len() >= self.ticks.len()
            && goes_on == self.is_cut
            && self.ticks.iter().zip(ticks).all(same)
    }

    /// Forgets the last send, so that its buffer can be used again.
    pub fn clear(&mut self) {
        self.bytes = None;
        self.ticks.clear();
    }
}

fn note(lag: &mut FxHashMap<Stream, Lagging>, tick: Queued) -> u64 {
    match lag.entry(tick.stream) {
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(Lagging {
                dropped_from: None,
                latest: tick,
            });
            0
        }
        std::collections::hash_map::Entry::Occupied(mut occupied) => {
            let lagging = occupied.get_mut();
            // A conflated tick stands for those that it skipped; the gap names them as well.
            let first = lagging.latest.seq - u64::from(lagging.latest.skipped);
            lagging.dropped_from.get_or_insert(first);
            lagging.latest = Queued { skipped: 0, ..tick };
            1
        }
    }
}

/// Ticks that the tape no longer held when their turn came: one run for each symbol and channel,
/// since nothing of them lies in between.
#[derive(Default)]
struct Lost(FxHashMap<Stream, (u64, Queued)>);

impl Lost {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, tick: &Queued) {
        let first = tick.seq - u64::from(tick.skipped);
        let (_, last) = self.0.entry(tick.stream).or_insert((first, *tick));
        *last = *tick;
    }

    /// Writes the gaps into `out` at `begin`, before what has been written since.
    fn write_at(&mut self, begin: usize, out: &mut Vec<u8>, assembly: &mut Assembly<'_>) {
        if self.is_empty() {
            return;
        }
        let mut behind = out.split_off(begin);
        let mut runs: Vec<_> = self.0.drain().map(|(_, run)| run).collect();
        runs.sort_unstable_by_key(|(_, last)| last.position);
        for (first, last) in runs {
            write_lost(out, assembly.format, assembly.rows, &last, first, last.seq);
        }
        out.append(&mut behind);
    }
}

/// Writes a tick; false where the tape was lapped before this client took it, who stood in the way
/// of nobody else.
fn write_queued(out: &mut Vec<u8>, tick: &Queued, assembly: &mut Assembly<'_>) -> bool {
    let format = assembly.format;
    let written = if tick.skipped == 0 {
        let rows = &mut *assembly.rows;
        let symbol = tick.stream.symbol();
        let names = |epoch| (rows.name(symbol), rows.wire_id(symbol, epoch));
        assembly
            .encoder
            .append_tick(out, format, tick.position, assembly.tape, names)
    } else {
        let symbol = assembly.rows.name(tick.stream.symbol());
        let marks = Marks {
            skipped: tick.skipped,
            ..Marks::default()
        };
        let wire_id = assembly.rows.wire_id(tick.stream.symbol(), tick.epoch);
        assembly
            .tape
            .read(tick.position)
            .map(|record| encode::write_tick(out, format, &record, &symbol, wire_id, &marks))
    };
    written.is_ok()
}

/// Writes the gap of a slow client, which ends before or with `tick`.
fn write_lost(
    out: &mut Vec<u8>,
    format: Subprotocol,
    rows: &mut Rows,
    tick: &Queued,
    from: u64,
    to: u64,
) {
    let gap = Gap {
        symbol: rows.name(tick.stream.symbol()),
        channel: tick.stream.channel(),
        epoch: tick.epoch,
        from: Some(from),
        to: Some(to),
        reason: GapReason::SlowConsumer,
        replay: None,
    };
    let wire_id = rows.wire_id(tick.stream.symbol(), tick.epoch);
    encode::write_gap(out, format, &gap, wire_id);
}

#[cfg(test)]
mod tests;
