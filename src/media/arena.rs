//! The send arena: where protected packets wait, side by side, for the socket.
//!
//! The engine writes, the shard's socket reads and clears. One burst is what one client is sent
//! in one UDP message: packets of equal size, the last one possibly shorter (UDP GSO).

use std::net::{IpAddr, SocketAddr};

/// What carries datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// As they are.
    Udp,
    /// In frames of a connection (RFC 4571), which its two addresses name.
    Tcp,
}

/// An address of one protocol (RFC 8445 §4): the same address and port over the other one is
/// somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportAddress {
    /// Address and port.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
}

impl TransportAddress {
    /// An address that is reached by UDP.
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, protocol: Protocol::Udp }
    }

    /// An address that is reached by TCP.
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, protocol: Protocol::Tcp }
    }
}

/// Where a datagram goes and which of our addresses it leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The client's address.
    pub remote: SocketAddr,
    /// The local address its datagrams came to; replies leave from it.
    pub local: Option<IpAddr>,
    /// What carries them.
    pub protocol: Protocol,
}

impl Path {
    /// A way over UDP.
    pub const fn udp(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        Self { remote, local, protocol: Protocol::Udp }
    }

    /// A way over the TCP connection from there.
    pub const fn tcp(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        Self { remote, local, protocol: Protocol::Tcp }
    }

    /// The client's end of it.
    pub const fn client(&self) -> TransportAddress {
        TransportAddress { address: self.remote, protocol: self.protocol }
    }

    /// Whether it is a TCP connection.
    pub const fn is_tcp(&self) -> bool {
        matches!(self.protocol, Protocol::Tcp)
    }
}

/// Equal-sized datagrams to one client; the last may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Where they go.
    pub path: Path,
    /// Where the first one starts in the arena.
    pub start: usize,
    /// Bytes of all of them.
    pub len: usize,
    /// Bytes of each but the last.
    pub segment: usize,
}

/// A fixed stretch of memory that is filled with datagrams, sent and cleared, again and again.
#[derive(Debug)]
pub struct SendArena {
    bytes: Box<[u8]>,
    used: usize,
    bursts: Vec<Burst>,
    /// Whether any of it goes over TCP.
    has_tcp: bool,
    dropped: u64,
}

impl SendArena {
    /// The most datagrams the kernel takes in one segmented message (`UDP_MAX_SEGMENTS`).
    pub const SEGMENTS_MAX: usize = 64;
    /// The most bytes in one segmented message: an IPv4 datagram's limit less its headers.
    pub const BURST_MAX: usize = 65_000;

    /// An arena of `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity].into_boxed_slice(),
            used: 0,
            bursts: Vec::with_capacity(capacity / 256),
            has_tcp: false,
            dropped: 0,
        }
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bursts.is_empty()
    }

    /// Appends one datagram that `write` makes in the memory it is lent, which is at least
    /// `size_max` long; it returns how many bytes it wrote, or `None` to send nothing.
    ///
    /// Joins the last burst where path and size allow. When the arena is full the datagram is
    /// dropped and counted: callers on the fan-out path check [`SendArena::remaining`] first.
    pub fn push_with(
        &mut self,
        path: Path,
        size_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(memory) = self.bytes.get_mut(self.used..self.used + size_max) else {
            self.dropped += 1;
            return false;
        };
        let Some(written) = write(memory) else { return false };
        debug_assert!(written <= size_max, "the writer stays within its memory");
        if written == 0 {
            return false;
        }
        self.append(path, written);
        true
    }

    /// Appends a copy of one datagram.
    pub fn push(&mut self, path: Path, datagram: &[u8]) -> bool {
        self.push_with(path, datagram.len(), |memory| {
            memory.copy_from_slice(datagram);
            Some(datagram.len())
        })
    }

    fn append(&mut self, path: Path, len: usize) {
        let start = self.used;
        self.used += len;
        if let Some(last) = self.bursts.last_mut() {
            let joins = last.path == path
                && len <= last.segment
                && last.len % last.segment == 0
                && last.len / last.segment < Self::SEGMENTS_MAX
                && last.len + len <= Self::BURST_MAX;
            if joins {
                last.len += len;
                return;
            }
        }
        self.has_tcp |= path.is_tcp();
        self.bursts.push(Burst { path, start, len, segment: len });
    }

    /// Whether any of what waits goes over TCP.
    pub const fn has_tcp(&self) -> bool {
        self.has_tcp
    }

    /// What waits, in order.
    pub fn bursts(&self) -> &[Burst] {
        &self.bursts
    }

    /// The bytes of one burst.
    pub fn bytes_of(&self, burst: &Burst) -> &[u8] {
        &self.bytes[burst.start..burst.start + burst.len]
    }

    /// Every waiting datagram with its path, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.bursts
            .iter()
            .flat_map(|burst| self.bytes_of(burst).chunks(burst.segment).map(|d| (burst.path, d)))
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        self.used = 0;
        self.has_tcp = false;
        self.bursts.clear();
    }

    /// Datagrams that found the arena full, since it was made.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(SocketAddr::from(([127, 0, 0, 1], port)), None)
    }

    /// It is copied per packet and viewer.
    #[test]
    fn a_path_is_no_larger_for_its_protocol() {
        assert_eq!(size_of::<Path>(), size_of::<(SocketAddr, Option<IpAddr>)>());
    }

    #[test]
    fn what_goes_over_tcp_is_a_burst_of_its_own_and_is_told() {
        let mut arena = SendArena::new(1_000);
        let SocketAddr::V4(address) = path(1).remote else { unreachable!("it is IPv4") };
        arena.push(path(1), &[1; 100]);
        assert!(!arena.has_tcp());
        arena.push(Path::tcp(address.into(), None), &[1; 100]);
        assert!(arena.has_tcp());
        assert_eq!(arena.bursts().len(), 2);
        arena.clear();
        assert!(!arena.has_tcp());
    }

    #[test]
    fn equal_sizes_to_one_client_join_until_a_shorter_one_closes_the_burst() {
        let mut arena = SendArena::new(10_000);
        for size in [100, 100, 60, 60, 100] {
            assert!(arena.push(path(1), &vec![7; size]));
        }
        arena.push(path(2), &[7; 100]);
        let shapes: Vec<_> = arena.bursts().iter().map(|b| (b.len, b.segment)).collect();
        assert_eq!(shapes, [(260, 100), (60, 60), (100, 100), (100, 100)]);
        assert_eq!(arena.datagrams().count(), 6);
    }

    #[test]
    fn a_full_arena_drops_and_counts() {
        let mut arena = SendArena::new(150);
        assert!(arena.push(path(1), &[1; 100]));
        assert!(!arena.push(path(1), &[1; 100]));
        assert_eq!((arena.dropped(), arena.remaining()), (1, 50));
        arena.clear();
        assert!(arena.push(path(1), &[1; 100]));
    }
}
