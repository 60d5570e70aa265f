//! How the kernel writes addresses and control messages: bytes to values and back, all of it safe.
//!
//! Addresses are `sockaddr_in` and `sockaddr_in6` (ip(7), ipv6(7)), control messages a chain of
//! `cmsghdr` (cmsg(3)). On an IPv6 socket IPv4 clients appear as mapped addresses
//! (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2); everything beyond this file sees plain IPv4.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Which addresses a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 only.
    V4,
    /// IPv6, and IPv4 as mapped addresses.
    V6,
}

/// An address as the kernel writes it: `sockaddr_in` or `sockaddr_in6`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(8))]
pub(super) struct Name {
    pub(super) bytes: [u8; 32],
}

impl Name {
    /// `sizeof(struct sockaddr_in)`.
    const LEN_V4: usize = 16;
    /// `sizeof(struct sockaddr_in6)`.
    const LEN_V6: usize = 28;

    /// Writes an address for a socket of this family, and returns its length. An IPv6 address
    /// has no form on an IPv4 socket: the kernel then refuses the message, and it is dropped.
    pub(super) fn write(&mut self, family: Family, address: SocketAddr) -> usize {
        match (family, address) {
            (Family::V4, SocketAddr::V4(address)) => {
                self.put(0, &(libc::AF_INET as u16).to_ne_bytes());
                self.put(2, &address.port().to_be_bytes());
                self.put(4, &address.ip().octets());
                Self::LEN_V4
            }
            (_, address) => {
                let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
                self.put(0, &(libc::AF_INET6 as u16).to_ne_bytes());
                self.put(2, &address.port().to_be_bytes());
                self.put(4, &[0; 4]);
                self.put(8, &mapped(address.ip()).octets());
                self.put(24, &scope.to_ne_bytes());
                Self::LEN_V6
            }
        }
    }

    fn put<const N: usize>(&mut self, at: usize, value: &[u8; N]) {
        self.bytes[at..at + N].copy_from_slice(value);
    }

    /// Reads an address; mapped ones become plain IPv4.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        let family = u16::from_ne_bytes(field(&self.bytes, 0)?);
        let port = u16::from_be_bytes(field(&self.bytes, 2)?);
        match i32::from(family) {
            libc::AF_INET => {
                let ip = field::<4>(&self.bytes, 4)?;
                Some(SocketAddrV4::new(ip.into(), port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(field::<16>(&self.bytes, 8)?);
                let scope = u32::from_ne_bytes(field(&self.bytes, 24)?);
                Some(ip.to_ipv4_mapped().map_or_else(
                    || SocketAddrV6::new(ip, port, 0, scope).into(),
                    |v4| SocketAddrV4::new(v4, port).into(),
                ))
            }
            _ => None,
        }
    }
}

/// Control messages of one message: a chain of `cmsghdr`, each followed by its value.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    pub(super) bytes: [u8; Self::CAPACITY],
}

/// What the kernel tells about a received datagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Which of our addresses it came to.
    pub(super) local: Option<IpAddr>,
    /// How many datagrams found the receive buffer full since the socket was made.
    pub(super) overflows: Option<u32>,
}

impl Control {
    /// Room for packet information and an overflow count, or for a segment size instead of it.
    pub(super) const CAPACITY: usize = 80;
    /// `sizeof(struct cmsghdr)`: length, level, type.
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const ALIGN: usize = size_of::<usize>();

    /// No control message.
    pub(super) const EMPTY: Self = Self { bytes: [0; Self::CAPACITY] };

    /// Writes the segment size and the address to send from, and returns the length of both.
    pub(super) fn write(
        &mut self,
        family: Family,
        segment: Option<u16>,
        local: Option<IpAddr>,
    ) -> usize {
        let mut end = 0;
        if let Some(segment) = segment {
            self.append(&mut end, (libc::SOL_UDP, libc::UDP_SEGMENT), &segment.to_ne_bytes());
        }
        match (family, local) {
            // `in_pktinfo`: interface (0: by route), address to send from, unused.
            (Family::V4, Some(IpAddr::V4(local))) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&local.octets());
                self.append(&mut end, (libc::IPPROTO_IP, libc::IP_PKTINFO), &info);
            }
            // `in6_pktinfo`: address to send from, interface (0: by route). Mapped ones are
            // understood for IPv4 destinations.
            (Family::V6, Some(local)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&mapped(local).octets());
                self.append(&mut end, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), &info);
            }
            (Family::V4, Some(IpAddr::V6(_))) | (_, None) => {}
        }
        end
    }

    fn append(&mut self, end: &mut usize, (level, kind): (i32, i32), value: &[u8]) {
        let length = Self::HEADER + value.len();
        let start = *end;
        let room = &mut self.bytes[start..start + length.next_multiple_of(Self::ALIGN)];
        room.fill(0);
        room[..Self::ALIGN].copy_from_slice(&length.to_ne_bytes());
        room[Self::ALIGN..Self::ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        room[Self::ALIGN + 4..Self::ALIGN + 8].copy_from_slice(&kind.to_ne_bytes());
        room[Self::HEADER..length].copy_from_slice(value);
        *end += room.len();
    }

    /// Reads the first `length` bytes; what it does not know it skips.
    pub(super) fn read(&self, length: usize) -> Received {
        let mut received = Received::default();
        let mut rest = self.bytes.get(..length).unwrap_or(&[]);
        while let Some((level, kind, value, following)) = Self::split_first(rest) {
            match (level, kind) {
                // The second field is the local address even of a broadcast.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.local = field::<4>(value, 4).map(IpAddr::from);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.local =
                        field::<16>(value, 0).map(|ip| IpAddr::from(ip).to_canonical());
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    received.overflows = field(value, 0).map(u32::from_ne_bytes);
                }
                _ => {}
            }
            rest = following;
        }
        received
    }

    fn split_first(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
        let length = usize::from_ne_bytes(field(bytes, 0)?);
        let level = i32::from_ne_bytes(field(bytes, Self::ALIGN)?);
        let kind = i32::from_ne_bytes(field(bytes, Self::ALIGN + 4)?);
        let value = bytes.get(Self::HEADER..length)?;
        let padded = length.checked_next_multiple_of(Self::ALIGN)?;
        Some((level, kind, value, bytes.get(padded..).unwrap_or(&[])))
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_and_mapped_ones_become_ipv4() {
        for (family, text, len) in [
            (Family::V4, "127.0.0.2:5000", 16),
            (Family::V6, "127.0.0.2:5000", 28),
            (Family::V6, "[2001:db8::1]:65535", 28),
            (Family::V6, "[fe80::1%3]:1", 28),
        ] {
            let address: SocketAddr = text.parse().expect("a socket address");
            let mut name = Name::default();
            assert_eq!(name.write(family, address), len);
            assert_eq!(name.read(), Some(address), "{text} on {family:?}");
        }
        assert_eq!(Name::default().read(), None);
    }

    #[test]
    fn control_messages_are_read_back() {
        for (family, local) in
            [(Family::V4, "127.0.0.2"), (Family::V6, "127.0.0.2"), (Family::V6, "2001:db8::1")]
        {
            let local: IpAddr = local.parse().expect("an address");
            let mut control = Control::EMPTY;
            let length = control.write(family, Some(1200), Some(local));
            let read = control.read(length);
            // `in_pktinfo` is written and read at the same field.
            assert_eq!(read, Received { local: Some(local), overflows: None });
            assert_eq!(control.write(family, None, None), 0);
        }
    }

    #[test]
    fn broken_control_messages_end_the_reading() {
        let mut control = Control::EMPTY;
        let length = control.write(Family::V4, None, Some(IpAddr::from([127, 0, 0, 1])));
        for cut in 0..length {
            assert!(control.read(cut).overflows.is_none());
        }
        for claimed in [0_usize, 1, 15, 81, usize::MAX] {
            control.bytes[..8].copy_from_slice(&claimed.to_ne_bytes());
            assert_eq!(control.read(length), Received::default(), "length {claimed}");
        }
    }
}
