//! An engine, its clients and the links between, in virtual time: the same seed, the same world.

use crate::link::{Link, Random};
use crate::oracle::Oracle;
use crate::publisher::{Camera, Publishing, Repair};
use crate::sessions::{Waiting, client, prepare, publisher, session, settings, viewer};
use crate::viewer::{Screen, Watching};
use millrace::engine::command::{Command, Event};
use millrace::engine::{Engine, EngineSettings, Input, Place};
use millrace::media::arena::{Path, SendArena};
use millrace::media::time::{Epoch, WallTime};
use millrace::peer::agreement::DtlsRole;
use millrace::peer::identity::Identity;
use millrace::peer::stun::{DatagramKind, classify};
use millrace::peer::testing::{ClientOptions, TestClient};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const fn ms(span: u64) -> Duration {
    Duration::from_millis(span)
}

pub(crate) const fn secs(span: u64) -> Duration {
    Duration::from_secs(span)
}

/// Both DTLS roles of the server.
pub(crate) const ROLES: [DtlsRole; 2] = [DtlsRole::Server, DtlsRole::Client];

/// A datagram on its way; the earliest first, of two at the same time the first sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Instant,
    number: u64,
    to_server: bool,
    /// The client's address on this way.
    remote: SocketAddr,
    datagram: Vec<u8>,
}

/// What a client is to its stream.
pub(crate) enum Side {
    Publisher(Box<Publishing>),
    Viewer(Box<Watching>),
}

/// One client and its links.
pub(crate) struct Client {
    pub(crate) peer: TestClient,
    pub(crate) side: Side,
    /// From the client to the server.
    pub(crate) up: Link,
    /// From the server to the client.
    pub(crate) down: Link,
    pub(crate) address: SocketAddr,
    /// It neither sends nor hears any more.
    pub(crate) dead: bool,
    /// When it sends its next check.
    pub(crate) next_check: Instant,
    /// Whether its checks nominate.
    pub(crate) nominates: bool,
}

impl Client {
    fn deadline(&self) -> Option<Instant> {
        if self.dead || self.peer.closed {
            return None;
        }
        let side = match &self.side {
            Side::Publisher(publishing) => publishing.deadline(),
            Side::Viewer(watching) => watching.deadline(),
        };
        let side = side.filter(|_| self.peer.is_connected());
        [Some(self.next_check), self.peer.deadline(), side].into_iter().flatten().min()
    }

    /// Does what is due.
    fn turn(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if self.next_check <= now {
            out.push(self.peer.check(self.nominates));
            // As often as a browser does.
            self.next_check = now + ms(if self.peer.is_connected() { 2_500 } else { 50 });
        }
        self.peer.handle_timeout(now);
        if self.peer.is_connected() {
            match &mut self.side {
                Side::Publisher(publishing) => publishing.turn(now, &mut self.peer, out),
                Side::Viewer(watching) => watching.turn(now, &mut self.peer, out),
            }
        }
        out.extend(std::iter::from_fn(|| self.peer.poll()));
    }

    fn receive(&mut self, datagram: &[u8], now: Instant, out: &mut Vec<Vec<u8>>) {
        self.peer.handle(datagram, now);
        if self.peer.checks_answered > 0 {
            self.peer.start(now);
        }
        match classify(datagram) {
            DatagramKind::Rtp => {
                let (Some(plain), Side::Viewer(watching)) =
                    (self.peer.open(datagram), &mut self.side)
                else {
                    return;
                };
                watching.rtp(&plain, now);
            }
            DatagramKind::Rtcp => {
                let Some(plain) = self.peer.open_rtcp(datagram) else { return };
                match &mut self.side {
                    Side::Publisher(publishing) => {
                        publishing.rtcp(&plain, now, &mut self.peer, out);
                    }
                    Side::Viewer(watching) => watching.rtcp(&plain, now),
                }
            }
            _ => {}
        }
        // What its handshake came to, and what it has to say at once.
        if !self.peer.closed {
            self.turn(now, out);
        }
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) epoch: Epoch,
    /// The engine of the first shard.
    pub(crate) engine: Engine,
    /// Those of the others.
    others: Vec<Engine>,
    /// At which shard datagrams from an address arrive; elsewhere the port decides.
    pub(crate) placed: HashMap<SocketAddr, usize>,
    pub(crate) clients: Vec<Client>,
    /// What the engine told, and when.
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) oracle: Oracle,
    /// Whether whatever waits is sent at the end of each turn, as a shard does that is not busy.
    pub(crate) eager: bool,
    /// Packets of the past that are sent per turn at most.
    pub(crate) burst_max: usize,
    /// Turns that only the engine's deadline asked for.
    pub(crate) wakes: u64,
    /// Turns after which the engine's deadline still lay in the past.
    pub(crate) overdue: u64,
    seed: u64,
    arena: SendArena,
    waiting: Waiting,
    wire: BinaryHeap<Reverse<InFlight>>,
    datagrams: u64,
    /// Whose an address is or was.
    addresses: HashMap<SocketAddr, usize>,
}

impl World {
    /// An empty world.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::with(seed, settings())
    }

    /// An empty world whose server has so many shards.
    pub(crate) fn sharded(seed: u64, shards: usize) -> Self {
        let mut world = Self::seeded(seed);
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let mut engines: Vec<Engine> = (0..shards)
            .map(|shard| {
                let claims = Box::new(Waiting { shard, ..world.waiting.clone() });
                let engine = Engine::new(settings(), Arc::clone(&identity), world.epoch, claims);
                engine.at(Place { shard, shards })
            })
            .collect();
        world.engine = engines.remove(0);
        world.others = engines;
        world
    }

    /// An empty world with these settings.
    pub(crate) fn with(seed: u64, settings: EngineSettings) -> Self {
        let now = Instant::now();
        let wall = WallTime::since_unix_epoch(secs(1_764_000_000));
        let epoch = Epoch { instant: now, wall };
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let waiting = Waiting::default();
        let engine = Engine::new(settings, identity, epoch, Box::new(waiting.clone()));
        Self {
            now,
            epoch,
            engine,
            others: Vec::new(),
            placed: HashMap::new(),
            clients: Vec::new(),
            events: Vec::new(),
            oracle: Oracle::default(),
            eager: false,
            burst_max: 500,
            wakes: 0,
            overdue: 0,
            seed,
            arena: SendArena::new(1 << 20),
            waiting,
            wire: BinaryHeap::new(),
            datagrams: 0,
            addresses: HashMap::new(),
        }
    }

    /// A client comes that publishes.
    pub(crate) fn publish(&mut self, stream: &str, camera: Camera) -> usize {
        let number = self.clients.len();
        let peer = client(number, ClientOptions::default());
        let agreement = publisher(&peer, camera.repair == Repair::Rtx);
        let side = Side::Publisher(Box::new(Publishing::new(camera)));
        self.waiting.add(prepare(number, agreement, stream, self.now));
        self.add(peer, side)
    }

    /// A client comes that watches.
    pub(crate) fn view(&mut self, stream: &str, screen: Screen) -> usize {
        self.view_as(stream, screen, DtlsRole::Server)
    }

    /// A client comes that watches, with the server in this DTLS role.
    pub(crate) fn view_as(&mut self, stream: &str, screen: Screen, server_role: DtlsRole) -> usize {
        let number = self.clients.len();
        let peer = client(number, ClientOptions { server_role, ..ClientOptions::default() });
        let agreement = viewer(&peer, number, screen.rtx);
        let side = Side::Viewer(Box::new(Watching::new(number, screen, self.now)));
        self.waiting.add(prepare(number, agreement, stream, self.now));
        self.add(peer, side)
    }

    fn add(&mut self, peer: TestClient, side: Side) -> usize {
        let number = self.clients.len();
        let address = SocketAddr::from(([192, 0, 2, 1], 1_000 + number as u16));
        let link = |way| Link::new(Random::seeded(self.seed, number as u64 * 2 + way));
        let (up, down) = (link(0), link(1));
        let next_check = self.now;
        let dead = false;
        self.addresses.insert(address, number);
        self.clients.push(Client {
            peer,
            side,
            up,
            down,
            address,
            dead,
            next_check,
            nominates: true,
        });
        number
    }

    /// A client's address becomes another, as behind a NAT that forgot it.
    pub(crate) fn rebind(&mut self, number: usize, port: u16) {
        let client = &mut self.clients[number];
        client.address = SocketAddr::from(([198, 51, 100, 9], port));
        self.addresses.insert(client.address, number);
    }

    /// A viewer.
    pub(crate) fn viewer(&self, number: usize) -> &Watching {
        match &self.clients[number].side {
            Side::Viewer(watching) => watching,
            Side::Publisher(_) => unreachable!("client {number} watches"),
        }
    }

    /// A publisher.
    pub(crate) fn publisher(&mut self, number: usize) -> &mut Publishing {
        match &mut self.clients[number].side {
            Side::Publisher(publishing) => publishing,
            Side::Viewer(_) => unreachable!("client {number} publishes"),
        }
    }

    /// When the session of this number was connected.
    pub(crate) fn connected_at(&self, number: usize) -> Option<Instant> {
        let of = |event: &Event| match event {
            Event::Connected { session: connected, .. } => *connected == session(number),
            _ => false,
        };
        self.events.iter().find(|(_, event)| of(event)).map(|(at, _)| *at)
    }

    /// Somebody commands.
    pub(crate) fn command(&mut self, command: Command) {
        self.engine.handle(Input::Command(command), self.now, &mut self.arena);
        self.flush();
    }

    /// Which shard datagrams from this address arrive at.
    pub(crate) fn shard_at(&self, address: SocketAddr) -> usize {
        let by_port = usize::from(address.port()) % (1 + self.others.len());
        self.placed.get(&address).copied().unwrap_or(by_port)
    }

    /// A shard's engine.
    pub(crate) fn shard(&mut self, shard: usize) -> &mut Engine {
        if shard == 0 { &mut self.engine } else { &mut self.others[shard - 1] }
    }

    /// All shards' engines.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Engine> {
        [&self.engine].into_iter().chain(&self.others)
    }

    /// Lets the shards' messages arrive, and those that they cause.
    fn deliver_messages(&mut self) {
        let mut quiet = 0;
        for from in (0..=self.others.len()).cycle() {
            let Some((to, message)) = self.shard(from).poll_message() else {
                quiet += 1;
                if quiet > self.others.len() {
                    return;
                }
                continue;
            };
            quiet = 0;
            self.with_arena(to, |engine, now, arena| {
                engine.handle(Input::Message { from, message }, now, arena);
            });
        }
    }

    /// Lets a shard's engine do something, and takes what it wants sent and told.
    fn with_arena<T>(
        &mut self,
        shard: usize,
        work: impl FnOnce(&mut Engine, Instant, &mut SendArena) -> T,
    ) -> T {
        let now = self.now;
        let mut arena = std::mem::replace(&mut self.arena, SendArena::new(0));
        let result = work(self.shard(shard), now, &mut arena);
        self.arena = arena;
        self.flush();
        result
    }

    /// A client sends a compound of its own making.
    pub(crate) fn send_rtcp(&mut self, number: usize, compound: &[u8]) {
        let datagram = self.clients[number].peer.seal_rtcp(compound);
        self.up(number, &datagram);
    }

    /// Puts a datagram of a client on its link.
    pub(crate) fn up(&mut self, number: usize, datagram: &[u8]) {
        let client = &mut self.clients[number];
        let (arrivals, remote) = (client.up.carry(datagram, self.now), client.address);
        self.send(arrivals, remote, true, datagram);
    }

    /// A client's check arrives from another address than the one it lives at.
    pub(crate) fn check_from(&mut self, number: usize, remote: SocketAddr, nominates: bool) {
        let datagram = self.clients[number].peer.check(nominates);
        self.addresses.entry(remote).or_insert(number);
        let at = self.now;
        self.send([Some(at), None], remote, true, &datagram);
    }

    fn send(
        &mut self,
        arrivals: [Option<Instant>; 2],
        remote: SocketAddr,
        to_server: bool,
        datagram: &[u8],
    ) {
        for at in arrivals.into_iter().flatten() {
            self.datagrams += 1;
            let (number, datagram) = (self.datagrams, datagram.to_vec());
            self.wire.push(Reverse(InFlight { at, number, to_server, remote, datagram }));
        }
    }

    /// A while ago.
    pub(crate) fn ago(&self, span: Duration) -> Instant {
        self.now.checked_sub(span).expect("the machine has been up for longer")
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let outside = self.next_outside();
            // As the shard does: what was looked at and stays due waits a little.
            let engine = self
                .engine_deadline()
                .map(|deadline| if deadline <= self.now { self.now + ms(1) } else { deadline });
            let Some(due) = outside.into_iter().chain(engine).min().filter(|due| *due <= end)
            else {
                break;
            };
            self.wakes += u64::from(outside.is_none_or(|outside| outside > due));
            self.now = self.now.max(due);
            self.step();
        }
        self.now = end;
    }

    fn engine_deadline(&self) -> Option<Instant> {
        self.shards().filter_map(Engine::deadline).min()
    }

    /// When a datagram arrives or a client has something to do.
    fn next_outside(&self) -> Option<Instant> {
        let arrival = self.wire.peek().map(|Reverse(in_flight)| in_flight.at);
        arrival.into_iter().chain(self.clients.iter().filter_map(Client::deadline)).min()
    }

    fn step(&mut self) {
        while let Some(Reverse(in_flight)) = self.wire.peek()
            && in_flight.at <= self.now
        {
            let Some(Reverse(in_flight)) = self.wire.pop() else { break };
            self.deliver(in_flight);
        }
        for shard in 0..=self.others.len() {
            self.with_arena(shard, Engine::handle_timeout);
            self.fan_out(shard);
        }
        self.deliver_messages();
        // What they have been handed waits no longer than what came over the network.
        for shard in 0..self.others.len() {
            self.fan_out(shard + 1);
        }
        self.fan_out(0);
        let burst_max = self.burst_max;
        for shard in 0..=self.others.len() {
            self.with_arena(shard, |engine, now, arena| engine.catch_up(now, burst_max, arena));
        }
        self.overdue += u64::from(self.engine_deadline().is_some_and(|due| due <= self.now));
        let mut out = Vec::new();
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            if client.deadline().is_some_and(|due| due <= self.now) {
                client.turn(self.now, &mut out);
            }
            for datagram in out.drain(..) {
                self.up(number, &datagram);
            }
        }
    }

    fn fan_out(&mut self, shard: usize) {
        if self.eager {
            self.shard(shard).set_batch_wait(Duration::ZERO);
        }
        while self.with_arena(shard, Engine::fan_out) {}
    }

    fn deliver(&mut self, mut in_flight: InFlight) {
        let InFlight { to_server, remote, datagram, .. } = &mut in_flight;
        if *to_server {
            let path = Path::udp(*remote, None);
            let input = Input::Datagram { path, bytes: datagram };
            let shard = self.shard_at(*remote);
            self.with_arena(shard, |engine, now, arena| engine.handle(input, now, arena));
            self.deliver_messages();
        } else if let Some(&number) = self.addresses.get(remote) {
            let client = &mut self.clients[number];
            let mut out = Vec::new();
            if !client.dead && client.address == *remote {
                client.receive(datagram, self.now, &mut out);
            }
            for datagram in out {
                self.up(number, &datagram);
            }
        }
    }

    /// Takes what the engine wants sent and told.
    fn flush(&mut self) {
        let datagrams: Vec<_> =
            self.arena.datagrams().map(|(path, bytes)| (path.remote, bytes.to_vec())).collect();
        self.arena.clear();
        for (remote, datagram) in datagrams {
            let Some(&number) = self.addresses.get(&remote) else { continue };
            if classify(&datagram) == DatagramKind::Rtp {
                self.oracle.note(number, &datagram);
            }
            let arrivals = self.clients[number].down.carry(&datagram, self.now);
            self.send(arrivals, remote, false, &datagram);
        }
        let engines = [&mut self.engine].into_iter().chain(&mut self.others);
        for engine in engines {
            while let Some(event) = engine.poll() {
                self.events.push((self.now, event));
            }
        }
    }
}
