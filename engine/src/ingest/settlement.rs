//! What a publisher is told: how many of its ticks are decided, and up to which message.

use std::collections::BTreeMap;

use tickwire_proto::reply::Published;

/// The books of one publisher's connection.
#[derive(Debug, Default)]
pub struct Settlement {
    counts: Published,
    /// Tick messages received.
    received: u64,
    /// Messages with ticks that arbitration holds, and how many.
    undecided: BTreeMap<u64, u32>,
    /// What the last ack said.
    told: Published,
    /// Flushes that wait for every message up to the given one.
    flushes: Vec<(Option<u32>, u64)>,
}

impl Settlement {
    /// A tick message begins; returns its number, from 1.
    pub fn begin_message(&mut self) -> u64 {
        self.received += 1;
        self.received
    }

    /// The message turned out to be a request, which is not counted.
    pub fn retract_message(&mut self) {
        self.received -= 1;
    }

    /// A tick was placed.
    pub fn accept(&mut self) {
        self.counts.accepted += 1;
    }

    /// A tick, or a whole message, was refused.
    pub fn reject(&mut self) {
        self.counts.rejected += 1;
    }

    /// Another copy preceded a tick.
    pub fn duplicate(&mut self) {
        self.counts.duplicates += 1;
    }

    /// A tick of `message` waits behind a hole.
    pub fn hold(&mut self, message: u64) {
        *self.undecided.entry(message).or_default() += 1;
    }

    /// A held tick of `message` was placed.
    pub fn settle(&mut self, message: u64) {
        self.counts.accepted += 1;
        if let Some(held) = self.undecided.get_mut(&message) {
            *held -= 1;
            if *held == 0 {
                self.undecided.remove(&message);
            }
        }
    }

    /// An error was counted but not sent.
    pub fn omit_error(&mut self) {
        self.counts.errors_omitted += 1;
    }

    /// A `flush` asks for everything before it to be decided.
    pub fn flush(&mut self, id: Option<u32>) {
        self.flushes.push((id, self.received));
    }

    /// The counts as of now.
    pub fn counts(&self) -> Published {
        let messages = self
            .undecided
            .first_key_value()
            .map_or(self.received, |(message, _)| message - 1);
        Published {
            messages,
            ..self.counts
        }
    }

    /// Flushes whose messages are decided by now.
    pub fn take_flushed(&mut self) -> Vec<Option<u32>> {
        let decided = self.counts().messages;
        let mut flushed = Vec::new();
        self.flushes.retain(|(id, message)| {
            let ready = *message <= decided;
            if ready {
                flushed.push(*id);
            }
            !ready
        });
        flushed
    }

    /// Whether there is something that the publisher has not been told.
    pub fn has_news(&self) -> bool {
        self.counts() != self.told
    }

    /// The publisher is being told.
    pub fn told(&mut self) -> Published {
        self.told = self.counts();
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_as_decided_up_to_the_first_held_tick() {
        let mut settlement = Settlement::default();
        for _ in 0..3 {
            settlement.begin_message();
        }
        settlement.accept();
        settlement.hold(2);
        settlement.accept();
        assert_eq!(settlement.counts().messages, 1);
        settlement.flush(Some(7));
        assert!(settlement.take_flushed().is_empty());
        settlement.settle(2);
        let counts = settlement.counts();
        assert_eq!((counts.messages, counts.accepted), (3, 3));
        assert_eq!(settlement.take_flushed(), [Some(7)]);
        assert!(settlement.has_news());
        settlement.told();
        assert!(!settlement.has_news());
    }
}
