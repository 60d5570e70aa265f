//! What UDP costs per 1200-byte packet on loopback, by the way in which packets are handed over.
//!
//! The ways are taken in turn within one run, so that their ratios hold whatever else the machine
//! does. It fails when sending or receiving allocates.

// The table is what a benchmark is for.
#![allow(clippy::print_stdout)]

#[path = "../support/allocations.rs"]
mod allocations;

use millrace::clock::Clock;
use millrace::media::arena::{Path, SendArena};
use millrace::shard::socket::{Buffers, MediaSocket};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A full packet: header, payload and tag.
const PACKET: [u8; 1200] = [0xa5; 1200];
const VIEWERS: usize = 64;
/// The packets of a frame at about 2.5 Mb/s and 30 fps.
const BURST: usize = 8;
const PACKETS: usize = VIEWERS * BURST;
const ROUNDS: usize = 200;
/// What one viewer is sent in a round fits, and so does all that the sender has in flight.
const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 4 << 20 };

/// How packets are handed to the kernel: sends all, and returns the number of system calls.
type Way = fn(&mut Bench) -> u64;

const WAYS: [(&str, Way); 4] = [
    ("sendto, one packet a call", Bench::sendto),
    ("sendmmsg, 64 packets a call", Bench::single),
    ("UDP GSO, 8 packets a call", Bench::segmented),
    ("sendmmsg of UDP GSO, 64 x 8 a call", Bench::batched),
];

struct Bench {
    plain: UdpSocket,
    single: MediaSocket,
    segmented: MediaSocket,
    clock: Clock,
    viewers: Vec<MediaSocket>,
    paths: Vec<Path>,
    arena: SendArena,
}

impl Bench {
    fn new() -> Self {
        let viewers: Vec<_> = (0..VIEWERS).map(|_| bind()).collect();
        let paths = viewers.iter().map(|viewer| {
            let remote = viewer.local_address().expect("a bound socket has an address");
            // The source address goes with each message, as it does in the shard.
            Path::udp(remote, Some(Ipv4Addr::LOCALHOST.into()))
        });
        let mut single = bind();
        single.disable_segmentation();
        Self {
            plain: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port"),
            single,
            segmented: bind(),
            clock: Clock::system(),
            paths: paths.collect(),
            viewers,
            arena: SendArena::new(PACKETS * PACKET.len()),
        }
    }

    fn fill(&mut self, paths: std::ops::Range<usize>) {
        self.arena.clear();
        for &path in &self.paths[paths] {
            for _ in 0..BURST {
                assert!(self.arena.push(path, &PACKET), "the arena holds all packets");
            }
        }
    }

    fn sendto(&mut self) -> u64 {
        for path in &self.paths {
            for _ in 0..BURST {
                self.plain.send_to(black_box(&PACKET), path.remote).expect("loopback takes all");
            }
        }
        PACKETS as u64
    }

    fn single(&mut self) -> u64 {
        self.single.send(&self.arena, &self.clock, |_| false).system_calls
    }

    fn segmented(&mut self) -> u64 {
        let mut calls = 0;
        for viewer in 0..VIEWERS {
            // Filling costs a copy of what the other ways find in place; it is not much.
            self.fill(viewer..viewer + 1);
            calls += self.segmented.send(&self.arena, &self.clock, |_| false).system_calls;
        }
        calls
    }

    fn batched(&mut self) -> u64 {
        self.segmented.send(&self.arena, &self.clock, |_| false).system_calls
    }

    /// Takes everything in, and returns how many datagrams there were and how long it took.
    fn drain(&mut self) -> (usize, Duration) {
        let began = Instant::now();
        let mut count = 0;
        for viewer in &mut self.viewers {
            loop {
                let received = viewer.receive(|_, bytes| {
                    black_box(bytes);
                });
                let received = received.expect("the socket works");
                count += received;
                if received < MediaSocket::BATCH {
                    break;
                }
            }
        }
        (count, began.elapsed())
    }
}

fn bind() -> MediaSocket {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    MediaSocket::bind(address, BUFFERS, false).expect("loopback has a free port")
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e9 / PACKETS as f64
}

fn main() -> ExitCode {
    let mut bench = Bench::new();
    let mut times = WAYS.map(|_| Vec::with_capacity(ROUNDS));
    let mut drains = Vec::with_capacity(ROUNDS * WAYS.len());
    let mut calls = [0; WAYS.len()];
    let mut allocations = 0;
    for _ in 0..ROUNDS {
        for (way, (name, send)) in WAYS.into_iter().enumerate() {
            bench.fill(0..VIEWERS);
            allocations += allocations::during(|| {
                let began = Instant::now();
                calls[way] = send(&mut bench);
                times[way].push(began.elapsed());
                let (count, drain) = bench.drain();
                assert_eq!(count, PACKETS, "{name}: all packets arrive");
                drains.push(drain);
            });
        }
    }
    println!("UDP on loopback, packets of {} bytes to {VIEWERS} viewers", PACKET.len());
    println!("{:<38}{:>12}{:>12}{:>18}", "way", "ns/packet", "of sendto", "calls per packet");
    let medians: Vec<_> = times.into_iter().map(median).collect();
    for ((name, _), (ns, calls)) in WAYS.iter().zip(medians.iter().zip(calls)) {
        let (ratio, share) = (ns / medians[0], calls as f64 / PACKETS as f64);
        println!("{name:<38}{ns:>12.0}{ratio:>12.2}{share:>18.4}");
    }
    println!("{:<38}{:>12.0}", "recvmmsg", median(drains));
    println!("allocations while sending and receiving: {allocations}");
    if allocations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
