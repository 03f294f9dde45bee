//! How much the door takes on: handshakes per IP and in all, and places of which there are only so
//! many.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use prometheus::IntGauge;

/// Spread of `Retry-After`, s. Clients that were turned away together come back apart.
const RETRY_SPREAD_S: u64 = 4;

/// `Retry-After` in seconds for a wait of at least `wait`: the next whole second, at least 1, and
/// up to `RETRY_SPREAD_S` more by chance.
pub fn retry_after_s(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1) + rand::random_range(0..=RETRY_SPREAD_S)
}

/// Places that are taken and given back; how many are taken is the metric itself.
#[derive(Clone)]
pub struct Places {
    taken: IntGauge,
    most: i64,
}

/// One taken place; its drop gives it back.
pub struct Place(IntGauge);

impl Places {
    /// `most` places, counted in `taken`.
    pub fn new(most: usize, taken: IntGauge) -> Self {
        Self {
            taken,
            most: most as i64,
        }
    }

    /// Takes a place, if one is left.
    ///
    /// Two threads that race for the last place may both be refused, but never both succeed.
    pub fn take(&self) -> Option<Place> {
        self.occupy().then(|| Place(self.taken.clone()))
    }

    /// As [`Places::take`], for whoever calls [`Places::vacate`] itself; whether a place was left.
    pub fn occupy(&self) -> bool {
        self.taken.inc();
        let left = self.taken.get() <= self.most;
        if !left {
            self.vacate();
        }
        left
    }

    /// Gives back what was [occupied](Places::occupy).
    pub fn vacate(&self) {
        self.taken.dec();
    }

    /// Whether a place is left now.
    pub fn any_left(&self) -> bool {
        self.taken.get() < self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Who counts as one peer: an IPv4 address, or an IPv6 /64, which is what one site gets.
///
/// One word, as every connection keeps one: the complement of the /64, or of `ffff:ffff` and the
/// IPv4 address, where IPv6 has nobody (`ff00::/8` is multicast, RFC 4291 § 2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(NonZeroU64);

impl Peer {
    /// Whom `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        // An IPv4 client of a dual-stack listener comes as ::ffff:a.b.c.d.
        let word = match address.to_canonical() {
            IpAddr::V4(address) => 0xffff_ffff_0000_0000 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        // All ones is broadcast or multicast, and no client's address.
        Self(NonZeroU64::new(!word).unwrap_or(NonZeroU64::MAX))
    }
}

/// The handshakes of all together, evenly: at most a tenth of a second's at once.
pub struct Handshakes(Option<DefaultDirectRateLimiter>);

impl Handshakes {
    /// `per_s` of them; 0 is no limit.
    pub fn new(per_s: u32) -> Self {
        Self(NonZeroU32::new(per_s).map(|rate| {
            let burst = NonZeroU32::new(per_s / 10).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        }))
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// How long to wait for the next one.
    pub fn check(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(limiter.clock().now()))
    }
}

/// A token bucket per IP.
pub struct PerIp<C: Clock = DefaultClock>(Option<Buckets<C>>);

struct Buckets<C: Clock> {
    limiter: RateLimiter<Peer, Table, C, NoOpMiddleware<C::Instant>>,
    table: Table,
    /// What one handshake is worth.
    interval: Nanos,
}

impl PerIp {
    /// `rate` handshakes a second, 0 for no limit, and `burst` at once; at most `most` peers are
    /// remembered.
    pub fn new(rate: u32, burst: u32, most: usize) -> Self {
        Self::with_clock(rate, burst, most, DefaultClock::default())
    }
}

impl<C: Clock> PerIp<C> {
    fn with_clock(rate: u32, burst: u32, most: usize, clock: C) -> Self {
        let Some(rate) = NonZeroU32::new(rate) else {
            return Self(None);
        };
        let quota =
            Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        let table = Table::new(most);
        Self(Some(Buckets {
            limiter: RateLimiter::new(quota, table.clone(), clock),
            table,
            interval: quota.replenish_interval().into(),
        }))
    }

    /// Takes one handshake from the allowance of `address`.
    ///
    /// # Errors
    ///
    /// How long to wait for the next one.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(Buckets { limiter, .. }) = &self.0 else {
            return Ok(());
        };
        limiter
            .check_key(&Peer::of(address))
            .map_err(|not_until| not_until.wait_time_from(limiter.clock().now()))
    }

    /// Gives back what [`PerIp::check`] took.
    pub fn give_back(&self, address: IpAddr) {
        if let Some(Buckets {
            table, interval, ..
        }) = &self.0
        {
            table.give_back(Peer::of(address), *interval);
        }
    }

    /// Forgets the peers whose bucket is full again.
    pub fn age(&self) {
        if let Some(Buckets { limiter, .. }) = &self.0 {
            limiter.retain_recent();
        }
    }

    /// How many peers are remembered.
    pub fn remembered(&self) -> usize {
        self.0.as_ref().map_or(0, |buckets| buckets.limiter.len())
    }
}

/// The buckets' state, of bounded size.
///
/// governor's own stores grow with every new key. Past `most` the peers that are not in the table
/// share one bucket: whoever floods it from many addresses throttles newcomers, not those known.
///
/// The door's one thread never waits for the lock; an edge's threads take it for each request.
#[derive(Clone)]
struct Table(Arc<Mutex<TableState>>);

struct TableState {
    known: HashMap<Peer, Nanos>,
    others: Option<Nanos>,
    most: usize,
}

impl Table {
    fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(TableState {
            known: HashMap::new(),
            others: None,
            most,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, TableState> {
        // No panic can happen between two steps of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state is the time at which the bucket is full again, so giving back moves it closer.
    fn give_back(&self, peer: Peer, interval: Nanos) {
        let mut table = self.lock();
        let TableState { known, others, .. } = &mut *table;
        if let Some(state) = known.get_mut(&peer).or(others.as_mut()) {
            *state = state.saturating_sub(interval);
        }
    }
}

impl StateStore for Table {
    type Key = Peer;

    fn measure_and_replace<T, F, E>(&self, peer: &Peer, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut table = self.lock();
        let TableState {
            known,
            others,
            most,
        } = &mut *table;
        if let Some(state) = known.get_mut(peer) {
            let (verdict, next) = decide(Some(*state))?;
            *state = next;
            return Ok(verdict);
        }
        if known.len() < *most {
            let (verdict, next) = decide(None)?;
            known.insert(*peer, next);
            return Ok(verdict);
        }
        let (verdict, next) = decide(*others)?;
        *others = Some(next);
        Ok(verdict)
    }
}

impl ShrinkableKeyedStateStore<Peer> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().known.retain(|_, state| *state > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().known.len()
    }

    fn is_empty(&self) -> bool {
        self.lock().known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn per_ip(
        rate: u32,
        burst: u32,
        table: usize,
    ) -> (PerIp<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (PerIp::with_clock(rate, burst, table, clock.clone()), clock)
    }

    fn peer(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn handshakes_in_all_are_bounded_unless_the_bound_is_zero() {
        let bounded = Handshakes::new(1);
        bounded.check().unwrap();
        let wait = bounded.check().unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        let unbounded = Handshakes::new(0);
        assert!((0..100_000).all(|_| unbounded.check().is_ok()));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_rules() {
        let (limit, clock) = per_ip(3, 10, 100);
        for _ in 0..10 {
            limit.check(peer("192.0.2.1")).unwrap();
        }
        let wait = limit.check(peer("192.0.2.1")).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_millis(334),
            "{wait:?}"
        );
        limit.check(peer("192.0.2.2")).unwrap();
        clock.advance(wait);
        limit.check(peer("192.0.2.1")).unwrap();
        assert!(limit.check(peer("192.0.2.1")).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (limit, _) = per_ip(1, 2, 1);
        // The second is not remembered by itself.
        for address in ["192.0.2.1", "192.0.2.2"] {
            limit.check(peer(address)).unwrap();
            limit.check(peer(address)).unwrap();
            assert!(limit.check(peer(address)).is_err());
            limit.give_back(peer(address));
            limit.check(peer(address)).unwrap();
            assert!(limit.check(peer(address)).is_err());
        }
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let (limit, _) = per_ip(0, 1, 1);
        for _ in 0..100 {
            limit.check(peer("192.0.2.1")).unwrap();
        }
        assert_eq!(limit.remembered(), 0);
    }

    #[test]
    fn an_ipv6_site_is_one_peer_and_a_mapped_address_its_ipv4_self() {
        let (limit, _) = per_ip(1, 1, 100);
        limit.check(peer("2001:db8:0:1::1")).unwrap();
        assert!(limit.check(peer("2001:db8:0:1:ffff::2")).is_err());
        limit.check(peer("2001:db8:0:2::1")).unwrap();
        limit.check(peer("::ffff:192.0.2.1")).unwrap();
        assert!(limit.check(peer("192.0.2.1")).is_err());
    }

    #[test]
    fn past_the_bound_unknown_peers_share_one_allowance_until_the_table_ages() {
        let (limit, clock) = per_ip(1, 2, 2);
        limit.check(peer("192.0.2.1")).unwrap();
        limit.check(peer("192.0.2.2")).unwrap();
        limit.check(peer("192.0.2.3")).unwrap();
        limit.check(peer("192.0.2.4")).unwrap();
        assert!(limit.check(peer("192.0.2.5")).is_err());
        limit.check(peer("192.0.2.1")).unwrap();
        assert_eq!(limit.remembered(), 2);
        clock.advance(Duration::from_secs(10));
        limit.age();
        assert_eq!(limit.remembered(), 0);
        limit.check(peer("192.0.2.5")).unwrap();
        assert_eq!(limit.remembered(), 1);
    }

    #[test]
    fn places_come_back_when_dropped() {
        let places = Places::new(2, IntGauge::new("x", "x").unwrap());
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none() && !places.any_left());
        drop(first);
        assert!(places.any_left());
        assert!(places.take().is_some());
        drop(second);
        assert_eq!(places.taken.get(), 0);
    }

    #[test]
    fn retry_after_is_a_whole_second_or_more_with_a_small_spread() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            seen.insert(retry_after_s(Duration::from_millis(300)));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(retry_after_s(Duration::from_millis(2_001)) >= 3);
    }
}
