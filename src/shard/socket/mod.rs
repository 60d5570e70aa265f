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
//! - `tests`: every behaviour of the whole

mod format;
mod outbox;
mod publisher;
mod sys;
#[cfg(test)]
mod tests;

pub use outbox::SendReport;

use crate::clock::Clock;
use crate::media::arena::{Path, SendArena};
use format::Family;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use outbox::{Patience, Position, Progress, Segmentation};
use publisher::{PublisherSocket, sharing};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
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
            take(Path::udp(remote, incoming.received.local), incoming.bytes);
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

    /// A socket beside this one, on the same port, that talks to that address only, whichever of
    /// the sockets on the port would have heard it else.
    ///
    /// # Errors
    ///
    /// What the kernel says: there is no way to that address, or this socket shares no port.
    pub fn beside(&self, local: IpAddr, remote: SocketAddr) -> io::Result<UdpSocket> {
        let local = SocketAddr::new(local, self.local_address()?.port());
        let socket = sharing(local)?;
        socket.bind(&local.into())?;
        socket.connect(&remote.into())?;
        Ok(socket.into())
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
        // One that sends over TCP has a socket of its own as it is.
        let paths: Vec<Path> =
            paths.filter(|path| !path.is_tcp()).take(Self::PUBLISHERS_MAX).collect();
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
