//! All that one shard decides: sessions, streams and who gets which packet; still pure.
//!
//! An engine is a function of inputs and time. The shard, the simulator and the fuzzer drive it
//! alike: they hand in datagrams and commands, lend it a send arena, and ask when to come again.
//!
//! - `abroad`: streams that another shard's engine has the publisher of
//! - `backlog`: viewers whose connection takes less than they are sent
//! - `catch_up`: what a new viewer missed, as a burst
//! - `clock`: what the timestamps stand for that viewers see
//! - `command`: what others may ask, and what an engine tells
//! - `demux`: datagram -> session
//! - `fan_out`: batches to viewers
//! - `find`: whose a datagram is; sessions are claimed there
//! - `foreign`: addresses of other shards' sessions
//! - `held`: what an engine holds, for bounds and leaks
//! - `made`: layers that are made here of what a publisher sends
//! - `message`: what the engines of one server tell each other
//! - `peer`: one session: transport and role
//! - `probe`: sends viewers more than their media for a moment, to learn what their path carries
//! - `publication`: publishers whose media comes as packets made here
//! - `publishers`: whose media a stream is, where from, and what it is asked for
//! - `report`: what is live, as plain data
//! - `selection`: which layer viewers are sent
//! - `sound`: what sound takes of a link
//! - `stream`: one stream: its router, publisher and viewers
//! - `tap`: what a stream gives to those who package it
//! - `told`: what a viewer's client was told of its layers, and whether there is news
//! - `timers`: who is to be looked at when
//! - `tests`: sessions and their addresses

mod abroad;
mod backlog;
mod catch_up;
mod clock;
pub mod command;
pub mod demux;
mod fan_out;
mod find;
mod foreign;
pub mod held;
pub mod made;
pub mod message;
mod peer;
mod probe;
mod publication;
mod publishers;
pub mod report;
mod selection;
mod sound;
mod stream;
pub mod tap;
#[cfg(test)]
mod tests;
pub mod timers;
mod told;

use crate::media::arena::{Path, SendArena};
use crate::media::id::{SessionId, StreamName};
use crate::media::time::Epoch;
use crate::peer::identity::Identity;
use crate::peer::transport::{Received, State, Timeouts};
use crate::router::RouterSettings;
use abroad::Abroad;
pub use backlog::Backlog;
use catch_up::CatchUps;
use command::{Claims, Command, EndReason, Event, Role, Written};
use demux::Demux;
use find::Found;
use foreign::Foreign;
use message::Message;
use peer::{Peer, Side};
use report::Counters;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::Stream;
use tap::{Tapping, Taps};
use timers::Timers;
use tracing::{error, info};

/// How an engine behaves; the reasons stand beside the options of the same names.
#[derive(Debug, Clone, Copy)]
pub struct EngineSettings {
    /// Forwarding.
    pub router: RouterSettings,
    /// How long a handshake may take and a client may be silent.
    pub timeouts: Timeouts,
    /// How long a publisher may send nothing.
    pub publisher_silence: Duration,
    /// How long viewers stay where their publisher has left.
    pub grace: Duration,
    /// The part of a viewer's rate that may go to retransmissions.
    pub rtx_share: f64,
}

/// What goes into an engine.
pub enum Input<'a> {
    /// A datagram; it is opened in place.
    Datagram {
        /// Where it came from and which of our addresses it came to.
        path: Path,
        /// Its bytes.
        bytes: &'a mut [u8],
    },
    /// Somebody's wish.
    Command(Command),
    /// What a publisher that does not come by WebRTC has sent.
    Written(SessionId, Written),
    /// How it stands with what waits for a client's TCP connection to take it.
    Backlog {
        /// Which connection.
        path: Path,
        /// How it stands.
        backlog: Backlog,
    },
    /// What another shard's engine tells.
    Message {
        /// The number of that shard.
        from: usize,
        /// What it tells.
        message: Message,
    },
}

/// Which of a server's shards an engine decides for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// How many there are.
    pub shards: usize,
}

impl Place {
    /// The only shard there is.
    pub const ALONE: Self = Self { shard: 0, shards: 1 };
}

/// One shard's sessions and streams.
pub struct Engine {
    settings: EngineSettings,
    place: Place,
    identity: Arc<Identity>,
    epoch: Epoch,
    claims: Box<dyn Claims>,
    peers: Slab<Peer>,
    streams: Slab<Stream>,
    names: HashMap<StreamName, usize>,
    demux: Demux,
    /// Streams by the session that writes them, where that does not come by WebRTC.
    publications: HashMap<SessionId, usize>,
    timers: Timers,
    /// Streams with packets that wait.
    waiting: Vec<usize>,
    /// When the oldest packet arrived that has been served to all, since this was last asked.
    served: Option<Instant>,
    catch_ups: CatchUps,
    events: VecDeque<Event>,
    counters: Counters,
    foreign: Foreign,
    /// Streams that are published at other shards.
    abroad: HashMap<StreamName, Abroad>,
    /// Who reads which stream, whether or not there is one.
    taps: HashMap<StreamName, Taps>,
    /// For other shards, oldest first.
    messages: VecDeque<(usize, Message)>,
    /// Counts what changes the addresses of publishers.
    publishers_moved: u64,
}

impl Engine {
    /// An engine without sessions, the only one of its server. It takes the sessions that `claims`
    /// has for it.
    pub fn new(
        settings: EngineSettings,
        identity: Arc<Identity>,
        epoch: Epoch,
        claims: Box<dyn Claims>,
    ) -> Self {
        Self {
            settings,
            place: Place::ALONE,
            identity,
            epoch,
            claims,
            peers: Slab::new(),
            streams: Slab::new(),
            names: HashMap::new(),
            demux: Demux::default(),
            publications: HashMap::new(),
            timers: Timers::default(),
            waiting: Vec::new(),
            served: None,
            catch_ups: CatchUps::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            foreign: Foreign::default(),
            abroad: HashMap::new(),
            taps: HashMap::new(),
            messages: VecDeque::new(),
            publishers_moved: 0,
        }
    }

    /// The same engine as one of several.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Takes one input in; datagrams that are owed at once go into the arena.
    pub fn handle(&mut self, input: Input<'_>, now: Instant, arena: &mut SendArena) {
        match input {
            Input::Datagram { path, bytes } => self.datagram(path, bytes, now, arena),
            Input::Command(command) => self.command(command, now, arena),
            Input::Written(session, written) if written.is_made => {
                self.take_made(session, &written, now);
            }
            Input::Written(session, written) => self.take_written(session, written, now),
            Input::Backlog { path, backlog } => self.backlog(path, backlog, now),
            Input::Message { from, message } => {
                let taken = AssertUnwindSafe(|| self.message(from, message, now, arena));
                if catch_unwind(taken).is_err() {
                    error!(from, "a fault in code lost a message; please report it with its trace");
                    self.counters.faults += 1;
                }
            }
        }
    }

    /// What happened, oldest first.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.peers.len() + self.publications.len()
    }

    /// When it wants to be called again.
    pub fn deadline(&self) -> Option<Instant> {
        let wait = self.settings.router.batch_wait;
        let waiting = self.waiting.iter().filter_map(|&index| self.streams.get(index));
        let batches =
            waiting.flat_map(|it| [it.router.deadline(), it.parcel.deadline(wait)]).flatten();
        let keyframes =
            self.streams.iter().filter_map(|(_, stream)| stream.router.keyframe_deadline());
        let catch_up = self.catch_ups.deadline();
        let vacant = self.streams.iter().filter_map(|(_, stream)| stream.vacant_until);
        let silent = self.publication_deadline();
        let choices = self.streams.iter().filter_map(|(_, stream)| stream.choose_at);
        let streams = batches.chain(keyframes).chain(vacant).chain(silent).chain(choices);
        streams.chain(self.timers.next()).chain(catch_up).min()
    }

    /// Does what is due by the clock.
    pub fn handle_timeout(&mut self, now: Instant, arena: &mut SendArena) {
        for index in 0..self.streams.capacity() {
            self.choose_if_due(index, now, arena);
            self.request_keyframe(index, now);
            self.end_grace(index, now, arena);
            self.end_silent_publication(index, now);
        }
        // Nobody is looked at twice: a deadline that stays in the past waits for the next turn.
        for _ in 0..self.peers.len() {
            let Some(key) = self.timers.pop(now) else { break };
            self.guarded(key, now, arena, |engine, arena| engine.peer_timeout(key, now, arena));
            self.reschedule(key);
        }
    }

    fn peer_timeout(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.transport.handle_timeout(now, arena);
        if let State::Ended(reason) = peer.transport.state() {
            let reason = EndReason::Transport(reason.clone());
            self.end(key, reason, now, arena);
            return;
        }
        if peer.is_silent(now) {
            self.end(key, EndReason::Silent, now, arena);
            return;
        }
        let router = self.streams.get(peer.stream).map(|stream| &stream.router);
        if let Some(router) = router {
            self.counters.probed(probe::send(peer, router, now, arena));
        }
        if peer.send_reports(router, now, arena) {
            self.tell_clock(key, now);
        }
    }

    fn datagram(&mut self, path: Path, bytes: &mut [u8], now: Instant, arena: &mut SendArena) {
        self.counters.datagrams += 1;
        match self.find_guarded(path, bytes, now) {
            Some(Found::Ours(key)) => self.take(key, path, bytes, now, arena),
            Some(Found::Theirs(shard)) => {
                self.counters.datagrams_forwarded += 1;
                self.tell(shard, Message::Datagram { path, bytes: bytes.to_vec() });
            }
            None => self.counters.strangers += 1,
        }
    }

    /// A datagram that another shard has handed over. It goes no further: two shards that take each
    /// other for its owner would hand it to and fro.
    fn datagram_of_ours(
        &mut self,
        path: Path,
        bytes: &mut [u8],
        now: Instant,
        arena: &mut SendArena,
    ) {
        match self.find_guarded(path, bytes, now) {
            Some(Found::Ours(key)) => self.take(key, path, bytes, now, arena),
            _ => self.counters.strangers += 1,
        }
    }

    fn find_guarded(&mut self, path: Path, bytes: &[u8], now: Instant) -> Option<Found> {
        catch_unwind(AssertUnwindSafe(|| self.find(path, bytes, now))).unwrap_or_else(|_| {
            error!("a fault in code that reads checks; please report it with its trace");
            self.counters.faults += 1;
            None
        })
    }

    fn take(
        &mut self,
        key: usize,
        path: Path,
        bytes: &mut [u8],
        now: Instant,
        arena: &mut SendArena,
    ) {
        self.guarded(key, now, arena, |engine, arena| {
            engine.receive(key, path, bytes, now, arena);
        });
        self.reschedule(key);
    }

    fn stream_named(&mut self, name: &StreamName, now: Instant) -> usize {
        if let Some(&index) = self.names.get(name) {
            return index;
        }
        let mut stream = Stream::new(name.clone(), self.settings.router, self.epoch, now);
        stream.tapping = self.taps.get(name).map(|taps| Box::new(Tapping::of(taps.clone())));
        let index = self.streams.insert(stream);
        self.names.insert(name.clone(), index);
        index
    }

    fn receive(
        &mut self,
        key: usize,
        path: Path,
        bytes: &mut [u8],
        now: Instant,
        arena: &mut SendArena,
    ) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let lived_at = peer.transport.path();
        match peer.transport.handle(path, bytes, now, arena) {
            Received::Nothing => {
                let moved = lived_at != peer.transport.path();
                let stream = self.streams.get(peer.stream).filter(|_| moved);
                let has_media = stream.is_some_and(|stream| stream.publisher == Some(key));
                self.publishers_moved += u64::from(has_media);
                if moved {
                    self.release(key, now);
                }
            }
            Received::Connected => self.connected(key, now, arena),
            Received::Rtp { header, datagram } => {
                if let Side::Publisher(publishing) = &mut peer.side
                    && let Some(packet) = publishing.receive(&header, datagram, now)
                {
                    self.media(key, &packet, now);
                }
            }
            Received::Rtcp(compound) => self.rtcp(key, compound, now, arena),
            Received::Ended => {
                if let State::Ended(reason) = peer.transport.state() {
                    let reason = EndReason::Transport(reason.clone());
                    self.end(key, reason, now, arena);
                }
            }
        }
    }

    fn connected(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(profile) = peer.transport.srtp_profile() else { return };
        let (session, role, index) = (peer.session, peer.role(), peer.stream);
        if let Side::Publisher(publishing) = &mut peer.side {
            publishing.connected(now);
        }
        let Some(stream) = self.streams.get_mut(index) else { return };
        info!(?session, stream = %stream.name, %role, %profile, "connected");
        let (protocol, profile, name) = (peer.protocol(), Some(profile), stream.name.clone());
        self.events.push_back(Event::Connected { session, role, stream: name, protocol, profile });
        match role {
            Role::Viewer => {
                let begins = stream.add_viewer(key, peer, now);
                stream.wait_for_publisher(now + self.settings.grace);
                self.counters.started(begins);
                self.catch_ups.started(key, begins, now);
                self.request_keyframe(index, now);
                self.tell_if_first(key);
            }
            Role::Publisher => self.begin_stream(key, index, now, arena),
        }
    }

    fn report(&self, now: Instant) -> Vec<report::StreamState> {
        let live = self.streams.iter().filter(|(_, stream)| stream.is_live());
        live.map(|(_, stream)| stream.report(&self.peers, now)).collect()
    }

    /// Ends a session and frees what it held. A publisher's viewers stay and wait for another.
    fn end(&mut self, key: usize, reason: EndReason, now: Instant, arena: &mut SendArena) {
        let Some(mut peer) = self.peers.try_remove(key) else { return };
        let (session, role) = (peer.session, peer.role());
        let ufrags = [peer.ufrag.as_str()].into_iter().chain(peer.former_ufrag.as_deref());
        self.demux.remove(session, ufrags, key, &peer.addresses);
        self.timers.clear(key);
        self.catch_ups.ended(key);
        if reason.is_worth_telling() {
            let told = catch_unwind(AssertUnwindSafe(|| peer.say_goodbye(now, arena)));
            if told.is_err() {
                self.counters.faults += 1;
            }
        }
        let Some(stream) = self.streams.get_mut(peer.stream) else { return };
        let name = stream.name.clone();
        info!(?session, stream = %name, %role, %reason, "session ended");
        let is_replaced = reason == EndReason::Replaced;
        self.events.push_back(Event::Ended { session, role, stream: name, reason });
        stream.viewers.retain(|&viewer| viewer != key);
        if stream.publisher == Some(key) {
            self.publishers_moved += 1;
            self.tapped_left(peer.stream, peer.term());
            self.publisher_left(peer.stream, peer.term(), is_replaced, now);
        }
        self.tell_made_watched(peer.stream);
        self.leave(peer.stream);
    }

    /// A session is no more of this stream, which goes with its last one.
    fn leave(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.members -= 1;
        if stream.members == 0 {
            self.names.remove(&stream.name);
            if let Some(source) = stream.source {
                let name = stream.name.clone();
                self.tell(source, Message::Unfollow(name));
            }
            self.streams.remove(index);
            self.waiting.retain(|&waiting| waiting != index);
        }
    }

    /// Runs what a session's datagram or timer causes; a panic in it ends that session only.
    fn guarded(
        &mut self,
        key: usize,
        now: Instant,
        arena: &mut SendArena,
        work: impl FnOnce(&mut Self, &mut SendArena),
    ) {
        if catch_unwind(AssertUnwindSafe(|| work(self, arena))).is_err() {
            self.fault(key, now, arena);
        }
    }

    fn fault(&mut self, key: usize, now: Instant, arena: &mut SendArena) {
        let session = self.peers.get(key).map(|peer| peer.session);
        error!(?session, "a fault in code ended this session; please report it with its trace");
        self.counters.faults += 1;
        self.end(key, EndReason::Fault, now, arena);
    }

    /// Puts the peer's present deadline in force.
    fn reschedule(&mut self, key: usize) {
        if let Some(deadline) = self.peers.get(key).and_then(Peer::deadline) {
            self.timers.set(key, deadline);
        }
    }

    /// How many sessions, streams, addresses, names and deadlines are held; for leak checks.
    pub fn sizes(&self) -> [usize; 3] {
        let names: usize = self.demux.sizes().into_iter().sum();
        [self.peers.len(), self.streams.len(), names + self.foreign.len()]
    }
}
