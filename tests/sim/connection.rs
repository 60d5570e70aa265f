//! A TCP connection from the server to a client, as the shard has it: nothing is lost or out of
//! order, what the kernel has no room for waits here, and the engine is told how much that is.

use crate::link::Link;
use crate::world::{World, ms};
use millrace::engine::{Backlog, Input};
use millrace::media::arena::Path;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What waits for the kernel to take it. The bounds are those of `shard/tcp`.
#[derive(Debug)]
pub(crate) struct Connection {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    told: Backlog,
    /// How often packets were lost to the bound.
    pub(crate) lost: usize,
}

impl Connection {
    const BACKLOG_MAX: usize = 256 << 10;
    const BACKLOG_HIGH: usize = 64 << 10;
    const BACKLOG_LOW: usize = 16 << 10;
    /// What the kernel takes beyond what is on its way.
    const UNSENT_MAX: f64 = 32_768.0;
    /// What the congestion control lets stand in front of the link.
    const ON_ITS_WAY: Duration = Duration::from_millis(100);

    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, told: Backlog::Low, lost: 0 }
    }

    /// When something that waits may go on, as far as need be known.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| now + ms(1))
    }

    /// How long what comes last takes until it has left.
    pub(crate) fn delay(&self, link: &Link, now: Instant) -> Duration {
        let rate = link.rate.map_or(f64::INFINITY, |rate| rate.as_bps() as f64);
        link.standing(now) + Duration::from_secs_f64(self.bytes as f64 * 8.0 / rate)
    }

    /// Takes in a datagram behind all that wait; one too many is lost.
    fn take(&mut self, datagram: Vec<u8>) -> bool {
        if self.bytes + datagram.len() > Self::BACKLOG_MAX {
            self.lost += 1;
            return false;
        }
        self.bytes += datagram.len();
        self.waiting.push_back(datagram);
        true
    }

    /// The next that the kernel takes.
    fn next(&mut self, link: &Link, now: Instant) -> Option<Vec<u8>> {
        let rate = link.rate.map_or(f64::INFINITY, |rate| rate.as_bps() as f64);
        let unsent = link.standing(now).saturating_sub(Self::ON_ITS_WAY).as_secs_f64() * rate / 8.0;
        if unsent >= Self::UNSENT_MAX {
            return None;
        }
        let datagram = self.waiting.pop_front()?;
        self.bytes -= datagram.len();
        Some(datagram)
    }

    fn news(&mut self, has_dropped: bool) -> Option<Backlog> {
        let news = match self.told {
            _ if has_dropped => Backlog::Lost,
            Backlog::Low if self.bytes > Self::BACKLOG_HIGH => Backlog::High,
            Backlog::High | Backlog::Lost if self.bytes <= Self::BACKLOG_LOW => Backlog::Low,
            _ => return None,
        };
        self.told = news;
        Some(news)
    }
}

impl World {
    /// A client connects by TCP instead, from the beginning on, over a link with this queue.
    pub(crate) fn connect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.connection = Some(Connection::new());
        // TCP sends again what is lost, and waits before it sends too much.
        client.down.queue = Duration::MAX;
    }

    /// How the server reaches a client.
    pub(crate) fn path(&self, number: usize, remote: std::net::SocketAddr) -> Path {
        match self.clients[number].connection {
            Some(_) => Path::tcp(remote, None),
            None => Path::udp(remote, None),
        }
    }

    /// A datagram for a client that has a connection.
    pub(crate) fn write(&mut self, number: usize, datagram: Vec<u8>) {
        let Some(connection) = &mut self.clients[number].connection else { return };
        let is_lost = !connection.take(datagram);
        self.work_off(number, is_lost);
    }

    /// Lets the kernel take what it has room for, and tells the engine how much is left.
    pub(crate) fn work_off(&mut self, number: usize, has_dropped: bool) {
        let now = self.now;
        let client = &mut self.clients[number];
        let Some(connection) = &mut client.connection else { return };
        let mut taken = Vec::new();
        while let Some(datagram) = connection.next(&client.down, now) {
            let arrivals = client.down.carry(&datagram, now);
            taken.push((arrivals, datagram));
        }
        let (news, remote) = (connection.news(has_dropped), client.address);
        for (arrivals, datagram) in taken {
            self.send(arrivals, remote, false, &datagram);
        }
        if let Some(backlog) = news {
            let path = Path::tcp(remote, None);
            self.backlogs.push((path, backlog));
        }
    }

    /// Tells the engine what is new of backlogs, as the shard does between its turns.
    pub(crate) fn tell_backlogs(&mut self) {
        for (path, backlog) in std::mem::take(&mut self.backlogs) {
            let shard = self.shard_at(path.remote);
            self.with_arena(shard, |engine, now, arena| {
                engine.handle(Input::Backlog { path, backlog }, now, arena);
            });
        }
    }
}
