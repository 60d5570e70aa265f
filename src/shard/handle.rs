//! A running shard as others see it: where commands go in, and its end.

use super::bursts::Bursts;
use super::gauges::{Gauges, Reading};
use super::handshakes::Handshakes;
use super::link::Links;
use super::load::Load;
use super::socket::{MediaSocket, ReceiveReport, SendReport};
use super::tcp::{Connection, Connections, TcpCounts};
use super::{Media, Request, Shard};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::engine::command::{Command, Event, Written};
use crate::engine::report::Counters;
use crate::media::arena::SendArena;
use crate::media::id::SessionId;
use crossbeam_channel::{Sender, TrySendError, bounded};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::eventfd::EventFd;
use nix::unistd::Pid;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tracing::{debug, error};

/// What a shard tells, in its own thread: whoever listens must not wait.
#[derive(Debug, Clone, PartialEq)]
pub enum ShardEvent {
    /// Its engine says so.
    Engine(Event),
    /// The loop itself has failed: its sessions are lost and nobody is served any more. The
    /// process is to end, so that whoever supervises it starts it anew.
    Died {
        /// Which shard.
        shard: usize,
    },
}

/// How a shard runs.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Its number, from 0.
    pub index: usize,
    /// Whether its thread stays on one core.
    pub pinned: bool,
    /// What it reads the time from.
    pub clock: Clock,
    /// How long packets wait at most for others of their picture: the busier it is, the nearer it
    /// comes to that.
    pub batch_wait: Duration,
}

/// What a shard has counted since it started.
#[derive(Debug, Clone, Copy)]
pub struct ShardCounts {
    /// What its socket received.
    pub received: ReceiveReport,
    /// What its socket sent.
    pub sent: SendReport,
    /// What its TCP connections received and sent.
    pub tcp: TcpCounts,
    /// Datagrams that found the send arena full.
    pub arena_dropped: u64,
    /// Packets and datagrams for other shards that found their rings full.
    pub links_dropped: u64,
    /// Datagrams of handshakes that found too many waiting.
    pub handshakes_dropped: u64,
    /// What its engine counted.
    pub engine: Counters,
    /// Sessions there are now.
    pub sessions: usize,
    /// The share of the last tenth of a second that it did not wait: 0 to 1.
    pub load: f32,
}

/// Why a shard did not take a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too many wait already.
    #[error("the shard has no room for another command")]
    Full,
    /// It has ended.
    #[error("the shard has ended")]
    Gone,
}

/// A running shard. Dropping it ends it: its clients are told and its thread is joined.
#[derive(Debug)]
pub struct Handle {
    requests: Sender<Request>,
    media: Sender<Media>,
    wake: Arc<EventFd>,
    gauges: Arc<Gauges>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Commands that may wait: each is taken within milliseconds.
    pub const REQUESTS_MAX: usize = 1024;
    /// Frames that may wait of publishers who do not come by WebRTC: a second of fifty of them.
    pub const MEDIA_MAX: usize = 4096;

    /// Starts a shard on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system has no thread or descriptor left.
    pub fn spawn(
        settings: ShardSettings,
        socket: MediaSocket,
        engine: Engine,
        links: Links,
        mut tell: impl FnMut(ShardEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, taken) = bounded(Self::REQUESTS_MAX);
        let (media, media_taken) = bounded(Self::MEDIA_MAX);
        let wake = Arc::clone(links.wake());
        let gauges = Arc::new(Gauges::default());
        let mut shard = Shard {
            engine,
            socket,
            connections: Connections::new()?,
            connections_ready: false,
            swept: settings.clock.now(),
            load: Load::new(settings.clock.now()),
            batch_wait: settings.batch_wait,
            gauges: Arc::clone(&gauges),
            bursts: Bursts::new(settings.clock.now()),
            publishers_stay_until: settings.clock.now(),
            clock: settings.clock,
            requests: taken,
            media: media_taken,
            links,
            handshakes: Handshakes::default(),
            publishers_moved: 0,
            publishers_ready: [false; MediaSocket::PUBLISHERS_MAX],
            arena: SendArena::new(Shard::ARENA_BYTES),
            spare: SendArena::new(Shard::ARENA_BYTES),
            receive_errors: 0,
        };
        let ShardSettings { index, pinned, .. } = settings;
        let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            if pinned {
                pin(index);
            }
            let ended = catch_unwind(AssertUnwindSafe(|| shard.run(&mut tell)));
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error!(shard = index, %error, "the shard has lost its socket"),
                Err(_) => error!(shard = index, "a fault in code ended the shard"),
            }
            tell(ShardEvent::Died { shard: index });
        })?;
        Ok(Self { requests, media, wake, gauges, thread: Some(thread) })
    }

    /// Hands a command to the engine.
    ///
    /// # Errors
    ///
    /// [`CommandError`] says why it was not taken.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        self.request(Request::Command(command))
    }

    /// Has the shard serve the client of a connection, whose first datagram this is. Where it does
    /// not own the client's session, it hands both to the shard that does.
    ///
    /// # Errors
    ///
    /// [`CommandError`] says why it was not taken; the connection is closed then.
    pub fn connect(&self, connection: Connection, first: Vec<u8>) -> Result<(), CommandError> {
        self.request(Request::Connect(Box::new(connection), first))
    }

    /// Hands over what a publisher has sent that does not come by WebRTC. False: it is lost, and
    /// its viewers need a keyframe.
    pub fn write(&self, session: SessionId, written: Written) -> bool {
        let is_taken = self.media.try_send((session, written)).is_ok();
        self.wake();
        is_taken
    }

    /// Asks for what has been counted; `reply` is called in the shard's thread and must not wait.
    ///
    /// # Errors
    ///
    /// [`CommandError`] says why the question was not taken.
    pub fn count(
        &self,
        reply: impl FnOnce(ShardCounts) + Send + 'static,
    ) -> Result<(), CommandError> {
        self.request(Request::Count(Box::new(reply)))
    }

    /// How it fares, as of the last tenth of a second.
    pub fn gauges(&self) -> Reading {
        self.gauges.read()
    }

    fn request(&self, request: Request) -> Result<(), CommandError> {
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => CommandError::Full,
            TrySendError::Disconnected(_) => CommandError::Gone,
        })?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // It fails only when 2^64 wakes wait, and then the shard wakes anyway.
        let _ = self.wake.write(1);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Waits for room where commands pile up; fails when the shard has ended, which is fine.
        self.wake();
        let _ = self.requests.send(Request::Exit);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeps this thread on one of the cores that the process may use.
fn pin(index: usize) {
    let this_thread = Pid::from_raw(0);
    let pinned = sched_getaffinity(this_thread).and_then(|allowed| {
        let cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        let cores: Vec<usize> = cores.collect();
        let core = cores.get(index % cores.len().max(1)).ok_or(nix::Error::EINVAL)?;
        let mut only = CpuSet::new();
        only.set(*core)?;
        sched_setaffinity(this_thread, &only)
    });
    if let Err(error) = pinned {
        debug!(shard = index, %error, "not pinned to a core");
    }
}
