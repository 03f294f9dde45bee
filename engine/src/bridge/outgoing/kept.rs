//! Last ticks, for hosts that come when the stream has forgotten a symbol.

use tickwire_proto::{
    sbe::entry::{Carried, EntryWriter, Head, Numbering},
    symbol::Symbol,
    tick::{Channel, FeedState},
};

use super::{Outgoing, tick};
use crate::{
    bridge::account::Account,
    tape::{Event, Position, SymbolId, Tape},
};

impl Outgoing {
    /// The last trade and quote of at most `limit` symbols that this host carries, or did, and that have
    /// changed since this was last asked, each as an entry of its own, for hosts that come when the stream has
    /// forgotten them.
    pub fn changed(&mut self, limit: usize) -> Vec<(Symbol, Vec<u8>)> {
        let mut kept = Vec::new();
        let begin = std::mem::take(&mut self.kept_to);
        for (index, account) in self.accounts.iter_mut().enumerate().skip(begin) {
            if kept.len() == limit {
                // The next time goes on here, so that nobody is always last.
                self.kept_to = index;
                break;
            }
            let id = SymbolId(index as u32);
            let Some(numbering) = unkept(&self.tape, id, account) else {
                continue;
            };
            account.keep();
            let head = Head {
                host: self.host,
                number: 0,
                shards: self.shard.of,
                is_roll: false,
                asks: false,
                hears: false,
                sent_ns: self.stamp.0,
            };
            let state = match account.carried {
                Some(_) => FeedState::Live,
                None => FeedState::Stale,
            };
            kept.push((
                self.tape.name(id),
                last_ticks(&self.tape, &head, id, numbering, state),
            ));
        }
        kept
    }

    /// Whether [`Outgoing::changed`] has nothing to say.
    pub fn is_kept(&self) -> bool {
        let mut accounts = (0..).map(SymbolId).zip(&self.accounts);
        !accounts.any(|(id, account)| unkept(&self.tape, id, account).is_some())
    }

    /// Whatever Redis kept of last ticks may be lost.
    pub fn keep_again(&mut self) {
        self.kept_to = 0;
        self.accounts.iter_mut().for_each(Account::keep_again);
    }
}

/// Who numbers a symbol whose last ticks are to be kept and are not.
fn unkept(tape: &Tape, id: SymbolId, account: &Account) -> Option<Numbering> {
    let is_due = account.is_ours && account.is_unkept();
    tape.ever_carried(id).filter(|_| is_due)
}

/// A symbol's last trade and quote, and whether it is live, as an entry by itself.
fn last_ticks(
    tape: &Tape,
    head: &Head,
    id: SymbolId,
    numbering: Numbering,
    state: FeedState,
) -> Vec<u8> {
    let symbol = tape.name(id);
    let end = Position(u64::MAX);
    let last = Channel::BOTH.map(|channel| {
        let newest = tape.newest_tick_before(id, channel, end);
        newest.ok().flatten()
    });
    let epoch = last.iter().flatten().map(|record| record.epoch).max();
    let mut entry = EntryWriter::default();
    entry.begin(head);
    let current = last.map(|record| record.filter(|record| Some(record.epoch) == epoch));
    let name = entry.carry(&Carried {
        symbol,
        numbering,
        epoch: epoch.unwrap_or_default(),
        placed: current.map(|record| record.map(|record| record.first_seq() - 1)),
        base: [None; 2],
        before: None,
    });
    for record in current.iter().flatten() {
        if let Event::Tick { seq, ts_ns, values } = record.event {
            entry.tick(name, &tick(symbol, record.epoch, (seq, ts_ns, values)));
        }
    }
    entry.feed(name, state);
    entry.bytes().to_vec()
}
