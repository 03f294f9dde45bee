//! What a client has been told of one symbol's trades, over all its streams and polls.

use serde_json::Value;

/// An account of trades: every seq is told once, in order, or in a gap.
#[derive(Debug, Default)]
pub struct Account {
    /// Of the last tick or gap.
    pub epoch: u64,
    pub at: u64,
    /// Where it began.
    pub begin: u64,
    pub ticks: u64,
    pub gapped: u64,
    pub repeats: u64,
}

impl Account {
    /// Takes an event of the symbol; panics where something is missing without a gap. Returns the
    /// state that a `feed` tells.
    pub fn take(&mut self, event: &Value) -> Option<String> {
        if event["snapshot"] != true {
            self.count(event);
        }
        event["state"].as_str().map(str::to_owned)
    }

    fn count(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("start") => {
                let Some(at) = event["trade"].as_u64() else {
                    return;
                };
                let epoch = event["epoch"].as_u64().unwrap();
                if self.epoch == 0 || epoch > self.epoch {
                    (self.epoch, self.at, self.begin) = (epoch, at, at);
                }
                // A start beyond the account is followed by a gap that says so, or the next tick fails.
            }
            Some("trade") => {
                let (epoch, seq) = (
                    event["epoch"].as_u64().unwrap(),
                    event["seq"].as_u64().unwrap(),
                );
                if epoch == self.epoch && seq <= self.at {
                    self.repeats += 1;
                    return;
                }
                assert_eq!((epoch, seq), (self.epoch, self.at + 1));
                self.at = seq;
                self.ticks += 1;
            }
            Some("gap") => {
                let Some(to) = event["to"].as_u64() else {
                    return;
                };
                let from = event["from"].as_u64().unwrap_or(self.at + 1);
                assert!(from <= self.at + 1, "{event} after {}", self.at);
                self.gapped += to.saturating_sub(self.at);
                self.at = self.at.max(to);
            }
            _ => {}
        }
    }
}
