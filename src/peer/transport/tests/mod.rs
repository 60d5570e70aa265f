//! Every behaviour of a transport, with a client of its own at the other end of a network.
//!
//! - `handshake`: clients connect, whatever their network does to the handshake
//! - `hostile`: what nobody should send
//! - `life`: consent, addresses, restarts of ICE, the end

mod handshake;
mod hostile;
mod life;

use super::*;
use crate::peer::record::records;
use crate::peer::seal::RtpFields;
use crate::peer::testing::{ClientKey, ClientOptions, Profiles, TestClient};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Server,
    Client,
}

struct InFlight {
    at: Instant,
    to: To,
    path: Path,
    datagram: Vec<u8>,
}

/// A client and a transport with a link between them, in virtual time.
struct World {
    now: Instant,
    transport: Transport,
    client: TestClient,
    arena: SendArena,
    link: VecDeque<InFlight>,
    delay: Duration,
    /// The client's address.
    path: Path,
    next_check: Instant,
    /// Whether to lose a DTLS datagram: its direction and number in that direction.
    lose: Box<dyn FnMut(To, usize) -> bool>,
    dtls_sent: [usize; 2],
    /// When the client stops to live.
    client_dies: Option<Instant>,
    connected_events: usize,
    /// Packets that reached the transport's caller, and the client's.
    opened: [usize; 2],
}

fn path(port: u16) -> Path {
    Path::udp(SocketAddr::from(([192, 0, 2, 7], port)), None)
}

fn server_credentials() -> Credentials {
    Credentials { ufrag: "serv".into(), pwd: "s".repeat(24) }
}

fn ms(span: u64) -> Duration {
    Duration::from_millis(span)
}

impl World {
    fn new(options: ClientOptions) -> Self {
        let now = Instant::now();
        let client = TestClient::new(options, server_credentials());
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let transport = Transport::new(client.agreement(), identity, Timeouts::default(), now);
        Self {
            now,
            transport,
            client,
            arena: SendArena::new(100_000),
            link: VecDeque::new(),
            delay: ms(10),
            path: path(5_000),
            next_check: now,
            lose: Box::new(|_, _| false),
            dtls_sent: [0, 0],
            client_dies: None,
            connected_events: 0,
            opened: [0, 0],
        }
    }

    fn connected(options: ClientOptions) -> Self {
        let mut world = Self::new(options);
        world.run(ms(2_000));
        assert_eq!(world.transport.state(), &State::Connected, "{options:?}");
        assert!(world.client.is_connected(), "{options:?}");
        world
    }

    fn send(&mut self, to: To, path: Path, datagram: Vec<u8>) {
        if classify(&datagram) == DatagramKind::Dtls {
            let number = self.dtls_sent[to as usize];
            self.dtls_sent[to as usize] += 1;
            if (self.lose)(to, number) {
                return;
            }
        }
        let at = self.now + self.delay;
        self.link.push_back(InFlight { at, to, path, datagram });
    }

    fn alive(&self) -> bool {
        self.client_dies.is_none_or(|dies| self.now < dies)
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.flush();
            let due = [
                self.link.front().map(|in_flight| in_flight.at),
                self.transport.deadline(),
                self.client.deadline().filter(|_| self.alive()),
                self.alive().then_some(self.next_check),
            ];
            let due = due.into_iter().flatten().min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        while self.link.front().is_some_and(|in_flight| in_flight.at <= self.now) {
            let Some(in_flight) = self.link.pop_front() else { break };
            self.deliver(in_flight);
            self.flush();
        }
        self.transport.handle_timeout(self.now, &mut self.arena);
        if !self.alive() {
            return;
        }
        if self.next_check <= self.now {
            let check = self.client.check(true);
            self.send(To::Server, self.path, check);
            let wait = if self.client.is_connected() { 2_500 } else { 50 };
            self.next_check = self.now + ms(wait);
        }
        self.client.handle_timeout(self.now);
    }

    fn deliver(&mut self, mut in_flight: InFlight) {
        match in_flight.to {
            To::Server => {
                let datagram = &mut in_flight.datagram;
                let (path, now) = (in_flight.path, self.now);
                match self.transport.handle(path, datagram, now, &mut self.arena) {
                    Received::Connected => self.connected_events += 1,
                    Received::Rtp { .. } | Received::Rtcp(_) => {
                        self.opened[To::Server as usize] += 1;
                    }
                    Received::Nothing | Received::Ended => {}
                }
            }
            To::Client if self.alive() => {
                self.client.handle(&in_flight.datagram, self.now);
                let media = self.client.open(&in_flight.datagram).is_some()
                    || self.client.open_rtcp(&in_flight.datagram).is_some();
                self.opened[To::Client as usize] += usize::from(media);
                if self.client.checks_answered > 0 {
                    self.client.start(self.now);
                }
            }
            To::Client => {}
        }
    }

    /// Puts what both sides want sent on the link.
    fn flush(&mut self) {
        let sent: Vec<_> =
            self.arena.datagrams().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        self.arena.clear();
        for (path, datagram) in sent {
            self.send(To::Client, path, datagram);
        }
        while let Some(datagram) = self.client.poll() {
            self.send(To::Server, self.path, datagram);
        }
    }

    /// A packet each way; whether both arrived.
    fn exchange(&mut self, sequence: u16) -> bool {
        let before = self.opened;
        let packet = self.client.seal(&rtp(sequence));
        self.send(To::Server, self.path, packet);
        let report = self.client.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
        self.send(To::Server, self.path, report);
        let Some(sealer) = self.transport.sealer() else { return false };
        let mut out = [0; 200];
        let fields = RtpFields {
            sequence: u64::from(sequence),
            ssrc: 2,
            payload: b"media",
            ..RtpFields::default()
        };
        let len = sealer.seal(&fields, &mut out).expect("it fits");
        let packet = out[..len].to_vec();
        let len = sealer.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 2], &mut out).expect("it fits");
        let report = out[..len].to_vec();
        self.send(To::Client, self.path, packet);
        self.send(To::Client, self.path, report);
        self.run(ms(100));
        self.opened == [before[0] + 2, before[1] + 2]
    }
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet.extend(b"payload");
    packet
}

const ROLES: [DtlsRole; 2] = [DtlsRole::Server, DtlsRole::Client];

fn as_role(server_role: DtlsRole) -> ClientOptions {
    ClientOptions { server_role, ..ClientOptions::default() }
}

/// Random numbers by seed (xorshift).
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
