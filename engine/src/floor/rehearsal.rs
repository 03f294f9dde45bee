//! A floor without an audience: turns are driven by hand, on one thread and by a clock of their
//! own, and sends reach nobody. It runs the code that every floor runs, so whoever counts its
//! instructions learns what a tick costs a floor, apart from the kernel.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::Arc,
};

use prometheus::IntGauge;
use rustc_hash::FxHashMap;
use tickwire_proto::{
    claims::{Claims, Grant},
    pattern::Selector,
    request::{Mode, Selection, Subscribe},
    symbol::Symbol,
    tick::{Channels, Values},
    upgrade::{Endpoint, Subprotocol},
};

use super::{Floor, FloorDesk, FloorSetup, sends::Sends, turn::Turn};
use crate::{
    bell::{Bell, Mailbox},
    bridge::Beats,
    clock::Millis,
    config::Config,
    door::{Admitted, AuthDesk, limits::Places, users::Users},
    metrics::Metrics,
    tape::{self, Event, TapeOptions, Writer},
};

/// Far enough ahead that no token expires in a rehearsal, seconds.
const TOKEN_LIFE_S: u64 = 24 * 3_600;
const EPOCH: u64 = 1;

/// The floor, and the tape that it follows.
pub struct Rehearsal {
    pub(super) floor: Floor,
    writer: Writer,
    /// The last seq of each channel.
    seqs: FxHashMap<Symbol, [u64; 2]>,
    now: Millis,
    users: Arc<Users>,
    // A socket whose other end is closed is a connection that has ended.
    pub(super) audience: Vec<UnixStream>,
}

impl Rehearsal {
    /// A floor with nobody on it.
    ///
    /// # Errors
    ///
    /// Where the system gives no memory or descriptor.
    pub fn new(config: Config) -> io::Result<Self> {
        let sends = Sends::nowhere(config.sends_per_turn);
        Self::with_sends(config, sends)
    }

    /// The same with sends that reach the other ends of the subscribers' sockets.
    #[cfg(test)]
    pub(super) fn aloud(config: Config) -> io::Result<Self> {
        let driver = crate::threads::Driver::Epoll;
        let sends = Sends::new(driver, config.sends_per_turn, config.connections_max)?;
        Self::with_sends(config, sends)
    }

    fn with_sends(config: Config, sends: Sends) -> io::Result<Self> {
        let options = TapeOptions {
            slots: config.tape_slots,
            symbols_max: config.symbols_max,
            id: 1,
        };
        let (writer, tape) = tape::create(options).map_err(io::Error::other)?;
        let mailbox = Mailbox::new(config.handover_queue_max, Bell::new()?);
        let metrics = Metrics::new().map_err(io::Error::other)?;
        let seated = IntGauge::new("seated", "Subscribers.").map_err(io::Error::other)?;
        let setup = FloorSetup {
            number: 0,
            auth: AuthDesk::new(&config)?,
            desk: Arc::new(FloorDesk {
                mailbox,
                load: 0.into(),
            }),
            beats: Beats::new(0, 0),
            metrics: metrics.floor(0),
            config: Arc::new(config),
            tape,
        };
        Ok(Self {
            floor: Floor::new(setup, sends)?,
            writer,
            seqs: FxHashMap::default(),
            now: Millis::default(),
            users: Arc::new(Users::new(Places::new(usize::MAX >> 1, seated), 0)),
            audience: Vec::new(),
        })
    }

    /// Seats a subscriber of `symbols`, without snapshots.
    ///
    /// # Errors
    ///
    /// Where the system gives no descriptor.
    pub fn seat(
        &mut self,
        subprotocol: Subprotocol,
        symbols: impl IntoIterator<Item = Symbol>,
        max_delay_ms: u32,
    ) -> io::Result<()> {
        let (socket, other_end) = UnixStream::pair()?;
        other_end.set_nonblocking(true)?;
        let session = self.audience.len() as u64;
        let claims = Claims {
            sub: format!("audience-{session}"),
            exp: crate::clock::wall_s() + TOKEN_LIFE_S,
            ..Claims::default()
        };
        let slot = self.users.enter(&claims.sub, session, None);
        let slot = slot.ok_or(io::ErrorKind::QuotaExceeded)?;
        let subscribe = Subscribe {
            selection: Selection {
                selectors: symbols.into_iter().map(Selector::Symbol).collect(),
                rejected: Vec::new(),
            },
            channels: Channels::BOTH,
            mode: Mode::Stream,
            snapshot: false,
            since: None,
        };
        self.floor.add_connection(Admitted {
            socket: TcpStream::from(std::os::fd::OwnedFd::from(socket)),
            response: Vec::new(),
            early: Vec::new(),
            endpoint: Endpoint::Subscribe,
            subprotocol,
            slot,
            grant: Grant::from_claims(claims, false),
            subscribe: Some(subscribe),
            max_delay_ms,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            session,
        })?;
        self.audience.push(other_end);
        Ok(())
    }

    /// Puts a tick on the tape, numbered; the next turn sends it.
    ///
    /// # Errors
    ///
    /// Where the tape has no room for another symbol.
    pub fn publish(&mut self, symbol: Symbol, ts_ns: u64, values: Values) -> io::Result<()> {
        let id = self.writer.intern(symbol).map_err(io::Error::other)?;
        let seqs = self.seqs.entry(symbol).or_default();
        let seq = &mut seqs[values.channel().index()];
        *seq += 1;
        let event = Event::Tick {
            seq: *seq,
            ts_ns,
            values,
        };
        self.writer.push(id, EPOCH, ts_ns, event);
        Ok(())
    }

    /// One turn, a millisecond after the last; whether there was anything to do.
    ///
    /// # Errors
    ///
    /// None in practice: sends that reach nobody cannot fail.
    #[inline(never)]
    pub fn turn(&mut self) -> io::Result<bool> {
        self.now = self.now.after(1);
        self.floor.now = self.now;
        self.floor.turn_now(false).map(Turn::is_busy)
    }

    /// Ticks sent so far, over all subscribers.
    pub fn delivered(&self) -> u64 {
        self.floor.metrics.delivered_ticks.get()
    }

    /// Sends so far.
    pub fn sends(&self) -> u64 {
        self.floor.metrics.sends.get()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tickwire_proto::price::Decimal;

    use super::*;

    #[test]
    fn every_tick_reaches_every_subscriber_of_its_symbol() {
        let mut rehearsal = Rehearsal::new(Config::default()).unwrap();
        let [a, b] = ["A", "B"].map(|name| Symbol::parse(name).unwrap());
        for _ in 0..3 {
            rehearsal.seat(Subprotocol::Json, [a], 0).unwrap();
        }
        rehearsal.seat(Subprotocol::Sbe, [a, b], 0).unwrap();
        while rehearsal.turn().unwrap() {}
        let price = Decimal::parse("1.25").unwrap();
        for symbol in [a, b, a] {
            let values = Values::trade(price, None, None).unwrap();
            rehearsal.publish(symbol, 1, values).unwrap();
        }
        while rehearsal.turn().unwrap() {}
        assert_eq!(rehearsal.delivered(), 2 * 4 + 1);
    }

    #[test]
    fn who_waits_for_the_next_batch_gets_later_ticks_in_the_same_send() {
        let config = Config {
            sends_per_turn: 4,
            ..Config::default()
        };
        let mut rehearsal = Rehearsal::new(config).unwrap();
        let symbol = Symbol::parse("A").unwrap();
        for _ in 0..8 {
            rehearsal.seat(Subprotocol::Json, [symbol], 0).unwrap();
        }
        while rehearsal.turn().unwrap() {}
        let before = rehearsal.sends();
        let values = Values::trade(Decimal::parse("1").unwrap(), None, None).unwrap();
        for _ in 0..2 {
            // The first turn serves four connections, the second the other four with both ticks.
            rehearsal.publish(symbol, 1, values).unwrap();
            rehearsal.turn().unwrap();
        }
        assert_eq!(
            (rehearsal.delivered(), rehearsal.sends() - before),
            (4 + 8, 8)
        );
        while rehearsal.turn().unwrap() {}
        assert_eq!(
            (rehearsal.delivered(), rehearsal.sends() - before),
            (16, 12)
        );
    }

    #[test]
    fn requests_beyond_the_time_of_a_turn_wait_for_the_next() {
        const CLIENTS: usize = 20;
        let config = Config {
            // Over after the first request, however fast it was.
            requests_us_per_turn: 0,
            ..Config::default()
        };
        let mut rehearsal = Rehearsal::new(config).unwrap();
        for _ in 0..CLIENTS {
            rehearsal.seat(Subprotocol::Json, [], 0).unwrap();
        }
        while rehearsal.turn().unwrap() {}
        let ping = br#"{"op":"ping","id":1}"#;
        let mut frame = vec![0x81, 0x80 | ping.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(ping);
        for mut client in &rehearsal.audience {
            client.write_all(&frame).unwrap();
        }
        for answered in 1..=CLIENTS {
            assert!(rehearsal.floor.turn_now(true).unwrap().is_busy());
            assert_eq!(rehearsal.floor.ready.len(), CLIENTS - answered);
        }
    }

    #[test]
    fn what_a_connection_leaves_behind_is_not_the_next_ones() {
        let config = Config {
            sends_per_turn: 1,
            ..Config::default()
        };
        let mut rehearsal = Rehearsal::new(config).unwrap();
        let symbol = Symbol::parse("A").unwrap();
        for _ in 0..2 {
            rehearsal.seat(Subprotocol::Json, [symbol], 0).unwrap();
        }
        while rehearsal.turn().unwrap() {}
        let values = Values::trade(Decimal::parse("1").unwrap(), None, None).unwrap();
        rehearsal.publish(symbol, 1, values).unwrap();
        rehearsal.turn().unwrap();
        // One was sent to; the other goes while it waits, and its place is taken.
        let (left, _) = *rehearsal.floor.dirty.front().unwrap();
        rehearsal
            .floor
            .drop_connection(left, tickwire_proto::close::CloseReason::PeerGone);
        rehearsal.seat(Subprotocol::Json, [symbol], 0).unwrap();
        let before = rehearsal.sends();
        rehearsal.turn().unwrap();
        assert_eq!(rehearsal.sends(), before + 1, "the welcome");
        assert!(rehearsal.floor.dirty.is_empty(), "and nothing twice");
    }
}
