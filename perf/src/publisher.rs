//! The publisher: ticks at exact times, on a thread of its own.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::TcpStream,
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    frame::{Carry, FrameError, Opcode, SHARED_BYTES, each_frame, masked},
    latency::{Latencies, Quantiles},
    message::Control,
    schedule::{Clock, Schedule},
    upgrade::{ServerUrl, Upgrade, UpgradeError},
};

/// How long the server may take for the upgrade, for one message, and for the last ack.
const PATIENCE: Duration = Duration::from_secs(10);
const FLUSH_ID: u32 = 1;

/// A connection to `/v1/publish`.
pub struct Publisher {
    stream: TcpStream,
    carry: Carry,
    shared: Vec<u8>,
    replies: Replies,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Ticks sent.
    pub ticks: u64,
    /// Ticks that the server took, by its own count.
    pub accepted: u64,
    /// The first `error` of the server.
    pub first_error: Option<String>,
    /// How much later than intended messages left: the generator's own part of every latency.
    pub late: Quantiles,
}

#[derive(Default)]
struct Replies {
    flushed: Option<u64>,
    first_error: Option<String>,
}

/// Why publishing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// TCP failed.
    #[error("the publisher's connection: {0}")]
    Io(#[from] io::Error),
    /// No upgrade.
    #[error("the publisher's connection: {0}")]
    Upgrade(#[from] UpgradeError),
    /// No frame.
    #[error("the publisher's connection: the server sent {0}")]
    Frame(#[from] FrameError),
    /// The server closed it.
    #[error("the server closed the publisher's connection: {0}")]
    Closed(String),
    /// `flush` was not acknowledged within 10 s.
    #[error("the server did not acknowledge the last ticks; its first error: {0:?}")]
    NotFlushed(Option<String>),
}

impl Publisher {
    /// Connects and upgrades.
    pub fn connect(server: &ServerUrl, token: &str) -> Result<Self, PublishError> {
        let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let upgrade = Upgrade::new(server);
        stream.write_all(upgrade.request("/v1/publish", token).as_bytes())?;
        let mut shared = vec![0; SHARED_BYTES];
        let mut carry = Carry::default();
        loop {
            let bytes = carry.read(&mut stream, &mut shared)?;
            let head_bytes = upgrade.answer(bytes)?;
            carry.keep(&bytes[head_bytes.unwrap_or_default()..]);
            if head_bytes.is_some() {
                return Ok(Self {
                    stream,
                    carry,
                    shared,
                    replies: Replies::default(),
                });
            }
        }
    }

    /// Sends trades of `symbols` in turn as `schedule` says, each with its intended time as `ts`.
    pub fn run(
        mut self,
        clock: &Clock,
        schedule: &Schedule,
        symbols: &[String],
    ) -> Result<Published, PublishError> {
        // The default slack of 50 µs would be part of every latency. Where the kernel refuses,
        // `late` shows it.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut late = Latencies::new();
        let mut text = String::new();
        for slot in 0..schedule.slots() {
            let due_us = schedule.due_us(slot);
            write_slot(&mut text, schedule, slot, symbols);
            let frame = masked(Opcode::Text, text.as_bytes());
            self.drain()?;
            thread::sleep(clock.until(due_us));
            late.record(clock.now_us().saturating_sub(due_us));
            self.stream.write_all(&frame)?;
        }
        let accepted = self.flush()?;
        Ok(Published {
            ticks: schedule.slots() * u64::from(schedule.ticks_per_slot()),
            accepted,
            first_error: self.replies.first_error,
            late: late.quantiles(),
        })
    }

    fn flush(&mut self) -> Result<u64, PublishError> {
        let flush = format!(r#"{{"op":"flush","id":{FLUSH_ID}}}"#);
        self.stream
            .write_all(&masked(Opcode::Text, flush.as_bytes()))?;
        let deadline = Instant::now() + PATIENCE;
        self.stream
            .set_read_timeout(Some(Duration::from_millis(50)))?;
        while Instant::now() < deadline {
            self.read_once()?;
            if let Some(accepted) = self.replies.flushed {
                return Ok(accepted);
            }
        }
        Err(PublishError::NotFlushed(self.replies.first_error.take()))
    }

    /// Takes what the server has said meanwhile, without waiting.
    fn drain(&mut self) -> Result<(), PublishError> {
        self.stream.set_nonblocking(true)?;
        let read = self.read_once();
        self.stream.set_nonblocking(false)?;
        read
    }

    fn read_once(&mut self) -> Result<(), PublishError> {
        let bytes = match self.carry.read(&mut self.stream, &mut self.shared) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (stream, replies) = (&self.stream, &mut self.replies);
        let used = each_frame(bytes, |frame| match frame.opcode {
            Opcode::Text => {
                replies.take(frame.payload);
                Ok(())
            }
            Opcode::Ping => {
                let mut stream = stream;
                Ok(stream.write_all(&masked(Opcode::Pong, frame.payload))?)
            }
            Opcode::Close => {
                let reason = frame.payload.get(2..).unwrap_or_default();
                Err(PublishError::Closed(
                    String::from_utf8_lossy(reason).into_owned(),
                ))
            }
            Opcode::Binary | Opcode::Pong => Ok(()),
        })?;
        self.carry.keep(&bytes[used..]);
        Ok(())
    }
}

impl Replies {
    fn take(&mut self, text: &[u8]) {
        match serde_json::from_slice(text) {
            Ok(Control::Ack {
                id: Some(FLUSH_ID),
                accepted,
                ..
            }) => {
                self.flushed = Some(accepted.unwrap_or_default());
            }
            Ok(Control::Error { code, message }) => {
                self.first_error.get_or_insert(format!("{code}: {message}"));
            }
            _ => {}
        }
    }
}

/// One tick as an object, several as an array.
fn write_slot(text: &mut String, schedule: &Schedule, slot: u64, symbols: &[String]) {
    let ticks = u64::from(schedule.ticks_per_slot());
    text.clear();
    if ticks > 1 {
        text.push('[');
    }
    for tick in slot * ticks..(slot + 1) * ticks {
        if tick > slot * ticks {
            text.push(',');
        }
        write_tick(text, tick, schedule.due_us(slot), symbols);
    }
    if ticks > 1 {
        text.push(']');
    }
}

fn write_tick(text: &mut String, tick: u64, ts_us: u64, symbols: &[String]) {
    let symbol = &symbols[(tick % symbols.len() as u64) as usize];
    let side = if tick.is_multiple_of(2) {
        "buy"
    } else {
        "sell"
    };
    let price_cents = 18_700 + tick % 97;
    write!(
        text,
        r#"{{"type":"trade","symbol":"{symbol}","ts":{ts_us},"price":"{}.{:02}","size":"{}","side":"{side}"}}"#,
        price_cents / 100,
        price_cents % 100,
        1 + tick % 500,
    )
    .expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_object_or_an_array_of_ticks() {
        let symbols = ["A".to_owned(), "B".to_owned()];
        let mut text = String::new();
        write_slot(&mut text, &Schedule::new(1_000, 100, 1), 3, &symbols);
        let one: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (one["symbol"].as_str(), one["ts"].as_u64()),
            (Some("B"), Some(31_000))
        );
        assert_eq!(one["price"], "187.03");
        write_slot(&mut text, &Schedule::new(1_000, 3_000, 1), 1, &symbols);
        let several: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let symbols: Vec<_> = several
            .iter()
            .map(|tick| tick["symbol"].as_str().unwrap())
            .collect();
        assert_eq!(symbols, ["B", "A", "B"]);
        assert!(several.iter().all(|tick| tick["ts"] == 2_000));
    }
}
