//! One HTTP/1.1 connection that is kept: a request at a time, nonblocking. Bodies of media are
//! thrown away in the kernel, so that a generator costs less than what it measures.

use super::response::{Body, Head};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv, send,
    setsockopt, socket, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Read at once of a head; what comes with it of a body is little.
const HEAD_BYTES: usize = 4_096;
/// The longest playlist that is read.
const TEXT_MAX: usize = 1 << 20;

/// What has come of a response.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing that is of use yet.
    Waiting,
    /// All of it; `kept` holds the body if it was to be kept.
    Done(Head),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    is_connected: bool,
    /// What is still to be written.
    output: Vec<u8>,
    /// The head so far, then the body where that is kept.
    pub(super) kept: Vec<u8>,
    head: Option<Head>,
    body: Body,
    keep: bool,
    pub(super) asked_at: Instant,
    pub(super) is_asking: bool,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(address: SocketAddr, now: Instant) -> nix::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        let is_connected = match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => true,
            Err(Errno::EINPROGRESS) => false,
            Err(error) => return Err(error),
        };
        Ok(Self {
            socket,
            is_connected,
            output: Vec::new(),
            kept: Vec::new(),
            head: None,
            body: Body::UntilClosed,
            keep: false,
            asked_at: now,
            is_asking: false,
        })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request, now or once it is connected.
    pub(super) fn ask(&mut self, request: &[u8], keep: bool, now: Instant) -> nix::Result<()> {
        self.output.extend_from_slice(request);
        (self.keep, self.asked_at, self.is_asking) = (keep, now, true);
        self.kept.clear();
        self.head = None;
        self.flush()
    }

    /// Whether it is to be told when it can be written to.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.is_connected || !self.output.is_empty()
    }

    /// It can be written to.
    pub(super) fn writable(&mut self) -> nix::Result<()> {
        if !self.is_connected {
            let error = getsockopt(&self.socket, sockopt::SocketError)?;
            if error != 0 {
                return Err(Errno::from_raw(error));
            }
            self.is_connected = true;
        }
        self.flush()
    }

    fn flush(&mut self) -> nix::Result<()> {
        while self.is_connected && !self.output.is_empty() {
            match send(self.socket.as_raw_fd(), &self.output, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// It can be read: takes what there is of the response. Adds to `bytes` what came.
    pub(super) fn readable(
        &mut self,
        scratch: &mut [u8],
        bytes: &mut u64,
    ) -> Result<Progress, String> {
        loop {
            let count = match self.receive(scratch) {
                Ok(0) => return self.closed(),
                Ok(count) => count,
                Err(Errno::EAGAIN) => return Ok(Progress::Waiting),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.to_string()),
            };
            *bytes += count as u64;
            if !self.is_asking {
                return Err("it speaks unasked".to_owned());
            }
            if self.is_discarding() {
                let Body::Counted(left) = &mut self.body else { continue };
                *left = left.saturating_sub(count as u64);
                if *left == 0 {
                    return Ok(self.done());
                }
                continue;
            }
            let came = scratch.get(..count).unwrap_or_default();
            if self.take(came)? {
                return Ok(self.done());
            }
        }
    }

    /// Whether what comes now need not be looked at.
    fn is_discarding(&self) -> bool {
        self.head.is_some() && !self.keep && matches!(self.body, Body::Counted(left) if left > 0)
    }

    fn receive(&self, scratch: &mut [u8]) -> nix::Result<usize> {
        let (wanted, flags) = match (&self.body, self.is_discarding()) {
            // TCP throws away what is asked for so (tcp(7)); what comes after it must stay.
            (Body::Counted(left), true) => {
                (usize::try_from(*left).unwrap_or(usize::MAX), MsgFlags::MSG_TRUNC)
            }
            _ if self.keep => (usize::MAX, MsgFlags::empty()),
            _ => (HEAD_BYTES, MsgFlags::empty()),
        };
        let length = wanted.min(scratch.len());
        let place = scratch.get_mut(..length).unwrap_or_default();
        recv(self.socket.as_raw_fd(), place, flags)
    }

    /// Takes bytes that were looked at; returns whether they end the response.
    fn take(&mut self, came: &[u8]) -> Result<bool, String> {
        let Self { kept, head, body, keep, .. } = self;
        let rest;
        let came = if head.is_some() {
            came
        } else {
            kept.extend_from_slice(came);
            let Some((found, length)) = Head::read(kept)? else { return Ok(false) };
            *body = found.body();
            *head = Some(found);
            rest = kept.split_off(length);
            kept.clear();
            &rest[..]
        };
        let mut too_long = false;
        let mut put = |data: &[u8]| {
            if *keep && kept.len() + data.len() <= TEXT_MAX {
                kept.extend_from_slice(data);
            } else {
                too_long |= *keep;
            }
        };
        let (taken, is_end) = body.take(came, &mut put)?;
        if too_long {
            return Err("a playlist without end".to_owned());
        }
        if is_end && taken < came.len() {
            return Err("more than was asked for".to_owned());
        }
        Ok(is_end)
    }

    fn done(&mut self) -> Progress {
        self.is_asking = false;
        Progress::Done(self.head.take().unwrap_or_default())
    }

    fn closed(&mut self) -> Result<Progress, String> {
        let is_end = self.head.is_some() && self.body == Body::UntilClosed;
        if is_end { Ok(self.done()) } else { Err("it closed".to_owned()) }
    }
}
