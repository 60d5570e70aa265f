//! The shell around an engine: one thread per shard, with a socket of the shared UDP port.
//!
//! The loop decides nothing about media. It keeps time, moves bytes and bounds each step, so that
//! under overload reading comes before sending: the publishers lose nothing, and what cannot be
//! sent in time is dropped.
//!
//! - `gauges`: what it says of itself, for others to read at any time
//! - `bursts`: what the past may cost, for viewers who catch up
//! - `connections`: what the loop does with TCP connections
//! - `handle`: a running shard as others see it
//! - `handshakes`: DTLS datagrams that wait for the media to be done
//! - `link`: the way from shard to shard
//! - `load`: how busy it is
//! - `socket`: batched UDP
//! - `tcp`: connections of clients without UDP

mod bursts;
mod connections;
pub mod gauges;
mod handle;
mod handshakes;
mod link;
mod load;
pub mod socket;
pub mod tcp;

pub use handle::{CommandError, Handle, ShardCounts, ShardEvent, ShardSettings};
pub use link::Links;

use crate::clock::Clock;
use crate::engine::command::{Command, Written};
use crate::engine::message::Message;
use crate::engine::{Engine, Input};
use crate::media::arena::{Path, SendArena};
use crate::media::id::SessionId;
use bursts::Bursts;
use crossbeam_channel::Receiver;
use gauges::Gauges;
use handshakes::Handshakes;
use load::{Audience, Load};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket::MediaSocket;
use std::array;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tcp::{Connection, Connections};
use tracing::warn;

/// What a publisher that does not come by WebRTC has sent.
type Media = (SessionId, Written);

/// What a shard is asked.
enum Request {
    /// Goes to the engine.
    Command(Command),
    /// What has been counted?
    Count(Box<dyn FnOnce(ShardCounts) + Send>),
    /// Serve the client of this connection, whose first datagram this is.
    Connect(Box<Connection>, Vec<u8>),
    /// Say goodbye to all clients and end.
    Exit,
}

/// One engine with its socket, and the loop that drives it.
struct Shard {
    engine: Engine,
    socket: MediaSocket,
    connections: Connections,
    /// One of the connections is ready.
    connections_ready: bool,
    /// When connections that serve nobody were looked for last.
    swept: Instant,
    clock: Clock,
    requests: Receiver<Request>,
    /// Beside them, so that no flood of media keeps them out.
    media: Receiver<Media>,
    links: Links,
    handshakes: Handshakes,
    /// The publishers' sockets are those of this count of [`Engine::publishers_moved`].
    publishers_moved: u64,
    /// Before that they stay as they are, whatever moves.
    publishers_stay_until: Instant,
    /// Which of the publishers' sockets have something to read.
    publishers_ready: [bool; MediaSocket::PUBLISHERS_MAX],
    /// What goes out next.
    arena: SendArena,
    /// Takes the answers to what is read while the arena waits for room in the socket.
    spare: SendArena,
    load: Load,
    /// The longest that packets wait for others of their picture.
    batch_wait: Duration,
    gauges: Arc<Gauges>,
    bursts: Bursts,
    receive_errors: u32,
}

/// What a turn leaves for the next.
struct Turn {
    /// When the engine's timers were looked at.
    timed_at: Instant,
    /// Something is left to be done at once.
    more: bool,
    /// Something waits for room in the ring of another shard.
    owes_others: bool,
}

/// What takes in datagrams: media at once, handshakes when it is their turn.
struct Intake<'a> {
    engine: &'a mut Engine,
    handshakes: &'a mut Handshakes,
    now: Instant,
    arena: &'a mut SendArena,
}

impl Intake<'_> {
    /// A datagram from the socket of a publisher, which may be from somebody else: it arrived when
    /// the socket was not connected yet, and perhaps at the wrong shard.
    fn datagram_at(&mut self, publisher: Option<Path>, path: Path, bytes: &mut [u8]) {
        if publisher.is_some_and(|own| own.remote != path.remote) && !self.engine.owns(path) {
            self.engine.scatter(path, bytes);
        } else {
            self.datagram(path, bytes);
        }
    }

    fn datagram(&mut self, path: Path, bytes: &mut [u8]) {
        if self.engine.shakes_hands(path, bytes) {
            self.handshakes.push(path, bytes);
        } else {
            self.engine.handle(Input::Datagram { path, bytes }, self.now, self.arena);
        }
    }

    fn message(&mut self, from: usize, message: Message) {
        match message {
            Message::Datagram { path, bytes } if self.engine.shakes_hands(path, &bytes) => {
                self.handshakes.push(path, &bytes);
            }
            message => {
                self.engine.handle(Input::Message { from, message }, self.now, self.arena);
            }
        }
    }
}

impl Shard {
    /// Room for about 800 packets: well under a millisecond of sending, so that the socket is
    /// read often enough, and within the cache of a core.
    const ARENA_BYTES: usize = 384 << 10;
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
    /// Handshakes take at most so much of a turn, after its media.
    const HANDSHAKING_MAX: Duration = Duration::from_millis(1);
    /// How long publishers' sockets stay as they are: what arrives in the moment between binding
    /// and connecting one takes a detour. Until it has its own a flood pushes its packets out.
    const PUBLISHERS_STAY: Duration = Duration::from_millis(100);
    /// Frames taken per turn of publishers who do not come by WebRTC.
    const MEDIA_MAX: usize = 64;
    /// Messages of other shards taken per turn.
    const MESSAGES_MAX: usize = 256;
    /// So many failures to receive in a row mean that the socket is lost.
    const RECEIVE_ERRORS_MAX: u32 = 100;

    /// Turns until it is told to end.
    fn run(&mut self, tell: &mut dyn FnMut(ShardEvent)) -> io::Result<()> {
        let mut turn = Turn { timed_at: self.clock.now(), more: true, owes_others: false };
        loop {
            self.wait(&turn)?;
            self.take_messages();
            let drained = self.receive()?;
            let mut exits = self.take_requests();
            exits |= self.take_media();
            // Whoever asks for much again has filled the arena; others' reports need room in it.
            self.make_room();
            let now = self.clock.now();
            self.engine.handle_timeout(now, &mut self.arena);
            if exits {
                // The farewells of all sessions need the whole arena.
                self.transmit();
                self.engine.handle(Input::Command(Command::Stop), now, &mut self.arena);
            }
            let mut more = self.fan_out();
            more |= self.shake_hands();
            self.catch_up();
            let owes_others = self.send_messages();
            self.follow_publishers()?;
            self.sweep_connections(now);
            while let Some(event) = self.engine.poll() {
                tell(ShardEvent::Engine(event));
            }
            if exits {
                return Ok(());
            }
            more |= !drained
                || !self.requests.is_empty()
                || !self.media.is_empty()
                || self.links.has_mail();
            turn = Turn { timed_at: now, more, owes_others };
        }
    }

    /// Waits for a datagram, a request, a message or the engine's deadline.
    fn wait(&mut self, turn: &Turn) -> io::Result<()> {
        let now = self.clock.now();
        if self.load.work_ends(now) {
            self.set_gauges();
            self.engine.set_batch_wait(self.load.patience(self.batch_wait));
        }
        let until_deadline = match self.engine.deadline() {
            None => Self::WAIT_MAX,
            // It was looked at and stays: it must not keep the shard from ever resting.
            Some(deadline) if deadline <= turn.timed_at => Self::WAIT_OVERDUE,
            Some(deadline) => deadline.saturating_duration_since(now).min(Self::WAIT_MAX),
        };
        let timeout = match turn {
            Turn { more: true, .. } => Duration::ZERO,
            Turn { owes_others: true, .. } => until_deadline.min(Self::WAIT_OVERDUE),
            _ => until_deadline,
        };
        let Self { socket, connections, links, publishers_ready, .. } = self;
        let mut publishers = socket.publishers();
        let count = 3 + publishers.len();
        let mut polled: [PollFd<'_>; 3 + MediaSocket::PUBLISHERS_MAX] = array::from_fn(|at| {
            let fd = match at {
                0 => socket.as_fd(),
                1 => links.wake().as_fd(),
                2 => connections.as_fd(),
                _ => publishers.next().unwrap_or(socket.as_fd()),
            };
            PollFd::new(fd, PollFlags::POLLIN)
        });
        match ppoll(&mut polled[..count], Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (ready, polled) in publishers_ready.iter_mut().zip(&polled[3..count]) {
            *ready = polled.any() == Some(true);
        }
        if polled[1].any() == Some(true) {
            // Nobody else reads it, so there is something to read.
            let _ = links.wake().read();
        }
        self.connections_ready = polled[2].any() == Some(true);
        self.load.work_begins(self.clock.now());
        Ok(())
    }

    /// Reads what came in, within bounds, publishers first; false: more may wait.
    fn receive(&mut self) -> io::Result<bool> {
        let mut drained = true;
        for index in 0..MediaSocket::PUBLISHERS_MAX {
            if std::mem::take(&mut self.publishers_ready[index]) {
                drained &= self.receive_batches(Some(index))?;
            }
        }
        drained &= self.receive_from_connections();
        Ok(self.receive_batches(None)? && drained)
    }

    /// Sees to it that the answers to one batch of datagrams find room in the arena.
    fn make_room(&mut self) {
        if self.arena.remaining() < Self::ARENA_RESERVE {
            self.transmit();
        }
    }

    /// Reads one socket: that of a publisher, or the one that serves everybody.
    fn receive_batches(&mut self, publisher: Option<usize>) -> io::Result<bool> {
        for _ in 0..Self::BATCHES_MAX {
            self.make_room();
            let Self { socket, engine, handshakes, clock, arena, .. } = self;
            let only = publisher.and_then(|index| socket.publisher(index));
            let mut intake = Intake { engine, handshakes, now: clock.now(), arena };
            let take = |path: Path, bytes: &mut [u8]| intake.datagram_at(only, path, bytes);
            let received = match publisher {
                Some(index) => Ok(socket.receive_from_publisher(index, take)),
                None => socket.receive(take),
            };
            match received {
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

    /// Takes what other shards have sent, within bounds.
    fn take_messages(&mut self) {
        for _ in 0..Self::MESSAGES_MAX {
            let Some((from, mail)) = self.links.receive() else { return };
            self.make_room();
            let now = self.clock.now();
            let Self { engine, handshakes, connections, arena, .. } = self;
            let mut intake = Intake { engine, handshakes, now, arena };
            let message = mail.unpack(connections);
            intake.message(from, message);
        }
    }

    /// Sends what the engine has for other shards; true: some of it waits for room.
    fn send_messages(&mut self) -> bool {
        while let Some((to, message)) = self.engine.poll_message() {
            let mail = self.with_its_connection(message);
            self.links.send(to, mail);
        }
        self.links.flush()
    }

    /// Goes on with handshakes for a bounded time; true: more wait.
    fn shake_hands(&mut self) -> bool {
        if self.handshakes.is_empty() {
            return false;
        }
        let began = self.clock.now();
        let mut now = began;
        while let Some((path, mut bytes)) = self.handshakes.pop() {
            self.make_room();
            let input = Input::Datagram { path, bytes: &mut bytes };
            self.engine.handle(input, now, &mut self.arena);
            self.handshakes.done(bytes);
            now = self.clock.now();
            if now - began >= Self::HANDSHAKING_MAX {
                break;
            }
        }
        self.transmit();
        self.load.joining(self.clock.now() - began);
        !self.handshakes.is_empty()
    }

    /// Gives publishers sockets of their own where they send from now.
    fn follow_publishers(&mut self) -> io::Result<()> {
        let (moved, now) = (self.engine.publishers_moved(), self.clock.now());
        if moved == self.publishers_moved || now < self.publishers_stay_until {
            return Ok(());
        }
        self.publishers_moved = moved;
        self.publishers_stay_until = now + Self::PUBLISHERS_STAY;
        // What is in the buffers goes with the sockets that are closed.
        let publishers = self.socket.publishers().len();
        for index in 0..publishers {
            self.receive_batches(Some(index))?;
        }
        self.socket.set_publishers(self.engine.publisher_paths());
        Ok(())
    }

    /// Takes requests, within bounds; true: the shard is to end.
    fn take_requests(&mut self) -> bool {
        for _ in 0..Self::REQUESTS_MAX {
            let Ok(request) = self.requests.try_recv() else { break };
            match request {
                Request::Command(command) => {
                    self.make_room();
                    let now = self.clock.now();
                    self.engine.handle(Input::Command(command), now, &mut self.arena);
                }
                Request::Count(reply) => reply(self.counts()),
                Request::Connect(connection, first) => self.connect(*connection, first),
                Request::Exit => return true,
            }
        }
        false
    }

    /// Takes what publishers have sent who do not come by WebRTC, within bounds; true: the shard is
    /// to end.
    fn take_media(&mut self) -> bool {
        for _ in 0..Self::MEDIA_MAX {
            let Ok((session, written)) = self.media.try_recv() else { break };
            // Whoever has begun just now may still wait among the requests: without its beginning
            // it would lose its first keyframe. All that came before it are as many as may wait.
            for _ in 0..Handle::REQUESTS_MAX.div_ceil(Self::REQUESTS_MAX) {
                if self.engine.is_written(session) || self.requests.is_empty() {
                    break;
                }
                if self.take_requests() {
                    return true;
                }
            }
            let now = self.clock.now();
            self.engine.handle(Input::Written(session, written), now, &mut self.arena);
        }
        false
    }

    /// Sends what waits, for a bounded time; true: more waits.
    fn fan_out(&mut self) -> bool {
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            let more = self.engine.fan_out(now, &mut self.arena);
            self.transmit();
            self.note_lateness();
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
        let took = self.clock.now() - began;
        self.bursts.spent(packets, took);
        self.load.joining(took);
    }

    /// Sends and clears the arena. While the socket has no room, datagrams are still read; their
    /// answers are in the arena afterwards.
    fn transmit(&mut self) {
        if self.arena.is_empty() {
            return;
        }
        if self.arena.has_tcp() {
            self.connections.send(&self.arena);
        }
        let Self { socket, engine, handshakes, clock, arena, spare, .. } = self;
        socket.send(arena, clock, |socket| {
            let mut intake = Intake { engine, handshakes, now: clock.now(), arena: spare };
            let publishers = socket.publishers().len();
            for index in 0..publishers {
                let only = socket.publisher(index);
                socket.receive_from_publisher(index, |path, bytes| {
                    intake.datagram_at(only, path, bytes);
                });
            }
            // A failure shows again when the socket is read next.
            let _ = socket.receive(|path, bytes| intake.datagram(path, bytes));
            spare.remaining() >= Self::ARENA_RESERVE
        });
        self.arena.clear();
        std::mem::swap(&mut self.arena, &mut self.spare);
        self.tell_backlogs();
    }

    /// How late the batches are that have now been served completely.
    fn note_lateness(&mut self) {
        if let Some(arrived) = self.engine.take_served() {
            self.load.served(self.clock.now().saturating_duration_since(arrived));
        }
    }

    fn set_gauges(&mut self) {
        let (viewers, publishers) = self.engine.audience();
        // What strangers send too much of closes no gate; who catches up does not cost yet what a
        // viewer does.
        let dropped = self.socket.sent().overflowed;
        let viewers = viewers.saturating_sub(self.engine.catching_up());
        let audience = Audience { viewers, publishers, dropped };
        self.gauges.set(self.load.reading(audience));
    }

    fn counts(&self) -> ShardCounts {
        ShardCounts {
            received: self.socket.received(),
            sent: self.socket.sent(),
            tcp: self.connections.counts(),
            arena_dropped: self.arena.dropped() + self.spare.dropped(),
            links_dropped: self.links.dropped(),
            handshakes_dropped: self.handshakes.dropped(),
            engine: *self.engine.counters(),
            sessions: self.engine.sessions(),
            load: self.load.share(),
        }
    }
}
