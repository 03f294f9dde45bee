//! Silent connections, each with a subscription and a live token: what they cost in memory.

use super::{Arena, PlayError, Settings};
use crate::{run::Point, session::Session, token::Signer};

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        let mut session = Session::open(target, settings.audience(), signer)?;
        // What connecting has left behind, buffers above all, has gone by then.
        session.rest(settings.warmup_s)?;
        Ok(vec![session.rest(settings.duration_s)?])
    })
}
