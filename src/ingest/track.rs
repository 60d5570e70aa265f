//! Placed frames into packets with sequence numbers and timestamps of their track. Pure.

use crate::codec::packetizer::Packetizer;
use crate::codec::{carries_parameters, is_keyframe, opus, sizes};
use crate::media::codec::{Codec, Format};
use crate::media::layer::{LayerId, Sizes};
use crate::media::packet::{Packet, PacketFields, PacketPool};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// Where the sequence numbers of a track begin: at one full turn, so that there is room below.
const FIRST_SEQUENCE: u64 = 1 << 16;

/// What is written of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// When it is presented, on the stream's own line, in ticks of 90 kHz.
    pub ticks: u64,
    /// When the server received it.
    pub arrival: Instant,
}

/// A video track on its way into packets.
#[derive(Debug)]
pub struct VideoTrack {
    packetizer: Packetizer,
    payload_max: usize,
    layer: LayerId,
    next: u64,
    /// Whether a keyframe has come with all that a decoder needs: before that nothing is of use.
    begun: bool,
}

impl VideoTrack {
    /// A track whose payloads are no longer than `payload_max`.
    pub fn new(codec: Codec, payload_max: usize) -> Self {
        Self::of_layer(LayerId::ONLY, codec, payload_max)
    }

    /// The same, of one layer of several.
    pub fn of_layer(layer: LayerId, codec: Codec, payload_max: usize) -> Self {
        let packetizer = Packetizer::new(codec, payload_max);
        Self { packetizer, payload_max, layer, next: FIRST_SEQUENCE, begun: false }
    }

    /// Whether a decoder can start with this frame.
    pub fn starts(&mut self, codec: Codec, frame: &[u8]) -> bool {
        self.take_up(codec);
        self.packetizer.starts(frame)
    }

    /// Leaves out a frame, but not what it says of those after it.
    pub fn skip(&mut self, codec: Codec, frame: &[u8]) {
        self.take_up(codec);
        self.packetizer.skip(frame);
    }

    /// A frame that a decoder can start with, with the parameter sets that it needs.
    pub fn whole(&mut self, codec: Codec, frame: &Bytes) -> Bytes {
        self.take_up(codec);
        self.packetizer.whole(frame).map_or_else(|| frame.clone(), Bytes::from)
    }

    /// Another codec begins anew.
    fn take_up(&mut self, codec: Codec) {
        if codec != self.packetizer.codec() {
            *self = Self { next: self.next, ..Self::of_layer(self.layer, codec, self.payload_max) };
        }
    }

    /// Adds the packets of a frame, of any codec; tells the format where a decoder can start.
    pub fn write(
        &mut self,
        codec: Codec,
        frame: &[u8],
        place: Place,
        pool: &mut PacketPool,
        packets: &mut Vec<Arc<Packet>>,
    ) -> Option<Format> {
        self.take_up(codec);
        let Self { packetizer, next, begun, layer, .. } = self;
        let mut starts = false;
        let mut is_first = true;
        packetizer.packetize(frame, &mut |payload, marker| {
            let keyframe = is_keyframe(codec, payload);
            starts |= is_first && carries_parameters(codec, payload);
            is_first = false;
            if !*begun && !starts {
                return;
            }
            let fields = PacketFields::single(codec, *next, place.ticks, place.arrival);
            let sizes = if keyframe { sizes(codec, payload) } else { Sizes::default() };
            let fields = PacketFields { layer: *layer, marker, keyframe, sizes, ..fields };
            packets.push(pool.make(fields, payload));
            *next += 1;
        });
        *begun |= starts;
        starts.then(|| self.packetizer.format()).flatten()
    }
}

/// A track of Opus on its way into packets.
#[derive(Debug)]
pub struct AudioTrack {
    packetizer: Packetizer,
    next: u64,
    /// The timestamp that follows the last packet, and that packet's own.
    due: Option<(u64, u64)>,
}

impl AudioTrack {
    /// Containers count in milliseconds, Opus in samples: so far the count is trusted, 10 ms.
    const TRUSTED: u64 = 480;

    /// A track whose packets are no longer than `payload_max`.
    pub fn new(payload_max: usize) -> Self {
        let packetizer = Packetizer::new(Codec::Opus, payload_max);
        Self { packetizer, next: FIRST_SEQUENCE, due: None }
    }

    /// The packet of an Opus frame; its format with the first, and where sound comes back.
    pub fn write(
        &mut self,
        frame: &[u8],
        place: Place,
        pool: &mut PacketPool,
        packets: &mut Vec<Arc<Packet>>,
    ) -> Option<Format> {
        let samples = opus::duration(frame)?;
        let (timestamp, is_spurt) = self.timestamp(place.ticks);
        let Self { packetizer, next, due } = self;
        packetizer.packetize(frame, &mut |payload, _| {
            let fields = PacketFields::single(Codec::Opus, *next, timestamp, place.arrival);
            let fields = PacketFields { marker: is_spurt, keyframe: true, ..fields };
            packets.push(pool.make(fields, payload));
            *next += 1;
            *due = Some((timestamp + u64::from(samples), timestamp));
        });
        is_spurt.then(|| self.packetizer.format()).flatten()
    }

    /// The timestamp of a packet, in samples of 48 kHz, and whether a talk spurt begins with it
    /// (RFC 7587 §4.1, RFC 3551 §4.1).
    ///
    /// A decoder that is told of a gap, or of two packets at once, where there is only a time that
    /// was rounded, stretches or cuts the sound: what nearly follows is taken to follow.
    fn timestamp(&self, ticks: u64) -> (u64, bool) {
        let placed = samples_of(ticks);
        match self.due {
            Some((due, _)) if placed.abs_diff(due) <= Self::TRUSTED => (due, false),
            Some((_, last)) => (placed.max(last + 1), placed > last),
            None => (placed, true),
        }
    }
}

/// Samples of 48 kHz, as many as ticks of 90 kHz.
const fn samples_of(ticks: u64) -> u64 {
    ticks / 15 * 8 + ticks % 15 * 8 / 15
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1 << 34;

    fn place(ticks: u64) -> Place {
        Place { ticks, arrival: Instant::now() }
    }

    /// A VP8 frame of this length.
    fn vp8(is_key: bool, len: usize) -> Vec<u8> {
        let mut frame = vec![0x9d; len];
        frame[..10].copy_from_slice(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        frame[0] |= u8::from(!is_key);
        frame
    }

    #[test]
    fn a_frame_becomes_packets_in_a_row_with_one_time_and_one_marker() {
        let (mut track, mut pool) = (VideoTrack::new(Codec::Vp8, 1_200), PacketPool::default());
        let mut packets = Vec::new();
        let mut write = |frame: &[u8], ticks| {
            track.write(Codec::Vp8, frame, place(ticks), &mut pool, &mut packets)
        };
        assert_eq!(write(&vp8(false, 500), START), None, "nothing can be done with that");
        let format = write(&vp8(true, 3_000), START + 3_000).expect("it begins");
        assert_eq!(format.codec, Codec::Vp8);
        assert_eq!(write(&vp8(false, 500), START + 6_000), None);
        let told: Vec<_> = packets
            .iter()
            .map(|it| (it.sequence - 65_536, it.timestamp - START, it.marker, it.keyframe))
            .collect();
        let expected = [
            (0, 3_000, false, true),
            (1, 3_000, false, false),
            (2, 3_000, true, false),
            (3, 6_000, true, false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_frame_that_is_left_out_is_not_counted() {
        let (mut track, mut pool) = (VideoTrack::new(Codec::Vp8, 1_200), PacketPool::default());
        let (key, delta) = (vp8(true, 100), vp8(false, 100));
        let mut packets = Vec::new();
        for frame in [&key, &delta, &key] {
            assert_eq!(track.starts(Codec::Vp8, frame), frame == &key);
            if frame == &delta {
                track.skip(Codec::Vp8, frame);
            } else {
                track.write(Codec::Vp8, frame, place(START), &mut pool, &mut packets);
            }
        }
        assert_eq!(packets.len(), 2);
        assert_eq!(packets[1].sequence, packets[0].sequence + 1);
    }

    #[test]
    fn another_codec_begins_with_its_keyframe_and_goes_on_counting() {
        let (mut track, mut pool) = (VideoTrack::new(Codec::Vp8, 1_200), PacketPool::default());
        let mut packets = Vec::new();
        let mut write = |codec, frame: &[u8]| {
            track.write(codec, frame, place(START), &mut pool, &mut packets).map(|it| it.codec)
        };
        let vp9 = [0x82, 0x49, 0x83, 0x42, 0, 0x28, 0x10, 0x16, 0x96, 0x06, 0x38, 0x24, 0x1c, 0x18];
        assert_eq!(write(Codec::Vp8, &vp8(true, 100)), Some(Codec::Vp8));
        assert_eq!(write(Codec::Vp9, &[0x86, 0, 0]), None);
        assert_eq!(write(Codec::Vp9, &vp9), Some(Codec::Vp9));
        let told: Vec<_> = packets.iter().map(|it| (it.sequence - 65_536, it.codec)).collect();
        assert_eq!(told, [(0, Codec::Vp8), (1, Codec::Vp9)]);
    }

    /// Timestamps of 20 ms of Opus each, placed at these milliseconds; the gaps between them.
    fn opus_steps(placed: &[u64]) -> (Vec<u64>, Vec<bool>) {
        let (mut track, mut pool) = (AudioTrack::new(1_200), PacketPool::default());
        let mut packets = Vec::new();
        for (index, ms) in placed.iter().enumerate() {
            let ticks = START + ms * 90;
            let format = track.write(&[0xfc, 1, 2], place(ticks), &mut pool, &mut packets);
            assert_eq!(format.is_some(), packets[index].marker);
        }
        let times = packets.windows(2).map(|pair| pair[1].timestamp - pair[0].timestamp).collect();
        (times, packets.iter().map(|packet| packet.marker).collect())
    }

    #[test]
    fn opus_is_counted_in_samples_whatever_the_container_rounds() {
        let (steps, markers) = opus_steps(&[0, 19, 41, 60, 88, 100]);
        assert_eq!(steps, [960; 5]);
        assert_eq!(markers, [true, false, false, false, false, false]);
    }

    #[test]
    fn a_gap_in_the_sound_is_one_in_the_timestamps_and_they_rise_in_any_case() {
        let (steps, markers) = opus_steps(&[0, 20, 540, 560, 500, 520]);
        assert_eq!(steps[..3], [960, 520 * 48, 960]);
        assert_eq!(markers[..4], [true, false, true, false]);
        assert!(steps.iter().all(|step| *step > 0), "{steps:?}");
    }

    #[test]
    fn what_is_no_opus_packet_is_no_packet() {
        let (mut track, mut pool) = (AudioTrack::new(1_200), PacketPool::default());
        let mut packets = Vec::new();
        for frame in [&[][..], &[0xfb], &[0xfb, 0]] {
            assert_eq!(track.write(frame, place(START), &mut pool, &mut packets), None);
        }
        assert!(packets.is_empty());
    }

    #[test]
    fn samples_are_exact_where_ticks_are() {
        let table = [(0, 0), (15, 8), (1_800, 960), (1_801, 960), (22_500_000, 12_000_000)];
        for (ticks, samples) in table {
            assert_eq!(samples_of(ticks), samples);
        }
        assert!(samples_of(u64::MAX) > 0);
    }
}
