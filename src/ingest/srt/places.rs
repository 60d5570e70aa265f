//! How many may connect: at once, per network, and per second.

use crate::config::reach::network_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Handshakes that are looked at in a second. The library makes a socket for each, which it frees
/// a second later at the earliest.
const KNOCKS_MAX: u32 = 500;
/// The same of one network.
const KNOCKS_PER_NETWORK_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts connections.
#[derive(Debug)]
pub(super) struct Places {
    total_max: usize,
    per_network_max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    pub(super) fn new(total_max: usize, per_network_max: usize) -> Self {
        Self { total_max, per_network_max, taken: Mutex::default() }
    }

    /// The option that leaves no place, if one does.
    pub(super) fn shortage(&self, address: IpAddr) -> Option<&'static str> {
        self.shortage_of(&self.taken(), network_of(address))
    }

    /// Takes a place for a connection from there.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network_of(address);
        let mut taken = self.taken();
        if self.shortage_of(&taken, network).is_some() {
            return None;
        }
        *taken.entry(network).or_default() += 1;
        Some(Place { places: Arc::clone(self), network })
    }

    fn shortage_of(&self, taken: &HashMap<IpAddr, usize>, network: IpAddr) -> Option<&'static str> {
        if taken.values().sum::<usize>() >= self.total_max {
            return Some("srt.connections_max");
        }
        let of_network = taken.get(&network).copied().unwrap_or(0);
        (of_network >= self.per_network_max).then_some("srt.connections_per_address_max")
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

/// Counts handshakes within a second.
#[derive(Debug)]
pub(super) struct Knocks {
    since: Instant,
    total: u32,
    by_network: HashMap<IpAddr, u32>,
}

impl Knocks {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, total: 0, by_network: HashMap::new() }
    }

    /// Whether one more from there is looked at.
    pub(super) fn allow(&mut self, address: IpAddr, now: Instant) -> bool {
        self.turn(now);
        self.total += 1;
        if self.total > KNOCKS_MAX {
            return false;
        }
        let of_network = self.by_network.entry(network_of(address)).or_default();
        *of_network += 1;
        *of_network <= KNOCKS_PER_NETWORK_MAX
    }

    fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a literal address")
    }

    #[test]
    fn places_are_counted_in_all_and_per_network() {
        let places = Arc::new(Places::new(3, 2));
        let first = places.take(ip("192.0.2.1"));
        let _second = places.take(ip("::ffff:192.0.2.1"));
        assert_eq!(places.shortage(ip("192.0.2.1")), Some("srt.connections_per_address_max"));
        let _third = places.take(ip("2001:db8::1"));
        assert_eq!(places.shortage(ip("192.0.2.2")), Some("srt.connections_max"));
        drop(first);
        assert!(places.take(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let places = Arc::new(Places::new(9, 1));
        let _place = places.take(ip("2001:db8::1"));
        assert!(places.take(ip("2001:db8::2")).is_none());
        assert!(places.take(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn knocks_are_counted_anew_each_second() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        let allowed = |knocks: &mut Knocks, address, now| {
            (0..KNOCKS_MAX).filter(|_| knocks.allow(address, now)).count()
        };
        assert_eq!(allowed(&mut knocks, ip("192.0.2.1"), start), 50);
        assert!(!knocks.allow(ip("192.0.2.2"), start), "too many in all");
        let later = start + WINDOW;
        assert!(knocks.allow(ip("192.0.2.2"), later));
        assert!(knocks.by_network.len() <= KNOCKS_MAX as usize);
    }
}
