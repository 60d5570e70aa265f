//! One lane of a publisher, from its packets to its samples: the sound, or one layer of the
//! picture. Each has a numbering and a clock of its own, and nothing of one is waited for by
//! another.
//!
//! Fuzz target: `source`.

use super::assembly::{Assembled, Assembly};
use super::line::{Line, Stamp};
use super::picture::Picture;
use super::{Emit, Found};
use crate::codec::depacketizer::depacketize;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::frame::{AudioCoding, Coding, Frame};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::Packet;
use crate::media::sample::Sample;
use crate::media::time::WallTime;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One lane of a publisher.
#[derive(Debug)]
pub(super) struct Chain {
    lane: Lane,
    assembly: Assembly,
    /// Whole frames that wait for the lane's clock; `None`: something is missing there.
    waiting: VecDeque<Option<Whole>>,
    /// Since when.
    waiting_since: Option<Instant>,
    picture: Picture,
    /// The picture that was handed out so far, if nothing of it is missing.
    flowing: Option<Codec>,
    /// Where the newest sample is decoded.
    decoded: Option<i64>,
}

/// A frame whose place is not known yet.
#[derive(Debug)]
struct Whole {
    coding: Coding,
    stamp: Stamp,
    data: Bytes,
    starts: bool,
}

impl Chain {
    /// So long the clock of a lane is waited for; then arrival must do.
    const CLOCK_WAIT: Duration = Duration::from_millis(500);
    /// So many frames wait for it at most.
    const WAITING_MAX: usize = 256;

    /// Nothing yet; `format`: the picture that was agreed.
    pub(super) fn new(lane: Lane, format: Option<&Format>) -> Self {
        let mut picture = Picture::default();
        if let Some(format) = format {
            picture.set_format(format);
        }
        Self {
            lane,
            assembly: Assembly::new(lane.kind()),
            waiting: VecDeque::new(),
            waiting_since: None,
            picture,
            flowing: None,
            decoded: None,
        }
    }

    /// This picture flows from now on.
    pub(super) fn set_format(&mut self, format: &Format) {
        self.picture.set_format(format);
    }

    /// Takes in a packet.
    pub(super) fn push(&mut self, packet: &Arc<Packet>) {
        self.assembly.push(packet);
    }

    /// Hands out what is certain by now, and gives up what is overdue.
    pub(super) fn poll(&mut self, now: Instant, line: &mut Line, emit: Emit<'_>) {
        while let Some(assembled) = self.assembly.poll(now) {
            match assembled {
                Assembled::Frame(packets) => self.put_together(&packets, now, line, emit),
                Assembled::Lost => self.miss(emit),
            }
        }
        let is_overdue = self.clock_deadline().is_some_and(|deadline| deadline <= now);
        if is_overdue || self.waiting.len() >= Self::WAITING_MAX {
            self.estimate_clock(line, emit);
        }
    }

    /// When something is overdue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.assembly.deadline().into_iter().chain(self.clock_deadline()).min()
    }

    fn clock_deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + Self::CLOCK_WAIT)
    }

    fn put_together(
        &mut self,
        packets: &[Arc<Packet>],
        now: Instant,
        line: &mut Line,
        emit: Emit<'_>,
    ) {
        let Some(first) = packets.first() else { return };
        let codec = first.codec;
        let payloads = packets.iter().map(|packet| packet.payload.as_slice());
        let data = depacketize(codec, payloads);
        let arrival = packets.iter().map(|packet| packet.arrival).max().unwrap_or(first.arrival);
        let stamp = Stamp { timestamp: first.timestamp, clock_rate: codec.clock_rate(), arrival };
        let whole = match (codec.kind(), data) {
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
        if line.has_clock(self.lane) {
            return self.place(whole, line, emit);
        }
        self.waiting_since.get_or_insert(now);
        self.waiting.push_back(Some(whole));
    }

    fn place(&mut self, whole: Whole, line: &mut Line, emit: Emit<'_>) {
        let Whole { coding, stamp, data, starts } = whole;
        let Some(placed) = line.place(self.lane, stamp) else {
            return self.leave_out(emit);
        };
        let (ticks, wall, arrival) = (placed.ticks, placed.wall, stamp.arrival);
        let (layer, decode_ticks, present_ticks) = (self.layer(), ticks, ticks);
        self.give(
            Sample { coding, layer, decode_ticks, present_ticks, wall, starts, arrival, data },
            emit,
        );
    }

    /// The clock of the lane is known, or better known.
    pub(super) fn take_clock(
        &mut self,
        timestamp: u64,
        wall: WallTime,
        line: &mut Line,
        emit: Emit<'_>,
    ) {
        // Sound that comes by WebRTC is Opus, and pictures have one rate.
        let codec = if self.lane == Lane::Audio { Codec::Opus } else { Codec::H264 };
        line.set_clock(self.lane, timestamp, codec.clock_rate(), wall);
        self.place_waiting(line, emit);
    }

    fn place_waiting(&mut self, line: &mut Line, emit: Emit<'_>) {
        self.waiting_since = None;
        for whole in std::mem::take(&mut self.waiting) {
            match whole {
                Some(whole) => self.place(whole, line, emit),
                None => self.miss(emit),
            }
        }
    }

    /// Does without the clock, of what waits for it.
    pub(super) fn estimate_clock(&mut self, line: &mut Line, emit: Emit<'_>) {
        let stamps = self.waiting.iter().flatten().map(|whole| whole.stamp);
        line.estimate_clock(self.lane, stamps);
        self.place_waiting(line, emit);
    }

    /// A frame whose times are on the line already.
    pub(super) fn take_frame(&mut self, frame: Frame, wall: WallTime, emit: Emit<'_>) {
        let Frame { coding, decode_ticks, present_ticks, arrival, data } = frame;
        let (data, starts) = match coding {
            Coding::Audio(_) => (data, true),
            Coding::Video(codec) => match self.picture.take(codec, &data) {
                Some(taken) => taken,
                None => return,
            },
        };
        let layer = self.layer();
        self.give(
            Sample { coding, layer, decode_ticks, present_ticks, wall, starts, arrival, data },
            emit,
        );
    }

    /// Hands out a frame that decoders have all for that they need, if it rises: others would be
    /// decoded at a time that is over.
    fn give(&mut self, sample: Sample, emit: Emit<'_>) {
        let codec = match &sample.coding {
            Coding::Video(codec) => Some(*codec),
            Coding::Audio(_) => None,
        };
        if codec.is_some() && !sample.starts && self.flowing != codec {
            return;
        }
        if self.decoded.is_some_and(|last| last >= sample.decode_ticks) {
            return self.leave_out(emit);
        }
        self.decoded = Some(sample.decode_ticks);
        self.flowing = codec;
        emit(Found::Sample(sample));
    }

    /// A frame has no place. Pictures depend on each other.
    fn leave_out(&mut self, emit: Emit<'_>) {
        if self.flowing.take().is_some() {
            emit(Found::Gap(self.layer()));
        }
    }

    /// Something of the picture is missing, behind what waits; sound goes on without.
    fn miss(&mut self, emit: Emit<'_>) {
        if self.lane == Lane::Audio {
            return;
        }
        if self.waiting.is_empty() {
            self.flowing = None;
            emit(Found::Gap(self.layer()));
        } else if self.waiting.back().is_some_and(Option::is_some) {
            self.waiting.push_back(None);
        }
    }

    /// Something is missing that will not come.
    pub(super) fn lose(&mut self, emit: Emit<'_>) {
        self.assembly.lose();
        self.miss(emit);
    }

    const fn layer(&self) -> LayerId {
        match self.lane {
            Lane::Audio => LayerId::ONLY,
            Lane::Video(layer) => layer,
        }
    }

    /// How many packets it holds.
    pub(super) fn len(&self) -> usize {
        self.assembly.len()
    }
}
