//! The floor's loop: turns while there is work, sleep while there is none.
//!
//! The traps of monoio 0.2.4 shape it. A task that wakes itself starves all others, so the loop
//! goes around by two tasks that wake each other. Timers and foreign wakers fire only while the
//! thread is parked, so deadlines are checked by the turn itself and letters come through a
//! mailbox with an eventfd.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use monoio::time::Sleep;

use super::{Floor, FloorSetup, sends::Sends};
use crate::{
    bell::{Bell, Listener, Readiness},
    clock::wall_ns,
    config::Idle,
    threads::{self, Driver},
};

/// The longest sleep without looking at the clock.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Runs a floor on this thread until it has drained; calls `ready` once it can take connections.
///
/// # Errors
///
/// Where neither io_uring nor epoll can be set up, or the epoll set fails.
pub fn run(setup: FloorSetup, driver: Driver, ready: impl FnOnce() + 'static) -> io::Result<()> {
    threads::block_on(driver, async move {
        let config = &setup.config;
        let sends = Sends::new(driver, config.sends_per_turn, config.connections_max)?;
        let floor = Floor::new(setup, sends)?;
        ready();
        serve(floor).await
    })?
}

/// What the loop's tasks share.
struct Laps {
    turn: RefCell<Option<Waker>>,
    bounce: RefCell<Option<Waker>>,
    watch: RefCell<Option<Waker>>,
    readable: Cell<bool>,
}

impl Laps {
    fn wake_turn(&self) {
        if let Some(waker) = self.turn.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Goes around once more, behind everything else that is runnable.
    fn go_on(&self) {
        if let Some(waker) = self.bounce.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether sockets have become readable since the last time; the watch then goes on.
    fn take_readable(&self) -> bool {
        let readable = self.readable.take();
        if let Some(waker) = self.watch.borrow_mut().take() {
            waker.wake();
        }
        readable
    }

    /// Waits until a turn has taken notice of what is readable.
    async fn taken(&self) {
        poll_fn(|cx| {
            if !self.readable.get() {
                return Poll::Ready(());
            }
            *self.watch.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

async fn serve(mut floor: Floor) -> io::Result<()> {
    let bell = Arc::clone(floor.desk.mailbox.bell());
    let laps = Rc::new(Laps {
        turn: RefCell::new(None),
        bounce: RefCell::new(None),
        watch: RefCell::new(None),
        readable: Cell::new(true),
    });
    monoio::spawn(bounce(Rc::clone(&laps)));
    monoio::spawn(hear(bell.listener()?, Rc::clone(&laps)));
    monoio::spawn(watch(floor.reader.readiness()?, Rc::clone(&laps)));
    let mut sleep = Box::pin(monoio::time::sleep(SLEEP_MAX));
    let mut idle_since = Instant::now();
    poll_fn(move |cx| {
        *laps.turn.borrow_mut() = Some(cx.waker().clone());
        bell.rouse();
        match floor.turn(laps.take_readable()) {
            Err(error) => return Poll::Ready(Err(error)),
            Ok(Turn::Over) => return Poll::Ready(Ok(())),
            Ok(Turn::Busy) => idle_since = Instant::now(),
            Ok(Turn::Idle) if floor.tidy() => {}
            Ok(Turn::Idle)
                if floor.may_park(idle_since) && floor.fall_asleep(&bell, sleep.as_mut(), cx) =>
            {
                return Poll::Pending;
            }
            Ok(Turn::Idle) => {}
        }
        laps.go_on();
        Poll::Pending
    })
    .await
}

/// The task that the turn wakes to be woken by it.
async fn bounce(laps: Rc<Laps>) {
    poll_fn(|cx| {
        *laps.bounce.borrow_mut() = Some(cx.waker().clone());
        laps.wake_turn();
        Poll::<()>::Pending
    })
    .await;
}

async fn hear(listener: Listener, laps: Rc<Laps>) {
    while listener.rung().await.is_ok() {
        laps.wake_turn();
    }
}

async fn watch(readiness: Readiness, laps: Rc<Laps>) {
    while readiness.readable().await.is_ok() {
        laps.readable.set(true);
        laps.wake_turn();
        // On epoll the set stays readable, and asking again succeeds at once, until the turn has
        // read: without this the thread would ask forever.
        laps.taken().await;
    }
}

/// What a turn left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was done, or is left to do.
    Busy,
    /// There was nothing to do.
    Idle,
    /// The floor has drained.
    Over,
}

impl Turn {
    /// Whether the next turn has something to do already.
    pub(super) fn is_busy(self) -> bool {
        self == Self::Busy
    }
}

impl Floor {
    fn turn(&mut self, readable: bool) -> io::Result<Turn> {
        self.now = self.clock.now();
        self.turn_now(readable)
    }

    /// A turn at the moment that the floor's clock was read.
    pub(super) fn turn_now(&mut self, readable: bool) -> io::Result<Turn> {
        let mut worked = self.take_live();
        worked |= self.take_letters();
        if readable || !self.ready.is_empty() {
            worked |= self.take_ready()?;
        }
        worked |= self.run_joins();
        worked |= self.run_deadlines();
        worked |= self.end_holds();
        self.flush()?;
        worked |= !self.dirty.is_empty() || !self.runnable.is_empty() || !self.ready.is_empty();
        self.observe_turn();
        if self.draining && self.connections.is_empty() {
            return Ok(Turn::Over);
        }
        Ok(if worked { Turn::Busy } else { Turn::Idle })
    }

    /// Brings the gauges up to date, and tells how long ticks took to be sent to the last of their
    /// subscribers.
    fn observe_turn(&mut self) {
        // A floor that never gets to the end of its lap tells of what is behind it all the same.
        const UNTOLD_MAX: usize = 8_192;
        let sent_to_all = self.dirty.is_empty() || self.untold_admitted_ns.len() >= UNTOLD_MAX;
        if sent_to_all && !self.untold_admitted_ns.is_empty() {
            let now_ns = wall_ns();
            for admitted_ns in self.untold_admitted_ns.drain(..) {
                let seconds = now_ns.saturating_sub(admitted_ns) as f64 / 1e9;
                self.metrics.ingest_to_send.observe(seconds);
            }
        }
        self.observe_counts();
        self.metrics.mailbox.set(self.desk.mailbox.len() as i64);
        self.metrics.requests.set(self.ready.len() as i64);
        self.metrics.joins.set(self.joins.len() as i64);
        self.metrics.runnable_joins.set(self.runnable.len() as i64);
        self.metrics.timers.set(self.timers.len() as i64);
        self.observe_queues();
    }

    fn observe_counts(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        if counts.sends + counts.dropped_ticks > 0 {
            self.metrics.sends.inc_by(counts.sends);
            self.metrics.sent_bytes.inc_by(counts.sent_bytes);
            self.metrics.delivered_ticks.inc_by(counts.delivered_ticks);
            self.metrics.dropped_ticks.inc_by(counts.dropped_ticks);
        }
    }

    /// Looks over all queues, once a second: too dear for every turn, and nobody scrapes faster.
    fn observe_queues(&mut self) {
        const EVERY_MS: u64 = 1_000;
        if self.now.since(self.queues_observed) < EVERY_MS {
            return;
        }
        self.queues_observed = self.now;
        let (mut bytes, mut ticks, mut longest) = (0, 0, 0);
        for (_, connection) in &self.connections {
            let queued = connection.outbox.ticks();
            bytes += connection.outbox.own_bytes();
            ticks += queued;
            longest = longest.max(queued);
        }
        self.metrics.queued_bytes.set(bytes as i64);
        self.metrics.queued_ticks.set(ticks as i64);
        self.metrics.longest_backlog.set(longest as i64);
        self.metrics.audiences.set(self.audiences.len() as i64);
    }

    /// Lets go of the room that a crowd took, once it has left; returns whether it was time.
    fn tidy(&mut self) -> bool {
        self.tidying.run(self.now, || {
            self.connections.shrink_to_fit();
            self.pending.shrink_to_fit();
            self.timers.shrink();
            self.dirty.shrink_to_fit();
            self.ready.shrink_to_fit();
        })
    }

    fn may_park(&self, idle_since: Instant) -> bool {
        match self.config.idle {
            Idle::Park => true,
            Idle::Spin => false,
            Idle::Hybrid => idle_since.elapsed() >= Duration::from_micros(self.config.spin_us),
        }
    }

    /// Announces sleep and looks once more; false where there is something to do after all.
    fn fall_asleep(
        &mut self,
        bell: &Bell,
        mut sleep: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> bool {
        bell.doze();
        // Pairs with ingest's push, then fence, then look at the interest mask and the bell.
        let work = self.tape.head() > self.at
            || !self.desk.mailbox.is_empty()
            || !self.dirty.is_empty()
            || !self.runnable.is_empty()
            || !self.ready.is_empty();
        if work {
            bell.rouse();
            return false;
        }
        let holds = self
            .holds
            .next()
            .into_iter()
            .chain(self.audience_holds.next());
        let next = self.timers.next().into_iter().chain(holds);
        let next = next.chain(self.tidying.due());
        let until = next.min().map_or(SLEEP_MAX, |next| self.clock.until(next));
        sleep
            .as_mut()
            .reset(monoio::time::Instant::now() + until.min(SLEEP_MAX));
        if sleep.poll(cx).is_ready() {
            bell.rouse();
            return false;
        }
        true
    }
}
