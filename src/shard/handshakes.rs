//! DTLS datagrams that wait: a handshake step costs as much as hundreds of forwarded packets, so
//! that they are taken after the media, and only so many in a turn.

use crate::media::arena::Path;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    queue: VecDeque<(Path, Vec<u8>)>,
    /// How many wait of each address.
    waiting: HashMap<SocketAddr, usize>,
    /// Memory of datagrams that are done with.
    spare: Vec<Vec<u8>>,
    dropped: u64,
}

impl Handshakes {
    /// A thousand clients that join at once, each with a flight of two datagrams.
    const QUEUE_MAX: usize = 2048;
    /// The longest flight, twice: whoever sends more keeps nobody else waiting.
    const PER_ADDRESS_MAX: usize = 16;
    /// Memory kept for the next.
    const SPARE_MAX: usize = 256;

    /// Lets a datagram wait. Where there is no room it is lost: its sender repeats it.
    pub(super) fn push(&mut self, path: Path, bytes: &[u8]) {
        let waiting = self.waiting.entry(path.remote).or_insert(0);
        if self.queue.len() >= Self::QUEUE_MAX || *waiting >= Self::PER_ADDRESS_MAX {
            if *waiting == 0 {
                self.waiting.remove(&path.remote);
            }
            self.dropped += 1;
            return;
        }
        *waiting += 1;
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.clear();
        memory.extend_from_slice(bytes);
        self.queue.push_back((path, memory));
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(Path, Vec<u8>)> {
        let (path, bytes) = self.queue.pop_front()?;
        if let Some(waiting) = self.waiting.get_mut(&path.remote) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&path.remote);
            }
        }
        Some((path, bytes))
    }

    /// Takes the memory of a datagram back.
    pub(super) fn done(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < Self::SPARE_MAX {
            self.spare.push(bytes);
        }
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Datagrams that found no room.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(SocketAddr::from(([127, 0, 0, 1], port)), None)
    }

    #[test]
    fn one_client_cannot_take_the_room_of_others_and_all_room_is_bounded() {
        let mut handshakes = Handshakes::default();
        for _ in 0..1000 {
            handshakes.push(path(1), b"hello");
        }
        handshakes.push(path(2), b"other");
        let order: Vec<u16> =
            std::iter::from_fn(|| handshakes.pop()).map(|(path, _)| path.remote.port()).collect();
        assert_eq!(order.len(), Handshakes::PER_ADDRESS_MAX + 1);
        assert_eq!(order.last(), Some(&2));
        for port in 1..=5000 {
            handshakes.push(path(port), b"hello");
        }
        assert_eq!(handshakes.queue.len(), Handshakes::QUEUE_MAX);
        while let Some((_, bytes)) = handshakes.pop() {
            handshakes.done(bytes);
        }
        assert!(handshakes.waiting.is_empty());
        assert_eq!(handshakes.spare.len(), Handshakes::SPARE_MAX);
    }
}
