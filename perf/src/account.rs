//! The account that the protocol promises: from `start` s to tick q,
//! delivered + skipped + gapped = q − s. Kept per connection, symbol and channel.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::message::{Channel, Tick};

/// Holes remembered per channel, to tell a late tick from a repeated one.
const HOLES_MAX: usize = 16;

/// What came, and what was wrong with it, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Ticks in their order.
    pub delivered: u64,
    /// Ticks that conflation left out, as the server said.
    pub skipped: u64,
    /// Ticks that the server declared lost.
    pub gapped: u64,
    /// Ticks that never came and were not declared.
    pub missing: u64,
    /// Ticks that came again.
    pub duplicates: u64,
    /// Ticks that came after a later one.
    pub out_of_order: u64,
    /// Ticks, gaps or skips that contradict the account: of an epoch that no `start` opened, or
    /// not where it stands.
    pub contradictions: u64,
}

/// The accounts of one connection.
#[derive(Debug, Default)]
pub struct Ledger {
    symbols: FxHashMap<Box<[u8]>, [Option<Account>; 2]>,
}

#[derive(Debug)]
struct Account {
    epoch: u64,
    last: u64,
    holes: Vec<(u64, u64)>,
}

impl Counts {
    /// Whether every tick was delivered or declared.
    pub fn is_sound(&self) -> bool {
        self.missing + self.duplicates + self.out_of_order + self.contradictions == 0
    }
}

impl Ledger {
    /// A `start`: a channel whose field is absent is left as it was.
    pub fn start(&mut self, symbol: &str, epoch: u64, last: [Option<u64>; 2]) {
        let accounts = self.symbols.entry(symbol.as_bytes().into()).or_default();
        for (account, last) in accounts.iter_mut().zip(last) {
            if let Some(last) = last {
                *account = Some(Account::new(epoch, last));
            }
        }
    }

    /// A tick of the account. Where no `start` opened one, as with servers that know none, the
    /// first tick does.
    pub fn tick(&mut self, tick: &Tick<'_>, counts: &mut Counts) {
        let channel = tick.channel as usize;
        if let Some(accounts) = self.symbols.get_mut(tick.symbol)
            && let Some(account) = &mut accounts[channel]
        {
            return account.tick(tick, counts);
        }
        counts.delivered += 1;
        self.symbols.entry(tick.symbol.into()).or_default()[channel] =
            Some(Account::new(tick.epoch, tick.seq));
    }

    /// A `gap`, both ends included; without `to` it closes an older epoch's account.
    pub fn gap(
        &mut self,
        (symbol, channel, epoch): (&str, Channel, u64),
        from: Option<u64>,
        to: Option<u64>,
        counts: &mut Counts,
    ) {
        let Some(to) = to else { return };
        let accounts = self.symbols.entry(symbol.as_bytes().into()).or_default();
        match (&mut accounts[channel as usize], from) {
            (Some(account), Some(from))
                if account.epoch == epoch && from == account.last + 1 && to >= from =>
            {
                counts.gapped += to - account.last;
                account.last = to;
            }
            (Some(_), Some(_)) => counts.contradictions += 1,
            (account, _) => *account = Some(Account::new(epoch, to)),
        }
    }
}

impl Account {
    fn new(epoch: u64, last: u64) -> Self {
        Self {
            epoch,
            last,
            holes: Vec::new(),
        }
    }

    fn tick(&mut self, tick: &Tick<'_>, counts: &mut Counts) {
        if tick.epoch != self.epoch {
            counts.contradictions += 1;
            *self = Self::new(tick.epoch, tick.seq);
        } else if tick.seq <= self.last {
            self.late(tick.seq, counts);
        } else {
            self.next(tick, counts);
        }
    }

    fn next(&mut self, tick: &Tick<'_>, counts: &mut Counts) {
        counts.delivered += 1;
        counts.skipped += tick.skipped;
        let expected = self.last + 1 + tick.skipped;
        if tick.seq > expected {
            counts.missing += tick.seq - expected;
            self.remember(expected, tick.seq - 1);
        } else if tick.seq < expected {
            counts.contradictions += 1;
        }
        self.last = tick.seq;
    }

    fn late(&mut self, seq: u64, counts: &mut Counts) {
        let hole = self
            .holes
            .iter()
            .position(|&(from, to)| (from..=to).contains(&seq));
        let Some(hole) = hole else {
            counts.duplicates += 1;
            return;
        };
        counts.out_of_order += 1;
        counts.missing -= 1;
        let (from, to) = self.holes.swap_remove(hole);
        if from < seq {
            self.remember(from, seq - 1);
        }
        if seq < to {
            self.remember(seq + 1, to);
        }
    }

    fn remember(&mut self, from: u64, to: u64) {
        if self.holes.len() == HOLES_MAX {
            self.holes.remove(0);
        }
        self.holes.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(epoch: u64, seq: u64) -> Tick<'static> {
        Tick {
            channel: Channel::Trade,
            symbol: b"A",
            epoch,
            seq,
            ts_us: 0,
            skipped: 0,
            accounted: true,
        }
    }

    fn counts_after(seqs: &[u64]) -> Counts {
        let mut ledger = Ledger::default();
        ledger.start("A", 1, [Some(0), None]);
        let mut counts = Counts::default();
        for &seq in seqs {
            ledger.tick(&tick(1, seq), &mut counts);
        }
        counts
    }

    #[test]
    fn every_tick_in_order_is_sound() {
        let counts = counts_after(&[1, 2, 3]);
        assert_eq!(
            counts,
            Counts {
                delivered: 3,
                ..Counts::default()
            }
        );
        assert!(counts.is_sound());
    }

    #[test]
    fn a_hole_is_missing() {
        let counts = counts_after(&[1, 2, 6]);
        assert_eq!(
            counts,
            Counts {
                delivered: 3,
                missing: 3,
                ..Counts::default()
            }
        );
        assert!(!counts.is_sound());
        assert_eq!(
            counts_after(&[2]).missing,
            1,
            "a hole right after the start"
        );
    }

    #[test]
    fn a_repeated_tick_is_a_duplicate() {
        let counts = counts_after(&[1, 2, 2, 1]);
        assert_eq!(
            counts,
            Counts {
                delivered: 2,
                duplicates: 2,
                ..Counts::default()
            }
        );
        assert!(!counts.is_sound());
    }

    #[test]
    fn a_late_tick_is_out_of_order_and_no_longer_missing() {
        let counts = counts_after(&[1, 5, 3, 3, 6]);
        let expected = Counts {
            delivered: 3,
            missing: 2,
            out_of_order: 1,
            duplicates: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
        assert!(!counts_after(&[1, 3, 2]).is_sound());
    }

    #[test]
    fn declared_losses_balance_the_account_only_where_it_stands() {
        let mut ledger = Ledger::default();
        let mut counts = Counts::default();
        ledger.start("A", 1, [Some(41), None]);
        ledger.gap(("A", Channel::Trade, 1), Some(42), Some(50), &mut counts);
        ledger.tick(
            &Tick {
                skipped: 4,
                ..tick(1, 55)
            },
            &mut counts,
        );
        assert_eq!(
            counts,
            Counts {
                delivered: 1,
                skipped: 4,
                gapped: 9,
                ..Counts::default()
            }
        );
        assert_eq!(counts.delivered + counts.skipped + counts.gapped, 55 - 41);
        ledger.gap(("A", Channel::Trade, 1), Some(58), Some(60), &mut counts);
        assert_eq!(counts.contradictions, 1);
        ledger.tick(
            &Tick {
                skipped: 9,
                ..tick(1, 56)
            },
            &mut counts,
        );
        assert_eq!(counts.contradictions, 2, "it claims more than was left out");
    }

    #[test]
    fn an_epoch_needs_a_start() {
        let mut ledger = Ledger::default();
        let mut counts = Counts::default();
        ledger.start("A", 1, [Some(0), None]);
        ledger.tick(&tick(1, 1), &mut counts);
        ledger.start("A", 2, [Some(9), None]);
        ledger.tick(&tick(2, 10), &mut counts);
        assert!(counts.is_sound());
        ledger.tick(&tick(3, 1), &mut counts);
        assert_eq!(counts.contradictions, 1);
    }

    #[test]
    fn a_server_without_start_opens_accounts_by_its_first_tick() {
        let mut ledger = Ledger::default();
        let mut counts = Counts::default();
        ledger.tick(&tick(1, 500), &mut counts);
        ledger.tick(&tick(1, 501), &mut counts);
        assert_eq!(
            counts,
            Counts {
                delivered: 2,
                ..Counts::default()
            }
        );
    }
}
