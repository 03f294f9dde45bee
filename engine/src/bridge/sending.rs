//! The connection that adds this host's entries to a shard's stream.

use std::rc::Rc;

use redis::aio::MultiplexedConnection;
use tickwire_proto::backoff::Backoff;
use tokio::time::sleep;

use super::{
    link::{Link, LinkError, Phase, keep},
    outgoing::Sealed,
    status::{Side, State},
    stream::{self, KEPT_AT_ONCE},
};
use crate::clock::wall_ns;

/// Entries added in one round trip, and bytes of them, but for the last.
const ADDED_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 * 1024;
/// How often last ticks are kept and it is looked how long the stream is, ms.
const KEEP_EVERY_MS: u64 = 1_000;
/// How often last ticks are kept anew that have not changed, within the time after which they are forgotten.
const RENEWALS: u64 = 4;
/// A reader that is no further behind than this, ms, hears what the others send.
const HEARS_WITHIN_MS: u64 = 1_000;

/// Adds this host's entries, forever.
pub async fn send(link: Rc<Link>) {
    let run = async |backoff: &mut Backoff| -> Result<(), LinkError> {
        let mut connection = link.endpoint.connect(link.shard).await?;
        link.phase.set(Phase::Busy);
        link.status.enter(link.shard, Side::Out, State::Up);
        let name = link.shard.stream();
        let mut kept = link.clock.now();
        {
            let mut outgoing = link.outgoing.borrow_mut();
            outgoing.send_again();
            // The stream may have gone back, and with it what others knew.
            outgoing.owe_roll(kept);
            outgoing.keep_again();
        }
        if let Some(lost_ns) = link.lost_ns.take() {
            link.incoming.borrow_mut().was_unheard(lost_ns, wall_ns());
        }
        let mut renewed = kept;
        loop {
            let mut has_more = link.add_some(&mut connection).await?;
            let now = link.clock.now();
            backoff.delivering(now.ms());
            if now >= renewed.after(link.memory_ms / RENEWALS) {
                link.outgoing.borrow_mut().keep_again();
                renewed = now;
            }
            let is_time = now >= kept.after(KEEP_EVERY_MS);
            if is_time || link.ends.get() {
                let has_unkept = link.keep_some(&mut connection).await?;
                if is_time && !has_unkept {
                    let end = stream::end(&mut connection, &name).await?;
                    link.lag.borrow_mut().see(end);
                    kept = now;
                }
                // What was published meanwhile rang for nobody.
                has_more |= is_time || has_unkept;
            }
            if has_more {
                continue;
            }
            let due = link.outgoing.borrow().due();
            link.phase.set(Phase::Idle);
            tokio::select! {
                () = link.wake.notified() => {}
                () = sleep(link.clock.until(due)) => {}
            }
            link.phase.set(Phase::Busy);
        }
    };
    keep(&link, Side::Out, run).await;
}

impl Link {
    /// Adds some entries in one round trip; whether there may be more.
    async fn add_some(&self, connection: &mut MultiplexedConnection) -> Result<bool, LinkError> {
        let entries = self.next_entries();
        if entries.is_empty() {
            return Ok(false);
        }
        let name = self.shard.stream();
        stream::add(connection, &name, self.stream_entries, &entries).await?;
        let mut outgoing = self.outgoing.borrow_mut();
        for entry in &entries {
            outgoing.confirm();
            self.metrics.sent_bytes.inc_by(entry.len() as u64);
        }
        self.metrics.sent.inc_by(entries.len() as u64);
        Ok(true)
    }

    fn next_entries(&self) -> Vec<Sealed> {
        let now = self.clock.now();
        let hears =
            self.status.is_up(self.shard, Side::In) && self.lag.borrow().ms() <= HEARS_WITHIN_MS;
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.stamp(wall_ns(), hears);
        outgoing.take(now);
        outgoing.run_due(now);
        let mut entries: Vec<Sealed> = Vec::new();
        let mut bytes = 0;
        while entries.len() < ADDED_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(entry) = outgoing.send_next() else {
                break;
            };
            bytes += entry.len();
            entries.push(entry);
        }
        entries
    }

    /// Keeps some symbols' last ticks in one round trip; whether there are more.
    async fn keep_some(&self, connection: &mut MultiplexedConnection) -> Result<bool, LinkError> {
        let changed = self.outgoing.borrow_mut().changed(KEPT_AT_ONCE);
        if !changed.is_empty() {
            stream::keep(connection, &self.shard.last_ticks(), &changed).await?;
        }
        Ok(changed.len() == KEPT_AT_ONCE)
    }
}
