//! What the fuzz target `session_ops` drives; ordinary tests run it on its seeds.

use super::{Disconnect, Event, Next, Options, Session};
use crate::{
    code::ErrorCode,
    cursor::Cursor,
    pattern::{Pattern, Selector},
    reply::{Accepted, Ack, AckBody, ErrorReply, Gap, GapReason, Limits, Reply, Start, Welcome},
    symbol::Symbol,
    tick::{Body, Channel, FeedState, Identity, Marks, Tick, Values},
    upgrade::Subprotocol,
};

/// Plays an engine that says anything in any order, read from `data`.
///
/// # Panics
///
/// Where the session hands out a tick twice, or out of the order of its channel and epoch.
pub fn session_ops(data: &[u8]) {
    let mut input = Input(data);
    let mut session = Session::new(Options {
        selectors: vec![Selector::Pattern(Pattern::ALL)],
        cursor: (input.byte() & 1 == 1).then(|| cursor(&mut input)),
        max_delay_ms: u32::from(input.byte() & 1),
        seed: u64::from(input.byte()),
        ..Options::default()
    });
    let mut now_ms = 0;
    let mut last = [[Identity { epoch: 0, seq: 0 }; 2]; 2];
    while !input.0.is_empty() {
        now_ms += u64::from(input.byte()) * 16;
        match input.byte() % 16 {
            0 => session.connected(now_ms),
            1 => {
                let cause = disconnect(&mut input);
                if let Next::ConnectAfter { ms, .. } = session.disconnected(cause) {
                    now_ms = now_ms.saturating_add(ms.min(60_000));
                }
            }
            2 => while session.next_request(now_ms).is_some() {},
            3 => assert!(session.deadline_ms().is_none_or(|_| !session.timed_out(0))),
            _ => session.receive(now_ms, reply(&mut input), |event| check(&mut last, &event)),
        }
    }
}

fn check(last: &mut [[Identity; 2]; 2], event: &Event) {
    if let Event::Tick(
        tick,
        Marks {
            snapshot: false, ..
        },
    ) = event
    {
        let symbol = usize::from(tick.symbol.as_bytes() == b"B");
        let last = &mut last[symbol][tick.values.channel().index()];
        assert!(tick.identity > *last, "{:?} after {last:?}", tick.identity);
        *last = tick.identity;
    }
}

fn reply(input: &mut Input) -> Reply {
    match input.byte() % 12 {
        0 => Reply::Welcome(welcome(input)),
        1 => Reply::Cursor(cursor(input)),
        2 => Reply::Replayed {
            id: Some(input.id()),
            cursor: None,
        },
        3 => Reply::Error(error(input)),
        4 => Reply::Goodbye {
            reason: "draining".to_owned(),
            reconnect_after_ms: input.seq(),
        },
        5 => Reply::Heartbeat { ts_us: 0 },
        6 => Reply::Ack(Ack {
            id: Some(input.id()),
            body: AckBody::Subscribe(Accepted::default()),
        }),
        7 => Reply::Gap(gap(input)),
        8 => Reply::Start(start(input)),
        9 => Reply::Feed {
            symbol: input.symbol(),
            state: FeedState::Stale,
        },
        _ => tick(input),
    }
}

fn welcome(input: &mut Input) -> Welcome {
    Welcome {
        session: String::new(),
        protocol: Subprotocol::Json,
        heartbeat_ms: input.number(),
        token_exp: 0,
        limits: Limits {
            symbols: u32::from(input.byte()),
            message_bytes: u32::from(input.byte()) * 8,
            ops_per_s: u32::from(input.byte()),
        },
    }
}

fn cursor(input: &mut Input) -> Cursor {
    Cursor {
        tape: 1,
        position: u64::from(input.byte()),
        admitted_ns: 0,
    }
}

fn error(input: &mut Input) -> ErrorReply {
    let code = ErrorCode::ALL[usize::from(input.byte()) % ErrorCode::ALL.len()];
    ErrorReply {
        id: Some(input.id()),
        code,
        message: String::new(),
        msg: None,
        index: None,
        symbol: None,
    }
}

fn gap(input: &mut Input) -> Gap {
    Gap {
        symbol: input.symbol(),
        channel: Channel::BOTH[usize::from(input.byte() & 1)],
        epoch: input.number(),
        from: input.seq(),
        to: input.seq(),
        reason: GapReason::History,
        replay: None,
    }
}

fn start(input: &mut Input) -> Start {
    Start {
        symbol: input.symbol(),
        epoch: input.number(),
        trade: input.seq(),
        quote: input.seq(),
        replay: None,
    }
}

fn tick(input: &mut Input) -> Reply {
    let body = match input.byte() & 1 {
        0 => Body::Trade {
            price: 1,
            size: None,
            side: None,
        },
        _ => Body::Quote {
            bid: 1,
            bid_size: None,
            ask: 2,
            ask_size: None,
        },
    };
    let tick = Tick {
        symbol: input.symbol(),
        identity: Identity {
            epoch: input.number(),
            seq: input.number(),
        },
        ts_ns: 0,
        values: Values {
            price_exponent: 0,
            size_exponent: 0,
            body,
        },
    };
    let marks = Marks {
        snapshot: input.byte() & 7 == 7,
        skipped: u32::from(input.byte() & 3),
        replay: None,
    };
    Reply::Tick(tick, marks)
}

fn disconnect(input: &mut Input) -> Disconnect {
    match input.byte() % 4 {
        0 => Disconnect::Io,
        1 => Disconnect::Silent,
        2 => Disconnect::Closed {
            code: 1000 + u16::from(input.byte()) * 16,
        },
        _ => Disconnect::Refused {
            status: 400 + u16::from(input.byte()),
            retry_after_ms: input.seq(),
        },
    }
}

/// Bytes read as small values; zeros once they run out.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// Mostly small, at times at the end of the range.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=250 => u64::from(byte % 16),
            byte => u64::MAX >> (11 * (byte - 251)),
        }
    }

    fn seq(&mut self) -> Option<u64> {
        (self.byte() & 3 != 0).then(|| self.number())
    }

    fn id(&mut self) -> u32 {
        u32::from(self.byte() % 8)
    }

    fn symbol(&mut self) -> Symbol {
        const NAMES: [&str; 2] = ["A", "B"];
        let name = NAMES[usize::from(self.byte() & 1)];
        Symbol::parse(name).expect("a letter is a symbol")
    }
}
