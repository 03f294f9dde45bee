//! Other hosts' clocks, for clients that come from there with a cursor.
//!
//! A cursor says what its client had of another tape, and when the last of that was admitted there, by
//! that host's clock. What it lacks of this tape came later than that, but for what was on its way between
//! the hosts. So a replay begins some time before that moment, and clients drop what they had.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use tickwire_proto::cursor::Cursor;

use super::shard::Shard;

/// How fast two clocks may drift apart, parts of a thousand: what was once seen of a difference is
/// believed a little less from then on.
const DRIFT_PER_MS_NS: i64 = 1_000;

/// The longest pause between two entries of a host that hears the others all the time, ns.
const BREAK_NS: u64 = 4_000_000_000;
/// How long it is remembered that a host did not hear the others, ns: as long as the host itself.
const REMEMBER_NS: u64 = 3_600_000_000_000;

/// What a shard knows of a host's clock, and of what the host has heard. All times are in ns, and but for
/// `ahead` by that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// What to add to its time for this host's: the least that was seen, since whatever delays its
    /// entries adds to it.
    ahead: i64,
    /// Up to when it is known to have heard the others.
    heard: u64,
    /// From when to when it did not hear all that it might have. One span for all such times, since too
    /// early is safe.
    deaf: Option<(u64, u64)>,
}

impl Beat {
    /// What an entry shows that was complete at `sent_ns` by its host's clock, and in Redis at `wall_ns`
    /// by this one's.
    pub fn new(sent_ns: u64, wall_ns: u64, hears: bool) -> Self {
        Self {
            ahead: wall_ns.wrapping_sub(sent_ns).cast_signed(),
            heard: if hears { sent_ns } else { 0 },
            deaf: None,
        }
    }

    /// The same after another entry, `elapsed_ms` behind the last.
    #[must_use]
    pub fn and(self, other: Self, elapsed_ms: u64) -> Self {
        let drift_ns =
            DRIFT_PER_MS_NS.saturating_mul(i64::try_from(elapsed_ms).unwrap_or(i64::MAX));
        let known_ns = self.ahead.saturating_add(drift_ns);
        let both = Self {
            ahead: known_ns.min(other.ahead),
            heard: self.heard.max(other.heard),
            deaf: self
                .deaf
                .filter(|(_, to)| other.heard.saturating_sub(*to) < REMEMBER_NS),
        };
        if other.heard > self.heard.saturating_add(BREAK_NS) && self.heard > 0 {
            both.deafened(self.heard, other.heard)
        } else {
            both
        }
    }

    /// This host could not be heard from `from_ns` to `to_ns` by its own clock.
    #[must_use]
    pub fn unheard(self, from_ns: u64, to_ns: u64) -> Self {
        let there = |ns: u64| ns.saturating_add_signed(self.ahead.saturating_neg());
        self.deafened(there(from_ns), there(to_ns))
    }

    fn deafened(self, from: u64, to: u64) -> Self {
        let (first, last) = self.deaf.unwrap_or((from, to));
        Self {
            deaf: Some((first.min(from), last.max(to))),
            ..self
        }
    }

    /// Up to when, by this host's clock, a client of that one had what was sent.
    fn had_ns(self, admitted_ns: u64) -> u64 {
        let heard_ns = admitted_ns.min(self.heard);
        let had_ns = match self.deaf {
            Some((from, to)) if (from..=to).contains(&heard_ns) => from,
            _ => heard_ns,
        };
        had_ns.saturating_add_signed(self.ahead)
    }
}

/// What is known of the clocks of all hosts, for the floors.
#[derive(Debug)]
pub struct Beats {
    shards: Vec<ArcSwap<HashMap<u64, Beat>>>,
    overlap_ns: u64,
}

impl Beats {
    /// Knows nobody yet in any of `shards`; replays are to begin `overlap_ms` earlier than they have to.
    pub fn new(shards: u32, overlap_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..shards).map(|_| ArcSwap::default()).collect(),
            overlap_ns: overlap_ms * 1_000_000,
        })
    }

    /// All that a shard knows now, by host.
    pub fn publish(&self, shard: Shard, beats: HashMap<u64, Beat>) {
        self.shards[shard.number as usize].store(Arc::new(beats));
    }

    /// When what a client may lack began, by this host's clock, ns since 1970; `None` where nothing is
    /// known of the host that the cursor is from.
    pub fn begin_ns(&self, cursor: &Cursor) -> Option<u64> {
        let had_ns = self.shards.iter().map(|shard| {
            let beats = shard.load();
            Some(beats.get(&cursor.tape)?.had_ns(cursor.admitted_ns))
        });
        let had_ns: Vec<u64> = had_ns.collect::<Option<_>>()?;
        let first = had_ns.into_iter().min()?;
        Some(first.saturating_sub(self.overlap_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// What this host's clock shows more than the other one's.
    const AHEAD: u64 = 3_600 * S;
    const OTHER: u64 = 7;

    fn cursor(admitted_ns: u64) -> Cursor {
        Cursor {
            tape: OTHER,
            position: 1,
            admitted_ns,
        }
    }

    fn shard(number: u32) -> Shard {
        Shard { number, of: 2 }
    }

    fn beats(of_shards: [Beat; 2]) -> Arc<Beats> {
        let beats = Beats::new(2, 5_000);
        for (number, beat) in (0..).zip(of_shards) {
            beats.publish(shard(number), HashMap::from([(OTHER, beat)]));
        }
        beats
    }

    #[test]
    fn a_time_is_converted_by_the_least_delayed_entry() {
        // Two seconds late, half a second, ten.
        let late = |sent: u64, delay: u64| Beat::new(sent, sent + AHEAD + delay, true);
        let beat = late(100 * S, 2 * S)
            .and(late(101 * S, S / 2), 1_000)
            .and(late(102 * S, 10 * S), 1_000);
        let begin = beats([beat; 2]).begin_ns(&cursor(101 * S)).unwrap();
        let exact = 101 * S + AHEAD - 5 * S;
        assert_eq!(
            begin,
            exact + S / 2 + S / 1_000,
            "half a second, and the drift of one"
        );
    }

    #[test]
    fn a_clock_may_be_behind_as_well() {
        let beat = Beat::new(AHEAD + 100 * S, 100 * S, true);
        let begin = beats([beat; 2]).begin_ns(&cursor(AHEAD + 90 * S));
        assert_eq!(begin, Some(85 * S));
    }

    #[test]
    fn who_did_not_hear_had_nothing_since() {
        // It has heard nobody in the second shard for twenty seconds, though it has spoken.
        let heard = Beat::new(100 * S, 100 * S, true);
        let deaf = Beat::new(80 * S, 80 * S, true).and(Beat::new(100 * S, 100 * S, false), 20_000);
        let begin = beats([heard, deaf]).begin_ns(&cursor(99 * S));
        assert_eq!(begin, Some(75 * S));
    }

    #[test]
    fn who_did_not_hear_for_a_while_lacks_that_while() {
        let hears = |s: u64| Beat::new(s * S, s * S, true);
        // Sent again a minute late, it says what held then.
        let late = hears(100).and(Beat::new(101 * S, 161 * S, true), 60_000);
        // And 60 ms for a minute's drift.
        let begin = beats([late; 2]).begin_ns(&cursor(130 * S));
        assert_eq!(begin, Some(96 * S + S * 6 / 100));
        // Back again, and some time after this host could not be heard.
        let on = |beat, from, to| (from..to).fold(beat, |beat: Beat, s| beat.and(hears(s), 1_000));
        let back = on(late, 165, 241).unheard(200 * S, 230 * S);
        for (left, begin) in [(99, 94), (130, 96), (220, 96), (239, 234)] {
            let begun = beats([back; 2]).begin_ns(&cursor(left * S)).unwrap();
            // But for some drift.
            assert_eq!(begun / S, begin, "{left}");
        }
        assert_eq!(on(back, 241, 8_000).deaf, None);
    }

    #[test]
    fn nothing_is_told_of_strangers() {
        let known = Beat::new(S, S, true);
        let one_shard = beats([known; 2]);
        one_shard.publish(shard(1), HashMap::new());
        assert_eq!(one_shard.begin_ns(&cursor(S)), None);
        assert_eq!(Beats::new(0, 5_000).begin_ns(&cursor(S)), None, "no bridge");
    }

    #[test]
    fn no_times_upset_it() {
        let times = [0, 1, S, u64::MAX / 2, u64::MAX];
        for sent in times {
            for wall in times {
                let beat = Beat::new(sent, wall, true).and(Beat::new(wall, sent, false), u64::MAX);
                for time in times {
                    beats([beat; 2]).begin_ns(&cursor(time));
                }
            }
        }
    }
}
