//! Starting, watching and draining an engine.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    admin::{Admin, Life, Phase},
    bell::{Bell, Mailbox},
    bridge::{self, Beats, Bridge, News},
    clock::wall_ns,
    config::Config,
    door::{self, AuthDesk, Door, Verifier},
    floor::{self, FloorDesk, FloorSetup},
    ingest::{self, BridgeEnds, HostLane, IngestSetup, Lane, Sequencer, SequencerOptions},
    listeners::Listeners,
    metrics::Metrics,
    placement::Reception,
    publisher::Publisher,
    system,
    tape::{self, Tape, TapeOptions},
    threads::{Driver, Layout, Placement},
};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A key file is missing, unreadable or of the wrong kind.
    #[error("tokens: {0}")]
    Keys(#[from] door::KeyError),
    /// An address cannot be listened on.
    #[error("{key} = {address}: {source}")]
    Listen {
        /// The config key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// What was passed in place of an address is no listening socket.
    #[error("LISTEN_FDS: {0}")]
    Passed(#[source] io::Error),
    /// The tape cannot be made.
    #[error("tape: {0}")]
    Tape(#[from] tape::TapeError),
    /// A thread or its event loop cannot be set up.
    #[error("{thread}: {source}")]
    Thread {
        /// Which.
        thread: String,
        /// The system's word.
        source: io::Error,
    },
    /// Two metrics share a name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Anything else of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Thread = JoinHandle<io::Result<()>>;

/// How often a wait looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running engine. Dropping it without [`Engine::drain`] leaves its threads to the end of the
/// process.
pub struct Engine {
    config: Arc<Config>,
    layout: Layout,
    driver: Driver,
    life: Arc<Life>,
    tape: Arc<Tape>,
    listeners: Listeners,
    door: Option<Door>,
    admin: Admin,
    floors: Vec<(Arc<FloorDesk>, Thread)>,
    ingest: (Arc<Mailbox<ingest::Letter>>, Thread),
    bridge: Option<Bridge>,
}

impl Engine {
    /// Starts an engine with the token keys that `config` names.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running then but threads that end by themselves.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        Self::start_on(listeners, config)
    }

    /// As [`Engine::start`], on sockets that are bound already.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn start_on(listeners: Listeners, config: Config) -> Result<Self, StartError> {
        let verifier = Verifier::new(&config.token_rules())?;
        Self::start_with(listeners, config, verifier)
    }

    /// Starts an engine that trusts one HS256 secret, which need not lie in a file.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn start_with_secret(config: Config, secret: &[u8]) -> Result<Self, StartError> {
        let verifier = Verifier::from_hs256_secret(secret, &config.token_rules())?;
        Self::start_with(Listeners::bind(&config)?, config, verifier)
    }

    fn start_with(
        listeners: Listeners,
        config: Config,
        verifier: Verifier,
    ) -> Result<Self, StartError> {
        system::prepare(&config);
        let config = Arc::new(config);
        let layout = Layout::plan(config.floors, !config.redis.is_empty())?;
        let driver = Driver::detect();
        if driver == Driver::Epoll {
            tracing::warn!(
                "io_uring is denied here (seccomp or kernel.io_uring_disabled): falling back to epoll"
            );
        }
        let own = listeners.try_clone()?;
        let metrics = Metrics::new()?;
        let life = Arc::new(Life::default());
        let (writer, tape) = tape::create(tape_options(&config))?;
        let auth = AuthDesk::new(&config)?;

        let shards = layout.bridge.as_ref().map_or(0, |_| config.redis_shards);
        let beats = Beats::new(shards, config.resume_overlap_ms);

        let mut floors = Vec::new();
        for (number, placement) in (0..).zip(&layout.floors) {
            let desk = Arc::new(FloorDesk {
                mailbox: Mailbox::new(config.handover_queue_max, Bell::new()?),
                load: AtomicUsize::new(0),
            });
            let setup = FloorSetup {
                number,
                config: Arc::clone(&config),
                tape: Arc::clone(&tape),
                desk: Arc::clone(&desk),
                beats: Arc::clone(&beats),
                auth: auth.clone(),
                metrics: metrics.floor(number),
            };
            let run = move |ready| floor::run(setup, driver, ready);
            floors.push((desk, start_thread(placement, run)?));
        }
        let mailbox = Mailbox::new(config.handover_queue_max, Bell::new()?);
        let ends = bridge_ends(&config, mailbox.bell())?;
        let setup = IngestSetup {
            bridge: ends.clone(),
            sequencer: Sequencer::new(writer, sequencer_options(&config)),
            config: Arc::clone(&config),
            tape: Arc::clone(&tape),
            mailbox: Arc::clone(&mailbox),
            floors: bells(&floors),
            auth: auth.clone(),
            metrics: metrics.ingest(),
        };
        let ingest = start_thread(&layout.ingest, move |ready| {
            ingest::run(setup, driver, ready)
        })?;
        let bridge = ends.zip(layout.bridge.as_ref()).map(|(ends, placement)| {
            let parts = bridge::Parts {
                config: Arc::clone(&config),
                tape: Arc::clone(&tape),
                lane: ends.lane,
                news: ends.news,
                beats,
            };
            Bridge::start(parts, metrics.registry(), placement)
        });
        let bridge = bridge.transpose()?;
        let reception = Reception {
            floors: floors.iter().map(|(desk, _)| Arc::clone(desk)).collect(),
            ingest: Arc::clone(&mailbox),
        };
        let admin = Admin::start(
            own.admin,
            metrics.registry().clone(),
            Arc::clone(&life),
            bridge.as_ref().map(|bridge| Arc::clone(bridge.status())),
            Arc::clone(&tape),
            &config,
            &layout.admin,
        )?;
        let parts = door::Parts {
            config: Arc::clone(&config),
            verifier: Arc::new(verifier),
            desk: auth,
            handover: Arc::new(reception),
            metrics: door::Metrics::new(metrics.registry())?,
            driver,
        };
        let placement = layout.door.clone();
        let door = Door::start(own.clients, parts, move || placement.settle())?;
        life.enter(Phase::Ready);
        Ok(Self {
            config,
            layout,
            driver,
            life,
            tape,
            listeners,
            door: Some(door),
            admin,
            floors,
            ingest: (mailbox, ingest),
            bridge,
        })
    }

    /// Where `/v1/ws` and `/v1/publish` are served.
    pub fn listen_addr(&self) -> SocketAddr {
        self.door.as_ref().map_or(self.config.listen, Door::address)
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Which thread runs where, as a short table.
    pub fn thread_table(&self) -> String {
        self.layout.to_string()
    }

    /// What the event loops are driven by.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The tape, to read ticks in this process.
    pub fn tape(&self) -> &Arc<Tape> {
        &self.tape
    }

    /// A new source of ticks in this process.
    ///
    /// # Errors
    ///
    /// Where ingest's mailbox is full.
    pub fn publisher(&self, name: &str) -> io::Result<Publisher> {
        let (mailbox, _) = &self.ingest;
        let lane = Lane::new(
            name.to_owned(),
            self.config.lane_slots,
            Arc::clone(mailbox.bell()),
        );
        mailbox
            .post(ingest::Letter::Lane(Arc::clone(&lane)))
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "ingest's mailbox is full"))?;
        Ok(Publisher::new(lane))
    }

    /// The name of a thread that has ended though nobody asked it to.
    pub fn failed_thread(&self) -> Option<String> {
        if self.door.as_ref().is_some_and(Door::is_finished) {
            return Some("tickwire-door".to_owned());
        }
        if self.bridge.as_ref().is_some_and(Bridge::is_finished) {
            return Some("bridge".to_owned());
        }
        let floors = self.floors.iter().map(|(_, thread)| thread);
        floors
            .chain([&self.ingest.1])
            .find(|thread| thread.is_finished())
            .map(|thread| thread.thread().name().unwrap_or("unnamed").to_owned())
    }

    /// What it listens on, for another process to listen on as well.
    ///
    /// # Errors
    ///
    /// Where no descriptors are left.
    pub fn listeners(&self) -> io::Result<Listeners> {
        self.listeners.try_clone()
    }

    /// Sends everyone away and ends: no new connections, last acks to publishers, `goodbye` and
    /// 1001 to subscribers behind all that is queued for them.
    ///
    /// Whoever connects meanwhile is told 503, unless its listeners are [`Listeners::shared`].
    ///
    /// Returns whether everything ended within `drain_s`.
    pub fn drain(self) -> bool {
        self.life.enter(Phase::Draining);
        if self.listeners.shared {
            self.leave_listener();
        }
        self.send_away()
    }

    /// As [`Engine::drain`], while another process serves on the same sockets: probes, scrapers and
    /// new connections are left to it.
    pub fn hand_over(mut self) -> bool {
        self.life.enter(Phase::Draining);
        self.admin.stop();
        self.leave_listener();
        self.send_away()
    }

    /// Accepts no more, and ends the handshakes that have begun.
    fn leave_listener(&self) {
        let deadline = Instant::now() + Duration::from_millis(self.config.head_timeout_ms);
        if let Some(door) = &self.door {
            door.leave();
            while !door.has_left() && !door.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    fn send_away(mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(self.config.drain_s);
        if let Some(door) = &self.door {
            door.drain();
        }
        let (mailbox, ingest) = self.ingest;
        let mut complete = mailbox.post(ingest::Letter::Drain).is_ok() && join_by(ingest, deadline);
        // Behind ingest: the others learn of every last tick, and of what this host has no longer.
        if let Some(bridge) = &self.bridge {
            bridge.finish();
        }
        for (desk, _) in &self.floors {
            complete &= desk.mailbox.post(floor::Letter::Drain).is_ok();
        }
        for (_, thread) in self.floors {
            complete &= join_by(thread, deadline);
        }
        if let Some(bridge) = self.bridge.take() {
            complete &= bridge.stop(deadline);
        }
        if let Some(door) = self.door.take() {
            complete &= door.stop().is_ok();
        }
        self.admin.stop();
        complete
    }
}

fn tape_options(config: &Config) -> TapeOptions {
    TapeOptions {
        slots: config.tape_slots,
        symbols_max: config.symbols_max,
        // Other hosts know this one by it, and what they remember of the dead by 0.
        id: rand::random::<u64>().max(bridge::MEMORY + 1),
    }
}

fn bells(floors: &[(Arc<FloorDesk>, Thread)]) -> Vec<Arc<Bell>> {
    let bells = floors.iter().map(|(desk, _)| desk.mailbox.bell());
    bells.map(Arc::clone).collect()
}

/// Ingest's ends of a bridge, where there is to be one.
fn bridge_ends(config: &Config, ingest: &Arc<Bell>) -> io::Result<Option<BridgeEnds>> {
    if config.redis.is_empty() {
        return Ok(None);
    }
    Ok(Some(BridgeEnds {
        lane: HostLane::new(config.bridge_lane_slots, Arc::clone(ingest)),
        news: News::new(config.bridge_backlog)?,
    }))
}

fn sequencer_options(config: &Config) -> SequencerOptions {
    SequencerOptions {
        arbitration_ms: config.arbitration_ms,
        held_max: config.arbitration_held_max,
        start_ms: wall_ns() / 1_000_000,
        is_bridged: !config.redis.is_empty(),
    }
}

/// Starts a thread and waits until it says that it is ready, or ends.
fn start_thread(
    placement: &Placement,
    body: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + 'static,
) -> Result<Thread, StartError> {
    let failed = |source| StartError::Thread {
        thread: placement.name.clone(),
        source,
    };
    let (report, started) = mpsc::channel();
    let name = placement.name.clone();
    let thread = placement
        .spawn(move || {
            let outcome = body(Box::new(move || {
                // The starter waits for this word, so it cannot be gone.
                let _ = report.send(());
            }));
            if let Err(error) = &outcome {
                tracing::error!(thread = name, %error, "the thread ended");
            }
            outcome
        })
        .map_err(failed)?;
    if started.recv().is_ok() {
        return Ok(thread);
    }
    let outcome = thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
    Err(failed(outcome.err().unwrap_or_else(|| {
        io::Error::other("the thread ended at once")
    })))
}

fn join_by(thread: Thread, deadline: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    thread.join().is_ok_and(|outcome| outcome.is_ok())
}
