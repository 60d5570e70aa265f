//! A socket of its own for what one publisher sends.
//!
//! It shares the port with the others and is connected to the publisher's address, which the kernel
//! prefers to the socket that serves everybody. So a publisher's packets wait in a buffer of their
//! own: whatever floods the port, it cannot push them out, and they are read first. Nothing is sent
//! by it.

use super::{Buffers, Overflows, size_buffers};
use crate::media::arena::Path;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// The socket.
#[derive(Debug)]
pub(super) struct PublisherSocket {
    pub(super) socket: Socket,
    pub(super) path: Path,
    pub(super) overflows: Overflows,
}

impl PublisherSocket {
    /// Opens one for a publisher that sends to this port of ours.
    pub(super) fn open(path: Path, port: u16, buffers: Buffers) -> io::Result<Self> {
        let local = path.local.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = SocketAddr::new(local, port);
        let socket = sharing(local)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        size_buffers(&socket, buffers)?;
        socket.bind(&local.into())?;
        // Between these two calls it may get what others send to this address: read as any other.
        socket.connect(&path.remote.into())?;
        Ok(Self { socket, path, overflows: Overflows::default() })
    }
}

/// A socket, not bound yet, that shares the port of that address with others.
pub(super) fn sharing(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

impl AsFd for PublisherSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
