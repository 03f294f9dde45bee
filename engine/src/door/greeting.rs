//! One connection between accept and handover, or between accept and its refusal.

use std::{
    cell::{Cell, RefCell},
    io,
    net::TcpStream,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use monoio::time::timeout;
use rustix::{
    io::{Errno, read},
    net::{SendFlags, Shutdown, send, shutdown},
};
use socket2::SockRef;

use super::{
    AuthDesk, Orders, Parts, admit,
    answer::Refusal,
    auth::Verifier,
    closing::Closing,
    handover::{Admitted, Handover},
    handshake::{Admission, Rules, Verdict, judge},
    limits::{Handshakes, PerIp, Place, Places, retry_after_s},
    metrics::Metrics,
    origin::{Announcement, Origin},
    users::Users,
};
use crate::{
    bell::Readiness,
    clock::{self, Clock},
    config::{Config, Networks},
    tidy::Tidying,
};

/// Refused connections that are kept until the peer has read the answer; above, they are closed
/// at once, and a slow peer may see a reset instead.
pub const LINGERING_MAX: usize = 1_024;
/// Connections without a place, over their allowance for instance, that may ask why at
/// `/v1/admit`; above, they are refused as any other.
pub const ASKING_MAX: usize = 64;
/// How long a refused peer has to read its answer.
const LINGER: Duration = Duration::from_secs(1);
/// How much a refused peer may still send meanwhile.
const LINGER_BYTES_MAX: usize = 64 * 1024;
/// How much is read behind a head; the rest stays in the socket for whoever takes it over.
const EARLY_BYTES_MAX: usize = 4_096;
/// Size of the read buffer that all connections share.
const SCRATCH_BYTES: usize = 16 * 1024;

/// What all connections at the door share; it never leaves the door's thread.
pub(super) struct Hall {
    pub(super) orders: Arc<Orders>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) desk: AuthDesk,
    pub(super) metrics: Metrics,
    pub(super) per_ip: PerIp,
    /// The same allowance once more, for questions.
    pub(super) questions: PerIp,
    pub(super) half_open: Places,
    pub(super) reload_interval: Duration,
    pub(super) closing: Closing,
    pub(super) leaving: Closing,
    pub(super) users: Arc<Users>,
    handshakes: Handshakes,
    lingering: Places,
    asking: Places,
    handover: Arc<dyn Handover>,
    config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) tidying: Tidying,
    last_number: Cell<u64>,
    scratch: RefCell<Box<[u8]>>,
}

impl Hall {
    pub(super) fn new(parts: Parts, orders: Arc<Orders>) -> Self {
        let Parts {
            config,
            verifier,
            desk,
            handover,
            metrics,
            driver: _,
        } = parts;
        let allowance = || {
            PerIp::new(
                config.per_ip_rate,
                config.per_ip_burst,
                config.per_ip_table_max,
            )
        };
        Self {
            per_ip: allowance(),
            questions: allowance(),
            handshakes: Handshakes::new(config.handshakes_per_s),
            users: Arc::new(Users::new(
                Places::new(config.connections_max, metrics.connections.clone()),
                config.per_ip_connections_max,
            )),
            half_open: Places::new(config.half_open_max, metrics.half_open.clone()),
            lingering: Places::new(LINGERING_MAX, metrics.lingering.clone()),
            asking: Places::new(ASKING_MAX, metrics.asking.clone()),
            reload_interval: Duration::from_millis(config.jwt_reload_ms.max(1)),
            closing: Closing::default(),
            leaving: Closing::default(),
            clock: Clock::default(),
            tidying: Tidying::default(),
            // Random, so that the sessions of two runs do not look alike in logs; without the top
            // bit, so that counting never wraps.
            last_number: Cell::new(rand::random::<u64>() >> 1),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            orders,
            verifier,
            desk,
            metrics,
            handover,
            config,
        }
    }

    /// Whether a connection is still being shaken hands with, or reading why it was refused.
    pub(super) fn busy(&self) -> bool {
        let Metrics {
            half_open,
            lingering,
            asking,
            ..
        } = &self.metrics;
        [half_open, lingering, asking]
            .into_iter()
            .any(|places| places.get() > 0)
    }

    /// Whether something was ordered from outside that the door has not acted on.
    pub(super) fn unheard_orders(&self) -> bool {
        self.orders.stopped()
            || self.orders.draining() && !self.closing.has_begun()
            || self.orders.leaving() && !self.leaving.has_begun()
    }

    /// Whose word is taken for whom they speak.
    pub(super) fn trusted(&self) -> &Networks {
        &self.config.trusted_proxies
    }

    /// Whether a new connection may begin a handshake.
    pub(super) fn may_knock(&self, origin: Origin) -> Result<(), Refusal> {
        if self.orders.draining() {
            return Err(Self::draining());
        }
        // First, so that one IP cannot use up the handshakes of all.
        self.take_allowance(origin)?;
        self.look_for_room(origin)?;
        self.handshakes.check().map_err(|wait| Refusal::AtCapacity {
            retry_after_s: retry_after_s(wait),
        })
    }

    /// Takes a handshake from the allowance of a client's IP.
    fn take_allowance(&self, origin: Origin) -> Result<(), Refusal> {
        Self::take(&self.per_ip, origin)
    }

    fn take(allowance: &PerIp, origin: Origin) -> Result<(), Refusal> {
        let checked = origin
            .client()
            .map_or(Ok(()), |client| allowance.check(client));
        checked.map_err(|wait| Refusal::RateLimited {
            retry_after_s: retry_after_s(wait),
        })
    }

    /// Gives back what a question has taken from the allowance of its IP: it is no handshake.
    fn give_back(&self, origin: Origin) {
        if let Some(client) = origin.client() {
            self.per_ip.give_back(client);
        }
    }

    /// Looks whether a client's IP may have one more connection.
    fn look_for_room(&self, origin: Origin) -> Result<(), Refusal> {
        let client = origin.client();
        if client.is_none_or(|client| self.users.has_room_for(client)) {
            Ok(())
        } else {
            Err(Self::too_many_connections())
        }
    }

    /// What an upgrade of `origin` would be told now for other reasons than what it says.
    fn would_admit(&self, origin: Origin) -> Result<(), Refusal> {
        if self.orders.draining() {
            return Err(Self::draining());
        }
        self.look_for_room(origin)?;
        if self.users.has_room() {
            Ok(())
        } else {
            Err(Self::at_capacity())
        }
    }

    fn too_many_connections() -> Refusal {
        Refusal::TooManyConnections {
            retry_after_s: retry_after_s(Duration::ZERO),
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    fn draining() -> Refusal {
        Refusal::Draining {
            retry_after_s: retry_after_s(Duration::ZERO),
        }
    }

    pub(super) fn at_capacity() -> Refusal {
        Refusal::AtCapacity {
            retry_after_s: retry_after_s(Duration::ZERO),
        }
    }

    /// Hands a connection over, or says why not and gives its socket back.
    fn admit(&self, half_open: HalfOpen, admission: Admission) -> Result<(), (OwnedFd, Refusal)> {
        let HalfOpen {
            watch,
            origin,
            mut received,
            ..
        } = half_open;
        let socket = watch.into_descriptor();
        if self.orders.draining() {
            return Err((socket, Self::draining()));
        }
        let client = origin.client();
        // Others of its IP may have been admitted meanwhile.
        if client.is_some_and(|client| !self.users.has_room_for(client)) {
            return Err((socket, Self::too_many_connections()));
        }
        // Drawn at admission, so that sessions count in its order.
        let session = self.next_number();
        let sub = admission.grant.sub.clone();
        let Some(slot) = self.users.enter(&sub, session, client) else {
            return Err((socket, Self::at_capacity()));
        };
        let most = admission.grant.max_connections;
        let admitted = Admitted {
            socket: self.tuned(socket),
            response: admission.response,
            early: received.split_off(admission.head_bytes),
            endpoint: admission.endpoint,
            subprotocol: admission.subprotocol,
            subscribe: admission.subscribe,
            max_delay_ms: admission.max_delay_ms,
            peer: origin.address(),
            session,
            slot,
            grant: admission.grant,
        };
        if let Err(admitted) = self.handover.hand_over(admitted) {
            return Err((admitted.socket.into(), Self::at_capacity()));
        }
        self.metrics.admitted();
        let excess = most.map_or_else(Vec::new, |most| self.users.strike_excess(&sub, most));
        for session in excess {
            self.handover.replace(session);
        }
        Ok(())
    }

    /// Sets what a connection needs that will carry ticks.
    fn tuned(&self, socket: OwnedFd) -> TcpStream {
        let socket = TcpStream::from(socket);
        let options = SockRef::from(&socket);
        // These fail only on a socket whose peer is gone, which its first write will tell.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_tcp_notsent_lowat(self.config.notsent_lowat_bytes);
        // For peers that vanish. It also counts while a peer's window stays shut, so it must come
        // after `stall_s`, which closes those with a reason that they can read.
        let silence_s = self.config.stall_s.saturating_add(self.config.pong_wait_s);
        let _ = options.set_tcp_user_timeout(Some(Duration::from_secs(silence_s)));
        socket
    }

    /// Reads at most `room` bytes of what has arrived; `None` where nothing has yet.
    fn read_some<T>(
        &self,
        socket: impl AsFd,
        room: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<Option<T>> {
        let mut scratch = self.scratch.borrow_mut();
        let room = room.min(scratch.len());
        match read(socket, &mut scratch[..room]) {
            Ok(bytes) => Ok(Some(take(&scratch[..bytes]))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection from its accept to its place at the door.
pub(super) struct Knock {
    socket: OwnedFd,
    origin: Origin,
    place: Place,
    /// Why it may do nothing but ask why.
    refused: Option<Refusal>,
    has_spent: bool,
    received: Vec<u8>,
}

impl Knock {
    /// Of a connection that has a place.
    pub(super) fn new(socket: OwnedFd, origin: Origin, place: Place) -> Self {
        Self {
            socket,
            origin,
            place,
            refused: None,
            has_spent: origin.client().is_some(),
            received: Vec::new(),
        }
    }
}

/// A connection whose request is not complete.
struct HalfOpen {
    watch: Readiness,
    origin: Origin,
    /// Whether nothing may come in front of the request any more.
    announced: bool,
    refused: Option<Refusal>,
    /// Whether it has taken a handshake from the allowance of its IP.
    has_spent: bool,
    received: Vec<u8>,
}

/// Turns a connection away that has no place here, unless it may be about to ask why.
///
/// `has_spent` says whether it has taken a handshake from the allowance of its IP.
pub(super) fn turn_away(
    hall: &Rc<Hall>,
    socket: OwnedFd,
    origin: Origin,
    refusal: Refusal,
    has_spent: bool,
) {
    let asks = |bytes: &[u8]| admit::may_be_asked(bytes).then(|| bytes.to_vec());
    let received = match hall.read_some(&socket, EARLY_BYTES_MAX, asks) {
        Ok(Some(Some(received))) => received,
        Ok(None) => Vec::new(),
        Ok(Some(None)) => return dismiss(hall, socket, &refusal),
        Err(_) => return hall.metrics.gone(),
    };
    let Some(place) = hall.asking.take() else {
        return dismiss(hall, socket, &refusal);
    };
    let knock = Knock {
        socket,
        origin,
        place,
        refused: Some(refusal),
        has_spent: has_spent && origin.client().is_some(),
        received,
    };
    monoio::spawn(greet(Rc::clone(hall), knock));
}

/// Reads a request, judges it, and hands the connection over or turns it away.
pub(super) async fn greet(hall: Rc<Hall>, knock: Knock) {
    let Knock {
        socket,
        origin,
        place,
        refused,
        has_spent,
        received,
    } = knock;
    let Ok(watch) = Readiness::new(socket) else {
        // Out of descriptors: what would be the answer's socket is gone with it.
        return hall.metrics.accept_errors.inc();
    };
    let mut half_open = HalfOpen {
        watch,
        origin,
        announced: origin.client().is_some() || refused.is_some(),
        refused,
        has_spent,
        received,
    };
    let may_be_admitted = half_open.refused.is_none();
    let deadline = if may_be_admitted {
        Duration::from_millis(hall.config.head_timeout_ms)
    } else {
        LINGER
    };
    let closing = async {
        // Whoever may only ask is given the time to.
        if may_be_admitted {
            hall.closing.begun(hall.next_number()).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let verdict = monoio::select! {
        verdict = timeout(deadline, half_open.verdict(&hall)) => verdict,
        () = closing => Ok(Ok(Verdict::Refuse(Hall::draining()))),
    };
    let (socket, refusal) = match verdict {
        Ok(Ok(Verdict::Admit(admission))) => match hall.admit(half_open, *admission) {
            Ok(()) => return,
            Err(refused) => refused,
        },
        Ok(Ok(Verdict::Tell(question))) => {
            let now = match half_open.refused {
                // It is in the question's own verdict.
                Some(_) => Ok(()),
                None => hall.would_admit(half_open.origin),
            };
            drop(place);
            hall.metrics.told();
            let socket = half_open.watch.into_descriptor();
            return part(&hall, socket, &admit::answer(question, now));
        }
        Ok(Ok(Verdict::Refuse(refusal))) => (half_open.watch.into_descriptor(), refusal),
        Ok(Ok(Verdict::NeedMore) | Err(_)) => return hall.metrics.gone(),
        Err(_) => {
            let refusal = half_open.refused.take().unwrap_or(Refusal::Timeout);
            (half_open.watch.into_descriptor(), refusal)
        }
    };
    drop(place);
    dismiss(&hall, socket, &refusal);
}

impl HalfOpen {
    /// Reads until there is a verdict; [`Verdict::NeedMore`] where the peer sends no more.
    async fn verdict(&mut self, hall: &Hall) -> io::Result<Verdict> {
        let rules = Rules {
            verifier: &hall.verifier,
            head_bytes_max: hall.config.head_bytes_max,
        };
        if !self.received.is_empty() {
            match self.judge(hall, &rules) {
                Verdict::NeedMore => {}
                verdict => return Ok(verdict),
            }
        }
        loop {
            let before = self.received.len();
            // The judge has the last word at `head_bytes_max`, so there is always room.
            let room = rules.head_bytes_max + EARLY_BYTES_MAX - before;
            let received = &mut self.received;
            let taken = hall.read_some(self.watch.descriptor(), room, |bytes| {
                received.extend_from_slice(bytes);
                bytes.len()
            })?;
            match taken {
                None => self.watch.readable().await?,
                Some(0) => return Ok(Verdict::NeedMore),
                // Judged where it can make a difference: at once (garbage shows early), at the end
                // of a line, and at the bound; not for every byte of a peer that drips.
                Some(_)
                    if before == 0
                        || self.received[before..].contains(&b'\n')
                        || self.received.len() >= rules.head_bytes_max =>
                {
                    match self.judge(hall, &rules) {
                        Verdict::NeedMore => {}
                        verdict => return Ok(verdict),
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Judges what has come, once it is known whom a trusted proxy in front speaks for.
    fn judge(&mut self, hall: &Hall, rules: &Rules<'_>) -> Verdict {
        match self.is_announced(hall, rules.head_bytes_max) {
            Ok(true) => {}
            Ok(false) => return Verdict::NeedMore,
            Err(refusal) => return Verdict::Refuse(refusal),
        }
        let (origin, has_spent) = (&mut self.origin, &mut self.has_spent);
        let refused = &self.refused;
        judge(&self.received, rules, clock::wall_s(), |request| {
            let is_named = origin.client().is_none();
            if is_named {
                *origin = origin.forwarded(request.headers(), hall.trusted())?;
            }
            if request.uri().path() == admit::PATH {
                // Before anything is verified. Whoever asks too much is not given back what it took.
                Hall::take(&hall.questions, *origin)?;
                if is_named {
                    hall.take_allowance(*origin)?;
                    hall.give_back(*origin);
                } else if std::mem::take(has_spent) {
                    hall.give_back(*origin);
                }
            } else if refused.is_none() {
                if is_named {
                    hall.take_allowance(*origin)?;
                }
                hall.look_for_room(*origin)?;
            }
            refused.clone().map_or(Ok(()), Err)
        })
    }

    /// Whether what a trusted proxy may say in front of the request is known, or cannot come any
    /// more.
    fn is_announced(&mut self, hall: &Hall, head_bytes_max: usize) -> Result<bool, Refusal> {
        if self.announced {
            return Ok(true);
        }
        match Announcement::parse(&self.received) {
            Announcement::NeedMore if self.received.len() < head_bytes_max => return Ok(false),
            Announcement::NeedMore => return Err(Refusal::HeadTooLarge),
            Announcement::Malformed => {
                return Err(Refusal::bad_request(
                    "not the PROXY protocol, version 1 or 2",
                ));
            }
            Announcement::Absent => {}
            Announcement::Present { bytes, client } => {
                self.received.drain(..bytes);
                if let Some(client) = client {
                    self.origin = Origin::of(client, hall.trusted());
                    match hall.take_allowance(self.origin) {
                        Ok(()) => self.has_spent = self.origin.client().is_some(),
                        Err(refusal) => self.refused = Some(refusal),
                    }
                }
            }
        }
        self.announced = true;
        Ok(true)
    }
}

/// Answers a refusal and closes, so that the peer can read why.
fn dismiss(hall: &Rc<Hall>, socket: OwnedFd, refusal: &Refusal) {
    hall.metrics.refused(refusal);
    part(hall, socket, &refusal.to_bytes());
}

/// Sends the last that there is to say, and closes.
///
/// Closing a socket with unread bytes, or bytes still to come, resets the connection, and the reset
/// may overtake the answer. So the sending side is shut, and what the peer still sends is read
/// for a moment, by a task of its own.
fn part(hall: &Rc<Hall>, socket: OwnedFd, answer: &[u8]) {
    // A fresh socket's buffer always takes these few hundred bytes; if not, the peer has gone.
    let _ = send(&socket, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = shutdown(&socket, Shutdown::Write);
    match hall.lingering.take() {
        Some(place) => drop(monoio::spawn(linger(Rc::clone(hall), socket, place))),
        None => drop(hall.read_some(&socket, SCRATCH_BYTES, |_| ())),
    }
}

async fn linger(hall: Rc<Hall>, socket: OwnedFd, _place: Place) {
    if let Ok(watch) = Readiness::new(socket) {
        // Whether it ends by the peer, by an error or by the clock: the socket closes now.
        let _ = timeout(LINGER, swallow(&hall, &watch)).await;
    }
}

async fn swallow(hall: &Hall, watch: &Readiness) -> io::Result<()> {
    let mut swallowed = 0;
    while swallowed < LINGER_BYTES_MAX {
        match hall.read_some(watch.descriptor(), SCRATCH_BYTES, <[u8]>::len)? {
            None => watch.readable().await?,
            Some(0) => break,
            Some(bytes) => swallowed += bytes,
        }
    }
    Ok(())
}
