//! What an engine holds at a moment: none of it may grow without end, nor outlive its session.

use super::Engine;
use super::peer::Side;

/// How many there are of everything an engine keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Sessions.
    pub sessions: usize,
    /// Streams.
    pub streams: usize,
    /// Addresses, ICE user names and ids by which sessions are found.
    pub names: usize,
    /// Addresses of other shards' sessions.
    pub foreign: usize,
    /// Streams that other shards have the publishers of.
    pub abroad: usize,
    /// Deadlines, in force or not.
    pub deadlines: usize,
    /// Viewers who catch up.
    pub catching_up: usize,
    /// Streams with packets that wait.
    pub waiting: usize,
    /// Those packets, and what is to be handed to other shards.
    pub packets: usize,
    /// Packets kept for viewers who come in between keyframes.
    pub cached: usize,
    /// Packets that publishers' pools remember, in use or not.
    pub pooled: usize,
    /// Those who read streams.
    pub readers: usize,
    /// Events that nobody has taken yet.
    pub events: usize,
    /// Messages to other shards that nobody has taken yet.
    pub messages: usize,
}

impl Engine {
    /// How many there are of everything it keeps.
    pub fn held(&self) -> Held {
        let mut held = Held {
            sessions: self.peers.len() + self.publications.len(),
            streams: self.streams.len(),
            names: self.demux.sizes().into_iter().sum(),
            foreign: self.foreign.len(),
            abroad: self.abroad.len(),
            deadlines: self.timers.len(),
            catching_up: self.catching_up(),
            waiting: self.waiting.len(),
            readers: self.readers(),
            events: self.events.len(),
            messages: self.messages.len(),
            ..Held::default()
        };
        for (_, stream) in &self.streams {
            held.packets += stream.router.waiting() + stream.parcel.len();
            held.cached += stream.router.cached();
        }
        for (_, peer) in &self.peers {
            if let Side::Publisher(publishing) = &peer.side {
                held.pooled += publishing.pooled();
            }
        }
        held
    }
}
