//! What a stream gives to those who package it, besides its viewers.
//!
//! Packets of a publisher that comes by WebRTC are handed over as they came, a frame at a time;
//! whoever takes them puts them in order. What does not come by WebRTC is tapped where its frames
//! are made, and an engine says nothing of it.

use super::Engine;
use super::message::Term;
use super::stream::Stream;
use crate::media::codec::Format;
use crate::media::frame::Frame;
use crate::media::id::StreamName;
use crate::media::layer::{LAYERS_MAX, Lane, LayerId, LayerState};
use crate::media::packet::Packet;
use crate::media::time::WallTime;
use crate::router::Router;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a tap is told, in the order in which it happens.
#[derive(Debug, Clone)]
pub enum Tapped {
    /// A publisher begins, or was there when the tap came. What it sends comes after it; video
    /// from its newest keyframe on, as far as that is kept.
    Began {
        /// Which publisher.
        term: Term,
        /// Whether it can be asked for keyframes at all.
        takes_requests: bool,
        /// The longest time between two of its last keyframes, as far as that is known.
        keyframes_apart: Option<Duration>,
    },
    /// These formats flow from now on, audio and video (WebRTC).
    Formats([Option<Format>; 2]),
    /// Packets in the order of their arrival, each once; those of all layers of the picture
    /// (WebRTC).
    Packets(Arc<[Arc<Packet>]>),
    /// Packets of layers that are made of what the publisher sends, in the order of their making,
    /// for those who take them ([`TapSink::takes_made`]). Where the publisher does not come by
    /// WebRTC, their timestamps are the times of its frames.
    Made(Arc<[Arc<Packet>]>),
    /// A timestamp, as [`Packet::timestamp`] counts, stands for this moment on the
    /// server's clock: the same that viewers are told (WebRTC).
    Clock {
        /// Of which lane: each layer counts from a number of its own.
        lane: Lane,
        /// The RTP timestamp.
        timestamp: u64,
        /// The moment.
        wall: WallTime,
    },
    /// The layers of the video, best first: where others flow than before, or of other sizes, and
    /// now and then (WebRTC).
    Layers(Vec<LayerState>),
    /// A frame whose times are on the stream's own line, with the moment that it is presented at:
    /// the same that viewers are told (not WebRTC).
    Frame(Frame, WallTime),
    /// Whether viewers can have only what is made of the picture from now on, since WebRTC does not
    /// play what comes; at first they need not (not WebRTC).
    NeedsMade(bool),
    /// Something had to be left out since the tap was not emptied in time.
    Lost,
    /// The publisher has gone; another may begin.
    Left(Term),
}

/// Names one reader among all of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapId(pub u64);

/// Where an engine puts what it tells. It must not wait.
pub trait TapSink: Send + Sync {
    /// Takes what comes of this publisher, or loses it and says so later. Two shards may tell of
    /// two publishers at a time.
    fn tell(&self, term: Term, tapped: Tapped);

    /// Whether somebody still reads it.
    fn is_open(&self) -> bool;

    /// Whether it takes layers too that are made here: then they are.
    fn takes_made(&self) -> bool {
        false
    }
}

/// Those who read one stream.
pub(super) type Taps = Vec<(TapId, Arc<dyn TapSink>)>;

/// Those who read one stream, and what they were told of its clock.
pub(super) struct Tapping {
    taps: Taps,
    /// When the clock is told again.
    clock_due: Option<Instant>,
    /// Of which lanes it has been told.
    clock_told: Vec<Lane>,
    /// Somebody has come, and was not told yet which layers are made.
    owes_layers: bool,
}

impl Tapping {
    /// How often a clock is told that nothing has changed.
    const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

    pub(super) const fn of(taps: Taps) -> Self {
        Self { taps, clock_due: None, clock_told: Vec::new(), owes_layers: true }
    }

    fn tell(&self, term: Term, tapped: &Tapped) {
        for (_, sink) in &self.taps {
            sink.tell(term, tapped.clone());
        }
    }

    /// Whether somebody reads it who takes what is made, too.
    pub(super) fn takes_made(&self) -> bool {
        self.taps.iter().any(|(_, sink)| sink.takes_made() && sink.is_open())
    }

    /// Tells of layers: those who take what is made of all of them.
    fn tell_layers(&self, term: Term, router: &Router, now: Instant, is_own_told: bool) {
        let all = router.layers(now);
        for (_, sink) in &self.taps {
            if sink.takes_made() {
                sink.tell(term, Tapped::Layers(all.clone()));
            } else if is_own_told {
                sink.tell(term, Tapped::Layers(router.sent_layers(now)));
            }
        }
    }

    /// Tells of what is made those who take it.
    fn tell_made(&self, term: Term, packets: &Arc<[Arc<Packet>]>) {
        for (_, sink) in self.taps.iter().filter(|(_, sink)| sink.takes_made()) {
            sink.tell(term, Tapped::Made(Arc::clone(packets)));
        }
    }

    /// Tells of one lane: of what is made those who take it.
    fn tell_of(&self, lane: Lane, term: Term, tapped: &Tapped, router: &Router) {
        let is_made = matches!(lane, Lane::Video(layer) if router.is_made(layer));
        for (_, sink) in self.taps.iter().filter(|(_, sink)| !is_made || sink.takes_made()) {
            sink.tell(term, tapped.clone());
        }
    }

    /// A sender report has come: what was told of the clock may be better known now.
    pub(super) const fn clock_changed(&mut self) {
        self.clock_due = None;
    }
}

impl Stream {
    /// Whether what its publisher sends is handed to somebody who reads it.
    pub(super) const fn is_tapped(&self) -> bool {
        self.tapping.is_some() && self.publisher.is_some()
    }

    /// What a timestamp of this lane stands for at a moment.
    fn clock(&self, lane: Lane, now: Instant) -> Option<Tapped> {
        let (wall, timestamp) = self.router.estimate_at(lane, now)?;
        Some(Tapped::Clock { lane, timestamp, wall })
    }

    /// The lanes that there may be.
    fn lanes() -> impl Iterator<Item = Lane> {
        let layers = (0..LAYERS_MAX).filter_map(LayerId::at);
        std::iter::once(Lane::Audio).chain(layers.map(Lane::Video))
    }

    /// Packets of its publisher, and what is made of them, go to those who read it; the clock goes
    /// before them.
    pub(super) fn tell_packets(&mut self, packets: &Arc<[Arc<Packet>]>) {
        let (Some(term), Some(last)) = (self.term, packets.last()) else { return };
        let now = last.arrival;
        let is_own_told = self.is_tapped();
        let is_made = |packet: &Arc<Packet>| self.router.is_made(packet.layer);
        let (made, own): (Arc<[_]>, Arc<[_]>) = if packets.iter().any(is_made) {
            let (made, own) = packets.iter().cloned().partition::<Vec<_>, _>(is_made);
            (made.into(), own.into())
        } else {
            (Arc::default(), Arc::clone(packets))
        };
        let own: Arc<[_]> = if is_own_told { own } else { Arc::default() };
        if own.is_empty() && made.is_empty() {
            return;
        }
        let Some(mut tapping) = self.tapping.take() else { return };
        let is_due = tapping.clock_due.is_none_or(|due| due <= now);
        let mut told = own.iter().chain(made.iter());
        let is_new = told.any(|it| !tapping.clock_told.contains(&it.lane()));
        if is_due {
            tapping.clock_due = Some(now + Tapping::CLOCK_INTERVAL);
        }
        if is_due || is_new {
            for lane in self.told_lanes(is_own_told) {
                let is_told = tapping.clock_told.contains(&lane);
                let Some(clock) = self.clock(lane, now).filter(|_| is_due || !is_told) else {
                    continue;
                };
                if !is_told {
                    tapping.clock_told.push(lane);
                }
                tapping.tell_of(lane, term, &clock, &self.router);
            }
            tapping.tell_layers(term, &self.router, now, is_own_told);
        }
        if !own.is_empty() {
            tapping.tell(term, &Tapped::Packets(own));
        }
        if !made.is_empty() {
            tapping.tell_made(term, &made);
        }
        self.tapping = Some(tapping);
    }

    fn is_made(&self, lane: Lane) -> bool {
        matches!(lane, Lane::Video(layer) if self.router.is_made(layer))
    }

    /// The lanes whose clocks are told here.
    fn told_lanes(&self, is_own_told: bool) -> impl Iterator<Item = Lane> + use<'_> {
        Self::lanes().filter(move |lane| is_own_told || self.is_made(*lane))
    }

    /// What does not come by WebRTC is told by whoever writes it, which layers are made of it here:
    /// to newcomers behind the first that is written since they came.
    pub(super) fn tell_made_layers(&mut self, now: Instant) {
        let Some(tapping) = &mut self.tapping else { return };
        if !self.router.has_made() || !std::mem::replace(&mut tapping.owes_layers, false) {
            return;
        }
        if let Some(term) = self.term {
            tapping.tell_layers(term, &self.router, now, false);
        }
    }

    fn began(&self, term: Term, now: Option<Instant>) -> Tapped {
        let keyframes_apart = now.and_then(|now| self.router.keyframes_apart(now));
        // Whether it does as it is asked shows when it is.
        Tapped::Began { term, takes_requests: true, keyframes_apart }
    }

    /// Tells somebody who has come now what there is: from there on nothing is left out.
    fn tell_newcomer(&self, sink: &dyn TapSink, now: Instant) {
        let Some(term) = self.term.filter(|_| self.publisher.is_some()) else { return };
        sink.tell(term, self.began(term, Some(now)));
        if self.formats.iter().any(Option::is_some) {
            sink.tell(term, Tapped::Formats(self.formats.clone()));
        }
        let takes_made = sink.takes_made();
        for lane in self.told_lanes(self.is_tapped()) {
            let is_wanted = takes_made || !self.is_made(lane);
            if let Some(clock) = self.clock(lane, now).filter(|_| is_wanted) {
                sink.tell(term, clock);
            }
        }
        let layers = if takes_made { Router::layers } else { Router::sent_layers };
        sink.tell(term, Tapped::Layers(layers(&self.router, now)));
        let packets = self.router.since_keyframe();
        if !packets.is_empty() {
            sink.tell(term, Tapped::Packets(packets.into()));
        }
    }
}

impl Engine {
    /// Somebody reads a stream from now on.
    pub(super) fn tap(
        &mut self,
        name: &StreamName,
        id: TapId,
        sink: &Arc<dyn TapSink>,
        now: Instant,
    ) {
        let index = self.names.get(name).copied();
        if let Some(index) = index {
            // What is gathered is in what the newcomer begins with.
            self.hand_over_all(index);
        }
        let taps = self.taps.entry(name.clone()).or_default();
        // Whoever left was not heard where too many commands waited.
        taps.retain(|(other, sink)| sink.is_open() && *other != id);
        taps.push((id, Arc::clone(sink)));
        let taps = taps.clone();
        let Some(index) = index else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        match &mut stream.tapping {
            Some(tapping) => (tapping.taps, tapping.owes_layers) = (taps, true),
            none => *none = Some(Box::new(Tapping::of(taps))),
        }
        stream.tell_newcomer(&**sink, now);
        self.tell_watched(index);
    }

    /// Nobody reads a stream by this name any more.
    pub(super) fn untap(&mut self, name: &StreamName, id: TapId) {
        let Some(taps) = self.taps.get_mut(name) else { return };
        taps.retain(|(other, _)| *other != id);
        let taps = taps.clone();
        if taps.is_empty() {
            self.taps.remove(name);
        }
        let Some(&index) = self.names.get(name) else { return };
        let Some(stream) = self.streams.get_mut(index) else { return };
        if taps.is_empty() {
            stream.tapping = None;
        } else if let Some(tapping) = &mut stream.tapping {
            tapping.taps = taps;
        }
        self.tell_watched(index);
    }

    /// A publisher that comes by WebRTC begins.
    pub(super) fn tapped_begins(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(term) = stream.term else { return };
        let began = stream.began(term, None);
        if let Some(tapping) = &mut stream.tapping {
            (tapping.clock_due, tapping.clock_told) = (None, Vec::new());
            tapping.tell(term, &began);
        }
    }

    /// It has left.
    pub(super) fn tapped_left(&mut self, index: usize, term: Term) {
        self.hand_over_all(index);
        let stream = self.streams.get(index);
        if let Some(tapping) = stream.and_then(|stream| stream.tapping.as_ref()) {
            tapping.tell(term, &Tapped::Left(term));
        }
    }

    /// These formats flow from now on.
    pub(super) fn tell_formats(&self, index: usize, formats: &[Option<Format>; 2]) {
        let Some(stream) = self.streams.get(index).filter(|stream| stream.is_tapped()) else {
            return;
        };
        if let (Some(term), Some(tapping)) = (stream.term, &stream.tapping) {
            tapping.tell(term, &Tapped::Formats(formats.clone()));
        }
    }

    /// How many readers there are.
    pub(super) fn readers(&self) -> usize {
        self.taps.values().map(Vec::len).sum()
    }
}
