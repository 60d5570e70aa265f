//! Viewers whose connection takes less than they are sent.
//!
//! UDP loses what is too much for a link. A TCP connection keeps it, and would fall ever further
//! behind: its backlog is bounded, and who has lost a packet to that bound goes on with the next
//! keyframe, once the backlog is gone.

use super::Engine;
use super::catch_up::Begins;
use super::peer::{Side, Viewing};
use crate::media::arena::Path;
use crate::media::codec::Kind;
use std::time::Instant;

/// How it stands with what waits for a connection to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// There is little of it any more.
    Low,
    /// It is long: nothing is to be sent that can wait.
    High,
    /// It was full, and packets were lost to that.
    Lost,
}

impl Viewing {
    /// What it has of the picture is in pieces: it goes on with a keyframe.
    pub(super) fn lose_picture(&mut self) {
        let Some(subscription) = &mut self.subscriptions[Kind::Video.index()] else { return };
        subscription.wait();
        let next_out = subscription.next_out();
        if self.catching_up.take().is_some()
            && let Some(track) = self.viewer.track(Kind::Video)
        {
            track.playout_delay().is_live(next_out);
        }
    }
}

impl Engine {
    /// Takes in how it stands with the backlog of a connection.
    pub(super) fn backlog(&mut self, path: Path, backlog: Backlog, now: Instant) {
        let Some(key) = self.demux.by_address(path.client()) else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.transport.path() != Some(path) {
            return;
        }
        let Side::Viewer(viewing) = &mut peer.side else { return };
        match backlog {
            Backlog::Low => self.release(key, now),
            Backlog::High => viewing.held = true,
            Backlog::Lost => {
                viewing.held = true;
                viewing.lose_picture();
                self.catch_ups.ended(key);
            }
        }
    }

    /// Nothing holds a viewer back any more: it goes on where it was, or with a keyframe.
    pub(super) fn release(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let index = peer.stream;
        let Side::Viewer(viewing) = &mut peer.side else { return };
        if !std::mem::take(&mut viewing.held) {
            return;
        }
        if viewing.catching_up.is_some() {
            // It may not have left the queue yet.
            self.catch_ups.ended(key);
            self.catch_ups.started(key, Begins::Cached, now);
        } else if viewing.waits_for_video()
            && let Some(target) = viewing.target()
            && let Some(stream) = self.streams.get_mut(index)
        {
            stream.router.want_keyframe(target);
            self.request_keyframe(index, now);
        }
    }
}
