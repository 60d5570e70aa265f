//! Where to listen, and which addresses to announce to clients.
//!
//! Choosing is pure; [`interfaces`] and [`ipv6_works`] alone ask the system.

use super::reach::Reach;
use nix::sys::socket::SockaddrIn6;
use std::collections::HashSet;
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
const INNER_INTERFACES: [&str; 18] = [
    "docker", "veth", "virbr", "vnet", "vmnet", "vboxnet", "cni", "flannel", "cali", "cilium",
    "kube-", "weave", "podman", "nerdctl", "lxc", "lxd", "incus", "dummy",
];

/// Docker names its networks so, with a number in hexadecimal; `br-lan` is a bridge of a router.
const DOCKER_NETWORK: &str = "br-";

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

    /// The addresses to announce for a listener, without repeats: those the operator named, then
    /// the one that the `outside` sees, then those of the interfaces by how far they reach. A
    /// client that tries one only tries the first (ffmpeg does).
    ///
    /// `auto` leaves out link-local addresses and those of containers. A machine that has nothing
    /// else gets loopback, so that a laptop without network still works with itself.
    pub fn announced(
        &self,
        listen: &Listen,
        interfaces: &[Interface],
        outside: Option<IpAddr>,
    ) -> Vec<IpAddr> {
        let mut announced = self.fixed.clone();
        if self.auto {
            announced.extend(outside);
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

    /// Where to ask from what the outside calls us, if that cannot be seen from here: none of the
    /// addresses is public, so that whoever comes from the internet comes through a NAT. IPv6 is
    /// rarely translated: it counts only where there is no IPv4.
    pub fn hidden_at(&self, listen: &Listen, interfaces: &[Interface]) -> Option<IpAddr> {
        let announced = self.announced(listen, interfaces, None);
        let by_ipv4 = announced.iter().any(IpAddr::is_ipv4);
        let mut same = announced.iter().filter(|address| address.is_ipv4() == by_ipv4);
        if !self.auto || same.any(|address| Reach::of(*address) == Reach::Internet) {
            return None;
        }
        let any: IpAddr =
            if by_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Some(listen.only().filter(|only| only.is_ipv4() == by_ipv4).unwrap_or(any))
    }
}

/// What `auto` finds on a wildcard listener: what reaches farthest first, and of that IPv4, which
/// most clients have.
fn outer_addresses(listen: &Listen, interfaces: &[Interface]) -> Vec<IpAddr> {
    let reachable = |address: &IpAddr| match listen {
        // The IPv4 wildcard hears no IPv6.
        Listen::At(at) if at.is_ipv4() => address.is_ipv4(),
        _ => true,
    };
    let candidates = || interfaces.iter().filter(|it| reachable(&it.address));
    let mut outer: Vec<IpAddr> =
        candidates().filter(|it| it.is_outer()).map(|it| it.address).collect();
    if outer.is_empty() {
        outer.extend(candidates().map(|it| it.address).filter(IpAddr::is_loopback));
    }
    outer.sort_by_key(|address| (Reach::of(*address), address.is_ipv6()));
    outer
}

impl Interface {
    /// Whether somebody on another machine may reach it.
    fn is_outer(&self) -> bool {
        let is_docker = self.name.strip_prefix(DOCKER_NETWORK).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let inner = INNER_INTERFACES.iter().any(|prefix| self.name.starts_with(prefix));
        !inner && !is_docker && Reach::of(self.address) <= Reach::Network
    }
}

/// Whether this machine can listen on the IPv6 wildcard at all.
pub fn ipv6_works() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Every address of every interface that is up, without those of IPv6 that do not last: who is told
/// one today cannot reach it tomorrow.
///
/// # Errors
///
/// What the system says.
pub fn interfaces() -> std::io::Result<Vec<Interface>> {
    // A kernel without IPv6 has no such file, and no such addresses.
    let passing = passing(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default());
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let up = interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let Some(storage) = interface.address.filter(|_| up) else { continue };
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = storage.as_sockaddr_in6().map(SockaddrIn6::ip);
        let v6 = v6.filter(|address| !passing.contains(address)).map(IpAddr::V6);
        if let Some(address) = v4.or(v6) {
            found.push(Interface { name: interface.interface_name, address });
        }
    }
    Ok(found)
}

/// Temporary (RFC 8981), deprecated (RFC 4862 §5.5.4) and duplicate addresses, as the kernel lists
/// them: address, index, length of the prefix, scope, flags, name; all numbers in hexadecimal.
fn passing(listed: &str) -> HashSet<Ipv6Addr> {
    // if_addr.h: IFA_F_TEMPORARY, IFA_F_DADFAILED, IFA_F_DEPRECATED.
    const PASSING: u32 = 0x01 | 0x08 | 0x20;
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        (flags & PASSING != 0).then(|| Ipv6Addr::from(address))
    };
    listed.lines().filter_map(address).collect()
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
            interface("wlan0", "2a01:db8::20"),
            interface("docker0", "172.17.0.1"),
            interface("br-4f2a91c0d3e5", "172.18.0.1"),
            interface("eth9", "169.254.3.4"),
        ]
    }

    fn announced(words: &[&str], listen: &str, interfaces: &[Interface]) -> Vec<String> {
        announced_with(words, listen, interfaces, None)
    }

    fn announced_with(
        words: &[&str],
        listen: &str,
        interfaces: &[Interface],
        outside: Option<&str>,
    ) -> Vec<String> {
        let addresses = PublicAddresses::parse(words).expect("good words");
        let listen = Listen::parse(listen).expect("a good listener");
        let outside = outside.map(|address| address.parse().expect("an address"));
        let announced = addresses.announced(&listen, interfaces, outside);
        announced.iter().map(ToString::to_string).collect()
    }

    fn hidden_at(words: &[&str], listen: &str, interfaces: &[Interface]) -> Option<String> {
        let addresses = PublicAddresses::parse(words).expect("good words");
        let listen = Listen::parse(listen).expect("a good listener");
        addresses.hidden_at(&listen, interfaces).map(|address| address.to_string())
    }

    #[test]
    fn auto_announces_what_others_can_reach_the_public_ones_first() {
        assert_eq!(announced(&["auto"], "*:8189", &laptop()), ["2a01:db8::20", "192.168.1.20"]);
        let server = [
            interface("wg0", "fd12::1"),
            interface("tailscale0", "100.101.102.103"),
            interface("eth1", "10.0.0.5"),
            interface("eth0", "2a01:db8::1"),
            interface("ppp0", "8.8.4.4"),
            interface("clat4", "192.0.0.4"),
            interface("br-lan", "192.168.1.1"),
            interface("kube-ipvs0", "10.96.0.1"),
        ];
        assert_eq!(
            announced(&["auto"], "*:8189", &server),
            ["8.8.4.4", "2a01:db8::1", "100.101.102.103", "10.0.0.5", "192.168.1.1", "fd12::1"]
        );
    }

    #[test]
    fn what_the_outside_sees_comes_before_what_the_machine_has_and_never_twice() {
        let cloud = [interface("lo", "127.0.0.1"), interface("eth0", "10.0.0.5")];
        let announced = |words, outside| announced_with(words, "*:8189", &cloud, Some(outside));
        assert_eq!(announced(&["auto"], "8.8.4.4"), ["8.8.4.4", "10.0.0.5"]);
        assert_eq!(announced(&["auto"], "10.0.0.5"), ["10.0.0.5"]);
        assert_eq!(announced(&["192.0.2.1"], "8.8.4.4"), ["192.0.2.1"], "nobody asked");
    }

    #[test]
    fn a_machine_is_hidden_where_none_of_its_addresses_is_public() {
        let lo = || interface("lo", "127.0.0.1");
        let cloud = [lo(), interface("eth0", "10.0.0.5"), interface("eth0", "2a01:db8::5")];
        let at = |words: &[&str], listen| hidden_at(words, listen, &cloud);
        assert_eq!(at(&["auto"], "*:8189").as_deref(), Some("0.0.0.0"), "to clients by IPv4");
        assert_eq!(at(&["auto"], "10.0.0.5:8189").as_deref(), Some("10.0.0.5"));
        assert_eq!(at(&["auto"], "[2a01:db8::5]:8189"), None);
        assert_eq!(at(&["auto", "8.8.4.4"], "*:8189"), None, "the operator has said it");
        assert_eq!(at(&["10.0.0.5"], "*:8189"), None, "the operator wants no other");
        let public = [lo(), interface("eth0", "10.0.0.5"), interface("eth1", "8.8.4.4")];
        assert_eq!(hidden_at(&["auto"], "*:8189", &public), None);
        let ipv6 = [interface("eth0", "fd00::2")];
        assert_eq!(hidden_at(&["auto"], "*:8189", &ipv6).as_deref(), Some("::"));
        let ipv6 = [interface("eth0", "fd00::2"), interface("eth0", "2a01:db8::5")];
        assert_eq!(hidden_at(&["auto"], "*:8189", &ipv6), None);
    }

    #[test]
    fn addresses_that_do_not_last_are_told_by_their_flags() {
        let listed = "\
            00000000000000000000000000000001 01 80 10 80       lo\n\
            2a010db8000000000000000000000001 02 40 00 01     eth0\n\
            2a010db8000000000000000000000002 02 40 00 00     eth0\n\
            2a010db8000000000000000000000003 02 40 00 20     eth0\n\
            2a010db8000000000000000000000004 02 40 00 48     eth0\n\
            2a010db8000000000000000000000005 02 40 00 40     eth0\n\
            2a010db8000000000000000000000006 02 40 00 301    eth0\n\
            no address\n";
        let mut passing: Vec<String> = passing(listed).iter().map(ToString::to_string).collect();
        passing.sort();
        assert_eq!(passing, ["2a01:db8::1", "2a01:db8::3", "2a01:db8::4", "2a01:db8::6"]);
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
        let lo = [interface("lo", "::1"), interface("lo", "127.0.0.1")];
        let alone = [lo.as_slice(), &[interface("docker0", "172.17.0.1")]].concat();
        assert_eq!(announced(&["auto"], "*:8189", &alone), ["127.0.0.1", "::1"]);
    }

    #[test]
    fn named_addresses_come_first_and_none_comes_twice() {
        assert_eq!(
            announced(&["auto", "8.8.4.4", "192.168.1.20"], "*:8189", &laptop()),
            ["8.8.4.4", "192.168.1.20", "2a01:db8::20"],
            "the operator's order counts"
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
