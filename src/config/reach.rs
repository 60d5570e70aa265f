//! How far an address reaches, and whose it is, told by the address alone (RFC 6890, RFC 6598,
//! RFC 4193).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can send to an address, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Everybody.
    Internet,
    /// Its own network: private, behind a carrier's NAT (RFC 6598, which VPNs use too), unique
    /// local (RFC 4193), or set aside for documents and tests, which some virtual machines have.
    Network,
    /// The same wire.
    Link,
    /// This machine, or nobody at all.
    Machine,
}

impl Reach {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    const fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            _ if address.is_link_local() => Self::Link,
            // RFC 7335: what a phone's or a host's translation to IPv6 calls itself.
            [192, 0, 0, _] | [0 | 127 | 224..=255, ..] => Self::Machine,
            [100, 64..=127, ..] | [198, 18..=19, ..] => Self::Network,
            _ if address.is_private() || address.is_documentation() => Self::Network,
            _ => Self::Internet,
        }
    }

    const fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            // RFC 3849, RFC 9637.
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Network,
            [0x2000..=0x3fff, ..] => Self::Internet,
            _ if address.is_unique_local() => Self::Network,
            _ if address.is_unicast_link_local() => Self::Link,
            _ => Self::Machine,
        }
    }
}

/// What one household or company has of addresses: one of IPv4, 64 bits of IPv6.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_how_far_it_reaches() {
        for (reach, addresses) in [
            (Reach::Internet, &["8.8.8.8", "100.63.255.255", "2a01:4f8::1"][..]),
            (
                Reach::Network,
                &["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.255"],
            ),
            (Reach::Network, &["192.0.2.2", "203.0.113.7", "2001:db8::1", "3fff::1"]),
            (Reach::Network, &["198.18.0.1", "fd00::2", "fc00::1", "::ffff:10.0.0.1"]),
            (Reach::Link, &["169.254.1.1", "fe80::1"]),
            (Reach::Machine, &["127.0.0.1", "::1", "0.0.0.0", "::", "192.0.0.4", "224.0.0.1"]),
            (Reach::Machine, &["255.255.255.255", "ff02::1", "64:ff9b::1"]),
        ] {
            for text in addresses {
                assert_eq!(Reach::of(text.parse().expect("an address")), reach, "{text}");
            }
        }
    }

    #[test]
    fn one_host_of_ipv6_is_one_network_whatever_address_it_takes() {
        let network = |text: &str| network_of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
