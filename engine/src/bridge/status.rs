//! What a bridge is doing, for `/readyz` and for whoever waits for it to have caught up.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use super::shard::Shard;

/// One of a shard's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that adds entries.
    Out,
    /// The one that reads them.
    In,
}

impl Side {
    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// There is none.
    Down = 0,
    /// It reads what it missed.
    CatchingUp = 1,
    /// It is up to date.
    Up = 2,
}

impl State {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Down,
            1 => Self::CatchingUp,
            _ => Self::Up,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Down => "away",
            Self::CatchingUp => "catching up",
            Self::Up => "up",
        }
    }
}

/// How all of a bridge's connections stand.
#[derive(Debug)]
pub struct Status {
    shards: Vec<[AtomicU8; 2]>,
    has_caught_up: Vec<AtomicBool>,
}

impl Status {
    /// Nothing is connected yet.
    pub fn new(shards: u32) -> Self {
        Self {
            shards: (0..shards).map(|_| Default::default()).collect(),
            has_caught_up: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// A connection stands otherwise.
    pub fn enter(&self, shard: Shard, side: Side, state: State) {
        let number = shard.number as usize;
        self.shards[number][side as usize].store(state as u8, Ordering::Relaxed);
        if side == Side::In && state == State::Up {
            self.has_caught_up[number].store(true, Ordering::Relaxed);
        }
    }

    /// Whether a shard's reader reads what it missed.
    pub fn is_catching_up(&self, shard: Shard) -> bool {
        self.state(shard, Side::In) == State::CatchingUp
    }

    /// Whether a connection is up to date.
    pub fn is_up(&self, shard: Shard, side: Side) -> bool {
        self.state(shard, side) == State::Up
    }

    fn state(&self, shard: Shard, side: Side) -> State {
        let state = &self.shards[shard.number as usize][side as usize];
        State::of(state.load(Ordering::Relaxed))
    }

    /// Whether a shard was read to its end at least once.
    pub fn knows(&self, shard: Shard) -> bool {
        self.has_caught_up[shard.number as usize].load(Ordering::Relaxed)
    }

    /// Whether every shard was read to its end at least once.
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up
            .iter()
            .all(|shard| shard.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, [out, into]) in self.shards.iter().enumerate() {
            let [out, into] =
                [out, into].map(|state| State::of(state.load(Ordering::Relaxed)).name());
            writeln!(f, "bridge shard {number}: out {out}, in {into}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_caught_up_once_every_shard_was_read_to_its_end() {
        let status = Status::new(2);
        for shard in Shard::all(2) {
            assert!(!status.has_caught_up());
            status.enter(shard, Side::In, State::CatchingUp);
            status.enter(shard, Side::In, State::Up);
        }
        let first = Shard { number: 0, of: 2 };
        status.enter(first, Side::Out, State::Up);
        status.enter(first, Side::In, State::Down);
        assert!(status.has_caught_up(), "what it knows it keeps");
        assert_eq!(
            status.to_string(),
            "bridge shard 0: out up, in away\nbridge shard 1: out away, in up\n"
        );
    }
}
