//! One client of a world: its transport, what it is to its stream, and its links.

use crate::connection::Connection;
use crate::link::Link;
use crate::publisher::Publishing;
use crate::viewer::Watching;
use millrace::peer::stun::{DatagramKind, classify};
use millrace::peer::testing::{TestClient, Wiretap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a client is to its stream.
pub(crate) enum Side {
    Publisher(Box<Publishing>),
    Viewer(Box<Watching>),
}

/// One client and its links.
pub(crate) struct Client {
    pub(crate) peer: TestClient,
    pub(crate) side: Side,
    /// Its stream's name.
    pub(crate) stream: String,
    /// It shows another certificate than the one in its offer.
    pub(crate) is_impostor: bool,
    /// From the client to the server.
    pub(crate) up: Link,
    /// From the server to the client.
    pub(crate) down: Link,
    pub(crate) address: SocketAddr,
    /// Where it has no UDP.
    pub(crate) connection: Option<Connection>,
    /// It neither sends nor hears any more.
    pub(crate) dead: bool,
    /// When it sends its next check.
    pub(crate) next_check: Instant,
    /// Whether its checks nominate.
    pub(crate) nominates: bool,
    /// Reads what the server sends it.
    pub(crate) tap: Option<Wiretap>,
}

impl Client {
    /// Between its checks until it is connected.
    const CHECKS: Duration = Duration::from_millis(50);
    /// Between its checks from then on.
    const CONSENT: Duration = Duration::from_millis(2_500);

    /// Reads what the server sends it, once it has its keys.
    pub(crate) fn tap(&mut self) -> Option<&mut Wiretap> {
        if self.tap.is_none() {
            self.tap = self.peer.wiretap();
        }
        self.tap.as_mut()
    }

    /// When it has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
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
    pub(crate) fn turn(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        if self.next_check <= now {
            out.push(self.peer.check(self.nominates));
            // As often as a browser does.
            self.next_check =
                now + if self.peer.is_connected() { Self::CONSENT } else { Self::CHECKS };
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

    /// Takes in a datagram of the server.
    pub(crate) fn receive(&mut self, datagram: &[u8], now: Instant, out: &mut Vec<Vec<u8>>) {
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
