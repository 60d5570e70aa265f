//! Layers that are made here of what a publisher sends, beside its own: they begin when somebody
//! wants them, and whoever makes them is told who does.
//!
//! To viewers they are layers like any other: measured, allotted, cached, asked for keyframes.
//! Until something of one has been made it counts for what it is to carry.

use super::Engine;
use super::command::{Make, Written};
use super::message::{Message, SenderReport, Term};
use super::peer::{Side, Viewing};
use super::stream::Stream;
use crate::media::codec::{Codec, Kind};
use crate::media::id::{SessionId, StreamName};
use crate::media::layer::{LayerId, LayerState, MadeLayer, SelectedLayer};
use crate::router::Router;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use tracing::error;

/// To how many each made layer is sent, or is to be, by its place among them. Whoever reads all
/// layers of a stream to package them counts as one of each.
pub type Watching = [u32; MadeLayer::MAX];

/// Told what is wanted of made layers, in an engine's thread: it must not wait.
pub trait Wishes: Send + Sync {
    /// So many watch them from now on. None at first.
    fn watched(&self, by: Watching);

    /// Somebody cannot go on without a keyframe of this one.
    fn keyframe(&self, index: usize);
}

/// Made layers of a stream that is published here.
pub(super) struct Making {
    wishes: Arc<dyn Wishes>,
    /// What was told.
    watched: Watching,
}

/// Which made layers viewers get, or are to get.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Those of the shards that follow the stream, as they have told.
    abroad: Vec<(usize, Watching)>,
    /// What the shard that is followed was told.
    told: Watching,
}

impl Watched {
    /// What viewers of another shard get, from now on.
    fn set_abroad(&mut self, shard: usize, by: Watching) {
        self.left(shard);
        if by != Watching::default() {
            self.abroad.push((shard, by));
        }
    }

    /// A shard follows no longer.
    pub(super) fn left(&mut self, shard: usize) {
        self.abroad.retain(|(other, _)| *other != shard);
    }

    /// Those of all shards together, with these.
    fn with(&self, here: Watching) -> Watching {
        let mut all = here;
        for (_, abroad) in &self.abroad {
            all.iter_mut().zip(abroad).for_each(|(all, more)| *all = all.saturating_add(*more));
        }
        all
    }
}

impl Making {
    /// Somebody waits for a keyframe of a layer, if it is one of these.
    pub(super) fn request_keyframe(&self, layer: LayerId) {
        if let Some(index) = MadeLayer::index(layer) {
            self.wishes.keyframe(index);
        }
    }
}

impl Stream {
    /// Whether this publisher's only layer may have others made of it, or has.
    fn takes_made(&self, term: Term) -> bool {
        let names = self.router.rids();
        let is_single = names.iter().filter(|rid| !rid.is_empty()).count() <= 1;
        self.has_publisher() && self.term == Some(term) && is_single
    }

    /// Nothing is made any more.
    fn end_making(&mut self) {
        if self.making.take().is_some() {
            self.router.set_made(Arc::default());
        }
    }
}

impl Viewing {
    /// The made layers that are sent to it, or are to be, each once.
    fn made_watched(&self) -> impl Iterator<Item = usize> {
        let [target, current] = self.watched();
        let current = current.filter(|_| current != target);
        target.into_iter().chain(current).filter_map(MadeLayer::index)
    }

    /// Those of these layers that its client can play: what is made of a layer may be encoded
    /// otherwise. What is made in the size of the publisher's own is for those who do not play
    /// that.
    pub(super) fn playable<'a>(&mut self, layers: &'a [LayerState]) -> Cow<'a, [LayerState]> {
        let Some(track) = self.viewer.track(Kind::Video) else { return Cow::Borrowed(layers) };
        if !layers.iter().any(|layer| layer.is_made) {
            return Cow::Borrowed(layers);
        }
        let plays = |layer: &LayerState| layer.codec.is_none_or(|codec| track.takes(codec));
        let own = layers.iter().find(|layer| !layer.is_made && layer.is_active && plays(layer));
        let own_size = own.and_then(|own| own.dimensions);
        let is_like_own = |layer: &LayerState| own_size.is_some() && layer.dimensions == own_size;
        let serves = |layer: &LayerState| plays(layer) && !(layer.is_made && is_like_own(layer));
        if layers.iter().all(serves) {
            return Cow::Borrowed(layers);
        }
        Cow::Owned(layers.iter().filter(|&layer| serves(layer)).cloned().collect())
    }

    /// What it begins with where nothing flows yet of what it is to get: that is made only now, and
    /// whoever comes is not to wait for it.
    pub(super) fn stand_in(
        &mut self,
        target: SelectedLayer,
        layers: &[LayerState],
    ) -> Option<SelectedLayer> {
        let is_new = self.selecting.estimate.is_none()
            && self.subscription(Kind::Video).is_some_and(|video| video.current().is_none());
        let is_idle = |layer: &LayerState| layer.layer == target.layer && layer.is_idle;
        if !is_new || !layers.iter().any(is_idle) {
            return None;
        }
        let layers = self.playable(layers);
        let flowing = layers.iter().rfind(|layer| layer.is_active && !layer.is_idle)?;
        let spatial = flowing.spatial_max().min(self.selecting.spatial_max);
        let temporal = flowing.temporal_max();
        Some(SelectedLayer { layer: flowing.layer, spatial, temporal })
    }

    /// The codecs that its client does not play, where others can be made of them.
    pub(super) fn refused(&mut self, router: &Router) -> [bool; Codec::ALL.len()] {
        match self.viewer.track(Kind::Video).filter(|_| router.has_made()) {
            Some(video) => Codec::ALL.map(|it| it.kind() == Kind::Video && !video.takes(it)),
            None => [false; Codec::ALL.len()],
        }
    }
}

impl Engine {
    /// Of this publisher these layers can be had from now on.
    pub(super) fn make(&mut self, make: Make, now: Instant) {
        let Make { stream: name, term, layers, wishes } = make;
        let Some(&index) = self.names.get(&name) else { return };
        let Some(stream) = self.streams.get_mut(index).filter(|it| it.takes_made(term)) else {
            return;
        };
        stream.router.set_made(layers.iter().take(MadeLayer::MAX).cloned().collect());
        if let Some(wishes) = wishes {
            stream.making = Some(Making { wishes, watched: Watching::default() });
        }
        self.made_changed(index, now);
    }

    /// They cannot be had any more.
    pub(super) fn unmake(&mut self, name: &StreamName, term: Term, now: Instant) {
        let Some(&index) = self.names.get(name) else { return };
        if let Some(stream) = self.streams.get_mut(index).filter(|it| it.term == Some(term)) {
            stream.end_making();
            self.made_changed(index, now);
        }
    }

    /// All shards with viewers are told which layers there are.
    fn made_changed(&mut self, index: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let made = stream.router.made();
        stream.look_again(now);
        self.tell_followers(index, |name| Message::Made(name, Arc::clone(&made)));
        self.tell_watched(index);
    }

    /// Something of made layers has come; a panic in it ends their being made, and nothing else.
    pub(super) fn take_made(&mut self, session: SessionId, written: &Written, now: Instant) {
        let Some(index) = self.stream_of(session) else { return };
        if catch_unwind(AssertUnwindSafe(|| self.made(index, written, now))).is_err() {
            let stream = self.streams.get_mut(index);
            error!(
                stream = ?stream.as_ref().map(|stream| &stream.name),
                "a fault in code ended the layers that are made of a stream; please report it"
            );
            self.counters.faults += 1;
            if let Some(stream) = stream {
                stream.end_making();
            }
            self.made_changed(index, now);
        }
    }

    /// The stream that a session publishes here.
    fn stream_of(&self, session: SessionId) -> Option<usize> {
        let peer = || self.peers.get(self.demux.by_session(session)?);
        self.publications.get(&session).copied().or_else(|| Some(peer()?.stream))
    }

    fn made(&mut self, index: usize, written: &Written, now: Instant) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.making.is_none() {
            return;
        }
        let made = stream.router.made();
        let codec_of = |layer| made.get(MadeLayer::index(layer)?).map(|made| made.codec);
        for packet in &written.packets {
            if codec_of(packet.layer) == Some(packet.codec) {
                self.forward(index, packet);
            } else {
                self.counters.packets_dropped += 1;
            }
        }
        let Some(stream) = self.streams.get_mut(index) else { return };
        if let Some(report) = written.report {
            let SenderReport { lane, ntp, timestamp, arrival } = report;
            stream.router.sender_report(lane, ntp, timestamp, arrival);
            self.tell_followers(index, |name| Message::SenderReport(name, report));
        }
        if let Some(layer) = written.ended.filter(|&layer| codec_of(layer).is_some()) {
            self.layer_ended(index, layer, now);
        }
    }

    /// Nothing more comes of a layer, for the time being or for ever.
    pub(super) fn layer_ended(&mut self, index: usize, layer: LayerId, now: Instant) {
        if let Some(stream) = self.streams.get_mut(index) {
            stream.router.stop_made(layer);
            stream.look_again(now);
        }
        self.tell_followers(index, |name| Message::MadeEnded(name, layer));
    }

    /// Viewers of another shard that follows a stream of ours get these made layers.
    pub(super) fn watched_abroad(&mut self, from: usize, name: &StreamName, by: Watching) {
        let Some(&index) = self.names.get(name) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.followers.contains(&from) {
            stream.watched.set_abroad(from, by);
            self.tell_made_watched(index);
        }
    }

    /// Where a viewer is the first to get a layer that is made, that is told at once, and not after
    /// the next look at all viewers: it begins to be made by that.
    pub(super) fn tell_if_first(&mut self, key: usize) {
        let Some(peer) = self.peers.get(key) else { return };
        let (Some(stream), Side::Viewer(viewing)) = (self.streams.get(peer.stream), &peer.side)
        else {
            return;
        };
        let told = stream.making.as_ref().map_or(&stream.watched.told, |it| &it.watched);
        if viewing.made_watched().any(|at| told[at] == 0) {
            self.tell_made_watched(peer.stream);
        }
    }

    /// Whoever makes layers, or has the publisher, is told which of them viewers get.
    pub(super) fn tell_made_watched(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index) else { return };
        let mut here = Watching::default();
        if !stream.router.made().is_empty() {
            for viewer in stream.viewers.iter().filter_map(|&key| self.peers.get(key)) {
                let Side::Viewer(viewing) = &viewer.side else { continue };
                viewing.made_watched().for_each(|at| here[at] += 1);
            }
        }
        let Some(stream) = self.streams.get_mut(index) else { return };
        if let Some(shard) = stream.source {
            if std::mem::replace(&mut stream.watched.told, here) != here {
                let name = stream.name.clone();
                self.tell(shard, Message::Watched(name, here));
            }
        } else if let Some(making) = &mut stream.making {
            // All shards know of a reader; the one that has the publisher serves it.
            if stream.tapping.as_ref().is_some_and(|tapping| tapping.takes_made()) {
                let available = stream.router.made_available();
                let read = here.iter_mut().enumerate().filter(|(at, _)| available & (1 << at) != 0);
                read.for_each(|(_, by)| *by += 1);
            }
            let watched = stream.watched.with(here);
            if std::mem::replace(&mut making.watched, watched) != watched {
                making.wishes.watched(watched);
            }
        }
    }
}
