//! Which connections each user has, so that a newer one can replace the oldest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::limits::Place;

/// The connections of every `sub`, oldest first.
///
/// It holds an entry per [`ConnectionSlot`], so `connections_max` bounds it. A lock is right here:
/// it is taken when a connection comes or goes, never for a tick.
#[derive(Default)]
pub struct Users(Mutex<HashMap<Arc<str>, Sessions>>);

/// A user's sessions, oldest first. Most users have one, which lies in the place of the pointer.
enum Sessions {
    One(u64),
    #[expect(
        clippy::box_collection,
        reason = "few users have several, and every user pays for the larger entry"
    )]
    Several(Box<Vec<u64>>),
}

impl Sessions {
    /// Sessions count upwards, but two that are admitted at once may arrive the other way around.
    fn insert(&mut self, session: u64) {
        if let Self::One(own) = *self {
            *self = Self::Several(Box::new(vec![own]));
        }
        if let Self::Several(sessions) = self {
            let at = sessions.partition_point(|own| *own < session);
            sessions.insert(at, session);
        }
    }

    /// Takes a session out; whether none is left.
    fn remove(&mut self, session: u64) -> bool {
        match self {
            Self::One(own) => *own == session,
            Self::Several(sessions) => {
                sessions.retain(|own| *own != session);
                sessions.is_empty()
            }
        }
    }

    /// Takes out the oldest, so that at most `most` are left.
    fn strike_excess(&mut self, most: usize) -> Vec<u64> {
        match self {
            Self::Several(sessions) => {
                let excess = sessions.len().saturating_sub(most);
                sessions.drain(..excess).collect()
            }
            Self::One(own) if most == 0 => {
                let oldest = vec![*own];
                *self = Self::Several(Box::default());
                oldest
            }
            Self::One(_) => Vec::new(),
        }
    }
}

impl Users {
    /// Takes up a connection.
    pub fn enter(self: &Arc<Self>, sub: &str, session: u64, place: Place) -> ConnectionSlot {
        let mut users = self.lock();
        let sub = users
            .get_key_value(sub)
            .map_or_else(|| Arc::from(sub), |(sub, _)| Arc::clone(sub));
        users
            .entry(Arc::clone(&sub))
            .and_modify(|sessions| sessions.insert(session))
            .or_insert(Sessions::One(session));
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
        let sessions = users.get_mut(sub);
        sessions.map_or_else(Vec::new, |sessions| sessions.strike_excess(most as usize))
    }

    fn leave(&self, sub: &str, session: u64) {
        let mut users = self.lock();
        if users
            .get_mut(sub)
            .is_some_and(|sessions| sessions.remove(session))
        {
            users.remove(sub);
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
