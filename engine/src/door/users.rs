//! Which connections each user has, so that a newer one can replace the oldest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smallvec::SmallVec;

use super::limits::Place;

/// The connections of every `sub`, oldest first.
///
/// It holds an entry per [`ConnectionSlot`], so `connections_max` bounds it. A lock is right here:
/// it is taken when a connection comes or goes, never for a tick.
#[derive(Default)]
pub struct Users(Mutex<HashMap<Arc<str>, Sessions>>);

/// A user's sessions, oldest first. Most users have one.
type Sessions = SmallVec<[u64; 1]>;

impl Users {
    /// Takes up a connection.
    pub fn enter(self: &Arc<Self>, sub: &str, session: u64, place: Place) -> ConnectionSlot {
        let mut users = self.lock();
        let sub = users
            .get_key_value(sub)
            .map_or_else(|| Arc::from(sub), |(sub, _)| Arc::clone(sub));
        let sessions = users.entry(Arc::clone(&sub)).or_default();
        // Sessions count upwards; two that are admitted at once may arrive the other way around.
        let at = sessions.partition_point(|own| *own < session);
        sessions.insert(at, session);
        drop(users);
        ConnectionSlot {
            users: Arc::clone(self),
            sub,
            session,
            _place: place,
        }
    }

    /// Strikes the oldest connections of `sub` above `most` off the table and names them.
    ///
    /// They count no more from here on, whenever their owners get around to closing them.
    pub fn strike_excess(&self, sub: &str, most: u32) -> Vec<u64> {
        let mut users = self.lock();
        let Some(sessions) = users.get_mut(sub) else {
            return Vec::new();
        };
        let excess = sessions.len().saturating_sub(most as usize);
        sessions.drain(..excess).collect()
    }

    fn leave(&self, sub: &str, session: u64) {
        let mut users = self.lock();
        if let Some(sessions) = users.get_mut(sub) {
            sessions.retain(|own| *own != session);
            if sessions.is_empty() {
                users.remove(sub);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Sessions>> {
        // No panic can happen between two steps of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place: in the total, and among those of its user. Its drop gives both back, so
/// it lives exactly as long as the connection.
pub struct ConnectionSlot {
    users: Arc<Users>,
    sub: Arc<str>,
    session: u64,
    _place: Place,
}

impl ConnectionSlot {
    /// Whose connection it is.
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// Which of all connections it is.
    pub fn session(&self) -> u64 {
        self.session
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.users.leave(&self.sub, self.session);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;
    use crate::door::limits::Places;

    #[test]
    fn the_oldest_give_way_and_the_table_empties() {
        let taken = IntGauge::new("x", "x").unwrap();
        let places = Places::new(10, taken.clone());
        let users = Arc::new(Users::default());
        let enter = |sub, session| users.enter(sub, session, places.take().unwrap());
        let slots = [enter("a", 1), enter("a", 2), enter("b", 3), enter("a", 4)];
        assert_eq!(users.strike_excess("a", 1), [1, 2]);
        assert!(users.strike_excess("a", 1).is_empty());
        assert!(users.strike_excess("b", 1).is_empty());
        assert!(users.strike_excess("nobody", 1).is_empty());
        assert_eq!(taken.get(), 4);
        drop(slots);
        assert_eq!(taken.get(), 0);
        assert!(users.lock().is_empty());
    }
}
