//! The connection that reads everyone's entries of a shard's stream, and what notices that a host has
//! fallen silent.

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Duration};

use redis::aio::MultiplexedConnection;
use tickwire_proto::{backoff::Backoff, sbe::entry::decode_entry};
use tokio::time::sleep;

use super::{
    incoming::{Arrival, Taken},
    link::{Link, LinkError, keep},
    status::{Side, State},
    stream::{self, EntryId, Stored},
};
use crate::clock::{Millis, wall_ns};

/// Entries read in one round trip.
const READ_AT_ONCE: usize = 64;
/// Stands for a host in what the hash remembers; no host has it for a name.
pub const MEMORY: u64 = 0;
/// How far back a new connection reads what was read before, ms: another server's clock may be
/// behind, and so the ids that it gives.
const OVERLAP_MS: u64 = 30_000;
/// How often silence is looked for.
const LISTEN_EVERY: Duration = Duration::from_millis(250);
/// How long a full lane is given to empty.
const LANE_BREAK: Duration = Duration::from_millis(1);
/// The shortest time between two warnings of bad entries, ms: there may be thousands a second.
const WARN_EVERY_MS: u64 = 10_000;

/// Where a connection reads, and since when.
struct Reading {
    connection: MultiplexedConnection,
    name: String,
    /// The last entry that it has read.
    at: EntryId,
    warned: Cell<Option<Millis>>,
}

impl Reading {
    async fn next(&mut self, waits: bool) -> Result<Vec<Stored>, LinkError> {
        let connection = &mut self.connection;
        Ok(stream::read(connection, &self.name, self.at, READ_AT_ONCE, waits).await?)
    }

    /// Whether a bad entry is to be told of now.
    fn warns(&self, now: Millis) -> bool {
        let warned = self.warned.get();
        let warns = warned.is_none_or(|warned| now >= warned.after(WARN_EVERY_MS));
        if warns {
            self.warned.set(Some(now));
        }
        warns
    }
}

/// Reads everyone's entries, forever.
pub async fn receive(link: Rc<Link>) {
    let run = async |backoff: &mut Backoff| -> Result<(), LinkError> {
        let mut connection = link.endpoint.connect(link.shard).await?;
        link.status.enter(link.shard, Side::In, State::CatchingUp);
        let name = link.shard.stream();
        let end = stream::end(&mut connection, &name).await?;
        if end.id < link.read_to.get() {
            // Another server, or the same without its data.
            link.read_to.set(EntryId::default());
        }
        let at = read_again_from(link.read_to.get());
        link.lag.borrow_mut().begin(at, end);
        let kept = if link.status.knows(link.shard) {
            Vec::new()
        } else {
            let hash = link.shard.last_ticks();
            stream::kept(&mut connection, &hash, link.symbols_max).await?
        };
        let mut reading = Reading {
            connection,
            name,
            at,
            warned: Cell::default(),
        };
        link.catch_up(&mut reading).await?;
        // Behind the stream: who is its source stands there, and here only what it forgot.
        link.recall(&mut reading, kept).await?;
        link.status.enter(link.shard, Side::In, State::Up);
        loop {
            let entries = reading.next(true).await?;
            link.take(&mut reading, entries, |_| 0).await;
            backoff.delivering(link.clock.now().ms());
        }
    };
    keep(&link, Side::In, run).await;
}

/// Where a new connection begins to read a stream that had been read up to `read_to`; what it takes
/// again is known by its numbers.
fn read_again_from(read_to: EntryId) -> EntryId {
    EntryId {
        ms: read_to.ms.saturating_sub(OVERLAP_MS),
        n: 0,
    }
}

/// Notices hosts that have fallen silent, also while nothing can be read, and tells the floors of the
/// others' clocks.
pub async fn listen(link: Rc<Link>) {
    loop {
        sleep(LISTEN_EVERY).await;
        link.observe();
        if link.status.is_catching_up(link.shard) {
            // Who speaks late in what is read now has not been silent.
            continue;
        }
        let _turn = link.turn.lock().await;
        let now = link.clock.now();
        let fallen = link.incoming.borrow_mut().silent(now);
        for arrival in fallen {
            if let Arrival::Silent { host } = arrival {
                tracing::warn!(
                    host = format!("{host:016x}"),
                    shard = link.shard.number,
                    "a host is silent"
                );
            }
            link.hand_in(arrival).await;
        }
    }
}

impl Link {
    /// Reads what there is, and takes no host for alive that has not spoken for a while.
    async fn catch_up(&self, reading: &mut Reading) -> Result<(), LinkError> {
        self.metrics.catch_ups.inc();
        let begin = self.clock.now();
        let begin_ms = stream::now_ms(&mut reading.connection).await?;
        let age_ms = |id: EntryId| {
            let server_ms = begin_ms + self.clock.now().since(begin);
            server_ms.saturating_sub(id.ms)
        };
        let mut spoke = HashMap::new();
        loop {
            let entries = reading.next(false).await?;
            // Where others write all the time, there is always something.
            let is_end = entries.len() < READ_AT_ONCE;
            spoke.extend(self.take(reading, entries, age_ms).await);
            if is_end {
                break;
            }
        }
        // Not before the end: who speaks in each of many batches would fall silent as often.
        for (host, id) in spoke {
            let now = self.clock.now();
            let fallen = self.incoming.borrow_mut().backdate(host, age_ms(id), now);
            if let Some(arrival) = fallen {
                let _turn = self.turn.lock().await;
                self.hand_in(arrival).await;
            }
        }
        Ok(())
    }

    /// Hands in the last ticks of symbols, for those that the stream no longer has, and forgets what
    /// nobody has renewed for long.
    async fn recall(
        &self,
        reading: &mut Reading,
        kept: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), LinkError> {
        let wall_ms = wall_ns() / 1_000_000;
        let mut outlived = Vec::new();
        let turn = self.turn.lock().await;
        for (field, bytes) in kept {
            match decode_entry(&bytes) {
                Ok((head, _)) if head.host == self.host => {}
                Ok((head, _)) if head.sent_ns / 1_000_000 + self.memory_ms < wall_ms => {
                    outlived.push(field);
                }
                Ok((_, items)) => {
                    self.hand_in(Arrival::Items {
                        host: MEMORY,
                        is_roll: false,
                        items,
                    })
                    .await;
                }
                Err(error) => {
                    if reading.warns(self.clock.now()) {
                        let hash = self.shard.last_ticks();
                        tracing::warn!(hash, %error, "a last tick is passed over");
                    }
                }
            }
        }
        // Nobody is their source but who says so in the stream.
        self.hand_in(Arrival::Silent { host: MEMORY }).await;
        drop(turn);
        let hash = self.shard.last_ticks();
        stream::forget(&mut reading.connection, &hash, &outlived).await?;
        Ok(())
    }

    /// Hands entries to ingest, each written so many milliseconds ago as `age_ms` says; which hosts spoke,
    /// and in which entry last.
    async fn take(
        &self,
        reading: &mut Reading,
        entries: Vec<Stored>,
        age_ms: impl Fn(EntryId) -> u64,
    ) -> HashMap<u64, EntryId> {
        let mut spoke = HashMap::new();
        for entry in entries {
            let _turn = self.turn.lock().await;
            let now = self.clock.now();
            let came_ns = wall_ns().saturating_sub(age_ms(entry.id).saturating_mul(1_000_000));
            let bytes = entry.bytes.unwrap_or_default();
            let taken = self.incoming.borrow_mut().take(&bytes, now, came_ns);
            match taken {
                Ok(Taken::New(arrivals)) => {
                    self.metrics.received_bytes.inc_by(bytes.len() as u64);
                    for arrival in arrivals {
                        if let Arrival::Items { host, .. } = arrival {
                            spoke.insert(host, entry.id);
                        }
                        self.hand_in(arrival).await;
                    }
                }
                Ok(Taken::Known) => {}
                Err(error) => {
                    if reading.warns(now) {
                        tracing::warn!(stream = reading.name, id = %entry.id, %error, "an entry is passed over");
                    }
                }
            }
            // Only what is handed in is passed for good.
            reading.at = entry.id;
            self.read_to.set(self.read_to.get().max(entry.id));
            self.lag.borrow_mut().pass(entry.id);
        }
        self.answer_needs();
        spoke
    }

    /// Asks for rolls, or calls its own, where what was read calls for it.
    fn answer_needs(&self) {
        let mut incoming = self.incoming.borrow_mut();
        let (needs, asked) = (incoming.take_need(), incoming.take_asked());
        if needs || asked {
            let mut outgoing = self.outgoing.borrow_mut();
            if needs {
                outgoing.ask();
            }
            outgoing.owe_roll(self.clock.now());
            self.wake.notify_one();
        }
    }

    /// Waits for room where ingest is behind: Redis keeps what is not read.
    async fn hand_in(&self, mut arrival: Arrival) {
        while let Err(back) = self.lane.push(self.shard, arrival) {
            arrival = back;
            sleep(LANE_BREAK).await;
        }
    }

    fn observe(&self) {
        let outgoing = self.outgoing.borrow();
        let incoming = self.incoming.borrow();
        self.metrics
            .observe(&outgoing, &incoming, &self.lag.borrow());
        self.beats.publish(self.shard, incoming.beats());
    }
}
