//! A moment that tasks wait for, such as that from which half-open connections are no longer welcome.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    task::{Poll, Waker},
};

/// An event that happens once, for the tasks of one thread.
#[derive(Default)]
pub(super) struct Closing {
    begun: Cell<bool>,
    /// By the number of the waiting connection, so that `half_open_max` bounds it.
    waiting: RefCell<HashMap<u64, Waker>>,
}

impl Closing {
    /// Wakes everyone who waits, now or later.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        // Taken out first: waking may run nothing yet, but must not find the table borrowed.
        let waiting = self.waiting.take();
        waiting.into_values().for_each(Waker::wake);
    }

    /// Whether it has happened.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Waits as connection `number`, which no other waiting connection has.
    pub(super) async fn begun(&self, number: u64) {
        let _leave = Leave {
            closing: self,
            number,
        };
        poll_fn(|context| {
            if self.begun.get() {
                return Poll::Ready(());
            }
            self.waiting
                .borrow_mut()
                .insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Strikes a connection off the table when it waits no more.
struct Leave<'a> {
    closing: &'a Closing,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.closing.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Context};

    use super::*;

    #[test]
    fn who_waits_is_told_and_who_leaves_is_forgotten() {
        let closing = Closing::default();
        let context = &mut Context::from_waker(Waker::noop());
        let mut stays = pin!(closing.begun(1));
        assert!(stays.as_mut().poll(context).is_pending());
        {
            let mut leaves = pin!(closing.begun(2));
            assert!(leaves.as_mut().poll(context).is_pending());
            assert_eq!(closing.waiting.borrow().len(), 2);
        }
        assert_eq!(closing.waiting.borrow().len(), 1);
        closing.begin();
        assert!(stays.as_mut().poll(context).is_ready());
        assert!(pin!(closing.begun(3)).poll(context).is_ready());
    }
}
