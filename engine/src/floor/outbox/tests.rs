use std::sync::Arc;

use tickwire_proto::{price::Decimal, symbol::Symbol, tick::Values};

use super::*;
use crate::tape::{self, Event, TapeOptions};

const TICKS: u64 = 40;

/// A tape with ticks of one symbol, and a reference to each of them.
fn recorded() -> (Arc<Tape>, Rows, Vec<Queued>) {
    let options = TapeOptions {
        slots: 1_024,
        symbols_max: 4,
        id: 1,
    };
    let (mut writer, tape) = tape::create(options).unwrap();
    let symbol = writer.intern(Symbol::parse("A").unwrap()).unwrap();
    let mut ticks = Vec::new();
    for seq in 1..=TICKS {
        let values = Values::trade(Decimal::parse("1.25").unwrap(), None, None).unwrap();
        ticks.push(Queued {
            position: tape.head(),
            epoch: 1,
            seq,
            stream: Stream::new(symbol, Channel::Trade),
            skipped: 0,
        });
        let ts_ns = seq;
        writer.push(symbol, 1, ts_ns, Event::Tick { seq, ts_ns, values });
    }
    let mut rows = Rows::new(Arc::clone(&tape), 0);
    while rows.next_newborn().is_some() {}
    (tape, rows, ticks)
}

fn outbox(ticks: &[Queued]) -> Outbox {
    let mut outbox = Outbox::default();
    for tick in ticks {
        outbox.push_tick(*tick, usize::MAX);
    }
    outbox
}

/// Sends in JSON, of any size.
fn assembly<'a>(encoder: &'a mut Encoder, rows: &'a mut Rows, tape: &'a Tape) -> Assembly<'a> {
    Assembly {
        format: Subprotocol::Json,
        encoder,
        rows,
        tape,
        bytes_max: usize::MAX,
    }
}

#[test]
fn queues_that_begin_alike_share_their_sends_piece_by_piece() {
    let (tape, mut rows, ticks) = recorded();
    let mut encoder = Encoder::new();
    let mut assembly = assembly(&mut encoder, &mut rows, &tape);
    let mut whole = Vec::new();
    outbox(&ticks).assemble(&mut whole, &mut assembly);
    assembly.bytes_max = 500;

    let (mut first, mut second) = (outbox(&ticks), outbox(&ticks));
    // Fewer ticks than a send takes: not the beginning of the same.
    let mut short = outbox(&ticks[..2]);
    let mut shared = Shared::default();
    let mut received = Vec::new();
    let mut pieces = 0;
    while !first.is_empty() {
        let (own, sent) = first
            .assemble_shared(&mut shared, Rc::default, &mut assembly)
            .unwrap();
        let (same, again) = second
            .assemble_shared(&mut shared, Rc::default, &mut assembly)
            .unwrap();
        assert!(Rc::ptr_eq(&own, &same));
        assert_eq!(sent, again);
        if pieces == 0 {
            let (other, sent) = short
                .assemble_shared(&mut shared, Rc::default, &mut assembly)
                .unwrap();
            assert!(!Rc::ptr_eq(&own, &other));
            assert_eq!(sent.ticks, 2);
            assert!(own.starts_with(&other));
        }
        received.extend_from_slice(&own);
        pieces += 1;
    }
    assert!(second.is_empty() && short.is_empty());
    assert!(pieces > 3, "{pieces}");
    assert_eq!(received, whole);
}

#[test]
fn a_large_queue_keeps_its_memory_while_it_is_used() {
    let (tape, mut rows, ticks) = recorded();
    let mut encoder = Encoder::new();
    let mut assembly = assembly(&mut encoder, &mut rows, &tape);
    let many: Vec<Queued> = ticks.iter().copied().cycle().take(3_000).collect();
    let mut outbox = outbox(&many);
    outbox.assemble(&mut Vec::new(), &mut assembly);
    assert!(outbox.queue.capacity() >= many.len());
    outbox.push_tick(ticks[0], usize::MAX);
    outbox.assemble(&mut Vec::new(), &mut assembly);
    assert_eq!(outbox.queue.capacity(), 0);
}
