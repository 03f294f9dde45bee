//! A tick, or a batch of them, into WebSocket frames, beside tungstenite's own frame writing.
//!
//! `tickwire` encodes into the frame in place. `tungstenite_context` is how a server uses
//! tungstenite: it owns the message, and its context writes it. `tungstenite_frame` is its
//! frame alone, without the context's bookkeeping.

use std::{
    hint::black_box,
    io::{self, Read, Write},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tickwire_benches::{quote, short};
use tickwire_proto::{
    frame::{self, Opcode},
    json,
    tick::{Marks, Tick},
};
use tungstenite::{
    Message,
    protocol::{
        Role, WebSocketContext,
        frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

/// A socket that takes every byte and has none.
struct Memory(Vec<u8>);

impl Read for Memory {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn payload(tick: &Tick) -> Vec<u8> {
    let mut payload = Vec::new();
    json::write_tick(&mut payload, tick, &Marks::default());
    payload
}

fn text(tick: &Tick) -> Message {
    Message::text(String::from_utf8(payload(tick)).expect("JSON is UTF-8"))
}

fn frames(criterion: &mut Criterion) {
    let tick = quote();
    let mut group = criterion.benchmark_group("frame");
    for ticks in [1, 64] {
        group.throughput(Throughput::Elements(ticks));
        let mut out = Vec::with_capacity(64 * 512);
        group.bench_function(BenchmarkId::new("tickwire", ticks), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..ticks {
                    frame::write_with(&mut out, Opcode::Text, |out| {
                        json::write_tick(out, black_box(&tick), &Marks::default());
                    });
                }
                black_box(out.len())
            });
        });
        let mut context = WebSocketContext::new(Role::Server, None);
        let mut memory = Memory(Vec::with_capacity(64 * 512));
        group.bench_function(BenchmarkId::new("tungstenite_context", ticks), |bencher| {
            bencher.iter(|| {
                memory.0.clear();
                for _ in 0..ticks {
                    let message = text(black_box(&tick));
                    context.write(&mut memory, message).expect("room for all");
                }
                context.flush(&mut memory).expect("room for all");
                black_box(memory.0.len())
            });
        });
        assert_eq!(out, memory.0, "the contenders write the same");
        group.bench_function(BenchmarkId::new("tungstenite_frame", ticks), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..ticks {
                    let opcode = OpCode::Data(Data::Text);
                    let frame = Frame::message(payload(black_box(&tick)), opcode, true);
                    frame.format(&mut out).expect("a Vec takes every byte");
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = frames
}
criterion_main!(benches);
