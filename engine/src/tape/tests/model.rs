//! Random pushes, with every answer of the tape checked against plain vectors.

use proptest::prelude::*;
use tickwire_proto::{reply::GapReason, sbe::entry::Numbering, tick::FeedState};

use super::*;
use crate::tape::{Origin, Position, ReadError, Record, layout::RECENT};

const SYMBOLS: u32 = 3;

/// Everything that was ever pushed.
struct Model {
    slots: u64,
    records: Vec<Record>,
}

impl Model {
    fn head(&self) -> u64 {
        self.records.len() as u64
    }

    fn lapped(&self) -> ReadError {
        ReadError::Lapped {
            oldest: Position(self.head() + 1 - self.slots),
        }
    }

    fn in_ring(&self, at: Position) -> bool {
        at.0 + self.slots >= self.head()
    }

    fn chain(&self, symbol: SymbolId, channel: Channel) -> Vec<Record> {
        let of_chain =
            |record: &&Record| record.symbol == symbol && record.channel() == Some(channel);
        self.records.iter().filter(of_chain).copied().collect()
    }

    fn chain_of(&self, record: &Record) -> Vec<Record> {
        record
            .channel()
            .map_or_else(Vec::new, |channel| self.chain(record.symbol, channel))
    }

    fn is_recent(chain: &[Record], at: Position) -> bool {
        chain
            .iter()
            .rev()
            .take(RECENT)
            .any(|record| record.position == at)
    }

    fn read(&self, at: Position) -> Result<Record, ReadError> {
        let record = self.records.get(at.0 as usize).ok_or(ReadError::NotYet)?;
        if self.in_ring(at) {
            Ok(*record)
        } else {
            Err(self.lapped())
        }
    }

    fn next(&self, at: &Record) -> Result<Option<Record>, ReadError> {
        let chain = self.chain_of(at);
        let next = chain
            .iter()
            .find(|record| record.position > at.position)
            .copied();
        match next {
            Some(next) if self.in_ring(at.position) || Self::is_recent(&chain, next.position) => {
                Ok(Some(next))
            }
            Some(_) => Err(self.lapped()),
            None => Ok(None),
        }
    }

    fn previous(&self, at: &Record) -> Result<Option<Record>, ReadError> {
        let chain = self.chain_of(at);
        let previous = chain
            .iter()
            .rfind(|record| record.position < at.position)
            .copied();
        match previous {
            Some(previous) if !self.retains(&chain, previous.position) => Err(self.lapped()),
            found_or_none => Ok(found_or_none),
        }
    }

    fn retains(&self, chain: &[Record], at: Position) -> bool {
        self.in_ring(at) || Self::is_recent(chain, at)
    }

    fn newest_before(
        &self,
        symbol: SymbolId,
        channel: Channel,
        before: u64,
        ticks_only: bool,
    ) -> Result<Option<Record>, ReadError> {
        let chain = self.chain(symbol, channel);
        for record in chain.iter().rev() {
            if !self.retains(&chain, record.position) {
                return Err(self.lapped());
            }
            let is_wanted = !ticks_only || matches!(record.event, Event::Tick { .. });
            if record.position.0 < before && is_wanted {
                return Ok(Some(*record));
            }
        }
        Ok(None)
    }
}

#[derive(Clone, Copy, Debug)]
struct Push {
    symbol: u32,
    shape: u8,
    new_epoch: bool,
}

fn pushes() -> impl Strategy<Value = Vec<Push>> {
    // Symbol 0 is hot and laps the others; gaps and feed changes are in between.
    let symbol = prop_oneof![6 => Just(0), 2 => Just(1), 1 => Just(2)];
    let push =
        (symbol, 0..10u8, prop::bool::weighted(0.05)).prop_map(|(symbol, shape, new_epoch)| Push {
            symbol,
            shape,
            new_epoch,
        });
    prop::collection::vec(push, 1..160)
}

fn event(shape: u8, position: u64) -> Event {
    match shape {
        0..4 => tick(Channel::Trade, position),
        4..7 => tick(Channel::Quote, position),
        7 | 8 => Event::Gap {
            channel: Channel::BOTH[usize::from(shape - 7)],
            from: position,
            to: position + 3,
            reason: GapReason::ALL[position as usize % 5],
        },
        _ => {
            let state = [FeedState::Stale, FeedState::Live][position as usize % 2];
            let numbering = [None, Some(Numbering::Source), Some(Numbering::Host)];
            let carried = Event::Carried(numbering[position as usize % 3]);
            [Event::Feed(state), carried][position as usize / 2 % 2]
        }
    }
}

fn push(writer: &mut Writer, model: &mut Model, epochs: &mut [u64], push: Push) {
    let symbol = SymbolId(push.symbol);
    let epoch = &mut epochs[push.symbol as usize];
    *epoch += u64::from(push.new_epoch);
    let position = Position(model.head());
    let event = event(push.shape, position.0);
    let previous = event
        .channel()
        .and_then(|channel| Some(model.chain(symbol, channel).last()?.position));
    let admitted_ns = position.0 * 1_000;
    let origin = [Origin::Here, Origin::Elsewhere][position.0 as usize / 3 % 2];
    model.records.push(Record {
        position,
        symbol,
        epoch: *epoch,
        admitted_ns,
        previous,
        origin,
        event,
    });
    let pushed = writer.push_from(origin, symbol, *epoch, admitted_ns, event);
    assert_eq!(pushed, position);
}

fn check_records(tape: &Tape, model: &Model) {
    assert_eq!(tape.head(), Position(model.head()));
    assert_eq!(
        tape.oldest(),
        Position((model.head() + 1).saturating_sub(model.slots))
    );
    for at in (0..model.head() + 2).map(Position) {
        let read = tape.read(at);
        assert_eq!(read, model.read(at));
        if let Ok(record) = read {
            assert_eq!(tape.symbol_at(at), record.symbol);
        }
    }
    // Nobody wants it, one symbol is wanted, or none is known.
    let all = tape.oldest()..tape.head();
    for wanted in [vec![false; 64], vec![true, false, true], vec![]] {
        let is_wanted = |at: &u64| {
            let symbol = tape.symbol_at(Position(*at)).0 as usize;
            wanted.get(symbol).is_none_or(|wanted| *wanted)
        };
        let first = (all.start.0..all.end.0).find(is_wanted);
        let expected = first.map_or(all.end, Position);
        assert_eq!(tape.first_wanted(all.clone(), &wanted), expected);
    }
    for record in &model.records {
        assert_eq!(tape.next(record), model.next(record), "next of {record:?}");
        assert_eq!(
            tape.previous(record),
            model.previous(record),
            "previous of {record:?}"
        );
    }
}

fn check_symbols(tape: &Tape, model: &Model) {
    for symbol in (0..SYMBOLS).map(SymbolId) {
        let feed = model
            .records
            .iter()
            .rev()
            .find_map(|record| match record.event {
                Event::Feed(state) if record.symbol == symbol => Some(state),
                _ => None,
            });
        assert_eq!(tape.feed(symbol), feed);
        for channel in Channel::BOTH {
            let chain = model.chain(symbol, channel);
            assert_eq!(tape.newest(symbol, channel), chain.last().copied());
            let newest_epoch = chain.last().map(|record| record.epoch);
            let base = chain
                .iter()
                .find(|record| Some(record.epoch) == newest_epoch);
            assert_eq!(
                tape.base(symbol, channel),
                base.map(|base| (base.epoch, base.first_seq()))
            );
            for before in 0..=model.head() {
                let newest = tape.newest_before(symbol, channel, Position(before));
                assert_eq!(newest, model.newest_before(symbol, channel, before, false));
                let newest = tape.newest_tick_before(symbol, channel, Position(before));
                assert_eq!(newest, model.newest_before(symbol, channel, before, true));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn every_answer_is_the_models(pushes in pushes(), slots_exponent in 1..6u32) {
        let slots = 1 << slots_exponent;
        let (mut writer, tape) = tape(slots, SYMBOLS);
        let mut model = Model { slots: slots as u64, records: Vec::new() };
        let mut epochs = [1; SYMBOLS as usize];
        for (number, one) in pushes.into_iter().enumerate() {
            push(&mut writer, &mut model, &mut epochs, one);
            if number.is_multiple_of(16) {
                check_records(&tape, &model);
            }
        }
        check_records(&tape, &model);
        check_symbols(&tape, &model);
    }
}
