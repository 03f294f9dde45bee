//! Where a connection goes: publishers to ingest, subscribers to a floor.
//!
//! A subscriber that names symbols in its upgrade's query goes to the floor that rendezvous
//! hashing gives most of them to, so that one floor need not encode what another encodes already;
//! no floor takes more than 1.25 times the mean for that. Others go where the fewest are.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, atomic::Ordering},
};

use rustc_hash::FxHasher;
use tickwire_proto::{request::Subscribe, upgrade::Endpoint};

use crate::{
    bell::Mailbox,
    door::{Admitted, Handover},
    floor::{self, FloorDesk},
    ingest,
};

/// Takes finished connections from the door to their threads.
pub struct Reception {
    /// The floors, by number.
    pub floors: Vec<Arc<FloorDesk>>,
    /// Ingest's letters.
    pub ingest: Arc<Mailbox<ingest::Letter>>,
}

impl Handover for Reception {
    fn hand_over(&self, admitted: Admitted) -> Result<(), Admitted> {
        match admitted.endpoint {
            Endpoint::Publish => self
                .ingest
                .post(ingest::Letter::Admitted(Box::new(admitted)))
                .map_err(|letter| match letter {
                    ingest::Letter::Admitted(admitted) => *admitted,
                    _ => unreachable!("a refused letter comes back as it was posted"),
                }),
            Endpoint::Subscribe => self.to_floor(admitted),
        }
    }

    fn replace(&self, session: u64) {
        // Only the owner knows the session; the others find nothing. A full mailbox means that the
        // old connection stays a while longer, which harms nobody but its user.
        for floor in &self.floors {
            let _ = floor.mailbox.post(floor::Letter::Replace(session));
        }
        let _ = self.ingest.post(ingest::Letter::Replace(session));
    }
}

impl Reception {
    #[expect(
        clippy::result_large_err,
        reason = "handing the value back is the point"
    )]
    fn to_floor(&self, admitted: Admitted) -> Result<(), Admitted> {
        let loads: Vec<usize> = self
            .floors
            .iter()
            .map(|floor| floor.load.load(Ordering::Relaxed))
            .collect();
        let floor = &self.floors[place(&loads, admitted.subscribe.as_ref())];
        floor.load.fetch_add(1, Ordering::Relaxed);
        floor
            .mailbox
            .post(floor::Letter::Admitted(Box::new(admitted)))
            .map_err(|letter| {
                floor.load.fetch_sub(1, Ordering::Relaxed);
                match letter {
                    floor::Letter::Admitted(admitted) => *admitted,
                    _ => unreachable!("a refused letter comes back as it was posted"),
                }
            })
    }
}

/// The floor for a connection, given how many each floor has.
fn place(loads: &[usize], subscribe: Option<&Subscribe>) -> usize {
    let total: usize = loads.iter().sum::<usize>() + 1;
    // 1.25 times the mean, rounded up.
    let load_max = (total * 5).div_ceil(loads.len() * 4);
    let mut votes = vec![0u32; loads.len()];
    for selector in subscribe
        .iter()
        .flat_map(|subscribe| &subscribe.selection.selectors)
    {
        votes[rendezvous(selector, loads.len())] += 1;
    }
    (0..loads.len())
        .filter(|floor| votes[*floor] > 0 && loads[*floor] < load_max)
        .max_by_key(|floor| votes[*floor])
        .or_else(|| (0..loads.len()).min_by_key(|floor| loads[*floor]))
        .unwrap_or(0)
}

/// The floor with the highest hash of (key, floor): adding a floor moves only what it takes.
fn rendezvous(key: impl Hash, floors: usize) -> usize {
    let score = |floor: &usize| {
        let mut hasher = FxHasher::default();
        (&key, floor).hash(&mut hasher);
        spread(hasher.finish())
    };
    (0..floors).max_by_key(score).unwrap_or(0)
}

/// Lets every bit decide over every other (the finalizer of `MurmurHash3`). `FxHasher` is made for
/// tables, and hardly moves the high bits for what it hashes last, which here is the floor.
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use tickwire_proto::{
        pattern::Selector,
        request::{Mode, Selection},
        tick::Channels,
    };

    use super::*;

    fn subscribe(symbol: &str) -> Subscribe {
        Subscribe {
            selection: Selection {
                selectors: vec![Selector::parse(symbol).unwrap()],
                rejected: vec![],
            },
            channels: Channels::BOTH,
            mode: Mode::Stream,
            snapshot: true,
            since: None,
        }
    }

    #[test]
    fn the_same_symbols_meet_on_one_floor_until_it_is_full() {
        let request = subscribe("BTC-USDT");
        let home = place(&[10, 10, 10, 10], Some(&request));
        let mut loads = [10; 4];
        loads[home] = 12;
        assert_eq!(place(&loads, Some(&request)), home);
        loads[home] = 15;
        assert_ne!(place(&loads, Some(&request)), home);
    }

    #[test]
    fn symbols_spread_over_the_floors() {
        let mut counts = [0; 4];
        for number in 0..400 {
            counts[place(&[100; 4], Some(&subscribe(&format!("SYM{number}"))))] += 1;
        }
        assert!(
            counts.iter().all(|count| (60..140).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn who_names_nothing_goes_where_the_fewest_are() {
        assert_eq!(place(&[3, 1, 2], None), 1);
    }
}
