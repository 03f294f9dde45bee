//! What a subscriber shows: lines of JSON or statistics on stdout, its state on stderr.

use std::io::{self, Write};

use tickwire_proto::{
    json::{write_feed, write_gap, write_tick},
    session::{Event, Totals},
};

use super::stats::Stats;

/// Lines are handed out when so many bytes are there, or nothing more is waiting.
const BUFFERED_BYTES_MAX: usize = 64 * 1024;
/// Violations shown; the rest is only counted.
const VIOLATIONS_SHOWN: u64 = 10;

/// Nobody reads our stdout any more.
#[derive(Debug, PartialEq, Eq)]
pub struct PipeClosed;

/// Where events go.
#[derive(Debug)]
pub struct Output {
    mode: Mode,
    violations: u64,
}

#[derive(Debug)]
enum Mode {
    Lines(Vec<u8>),
    Stats(Box<Stats>),
}

impl Output {
    /// One JSON object a line for every tick, gap and feed change.
    pub fn lines() -> Self {
        Self {
            mode: Mode::Lines(Vec::new()),
            violations: 0,
        }
    }

    /// Statistics once a second.
    pub fn stats() -> Self {
        Self {
            mode: Mode::Stats(Box::new(Stats::new())),
            violations: 0,
        }
    }

    /// Takes an event; what it says about the connection goes to stderr at once.
    pub fn event(&mut self, event: &Event) {
        match &mut self.mode {
            Mode::Lines(out) => write_line(out, event),
            Mode::Stats(stats) => stats.event(event),
        }
        self.state(event);
    }

    /// Hands out what was gathered: nothing more is waiting.
    pub fn settle(&mut self, totals: &Totals) -> Result<(), PipeClosed> {
        match &mut self.mode {
            Mode::Lines(out) => hand_out(out),
            Mode::Stats(stats) => stats.show_if_due(totals).map_err(|_| PipeClosed),
        }
    }

    /// The same where more is waiting: only if it is much, or due.
    pub fn relieve(&mut self, totals: &Totals) -> Result<(), PipeClosed> {
        match &self.mode {
            Mode::Lines(out) if out.len() < BUFFERED_BYTES_MAX => Ok(()),
            _ => self.settle(totals),
        }
    }

    /// The last words. A closed pipe has nobody to hear them.
    pub fn finish(&mut self, totals: &Totals) {
        let _ = match &mut self.mode {
            Mode::Lines(out) => hand_out(out),
            Mode::Stats(stats) => stats.finish(totals).map_err(|_| PipeClosed),
        };
        if self.violations > VIOLATIONS_SHOWN {
            eprintln!("violations in all: {}", self.violations);
        }
    }

    fn state(&mut self, event: &Event) {
        match event {
            Event::Connected(welcome) => {
                eprintln!(
                    "connected, session {}, {}",
                    welcome.session,
                    welcome.protocol.as_str()
                );
            }
            Event::Resumed { replayed } => eprintln!("resumed, {replayed} ticks replayed"),
            Event::Rejected(entry) => eprintln!("rejected: {} ({})", entry.symbol, entry.code),
            Event::Refused(error) => eprintln!("refused: {} ({})", error.message, error.code),
            Event::TokenExpiring { in_s } => eprintln!("the token expires in {in_s} s"),
            Event::TokenRenewed { .. } => eprintln!("the token was renewed"),
            Event::Goodbye { reason } => eprintln!("goodbye: {reason}"),
            Event::Violation(violation) => {
                self.violations += 1;
                if self.violations <= VIOLATIONS_SHOWN {
                    eprintln!("the engine broke its account: {violation:?}");
                }
            }
            _ => {}
        }
    }
}

fn write_line(out: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Tick(tick, marks) => write_tick(out, tick, marks),
        Event::Gap(gap) => write_gap(out, gap),
        Event::Lost(lost) => write_gap(out, &lost.to_gap()),
        Event::Feed { symbol, state } => write_feed(out, symbol, *state),
        _ => return,
    }
    out.push(b'\n');
}

fn hand_out(out: &mut Vec<u8>) -> Result<(), PipeClosed> {
    if out.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(out).and_then(|()| stdout.flush());
    out.clear();
    // Whatever the reason, there is nowhere left to write to.
    written.map_err(|_| PipeClosed)
}

#[cfg(test)]
mod tests {
    use tickwire_proto::{
        session::Lost,
        symbol::Symbol,
        tick::{Channel, FeedState},
    };

    use super::*;

    #[test]
    fn every_line_is_one_object_of_the_wire() {
        let symbol = Symbol::parse("AAPL").unwrap();
        let mut out = Vec::new();
        write_line(
            &mut out,
            &Event::Feed {
                symbol,
                state: FeedState::Stale,
            },
        );
        write_line(&mut out, &Event::Resumed { replayed: 3 });
        let channel = Channel::Trade;
        write_line(
            &mut out,
            &Event::Lost(Lost {
                symbol,
                channel,
                epoch: 7,
                from: 4,
                to: Some(9),
            }),
        );
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                r#"{"type":"feed","symbol":"AAPL","state":"stale"}"#,
                r#"{"type":"gap","symbol":"AAPL","channel":"trade","epoch":7,"from":4,"to":9,"reason":"history"}"#,
            ],
        );
    }
}
