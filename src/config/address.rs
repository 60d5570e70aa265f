//! Where to listen, and which addresses to announce to clients.
//!
//! Choosing is pure; [`interfaces`] and [`ipv6_works`] alone ask the system.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where a listener stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// On every address of the machine, IPv6 too where it has any: written `*:8080`.
    Every {
        /// The port; 0 lets the system choose.
        port: u16,
    },
    /// On one address.
    At(SocketAddr),
}

impl Listen {
    /// What `parse` understands, in words.
    pub(super) const TAKES: &str = "an address with a port such as 192.0.2.7:8080 or \
        [2001:db8::7]:8080, *:8080 for every address, or off";

    /// The same for a listener that cannot be switched off.
    pub(super) const TAKES_ON: &str = "an address with a port such as 192.0.2.7:8189 or \
        [2001:db8::7]:8189, or *:8189 for every address";

    /// Reads `off`, `*:port` or `address:port`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::Off);
        }
        if let Some(port) = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')) {
            return port.parse().ok().map(|port| Self::Every { port });
        }
        text.parse().ok().map(Self::At)
    }

    /// The address to bind; `None` where it is off.
    ///
    /// The IPv6 wildcard takes IPv4 as well (ipv6(7): `bindv6only` is off by default), and a
    /// kernel without IPv6 refuses it: [`ipv6_works`] tells.
    pub fn address(&self, ipv6: bool) -> Option<SocketAddr> {
        match *self {
            Self::Off => None,
            Self::Every { port } if ipv6 => Some((Ipv6Addr::UNSPECIFIED, port).into()),
            Self::Every { port } => Some((Ipv4Addr::UNSPECIFIED, port).into()),
            Self::At(address) => Some(address),
        }
    }

    /// The one address it is bound to, if it is one.
    fn only(&self) -> Option<IpAddr> {
        match self {
            Self::At(address) if !address.ip().is_unspecified() => Some(address.ip()),
            _ => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("off"),
            Self::Every { port } => write!(out, "*:{port}"),
            Self::At(address) => address.fmt(out),
        }
    }
}

/// Which addresses clients are told: they become ICE candidates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicAddresses {
    /// Those of the machine's interfaces.
    pub auto: bool,
    /// Those the operator names, say the outside address of a NAT.
    pub fixed: Vec<IpAddr>,
}

/// One address of one network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, say `eth0`.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// Interfaces that containers and virtual machines make: nobody outside reaches these addresses,
/// and each costs every client a check that fails.
const INNER_INTERFACES: [&str; 11] =
    ["docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "cali", "podman", "lxc", "lxd"];

/// Every candidate costs every client a check: more addresses than this help nobody.
const ANNOUNCED_MAX: usize = 16;

impl PublicAddresses {
    /// Reads a list of addresses, of which one may be `auto`.
    pub fn parse(items: &[&str]) -> Option<Self> {
        let mut addresses = Self::default();
        for item in items {
            match (*item, item.parse::<IpAddr>()) {
                ("auto", _) => addresses.auto = true,
                (_, Ok(address)) if !address.is_unspecified() && !address.is_multicast() => {
                    addresses.fixed.push(address);
                }
                _ => return None,
            }
        }
        (!items.is_empty() && items.len() <= ANNOUNCED_MAX).then_some(addresses)
    }

    /// The addresses to announce for a listener, without repeats; those the operator named first.
    ///
    /// `auto` leaves out link-local addresses and those of containers. A machine that has nothing
    /// else gets loopback, so that a laptop without network still works with itself.
    pub fn announced(&self, listen: &Listen, interfaces: &[Interface]) -> Vec<IpAddr> {
        let mut announced = self.fixed.clone();
        if self.auto {
            match listen.only() {
                Some(only) => announced.push(only),
                None => announced.extend(outer_addresses(listen, interfaces)),
            }
        }
        let mut unique = Vec::new();
        for address in announced {
            if !unique.contains(&address) && unique.len() < ANNOUNCED_MAX {
                unique.push(address);
            }
        }
        unique
    }
}

/// What `auto` finds on a wildcard listener.
fn outer_addresses(listen: &Listen, interfaces: &[Interface]) -> Vec<IpAddr> {
    let reachable = |address: &IpAddr| match listen {
        // The IPv4 wildcard hears no IPv6.
        Listen::At(at) if at.is_ipv4() => address.is_ipv4(),
        _ => true,
    };
    let candidates = || interfaces.iter().filter(|it| reachable(&it.address));
    let outer: Vec<IpAddr> = candidates().filter(|it| it.is_outer()).map(|it| it.address).collect();
    if !outer.is_empty() {
        return outer;
    }
    candidates().map(|it| it.address).filter(IpAddr::is_loopback).collect()
}

impl Interface {
    /// Whether somebody on another machine may reach it.
    fn is_outer(&self) -> bool {
        let inner = INNER_INTERFACES.iter().any(|prefix| self.name.starts_with(prefix));
        let link_local = match self.address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        !inner && !link_local && !self.address.is_loopback()
    }
}

/// Whether this machine can listen on the IPv6 wildcard at all.
pub fn ipv6_works() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Every address of every interface that is up.
///
/// # Errors
///
/// What the system says.
pub fn interfaces() -> std::io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let up = interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let Some(storage) = interface.address.filter(|_| up) else { continue };
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        if let Some(address) = v4.or(v6) {
            found.push(Interface { name: interface.interface_name, address });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        Interface { name: name.to_owned(), address: address.parse().expect("an address") }
    }

    fn laptop() -> Vec<Interface> {
        vec![
            interface("lo", "127.0.0.1"),
            interface("lo", "::1"),
            interface("wlan0", "192.168.1.20"),
            interface("wlan0", "fe80::1"),
            interface("wlan0", "2001:db8::20"),
            interface("docker0", "172.17.0.1"),
            interface("br-4f2a", "172.18.0.1"),
            interface("eth9", "169.254.3.4"),
        ]
    }

    fn announced(words: &[&str], listen: &str, interfaces: &[Interface]) -> Vec<String> {
        let addresses = PublicAddresses::parse(words).expect("good words");
        let listen = Listen::parse(listen).expect("a good listener");
        addresses.announced(&listen, interfaces).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn auto_announces_what_others_can_reach() {
        assert_eq!(announced(&["auto"], "*:8189", &laptop()), ["192.168.1.20", "2001:db8::20"]);
    }

    #[test]
    fn auto_on_an_ipv4_listener_announces_no_ipv6() {
        assert_eq!(announced(&["auto"], "0.0.0.0:8189", &laptop()), ["192.168.1.20"]);
    }

    #[test]
    fn auto_on_one_address_announces_that_one() {
        assert_eq!(announced(&["auto"], "127.0.0.1:0", &laptop()), ["127.0.0.1"]);
    }

    #[test]
    fn auto_announces_loopback_where_there_is_nothing_else() {
        let alone = [interface("lo", "127.0.0.1"), interface("docker0", "172.17.0.1")];
        assert_eq!(announced(&["auto"], "*:8189", &alone), ["127.0.0.1"]);
    }

    #[test]
    fn named_addresses_come_first_and_none_comes_twice() {
        assert_eq!(
            announced(&["auto", "203.0.113.7", "192.168.1.20"], "*:8189", &laptop()),
            ["203.0.113.7", "192.168.1.20", "2001:db8::20"]
        );
    }

    #[test]
    fn a_wildcard_is_no_address_to_announce() {
        for bad in [&["0.0.0.0"][..], &["::"], &["host.example"], &["224.0.0.1"], &[]] {
            assert_eq!(PublicAddresses::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn listeners_are_read_and_written_alike() {
        for text in ["off", "*:8080", "127.0.0.1:0", "[::1]:8443"] {
            let listen = Listen::parse(text).expect("a good listener");
            assert_eq!(listen.to_string(), text);
        }
        for bad in ["", "8080", "localhost:80", "*:65536", "1.2.3.4", "on"] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_address_is_ipv4_alone_where_there_is_no_ipv6() {
        let bound = |text: &str, ipv6| {
            Listen::parse(text).expect("good").address(ipv6).map(|address| address.to_string())
        };
        assert_eq!(bound("*:8189", true).as_deref(), Some("[::]:8189"));
        assert_eq!(bound("*:8189", false).as_deref(), Some("0.0.0.0:8189"));
        assert_eq!(bound("127.0.0.1:0", true).as_deref(), Some("127.0.0.1:0"));
        assert_eq!(bound("off", true), None);
    }

    #[test]
    fn the_machine_has_a_loopback_interface() {
        let found = interfaces().expect("the system lists its interfaces");
        assert!(found.iter().any(|interface| interface.address.is_loopback()), "{found:?}");
    }
}
