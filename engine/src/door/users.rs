//! Which connections each user has, so that a newer one can replace the oldest, and how many each
//! IP has.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::limits::{Peer, Places};

/// Who has which connections.
///
/// It holds at most two entries per [`ConnectionSlot`], so `connections_max` bounds it. A lock is
/// right here: it is taken when a connection comes or goes, never for a tick.
pub struct Users {
    tables: Mutex<Tables>,
    /// Connections in all.
    places: Places,
    /// Connections of one IP; 0 is no limit.
    per_ip_max: u32,
}

#[derive(Default)]
struct Tables {
    /// By `sub`, the oldest first.
    sessions: HashMap<Arc<str>, Sessions>,
    /// How many each IP has.
    per_ip: HashMap<Peer, u32>,
}

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
    /// Nobody yet. There are `places` for all, and an IP may have `per_ip_max` connections, where 0 is
    /// no limit.
    pub fn new(places: Places, per_ip_max: u32) -> Self {
        Self {
            tables: Mutex::default(),
            places,
            per_ip_max,
        }
    }

    /// Whether one more connection of `client` is within the limit of its IP.
    pub fn has_room_for(&self, client: IpAddr) -> bool {
        let tables = self.lock();
        let own = tables.per_ip.get(&Peer::of(client));
        self.per_ip_max == 0 || own.is_none_or(|&own| own < self.per_ip_max)
    }

    /// Whether there is room for one more connection of anyone.
    pub fn has_room(&self) -> bool {
        self.places.any_left()
    }

    /// Takes up a connection of `sub`, if there is a place; limits per IP are about `client`.
    pub fn enter(
        self: &Arc<Self>,
        sub: &str,
        session: u64,
        client: Option<IpAddr>,
    ) -> Option<ConnectionSlot> {
        if !self.places.occupy() {
            return None;
        }
        let client = client.map(Peer::of);
        let mut tables = self.lock();
        let users = &mut tables.sessions;
        let sub = users
            .get_key_value(sub)
            .map_or_else(|| Arc::from(sub), |(sub, _)| Arc::clone(sub));
        users
            .entry(Arc::clone(&sub))
            .and_modify(|sessions| sessions.insert(session))
            .or_insert(Sessions::One(session));
        if let Some(client) = client {
            *tables.per_ip.entry(client).or_default() += 1;
        }
        drop(tables);
        Some(ConnectionSlot {
            users: Arc::clone(self),
            sub,
            session,
            client,
        })
    }

    /// How many users, and how many IPs, have a connection.
    pub fn count(&self) -> (usize, usize) {
        let tables = self.lock();
        (tables.sessions.len(), tables.per_ip.len())
    }

    /// Keeps no more room than there are users and IPs.
    pub fn shrink(&self) {
        let mut tables = self.lock();
        tables.sessions.shrink_to_fit();
        tables.per_ip.shrink_to_fit();
    }

    /// Strikes the oldest connections of `sub` above `most` off the table and names them.
    ///
    /// They count no more from here on, whenever their owners get around to closing them.
    pub fn strike_excess(&self, sub: &str, most: u32) -> Vec<u64> {
        let mut tables = self.lock();
        let sessions = tables.sessions.get_mut(sub);
        sessions.map_or_else(Vec::new, |sessions| sessions.strike_excess(most as usize))
    }

    fn leave(&self, slot: &ConnectionSlot) {
        self.places.vacate();
        let mut tables = self.lock();
        let sessions = tables.sessions.get_mut(&slot.sub);
        if sessions.is_some_and(|sessions| sessions.remove(slot.session)) {
            tables.sessions.remove(&slot.sub);
        }
        let own = slot.client.map(|client| tables.per_ip.entry(client));
        if let Some(Entry::Occupied(mut own)) = own {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // No panic can happen between two steps of a change.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place: in the total, and among those of its user and its IP. Its drop gives all
/// of them back, so it lives exactly as long as the connection.
pub struct ConnectionSlot {
    users: Arc<Users>,
    sub: Arc<str>,
    session: u64,
    client: Option<Peer>,
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
        self.users.leave(self);
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
        let users = Arc::new(Users::new(places, 0));
        let enter = |sub, session| users.enter(sub, session, None).unwrap();
        let slots = [enter("a", 1), enter("a", 2), enter("b", 3), enter("a", 4)];
        assert_eq!(users.strike_excess("a", 1), [1, 2]);
        assert!(users.strike_excess("a", 1).is_empty());
        assert!(users.strike_excess("b", 1).is_empty());
        assert!(users.strike_excess("nobody", 1).is_empty());
        assert_eq!(taken.get(), 4);
        drop(slots);
        assert_eq!(taken.get(), 0);
        assert_eq!(users.count(), (0, 0));
    }

    #[test]
    fn an_ip_has_room_until_it_has_its_most_and_again_when_one_ends() {
        let places = Places::new(10, IntGauge::new("x", "x").unwrap());
        let users = Arc::new(Users::new(places, 2));
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let enter = |session| users.enter("a", session, Some(one)).unwrap();
        let first = enter(1);
        assert!(users.has_room_for(one));
        let second = enter(2);
        assert!(!users.has_room_for(one) && users.has_room_for(other));
        assert_eq!(users.count(), (1, 1));
        drop(first);
        assert!(users.has_room_for(one));
        drop(second);
        assert_eq!(users.count(), (0, 0));
    }
}
