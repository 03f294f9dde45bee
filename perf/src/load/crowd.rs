//! A crowd at the door: connections that come, subscribe, leave, and come again as fast as the
//! server lets them.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::{event::epoll, fd::OwnedFd};
use serde::{Deserialize, Serialize};

use super::{
    Tally,
    arrivals::Arrivals,
    connecting,
    handshake::Handshake,
    hint, look, no_events,
    subscriber::{Phase, Shared, Subscriber},
};
use crate::{
    account::Ledger,
    dialect::{Dialect, LostReason},
    http::AnswerError,
    latency::{Latencies, Quantiles},
    reference::References,
    schedule::Clock,
    ticks::Symbols,
    upgrade::UpgradeError,
};

/// The longest sleep between two looks at the clock.
const TURN: Duration = Duration::from_millis(2);

/// What a crowd does.
#[derive(Clone, Debug)]
pub struct Rush {
    /// Where to.
    pub server: SocketAddr,
    /// What everyone subscribes to.
    pub symbols: Symbols,
    /// How many clients come.
    pub clients: u32,
    /// How many at once.
    pub at_once: usize,
    /// New ones per second at most, where nobody comes back.
    pub per_s: u32,
    /// Whether they have all just lost their connections, and come back until they are let in, with
    /// the backoff of tickwire's clients.
    pub returns: bool,
    /// How long each stays once its subscription is in force.
    pub stay: Duration,
    /// When it ends at the latest, µs since 1970 UTC.
    pub until_us: u64,
    /// The address of the first; the others follow.
    pub first_source: Ipv4Addr,
    /// How many addresses they come from.
    pub sources: u32,
    /// What every second of them has already.
    pub since: Since,
}

/// Where a returning client stands: ticks go to all symbols in turn.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
pub struct Since {
    /// The publisher's epoch.
    #[arg(long)]
    pub epoch: u64,
    /// A moment, µs since 1970 UTC.
    #[arg(long)]
    pub from_us: u64,
    /// The last tick of each symbol then.
    #[arg(long)]
    pub from_seq: u64,
    /// Ticks per second and symbol since.
    #[arg(long)]
    pub rate: f64,
    /// How long clients were away, s.
    #[arg(long)]
    pub away_s: f64,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rushed {
    /// Connections begun.
    pub attempts: u64,
    /// Answered with 101.
    pub admitted: u64,
    /// Whose subscription came into force.
    pub subscribed: u64,
    /// Most of them that stayed at once.
    pub at_once: u64,
    /// Refused, by HTTP status.
    pub refused: BTreeMap<u16, u64>,
    /// Ended in any other way.
    pub failed: u64,
    /// Most of those who were answered with 101 in one second.
    pub peak_per_s: u64,
    /// When all clients were inside at once, s.
    pub all_in_s: Option<f64>,
    /// From the first attempt to the last answer, s.
    pub seconds: f64,
    /// From the begin of a connection to its 101.
    pub handshake: Quantiles,
}

impl Since {
    /// The begin of everything.
    pub fn nothing(now_us: u64) -> Self {
        Self {
            epoch: 1,
            from_us: now_us,
            from_seq: 0,
            rate: 0.0,
            away_s: 0.0,
        }
    }

    /// The last tick of each symbol that a client had which left `away_s` ago.
    fn seq(&self, now_us: u64) -> u64 {
        let since_s = now_us.saturating_sub(self.from_us) as f64 / 1e6;
        self.from_seq + ((since_s - self.away_s) * self.rate).max(0.0) as u64
    }
}

struct Guest {
    /// Of the attempt, and of the client that makes it.
    number: u64,
    client: u64,
    subscriber: Subscriber,
    came: Instant,
}

struct Crowd<'a> {
    rush: &'a Rush,
    dialect: &'a dyn Dialect,
    clock: Clock,
    tokens: &'a [String],
    epoll: OwnedFd,
    handshake: Handshake,
    began: Instant,
    arrivals: Arrivals,
    guests: Vec<Option<Guest>>,
    /// Places without a guest.
    free: Vec<usize>,
    /// Who stays, and until when: the place, and which guest it was.
    staying: VecDeque<(Instant, usize, u64)>,
    references: References,
    bytes: Vec<u8>,
    tally: Tally,
    handshakes: Latencies,
    /// Answered with 101 in each second.
    admitted: Vec<u64>,
    /// Whose subscription is in force.
    inside: u64,
    rushed: Rushed,
}

impl Rush {
    /// Does it; `tokens` are used in turn.
    pub fn run(
        &self,
        dialect: &dyn Dialect,
        clock: Clock,
        tokens: &[String],
    ) -> io::Result<Rushed> {
        let crowd = Crowd {
            rush: self,
            dialect,
            clock,
            tokens,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            handshake: Handshake::new(dialect.framing(), self.server),
            began: Instant::now(),
            arrivals: if self.returns {
                Arrivals::returning(self.clients)
            } else {
                Arrivals::once(self.clients, self.per_s)
            },
            guests: (0..self.at_once).map(|_| None).collect(),
            free: (0..self.at_once).rev().collect(),
            staying: VecDeque::new(),
            references: References::new(self.symbols.len()),
            bytes: Vec::new(),
            tally: Tally::new(),
            handshakes: Latencies::new(),
            admitted: Vec::new(),
            inside: 0,
            rushed: Rushed::default(),
        };
        crowd.run()
    }
}

impl Crowd<'_> {
    fn run(mut self) -> io::Result<Rushed> {
        while self.clock.now_us() < self.rush.until_us {
            self.let_go();
            while let Some(place) = self.free.pop() {
                let Some(client) = self.arrivals.next() else {
                    self.free.push(place);
                    break;
                };
                self.begin(place, client)?;
            }
            if self.free.len() == self.guests.len() && self.arrivals.is_over() {
                break;
            }
            let mut events = no_events();
            let ready = look(&self.epoll, &mut events, TURN)?;
            for event in &events[..ready] {
                let data = event.data;
                self.serve(data.u64() as usize)?;
            }
        }
        self.rushed.seconds = self.began.elapsed().as_secs_f64();
        self.rushed.peak_per_s = self.admitted.iter().copied().max().unwrap_or_default();
        self.rushed.handshake = self.handshakes.quantiles();
        Ok(self.rushed)
    }

    /// Lets those go who have stayed long enough.
    fn let_go(&mut self) {
        let now = Instant::now();
        while let Some(&(until, place, number)) = self.staying.front() {
            if until > now {
                break;
            }
            self.staying.pop_front();
            let guest = &self.guests[place];
            if guest.as_ref().is_some_and(|guest| guest.number == number) {
                self.leave(place);
            }
        }
    }

    fn leave(&mut self, place: usize) {
        let guest = self.guests[place].take();
        let was_inside = guest.is_some_and(|guest| guest.subscriber.phase == Phase::Live);
        self.inside -= u64::from(was_inside);
        self.free.push(place);
    }

    fn begin(&mut self, place: usize, client: u64) -> io::Result<()> {
        let number = self.rushed.attempts;
        self.rushed.attempts += 1;
        let offset = client as u32 % self.rush.sources.max(1);
        let source = Ipv4Addr::from(u32::from(self.rush.first_source) + offset);
        let socket = match connecting(self.rush.server, Some(source), None) {
            Ok(socket) => socket,
            Err(error) => {
                self.free.push(place);
                return self.count(client, &LostReason::Io(error));
            }
        };
        // Who leaves resets: no port is kept from the next by TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(place as u64),
            epoll::EventFlags::OUT,
        )?;
        let names: Vec<&str> = self
            .rush
            .symbols
            .names()
            .iter()
            .map(String::as_str)
            .collect();
        let token = &self.tokens[client as usize % self.tokens.len()];
        let since = self.rush.since;
        let opening = if client.is_multiple_of(2) {
            self.dialect.opening(&names, token)
        } else {
            let seq = since.seq(self.clock.now_us());
            self.dialect
                .opening_since(&names, (since.epoch, seq), token)
        };
        let request = self.handshake.request(&opening);
        let ledger = Ledger::new(&[], 0);
        let reader = self.dialect.reader();
        let subscriber = Subscriber::new(socket.into(), request, opening.messages, reader, ledger);
        self.guests[place] = Some(Guest {
            number,
            client,
            subscriber,
            came: Instant::now(),
        });
        Ok(())
    }

    fn serve(&mut self, place: usize) -> io::Result<()> {
        let Some(guest) = &mut self.guests[place] else {
            return Ok(());
        };
        let subscriber = &mut guest.subscriber;
        let before = subscriber.phase;
        let served = if before == Phase::Connecting {
            let flags = epoll::EventFlags::IN;
            let data = epoll::EventData::new_u64(place as u64);
            epoll::modify(&self.epoll, &subscriber.stream, data, flags)?;
            subscriber.send_request()
        } else {
            subscriber.receive(&mut Shared {
                bytes: &mut self.bytes,
                handshake: &self.handshake,
                symbols: &self.rush.symbols,
                references: &mut self.references,
                clock: &self.clock,
                tally: &mut self.tally,
            })
        };
        if before == Phase::Upgrading && subscriber.phase != Phase::Upgrading {
            self.rushed.admitted += 1;
            let second = self.began.elapsed().as_secs() as usize;
            if self.admitted.len() <= second {
                self.admitted.resize(second + 1, 0);
            }
            self.admitted[second] += 1;
            self.handshakes
                .record(guest.came.elapsed().as_micros() as u64);
        }
        let became_live = before != Phase::Live && subscriber.phase == Phase::Live;
        let (number, client) = (guest.number, guest.client);
        if became_live {
            self.became_live(place, number);
        }
        if let Err(reason) = served {
            self.leave(place);
            return self.count(client, &reason);
        }
        Ok(())
    }

    fn became_live(&mut self, place: usize, number: u64) {
        self.rushed.subscribed += 1;
        let until = Instant::now() + self.rush.stay;
        self.staying.push_back((until, place, number));
        self.inside += 1;
        self.rushed.at_once = self.rushed.at_once.max(self.inside);
        if self.inside == u64::from(self.rush.clients) {
            let seconds = self.began.elapsed().as_secs_f64();
            self.rushed.all_in_s.get_or_insert(seconds);
        }
    }

    /// Counts a client that was not let in, or is not inside any more.
    fn count(&mut self, client: u64, reason: &LostReason) -> io::Result<()> {
        let mut at_least_s = None;
        match reason {
            LostReason::Upgrade(UpgradeError::Answer(AnswerError::Refused {
                status,
                retry_after_s,
                ..
            })) => {
                *self.rushed.refused.entry(*status).or_default() += 1;
                at_least_s = *retry_after_s;
            }
            // Without descriptors or ports this is no crowd any more.
            LostReason::Io(error) if !hint(error).is_empty() => {
                return Err(io::Error::other(format!("{error}{}", hint(error))));
            }
            _ => self.rushed.failed += 1,
        }
        self.arrivals.turned_away(client, at_least_s);
        Ok(())
    }
}
