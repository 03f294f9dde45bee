//! What all subscribers of a symbol receive alike, so that it is parsed once and compared after
//! that.
//!
//! The first connection that gets a frame has it parsed; its bytes are then kept per symbol, one
//! frame behind the other. A connection whose account stands at `seq` must receive exactly the
//! bytes from there on: one comparison checks and counts many ticks. What differs in a single
//! byte, or is not known yet, is parsed.

/// Bytes kept over all symbols, half of them at least.
const BYTES_MAX: usize = 16 << 20;
/// Bytes kept of one symbol at least.
const SYMBOL_BYTES_MIN: usize = 8 << 10;

/// The known frames of all symbols.
#[derive(Debug)]
pub struct References {
    streams: Vec<Stream>,
    bytes_max: usize,
}

/// Frames of one symbol, in their order and without a hole.
#[derive(Debug, Default)]
struct Stream {
    epoch: u64,
    /// The number of the first frame's tick.
    first_seq: u64,
    bytes: Vec<u8>,
    frames: Vec<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Where it ends in the stream's bytes.
    end: usize,
    /// The tick's intended time.
    ts_us: u64,
}

/// What a tick's frame is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The symbol.
    pub symbol: u32,
    /// The epoch.
    pub epoch: u64,
    /// The tick's number.
    pub seq: u64,
}

impl References {
    /// For `symbols` symbols.
    pub fn new(symbols: usize) -> Self {
        Self {
            streams: (0..symbols).map(|_| Stream::default()).collect(),
            bytes_max: (BYTES_MAX / symbols.max(1)).max(SYMBOL_BYTES_MIN),
        }
    }

    /// Learns the frame of a tick, if it is the next one of its symbol.
    pub fn learn(&mut self, place: Place, ts_us: u64, frame: &[u8]) {
        let bytes_max = self.bytes_max;
        let stream = &mut self.streams[place.symbol as usize];
        let next = stream.first_seq + stream.frames.len() as u64;
        if stream.epoch != place.epoch || next < place.seq {
            *stream = Stream {
                epoch: place.epoch,
                first_seq: place.seq,
                ..Stream::default()
            };
        } else if next > place.seq {
            return;
        }
        stream.bytes.extend_from_slice(frame);
        stream.frames.push(Known {
            end: stream.bytes.len(),
            ts_us,
        });
        if stream.bytes.len() > bytes_max {
            stream.forget_half();
        }
    }

    /// How many bytes at the head of `incoming` are whole known frames from `place` on, at most
    /// `frames_max` of them. Tells `each` of their ticks: intended time, and how many in a row
    /// share it.
    pub fn matching(
        &self,
        place: Place,
        incoming: &[u8],
        frames_max: usize,
        mut each: impl FnMut(u64, u64),
    ) -> usize {
        let stream = &self.streams[place.symbol as usize];
        if stream.epoch != place.epoch {
            return 0;
        }
        let Some(known) = stream.from(place.seq) else {
            return 0;
        };
        let known = &known[..known.len().min(frames_max)];
        let from = stream.start_of(place.seq);
        let matched = matched_frames(&stream.bytes[from..], from, known, incoming);
        let matched = &known[..matched];
        for run in matched.chunk_by(|a, b| a.ts_us == b.ts_us) {
            each(run[0].ts_us, run.len() as u64);
        }
        matched.last().map_or(0, |last| last.end - from)
    }
}

/// How many of the `known` frames, the first of which is at the head of `bytes`, are at the head
/// of `incoming`.
fn matched_frames(bytes: &[u8], from: usize, known: &[Known], incoming: &[u8]) -> usize {
    let whole = known.partition_point(|frame| frame.end - from <= incoming.len());
    let Some(last) = known[..whole].last() else {
        return 0;
    };
    let length = last.end - from;
    if bytes[..length] == incoming[..length] {
        return whole;
    }
    let mut start = 0;
    known[..whole]
        .iter()
        .take_while(|frame| {
            let range = start..frame.end - from;
            start = range.end;
            bytes[range.clone()] == incoming[range]
        })
        .count()
}

impl Stream {
    fn from(&self, seq: u64) -> Option<&[Known]> {
        let place = seq.checked_sub(self.first_seq)?;
        self.frames.get(place as usize..)
    }

    fn start_of(&self, seq: u64) -> usize {
        match seq - self.first_seq {
            0 => 0,
            place => self.frames[place as usize - 1].end,
        }
    }

    fn forget_half(&mut self) {
        let half = self.frames.len() / 2;
        if half == 0 {
            return;
        }
        let cut = self.frames[half - 1].end;
        self.bytes.drain(..cut);
        self.frames.drain(..half);
        for frame in &mut self.frames {
            frame.end -= cut;
        }
        self.first_seq += half as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: u64 = 5;

    fn place(seq: u64) -> Place {
        Place {
            symbol: 0,
            epoch: EPOCH,
            seq,
        }
    }

    fn frame(seq: u64) -> Vec<u8> {
        format!("<{}>", "x".repeat(seq as usize % 7) + &seq.to_string()).into()
    }

    fn learnt(seqs: std::ops::RangeInclusive<u64>) -> References {
        let mut references = References::new(1);
        for seq in seqs {
            references.learn(place(seq), seq / 2, &frame(seq));
        }
        references
    }

    fn matched(references: &References, place: Place, incoming: &[u8]) -> (usize, Vec<(u64, u64)>) {
        let mut runs = Vec::new();
        let used = references.matching(place, incoming, usize::MAX, |ts, count| {
            runs.push((ts, count));
        });
        (used, runs)
    }

    proptest! {
        #[test]
        fn only_whole_equal_frames_match(
            first in 1..5_u64, known in 1..30_u64, start in 0..40_u64, sent in 0..40_u64,
            cut in 0..10_usize, spoilt in proptest::option::of(0..300_usize),
        ) {
            let last = first + known - 1;
            let references = learnt(first..=last);
            let mut incoming: Vec<u8> = (start..start + sent).flat_map(frame).collect();
            incoming.truncate(incoming.len().saturating_sub(cut));
            if let Some(at) = spoilt && let Some(byte) = incoming.get_mut(at) {
                *byte ^= 1;
            }
            let (used, runs) = matched(&references, place(start), &incoming);

            // One frame after the other, as a parser would.
            let mut expected = 0;
            let mut ticks = 0;
            for seq in start..start + sent {
                let next = frame(seq);
                if seq < first || seq > last || !incoming[expected..].starts_with(&next) {
                    break;
                }
                expected += next.len();
                ticks += 1;
            }
            prop_assert_eq!(used, expected);
            prop_assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), ticks);
            prop_assert!(runs.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn ticks_of_one_moment_are_told_together() {
        let incoming: Vec<u8> = (2..=6).flat_map(frame).collect();
        let (used, runs) = matched(&learnt(1..=6), place(2), &incoming);
        assert_eq!((used, runs), (incoming.len(), vec![(1, 2), (2, 2), (3, 1)]));
    }

    #[test]
    fn frames_of_another_epoch_or_beyond_a_hole_do_not_match() {
        let mut references = learnt(1..=4);
        let other = Place {
            epoch: EPOCH + 1,
            ..place(2)
        };
        assert_eq!(matched(&references, other, &frame(2)).0, 0);
        references.learn(place(9), 0, &frame(9));
        assert_eq!(matched(&references, place(2), &frame(2)).0, 0);
        assert_eq!(matched(&references, place(9), &frame(9)).0, frame(9).len());
        references.learn(place(9), 0, b"again");
        assert_eq!(matched(&references, place(10), b"again").0, 0);
    }

    #[test]
    fn no_more_than_asked_for_is_taken() {
        let incoming: Vec<u8> = (1..=3).flat_map(frame).collect();
        let used = learnt(1..=3).matching(place(1), &incoming, 1, |_, count| assert_eq!(count, 1));
        assert_eq!(used, frame(1).len());
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_rest_still_matches() {
        let mut references = References::new(BYTES_MAX / SYMBOL_BYTES_MIN);
        for seq in 1..=5_000 {
            references.learn(place(seq), seq, &frame(seq));
            assert!(references.streams[0].bytes.len() <= SYMBOL_BYTES_MIN);
        }
        assert_eq!(matched(&references, place(1), &frame(1)).0, 0);
        let recent: Vec<u8> = (4_900..=5_000).flat_map(frame).collect();
        assert_eq!(matched(&references, place(4_900), &recent).0, recent.len());
    }
}
