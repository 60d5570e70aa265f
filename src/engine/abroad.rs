//! Streams whose publisher another shard owns: following them, and handing ours to followers.
//!
//! Every shard knows where each stream is published. The first viewer of a stream makes its shard
//! follow, the last one's leaving ends that. A shard that hears of a later publisher ends its own.

use super::Engine;
use super::catch_up::Begins;
use super::command::EndReason;
use super::made::Watched;
use super::message::{Message, SenderReport, Start, Term};
use super::stream::Stream;
use crate::media::arena::{Path, SendArena};
use crate::media::codec::Format;
use crate::media::id::StreamName;
use crate::media::layer::LayerId;
use crate::media::packet::Packet;
use crate::router::history::Pushed;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a stream is published, if it is not here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abroad {
    pub(super) shard: usize,
    pub(super) term: Term,
}

/// What is to be handed to the followers of a stream: a frame at a time, as viewers are sent it.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    packets: Vec<Arc<Packet>>,
    oldest: Option<Instant>,
    complete: bool,
}

impl Parcel {
    /// As many as go out to a viewer in one message.
    const PACKETS_MAX: usize = 64;

    fn push(&mut self, packet: Arc<Packet>) {
        self.oldest.get_or_insert(packet.arrival);
        self.complete |= packet.marker || self.packets.len() + 1 >= Self::PACKETS_MAX;
        self.packets.push(packet);
    }

    /// When it is to be handed over.
    pub(super) fn deadline(&self, wait: Duration) -> Option<Instant> {
        self.oldest.map(|oldest| if self.complete { oldest } else { oldest + wait })
    }

    /// How many packets there are to hand over.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is nothing to hand over.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn take(&mut self) -> Arc<[Arc<Packet>]> {
        self.oldest = None;
        self.complete = false;
        self.packets.drain(..).collect()
    }

    /// The stream is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Stream {
    /// A packet of ours goes to the followers too, and to those who read the stream.
    pub(super) fn gather(&mut self, packet: &Arc<Packet>) {
        let is_read =
            self.is_tapped() || self.tapping.is_some() && self.router.is_made(packet.layer);
        if !self.followers.is_empty() || is_read {
            self.parcel.push(Arc::clone(packet));
        }
    }
}

impl Engine {
    /// Messages that may wait for the shard to take them: media beyond that is lost.
    const MESSAGES_MAX: usize = 8192;

    /// The next message to another shard: its number, and the message.
    pub fn poll_message(&mut self) -> Option<(usize, Message)> {
        self.messages.pop_front()
    }

    pub(super) fn tell(&mut self, shard: usize, message: Message) {
        if message.is_media() && self.messages.len() >= Self::MESSAGES_MAX {
            self.counters.messages_dropped += 1;
            return;
        }
        self.messages.push_back((shard, message));
    }

    /// A datagram that may be any other shard's.
    pub fn scatter(&mut self, path: Path, bytes: &[u8]) {
        self.tell_others(&Message::Datagram { path, bytes: bytes.to_vec() });
    }

    fn tell_others(&mut self, message: &Message) {
        let own = self.place.shard;
        for shard in (0..self.place.shards).filter(|&shard| shard != own) {
            self.tell(shard, message.clone());
        }
    }

    /// Takes in what another shard tells.
    pub(super) fn message(
        &mut self,
        from: usize,
        message: Message,
        now: Instant,
        arena: &mut SendArena,
    ) {
        match message {
            Message::Datagram { path, mut bytes } => {
                self.counters.datagrams_handed += 1;
                self.datagram_of_ours(path, &mut bytes, now, arena);
            }
            Message::Published { stream, term } => {
                self.published(from, &stream, term, now, arena);
            }
            Message::Unpublished { stream, term } => self.unpublished(from, &stream, term, now),
            Message::Follow(stream, term) => self.follower(from, &stream, term),
            Message::Unfollow(stream) => {
                if let Some(stream) = self.stream_mut(&stream) {
                    stream.followers.retain(|&follower| follower != from);
                    stream.watched.left(from);
                }
                if let Some(&index) = self.names.get(&stream) {
                    self.tell_made_watched(index);
                }
            }
            Message::Start(stream, start) => {
                if let Some(index) = self.followed(from, &stream) {
                    self.begin_following(index, *start, now, arena);
                }
            }
            Message::Formats(stream, formats) => {
                if let Some(index) = self.started(from, &stream) {
                    self.set_formats(index, formats);
                }
            }
            Message::Packets(stream, packets) => {
                if let Some(index) = self.started(from, &stream) {
                    self.take_packets(index, &packets);
                }
            }
            Message::SenderReport(stream, report) => {
                if let Some(index) = self.started(from, &stream)
                    && let Some(stream) = self.streams.get_mut(index)
                {
                    let SenderReport { lane, ntp, timestamp, arrival } = report;
                    stream.router.sender_report(lane, ntp, timestamp, arrival);
                }
            }
            Message::KeyframeWanted(stream, layer) => {
                self.keyframe_wanted(&stream, Some(layer), now);
            }
            Message::Made(stream, made) => {
                if let Some(index) = self.started(from, &stream)
                    && let Some(stream) = self.streams.get_mut(index)
                {
                    stream.router.set_made(made);
                    stream.look_again(now);
                }
            }
            Message::MadeEnded(stream, layer) => {
                if let Some(index) = self.started(from, &stream)
                    && let Some(stream) = self.streams.get_mut(index)
                {
                    stream.router.stop_made(layer);
                    stream.look_again(now);
                }
            }
            Message::Watched(stream, by) => self.watched_abroad(from, &stream, by),
        }
    }

    /// Somebody who is not here cannot go on without a keyframe: of this layer, or of all.
    pub(super) fn keyframe_wanted(
        &mut self,
        stream: &StreamName,
        layer: Option<LayerId>,
        now: Instant,
    ) {
        let Some(&index) = self.names.get(stream) else { return };
        // Who reads a stream tells all shards; the one that has the publisher asks it.
        let Some(stream) = self.streams.get_mut(index).filter(|it| it.has_publisher()) else {
            return;
        };
        match layer {
            Some(layer) => stream.router.want_keyframe(layer),
            None => stream.router.want_keyframes(),
        }
        self.request_keyframe(index, now);
    }

    fn stream_mut(&mut self, name: &StreamName) -> Option<&mut Stream> {
        let index = *self.names.get(name)?;
        self.streams.get_mut(index)
    }

    /// The stream, if it is followed from there; who is followed in vain is told to stop.
    fn followed(&mut self, from: usize, name: &StreamName) -> Option<usize> {
        let index = self.names.get(name).copied();
        let follows = |index: usize| self.streams.get(index).and_then(|stream| stream.source);
        if let Some(index) = index.filter(|&index| follows(index) == Some(from)) {
            return Some(index);
        }
        self.tell(from, Message::Unfollow(name.clone()));
        None
    }

    /// The same, once its start has come. What comes before is of an earlier time that it was
    /// followed, and is in the start as well.
    fn started(&mut self, from: usize, name: &StreamName) -> Option<usize> {
        let index = self.followed(from, name)?;
        self.streams.get(index).filter(|stream| stream.has_started).map(|_| index)
    }

    fn set_formats(&mut self, index: usize, formats: [Option<Format>; 2]) {
        for format in formats.into_iter().flatten() {
            self.set_format(index, format);
        }
    }

    fn take_packets(&mut self, index: usize, packets: &[Arc<Packet>]) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        for packet in packets {
            if stream.router.push(packet) == Pushed::New {
                self.counters.packets_handed += 1;
            } else {
                self.counters.packets_dropped += 1;
            }
        }
        if let Some(last) = packets.last() {
            self.layers_changed(index, last.arrival);
        }
        if !self.waiting.contains(&index) {
            self.waiting.push(index);
        }
    }

    /// What a followed stream is has come: its viewers begin with what there is.
    fn begin_following(&mut self, index: usize, start: Start, now: Instant, arena: &mut SendArena) {
        self.begin_term(index);
        self.set_formats(index, start.formats);
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.has_started = true;
        stream.router.set_rids(start.rids);
        stream.router.set_made(start.made);
        stream.router.go_on(start.time_line, start.packets, now);
        self.layers_changed(index, now);
        self.choose_if_due(index, now, arena);
        let Some(stream) = self.streams.get_mut(index) else { return };
        let catch_ups = &mut self.catch_ups;
        stream.each_viewer(&mut self.peers, |key, viewing| {
            if viewing.waits_for_video() && viewing.catch_up_from(&stream.router, now) {
                catch_ups.started(key, Begins::Cached, now);
            }
        });
    }

    /// Hands what is due of a stream to the shards that follow it, and to those who read it.
    pub(super) fn hand_over(&mut self, index: usize, now: Instant) {
        let wait = self.settings.router.batch_wait;
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.parcel.deadline(wait).is_some_and(|deadline| deadline <= now) {
            self.hand_over_all(index);
        }
    }

    /// Hands all that is gathered of a stream to the shards that follow it, and to those who read
    /// it.
    pub(super) fn hand_over_all(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.parcel.is_empty() {
            return;
        }
        let (name, packets) = (stream.name.clone(), stream.parcel.take());
        stream.tell_packets(&packets);
        for follower in stream.followers.clone() {
            self.tell(follower, Message::Packets(name.clone(), Arc::clone(&packets)));
        }
    }

    /// Something of a stream that goes to its followers behind all packets so far.
    pub(super) fn tell_followers(&mut self, index: usize, message: impl Fn(StreamName) -> Message) {
        self.hand_over_all(index);
        let Some(stream) = self.streams.get(index) else { return };
        let name = stream.name.clone();
        for follower in stream.followers.clone() {
            self.tell(follower, message(name.clone()));
        }
    }

    /// Whether another shard has a later publisher of the stream than this one.
    pub(super) fn is_published_later(&self, stream: &StreamName, term: Term) -> bool {
        self.abroad.get(stream).is_some_and(|abroad| abroad.term > term)
    }

    /// Our publisher's stream begins: nobody else's is followed any more, and all are told.
    pub(super) fn publish(&mut self, index: usize, term: Term) {
        self.unfollow(index);
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.term = Some(term);
        let stream = stream.name.clone();
        self.abroad.remove(&stream);
        self.tell_others(&Message::Published { stream, term });
    }

    /// Our publisher's stream is over.
    pub(super) fn unpublish(&mut self, stream: StreamName, term: Term) {
        self.tell_others(&Message::Unpublished { stream, term });
    }

    fn published(
        &mut self,
        from: usize,
        name: &StreamName,
        term: Term,
        now: Instant,
        arena: &mut SendArena,
    ) {
        if self.is_published_later(name, term) {
            return;
        }
        if let Some(stream) = self.stream_mut(name)
            && stream.has_publisher()
        {
            if stream.term > Some(term) {
                return;
            }
            if let Some(&index) = self.names.get(name) {
                self.end_publisher(index, EndReason::Replaced, now, arena);
            }
        }
        self.abroad.insert(name.clone(), Abroad { shard: from, term });
        if let Some(&index) = self.names.get(name) {
            self.unfollow(index);
            self.follow(index);
        }
    }

    fn unpublished(&mut self, from: usize, name: &StreamName, term: Term, now: Instant) {
        if self.abroad.get(name).is_none_or(|abroad| abroad.term != term) {
            return;
        }
        self.abroad.remove(name);
        if let Some(&index) = self.names.get(name)
            && self.streams[index].source == Some(from)
        {
            self.unfollow(index);
            self.streams[index].vacate(now + self.settings.grace);
        }
    }

    /// Follows a stream that is published elsewhere, unless that is done already.
    pub(super) fn follow(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.has_publisher() || stream.source.is_some() {
            return;
        }
        let Some(abroad) = self.abroad.get(&stream.name) else { return };
        stream.source = Some(abroad.shard);
        stream.has_started = false;
        stream.watched = Watched::default();
        stream.vacant_until = None;
        let (shard, term, name) = (abroad.shard, abroad.term, stream.name.clone());
        self.tell(shard, Message::Follow(name, term));
    }

    /// What was followed is over, or somebody else's from now on.
    fn unfollow(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(source) = stream.source.take() else { return };
        let name = stream.name.clone();
        self.tell(source, Message::Unfollow(name));
    }

    /// Another shard has viewers of a stream of ours. If the publisher that it has heard of is not
    /// ours any more, it hears of the next one yet, and asks again.
    fn follower(&mut self, from: usize, name: &StreamName, term: Term) {
        let Some(stream) = self.stream_mut(name) else { return };
        let is_ours = stream.has_publisher() && stream.term == Some(term);
        if !is_ours || stream.followers.contains(&from) {
            return;
        }
        // What waits in the parcel is in the start of the new one already.
        let Some(&index) = self.names.get(name) else { return };
        self.hand_over_all(index);
        let stream = &mut self.streams[index];
        let (time_line, packets) = stream.router.past_and_present();
        let (formats, rids) = (stream.formats.clone(), stream.router.rids());
        let made = stream.router.made();
        let start = Start { formats, rids, made, time_line, packets };
        stream.followers.push(from);
        self.tell_watched(index);
        self.tell(from, Message::Start(name.clone(), Box::new(start)));
    }
}
