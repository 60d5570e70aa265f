//! Publishers: whose media a stream is, where it comes from, and what it is asked for.

use super::Engine;
use super::command::{EndReason, Event};
use super::message::{Message, Term};
use super::peer::{Peer, Side};
use crate::media::arena::{Path, SendArena};
use crate::media::layer::{LAYERS_MAX, LayerId};
use std::time::Instant;

impl Engine {
    /// A publisher is ready to send: the stream is its own from now on.
    pub(super) fn begin_stream(
        &mut self,
        key: usize,
        index: usize,
        now: Instant,
        arena: &mut SendArena,
    ) {
        let Some(term) = self.peers.get(key).map(Peer::term) else { return };
        let Some(stream) = self.streams.get(index) else { return };
        if self.is_published_later(&stream.name, term) {
            return self.end(key, EndReason::Replaced, now, arena);
        }
        self.end_publisher(index, EndReason::Replaced, now, arena);
        self.publish(index, term);
        self.begin_term(index);
        if let Some(stream) = self.streams.get_mut(index) {
            stream.publisher = Some(key);
            if let Some(Side::Publisher(publishing)) = self.peers.get(key).map(|it| &it.side) {
                let layers = (0..LAYERS_MAX).filter_map(LayerId::at);
                let rids = layers.map(|layer| publishing.receiver.rid(layer).to_owned());
                stream.router.set_rids(rids.collect());
            }
            self.publishers_moved += 1;
        }
        self.tapped_begins(index);
    }

    /// Ends whoever publishes a stream here.
    pub(super) fn end_publisher(
        &mut self,
        index: usize,
        reason: EndReason,
        now: Instant,
        arena: &mut SendArena,
    ) {
        let Some(stream) = self.streams.get(index) else { return };
        if let Some(publication) = &stream.publication {
            self.end_publication(publication.term().session, reason, now);
        } else if let Some(key) = stream.publisher {
            self.end(key, reason, now, arena);
        }
    }

    /// Nobody publishes a stream here any more; its viewers wait for another.
    pub(super) fn publisher_left(
        &mut self,
        index: usize,
        term: Term,
        is_replaced: bool,
        now: Instant,
    ) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let until = now + self.settings.grace;
        stream.vacate(until);
        let name = stream.name.clone();
        if !is_replaced {
            self.events.push_back(Event::Vacant { stream: name.clone(), term, until });
        }
        self.unpublish(name, term);
    }

    /// Another publisher's media flows from now on, here or from another shard.
    pub(super) fn begin_term(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.begin_term(&mut self.peers, &mut self.catch_ups);
    }

    /// Lets the viewers of a stream go that have waited for a publisher long enough.
    pub(super) fn end_grace(&mut self, index: usize, now: Instant, arena: &mut SendArena) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.vacant_until.is_none_or(|until| now < until) {
            return;
        }
        stream.vacant_until = None;
        for viewer in stream.viewers.clone() {
            self.end(viewer, EndReason::StreamEnded, now, arena);
        }
    }

    /// Counts up whenever [`Engine::publisher_paths`] has changed.
    pub const fn publishers_moved(&self) -> u64 {
        self.publishers_moved
    }

    /// Where the publishers of this shard's streams send from.
    pub fn publisher_paths(&self) -> impl Iterator<Item = Path> {
        let publishers = self.streams.iter().filter_map(|(_, stream)| stream.publisher);
        publishers.filter_map(|key| self.peers.get(key)?.transport.path())
    }

    /// Asks the publisher for a keyframe, if somebody waits for one and it is time.
    pub(super) fn request_keyframe(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if !stream.has_publisher() && stream.source.is_none() {
            return;
        }
        while let Some(layer) = stream.router.keyframe_request_due(now) {
            if let Some(shard) = stream.source {
                let wanted = Message::KeyframeWanted(stream.name.clone(), layer);
                self.messages.push_back((shard, wanted));
                continue;
            }
            if let (Some(making), true) = (&stream.making, layer != LayerId::ONLY) {
                making.request_keyframe(layer);
                continue;
            }
            let peer = stream.publisher.and_then(|key| self.peers.get_mut(key));
            if let Some(Side::Publisher(publishing)) = peer.map(|peer| &mut peer.side) {
                publishing.receiver.request_keyframe(layer, now);
                self.counters.keyframe_requests += 1;
            }
        }
        if let Some(key) = stream.publisher {
            self.reschedule(key);
        }
    }
}
