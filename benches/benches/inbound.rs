//! A client's control message, from received bytes to text.
//!
//! Clients send a few messages in a day, so the engine keeps no WebSocket state for an idle
//! connection: it builds a context with small buffers when bytes arrive and drops it at the end of
//! the message. Here that is beside what keeping one costs in time. What it saves is memory: a kept
//! context holds its read buffer, 128 KiB by default, for as long as the connection lives.
//!
//! The engine's own half (`peer/inbound.rs`) is not public, so its settings are repeated here.

use std::{
    hint::black_box,
    io::{self, Read, Write},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tickwire_benches::short;
use tickwire_proto::frame::Boundary;
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

const MESSAGE: &str =
    r#"{"op":"subscribe","id":1,"symbols":["AAPL","BTC-*"],"channels":["trade","quote"]}"#;

/// What the floor has read from the socket.
struct Received<'a>(&'a [u8]);

impl Read for Received<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(into)
    }
}

impl Write for Received<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// [`MESSAGE`] as a client frames it, masked (RFC 6455 § 5.3).
fn client_frame() -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x81, 0x80 | MESSAGE.len() as u8];
    frame.extend_from_slice(&key);
    frame.extend(
        MESSAGE
            .bytes()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn small() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4096)
        .max_message_size(Some(65_536))
        .max_frame_size(Some(65_536))
}

/// Reads until nothing is left; the bytes of all messages.
fn drain(context: &mut WebSocketContext, frame: &[u8]) -> usize {
    let mut received = Received(frame);
    let mut text_bytes = 0;
    loop {
        match context.read(&mut received) {
            Ok(Message::Text(text)) => text_bytes += text.len(),
            Ok(_) => {}
            Err(Error::Io(_)) => return text_bytes,
            Err(error) => unreachable!("the frame is valid: {error}"),
        }
    }
}

fn inbound(criterion: &mut Criterion) {
    assert!(MESSAGE.len() < 126, "the header has two bytes of length");
    let frame = client_frame();
    let mut group = criterion.benchmark_group("inbound");
    group.throughput(Throughput::Elements(1));
    group.bench_function("tickwire_small_context_per_message", |bencher| {
        let mut boundary = Boundary::default();
        bencher.iter(|| {
            let frame = black_box(&frame);
            assert!(boundary.advance(frame));
            let mut context = Box::new(WebSocketContext::new(Role::Server, Some(small())));
            assert_eq!(drain(&mut context, frame), MESSAGE.len());
        });
    });
    group.bench_function("default_context_per_message", |bencher| {
        bencher.iter(|| {
            let mut context = Box::new(WebSocketContext::new(Role::Server, None));
            assert_eq!(drain(&mut context, black_box(&frame)), MESSAGE.len());
        });
    });
    for (name, config) in [
        ("small_context_kept", Some(small())),
        ("default_context_kept", None),
    ] {
        let mut context = WebSocketContext::new(Role::Server, config);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                assert_eq!(drain(&mut context, black_box(&frame)), MESSAGE.len());
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = inbound
}
criterion_main!(benches);
