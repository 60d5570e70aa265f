//! Packets per UDP message and system calls per packet, for what real publishers sent.
//!
//! Drives a whole engine with the recorded packets at their recorded times and sends its arena
//! through a shard's socket to viewers on loopback. Time is virtual: the engine sees what it would
//! have seen live, whatever else the machine does, and a turn takes as long as its packets cost.
//! "idle" is a shard that sends whatever waits at the end of each turn, "busy" one that waits for
//! the end of a frame or 4 ms. "Calls" are those of sending; a turn is two more for all its
//! packets.

// The table is what a benchmark is for.
#![allow(clippy::print_stdout)]

mod recording;

use bytes::Bytes;
use millrace::clock::Clock;
use millrace::engine::command::{Agreement, Claims, Prepared};
use millrace::engine::{Engine, EngineSettings, Input};
use millrace::media::arena::{Path, SendArena};
use millrace::media::codec::{Codec, Format, Kind};
use millrace::media::id::{SessionId, StreamName};
use millrace::peer::agreement::{
    AnnouncedSsrc, Credentials, ExtensionIds, Feedback, PayloadFormat, PublisherAgreement,
    ReceivedMedia, SentMedia, ViewerAgreement,
};
use millrace::peer::identity::Identity;
use millrace::peer::testing::{ClientOptions, TestClient};
use millrace::peer::transport::Timeouts;
use millrace::router::RouterSettings;
use millrace::shard::socket::{Buffers, MediaSocket, SendReport};
use recording::Recorded;
use rtc_shared::marshal::Marshal;
use rtp::header::Header;
use rtp::packet::Packet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VIEWERS: usize = 100;
/// What a packet costs a shard on its way to one viewer (ARCHITECTURE.md, Decisions).
const COST: Duration = Duration::from_nanos(930);

/// Sessions that wait to be claimed.
struct Prepareds(Vec<Prepared>);

impl Claims for Prepareds {
    fn claim(
        &mut self,
        ufrag: &str,
        authentic: &mut dyn FnMut(&Prepared) -> bool,
    ) -> Option<Prepared> {
        let named = |prepared: &Prepared| prepared.agreement.transport().local.ufrag == ufrag;
        let index = self.0.iter().position(|prepared| named(prepared) && authentic(prepared))?;
        Some(self.0.swap_remove(index))
    }
}

/// One client: where it is, and what it does below its media.
struct Client {
    path: Path,
    peer: TestClient,
}

/// An engine with a publisher and its viewers, all connected.
struct World {
    engine: Engine,
    arena: SendArena,
    socket: MediaSocket,
    publisher: Client,
    /// Keeps the viewers' ports open.
    _viewers: Vec<UdpSocket>,
    now: Instant,
    sequences: [u16; 2],
}

/// What a replay came to.
#[derive(Debug, Default)]
struct Outcome {
    packets_in: u64,
    turns: u64,
    sent: SendReport,
}

impl World {
    fn new() -> Self {
        let clock = Clock::system();
        let now = clock.now();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |_| UdpSocket::bind(loopback).expect("loopback has a free port");
        let sockets: Vec<_> = (0..=VIEWERS).map(bind).collect();
        let mut clients: Vec<_> = sockets.iter().enumerate().map(client).collect();
        let prepared = clients.iter().enumerate().map(|(i, c)| prepare(i, &c.peer, now)).collect();
        let settings = EngineSettings {
            router: RouterSettings::default(),
            timeouts: Timeouts::default(),
            publisher_silence: Duration::from_secs(30),
            rtx_share: 0.15,
        };
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let claims = Box::new(Prepareds(prepared));
        let mut engine = Engine::new(settings, identity, clock.epoch(), claims);
        let mut arena = SendArena::new(1 << 20);
        for client in &mut clients {
            connect(client, &mut engine, &mut arena, now);
        }
        assert_eq!(engine.sessions(), VIEWERS + 1);
        let buffers = Buffers { receive: 1 << 20, send: 4 << 20 };
        let socket = MediaSocket::bind(loopback, buffers, false).expect("loopback has a free port");
        let publisher = clients.swap_remove(0);
        Self { engine, arena, socket, publisher, _viewers: sockets, now, sequences: [0; 2] }
    }

    /// Replays a recording; `eager` is a shard that is less than half busy.
    fn replay(mut self, recording: &[Recorded], eager: bool) -> Outcome {
        let start = self.now;
        let mut outcome = Outcome::default();
        let mut rest = recording;
        loop {
            let next_packet = rest.first().map(|packet| start + packet.at);
            let Some(wake) = next_packet.into_iter().chain(self.engine.deadline()).min() else {
                break;
            };
            if next_packet.is_none() && wake > self.now + Duration::from_millis(5) {
                break;
            }
            self.now = self.now.max(wake);
            let due = |packet: &&Recorded| start + packet.at <= self.now;
            let due = rest.iter().take_while(due).count().min(MediaSocket::BATCH);
            let (batch, later) = rest.split_at(due);
            rest = later;
            self.turn(batch, eager, &mut outcome);
        }
        assert_eq!(outcome.packets_in, recording.len() as u64);
        let through = outcome.packets_in * VIEWERS as u64;
        assert!(outcome.sent.datagrams >= through, "each viewer gets each packet: {outcome:?}");
        outcome
    }

    /// What a shard does when it wakes.
    fn turn(&mut self, batch: &[Recorded], eager: bool, outcome: &mut Outcome) {
        outcome.turns += 1;
        for recorded in batch {
            let mut datagram = self.datagram(recorded);
            let input = Input::Datagram { path: self.publisher.path, bytes: &mut datagram };
            self.engine.handle(input, self.now, &mut self.arena);
            outcome.packets_in += 1;
        }
        self.engine.handle_timeout(self.now, &mut self.arena);
        loop {
            let more = self.engine.fan_out(self.now, eager, &mut self.arena);
            let report = self.socket.send(&self.arena, &Clock::system(), |_| false);
            self.arena.clear();
            self.now += COST * report.datagrams as u32;
            outcome.sent += report;
            if !more {
                break;
            }
        }
        while self.engine.poll().is_some() {}
    }

    /// The recorded packet as the publisher would send it.
    fn datagram(&mut self, recorded: &Recorded) -> Vec<u8> {
        let mut payload = vec![0xa5; recorded.payload_bytes.max(3)];
        if recorded.kind == Kind::Video {
            // The start of a fragmented IDR slice, or the middle of another (RFC 6184 §5.8).
            let start: &[u8; 3] = if recorded.keyframe { b"\x7c\x85\x88" } else { b"\x5c\x01\x9a" };
            payload[..3].copy_from_slice(start);
        }
        let sequence = &mut self.sequences[recorded.kind.index()];
        *sequence = sequence.wrapping_add(1);
        let header = Header {
            version: 2,
            marker: recorded.marker,
            payload_type: payload_type(recorded.kind),
            sequence_number: *sequence,
            timestamp: recorded.timestamp,
            ssrc: ssrc(recorded.kind),
            ..Header::default()
        };
        let packet = Packet { header, payload: Bytes::from(payload) };
        self.publisher.peer.seal(&packet.marshal().expect("an RTP packet"))
    }
}

fn payload_type(kind: Kind) -> u8 {
    [111, 102][kind.index()]
}

fn ssrc(kind: Kind) -> u32 {
    1_000 + kind.index() as u32
}

fn client((index, socket): (usize, &UdpSocket)) -> Client {
    let server = Credentials { ufrag: format!("serv{index}"), pwd: "s".repeat(24) };
    let remote = socket.local_addr().expect("a bound socket has an address");
    let path = Path { remote, local: Some(Ipv4Addr::LOCALHOST.into()) };
    Client { path, peer: TestClient::new(ClientOptions::default(), server) }
}

/// The first client publishes, the others watch.
fn prepare(index: usize, client: &TestClient, now: Instant) -> Prepared {
    let transport = client.agreement();
    let (extensions, feedback) = (ExtensionIds::default(), Feedback::default());
    let agreement = if index == 0 {
        let media = Kind::ALL.map(|kind| ReceivedMedia {
            kind,
            mid: kind.index().to_string(),
            formats: formats(kind),
            extensions,
            feedback,
            ssrcs: vec![AnnouncedSsrc { ssrc: ssrc(kind), rtx: None }],
            rids: Vec::new(),
        });
        Agreement::Publisher(PublisherAgreement { transport, media: media.into() })
    } else {
        let media = Kind::ALL.map(|kind| SentMedia {
            kind,
            mid: kind.index().to_string(),
            formats: formats(kind),
            extensions,
            feedback,
            ssrc: 2_000 + (index * 2 + kind.index()) as u32,
            rtx_ssrc: None,
        });
        Agreement::Viewer(ViewerAgreement { transport, media: media.into() })
    };
    let session = SessionId::from_random([index as u8; 16]);
    let stream = StreamName::parse("lot-42").expect("a stream name");
    Prepared { session, stream, agreement, random: [index as u8; 16], created: now }
}

fn formats(kind: Kind) -> Vec<PayloadFormat> {
    let format = match kind {
        Kind::Audio => Format { codec: Codec::Opus, parameters: String::new() },
        Kind::Video => Format {
            codec: Codec::H264,
            parameters: "packetization-mode=1;profile-level-id=42e01f".to_owned(),
        },
    };
    vec![PayloadFormat { payload_type: payload_type(kind), format, rtx: None }]
}

/// Checks and the handshake, without a network between.
fn connect(client: &mut Client, engine: &mut Engine, arena: &mut SendArena, now: Instant) {
    let mut datagrams = vec![client.peer.check(true)];
    while !datagrams.is_empty() {
        for mut bytes in datagrams.drain(..) {
            let path = client.path;
            engine.handle(Input::Datagram { path, bytes: &mut bytes }, now, arena);
        }
        for (_, answer) in arena.datagrams() {
            client.peer.handle(answer, now);
        }
        arena.clear();
        if client.peer.checks_answered == 1 && !client.peer.is_connected() {
            client.peer.start(now);
        }
        datagrams.extend(std::iter::from_fn(|| client.peer.poll()));
    }
    assert!(client.peer.is_connected(), "{:?}", client.peer.error);
}

/// Replays what is left of a recording with these kinds, and prints a line of the table.
fn measure(name: &str, csv: &str, kinds: &[Kind], eager: bool) {
    let mut recording = recording::read(csv);
    recording.retain(|packet| kinds.contains(&packet.kind));
    let Outcome { packets_in, turns, sent } = World::new().replay(&recording, eager);
    let packets = sent.datagrams as f64;
    let (messages, calls) = (sent.messages as f64, sent.system_calls as f64);
    println!(
        "{name:<34}{packets:>9}{:>13.2}{:>15.4}{:>14.2}",
        packets / messages,
        calls / packets,
        turns as f64 / packets_in as f64,
    );
}

fn main() {
    println!("what real publishers sent, to {VIEWERS} viewers");
    println!(
        "{:<34}{:>9}{:>13}{:>15}{:>14}",
        "publisher, kinds, shard", "packets", "per message", "calls/packet", "turns/packet"
    );
    for (publisher, csv) in [("Chromium", recording::CHROMIUM), ("burst", recording::BURST)] {
        for (kinds, named) in [(&Kind::ALL[..], "both"), (&[Kind::Video], "video")] {
            for (shard, eager) in [("idle", true), ("busy", false)] {
                measure(&format!("{publisher}, {named}, {shard}"), csv, kinds, eager);
            }
        }
    }
}
