//! Engines, their clients and the links between, in virtual time: the same seed, the same world.

use crate::agreed::{self, VIDEO};
use crate::camera::Camera;
use crate::client::{Client, Side};
use crate::link::{Link, Random};
use crate::oracle::Oracle;
use crate::oracle::bounds::{Outside, no_faults, nothing_left, within_bounds};
use crate::publisher::Publishing;
use crate::sessions::{Waiting, client, prepare, session, settings};
use crate::viewer::{Screen, Watching};
use crate::wire::{InFlight, Plant, PlantEvent};
use millrace::engine::command::{Agreement, Command, Event};
use millrace::engine::message::Message;
use millrace::engine::{Backlog, Engine, EngineSettings, Input, Place};
use millrace::media::arena::{Path, SendArena};
use millrace::media::codec::Codec;
use millrace::media::time::{Epoch, WallTime};
use millrace::peer::agreement::DtlsRole;
use millrace::peer::identity::Identity;
use millrace::peer::testing::{ClientOptions, TestClient};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
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
    /// Whether what breaks a rule fails the test at once.
    pub(crate) strict: bool,
    /// What is done to the server's datagrams on their way to the network, as a fault would.
    pub(crate) plant: Option<Plant>,
    /// What is done to what the server tells, as a fault would.
    pub(crate) plant_event: Option<PlantEvent>,
    /// Whether all viewers listen to which layers there are.
    pub(crate) listen: bool,
    /// Who does.
    listening: HashSet<usize>,
    /// A shard whose messages to others nobody takes.
    pub(crate) mute: Option<usize>,
    /// Whether whatever waits is sent at the end of each turn, as a shard does that is not busy.
    pub(crate) eager: bool,
    /// Packets of the past that are sent per turn at most.
    pub(crate) burst_max: usize,
    /// The ways between shards, where they take their time.
    pub(crate) slow: Option<Slow>,
    /// Turns that only the engine's deadline asked for.
    pub(crate) wakes: u64,
    /// Turns after which the engine's deadline still lay in the past.
    pub(crate) overdue: u64,
    seed: u64,
    pub(crate) arena: SendArena,
    waiting: Waiting,
    pub(crate) wire: BinaryHeap<Reverse<InFlight>>,
    /// How many datagrams have been put on it.
    pub(crate) datagrams: u64,
    /// What is new of what waits for connections.
    pub(crate) backlogs: Vec<(Path, Backlog)>,
    /// Whose an address is or was.
    pub(crate) addresses: HashMap<SocketAddr, usize>,
}

/// Ways between shards on which messages take their time.
pub(crate) struct Slow {
    random: Random,
    /// How often all that is on a way arrives, of the times when something may.
    pub(crate) arrives: f64,
    /// By whom they lead from and to.
    ways: BTreeMap<(usize, usize), VecDeque<Message>>,
}

impl Slow {
    pub(crate) fn seeded(seed: u64, arrives: f64) -> Self {
        Self { random: Random::seeded(seed, 78), arrives, ways: BTreeMap::new() }
    }
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
            oracle: Oracle::new(now),
            strict: true,
            plant: None,
            plant_event: None,
            listen: false,
            listening: HashSet::new(),
            mute: None,
            eager: false,
            slow: None,
            burst_max: 500,
            wakes: 0,
            overdue: 0,
            seed,
            arena: SendArena::new(1 << 20),
            waiting,
            wire: BinaryHeap::new(),
            datagrams: 0,
            backlogs: Vec::new(),
            addresses: HashMap::new(),
        }
    }

    /// A client comes that publishes.
    pub(crate) fn publish(&mut self, stream: &str, camera: Camera) -> usize {
        self.publish_as(stream, camera, ClientOptions::default())
    }

    /// A client of this sort comes that publishes.
    pub(crate) fn publish_as(
        &mut self,
        stream: &str,
        camera: Camera,
        options: ClientOptions,
    ) -> usize {
        let number = self.clients.len();
        let peer = client(number, options);
        let agreement = agreed::publisher(&peer, &camera);
        let side = Side::Publisher(Box::new(Publishing::new(camera, number)));
        self.add(stream, peer, side, (agreement, options))
    }

    /// A client comes that watches.
    pub(crate) fn view(&mut self, stream: &str, screen: Screen) -> usize {
        self.view_as(stream, screen, DtlsRole::Server)
    }

    /// A client comes that watches, with the server in this DTLS role.
    pub(crate) fn view_as(&mut self, stream: &str, screen: Screen, server_role: DtlsRole) -> usize {
        let options = ClientOptions { server_role, ..ClientOptions::default() };
        self.view_with(stream, screen, &VIDEO, options)
    }

    /// A client of this sort comes that watches and knows these codecs.
    pub(crate) fn view_with(
        &mut self,
        stream: &str,
        screen: Screen,
        codecs: &[Codec],
        options: ClientOptions,
    ) -> usize {
        let number = self.clients.len();
        let peer = client(number, options);
        let agreement = agreed::viewer(&peer, number, screen, codecs);
        let side = Side::Viewer(Box::new(Watching::new(number, screen, self.now)));
        self.add(stream, peer, side, (agreement, options))
    }

    fn add(
        &mut self,
        stream: &str,
        peer: TestClient,
        side: Side,
        (agreement, options): (Agreement, ClientOptions),
    ) -> usize {
        let number = self.clients.len();
        let address = SocketAddr::from(([192, 0, 2, 1], 1_000 + number as u16));
        let link = |way| Link::new(Random::seeded(self.seed, number as u64 * 2 + way));
        self.addresses.insert(address, number);
        let client = Client {
            peer,
            side,
            stream: stream.to_owned(),
            is_impostor: options.impostor,
            up: link(0),
            down: link(1),
            address,
            connection: None,
            dead: false,
            next_check: self.now,
            nominates: true,
            tap: None,
        };
        self.oracle.comes(number, &client, &agreement);
        self.clients.push(client);
        self.waiting.add(prepare(number, agreement, stream, self.now));
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
        self.command_at(0, command);
    }

    /// Somebody commands a shard.
    pub(crate) fn command_at(&mut self, shard: usize, command: Command) {
        self.with_arena(shard, |engine, now, arena| {
            engine.handle(Input::Command(command), now, arena);
        });
        self.deliver_messages();
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
    pub(crate) fn deliver_messages(&mut self) {
        if self.slow.is_some() {
            self.collect_messages();
            self.deliver_slowly();
            return self.collect_messages();
        }
        let mut quiet = 0;
        for from in (0..=self.others.len()).cycle() {
            let message = match self.mute {
                Some(mute) if mute == from => None,
                _ => self.shard(from).poll_message(),
            };
            let Some((to, message)) = message else {
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

    /// Puts the shards' messages on their slow ways.
    fn collect_messages(&mut self) {
        for from in 0..=self.others.len() {
            while let Some((to, message)) = self.shard(from).poll_message() {
                let Some(Slow { ways, .. }) = &mut self.slow else { return };
                ways.entry((from, to)).or_default().push_back(message);
            }
        }
    }

    /// Lets what is on some of the slow ways arrive, in the order of each way.
    fn deliver_slowly(&mut self) {
        let Some(Slow { random, arrives, ways }) = &mut self.slow else { return };
        let mut arrived = Vec::new();
        for (&(from, to), way) in ways {
            if random.happens(*arrives) {
                arrived.extend(way.drain(..).map(|message| (from, to, message)));
            }
        }
        for (from, to, message) in arrived {
            self.with_arena(to, |engine, now, arena| {
                engine.handle(Input::Message { from, message }, now, arena);
            });
        }
    }

    /// Lets a shard's engine do something, and takes what it wants sent and told.
    pub(crate) fn with_arena<T>(
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
        let waiting = self.clients.iter().filter_map(|it| it.connection.as_ref());
        let waiting = waiting.filter_map(|connection| connection.deadline(self.now));
        let clients = self.clients.iter().filter_map(Client::deadline);
        arrival.into_iter().chain(waiting).chain(clients).min()
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
        for shard in 1..=self.others.len() {
            self.with_arena(shard, Engine::handle_timeout);
            self.fan_out(shard);
        }
        self.fan_out(0);
        let burst_max = self.burst_max;
        for shard in 0..=self.others.len() {
            self.with_arena(shard, |engine, now, arena| engine.catch_up(now, burst_max, arena));
        }
        self.deliver_messages();
        for number in 0..self.clients.len() {
            self.work_off(number, false);
        }
        self.tell_backlogs();
        self.let_listen();
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
        self.look();
    }

    /// Whoever is connected listens, if all do.
    fn let_listen(&mut self) {
        if !self.listen {
            return;
        }
        for number in 0..self.clients.len() {
            let is_new = matches!(self.clients[number].side, Side::Viewer(_))
                && self.connected(number)
                && self.listening.insert(number);
            if is_new {
                for shard in 0..=self.others.len() {
                    self.command_at(shard, Command::Listen(session(number), true));
                }
            }
        }
    }

    /// Lets the oracle look at how things stand.
    fn look(&mut self) {
        self.oracle.step(&self.clients, self.now);
        let streams: HashSet<&str> = self.clients.iter().map(|it| it.stream.as_str()).collect();
        let outside = Outside { addresses: self.addresses.len(), streams: streams.len() };
        for shard in 0..=self.others.len() {
            let verdict = within_bounds(shard, &self.shard(shard).held(), outside);
            self.oracle.holds(verdict, self.now);
            let verdict = no_faults(shard, self.shard(shard));
            self.oracle.holds(verdict, self.now);
        }
        self.assert_sound();
    }

    fn assert_sound(&self) {
        let first = self.oracle.violations.first();
        assert!(!self.strict || first.is_none(), "{}", first.expect("there is one"));
    }

    /// All is over: nothing may be left.
    pub(crate) fn assert_over(&mut self) {
        self.oracle.over(self.now);
        for shard in 0..=self.others.len() {
            let verdict = nothing_left(shard, self.shard(shard));
            self.oracle.holds(verdict, self.now);
        }
        self.assert_sound();
    }

    fn fan_out(&mut self, shard: usize) {
        if self.eager {
            self.shard(shard).set_batch_wait(Duration::ZERO);
        }
        while self.with_arena(shard, Engine::fan_out) {}
    }
}
