//! The whole way of a packet, with sockets on loopback: a publisher sends, a shard's socket
//! receives, an engine forwards, the socket sends, viewers receive. Time is virtual.

use crate::allocations;
use crate::audience::Audience;
use millrace::clock::Clock;
use millrace::engine::Input;
use millrace::media::arena::Path;
use millrace::media::codec::Kind;
use millrace::shard::socket::{Buffers, MediaSocket};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Everything on the way.
pub(crate) struct Through {
    audience: Audience,
    socket: MediaSocket,
    address: SocketAddr,
    /// The publisher's socket, then those of the viewers.
    clients: Vec<UdpSocket>,
    clock: Clock,
    now: Instant,
    pictures: u32,
}

/// What some pictures came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Media packets that went in.
    pub(crate) packets_in: u64,
    /// Media packets that came out at the viewers.
    pub(crate) packets_out: u64,
    /// How long the shard's part of it took.
    pub(crate) shard: Duration,
    /// Allocations on the way of media.
    pub(crate) allocations: u64,
    /// Allocations for reports and whatever else the clock asks for.
    pub(crate) by_timers: u64,
}

impl Through {
    /// Packets of a picture.
    const PACKETS: usize = 8;

    /// A publisher and its viewers.
    pub(crate) fn new(viewers: usize) -> Self {
        let clock = Clock::system();
        let epoch = clock.epoch();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let clients: Vec<_> = (0..=viewers)
            .map(|_| {
                let socket = UdpSocket::bind(loopback).expect("loopback has a free port");
                socket.set_nonblocking(true).expect("a socket need not wait");
                socket
            })
            .collect();
        let path = |socket: &UdpSocket| {
            let remote = socket.local_addr().expect("a bound socket has an address");
            Path::udp(remote, Some(Ipv4Addr::LOCALHOST.into()))
        };
        let audience = Audience::new(&clients.iter().map(path).collect::<Vec<_>>(), epoch);
        let buffers = Buffers { receive: 1 << 20, send: 4 << 20 };
        let socket = MediaSocket::bind(loopback, buffers, false).expect("loopback has a free port");
        let address = socket.local_address().expect("a bound socket has an address");
        Self { audience, socket, address, clients, clock, now: epoch.instant, pictures: 0 }
    }

    /// Lets so many pictures go through, 30 a second, each with some sound.
    pub(crate) fn pictures(&mut self, count: u32) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..count {
            let datagrams = self.picture();
            outcome.packets_in += datagrams.len() as u64;
            let mut received = 0;
            outcome.allocations += allocations::during(|| {
                outcome.shard += self.forward(&datagrams);
                received = self.drain();
            });
            outcome.packets_out += received;
            self.now += Duration::from_millis(33);
            let Audience { engine, arena, .. } = &mut self.audience;
            outcome.by_timers += allocations::during(|| {
                engine.handle_timeout(self.now, arena);
                self.socket.send(arena, &self.clock, |_| false);
                arena.clear();
            });
            while engine.poll().is_some() {}
            self.drain();
        }
        outcome
    }

    /// The datagrams of the next picture and its sound; sealing them is the publisher's cost.
    fn picture(&mut self) -> Vec<Vec<u8>> {
        let keyframe = self.pictures.is_multiple_of(30);
        let (video, audio) = (self.pictures * 3_000, self.pictures * 1_584);
        self.pictures += 1;
        let mut datagrams: Vec<_> = (1..=Self::PACKETS)
            .map(|number| {
                let flags = (number == Self::PACKETS, keyframe && number == 1);
                // Sizes that differ a little, and one that is shorter.
                let bytes = if flags.0 { 700 } else { 1_170 + number % 3 };
                self.audience.datagram(Kind::Video, bytes, video, flags)
            })
            .collect();
        datagrams.insert(3, self.audience.datagram(Kind::Audio, 120, audio, (false, false)));
        datagrams
    }

    /// What publisher and shard do with a picture; tells how long the shard takes.
    fn forward(&mut self, datagrams: &[Vec<u8>]) -> Duration {
        let Self { audience, socket, now, .. } = self;
        let Audience { engine, arena, .. } = audience;
        for datagram in datagrams {
            self.clients[0].send_to(datagram, self.address).expect("loopback takes it");
        }
        let began = Instant::now();
        loop {
            let received = socket
                .receive(|path, bytes| engine.handle(Input::Datagram { path, bytes }, *now, arena))
                .expect("the socket works");
            if received < MediaSocket::BATCH {
                break;
            }
        }
        loop {
            let more = engine.fan_out(*now, arena);
            socket.send(arena, &self.clock, |_| false);
            arena.clear();
            if !more {
                return began.elapsed();
            }
        }
    }

    /// How many packets the viewers got.
    fn drain(&mut self) -> u64 {
        let mut memory = [0; 2_048];
        let viewers = self.clients.iter().skip(1);
        viewers
            .map(|viewer| std::iter::from_fn(|| viewer.recv(&mut memory).ok()).count() as u64)
            .sum()
    }
}
