use proptest::prelude::*;

use super::*;
use crate::{
    reply::GapReason,
    sbe::fuzzing::{self, written},
    tick::{Body, Channel, Identity, Values},
};

const HEAD: Head = Head {
    host: 0xFEED,
    number: 7,
    shards: 4,
    is_roll: true,
    asks: false,
    hears: true,
    sent_ns: 1_700_000_000_000_000_001,
};

fn symbol(number: u8) -> Symbol {
    Symbol::parse(&format!("S{number}")).unwrap()
}

fn carried(number: u8) -> Carried {
    Carried {
        symbol: symbol(number),
        numbering: [Numbering::Source, Numbering::Host][usize::from(number % 2)],
        epoch: 3,
        placed: [Some(u64::from(number)), None],
        base: [None, [None, Some(5)][usize::from(number / 2 % 2)]],
        before: (number == 3).then_some(Ended {
            epoch: 2,
            placed: [None, Some(70)],
        }),
    }
}

fn tick(number: u8, seq: u64) -> Tick {
    Tick {
        symbol: symbol(number),
        identity: Identity { epoch: 3, seq },
        ts_ns: 1,
        values: Values {
            price_exponent: -2,
            size_exponent: 0,
            body: Body::Trade {
                price: seq as i64,
                size: None,
                side: None,
            },
        },
    }
}

fn gap(number: u8, from: u64) -> Gap {
    Gap {
        symbol: symbol(number),
        channel: Channel::Quote,
        epoch: 3,
        from: Some(from),
        to: Some(from + 2),
        reason: GapReason::Bridge,
        replay: None,
    }
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (0..4u8, 0..3u8, 1..1_000u64).prop_map(|(number, kind, seq)| match kind {
        0 => Item::Tick(tick(number, seq)),
        1 => Item::Gap(gap(number, seq)),
        _ => Item::Feed {
            symbol: symbol(number),
            state: FeedState::Live,
        },
    });
    prop::collection::vec(item, 0..40).prop_map(|items| {
        let names = (0..4).map(|number| Item::Carried(carried(number)));
        names.chain(items).collect()
    })
}

proptest! {
    #[test]
    fn what_a_host_writes_the_others_read(
        items in items(), is_roll: bool, asks: bool, hears: bool, sent_ns: u64,
    ) {
        let mut writer = written(&Head { is_roll, asks, ..HEAD }, &items);
        writer.stamp(sent_ns, hears);
        let head = Head { is_roll, asks, hears, sent_ns, ..HEAD };
        prop_assert_eq!(decode_head(writer.bytes()), Ok(head));
        prop_assert_eq!(decode_entry(writer.bytes()), Ok((head, items)));
    }

    #[test]
    fn an_entry_that_is_cut_off_says_nothing(items in items(), cut in 1..64usize) {
        let writer = written(&HEAD, &items);
        let bytes = writer.bytes();
        let (head, all) = decode_entry(bytes).unwrap();
        match decode_entry(&bytes[..bytes.len() - cut]) {
            // Cut between two messages: the rest is what a shorter entry would say.
            Ok((again, mut fewer)) => {
                prop_assert_eq!(again, head);
                // A name may have lost its past.
                let last = fewer.pop();
                prop_assert!(all.starts_with(&fewer));
                let name = |item: Option<&Item>| match item {
                    Some(Item::Carried(carried)) => Some(carried.symbol),
                    _ => None,
                };
                let whole = all.get(fewer.len());
                let is_same = last.as_ref() == whole || name(last.as_ref()) == name(whole);
                prop_assert!(last.is_none() || is_same);
            }
            Err(error) => {
                let is_cut = matches!(
                    error,
                    EntryError::Sbe(SbeError::Truncated { .. }) | EntryError::NoHead
                );
                prop_assert!(is_cut, "{}", error);
            }
        }
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::host_entry(&bytes);
    }

    #[test]
    fn bent_entries_are_refused_or_read(
        items in items(),
        bends in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = written(&HEAD, &items).bytes().to_vec();
        for (at, byte) in bends {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzzing::host_entry(&bytes);
    }
}

#[test]
fn a_writer_forgets_its_last_entry() {
    let mut writer = EntryWriter::default();
    for _ in 0..2 {
        writer.begin(&HEAD);
        assert!(writer.is_empty());
        assert_eq!(writer.len(), writer.bytes().len());
        assert_eq!(decode_entry(writer.bytes()), Ok((HEAD, Vec::new())));
        assert_eq!(writer.carry(&carried(1)), 0);
        assert!(!writer.is_empty());
    }
}

#[test]
fn what_hosts_do_not_tell_each_other_is_refused() {
    let begin = |more: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = written(&HEAD, &[Item::Carried(carried(1))])
            .bytes()
            .to_vec();
        more(&mut bytes);
        decode_entry(&bytes)
    };
    let foreign = |template| Err(EntryError::Foreign { template });
    assert_eq!(begin(&|out| encode::write_heartbeat(out, 1)), foreign(5));
    let snapshot = Marks {
        snapshot: true,
        ..Marks::default()
    };
    assert_eq!(
        begin(&|out| encode::write_tick(out, 0, &tick(1, 1), &snapshot)),
        foreign(1)
    );
    let open = Gap {
        to: None,
        ..gap(1, 1)
    };
    assert_eq!(begin(&|out| encode::write_gap(out, 0, &open)), foreign(3));
    assert_eq!(
        begin(&|out| encode::write_host_entry(out, &HEAD)),
        Err(EntryError::NoHead)
    );
    assert_eq!(
        begin(&|out| encode::write_feed(out, 9, FeedState::Live)),
        Err(EntryError::Sbe(SbeError::UndefinedSymbol { id: 9 }))
    );
    assert_eq!(decode_entry(b""), Err(EntryError::NoHead));
    assert_eq!(
        begin(&|out| encode::write_host_epoch(out, 9, &carried(1))),
        Err(EntryError::Sbe(SbeError::UndefinedSymbol { id: 9 }))
    );
    let behind_a_tick = |out: &mut Vec<u8>| {
        encode::write_tick(out, 0, &tick(1, 1), &Marks::default());
        encode::write_host_epoch(out, 0, &carried(1));
    };
    assert_eq!(
        begin(&behind_a_tick),
        Err(EntryError::Sbe(SbeError::UndefinedSymbol { id: 0 }))
    );
    let mut headless = Vec::new();
    encode::write_host_symbol(&mut headless, 0, &carried(1));
    assert_eq!(decode_entry(&headless), Err(EntryError::NoHead));
}
