//! Addresses as the system lays them out (ip(7), ipv6(7)), and as Rust does.
#![allow(unsafe_code)]

use super::int;
use std::ffi::c_int;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Room for an address of any family, and its size.
pub(super) fn no_address() -> (libc::sockaddr_storage, c_int) {
    // SAFETY: numbers only, of which zero is one.
    let storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    (storage, int(size_of::<libc::sockaddr_storage>()))
}

pub(super) fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, c_int) {
    let (mut storage, _) = no_address();
    let place = &raw mut storage;
    let len = match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `storage` has room for every kind of address, and is aligned for it.
            unsafe { place.cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, int(len))
}

/// The address at a place that the library names, an IPv4 address as itself where it came mapped.
///
/// # Safety
///
/// `name` is null, or an address that is complete for its family.
pub(super) unsafe fn peer_address(name: *const libc::sockaddr) -> Option<SocketAddr> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, so it is an address, as the caller says; it need not be aligned.
    let family = unsafe { (&raw const (*name).sa_family).read_unaligned() };
    let (mut storage, _) = no_address();
    let len = match c_int::from(family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: an address of this family has `len` bytes, and `storage` has room for more.
    unsafe { std::ptr::copy_nonoverlapping(name.cast::<u8>(), (&raw mut storage).cast(), len) };
    address(&storage)
}

pub(super) fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place = std::ptr::from_ref(storage);
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: `storage` is larger than any address, and aligned for it; of numbers only.
            let name = unsafe { place.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some((ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => (ip, port).into(),
                None => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back() {
        for text in ["192.0.2.7:8890", "[2001:db8::7]:8890", "[fe80::1%3]:1"] {
            let given: SocketAddr = text.parse().expect("a literal address");
            let (storage, _) = raw_address(given);
            assert_eq!(address(&storage), Some(given));
            // SAFETY: an address that is complete for its family.
            assert_eq!(unsafe { peer_address((&raw const storage).cast()) }, Some(given));
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_means() {
        let mapped = "[::ffff:192.0.2.7]:8890".parse().expect("a literal address");
        let (storage, _) = raw_address(mapped);
        assert_eq!(address(&storage), "192.0.2.7:8890".parse().ok());
    }

    #[test]
    fn no_address_is_none() {
        assert_eq!(address(&no_address().0), None);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { peer_address(std::ptr::null()) }, None);
    }
}
