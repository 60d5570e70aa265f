//! From how far an address can be reached, as the registries of special addresses say
//! (RFC 6890, RFC 4193, RFC 6598).

use std::fmt;
use std::net::IpAddr;

/// From where packets to an address may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This machine only.
    Machine,
    /// The same cable.
    Link,
    /// The same house or company: private (RFC 1918) and unique local (RFC 4193) addresses.
    Site,
    /// The same provider: shared by many of its customers (RFC 6598).
    Provider,
    /// Written in manuals; nobody has it (RFC 5737, RFC 3849).
    Nowhere,
    /// Everywhere.
    World,
}

impl Reach {
    /// How far an address reaches.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => match v4.octets() {
                _ if v4.is_loopback() => Self::Machine,
                _ if v4.is_link_local() => Self::Link,
                _ if v4.is_private() => Self::Site,
                [100, 64..=127, ..] => Self::Provider,
                _ if v4.is_documentation() => Self::Nowhere,
                _ => Self::World,
            },
            IpAddr::V6(v6) => match v6.segments() {
                _ if v6.is_loopback() => Self::Machine,
                _ if v6.is_unicast_link_local() => Self::Link,
                _ if v6.is_unique_local() => Self::Site,
                [0x2001, 0xdb8, ..] => Self::Nowhere,
                _ => match v6.to_ipv4_mapped() {
                    Some(v4) => Self::of(IpAddr::V4(v4)),
                    None => Self::World,
                },
            },
        }
    }
}

/// As part of a sentence: "192.168.1.20 can be reached from ..".
impl fmt::Display for Reach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Machine => "this machine only",
            Self::Link => "the same cable only",
            Self::Site => "its own private network only",
            Self::Provider => "its provider's network only",
            Self::Nowhere => "nowhere: it is an example of manuals",
            Self::World => "everywhere",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_the_registries_say() {
        for (reach, addresses) in [
            (Reach::Machine, &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"][..]),
            (Reach::Link, &["169.254.3.4", "fe80::1"]),
            (Reach::Site, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.2", "fd00::1"]),
            (Reach::Provider, &["100.64.0.1", "100.127.255.255"]),
            (Reach::Nowhere, &["203.0.113.7", "192.0.2.1", "198.51.100.9", "2001:db8::7"]),
            (
                Reach::World,
                &["8.8.8.8", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2a00:1450::1"],
            ),
        ] {
            for address in addresses {
                let address = address.parse().expect("an address");
                assert_eq!(Reach::of(address), reach, "{address}");
            }
        }
    }
}
