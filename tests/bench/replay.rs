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

#[path = "../support/audience.rs"]
mod audience;
mod recording;
#[path = "../support/sessions.rs"]
mod sessions;

use audience::Audience;
use millrace::clock::Clock;
use millrace::engine::Input;
use millrace::media::arena::Path;
use millrace::media::codec::Kind;
use millrace::shard::socket::{Buffers, MediaSocket, SendReport};
use recording::Recorded;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const VIEWERS: usize = 100;
/// What a packet costs a shard on its way to one viewer (ARCHITECTURE.md, Decisions).
const COST: Duration = Duration::from_nanos(930);

/// An engine with its clients, and the socket that it sends by.
struct World {
    audience: Audience,
    socket: MediaSocket,
    /// Where the publisher is.
    publisher: Path,
    /// Keeps the clients' ports open.
    _clients: Vec<UdpSocket>,
    now: Instant,
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
        let epoch = Clock::system().epoch();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |_| UdpSocket::bind(loopback).expect("loopback has a free port");
        let clients: Vec<_> = (0..=VIEWERS).map(bind).collect();
        let path = |socket: &UdpSocket| {
            let remote = socket.local_addr().expect("a bound socket has an address");
            Path::udp(remote, Some(Ipv4Addr::LOCALHOST.into()))
        };
        let paths: Vec<_> = clients.iter().map(path).collect();
        let audience = Audience::new(&paths, epoch);
        let buffers = Buffers { receive: 1 << 20, send: 4 << 20 };
        let socket = MediaSocket::bind(loopback, buffers, false).expect("loopback has a free port");
        Self { audience, socket, publisher: paths[0], _clients: clients, now: epoch.instant }
    }

    /// Replays a recording; `eager` is a shard that has nothing else to do, any other is half busy.
    fn replay(mut self, recording: &[Recorded], eager: bool) -> Outcome {
        if eager {
            self.audience.engine.set_batch_wait(Duration::ZERO);
        }
        let start = self.now;
        let mut outcome = Outcome::default();
        let mut rest = recording;
        loop {
            let next_packet = rest.first().map(|packet| start + packet.at);
            let Some(wake) = next_packet.into_iter().chain(self.audience.engine.deadline()).min()
            else {
                break;
            };
            if next_packet.is_none() && wake > self.now + Duration::from_millis(9) {
                break;
            }
            self.now = self.now.max(wake);
            let due = |packet: &&Recorded| start + packet.at <= self.now;
            let due = rest.iter().take_while(due).count().min(MediaSocket::BATCH);
            let (batch, later) = rest.split_at(due);
            rest = later;
            self.turn(batch, &mut outcome);
        }
        assert_eq!(outcome.packets_in, recording.len() as u64);
        let through = outcome.packets_in * VIEWERS as u64;
        assert!(outcome.sent.datagrams >= through, "each viewer gets each packet: {outcome:?}");
        outcome
    }

    /// What a shard does when it wakes.
    fn turn(&mut self, batch: &[Recorded], outcome: &mut Outcome) {
        outcome.turns += 1;
        for recorded in batch {
            let &Recorded { kind, payload_bytes, timestamp, marker, keyframe, .. } = recorded;
            let audience = &mut self.audience;
            let flags = (marker, keyframe);
            let mut datagram = audience.datagram(kind, payload_bytes, timestamp, flags);
            let input = Input::Datagram { path: self.publisher, bytes: &mut datagram };
            audience.engine.handle(input, self.now, &mut audience.arena);
            outcome.packets_in += 1;
        }
        let Audience { engine, arena, .. } = &mut self.audience;
        engine.handle_timeout(self.now, arena);
        loop {
            let more = engine.fan_out(self.now, arena);
            let report = self.socket.send(arena, &Clock::system(), |_| false);
            arena.clear();
            self.now += COST * report.datagrams as u32;
            outcome.sent += report;
            if !more {
                break;
            }
        }
        while engine.poll().is_some() {}
    }
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
