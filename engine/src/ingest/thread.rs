//! The ingest thread: its event loop, its lanes, and the state that its tasks share.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tickwire_proto::{claims::Grant, json::PublishParser};

use super::{
    hosts::{HostLane, Hosts},
    lane::Lane,
    publisher,
    sequencer::{Sequencer, SourceId, Verdict},
    settlement::Settlement,
};
use crate::{
    bell::{Bell, Mailbox},
    bridge::News,
    clock::{Clock, wall_ns},
    config::Config,
    door::{Admitted, AuthDesk, TokenError},
    metrics::IngestMetrics,
    tape::Tape,
    threads::{self, Driver},
};

/// Ticks taken from one lane before sockets get their turn.
const LANE_TICKS_PER_TURN: usize = 1_024;
/// Other hosts' entries taken before sockets get their turn.
const HOST_ENTRIES_PER_TURN: usize = 16;
/// Ticks submitted before floors are woken.
const TICKS_PER_RING: usize = 64;
/// The longest wait without looking for expired holes, ms.
const EXPIRY_IDLE_MS: u64 = 1_000;

/// What reaches ingest from other threads.
pub enum Letter {
    /// A publisher's finished connection.
    Admitted(Box<Admitted>),
    /// An in-process publisher's lane.
    Lane(Arc<Lane>),
    /// The answer to an in-band `auth` of a publisher.
    Authenticated {
        /// Whose.
        source: SourceId,
        /// The request's id.
        id: Option<u32>,
        /// The verdict.
        outcome: Result<Grant, TokenError>,
    },
    /// Close the connection of this session with 4509.
    Replace(u64),
    /// Say goodbye to every publisher, then end.
    Drain,
}

/// What ingest is built from.
pub struct IngestSetup {
    /// The settings.
    pub config: Arc<Config>,
    /// The one writer's decisions.
    pub sequencer: Sequencer,
    /// The tape, for interest masks.
    pub tape: Arc<Tape>,
    /// Letters to ingest.
    pub mailbox: Arc<Mailbox<Letter>>,
    /// The bells of the floors, by number.
    pub floors: Vec<Arc<Bell>>,
    /// The bridge, if there is one.
    pub bridge: Option<BridgeEnds>,
    /// Verifies in-band tokens.
    pub auth: AuthDesk,
    /// Counters.
    pub metrics: IngestMetrics,
}

/// Ingest's ends of the bridge.
#[derive(Clone)]
pub struct BridgeEnds {
    /// What other hosts say.
    pub lane: Arc<HostLane>,
    /// Told when publishers of this host have sent something, or others much.
    pub news: Arc<News>,
}

/// What the tasks of this thread share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) sequencer: RefCell<Sequencer>,
    pub(super) parser: RefCell<PublishParser>,
    pub(super) read_buffer: RefCell<Box<[u8]>>,
    pub(super) mailbox: Arc<Mailbox<Letter>>,
    pub(super) auth: AuthDesk,
    pub(super) metrics: IngestMetrics,
    pub(super) publishers: RefCell<FxHashMap<SourceId, Rc<publisher::Desk>>>,
    tape: Arc<Tape>,
    floors: Vec<Arc<Bell>>,
    bridge: Option<BridgeEnds>,
    hosts: RefCell<Hosts>,
    lanes: RefCell<Vec<(SourceId, Arc<Lane>, Settlement)>>,
    next_source: RefCell<u64>,
    draining: RefCell<bool>,
}

/// Bytes read from one publisher at a time.
const READ_BYTES: usize = 64 * 1024;

/// Runs ingest on this thread until it has drained; calls `ready` once it can take connections.
///
/// # Errors
///
/// Where the event loop cannot be set up.
pub fn run(setup: IngestSetup, driver: Driver, ready: impl FnOnce() + 'static) -> io::Result<()> {
    threads::block_on(driver, serve(setup, ready))?
}

async fn serve(setup: IngestSetup, ready: impl FnOnce()) -> io::Result<()> {
    let shared = Rc::new(Shared {
        config: setup.config,
        clock: Clock::default(),
        sequencer: RefCell::new(setup.sequencer),
        parser: RefCell::new(PublishParser::default()),
        read_buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
        mailbox: setup.mailbox,
        auth: setup.auth,
        metrics: setup.metrics,
        publishers: RefCell::default(),
        tape: setup.tape,
        floors: setup.floors,
        bridge: setup.bridge,
        hosts: RefCell::default(),
        lanes: RefCell::default(),
        next_source: RefCell::new(0),
        draining: RefCell::new(false),
    });
    monoio::spawn(expire_holes(Rc::clone(&shared)));
    let bell = Arc::clone(shared.mailbox.bell());
    let listener = bell.listener()?;
    ready();
    loop {
        shared.take_letters();
        let more = shared.take_lanes() | shared.take_hosts();
        shared.publish();
        if *shared.draining.borrow()
            && shared.publishers.borrow().is_empty()
            && !shared.lanes_wait()
        {
            // What other hosts still say is not waited for: they go on for ever. They are told
            // what has no publisher here any more.
            shared.close_lanes();
            return Ok(());
        }
        bell.doze();
        if more || !shared.mailbox.is_empty() || shared.lanes_wait() || shared.hosts_wait() {
            // Through the event loop, so that sockets get their turn between two rounds.
            bell.ring();
        }
        listener.rung().await?;
        bell.rouse();
    }
}

/// Declares holes when their time is up.
async fn expire_holes(shared: Rc<Shared>) {
    loop {
        let now = shared.clock.now();
        shared.sequencer.borrow_mut().expire(now, wall_ns());
        shared.publish();
        let deadline = shared.sequencer.borrow().deadline();
        // Holes open between two looks, so the wait is never longer than their own time.
        let wait = deadline.map_or(
            shared.config.arbitration_ms.clamp(1, EXPIRY_IDLE_MS),
            |at| at.since(now).max(1),
        );
        monoio::time::sleep(Duration::from_millis(wait)).await;
    }
}

impl Shared {
    fn take_letters(self: &Rc<Self>) {
        while let Some(letter) = self.mailbox.take() {
            match letter {
                Letter::Admitted(admitted) => self.take_over(*admitted),
                Letter::Lane(lane) => {
                    let source = self.new_source();
                    self.lanes
                        .borrow_mut()
                        .push((source, lane, Settlement::default()));
                }
                Letter::Authenticated {
                    source,
                    id,
                    outcome,
                } => {
                    self.post(source, publisher::Note::Authenticated { id, outcome });
                }
                Letter::Replace(session) => {
                    let publishers = self.publishers.borrow();
                    if let Some(desk) = publishers.values().find(|desk| desk.session == session) {
                        desk.post(publisher::Note::Replaced);
                    }
                }
                Letter::Drain => {
                    *self.draining.borrow_mut() = true;
                    for desk in self.publishers.borrow().values() {
                        desk.post(publisher::Note::Drain);
                    }
                }
            }
        }
    }

    fn take_over(self: &Rc<Self>, admitted: Admitted) {
        if *self.draining.borrow() {
            admitted.turn_away();
            return;
        }
        let source = self.new_source();
        let desk = Rc::new(publisher::Desk::new(admitted.session));
        self.publishers
            .borrow_mut()
            .insert(source, Rc::clone(&desk));
        self.metrics.publishers.inc();
        let shared = Rc::clone(self);
        monoio::spawn(async move {
            publisher::serve(&shared, source, &desk, admitted).await;
            shared.sequencer.borrow_mut().leave(source, wall_ns());
            shared.publishers.borrow_mut().remove(&source);
            shared.metrics.publishers.dec();
            shared.publish();
            shared.mailbox.bell().ring();
        });
    }

    fn new_source(&self) -> SourceId {
        let mut next = self.next_source.borrow_mut();
        *next += 1;
        SourceId(*next)
    }

    fn post(&self, source: SourceId, note: publisher::Note) {
        if let Some(desk) = self.publishers.borrow().get(&source) {
            desk.post(note);
        }
    }

    /// Takes ticks from every lane; returns whether one has more.
    fn take_lanes(&self) -> bool {
        let mut more = false;
        let mut waiting = 0;
        self.lanes
            .borrow_mut()
            .retain_mut(|(source, lane, settlement)| {
                let mut taken = 0;
                while taken < LANE_TICKS_PER_TURN {
                    let Some(tick) = lane.take() else { break };
                    taken += 1;
                    let message = settlement.begin_message();
                    self.submit(*source, message, &tick, settlement);
                    if taken % TICKS_PER_RING == 0 {
                        self.wake_floors();
                    }
                }
                more |= !lane.is_empty();
                waiting += lane.len() as i64;
                record(lane, settlement);
                let finished = lane.is_finished();
                if finished {
                    self.sequencer.borrow_mut().leave(*source, wall_ns());
                }
                !finished
            });
        self.metrics.lane_ticks.set(waiting);
        more
    }

    /// Takes what other hosts say; returns whether there is more.
    fn take_hosts(&self) -> bool {
        let Some(bridge) = &self.bridge else {
            return false;
        };
        for _ in 0..HOST_ENTRIES_PER_TURN {
            let Some((shard, arrival)) = bridge.lane.take() else {
                break;
            };
            let mut sequencer = self.sequencer.borrow_mut();
            let (now, wall_ns) = (self.clock.now(), wall_ns());
            let mut hosts = self.hosts.borrow_mut();
            hosts.take(&mut sequencer, shard, arrival, now, wall_ns);
        }
        self.metrics
            .observe_hosts(&self.hosts.borrow().counts(), bridge.lane.len());
        !bridge.lane.is_empty()
    }

    /// Publishers in this process may hold on to their lanes; nobody takes from them any more.
    fn close_lanes(&self) {
        let mut sequencer = self.sequencer.borrow_mut();
        for (source, ..) in self.lanes.borrow_mut().drain(..) {
            sequencer.leave(source, wall_ns());
        }
        // What waits for another host's ticks would end with this thread.
        sequencer.settle_all(wall_ns());
        drop(sequencer);
        self.publish();
    }

    fn lanes_wait(&self) -> bool {
        self.lanes
            .borrow()
            .iter()
            .any(|(_, lane, _)| !lane.is_empty() || lane.is_finished())
    }

    fn hosts_wait(&self) -> bool {
        let bridge = self.bridge.as_ref();
        bridge.is_some_and(|bridge| !bridge.lane.is_empty())
    }

    /// Decides one tick and enters the verdict into its publisher's books; a refusal is returned
    /// to be told.
    pub(super) fn submit(
        &self,
        source: SourceId,
        message: u64,
        tick: &tickwire_proto::tick::PublishedTick,
        settlement: &mut Settlement,
    ) -> Option<super::sequencer::Refusal> {
        let verdict =
            self.sequencer
                .borrow_mut()
                .submit(source, message, tick, self.clock.now(), wall_ns());
        match verdict {
            Verdict::Accepted => settlement.accept(),
            Verdict::Duplicate => settlement.duplicate(),
            Verdict::Held => settlement.hold(message),
            Verdict::Refused(refusal) => {
                settlement.reject();
                self.metrics.refused(refusal.code).inc();
                return Some(refusal);
            }
        }
        None
    }

    /// Tells sources what became of their held ticks, and wakes the floors that care.
    pub(super) fn publish(&self) {
        let settled = self.sequencer.borrow_mut().take_settled();
        for settled in settled {
            if let Some(desk) = self.publishers.borrow().get(&settled.source) {
                desk.post(publisher::Note::Settled {
                    message: settled.message,
                });
                continue;
            }
            let mut lanes = self.lanes.borrow_mut();
            if let Some((_, lane, settlement)) = lanes
                .iter_mut()
                .find(|(source, ..)| *source == settled.source)
            {
                settlement.settle(settled.message);
                record(lane, settlement);
            }
        }
        self.wake_floors();
    }

    /// Wakes the floors with subscribers for what was written, and the bridge where others have to learn
    /// of it.
    pub(super) fn wake_floors(&self) {
        // Pairs with a floor's doze: its flag is set before it looks at the head for the last
        // time. Its interest was entered before that, or it will take the symbol's account later.
        std::sync::atomic::fence(Ordering::SeqCst);
        let mut interest = 0;
        let mut sequencer = self.sequencer.borrow_mut();
        let born = sequencer.take_touched(|id| interest |= self.tape.interest(id));
        for (number, bell) in self.floors.iter().enumerate() {
            if born || interest & (1 << number) != 0 {
                bell.ring();
            }
        }
        let is_own = sequencer.take_own();
        if let Some(bridge) = &self.bridge {
            bridge.news.tell(self.tape.head(), is_own);
        }
        self.metrics.observe(&sequencer.counts());
    }
}

fn record(lane: &Lane, settlement: &Settlement) {
    let counts = settlement.counts();
    lane.counts()
        .accepted
        .store(counts.accepted, Ordering::Relaxed);
    lane.counts()
        .rejected
        .store(counts.rejected, Ordering::Relaxed);
    lane.counts()
        .duplicates
        .store(counts.duplicates, Ordering::Relaxed);
}
