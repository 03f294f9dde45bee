//! Silent connections, each with a subscription and a live token: what they cost in memory.

use super::{Arena, PlayError, Settings};
use crate::{
    hold::{Task, Worker},
    process::Tree,
    run::{Memory, Point},
    session::{Session, SessionError, Target},
    token::Signer,
    worker::Contact,
};

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        let before = target.tree.map(Tree::rss_bytes).transpose()?;
        let here = settings.subscribers.min(settings.process_max);
        let workers = workers(settings, here, &target, signer)?;
        let own = Settings {
            subscribers: here,
            ..*settings
        };
        let mut session = Session::open(target, own.audience(), signer)?;
        let connected = target.tree.map(Tree::rss_bytes).transpose()?;
        // What connecting has left behind, buffers above all, has gone by then.
        session.rest(settings.warmup_s)?;
        let mut point = session.rest(settings.duration_s)?;
        let end = target.tree.map(Tree::rss_bytes).transpose()?;
        for worker in workers {
            point.lost_connections += worker.end()?;
        }
        point.subscribers = u64::from(settings.subscribers);
        let readings = before.zip(connected).zip(end);
        point.memory = readings.map(|((before, connected), end)| {
            Memory::new(before, connected, end, point.subscribers)
        });
        Ok(vec![point])
    })
}

/// Processes for the connections beyond the first `here`.
fn workers(
    settings: &Settings,
    here: u32,
    target: &Target<'_>,
    signer: &Signer,
) -> Result<Vec<Worker>, SessionError> {
    let firsts = (here..settings.subscribers).step_by(settings.process_max as usize);
    let workers = firsts.map(|first| {
        let task = Task {
            contact: Contact::of(target, signer),
            first,
            count: settings.process_max.min(settings.subscribers - first),
            sources: settings.pace.sources,
        };
        Ok(task.start()?)
    });
    workers.collect()
}
