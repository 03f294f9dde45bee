//! How far a reader is behind the end of its stream.

use super::stream::{End, EntryId};

/// Kept from what was read and from looks at the stream's end, which may come in any order.
///
/// Redis counts all entries that a stream ever had. Whenever the reader comes by an entry at which that
/// count is known, the two counts are set against each other; from then on the difference is what has not
/// been read.
#[derive(Debug, Default)]
pub struct Lag {
    at: EntryId,
    read: u64,
    end: End,
    /// Entries that the stream had before the first that was read, modulo 2^64.
    before: Option<u64>,
}

impl Lag {
    /// Reading begins anew behind `at`, of a stream that may be another one and ends here.
    pub fn begin(&mut self, at: EntryId, end: End) {
        *self = Self {
            at,
            ..Self::default()
        };
        self.see(end);
    }

    /// An entry was read.
    pub fn pass(&mut self, id: EntryId) {
        self.at = id;
        self.read += 1;
        self.meet();
    }

    /// The stream was seen to end here.
    pub fn see(&mut self, end: End) {
        self.end = end;
        self.meet();
    }

    /// Entries that have not been read; before the end was reached once, those that the stream has.
    pub fn entries(&self) -> u64 {
        if self.at >= self.end.id {
            return 0;
        }
        self.before.map_or(self.end.length, |before| {
            let read = before.wrapping_add(self.read);
            self.end.added.wrapping_sub(read).min(self.end.length)
        })
    }

    /// How much older the last entry that was read is than the stream's last, ms by the server's clock.
    pub fn ms(&self) -> u64 {
        self.end.id.ms.saturating_sub(self.at.ms)
    }

    fn meet(&mut self) {
        if self.at == self.end.id {
            self.before = Some(self.end.added.wrapping_sub(self.read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, n: 0 }
    }

    fn end(ms: u64, added: u64) -> End {
        End {
            id: id(ms),
            added,
            length: 100,
        }
    }

    #[test]
    fn nothing_is_unread_at_the_end() {
        let mut lag = Lag::default();
        assert_eq!((lag.entries(), lag.ms()), (0, 0));
        lag.begin(id(5), end(5, 1_000));
        assert_eq!((lag.entries(), lag.ms()), (0, 0));
    }

    #[test]
    fn what_came_behind_the_last_that_was_read_is_counted() {
        let mut lag = Lag::default();
        lag.begin(id(5), end(5, 1_000));
        lag.see(end(90, 1_007));
        assert_eq!((lag.entries(), lag.ms()), (7, 85));
        for ms in [10, 20] {
            lag.pass(id(ms));
        }
        assert_eq!((lag.entries(), lag.ms()), (5, 70));
        // Read before anybody looked.
        lag.pass(id(95));
        assert_eq!((lag.entries(), lag.ms()), (0, 0));
    }

    #[test]
    fn a_reader_that_catches_up_has_at_most_the_whole_stream_before_it() {
        let mut lag = Lag::default();
        lag.see(end(90, 1_000));
        assert_eq!((lag.entries(), lag.ms()), (100, 90));
        lag.pass(id(80));
        assert_eq!((lag.entries(), lag.ms()), (100, 10));
        lag.pass(id(90));
        lag.see(end(95, 1_001));
        assert_eq!(lag.entries(), 1);
    }

    #[test]
    fn what_was_trimmed_unread_is_not_counted_forever() {
        let mut lag = Lag::default();
        lag.begin(id(5), end(5, 1_000));
        // 500 of these are gone before the reader comes to them.
        lag.see(end(90, 1_600));
        assert_eq!(lag.entries(), 100, "no more than there are");
        for _ in 0..99 {
            lag.pass(id(89));
        }
        lag.pass(id(90));
        lag.see(end(95, 1_603));
        assert_eq!(lag.entries(), 3);
    }
}
