//! Datagrams by the batch, each with the time at which the kernel took it in.
//!
//! The time is the kernel's (`SO_TIMESTAMPNS`, software), so a generator that comes late to its
//! sockets measures the server and not itself. UDP GRO is left off: browsers do not use it, and
//! with it the server's work of cutting messages into datagrams would be saved.

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

/// Datagrams of one system call: three frames of 2.5 Mb/s.
pub(crate) const BATCH: usize = 32;
/// No datagram of WebRTC is larger.
const DATAGRAM_MAX: usize = 2_048;
/// What a socket may hold while the generator is busy elsewhere: three seconds of 2.5 Mb/s.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Room for one batch.
#[derive(Debug)]
pub(crate) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; DATAGRAM_MAX]]>,
}

/// A UDP socket whose only peer is `server`, with time stamps and a large receive buffer.
pub(crate) fn connected(server: std::net::SocketAddr) -> io::Result<UdpSocket> {
    let any: std::net::IpAddr = if server.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    prepare(&socket)?;
    socket.connect(server)?;
    Ok(socket)
}

/// Turns time stamps on, asks for the receive buffer, and makes the socket non-blocking.
pub(crate) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    // Beyond the system's limit only for who administers the machine; the rest have to do with it.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn headers() -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec)))
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { headers: headers(), buffers: vec![[0; DATAGRAM_MAX]; BATCH].into_boxed_slice() }
    }

    /// Takes in one batch without waiting, and returns how many datagrams there were.
    /// Each comes with its time of arrival, in nanoseconds since the Unix epoch.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut take: impl FnMut(&[u8], i64),
    ) -> io::Result<usize> {
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..]);
            [IoSliceMut::new(buffer)]
        });
        let fd = socket.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = match recvmmsg(fd, &mut self.headers, &mut slices, flags, None) {
            Ok(messages) => messages,
            // Nothing there, or the ICMP answer to what was sent to a server that is gone.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let (mut count, mut unstamped) = (0, false);
        for message in messages {
            count += 1;
            let stamp = message.cmsgs().ok().and_then(|mut all| all.find_map(|it| stamp(&it)));
            unstamped |= stamp.is_none();
            let bytes = message.iovs().next().unwrap_or_default();
            take(bytes, stamp.unwrap_or_else(now_nanos));
        }
        if unstamped {
            // The library keeps the length of the last control message as the room for the next.
            self.headers = headers();
        }
        Ok(count)
    }
}

fn stamp(message: &ControlMessageOwned) -> Option<i64> {
    match message {
        ControlMessageOwned::ScmTimestampns(time) => {
            Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
        }
        _ => None,
    }
}

/// The clock that the kernel stamps with: nanoseconds since the Unix epoch.
pub(crate) fn now_nanos() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_in_order_and_with_times_between_sending_and_now() -> anyhow::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = connected(server.local_addr()?)?;
        client.send(b"hello")?;
        let (_, address) = server.recv_from(&mut [0; 16])?;
        let mut inbox = Inbox::new();
        for round in 0..3_u8 {
            let before = now_nanos();
            for number in 0..40 {
                server.send_to(&[round, number], address)?;
            }
            let mut got = Vec::new();
            while got.len() < 40 {
                inbox.receive(&client, |bytes, at| got.push((bytes.to_vec(), at)))?;
            }
            let after = now_nanos();
            let numbers: Vec<u8> = got.iter().map(|(bytes, _)| bytes[1]).collect();
            assert_eq!(numbers, (0..40).collect::<Vec<u8>>());
            assert!(
                got.iter().all(|(bytes, at)| bytes[0] == round && (before..=after).contains(at))
            );
        }
        Ok(())
    }
}
