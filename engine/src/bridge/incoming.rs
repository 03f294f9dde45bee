//! What comes in: other hosts' entries of one shard's stream, each once and in order.
//!
//! No I/O and no clock here. Entries of a host are numbered without holes. A number that was seen
//! before is a repeat, sent again by a host that did not know whether Redis had it; one that is skipped
//! is an entry that Redis has lost, or trimmed before this host came to it. What was in it shows in the
//! names of later entries, and in the roll that is asked for.

use std::collections::HashMap;

use tickwire_proto::sbe::entry::{EntryError, Head, Item, decode_entry, decode_head};

use super::beats::Beat;
use crate::clock::Millis;

/// Silence after which a host is taken for dead, ms: three beats.
pub const SILENCE_MS: u64 = 3_000;
/// How long the number of a dead host's last entry is remembered, ms.
const FORGET_MS: u64 = 3_600_000;

/// What the stream brought, for ingest.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// What a host says.
    Items {
        /// Which.
        host: u64,
        /// Whether it names all that it carries in this shard.
        is_roll: bool,
        /// In order.
        items: Vec<Item>,
    },
    /// A host has fallen silent: what it carries has no source there.
    Silent {
        /// Which.
        host: u64,
    },
}

/// What an entry came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// Something for ingest, in order.
    New(Vec<Arrival>),
    /// This host's own, or one that was taken before.
    Known,
}

/// A host, as far as this shard has heard of it.
#[derive(Clone, Copy, Debug)]
struct Host {
    last_number: u64,
    heard: Millis,
    is_silent: bool,
    /// What is known of its clock.
    beat: Beat,
}

/// One shard's readings.
#[derive(Debug)]
pub struct Incoming {
    own: u64,
    shards: u32,
    hosts_max: usize,
    hosts: HashMap<u64, Host>,
    needs_roll: bool,
    is_asked: bool,
    counts: Counts,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries taken.
    pub taken: u64,
    /// Entries that were taken before.
    pub repeats: u64,
    /// Entries that never came.
    pub missing: u64,
    /// Entries that are none.
    pub bad: u64,
    /// Hosts that were forgotten for others (bound: `bridge_hosts_max`).
    pub forgotten: u64,
}

/// Why an entry is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] EntryError),
    /// Its host spreads symbols over other streams.
    #[error(
        "host {host:016x} has {theirs} shards, this one {ours}: redis_shards must be the same everywhere"
    )]
    Shards {
        /// Which.
        host: u64,
        /// Its `redis_shards`.
        theirs: u32,
        /// This host's.
        ours: u32,
    },
}

impl Incoming {
    /// Knows nobody yet but itself, one of hosts that spread symbols over `shards` streams.
    pub fn new(own: u64, shards: u32, hosts_max: usize) -> Self {
        Self {
            own,
            shards,
            hosts_max,
            hosts: HashMap::new(),
            needs_roll: false,
            is_asked: false,
            counts: Counts::default(),
        }
    }

    /// Takes the next entry of the stream, which came to Redis at `wall_ns`, nanoseconds since
    /// 1970 by this host's clock, or a little earlier. Of its own only the head is read, whatever became of
    /// the rest.
    ///
    /// # Errors
    ///
    /// See [`BadEntry`]; it is passed over.
    pub fn take(&mut self, bytes: &[u8], now: Millis, wall_ns: u64) -> Result<Taken, BadEntry> {
        let is_own = decode_head(bytes).is_ok_and(|head| head.host == self.own);
        if is_own {
            return Ok(Taken::Known);
        }
        let (head, items) = decode_entry(bytes).inspect_err(|_| self.counts.bad += 1)?;
        if head.shards != self.shards {
            self.counts.bad += 1;
            return Err(BadEntry::Shards {
                host: head.host,
                theirs: head.shards,
                ours: self.shards,
            });
        }
        let forgotten = self.make_room(head.host);
        if !self.hear(&head, now, wall_ns) {
            self.counts.repeats += 1;
            return Ok(Taken::Known);
        }
        self.counts.taken += 1;
        self.is_asked |= head.asks;
        let items = Arrival::Items {
            host: head.host,
            is_roll: head.is_roll,
            items,
        };
        Ok(Taken::New(forgotten.into_iter().chain([items]).collect()))
    }

    /// Hosts that have fallen silent since this was last asked.
    pub fn silent(&mut self, now: Millis) -> Vec<Arrival> {
        self.hosts
            .retain(|_, host| now < host.heard.after(FORGET_MS));
        let fallen = self.hosts.iter_mut().filter_map(|(&host, known)| {
            let falls = !known.is_silent && now >= known.heard.after(SILENCE_MS);
            known.is_silent |= falls;
            falls.then_some(Arrival::Silent { host })
        });
        fallen.collect()
    }

    /// A host spoke last `age_ms` ago by Redis's own clock: history makes nobody alive.
    pub fn backdate(&mut self, host: u64, age_ms: u64, now: Millis) -> Option<Arrival> {
        let known = self.hosts.get_mut(&host)?;
        known.heard = known.heard.min(now.before(age_ms));
        let falls = age_ms >= SILENCE_MS && !known.is_silent;
        known.is_silent |= falls;
        falls.then_some(Arrival::Silent { host })
    }

    /// Whether the others' rolls are needed, since this was last asked.
    pub fn take_need(&mut self) -> bool {
        std::mem::take(&mut self.needs_roll)
    }

    /// Whether another host asks for this one's roll, since this was last asked.
    pub fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.is_asked)
    }

    /// Whether a host speaks.
    pub fn is_alive(&self, host: u64) -> bool {
        let known = self.hosts.get(&host);
        known.is_some_and(|known| !known.is_silent)
    }

    /// Hosts that speak.
    pub fn alive(&self) -> usize {
        self.hosts.values().filter(|host| !host.is_silent).count()
    }

    /// What is known of all hosts' clocks.
    pub fn beats(&self) -> HashMap<u64, Beat> {
        let hosts = self.hosts.iter();
        hosts.map(|(&host, known)| (host, known.beat)).collect()
    }

    /// No host heard this one from `from_ns` to `to_ns`, nanoseconds since 1970 by this host's clock.
    pub fn was_unheard(&mut self, from_ns: u64, to_ns: u64) {
        for host in self.hosts.values_mut() {
            host.beat = host.beat.unheard(from_ns, to_ns);
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets who has been silent for longest, where another one comes and there is no room.
    fn make_room(&mut self, host: u64) -> Option<Arrival> {
        if self.hosts.len() < self.hosts_max || self.hosts.contains_key(&host) {
            return None;
        }
        let (&oldest, _) = self
            .hosts
            .iter()
            .min_by_key(|(_, known)| (!known.is_silent, known.heard))?;
        self.hosts.remove(&oldest);
        self.counts.forgotten += 1;
        Some(Arrival::Silent { host: oldest })
    }

    /// Enters that a host has spoken; whether what it says is new.
    fn hear(&mut self, head: &Head, now: Millis, wall_ns: u64) -> bool {
        let beat = Beat::new(head.sent_ns, wall_ns, head.hears);
        let known = self.hosts.entry(head.host).or_insert(Host {
            // Whoever is met in the middle of its life has told the others before.
            last_number: head.number.saturating_sub(1),
            heard: now,
            is_silent: true,
            beat,
        });
        if head.number <= known.last_number {
            return false;
        }
        let missing = head.number - known.last_number - 1;
        self.counts.missing = self.counts.missing.saturating_add(missing);
        self.needs_roll |= missing > 0 || known.is_silent && !head.is_roll;
        *known = Host {
            last_number: head.number,
            heard: now,
            is_silent: false,
            beat: known.beat.and(beat, now.since(known.heard)),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use tickwire_proto::sbe::entry::EntryWriter;

    use super::*;

    const OWN: u64 = 1;
    const OTHER: u64 = 2;

    fn entry(host: u64, number: u64, asks: bool) -> Vec<u8> {
        let mut writer = EntryWriter::default();
        writer.begin(&Head {
            host,
            number,
            shards: 1,
            is_roll: false,
            asks,
            hears: true,
            sent_ns: 0,
        });
        writer.bytes().to_vec()
    }

    fn at(ms: u64) -> Millis {
        Millis::new(ms)
    }

    fn take(incoming: &mut Incoming, number: u64, ms: u64) -> bool {
        let entry = entry(OTHER, number, false);
        let taken = incoming.take(&entry, at(ms), 0).unwrap();
        taken != Taken::Known
    }

    #[test]
    fn each_entry_is_taken_once_and_those_that_never_came_are_counted() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        assert!(take(&mut incoming, 7, 0), "met in the middle of its life");
        assert!(
            incoming.take_need(),
            "who was met has to name what it carries"
        );
        assert!(take(&mut incoming, 8, 1));
        assert!(!take(&mut incoming, 8, 2) && !take(&mut incoming, 7, 2));
        assert!(!incoming.take_need());
        assert!(take(&mut incoming, 11, 3));
        assert!(incoming.take_need());
        let counts = Counts {
            taken: 3,
            repeats: 2,
            missing: 2,
            ..Counts::default()
        };
        assert_eq!(incoming.counts(), counts);
    }

    #[test]
    fn its_own_entries_are_nothing_new() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        let mut own = entry(OWN, 1, true);
        assert_eq!(incoming.take(&own, at(0), 0), Ok(Taken::Known));
        own.push(0);
        assert_eq!(incoming.take(&own, at(0), 0), Ok(Taken::Known));
        assert_eq!(incoming.counts(), Counts::default());
        assert!(!incoming.take_asked());
        assert_eq!(incoming.alive(), 0);
    }

    #[test]
    fn a_host_falls_silent_once_and_speaks_again() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        take(&mut incoming, 1, 0);
        assert!(incoming.silent(at(SILENCE_MS - 1)).is_empty());
        let fallen = [Arrival::Silent { host: OTHER }];
        assert_eq!(incoming.silent(at(SILENCE_MS)), fallen);
        assert!(incoming.silent(at(2 * SILENCE_MS)).is_empty());
        assert_eq!(incoming.alive(), 0);
        incoming.take_need();
        assert!(take(&mut incoming, 2, 3 * SILENCE_MS));
        assert!(incoming.take_need(), "what it carried was given up");
        assert_eq!(incoming.alive(), 1);
        incoming.silent(at(3 * SILENCE_MS + FORGET_MS));
        assert!(incoming.hosts.is_empty());
    }

    #[test]
    fn what_lies_in_history_makes_nobody_alive() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        // A host that began a moment ago, and one that spoke an hour before.
        take(&mut incoming, 1, 100);
        let fallen = incoming.backdate(OTHER, 3_600_000, at(100));
        assert_eq!(fallen, Some(Arrival::Silent { host: OTHER }));
        assert!(!incoming.is_alive(OTHER));
        assert_eq!(incoming.backdate(OTHER, 3_600_000, at(100)), None);
        take(&mut incoming, 2, 200);
        assert_eq!(incoming.backdate(OTHER, SILENCE_MS - 1, at(200)), None);
        assert!(incoming.is_alive(OTHER));
    }

    #[test]
    fn bad_entries_are_passed_over() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        assert!(incoming.take(b"nonsense", at(0), 0).is_err());
        let mut elsewhere = Incoming::new(OWN, 4, 8);
        assert!(matches!(
            elsewhere.take(&entry(OTHER, 1, false), at(0), 0),
            Err(BadEntry::Shards {
                theirs: 1,
                ours: 4,
                ..
            })
        ));
        assert_eq!((incoming.counts().bad, elsewhere.counts().bad), (1, 1));
        assert!(take(&mut incoming, 1, 0));
    }

    #[test]
    fn the_dead_make_room_for_the_living() {
        let mut incoming = Incoming::new(OWN, 1, 2);
        for (host, ms) in [(10, 0), (11, 1), (12, 2)] {
            let taken = incoming.take(&entry(host, 1, false), at(ms), 0).unwrap();
            let Taken::New(arrivals) = taken else {
                panic!("{host} is new");
            };
            let forgotten = arrivals.contains(&Arrival::Silent { host: 10 });
            assert_eq!(forgotten, host == 12, "{arrivals:?}");
        }
        assert_eq!((incoming.alive(), incoming.counts().forgotten), (2, 1));
    }

    #[test]
    fn who_asks_is_heard() {
        let mut incoming = Incoming::new(OWN, 1, 8);
        incoming.take(&entry(OTHER, 1, true), at(0), 0).unwrap();
        assert!(incoming.take_asked() && !incoming.take_asked());
    }
}
