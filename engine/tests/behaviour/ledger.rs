//! The account of every symbol and channel, kept from what a client receives.

use std::collections::BTreeMap;

use serde_json::Value;

/// Checks that from `start` on every seq is delivered, skipped or gapped, exactly once.
#[derive(Default)]
pub struct Ledger {
    accounts: BTreeMap<(String, String), Account>,
    pub delivered: u64,
    pub skipped: u64,
    pub gapped: u64,
    /// Reasons of the gaps, in order.
    pub reasons: Vec<String>,
}

struct Account {
    epoch: u64,
    start: u64,
    last: u64,
}

impl Ledger {
    /// Takes in one message; anything that is not about ticks is passed over.
    pub fn take(&mut self, message: &Value) {
        if message["snapshot"] == true {
            return;
        }
        let number = |field: &str| message[field].as_u64();
        let symbol = message["symbol"].as_str().unwrap_or_default().to_owned();
        let key = |channel: &str| (symbol.clone(), channel.to_owned());
        match message["type"].as_str() {
            Some("start") => {
                for channel in ["trade", "quote"] {
                    if let Some(start) = number(channel) {
                        let epoch = number("epoch").expect("an epoch");
                        let last = start;
                        self.accounts
                            .insert(key(channel), Account { epoch, start, last });
                    }
                }
            }
            Some(channel @ ("trade" | "quote")) => {
                let skipped = number("skipped").unwrap_or(0);
                let account = self
                    .accounts
                    .get_mut(&key(channel))
                    .unwrap_or_else(|| panic!("no start before {message}"));
                assert_eq!(number("epoch"), Some(account.epoch), "{message}");
                assert_eq!(
                    number("seq"),
                    Some(account.last + skipped + 1),
                    "a hole or a repeat before {message}"
                );
                account.last += skipped + 1;
                self.delivered += 1;
                self.skipped += skipped;
            }
            Some("gap") => {
                self.reasons
                    .push(message["reason"].as_str().expect("a reason").to_owned());
                let (Some(from), Some(to)) = (number("from"), number("to")) else {
                    return;
                };
                let channel = message["channel"].as_str().expect("a channel");
                let account = self.accounts.get_mut(&key(channel)).expect("a start");
                if number("epoch") == Some(account.epoch) {
                    assert_eq!(from, account.last + 1, "{message}");
                    account.last = to;
                    self.gapped += to + 1 - from;
                }
            }
            _ => {}
        }
    }

    /// The last seq accounted for.
    pub fn last(&self, symbol: &str, channel: &str) -> u64 {
        self.accounts
            .get(&(symbol.to_owned(), channel.to_owned()))
            .map_or(0, |account| account.last)
    }

    /// The epoch of an account; 0 before its `start`.
    pub fn epoch(&self, symbol: &str, channel: &str) -> u64 {
        self.accounts
            .get(&(symbol.to_owned(), channel.to_owned()))
            .map_or(0, |account| account.epoch)
    }

    /// `last` − `start` over all accounts that are open.
    pub fn covered(&self) -> u64 {
        self.accounts
            .values()
            .map(|account| account.last - account.start)
            .sum()
    }
}
