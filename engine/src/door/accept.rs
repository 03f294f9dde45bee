//! The door's thread: its event loop, and the loop that accepts.
//!
//! monoio only waits here; accepting, reading and writing are plain non-blocking calls on
//! descriptors that this module owns. A socket that monoio reads from could be taken out of it again
//! only by its number, which is unsafe; a socket that it merely watches through a duplicate is handed
//! over as it is, on `io_uring` as on epoll.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::Duration,
};

use monoio::time::sleep;
use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};

use super::{
    Orders, Parts,
    answer::Refusal,
    greeting::{self, Hall, Knock},
    origin::Origin,
};
use crate::{bell::Readiness, threads};

/// Connections accepted in one go, before those being shaken hands with get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long the loop stands back after a full turn. monoio has no fair yield: a task that wakes
/// itself is run before all others.
const TURN_BREAK: Duration = Duration::from_millis(1);
/// How long to wait where the system has no descriptors or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Runs the door on this thread until it is told to stop; tells `started` when it listens.
pub(super) fn run(
    listener: TcpListener,
    parts: Parts,
    orders: Arc<Orders>,
    started: Sender<()>,
) -> io::Result<()> {
    let driver = parts.driver;
    let main = async move {
        let hall = Rc::new(Hall::new(parts, orders));
        let listener = Readiness::new(OwnedFd::from(listener))?;
        // The starter waits for this message, so it cannot be gone.
        let _ = started.send(());
        serve(listener, &hall).await
    };
    threads::block_on(driver, main)?
}

async fn serve(listener: Readiness, hall: &Rc<Hall>) -> io::Result<()> {
    let result = monoio::select! {
        result = accept(listener, hall) => result,
        result = attend_desk(hall) => result,
        () = keep_house(hall) => Ok(()),
    };
    if let Err(error) = &result {
        tracing::error!(%error, "the door cannot go on");
    }
    hall.closing.begin();
    // A monoio runtime that ends forgets its tasks and the descriptors they hold, and descriptors
    // dropped in it close in a later turn of its loop. So the last answers are waited for, which
    // `greeting::LINGER` bounds.
    sleep(TURN_BREAK).await;
    while hall.busy() {
        sleep(TURN_BREAK).await;
    }
    sleep(TURN_BREAK).await;
    result
}

/// Accepts until the listener is to be left to another process; ends only by an error.
async fn accept(listener: Readiness, hall: &Rc<Hall>) -> io::Result<()> {
    monoio::select! {
        result = accept_forever(&listener, hall) => return result,
        () = hall.leaving.begun(hall.next_number()) => {}
    }
    drop(listener);
    while hall.metrics.half_open.get() > 0 {
        sleep(TURN_BREAK).await;
    }
    hall.orders.left.store(true, Ordering::Relaxed);
    std::future::pending().await
}

async fn accept_forever(listener: &Readiness, hall: &Rc<Hall>) -> io::Result<()> {
    loop {
        listener.readable().await?;
        match accept_some(listener, hall) {
            Ok(Queue::Empty) => {}
            Ok(Queue::Unknown) => sleep(TURN_BREAK).await,
            Err(_) => {
                hall.metrics.accept_errors.inc();
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// What is known of the listener's queue after a turn.
enum Queue {
    Empty,
    Unknown,
}

fn accept_some(listener: &Readiness, hall: &Rc<Hall>) -> Result<Queue, Errno> {
    for _ in 0..ACCEPTS_PER_TURN {
        match acceptfrom_with(
            listener.descriptor(),
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        ) {
            Ok((socket, Some(peer))) => {
                if let Ok(peer) = SocketAddr::try_from(peer) {
                    receive(hall, socket, peer);
                }
            }
            // Peers that left before they were accepted.
            Ok((_, None)) | Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
            Err(Errno::AGAIN) => return Ok(Queue::Empty),
            Err(error) => return Err(error),
        }
    }
    Ok(Queue::Unknown)
}

/// Decides, before a byte is read, whether a connection is worth a handshake.
fn receive(hall: &Rc<Hall>, socket: OwnedFd, peer: SocketAddr) {
    hall.tidying.postpone(hall.clock.now());
    let origin = Origin::of(peer, hall.trusted());
    if let Err(refusal) = hall.may_knock(origin) {
        // The limit of connections is looked at behind the allowance.
        let has_spent = matches!(refusal, Refusal::TooManyConnections { .. });
        return greeting::turn_away(hall, socket, origin, refusal, has_spent);
    }
    match hall.half_open.take() {
        Some(place) if hall.users.has_room() => {
            let knock = Knock::new(socket, origin, place);
            monoio::spawn(greeting::greet(Rc::clone(hall), knock));
        }
        _ => greeting::turn_away(hall, socket, origin, Hall::at_capacity(), true),
    }
}

/// Verifies in-band tokens; returns when the door is to stop.
async fn attend_desk(hall: &Hall) -> io::Result<()> {
    let bell = hall.desk.bell();
    let listener = bell.listener()?;
    while !hall.orders.stopped() {
        if hall.orders.draining() {
            hall.closing.begin();
        }
        if hall.orders.leaving() {
            hall.leaving.begin();
        }
        if !hall.desk.serve(&hall.verifier) {
            sleep(TURN_BREAK).await;
            continue;
        }
        bell.doze();
        if hall.desk.waiting() == 0 && !hall.unheard_orders() {
            listener.rung().await?;
        }
        bell.rouse();
    }
    Ok(())
}

/// Looks after what changes slowly: key files, forgotten IPs, free memory, and what the gauges show.
async fn keep_house(hall: &Hall) {
    loop {
        sleep(hall.reload_interval).await;
        match hall.verifier.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("token keys reloaded"),
            Err(error) => {
                tracing::warn!(%error, "token keys not reloaded, the old ones stay in force");
            }
        }
        hall.per_ip.age();
        hall.questions.age();
        hall.tidying.run(hall.clock.now(), || hall.users.shrink());
        hall.metrics
            .per_ip_table
            .set(hall.per_ip.remembered() as i64);
        let (users, ips) = hall.users.count();
        hall.metrics.users.set(users as i64);
        hall.metrics.client_ips.set(ips as i64);
        hall.metrics.auth_queue.set(hall.desk.waiting() as i64);
    }
}
