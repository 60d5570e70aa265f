//! The thread that all players live in: epoll, and timers for those who come or try again.

use super::CrowdOptions;
use super::connection::{Connection, Progress};
use super::follower::Follower;
use super::listing::{Listings, resolve};
use super::playback::{Playback, micros};
use super::response::Head;
use super::stats::{Outcome, Span, Status, Tally};
use crate::hls::gunzip;
use crate::hls::playlist::Multivariant;
use crate::source::now_micros;
use crate::swarm::{Histogram, Usage, thread_cpu};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sockets told ready by one system call.
const EVENTS: usize = 1_024;
/// Longest wait for them, in milliseconds.
const WAIT_MS: u8 = 10;
/// Read at once.
const SCRATCH_BYTES: usize = 256 * 1_024;
/// Until a request that failed is made again, unless the server says otherwise.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Connections of a player: two for each of at most two renditions.
const SLOTS: usize = 4;
/// Reasons that are kept.
const FAULTS_MAX: usize = 8;

/// What the thread is told.
pub(super) enum Command {
    Measure,
    End,
}

/// One player.
struct Client {
    /// By rendition: one for the playlist and one for media.
    connections: [Option<Connection>; SLOTS],
    followers: Vec<Follower>,
    playback: Playback,
    started: Instant,
    has_begun: bool,
    stalls: u64,
    stalled: Duration,
    stalled_while_measured: bool,
}

/// The thread's state.
pub(super) struct EventLoop {
    options: CrowdOptions,
    address: SocketAddr,
    host: String,
    commands: Receiver<Command>,
    status: Arc<Mutex<Status>>,
    epoll: Epoll,
    clients: Vec<Client>,
    listings: Listings,
    /// Playlists of the renditions, by the text that names them.
    renditions: HashMap<Vec<u8>, Rc<[Rc<str>]>>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    origin: (Instant, i64),
    tally: Tally,
    joining: Option<Span>,
    span: (Instant, Option<Usage>, Duration),
    startup: Histogram,
    faults: Vec<String>,
    scratch: Vec<u8>,
    target: String,
    request: Vec<u8>,
}

impl EventLoop {
    pub(super) fn new(
        options: CrowdOptions,
        address: SocketAddr,
        commands: Receiver<Command>,
        status: Arc<Mutex<Status>>,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let host = options.url.host_str().unwrap_or_default();
        let host = format!("{host}:{}", address.port());
        let server = options.server_process.map(Usage::of).transpose()?;
        Ok(Self {
            address,
            host,
            commands,
            status,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            clients: Vec::with_capacity(options.clients),
            listings: Listings::default(),
            renditions: HashMap::new(),
            timers: BinaryHeap::new(),
            origin: (now, i64::try_from(now_micros())?),
            tally: Tally::default(),
            joining: None,
            span: (now, server, thread_cpu()),
            startup: Histogram::default(),
            faults: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            target: String::new(),
            request: Vec::new(),
            options,
        })
    }

    /// Runs until it is told to end.
    pub(super) fn run(mut self) -> anyhow::Result<Outcome> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let started = Instant::now();
        let mut status_at = started;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Measure) => self.measure()?,
                Ok(Command::End) => return self.end(),
                Err(_) => {}
            }
            let count = match self.epoll.wait(&mut events, WAIT_MS) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for event in events.iter().take(count) {
                self.ready(event.data() as usize, event.events(), now);
            }
            self.admit(started, now);
            while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                let Some(Reverse((_, token))) = self.timers.pop() else { break };
                self.drive(token, now);
            }
            if status_at <= now {
                status_at = now + STATUS_INTERVAL;
                self.report();
            }
        }
    }

    /// Lets those in whose turn it is.
    fn admit(&mut self, started: Instant, now: Instant) {
        let due = now.duration_since(started).as_secs_f64() * self.options.rate;
        let due = self.options.clients.min(due as usize + 1);
        while self.clients.len() < due {
            self.clients.push(Client {
                connections: [const { None }; SLOTS],
                followers: Vec::new(),
                playback: Playback::new(0, now),
                started: now,
                has_begun: false,
                stalls: 0,
                stalled: Duration::ZERO,
                stalled_while_measured: false,
            });
            self.drive((self.clients.len() - 1) * SLOTS, now);
        }
    }

    /// Makes the request that this connection is for, if there is one to make.
    fn drive(&mut self, token: usize, now: Instant) {
        let (at, slot) = (token / SLOTS, token % SLOTS);
        let Some(client) = self.clients.get_mut(at) else { return };
        let connection = client.connections.get(slot).and_then(Option::as_ref);
        if connection.is_some_and(|connection| connection.is_asking) {
            return;
        }
        self.target.clear();
        let is_media = slot % 2 == 1;
        let wanted = match client.followers.get_mut(slot / 2) {
            Some(follower) if is_media => follower.ask_media(&mut self.target),
            Some(follower) => follower.ask_playlist(&mut self.target),
            None if slot == 0 => {
                self.target.push_str(self.options.url.path());
                if let Some(query) = self.options.url.query() {
                    self.target.push('?');
                    self.target.push_str(query);
                }
                true
            }
            None => false,
        };
        if !wanted {
            return;
        }
        self.request.clear();
        let encoding = if self.options.gzip && !is_media { "gzip" } else { "identity" };
        for part in ["GET ", &self.target, " HTTP/1.1\r\nhost: ", &self.host] {
            self.request.extend_from_slice(part.as_bytes());
        }
        for part in ["\r\naccept-encoding: ", encoding, "\r\n\r\n"] {
            self.request.extend_from_slice(part.as_bytes());
        }
        if let Err(error) = self.send(token, !is_media, now) {
            self.fail(token, error.to_string(), now);
        }
    }

    /// Sends what `request` holds, on a new connection where there is none.
    fn send(&mut self, token: usize, keep: bool, now: Instant) -> nix::Result<()> {
        let client = self.clients.get_mut(token / SLOTS);
        let slot = client.and_then(|client| client.connections.get_mut(token % SLOTS));
        let Some(slot) = slot else { return Ok(()) };
        if slot.is_none() {
            let connection = Connection::open(self.address, now)?;
            let event = EpollEvent::new(interest(connection.wants_to_write()), token as u64);
            self.epoll.add(connection.socket(), event)?;
            *slot = Some(connection);
        }
        let Some(connection) = slot else { return Ok(()) };
        let wanted = connection.wants_to_write();
        connection.ask(&self.request, keep, now)?;
        if connection.wants_to_write() != wanted {
            let mut event = EpollEvent::new(interest(!wanted), token as u64);
            self.epoll.modify(connection.socket(), &mut event)?;
        }
        Ok(())
    }

    fn ready(&mut self, token: usize, events: EpollFlags, now: Instant) {
        let client = self.clients.get_mut(token / SLOTS);
        let slot = client.and_then(|client| client.connections.get_mut(token % SLOTS));
        let Some(connection) = slot.and_then(Option::as_mut) else { return };
        if connection.wants_to_write() && events.contains(EpollFlags::EPOLLOUT) {
            let written = connection.writable().and_then(|()| {
                let mut event =
                    EpollEvent::new(interest(connection.wants_to_write()), token as u64);
                self.epoll.modify(connection.socket(), &mut event)
            });
            if let Err(error) = written {
                return self.fail(token, error.to_string(), now);
            }
        }
        if !events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        match connection.readable(&mut self.scratch, &mut self.tally.bytes) {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Done(head)) => self.answered(token, &head, now),
            Err(_) if !connection.is_asking => self.close(token),
            Err(error) => self.fail(token, error, now),
        }
    }

    fn close(&mut self, token: usize) {
        let client = self.clients.get_mut(token / SLOTS);
        if let Some(slot) = client.and_then(|client| client.connections.get_mut(token % SLOTS)) {
            *slot = None;
        }
    }

    /// A request has come to nothing.
    fn fail(&mut self, token: usize, reason: String, now: Instant) {
        *self.tally.broken.entry(reason).or_default() += 1;
        self.close(token);
        self.give_up(token, RETRY_AFTER, now);
    }

    /// What was asked for does not come: media are done without, playlists asked for again.
    fn give_up(&mut self, token: usize, retry_after: Duration, now: Instant) {
        let (at, slot) = (token / SLOTS, token % SLOTS);
        let Some(client) = self.clients.get_mut(at) else { return };
        if slot % 2 == 1
            && let Some(follower) = client.followers.get_mut(slot / 2)
        {
            follower.lose_media();
        }
        self.timers.push(Reverse((now + retry_after, token)));
    }

    fn answered(&mut self, token: usize, head: &Head, now: Instant) {
        let (at, slot) = (token / SLOTS, token % SLOTS);
        if head.status == 200 {
            match (slot % 2, self.clients.get(at).is_some_and(|it| it.followers.is_empty())) {
                (1, _) => self.take_media(at, slot / 2, now),
                (_, true) => self.take_multivariant(at, head, now),
                (_, false) => self.take_playlist(at, slot / 2, head, now),
            }
        } else {
            *self.tally.refused.entry(head.status).or_default() += 1;
            let wait = head.retry_after_s.map_or(RETRY_AFTER, Duration::from_secs);
            self.give_up(token, wait, now);
        }
        if head.close {
            self.close(token);
        }
        if head.status == 200 {
            // Of the other connections of this rendition, too: a playlist says what media to load.
            self.drive(token, now);
            self.drive(token ^ 1, now);
        }
    }

    fn take_multivariant(&mut self, at: usize, head: &Head, now: Instant) {
        self.tally.playlists += 1;
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(connection) = &mut client.connections[0] else { return };
        let text = std::mem::take(&mut connection.kept);
        let renditions = match self.renditions.get(&text) {
            Some(known) => known.clone(),
            None => match renditions(&text, head, &self.options) {
                Ok(found) => self.renditions.entry(text).or_insert(found).clone(),
                Err(fault) => return self.fault(at, fault, now),
            },
        };
        let targets = renditions.iter().enumerate();
        let skip = self.options.skip;
        client.followers =
            targets.map(|(number, target)| Follower::new(target.clone(), number, skip)).collect();
        client.playback = Playback::new(client.followers.len(), now);
        for slot in (2..client.followers.len() * 2).step_by(2) {
            self.drive(at * SLOTS + slot, now);
        }
    }

    /// A playlist that is none: it is asked for again later.
    fn fault(&mut self, at: usize, fault: String, now: Instant) {
        *self.tally.broken.entry("a playlist that cannot be read".to_owned()).or_default() += 1;
        if self.faults.len() < FAULTS_MAX && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
        self.close(at * SLOTS);
        self.timers.push(Reverse((now + RETRY_AFTER, at * SLOTS)));
    }

    fn take_playlist(&mut self, at: usize, rendition: usize, head: &Head, now: Instant) {
        self.tally.playlists += 1;
        let Some(client) = self.clients.get_mut(at) else { return };
        let connection = client.connections.get_mut(rendition * 2).and_then(Option::as_mut);
        let Some(connection) = connection else { return };
        let Some(follower) = client.followers.get_mut(rendition) else { return };
        let waited = micros(now.duration_since(connection.asked_at));
        let text = &connection.kept;
        let listing = match self.listings.get(follower.playlist(), head, text) {
            Ok(listing) => listing,
            Err(fault) => return self.fault(at, fault.to_string(), now),
        };
        if follower.blocks() && waited > 2 * listing.part_us {
            self.tally.late += 1;
        }
        let loaded = follower.take_listing(&listing, &mut client.playback, now);
        self.credit(at, loaded.map(|it| it.ends), now);
    }

    fn take_media(&mut self, at: usize, rendition: usize, now: Instant) {
        self.tally.files += 1;
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(follower) = client.followers.get_mut(rendition) else { return };
        let loaded = follower.take_media(&mut client.playback, now);
        self.credit(at, loaded.map(|it| it.ends), now);
    }

    /// Counts what a part that has come says.
    fn credit(&mut self, at: usize, ends: Option<i64>, now: Instant) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let wall = self.origin.1 + micros(now.duration_since(self.origin.0));
        let ago = |then: i64| u64::try_from(wall - then).unwrap_or(0);
        if let Some(ends) = ends {
            self.tally.edge.add(ago(ends));
        }
        if !client.has_begun && client.playback.has_begun() {
            client.has_begun = true;
            self.startup.add(now.duration_since(client.started).as_micros() as u64);
        }
        if let (Some(position), true) = (client.playback.position(), ends.is_some()) {
            self.tally.played.add(ago(position));
        }
        count_stalls(client, &mut self.tally, self.joining.is_some());
    }

    fn report(&self) {
        let failures = self.tally.refused.values().chain(self.tally.broken.values()).sum();
        let status = Status {
            playing: self.clients.iter().filter(|client| client.has_begun).count(),
            started: self.clients.len(),
            responses: self.tally.playlists + self.tally.files,
            stalls: self.tally.stalls,
            failures,
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Ends a span, and begins the next.
    fn span(&mut self) -> anyhow::Result<Span> {
        let (began, server, cpu) = self.span;
        let now = Instant::now();
        let usage = self.options.server_process.map(Usage::of).transpose()?;
        self.span = (now, usage, thread_cpu());
        Ok(Span {
            tally: std::mem::take(&mut self.tally),
            began,
            ended: now,
            server: server.zip(usage),
            generator_cpu: self.span.2.saturating_sub(cpu),
        })
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for client in &mut self.clients {
            client.playback.advance(now);
            count_stalls(client, &mut self.tally, false);
        }
        let span = self.span()?;
        self.joining.get_or_insert(span);
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Outcome> {
        let now = Instant::now();
        let is_measured = self.joining.is_some();
        let playing = |client: &Client| client.playback.position().is_some();
        for client in &mut self.clients {
            client.playback.advance(now);
        }
        let playing = self.clients.iter().filter(|client| playing(client)).count();
        for client in &mut self.clients {
            client.playback.finish(now);
            count_stalls(client, &mut self.tally, is_measured);
        }
        let steady = self.span()?;
        let connections = self.clients.iter().flat_map(|client| &client.connections);
        Ok(Outcome {
            clients: self.clients.len(),
            playing,
            stalled_clients: self.clients.iter().filter(|it| it.stalled_while_measured).count(),
            renditions: self.clients.iter().map(|it| it.followers.len()).max().unwrap_or(0),
            connections: connections.flatten().count(),
            texts: self.listings.read,
            faults: self.faults,
            joining: self.joining.unwrap_or_else(|| steady.clone()),
            steady,
            startup: self.startup,
        })
    }
}

/// Counts what stalls a player has had since it was last looked at.
fn count_stalls(client: &mut Client, tally: &mut Tally, is_measured: bool) {
    let (stalls, stalled) = (client.playback.stalls, client.playback.stalled);
    tally.stalls += stalls - client.stalls;
    tally.stalled += stalled.saturating_sub(client.stalled);
    client.stalled_while_measured |= is_measured && stalls > client.stalls;
    (client.stalls, client.stalled) = (stalls, stalled);
}

fn interest(wants_to_write: bool) -> EpollFlags {
    let read = EpollFlags::EPOLLIN;
    if wants_to_write { read | EpollFlags::EPOLLOUT } else { read }
}

/// The playlists that a player follows: the first variant, and what sounds with it.
fn renditions(text: &[u8], head: &Head, options: &CrowdOptions) -> Result<Rc<[Rc<str>]>, String> {
    let unpacked = head.gzip.then(|| gunzip(text)).transpose().map_err(|it| it.to_string())?;
    let playlist = Multivariant::read(unpacked.as_deref().unwrap_or(text));
    let playlist = playlist.map_err(|fault| fault.to_string())?;
    let variant = playlist.variants.first().ok_or("no variant")?;
    let of_group = |group: &String| {
        let ours = playlist.media.iter().filter(|media| media.group == *group);
        ours.max_by_key(|media| media.is_default).and_then(|media| media.uri.clone())
    };
    let sound = variant.audio.as_ref().filter(|_| options.audio).and_then(of_group);
    let uris = [Some(variant.uri.clone()), sound.filter(|uri| *uri != variant.uri)];
    let target = |uri: String| resolve(options.url.path(), &uri).into();
    Ok(uris.into_iter().flatten().map(target).collect())
}
