//! The shell around an engine: one thread per shard, with a socket of the shared UDP port.
//!
//! The loop decides nothing about media. It keeps time, moves bytes and bounds each step, so that
//! under overload reading comes before sending: the publishers lose nothing, and what cannot be
//! sent in time is dropped.
//!
//! - `bursts`: what the past may cost, for viewers who catch up
//! - `handle`: a running shard as others see it
//! - `load`: how busy it is
//! - `socket`: batched UDP

mod bursts;
mod handle;
mod load;
pub mod socket;

pub use handle::{CommandError, Handle, ShardCounts, ShardEvent, ShardSettings};

use crate::clock::Clock;
use crate::engine::command::Command;
use crate::engine::{Engine, Input};
use crate::media::arena::SendArena;
use bursts::Bursts;
use crossbeam_channel::Receiver;
use load::Load;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use socket::MediaSocket;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::warn;

/// What a shard is asked.
enum Request {
    /// Goes to the engine.
    Command(Command),
    /// What has been counted?
    Count(Box<dyn FnOnce(ShardCounts) + Send>),
    /// Say goodbye to all clients and end.
    Exit,
}

/// One engine with its socket, and the loop that drives it.
struct Shard {
    engine: Engine,
    socket: MediaSocket,
    clock: Clock,
    requests: Receiver<Request>,
    wake: Arc<EventFd>,
    /// What goes out next.
    arena: SendArena,
    /// Takes the answers to what is read while the arena waits for room in the socket.
    spare: SendArena,
    load: Load,
    bursts: Bursts,
    receive_errors: u32,
}

/// What a turn leaves for the next.
struct Turn {
    /// When the engine's timers were looked at.
    timed_at: Instant,
    /// Something is left to be done at once.
    more: bool,
}

impl Shard {
    /// Room for about 800 packets: well under a millisecond of sending, so that the socket is
    /// read often enough, and within the cache of a core.
    const ARENA_BYTES: usize = 1 << 20;
    /// Kept free for the answers to one batch of datagrams.
    const ARENA_RESERVE: usize = 256 << 10;
    /// Batches of datagrams read per turn.
    const BATCHES_MAX: usize = 8;
    /// Requests taken per turn.
    const REQUESTS_MAX: usize = 32;
    /// How long a turn may send before the socket is read again.
    const SENDING_MAX: Duration = Duration::from_millis(2);
    /// The longest wait, whatever the engine says.
    const WAIT_MAX: Duration = Duration::from_secs(1);
    /// The wait for a deadline that was due in the last turn already and still is.
    const WAIT_OVERDUE: Duration = Duration::from_millis(1);
    /// So many failures to receive in a row mean that the socket is lost.
    const RECEIVE_ERRORS_MAX: u32 = 100;

    /// Turns until it is told to end.
    fn run(&mut self, tell: &mut dyn FnMut(ShardEvent)) -> io::Result<()> {
        let mut turn = Turn { timed_at: self.clock.now(), more: true };
        loop {
            self.wait(&turn)?;
            let drained = self.receive()?;
            let exits = self.take_requests();
            let now = self.clock.now();
            self.engine.handle_timeout(now, &mut self.arena);
            if exits {
                // The farewells of all sessions need the whole arena.
                self.transmit();
                self.engine.handle(Input::Command(Command::Stop), now, &mut self.arena);
            }
            let more = self.fan_out();
            self.catch_up();
            while let Some(event) = self.engine.poll() {
                tell(ShardEvent::Engine(event));
            }
            if exits {
                return Ok(());
            }
            turn = Turn { timed_at: now, more: more || !drained || !self.requests.is_empty() };
        }
    }

    /// Waits for a datagram, a request or the engine's deadline.
    fn wait(&mut self, turn: &Turn) -> io::Result<()> {
        let now = self.clock.now();
        self.load.work_ends(now);
        let until_deadline = match self.engine.deadline() {
            None => Self::WAIT_MAX,
            // It was looked at and stays: it must not keep the shard from ever resting.
            Some(deadline) if deadline <= turn.timed_at => Self::WAIT_OVERDUE,
            Some(deadline) => deadline.saturating_duration_since(now).min(Self::WAIT_MAX),
        };
        let timeout = if turn.more { Duration::ZERO } else { until_deadline };
        let mut polled = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if polled[1].any() == Some(true) {
            // Nobody else reads it, so there is something to read.
            let _ = self.wake.read();
        }
        self.load.work_begins(self.clock.now());
        Ok(())
    }

    /// Reads what came in, within bounds; false: more may wait.
    fn receive(&mut self) -> io::Result<bool> {
        for _ in 0..Self::BATCHES_MAX {
            if self.arena.remaining() < Self::ARENA_RESERVE {
                self.transmit();
            }
            let Self { socket, engine, clock, arena, .. } = self;
            match receive_batch(socket, engine, clock, arena) {
                Ok(count) => {
                    self.receive_errors = 0;
                    if count < MediaSocket::BATCH {
                        return Ok(true);
                    }
                }
                Err(error) => {
                    self.receive_errors += 1;
                    warn!(%error, "cannot receive");
                    if self.receive_errors >= Self::RECEIVE_ERRORS_MAX {
                        return Err(error);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes requests, within bounds; true: the shard is to end.
    fn take_requests(&mut self) -> bool {
        for _ in 0..Self::REQUESTS_MAX {
            let Ok(request) = self.requests.try_recv() else { break };
            match request {
                Request::Command(command) => {
                    if self.arena.remaining() < Self::ARENA_RESERVE {
                        self.transmit();
                    }
                    let now = self.clock.now();
                    self.engine.handle(Input::Command(command), now, &mut self.arena);
                }
                Request::Count(reply) => reply(self.counts()),
                Request::Exit => return true,
            }
        }
        false
    }

    /// Sends what waits, for a bounded time; true: more waits.
    fn fan_out(&mut self) -> bool {
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            let eager = self.load.share() < 0.5;
            let more = self.engine.fan_out(now, eager, &mut self.arena);
            self.transmit();
            if !more || self.clock.now() - began >= Self::SENDING_MAX {
                return more || !self.arena.is_empty();
            }
        }
    }

    /// Sends those who catch up what there is time for.
    fn catch_up(&mut self) {
        if self.engine.catching_up() == 0 {
            return;
        }
        let began = self.clock.now();
        let packets_max = self.bursts.affordable(began);
        let packets = self.engine.catch_up(began, packets_max, &mut self.arena);
        self.transmit();
        self.bursts.spent(packets, self.clock.now() - began);
    }

    /// Sends and clears the arena. While the socket has no room, datagrams are still read; their
    /// answers are in the arena afterwards.
    fn transmit(&mut self) {
        if self.arena.is_empty() {
            return;
        }
        let Self { socket, engine, clock, arena, spare, .. } = self;
        socket.send(arena, clock, |socket| {
            // A failure shows again when the socket is read next.
            let _ = receive_batch(socket, engine, clock, spare);
            spare.remaining() >= Self::ARENA_RESERVE
        });
        self.arena.clear();
        std::mem::swap(&mut self.arena, &mut self.spare);
    }

    fn counts(&self) -> ShardCounts {
        ShardCounts {
            received: self.socket.received(),
            sent: self.socket.sent(),
            arena_dropped: self.arena.dropped() + self.spare.dropped(),
            engine: *self.engine.counters(),
            sessions: self.engine.sessions(),
            load: self.load.share(),
        }
    }
}

fn receive_batch(
    socket: &mut MediaSocket,
    engine: &mut Engine,
    clock: &Clock,
    arena: &mut SendArena,
) -> io::Result<usize> {
    let now = clock.now();
    socket.receive(|path, bytes| engine.handle(Input::Datagram { path, bytes }, now, arena))
}
