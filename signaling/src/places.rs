//! How many connections there may be, in all and from one address.

use crate::proxy::TrustedProxies;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All places; each connection holds one.
#[derive(Debug)]
pub(crate) struct Places {
    all_max: usize,
    per_address_max: usize,
    /// A proxy's connections are those of many clients.
    proxies: TrustedProxies,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// No more entries than there are connections.
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// This address has all it may have.
    Address,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    /// Whom it is counted for.
    address: Option<IpAddr>,
}

impl Places {
    /// So many places.
    pub(crate) fn new(all_max: usize, per_address_max: usize, proxies: TrustedProxies) -> Self {
        Self { all_max, per_address_max, proxies, taken: Mutex::default() }
    }

    /// Takes one for a connection from there.
    ///
    /// # Errors
    ///
    /// [`Full`] says why there is none.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Result<Place, Full> {
        let address = (!self.proxies.trusts(from)).then(|| counted_as(from));
        let mut taken = self.taken();
        if taken.all >= self.all_max {
            return Err(Full::All);
        }
        if let Some(address) = address {
            let count = taken.by_address.entry(address).or_default();
            if *count >= self.per_address_max {
                return Err(Full::Address);
            }
            *count += 1;
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whoever panicked has counted already, or not at all.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = taken.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// The address that a connection counts for. A client of IPv6 has a whole /64 (RFC 7421 §2).
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn places(all: usize, per_address: usize) -> Arc<Places> {
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().expect("a network")]);
        Arc::new(Places::new(all, per_address, proxies))
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let places = places(3, 2);
        let held = [places.take(address("192.0.2.1")), places.take(address("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(places.take(address("192.0.2.1")).err(), Some(Full::Address));
        let other = places.take(address("192.0.2.2")).expect("one is left");
        assert_eq!(places.take(address("192.0.2.3")).err(), Some(Full::All));
        drop((held, other));
        assert!(places.take(address("192.0.2.1")).is_ok(), "all are given back");
        assert!(places.taken().by_address.is_empty(), "and nothing is kept");
    }

    #[test]
    fn addresses_of_ipv6_count_by_network() {
        let places = places(9, 1);
        let _held = places.take(address("2001:db8:0:1::1")).expect("the first");
        assert_eq!(places.take(address("2001:db8:0:1:ffff::2")).err(), Some(Full::Address));
        assert!(places.take(address("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn a_trusted_proxy_may_have_all_there_are() {
        let places = places(3, 1);
        let held: Vec<_> = (0..3).map(|_| places.take(address("10.0.0.1"))).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(places.take(address("10.0.0.1")).err(), Some(Full::All));
    }
}
