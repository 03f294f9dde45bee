//! Notes for a publisher's task, from the rest of ingest's thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

use tickwire_proto::claims::Grant;

use crate::door::TokenError;

/// What the rest of ingest has to tell a publisher's task.
pub enum Note {
    /// The answer to `auth`.
    Authenticated {
        /// The request's id.
        id: Option<u32>,
        /// The verdict.
        outcome: Result<Grant, TokenError>,
    },
    /// A held tick of the message was placed.
    Settled {
        /// Which message.
        message: u64,
    },
    /// A newer connection of the same user took the place.
    Replaced,
    /// The engine drains.
    Drain,
}

/// Where notes for one publisher's task lie; both ends are on ingest's thread.
pub struct Desk {
    /// The connection's session.
    pub session: u64,
    pub(super) notes: RefCell<VecDeque<Note>>,
    waker: RefCell<Option<Waker>>,
    pub(super) closed: Cell<bool>,
}

impl Desk {
    /// An empty desk.
    pub fn new(session: u64) -> Self {
        Self {
            session,
            notes: RefCell::default(),
            waker: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// Leaves a note.
    pub fn post(&self, note: Note) {
        if self.closed.get() {
            return;
        }
        self.notes.borrow_mut().push_back(note);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for a note.
    pub(super) async fn noted(&self) {
        poll_fn(|cx| {
            if self.notes.borrow().is_empty() {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}
