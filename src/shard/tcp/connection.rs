//! One client's TCP connection: what came of a frame, and what it has not taken yet.

use super::framing::{DATAGRAM_MAX, Frames, HEADER, Oversized, header};
use crate::engine::Backlog;
use crate::media::arena::{Path, SendArena};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A connection of whose client an authentic check has come.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    path: Path,
    frames: Frames,
    /// Frames that the kernel has not taken, the first one perhaps in part.
    backlog: VecDeque<u8>,
    /// How it stood with that when it was last told.
    told: Backlog,
    /// It counts as open as long as this is held.
    _open: Arc<()>,
}

/// What became of datagrams for a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Taken by the kernel, or waiting.
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Lost, as too much waits.
    pub(super) dropped: u64,
    pub(super) system_calls: u64,
}

impl Connection {
    /// The most bytes that wait: a second of video of 2 Mb/s.
    pub const BACKLOG_MAX: usize = 256 << 10;
    /// From here on nothing is begun that can wait.
    const BACKLOG_HIGH: usize = 64 << 10;
    /// Down here it goes on.
    const BACKLOG_LOW: usize = 16 << 10;
    /// What the kernel keeps beyond what is on its way: what waits there cannot be counted.
    const UNSENT_MAX: u32 = 32 << 10;

    /// A connection whose first frame has been read. `open` is held as long as it is.
    ///
    /// # Errors
    ///
    /// What the system says; a client that has gone already among it.
    pub fn new(stream: TcpStream, open: Arc<()>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(Self::UNSENT_MAX)?;
        let mut remote = stream.peer_addr()?;
        remote.set_ip(remote.ip().to_canonical());
        let local = stream.local_addr()?.ip().to_canonical();
        Ok(Self {
            stream,
            path: Path::tcp(remote, Some(local)),
            frames: Frames::default(),
            backlog: VecDeque::new(),
            told: Backlog::Low,
            _open: open,
        })
    }

    /// Where its client is.
    pub const fn path(&self) -> Path {
        self.path
    }

    /// Whether something waits for the kernel to take it.
    pub(super) fn waits_for_room(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Reads once, as much as `memory` holds, and hands on what is complete.
    ///
    /// # Errors
    ///
    /// The connection is over, or what comes is no frame.
    pub(super) fn receive(
        &mut self,
        memory: &mut [u8],
        mut take: impl FnMut(Path, &mut [u8]),
    ) -> io::Result<()> {
        let length = match self.stream.read(memory) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (path, piece) = (self.path, memory.get_mut(..length).unwrap_or_default());
        let read = self.frames.read(piece, |datagram| take(path, datagram));
        read.map_err(|oversized: Oversized| io::Error::other(oversized))
    }

    /// Sends a burst: datagrams of `segment` bytes, the last one perhaps shorter. What the kernel
    /// does not take now waits; what would be too much of that is lost.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub(super) fn send(&mut self, burst: &[u8], segment: usize) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let mut taken = 0;
        if self.backlog.is_empty() {
            sent.system_calls += 1;
            taken = self.write(burst, segment)?;
        }
        for datagram in burst.chunks(segment) {
            let length = HEADER + datagram.len();
            let part = taken.min(length);
            taken -= part;
            if part == 0 && self.backlog.len() + length > Self::BACKLOG_MAX {
                sent.dropped += 1;
                continue;
            }
            // A frame that has begun must go on.
            let header = header(datagram.len());
            self.backlog.extend(&header[part.min(HEADER)..]);
            self.backlog.extend(&datagram[part.saturating_sub(HEADER)..]);
            sent.datagrams += 1;
            sent.bytes += datagram.len() as u64;
        }
        Ok(sent)
    }

    /// Writes a burst, framed, and tells how many bytes of that the kernel took.
    fn write(&mut self, burst: &[u8], segment: usize) -> io::Result<usize> {
        let mut headers = [[0; HEADER]; SendArena::SEGMENTS_MAX];
        let mut slices = [IoSlice::new(&[]); 2 * SendArena::SEGMENTS_MAX];
        let mut count = 0;
        let places = slices.chunks_exact_mut(2).zip(&mut headers);
        for ((pair, bytes), datagram) in places.zip(burst.chunks(segment)) {
            *bytes = header(datagram.len());
            pair.copy_from_slice(&[IoSlice::new(bytes), IoSlice::new(datagram)]);
            count += pair.len();
        }
        match self.stream.write_vectored(&slices[..count]) {
            Ok(taken) => Ok(taken),
            Err(error) if is_passing(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Goes on with what waits.
    ///
    /// # Errors
    ///
    /// The connection is over.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let (first, second) = self.backlog.as_slices();
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.backlog.drain(..taken)),
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.len()
    }

    /// How it stood with the backlog when that was last told.
    pub(super) const fn told(&self) -> Backlog {
        self.told
    }

    /// How it stands with the backlog, where there is something new to tell.
    pub(super) fn news(&mut self, has_dropped: bool) -> Option<Backlog> {
        let waiting = self.backlog.len();
        let news = match self.told {
            _ if has_dropped => Backlog::Lost,
            Backlog::Low if waiting > Self::BACKLOG_HIGH => Backlog::High,
            Backlog::High | Backlog::Lost if waiting <= Self::BACKLOG_LOW => Backlog::Low,
            _ => return None,
        };
        self.told = news;
        Some(news)
    }

    /// Gives memory back that is not in use.
    pub(super) fn tidy(&mut self) {
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
    }
}

/// Memory for one reading: a dozen datagrams.
pub(super) const READ_MAX: usize = 8 * DATAGRAM_MAX;

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
