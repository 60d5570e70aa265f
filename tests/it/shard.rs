//! A whole shard: its thread, its socket and a real engine, seen from outside.

use crossbeam_channel::{Receiver, bounded};
use millrace::clock::Clock;
use millrace::engine::command::{
    Agreement, Claims, Command, EndReason, Event, LayerChoice, Opening, Prepared, Role, Written,
};
use millrace::engine::{Engine, EngineSettings};
use millrace::media::codec::{Codec, Format};
use millrace::media::id::{SessionId, StreamName};
use millrace::media::layer::{LayerId, Scale, Sizes};
use millrace::media::packet::{PacketFields, PacketPool};
use millrace::media::protocol::Protocol;
use millrace::peer::agreement::{Credentials, ViewerAgreement};
use millrace::peer::identity::Identity;
use millrace::peer::testing::{ClientOptions, TestClient};
use millrace::peer::transport::Timeouts;
use millrace::router::RouterSettings;
use millrace::shard::socket::{Buffers, MediaSocket};
use millrace::shard::{CommandError, Handle, Links, ShardCounts, ShardEvent, ShardSettings};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// One prepared session, to be claimed once.
struct OneClaim(Option<Prepared>);

impl Claims for OneClaim {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        self.0.take_if(|prepared| {
            prepared.agreement.transport().local.ufrag == ufrag && authentic(prepared)
        })
    }
}

struct Running {
    handle: Handle,
    events: Receiver<ShardEvent>,
    address: SocketAddr,
}

impl Running {
    fn event(&self) -> ShardEvent {
        self.events.recv_timeout(PATIENCE).expect("the shard tells in time")
    }
}

/// Starts a shard that waits for this client.
fn start(client: &TestClient, timeouts: Timeouts) -> Running {
    let clock = Clock::system();
    let transport = client.agreement();
    let prepared = Prepared {
        session: SessionId::from_random([7; 16]),
        stream: StreamName::parse("lot-42").expect("a stream name"),
        agreement: Agreement::Viewer(ViewerAgreement { transport, media: Vec::new() }),
        random: [7; 16],
        created: clock.now(),
        choice: LayerChoice::default(),
    };
    let settings = EngineSettings {
        router: RouterSettings::default(),
        timeouts,
        publisher_silence: Duration::from_secs(30),
        grace: Duration::from_secs(30),
        rtx_share: 0.15,
    };
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let claims = Box::new(OneClaim(Some(prepared)));
    let engine = Engine::new(settings, identity, clock.epoch(), claims);
    let buffers = Buffers { receive: 1 << 20, send: 1 << 20 };
    let address = "127.0.0.1:0".parse().expect("an address");
    let socket = MediaSocket::bind(address, buffers, false).expect("loopback has a free port");
    let address = socket.local_address().expect("a bound socket has an address");
    let (told, events) = bounded(64);
    let tell = move |event| told.send(event).expect("the test listens");
    let settings =
        ShardSettings { index: 0, pinned: true, clock, batch_wait: Duration::from_millis(8) };
    let links = Links::between(1).expect("a descriptor").remove(0);
    let handle = Handle::spawn(settings, socket, engine, links, tell).expect("a thread");
    Running { handle, events, address }
}

/// Asks the shard for its counts.
fn count(running: &Running) -> ShardCounts {
    let (reply, answer) = bounded(1);
    let send = move |counts| reply.send(counts).expect("the test listens");
    running.handle.count(send).expect("the shard takes questions");
    answer.recv_timeout(PATIENCE).expect("the shard answers in time")
}

fn client() -> TestClient {
    let server = Credentials { ufrag: "serv".into(), pwd: "s".repeat(24) };
    TestClient::new(ClientOptions::default(), server)
}

/// A socket that talks to the shard.
fn connect(running: &Running) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    socket.connect(running.address).expect("loopback has a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Hands the client what comes in and sends what it wants sent, until `done`.
fn talk(client: &mut TestClient, socket: &UdpSocket, done: impl Fn(&TestClient) -> bool) {
    let mut datagram = [0; 2048];
    while !done(client) {
        while let Some(out) = client.poll() {
            socket.send(&out).expect("loopback takes all");
        }
        let length = socket.recv(&mut datagram).expect("the shard answers in time");
        client.handle(&datagram[..length], Clock::system().now());
        assert_eq!(client.error, None);
    }
    while let Some(out) = client.poll() {
        socket.send(&out).expect("loopback takes all");
    }
}

#[test]
fn a_client_connects_through_the_socket_and_is_told_of_the_end() {
    let mut client = client();
    let running = start(&client, Timeouts::default());
    let socket = connect(&running);
    socket.send(&client.check(true)).expect("loopback takes all");
    talk(&mut client, &socket, |client| client.checks_answered == 1);
    client.start(Clock::system().now());
    talk(&mut client, &socket, TestClient::is_connected);
    let ShardEvent::Engine(Event::Connected { role, .. }) = running.event() else {
        unreachable!("the first event is that it has connected")
    };
    assert_eq!(role, Role::Viewer);

    let Running { handle, events, .. } = running;
    drop(handle);
    talk(&mut client, &socket, |client| client.closed);
    let ended = events.recv().expect("the end is told");
    let ShardEvent::Engine(Event::Ended { reason, .. }) = ended else {
        unreachable!("the last event is that it has ended")
    };
    assert_eq!(reason, EndReason::Stopping);
    assert!(events.recv().is_err(), "the thread is gone");
}

#[test]
fn the_shard_wakes_by_itself_when_the_engine_wants_it() {
    let mut client = client();
    let handshake = Duration::from_millis(20);
    let running = start(&client, Timeouts { handshake, ..Timeouts::default() });
    let socket = connect(&running);
    socket.send(&client.check(true)).expect("loopback takes all");
    let ShardEvent::Engine(Event::Ended { reason, .. }) = running.event() else {
        unreachable!("the only event is that the handshake has timed out")
    };
    assert!(matches!(reason, EndReason::Transport(_)), "{reason}");
}

#[test]
fn a_shard_with_an_idle_session_rests() {
    let mut client = client();
    let running = start(&client, Timeouts::default());
    let socket = connect(&running);
    socket.send(&client.check(true)).expect("loopback takes all");
    talk(&mut client, &socket, |client| client.checks_answered == 1);
    client.start(Clock::system().now());
    talk(&mut client, &socket, TestClient::is_connected);
    assert!(matches!(running.event(), ShardEvent::Engine(Event::Connected { .. })));

    // Each turn reads the socket once: reads count turns.
    let before = count(&running).received.system_calls;
    let quiet = running.events.recv_timeout(Duration::from_millis(200));
    assert!(quiet.is_err(), "nothing happens in an idle session: {quiet:?}");
    let turns = count(&running).received.system_calls - before;
    assert!(turns < 40, "{turns} turns in 200 ms without anything to do");
}

#[test]
fn counts_are_told_and_strangers_are_counted() {
    let running = start(&client(), Timeouts::default());
    let socket = connect(&running);
    for _ in 0..300 {
        socket.send(b"neither STUN nor DTLS").expect("loopback takes all");
    }
    // What loopback has taken is in the shard's socket before the question is asked; but a turn
    // reads a bounded part of it.
    let mut counts = std::iter::repeat_with(|| count(&running)).take(100);
    let counts = counts.find(|counts| counts.received.datagrams == 300);
    let counts = counts.expect("all datagrams are read in a few turns");
    assert_eq!((counts.engine.strangers, counts.sessions), (300, 0));
    assert!((0.0..=1.0).contains(&counts.load));
}

#[test]
fn commands_are_bounded() {
    let running = start(&client(), Timeouts::default());
    let (release, released) = bounded::<()>(0);
    let (begun, begins) = bounded(0);
    let hold = move |_| {
        begun.send(()).expect("the test listens");
        let _ = released.recv();
    };
    running.handle.count(hold).expect("the shard takes questions");
    begins.recv_timeout(PATIENCE).expect("the shard holds");
    let command = || Command::End(SessionId::from_random([0; 16]), EndReason::Deleted);
    for _ in 0..Handle::REQUESTS_MAX {
        assert_eq!(running.handle.command(command()), Ok(()));
    }
    assert_eq!(running.handle.command(command()), Err(CommandError::Full));
    drop(release);
    // Dropping the handle waits for the shard, which takes them all.
}

#[test]
fn a_fault_of_the_loop_is_told_and_the_shard_takes_nothing_more() {
    let running = start(&client(), Timeouts::default());
    let fault = |_| std::panic::resume_unwind(Box::new("a fault on purpose"));
    running.handle.count(fault).expect("the shard takes questions");
    assert_eq!(running.event(), ShardEvent::Died { shard: 0 });
    assert!(running.events.recv().is_err(), "the thread is gone");
    let command = Command::End(SessionId::from_random([0; 16]), EndReason::Deleted);
    assert_eq!(running.handle.command(command), Err(CommandError::Gone));
}

#[test]
fn what_a_publisher_writes_at_once_is_not_lost_though_its_beginning_waits_behind_much_else() {
    let running = start(&client(), Timeouts::default());
    let session = SessionId::from_random([9; 16]);
    // While the shard is kept from its work all this comes, and more than it takes in a turn.
    let (go_on, waits) = bounded::<()>(0);
    let (reply, working) = bounded(1);
    let holds = Command::Report(Box::new(move |_| {
        reply.send(()).expect("the test listens");
        // The test has failed where nobody says anything.
        let _ = waits.recv_timeout(PATIENCE);
    }));
    let command = |command| running.handle.command(command).expect("there is room");
    command(holds);
    working.recv_timeout(PATIENCE).expect("the shard works on it");
    for number in 100..200 {
        command(Command::End(SessionId::from_random([number; 16]), EndReason::Deleted));
    }
    command(Command::Publish(Box::new(Opening {
        session,
        stream: StreamName::parse("lot-42").expect("a stream name"),
        protocol: Protocol::Rtmp,
        created: Clock::system().now(),
        ended: Box::new(drop),
    })));
    let fields = PacketFields {
        codec: Codec::Opus,
        layer: LayerId::ONLY,
        scale: Scale::default(),
        sizes: Sizes::default(),
        sequence: 1 << 16,
        timestamp: 1 << 34,
        marker: true,
        keyframe: true,
        arrival: Clock::system().now(),
    };
    let format = Format { codec: Codec::Opus, parameters: String::new() };
    let packets = vec![PacketPool::default().make(fields, &[0xfc, 1, 2])];
    let written = Written { format: Some(format), packets, ..Written::default() };
    assert!(running.handle.write(session, written));
    go_on.send(()).expect("the shard waits");
    let is_live = |event: &ShardEvent| matches!(event, ShardEvent::Engine(Event::Live { .. }));
    while !is_live(&running.event()) {}
}
