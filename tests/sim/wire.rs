//! What goes over the networks of a world, and what the engines tell.

use crate::client::{Client, Side};
use crate::world::World;
use millrace::engine::Input;
use millrace::engine::command::Event;
use millrace::media::arena::Path;
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Instant;

/// A datagram on its way; the earliest first, of two at the same time the first sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InFlight {
    pub(crate) at: Instant,
    number: u64,
    to_server: bool,
    /// The client's address on this way.
    remote: SocketAddr,
    datagram: Vec<u8>,
}

/// A datagram of the server, and where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Departing {
    /// The client that is or was there.
    pub(crate) client: usize,
    pub(crate) remote: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

/// Makes of a datagram what a server with a fault would have sent.
pub(crate) type Plant = Box<dyn FnMut(Departing, &mut [Client]) -> Vec<Departing>>;

/// Makes of what the server tells what one with a fault would have told.
pub(crate) type PlantEvent = Box<dyn FnMut(&mut Event)>;

impl World {
    /// A client sends a compound of its own making.
    pub(crate) fn send_rtcp(&mut self, number: usize, compound: &[u8]) {
        if let Side::Viewer(watching) = &mut self.clients[number].side {
            watching.sends(compound, self.now);
        }
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

    pub(crate) fn send(
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

    /// Whoever has not been connected is not any more: the server takes no more sessions.
    pub(crate) fn turn_away(&mut self) {
        for number in 0..self.clients.len() {
            if !self.connected(number) {
                self.clients[number].dead = true;
                let addresses = &self.addresses;
                self.wire.retain(|Reverse(it)| {
                    !it.to_server || addresses.get(&it.remote) != Some(&number)
                });
            }
        }
    }

    /// Lets a datagram arrive.
    pub(crate) fn deliver(&mut self, mut in_flight: InFlight) {
        let InFlight { to_server, remote, datagram, .. } = &mut in_flight;
        if *to_server {
            let mut path = Path::udp(*remote, None);
            if let Some(&number) = self.addresses.get(remote) {
                let client = &self.clients[number];
                self.oracle.reached(number, client, (*remote, datagram), self.now);
                path = self.path(number, *remote);
            }
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

    /// Takes what the engines want sent and told.
    pub(crate) fn flush(&mut self) {
        let told = self.events.len();
        for shard in 0..self.shards().count() {
            while let Some(mut event) = self.shard(shard).poll() {
                if let Some(plant) = &mut self.plant_event {
                    plant(&mut event);
                }
                self.events.push((self.now, event));
            }
        }
        self.tell_oracle(told, |event| matches!(event, Event::Connected { .. }));
        let departing: Vec<_> =
            self.arena.datagrams().map(|(path, bytes)| (path.remote, bytes.to_vec())).collect();
        self.arena.clear();
        for (remote, datagram) in departing {
            let Some(&client) = self.addresses.get(&remote) else {
                self.oracle.astray(remote, self.now);
                continue;
            };
            let departing = Departing { client, remote, datagram };
            let all = match &mut self.plant {
                Some(plant) => plant(departing, &mut self.clients),
                None => vec![departing],
            };
            for departing in &all {
                self.depart(departing);
            }
        }
        // Its farewell goes out before a session has ended.
        self.tell_oracle(told, |event| !matches!(event, Event::Connected { .. }));
    }

    fn tell_oracle(&mut self, from: usize, which: impl Fn(&Event) -> bool) {
        for (at, event) in self.events[from..].iter().filter(|(_, event)| which(event)) {
            self.oracle.told(event, *at);
        }
    }

    fn depart(&mut self, departing: &Departing) {
        let Departing { client: number, remote, datagram } = departing;
        let client = &mut self.clients[*number];
        self.oracle.departs(*number, client, (*remote, datagram), self.now);
        if client.connection.is_some() {
            return self.write(*number, datagram.clone());
        }
        let arrivals = client.down.carry(datagram, self.now);
        self.send(arrivals, *remote, false, datagram);
    }
}
