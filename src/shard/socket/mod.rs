//! Batched UDP: many datagrams per system call in, many per UDP message out (UDP GSO).
//!
//! Knows nothing of what it carries. It never waits longer than it says and never grows: what
//! cannot be sent in time is dropped and counted, because real time prefers a lost packet to a
//! late one.
//!
//! - `format`: how the kernel writes addresses and control messages
//! - `outbox`: what goes out next, and what becomes of it when the kernel refuses
//! - `publisher`: a socket of its own for what one publisher sends
//! - `sys`: the two batched system calls

mod format;
mod outbox;
mod publisher;
mod sys;

pub use outbox::SendReport;

use crate::clock::Clock;
use crate::media::arena::{Path, SendArena};
use format::Family;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use outbox::{Patience, Position, Progress, Segmentation};
use publisher::PublisherSocket;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use sys::{Envelopes, Inbox};
use tracing::debug;

/// Sizes of the kernel's two buffers of a socket, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// `SO_RCVBUF`: what arrives while the shard is busy waits here.
    pub receive: usize,
    /// `SO_SNDBUF`: what the network card has not taken yet waits here.
    pub send: usize,
}

/// What a socket received since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveReport {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes of them, without UDP and IP headers.
    pub bytes: u64,
    /// System calls, including those that found nothing.
    pub system_calls: u64,
    /// Datagrams longer than any that WebRTC sends, dropped.
    pub cut_off: u64,
    /// Datagrams that found the receive buffer full.
    pub overflowed: u64,
}

/// The UDP socket of one shard.
#[derive(Debug)]
pub struct MediaSocket {
    socket: Socket,
    publishers: Vec<PublisherSocket>,
    family: Family,
    wanted: Buffers,
    granted: Buffers,
    overflows: Overflows,
    inbox: Inbox,
    envelopes: Envelopes,
    segmentation: Segmentation,
    received: ReceiveReport,
    sent: SendReport,
}

/// The kernel's count of datagrams that found one socket's buffer full, as it was told last. It has
/// 32 bits; what is made of it goes on where it wraps.
#[derive(Debug, Default)]
struct Overflows(u32);

impl ReceiveReport {
    /// Takes in one batch of a socket.
    fn read(
        &mut self,
        inbox: &mut Inbox,
        socket: BorrowedFd<'_>,
        overflows: &mut Overflows,
        take: &mut dyn FnMut(Path, &mut [u8]),
    ) -> io::Result<usize> {
        self.system_calls += 1;
        let count = match inbox.fill(socket) {
            Ok(count) => count,
            Err(error) if is_passing(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        for incoming in inbox.datagrams(count) {
            self.datagrams += 1;
            self.bytes += incoming.bytes.len() as u64;
            if let Some(told) = incoming.received.overflows {
                self.overflowed += u64::from(told.wrapping_sub(overflows.0));
                overflows.0 = told;
            }
            let Some(remote) = incoming.remote.filter(|_| !incoming.cut_off) else {
                self.cut_off += 1;
                continue;
            };
            take(Path { remote, local: incoming.received.local }, incoming.bytes);
        }
        Ok(count)
    }
}

impl MediaSocket {
    /// The most publishers with a socket of their own.
    pub const PUBLISHERS_MAX: usize = 32;
    /// The most datagrams taken by one [`MediaSocket::receive`].
    pub const BATCH: usize = sys::BATCH;
    /// How long one [`MediaSocket::send`] waits in total while the send buffer is full. At 4 MiB
    /// it then holds more than a network card of 1 Gb/s sends in that time.
    pub const STALL_MAX: Duration = Duration::from_millis(20);

    /// Binds to `address`. `[::]` serves IPv4 as well, and becomes `0.0.0.0` on a machine without
    /// IPv6. With `reuse_port` several sockets share the port, and the kernel spreads the clients
    /// over them.
    ///
    /// # Errors
    ///
    /// What the kernel says: the port is taken, or the address is not one of this machine.
    pub fn bind(address: SocketAddr, buffers: Buffers, reuse_port: bool) -> io::Result<Self> {
        match Self::bind_exactly(address, buffers, reuse_port) {
            Err(error) if lacks_ipv6(&error) && address.ip().is_unspecified() => {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
                Self::bind_exactly(address, buffers, reuse_port)
            }
            result => result,
        }
    }

    fn bind_exactly(address: SocketAddr, wanted: Buffers, reuse_port: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            Family::V6 => {
                socket.set_only_v6(false)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // A kernel that does not know the option would send a burst as one long datagram.
        let kernel_segments = setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok();
        let granted = size_buffers(&socket, wanted)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&address.into())?;
        Ok(Self {
            socket,
            publishers: Vec::new(),
            family,
            wanted,
            granted,
            overflows: Overflows::default(),
            inbox: Inbox::new(),
            envelopes: Envelopes::new(),
            segmentation: Segmentation::new(kernel_segments),
            received: ReceiveReport::default(),
            sent: SendReport::default(),
        })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// What the kernel says, which for a bound UDP socket is nothing.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// The buffer sizes that the kernel granted. Linux counts its own bookkeeping and grants
    /// twice what was asked for, up to twice `net.core.rmem_max` and `wmem_max` (socket(7)); a
    /// privileged process may go beyond them.
    pub const fn granted(&self) -> Buffers {
        self.granted
    }

    /// What was received since the socket was made.
    pub const fn received(&self) -> ReceiveReport {
        self.received
    }

    /// What was sent since the socket was made.
    pub const fn sent(&self) -> SendReport {
        self.sent
    }

    /// Sends datagram by datagram from now on, as on a kernel without UDP GSO.
    pub fn disable_segmentation(&mut self) {
        self.segmentation.set_kernel_can(false);
    }

    /// Takes in one batch without waiting, hands each datagram to `take`, and returns how many
    /// there were: [`MediaSocket::BATCH`] means that more may wait.
    ///
    /// # Errors
    ///
    /// What the kernel says, apart from what a UDP socket outlives: nothing there, an
    /// interruption, the ICMP answer to an earlier datagram.
    pub fn receive(&mut self, mut take: impl FnMut(Path, &mut [u8])) -> io::Result<usize> {
        let Self { socket, inbox, received, overflows, .. } = self;
        received.read(inbox, socket.as_fd(), overflows, &mut take)
    }

    /// Gives each of these publishers a socket of its own on the port, from which
    /// [`MediaSocket::receive_from_publisher`] reads, and takes those of others away. Where there
    /// are too many, or the system refuses, the publisher is read with everybody else.
    pub fn set_publishers(&mut self, paths: impl Iterator<Item = Path>) {
        let paths: Vec<Path> = paths.take(Self::PUBLISHERS_MAX).collect();
        self.publishers.retain(|publisher| paths.contains(&publisher.path));
        let Ok(address) = self.local_address() else { return };
        for path in paths {
            if self.publishers.iter().any(|publisher| publisher.path == path) {
                continue;
            }
            match PublisherSocket::open(path, address.port(), self.wanted) {
                Ok(publisher) => self.publishers.push(publisher),
                Err(error) => debug!(%error, "a publisher gets no socket of its own"),
            }
        }
    }

    /// Where the publisher with the socket at this place sends from.
    pub fn publisher(&self, index: usize) -> Option<Path> {
        self.publishers.get(index).map(|publisher| publisher.path)
    }

    /// The sockets of publishers, to be waited on.
    pub fn publishers(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.publishers.iter().map(AsFd::as_fd)
    }

    /// The same as [`MediaSocket::receive`] from the socket of one publisher, by its place in
    /// [`MediaSocket::publishers`]; its errors say nothing of any other.
    pub fn receive_from_publisher(
        &mut self,
        index: usize,
        mut take: impl FnMut(Path, &mut [u8]),
    ) -> usize {
        let Self { publishers, inbox, received, .. } = self;
        let Some(publisher) = publishers.get_mut(index) else { return 0 };
        let local = publisher.path.local;
        let mut take = |path: Path, bytes: &mut [u8]| take(Path { local, ..path }, bytes);
        let read =
            received.read(inbox, publisher.socket.as_fd(), &mut publisher.overflows, &mut take);
        // Anybody can forge the ICMP message that a connected socket reports.
        read.unwrap_or(0)
    }

    /// Sends all that waits in the arena, which the caller then clears, and reports on it.
    ///
    /// While the send buffer is full it waits, [`MediaSocket::STALL_MAX`] at most, and lets the
    /// caller read what came in: `read` is called after each wait and returns whether it wants to
    /// be woken by the next datagram. What is not sent by then is dropped.
    pub fn send(
        &mut self,
        arena: &SendArena,
        clock: &Clock,
        mut read: impl FnMut(&mut Self) -> bool,
    ) -> SendReport {
        let mut report = SendReport::default();
        let mut position = Position::default();
        let mut patience = Patience::default();
        let mut wakes_for_reading = true;
        loop {
            let Self { socket, family, envelopes, segmentation, .. } = self;
            let progress =
                outbox::send_from(arena, &mut position, segmentation, &mut report, |messages| {
                    envelopes.send(socket.as_fd(), *family, messages)
                });
            if progress == Progress::Done {
                break;
            }
            report.stalls += 1;
            let left = patience.left(clock.now(), Self::STALL_MAX);
            if left.is_zero() {
                outbox::give_up(arena, position, &mut report);
                break;
            }
            self.wait_for_room(left, wakes_for_reading);
            wakes_for_reading = read(self);
        }
        self.sent += report;
        report
    }

    fn wait_for_room(&self, at_most: Duration, or_datagrams: bool) {
        let mut events = PollFlags::POLLOUT;
        events.set(PollFlags::POLLIN, or_datagrams);
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        // However it ends, an interruption included, the caller tries to send again.
        let _ = poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout);
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks for these sizes, beyond the machine's limits where this process may, and tells what there
/// is of them.
fn size_buffers(socket: &Socket, wanted: Buffers) -> io::Result<Buffers> {
    socket.set_recv_buffer_size(wanted.receive)?;
    socket.set_send_buffer_size(wanted.send)?;
    // Without CAP_NET_ADMIN these are refused, and what there is stays.
    if socket.recv_buffer_size()? < wanted.receive {
        let _ = setsockopt(socket, sockopt::RcvBufForce, &wanted.receive);
    }
    if socket.send_buffer_size()? < wanted.send {
        let _ = setsockopt(socket, sockopt::SndBufForce, &wanted.send);
    }
    Ok(Buffers { receive: socket.recv_buffer_size()?, send: socket.send_buffer_size()? })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Whether an error of receiving says nothing about the socket itself.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    let icmp = Some(libc::ECONNREFUSED) == errno
        || matches!(errno, Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EMSGSIZE));
    icmp || matches!(errno, Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::media::time::WallTime;
    use std::net::IpAddr;

    const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 1 << 20 };

    fn socket(address: &str) -> MediaSocket {
        let address = address.parse().expect("a socket address");
        MediaSocket::bind(address, BUFFERS, false).expect("loopback has a free port")
    }

    fn address_of(socket: &MediaSocket) -> SocketAddr {
        socket.local_address().expect("a bound socket has an address")
    }

    /// Containers often have none.
    fn machine_has_ipv6() -> bool {
        let address = "[::1]:0".parse().expect("a socket address");
        MediaSocket::bind(address, BUFFERS, false).is_ok()
    }

    fn to(socket: &MediaSocket) -> Path {
        Path { remote: address_of(socket), local: None }
    }

    fn send(socket: &mut MediaSocket, datagrams: &[(Path, &[u8])]) -> SendReport {
        let mut arena = SendArena::new(1 << 20);
        for (path, bytes) in datagrams {
            assert!(arena.push(*path, bytes));
        }
        socket.send(&arena, &Clock::system(), |_| false)
    }

    /// Waits until so many datagrams have come.
    fn receive(socket: &mut MediaSocket, count: usize) -> Vec<(Path, Vec<u8>)> {
        let mut datagrams = Vec::new();
        while datagrams.len() < count {
            let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut polled, PollTimeout::from(5_000_u16)).expect("poll works");
            assert!(ready > 0, "only {} of {count} datagrams came", datagrams.len());
            let take = |path, bytes: &mut [u8]| datagrams.push((path, bytes.to_vec()));
            socket.receive(take).expect("the socket works");
        }
        datagrams
    }

    fn bytes_of(received: Vec<(Path, Vec<u8>)>) -> Vec<Vec<u8>> {
        received.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Numbered datagrams of these sizes.
    fn numbered(sizes: &[usize]) -> Vec<Vec<u8>> {
        sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect()
    }

    #[test]
    fn bursts_arrive_as_separate_datagrams_in_order() {
        let sizes = [1200, 1200, 1200, 700, 90, 90, 1100];
        for (segmented, address) in
            [(true, "127.0.0.1:0"), (false, "127.0.0.1:0"), (true, "[::1]:0"), (false, "[::1]:0")]
        {
            if address.starts_with('[') && !machine_has_ipv6() {
                continue;
            }
            let (mut server, mut client) = (socket(address), socket(address));
            if !segmented {
                server.disable_segmentation();
            }
            let datagrams = numbered(&sizes);
            let path = to(&client);
            let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
            let report = send(&mut server, &waiting);
            assert_eq!(bytes_of(receive(&mut client, sizes.len())), datagrams);
            assert_eq!((report.datagrams, report.system_calls), (7, 1), "{address}");
            assert_eq!(report.messages, if segmented { 3 } else { 7 });
            assert_eq!(report, server.sent());
        }
    }

    #[test]
    fn more_messages_than_a_batch_take_more_system_calls() {
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let sizes: Vec<_> = (0..150).map(|i| 100 + i).collect();
        let datagrams = numbered(&sizes);
        let path = to(&client);
        let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
        let report = send(&mut server, &waiting);
        assert_eq!((report.messages, report.system_calls), (150, 3));
        assert_eq!(bytes_of(receive(&mut client, 150)), datagrams);
    }

    #[test]
    fn where_the_kernel_refuses_to_segment_datagrams_go_out_singly() {
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let datagrams = numbered(&[1200, 1200, 300]);
        let path = to(&client);
        let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
        sys::forbid_checksums(server.as_fd(), true).expect("the kernel has SO_NO_CHECK");
        let first = send(&mut server, &waiting);
        assert_eq!(bytes_of(receive(&mut client, 3)), datagrams);
        assert_eq!((first.fallbacks, first.messages, first.refused), (1, 3, 0));

        sys::forbid_checksums(server.as_fd(), false).expect("the kernel has SO_NO_CHECK");
        let other = socket("127.0.0.2:0");
        let (remembered, unaffected) = (send(&mut server, &waiting), {
            let path = to(&other);
            let waiting: Vec<_> = datagrams.iter().map(|d| (path, d.as_slice())).collect();
            send(&mut server, &waiting)
        });
        assert_eq!((remembered.fallbacks, remembered.messages), (0, 3));
        assert_eq!((unaffected.fallbacks, unaffected.messages), (0, 1));
    }

    #[test]
    fn replies_leave_from_the_address_that_was_asked() {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let mut server = socket(wildcard);
            let port = address_of(&server).port();
            for host in ["127.0.0.1", "127.0.0.2"] {
                let mut client = socket("127.0.0.1:0");
                let asked = SocketAddr::new(host.parse().expect("an address"), port);
                send(&mut client, &[(Path { remote: asked, local: None }, b"question")]);
                let (path, _) = receive(&mut server, 1).remove(0);
                assert_eq!(path.remote, address_of(&client), "IPv4 is plain IPv4");
                assert_eq!(path.local, Some(asked.ip()));
                // As a burst, so that both control messages go together.
                send(&mut server, &[(path, b"answer 1"), (path, b"answer 2")]);
                let answers = receive(&mut client, 2);
                assert!(answers.iter().all(|(path, _)| path.remote == asked), "{answers:?}");
            }
        }
    }

    #[test]
    fn a_dual_stack_socket_serves_both_kinds_of_client() {
        let mut server = socket("[::]:0");
        let port = address_of(&server).port();
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().expect("an address");
            if host.is_ipv6() && !machine_has_ipv6() {
                continue;
            }
            let mut client = MediaSocket::bind(SocketAddr::new(host, 0), BUFFERS, false)
                .expect("loopback has a free port");
            let asked = SocketAddr::new(host, port);
            send(&mut client, &[(Path { remote: asked, local: None }, b"question")]);
            let (path, _) = receive(&mut server, 1).remove(0);
            assert_eq!(path, Path { remote: address_of(&client), local: Some(host) });
            send(&mut server, &[(path, b"answer")]);
            assert_eq!(receive(&mut client, 1)[0].0.remote, asked);
        }
    }

    #[test]
    fn a_message_that_cannot_be_sent_holds_up_no_other() {
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let broadcast = Path { remote: SocketAddr::from(([255; 4], 9)), local: None };
        let foreign = Path { local: Some(IpAddr::from([192, 0, 2, 1])), ..to(&client) };
        let other_family = Path { remote: "[::1]:9".parse().expect("an address"), local: None };
        let good = to(&client);
        let report = send(
            &mut server,
            &[
                (good, b"1"),
                (broadcast, b"x"),
                (good, b"2"),
                (foreign, b"x"),
                (good, b"3"),
                (other_family, b"x"),
                (good, b"4"),
            ],
        );
        let arrived = bytes_of(receive(&mut client, 4));
        assert_eq!(arrived, [b"1", b"2", b"3", b"4"]);
        assert_eq!((report.refused, report.datagrams), (3, 4));
    }

    #[test]
    fn a_client_that_is_gone_stops_no_other() {
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let gone = to(&socket("127.0.0.1:0"));
        for round in 0..3 {
            send(&mut server, &[(gone, b"nobody there"), (to(&client), b"hello"), (gone, b"x")]);
            assert_eq!(receive(&mut client, 1)[0].1, b"hello", "round {round}");
            let count = server.receive(|_, _| {}).expect("ICMP answers are no fault of the socket");
            assert_eq!(count, 0);
        }
    }

    #[test]
    fn what_is_too_long_is_dropped_and_counted() {
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let path = to(&server);
        send(&mut client, &[(path, &[7; 3_000]), (path, b"short")]);
        assert_eq!(bytes_of(receive(&mut server, 1)), [b"short"]);
        assert_eq!((server.received().datagrams, server.received().cut_off), (2, 1));
    }

    #[test]
    fn what_the_receive_buffer_could_not_take_is_counted() {
        let small = Buffers { receive: 4_096, send: 1 << 20 };
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut server = MediaSocket::bind(address, small, false).expect("loopback has a port");
        assert!(server.granted().receive < BUFFERS.receive);
        let mut client = socket("127.0.0.1:0");
        let path = to(&server);
        for _ in 0..2 {
            send(&mut client, &[(path, [7_u8; 1_000].as_slice()); 50]);
            while server.receive(|_, _| {}).expect("the socket works") > 0 {}
        }
        // Each datagram tells how many were lost before it: the last round's are yet untold.
        send(&mut client, &[(path, b"last")]);
        receive(&mut server, 1);
        let counts = server.received();
        assert!(counts.overflowed > 0);
        assert_eq!(counts.datagrams + counts.overflowed, 101);
    }

    #[test]
    fn a_send_buffer_that_stays_full_drops_in_bounded_time_and_reading_goes_on() {
        let hands = HandClock::starting_at(WallTime::since_unix_epoch(Duration::ZERO));
        let (mut server, mut client) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        send(&mut client, &[(to(&server), b"read me")]);
        let mut arena = SendArena::new(10_000);
        for _ in 0..5 {
            arena.push(to(&client), &[7; 100]);
        }
        server.envelopes.pretended_error = Some(libc::EAGAIN);
        let mut read = Vec::new();
        let report = server.send(&arena, &hands.clock(), |server| {
            hands.advance(MediaSocket::STALL_MAX / 4);
            let take = |_, bytes: &mut [u8]| read.push(bytes.to_vec());
            server.receive(take).expect("the socket works") > 0
        });
        assert_eq!((report.overflowed, report.datagrams, report.stalls), (5, 0, 5));
        assert_eq!(read, [b"read me"]);

        server.envelopes.pretended_error = None;
        let report = server.send(&arena, &hands.clock(), |_| false);
        assert_eq!((report.overflowed, report.datagrams), (0, 5));
    }

    /// What floods the port cannot push a publisher's packets out of a buffer of their own.
    #[test]
    fn a_publisher_with_a_socket_of_its_own_loses_nothing_to_a_flood() {
        let small = Buffers { receive: 65_536, send: 1 << 20 };
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let address = address.parse().expect("a socket address");
            let mut server = MediaSocket::bind(address, small, true).expect("loopback has a port");
            let port = address_of(&server).port();
            let server_path =
                Path { remote: SocketAddr::from(([127, 0, 0, 1], port)), local: None };
            let (mut publisher, mut stranger) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
            let local = Some(server_path.remote.ip());
            let path = Path { remote: address_of(&publisher), local };
            server.set_publishers([path].into_iter());
            assert_eq!(server.publishers().len(), 1, "{address}");

            for _ in 0..10 {
                send(&mut stranger, &[(server_path, [9; 1_000].as_slice()); 50]);
            }
            let packets = numbered(&[1_000; 20]);
            let waiting: Vec<_> = packets.iter().map(|p| (server_path, p.as_slice())).collect();
            send(&mut publisher, &waiting);
            let mut read = Vec::new();
            let take = |from, bytes: &mut [u8]| read.push((from, bytes.to_vec()));
            server.receive_from_publisher(0, take);
            assert!(read.iter().all(|(from, _)| *from == path));
            assert_eq!(bytes_of(read), packets, "{address}");

            server.set_publishers(std::iter::empty());
            while server.receive(|_, _| {}).expect("the socket works") > 0 {}
            send(&mut publisher, &[(server_path, b"with everybody else")]);
            assert_eq!(bytes_of(receive(&mut server, 1)), [b"with everybody else"]);
        }
    }

    #[test]
    fn a_port_is_shared_only_where_it_is_asked_for() {
        let first = socket("127.0.0.1:0");
        assert!(MediaSocket::bind(address_of(&first), BUFFERS, false).is_err());
        let address = "127.0.0.1:0".parse().expect("an address");
        let first = MediaSocket::bind(address, BUFFERS, true).expect("loopback has a port");
        assert!(MediaSocket::bind(address_of(&first), BUFFERS, true).is_ok());
    }
}
