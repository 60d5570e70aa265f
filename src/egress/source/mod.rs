//! What a tap gives, as samples on one time line: packets are put in order and together, and what
//! decoders need stands before each start.
//!
//! Pure; what it holds is bounded. Fuzz target: `source`.
//!
//! - `assembly`: packets of a track into whole frames in their order
//! - `line`: one line for both tracks, and what its times stand for
//! - `picture`: a picture's frames with what decoders need

mod assembly;
mod line;
mod picture;

use crate::codec::depacketizer::depacketize;
use crate::engine::message::Term;
use crate::engine::tap::Tapped;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::frame::{AudioCoding, Coding, Frame};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::Packet;
use crate::media::sample::Sample;
use crate::media::time::{Epoch, WallTime};
use assembly::{Assembled, Assembly};
use bytes::Bytes;
use line::{Line, Stamp};
use picture::Picture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes of a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A publisher begins: what comes from now on is on a line of its own.
    Began {
        /// Whether it can be asked for keyframes.
        takes_requests: bool,
        /// The longest time between two of its last keyframes, as far as that is known.
        keyframes_apart: Option<Duration>,
    },
    /// A frame of it.
    Sample(Sample),
    /// Something is missing: what comes next of the picture begins with a keyframe. Again, where
    /// that is lost too.
    Gap,
    /// It sends a picture that cannot be packaged, for this reason.
    NotPlayable(String),
    /// It has left.
    Left,
}

/// Where what is found goes.
type Emit<'a> = &'a mut dyn FnMut(Found);

/// Puts together what a tap gives. Pure: it is told the time.
#[derive(Debug)]
pub struct Source {
    epoch: Epoch,
    publisher: Option<Publisher>,
}

/// One publisher's time.
#[derive(Debug)]
struct Publisher {
    term: Term,
    assemblies: [Assembly; 2],
    /// Whole frames that wait for the clock of their track; `None`: something is missing there.
    waiting: [VecDeque<Option<Whole>>; 2],
    /// Since when.
    waiting_since: [Option<Instant>; 2],
    line: Line,
    picture: Picture,
    /// The picture that was handed out so far, if nothing of it is missing.
    /// The layer that is packaged, and the one that is to be.
    layer: LayerId,
    wanted: Option<LayerId>,
    /// What is known of each lane's clock.
    clocks: Vec<(Lane, u64, WallTime)>,
    flowing: Option<Codec>,
    /// Where the newest sample of each kind is decoded.
    decoded: [Option<i64>; 2],
}

/// A frame whose place is not known yet.
#[derive(Debug)]
struct Whole {
    coding: Coding,
    stamp: Stamp,
    data: Bytes,
    starts: bool,
}

impl Source {
    /// Nothing yet. `epoch` tells the wall time of arrivals, for a publisher whose clock is not
    /// told.
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, publisher: None }
    }

    /// Takes in what a tap gave; what comes of it goes to `emit`, in order.
    pub fn take(&mut self, tapped: Tapped, now: Instant, emit: &mut dyn FnMut(Found)) {
        if let Tapped::Began { term, takes_requests, keyframes_apart } = tapped {
            self.publisher = Some(Publisher::new(term, self.epoch));
            emit(Found::Began { takes_requests, keyframes_apart });
            return;
        }
        let Some(publisher) = &mut self.publisher else { return };
        match tapped {
            Tapped::Formats(formats) => publisher.take_formats(&formats, emit),
            Tapped::Packets(packets) => publisher.take_packets(&packets, now, emit),
            Tapped::Clock { lane, timestamp, wall } => {
                publisher.take_clock(lane, timestamp, wall, emit);
            }
            Tapped::Frame(frame, wall) => publisher.take_frame(frame, wall, emit),
            Tapped::Lost => publisher.lose(emit),
            Tapped::Left(term) if term == publisher.term => {
                publisher.leave(emit);
                self.publisher = None;
            }
            Tapped::Layers(layers) => publisher.wanted = layers.first().map(|it| it.layer),
            Tapped::Began { .. } | Tapped::Left(_) => {}
        }
    }

    /// When it wants to be called by [`Self::handle_timeout`]: a missing packet or clock is not
    /// waited for any longer.
    pub fn deadline(&self) -> Option<Instant> {
        let publisher = self.publisher.as_ref()?;
        let missing = publisher.assemblies.iter().filter_map(Assembly::deadline);
        missing.chain(Kind::ALL.into_iter().filter_map(|kind| publisher.clock_deadline(kind))).min()
    }

    /// Gives up what is overdue.
    pub fn handle_timeout(&mut self, now: Instant, emit: &mut dyn FnMut(Found)) {
        if let Some(publisher) = &mut self.publisher {
            publisher.poll(now, emit);
        }
    }
}

impl Publisher {
    /// So long the clock of a track is waited for; then arrival must do.
    const CLOCK_WAIT: Duration = Duration::from_millis(500);
    /// So many frames wait for it at most.
    const WAITING_MAX: usize = 256;

    fn new(term: Term, epoch: Epoch) -> Self {
        Self {
            term,
            assemblies: Kind::ALL.map(Assembly::new),
            waiting: Default::default(),
            waiting_since: [None; 2],
            line: Line::new(epoch),
            picture: Picture::default(),
            layer: LayerId::ONLY,
            wanted: None,
            clocks: Vec::new(),
            flowing: None,
            decoded: [None; 2],
        }
    }

    fn take_formats(&mut self, formats: &[Option<Format>; 2], emit: Emit<'_>) {
        if let Some(format) = &formats[Kind::Video.index()] {
            self.picture.set_format(format);
            self.refuse(format.codec, emit);
        }
    }

    /// Tells once of a picture that cannot be packaged; whether it is one.
    fn refuse(&mut self, codec: Codec, emit: Emit<'_>) -> bool {
        let refused = matches!(codec, Codec::Vp8 | Codec::Vp9);
        if refused && self.picture.refuses(codec) {
            emit(Found::NotPlayable(format!(
                "The picture is {codec}, which HLS players take only transcoded, and this server \
                 does not do that: publish H.264, H.265 or AV1."
            )));
        }
        refused
    }

    fn take_packets(&mut self, packets: &[Arc<Packet>], now: Instant, emit: Emit<'_>) {
        for packet in packets {
            let kind = packet.codec.kind();
            if kind == Kind::Video && self.is_left_out(packet, emit) {
                continue;
            }
            if !self.refuse(packet.codec, emit) {
                self.assemblies[kind.index()].push(packet);
            }
        }
        self.poll(now, emit);
    }

    /// Whether a picture's packet is of a layer that is not packaged. The best is, from its next
    /// keyframe on.
    fn is_left_out(&mut self, packet: &Packet, emit: Emit<'_>) -> bool {
        if self.wanted == Some(packet.layer) && self.layer != packet.layer && packet.keyframe {
            self.layer = packet.layer;
            self.assemblies[Kind::Video.index()] = Assembly::new(Kind::Video);
            self.waiting[Kind::Video.index()].clear();
            self.miss(emit);
            let lane = packet.lane();
            let known = self.clocks.iter().find(|(of, ..)| *of == lane).copied();
            if let Some((lane, timestamp, wall)) = known {
                self.take_clock(lane, timestamp, wall, emit);
            }
        }
        packet.layer != self.layer
    }

    fn poll(&mut self, now: Instant, emit: Emit<'_>) {
        for kind in Kind::ALL {
            while let Some(assembled) = self.assemblies[kind.index()].poll(now) {
                match assembled {
                    Assembled::Frame(packets) => self.put_together(kind, &packets, now, emit),
                    Assembled::Lost => self.miss(emit),
                }
            }
            let is_overdue = self.clock_deadline(kind).is_some_and(|deadline| deadline <= now);
            if is_overdue || self.waiting[kind.index()].len() >= Self::WAITING_MAX {
                self.estimate_clock(kind, emit);
            }
        }
    }

    fn put_together(&mut self, kind: Kind, packets: &[Arc<Packet>], now: Instant, emit: Emit<'_>) {
        let Some(first) = packets.first() else { return };
        let codec = first.codec;
        let payloads = packets.iter().map(|packet| packet.payload.as_slice());
        let data = depacketize(codec, payloads);
        let arrival = packets.iter().map(|packet| packet.arrival).max().unwrap_or(first.arrival);
        let stamp = Stamp { timestamp: first.timestamp, clock_rate: codec.clock_rate(), arrival };
        let whole = match (kind, data) {
            (Kind::Audio, Some(data)) => {
                let coding = Coding::Audio(AudioCoding::Opus);
                Some(Whole { coding, stamp, data: data.into(), starts: true })
            }
            (Kind::Audio, None) => None,
            (Kind::Video, Some(data)) => self
                .picture
                .take(codec, &data)
                .map(|(data, starts)| Whole { coding: Coding::Video(codec), stamp, data, starts }),
            (Kind::Video, None) => return self.miss(emit),
        };
        let Some(whole) = whole else { return };
        if self.line.has_clock(kind) {
            return self.place(whole, emit);
        }
        self.waiting_since[kind.index()].get_or_insert(now);
        self.waiting[kind.index()].push_back(Some(whole));
    }

    fn place(&mut self, whole: Whole, emit: Emit<'_>) {
        let Whole { coding, stamp, data, starts } = whole;
        let kind = coding.kind();
        let Some(placed) = self.line.place(kind, stamp) else {
            return self.leave_out(kind, emit);
        };
        let (ticks, wall, arrival) = (placed.ticks, placed.wall, stamp.arrival);
        let (decode_ticks, present_ticks) = (ticks, ticks);
        let sample = Sample { coding, decode_ticks, present_ticks, wall, starts, arrival, data };
        self.give(sample, emit);
    }

    fn take_clock(&mut self, lane: Lane, timestamp: u64, wall: WallTime, emit: Emit<'_>) {
        self.clocks.retain(|(of, ..)| *of != lane);
        self.clocks.push((lane, timestamp, wall));
        if matches!(lane, Lane::Video(layer) if layer != self.layer) {
            return;
        }
        let kind = lane.kind();
        // Sound that comes by WebRTC is Opus, and pictures have one rate.
        let codec = if kind == Kind::Audio { Codec::Opus } else { Codec::H264 };
        self.line.set_clock(kind, timestamp, codec.clock_rate(), wall);
        self.place_waiting(kind, emit);
    }

    fn place_waiting(&mut self, kind: Kind, emit: Emit<'_>) {
        self.waiting_since[kind.index()] = None;
        for whole in std::mem::take(&mut self.waiting[kind.index()]) {
            match whole {
                Some(whole) => self.place(whole, emit),
                None => self.miss(emit),
            }
        }
    }

    fn estimate_clock(&mut self, kind: Kind, emit: Emit<'_>) {
        let stamps = self.waiting[kind.index()].iter().flatten().map(|whole| whole.stamp);
        self.line.estimate_clock(kind, stamps);
        self.place_waiting(kind, emit);
    }

    fn clock_deadline(&self, kind: Kind) -> Option<Instant> {
        self.waiting_since[kind.index()].map(|since| since + Self::CLOCK_WAIT)
    }

    fn take_frame(&mut self, frame: Frame, wall: WallTime, emit: Emit<'_>) {
        let Frame { coding, decode_ticks, present_ticks, arrival, data } = frame;
        let codec = video_codec(&coding);
        if codec.is_some_and(|codec| self.refuse(codec, emit)) {
            return;
        }
        let (data, starts) = match codec {
            None => (data, true),
            Some(codec) => match self.picture.take(codec, &data) {
                Some(taken) => taken,
                None => return,
            },
        };
        let sample = Sample { coding, decode_ticks, present_ticks, wall, starts, arrival, data };
        self.give(sample, emit);
    }

    /// Hands out a frame that decoders have all for that they need, if it rises: others would be
    /// decoded at a time that is over.
    fn give(&mut self, sample: Sample, emit: Emit<'_>) {
        let (kind, codec) = (sample.coding.kind(), video_codec(&sample.coding));
        if codec.is_some_and(|codec| !sample.starts && self.flowing != Some(codec)) {
            return;
        }
        let last = &mut self.decoded[kind.index()];
        if last.is_some_and(|last| last >= sample.decode_ticks) {
            return self.leave_out(kind, emit);
        }
        *last = Some(sample.decode_ticks);
        self.flowing = codec.or(self.flowing);
        emit(Found::Sample(sample));
    }

    /// A frame has no place. Pictures depend on each other.
    fn leave_out(&mut self, kind: Kind, emit: Emit<'_>) {
        if kind == Kind::Video && self.flowing.take().is_some() {
            emit(Found::Gap);
        }
    }

    /// Something of the picture is missing, behind what waits.
    fn miss(&mut self, emit: Emit<'_>) {
        let waiting = &mut self.waiting[Kind::Video.index()];
        if waiting.is_empty() {
            self.flowing = None;
            emit(Found::Gap);
        } else if waiting.back().is_some_and(Option::is_some) {
            waiting.push_back(None);
        }
    }

    /// Something is missing that will not come.
    fn lose(&mut self, emit: Emit<'_>) {
        for assembly in &mut self.assemblies {
            assembly.lose();
        }
        self.miss(emit);
    }

    fn leave(&mut self, emit: Emit<'_>) {
        for kind in Kind::ALL {
            self.estimate_clock(kind, emit);
        }
        emit(Found::Left);
    }
}

const fn video_codec(coding: &Coding) -> Option<Codec> {
    match coding {
        Coding::Video(codec) => Some(*codec),
        Coding::Audio(_) => None,
    }
}

#[cfg(test)]
mod tests;
