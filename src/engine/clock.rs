//! Viewers who listen to what the timestamps that they see stand for. They are told when they are
//! sent sender reports, and the same; nothing is done for those who do not listen.

use super::Engine;
use super::command::{Event, TrackClock};
use super::peer::Side;
use crate::media::arena::SendArena;
use crate::media::id::SessionId;
use std::time::Instant;

impl Engine {
    /// A viewer's client listens from now on, or no more.
    pub(super) fn listen(
        &mut self,
        session: SessionId,
        listens: bool,
        now: Instant,
        arena: &mut SendArena,
    ) {
        let Some(key) = self.demux.by_session(session) else { return };
        let Some(Side::Viewer(viewing)) = self.peers.get_mut(key).map(|peer| &mut peer.side) else {
            return;
        };
        if !std::mem::replace(&mut viewing.listens, listens) {
            self.tell_clock(key, now);
            self.tell_layers(key, now, arena);
        }
    }

    /// Tells a viewer who listens what it may be told.
    pub(super) fn tell_clock(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        let Side::Viewer(viewing) = &peer.side else { return };
        if !viewing.listens {
            return;
        }
        let router = self.streams.get(peer.stream).map(|stream| &stream.router);
        let clocks = viewing.viewer.clocks(|kind| viewing.timestamp_at(kind, router?, now));
        let clocks = clocks
            .map(|clock| clock.map(|(ssrc, timestamp, wall)| TrackClock { ssrc, timestamp, wall }));
        if clocks.iter().any(Option::is_some) {
            self.events.push_back(Event::Clock { session: peer.session, clocks });
        }
    }
}
