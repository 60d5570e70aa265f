//! The TCP connections of one shard, for clients whose networks have no UDP (RFC 6544, RFC 4571).
//!
//! Knows nothing of what it carries. A connection that takes less than it is sent has a bounded
//! backlog; what is lost to that is told, since the datagrams of a connection that follow are of
//! no use to a viewer without those before.
//!
//! - `connection`: one of them
//! - `framing`: datagrams in a stream of bytes
//! - `tests`: every behaviour of the whole

mod connection;
pub mod framing;
#[cfg(test)]
mod tests;

pub use connection::Connection;

use crate::engine::Backlog;
use crate::media::arena::{Path, SendArena};
use connection::READ_MAX;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use tracing::debug;

/// What was counted of all connections that there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounts {
    /// Connections that are open now.
    pub open: usize,
    /// Datagrams that came in.
    pub received: u64,
    /// Datagrams sent, or waiting to be.
    pub datagrams: u64,
    /// Bytes of them, without their frames.
    pub bytes: u64,
    /// Runs of datagrams to one client.
    pub messages: u64,
    /// System calls made to send them.
    pub system_calls: u64,
    /// Datagrams lost as too many waited for their connection.
    pub dropped: u64,
    /// Datagrams for connections that are over.
    pub unsent: u64,
}

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Connections {
    epoll: Epoll,
    open: Slab<Connection>,
    by_path: HashMap<Path, usize>,
    memory: Box<[u8]>,
    /// What is to be told of backlogs.
    news: VecDeque<(Path, Backlog)>,
    counts: TcpCounts,
}

impl Connections {
    /// Connections looked at by one [`Connections::receive`].
    const BATCH: usize = 16;

    /// None yet.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            open: Slab::new(),
            by_path: HashMap::new(),
            memory: vec![0; READ_MAX].into_boxed_slice(),
            news: VecDeque::new(),
            counts: TcpCounts::default(),
        })
    }

    /// Takes a connection over. Where the system refuses to watch it, it is closed.
    pub(super) fn insert(&mut self, connection: Connection) {
        let path = connection.path();
        // What was told of one before with the same ends says nothing of this one.
        self.news.push_back((path, connection.told()));
        // Of two with the same ends the older one is over and not yet known to be.
        drop(self.take(path));
        let key = self.open.insert(connection);
        self.by_path.insert(path, key);
        let event = EpollEvent::new(interest(&self.open[key]), key as u64);
        if let Err(error) = self.epoll.add(&self.open[key], event) {
            debug!(%error, "a connection cannot be watched");
            self.close(key);
        }
    }

    /// Gives a connection away.
    pub(super) fn take(&mut self, path: Path) -> Option<Connection> {
        let key = self.by_path.remove(&path)?;
        let connection = self.open.try_remove(key)?;
        // It is watched, unless it is being closed for not being so.
        let _ = self.epoll.delete(&connection);
        Some(connection)
    }

    fn close(&mut self, key: usize) {
        if let Some(connection) = self.open.get(key) {
            let path = connection.path();
            drop(self.take(path));
        }
    }

    /// Reads some of those that have something to read, each once, and sends what waits for those
    /// that have room again. True: more may be ready.
    pub(super) fn receive(&mut self, mut take: impl FnMut(Path, &mut [u8])) -> bool {
        let mut events = [EpollEvent::empty(); Self::BATCH];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            let Ok(key) = usize::try_from(event.data()) else { continue };
            let Some(connection) = self.open.get_mut(key) else { continue };
            let waited = connection.waits_for_room();
            let mut worked = Ok(());
            if event.events().contains(EpollFlags::EPOLLOUT) {
                worked = connection.flush();
            }
            if event.events() != EpollFlags::EPOLLOUT && worked.is_ok() {
                let counts = &mut self.counts;
                worked = connection.receive(&mut self.memory, |path, datagram| {
                    counts.received += 1;
                    take(path, datagram);
                });
            }
            self.look_after(key, waited, false, worked);
        }
        ready == Self::BATCH
    }

    /// Sends all of the arena that goes over TCP.
    pub(super) fn send(&mut self, arena: &SendArena) {
        for burst in arena.bursts().iter().filter(|burst| burst.path.is_tcp()) {
            let found = self.by_path.get(&burst.path).copied();
            let connection = found.and_then(|key| Some((key, self.open.get_mut(key)?)));
            let Some((key, connection)) = connection else {
                self.counts.unsent += burst.len.div_ceil(burst.segment) as u64;
                continue;
            };
            let waited = connection.waits_for_room();
            let sent = connection.send(arena.bytes_of(burst), burst.segment);
            if let Ok(sent) = &sent {
                self.counts.datagrams += sent.datagrams;
                self.counts.bytes += sent.bytes;
                self.counts.messages += 1;
                self.counts.system_calls += sent.system_calls;
                self.counts.dropped += sent.dropped;
            }
            let has_dropped = sent.as_ref().is_ok_and(|sent| sent.dropped > 0);
            self.look_after(key, waited, has_dropped, sent.map(|_| ()));
        }
    }

    /// After something was done with a connection: what there is to tell is told, it is watched for
    /// what it waits for now, and closed where it is over.
    fn look_after(&mut self, key: usize, waited: bool, has_dropped: bool, worked: io::Result<()>) {
        let Some(connection) = self.open.get_mut(key) else { return };
        if let Some(news) = connection.news(has_dropped) {
            self.news.push_back((connection.path(), news));
        }
        let changed = waited != connection.waits_for_room();
        let watched = worked.and_then(|()| {
            let mut event = EpollEvent::new(interest(connection), key as u64);
            if changed { Ok(self.epoll.modify(&*connection, &mut event)?) } else { Ok(()) }
        });
        if let Err(error) = watched {
            debug!(%error, "a connection is over");
            self.close(key);
        }
    }

    /// Closes those that serve nobody, and gives memory back.
    pub(super) fn sweep(&mut self, mut serves: impl FnMut(Path) -> bool) {
        let mut idle = Vec::new();
        for (key, connection) in &mut self.open {
            connection.tidy();
            if !serves(connection.path()) {
                idle.push(key);
            }
        }
        for key in idle {
            self.close(key);
        }
    }

    /// The next that is to be told of a backlog.
    pub(super) fn poll_news(&mut self) -> Option<(Path, Backlog)> {
        self.news.pop_front()
    }

    /// What was counted.
    pub(super) fn counts(&self) -> TcpCounts {
        TcpCounts { open: self.open.len(), ..self.counts }
    }
}

/// What a connection is watched for: something to read, and room where something waits.
fn interest(connection: &Connection) -> EpollFlags {
    let room = connection.waits_for_room();
    EpollFlags::EPOLLIN | if room { EpollFlags::EPOLLOUT } else { EpollFlags::empty() }
}

impl AsFd for Connections {
    /// Readable when any of them is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
