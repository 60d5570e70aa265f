//! One RTP packet with its shared payload, and the pool that recycles them.
//!
//! A payload is written once, when it has been opened, and then only read: by every viewer that
//! is sent it and by the history that answers NACKs. The pool hands the same memory out again
//! when nobody holds the packet any more, so a running stream allocates nothing.

use super::codec::Codec;
use super::layer::{Lane, LayerId, Scale, Sizes};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// One RTP packet of a layer, without header: each viewer gets a header of its own.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The codec of the payload type it came with.
    pub codec: Codec,
    /// Which layer of the video it is of; of sound always [`LayerId::ONLY`].
    pub layer: LayerId,
    /// What its frame is within that.
    pub scale: Scale,
    /// Extended RTP sequence number of the layer, as the publisher counts.
    pub sequence: u64,
    /// Extended RTP timestamp, in ticks of the codec's clock.
    pub timestamp: u64,
    /// The RTP marker: last packet of a frame (video), start of a talk spurt (audio).
    pub marker: bool,
    /// Whether a decoder can start with the frame that begins in this packet.
    pub keyframe: bool,
    /// How large the picture is, where this packet of a keyframe tells it.
    pub sizes: Sizes,
    /// When the server received it.
    pub arrival: Instant,
    /// The RTP payload, without header, extensions and padding.
    pub payload: Vec<u8>,
    /// The value of the dependency descriptor (AOM "RTP Payload Format For AV1" 1.0, Appendix A) as
    /// the publisher wrote it, where receivers cannot do without; else empty.
    pub dependency: Vec<u8>,
}

/// Recycles packets: once it has made as many as are held at a time, it allocates nothing.
#[derive(Debug, Default)]
pub struct PacketPool {
    /// Packets that nobody else holds.
    free: Vec<Arc<Packet>>,
    /// Packets that somebody else held when they were last looked at.
    held: VecDeque<Arc<Packet>>,
}

impl PacketPool {
    /// How many packets are looked at for each that is made: all are seen once in a fourth of
    /// their number, so that a third more than are held at a time suffice.
    const LOOKS: usize = 4;
    /// Where none is free, so many are made at once, as a part of those there are: few steps to
    /// where all memory is there, instead of one more every now and then.
    const GROWTH: usize = 8;
    /// The most packets remembered; beyond it a packet is freed like any other memory.
    const PACKETS_MAX: usize = 16_384;

    /// A packet with these fields and a copy of `payload`.
    pub fn make(&mut self, fields: PacketFields, payload: &[u8]) -> Arc<Packet> {
        self.make_with(fields, |of, _| of.extend_from_slice(payload))
    }

    /// A packet with these fields, of which this writes payload and dependency descriptor.
    pub fn make_with(
        &mut self,
        fields: PacketFields,
        write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) -> Arc<Packet> {
        self.look();
        if self.free.is_empty() {
            let more = 1 + self.held.len() / Self::GROWTH;
            self.free.extend((0..more).map(|_| Arc::new(Packet::empty(fields))));
        }
        let mut packet = self.free.pop().unwrap_or_else(|| Arc::new(Packet::empty(fields)));
        match Arc::get_mut(&mut packet) {
            Some(packet) => packet.write(fields, write),
            // Somebody held on to what was free: a packet of its own serves as well.
            None => packet = Arc::new(Packet::new(fields, write)),
        }
        if self.held.len() < Self::PACKETS_MAX {
            self.held.push_back(Arc::clone(&packet));
        }
        packet
    }

    /// Looks at the next few that were held; what still is goes to the back.
    fn look(&mut self) {
        for _ in 0..Self::LOOKS.min(self.held.len()) {
            let Some(mut packet) = self.held.pop_front() else { break };
            if Arc::get_mut(&mut packet).is_some() {
                self.free.push(packet);
            } else {
                self.held.push_back(packet);
            }
        }
    }

    /// How many packets the pool remembers, free and in use.
    pub fn len(&self) -> usize {
        self.free.len() + self.held.len()
    }

    /// Whether it never made a packet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What [`PacketPool::make`] is told of a packet, apart from its payload.
#[derive(Debug, Clone, Copy)]
pub struct PacketFields {
    /// See [`Packet::codec`].
    pub codec: Codec,
    /// See [`Packet::layer`].
    pub layer: LayerId,
    /// See [`Packet::scale`].
    pub scale: Scale,
    /// See [`Packet::sequence`].
    pub sequence: u64,
    /// See [`Packet::timestamp`].
    pub timestamp: u64,
    /// See [`Packet::marker`].
    pub marker: bool,
    /// See [`Packet::keyframe`].
    pub keyframe: bool,
    /// See [`Packet::sizes`].
    pub sizes: Sizes,
    /// See [`Packet::arrival`].
    pub arrival: Instant,
}

impl PacketFields {
    /// Of a track with one layer and nothing within it: neither first nor last of its frame.
    pub fn single(codec: Codec, sequence: u64, timestamp: u64, arrival: Instant) -> Self {
        let (layer, scale, sizes) = (LayerId::ONLY, Scale::default(), Sizes::default());
        let (marker, keyframe) = (false, false);
        Self { codec, layer, scale, sequence, timestamp, marker, keyframe, sizes, arrival }
    }

    /// A packet of no pool, with this payload.
    pub const fn with(self, payload: Vec<u8>) -> Packet {
        let Self { codec, layer, scale, sequence, timestamp, marker, keyframe, .. } = self;
        let Self { sizes, arrival, .. } = self;
        Packet {
            codec,
            layer,
            scale,
            sequence,
            timestamp,
            marker,
            keyframe,
            sizes,
            arrival,
            payload,
            dependency: Vec::new(),
        }
    }
}

impl Packet {
    /// Most packets are as long as the path allows; memory of that size serves them all.
    const CAPACITY: usize = 1280;

    /// Which lane it is numbered in.
    pub const fn lane(&self) -> Lane {
        Lane::of(self.codec.kind(), self.layer)
    }

    fn empty(fields: PacketFields) -> Self {
        fields.with(Vec::with_capacity(Self::CAPACITY))
    }

    fn new(fields: PacketFields, write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Self {
        let mut packet = Self::empty(fields);
        packet.write(fields, write);
        packet
    }

    /// Overwrites everything; the memory of payload and descriptor stays.
    fn write(&mut self, fields: PacketFields, write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        let mut payload = std::mem::take(&mut self.payload);
        let mut dependency = std::mem::take(&mut self.dependency);
        payload.clear();
        dependency.clear();
        write(&mut payload, &mut dependency);
        *self = Self { dependency, ..fields.with(payload) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(sequence: u64) -> PacketFields {
        PacketFields::single(Codec::Vp8, sequence, 0, Instant::now())
    }

    #[test]
    fn a_released_packet_is_used_again_and_a_held_one_is_not() {
        let mut pool = PacketPool::default();
        let held = pool.make(fields(1), b"held");
        drop(pool.make(fields(2), b"released"));
        let third = pool.make(fields(3), b"third");
        assert_eq!(pool.len(), 2);
        assert_eq!(held.payload, b"held");
        assert_eq!((third.sequence, third.payload.as_slice()), (3, b"third".as_slice()));
    }

    #[test]
    fn a_steady_stream_makes_no_more_packets_than_are_held() {
        let mut pool = PacketPool::default();
        let mut held = VecDeque::new();
        let mut made = 0;
        for sequence in 0..20_000 {
            held.push_back(pool.make(fields(sequence), b"payload"));
            // Late packets leave out of order, as a history under loss lets them go.
            if held.len() > 600 {
                held.remove((sequence % 7) as usize);
            }
            if sequence == 10_000 {
                made = pool.len();
            }
        }
        assert_eq!(pool.len(), made, "all memory was there after the first half");
        assert!(made < 900, "{made} packets for 600 held");
    }
    /// Two tracks with histories of their own, one of which stops; how many packets there are.
    fn two_tracks(audio_stops: u64, until: u64) -> usize {
        let mut pool = PacketPool::default();
        let mut histories = [VecDeque::new(), VecDeque::new()];
        for sequence in 0..until {
            let is_audio = sequence % 9 == 3;
            if is_audio && sequence > audio_stops {
                continue;
            }
            let history = &mut histories[usize::from(is_audio)];
            history.push_back(pool.make(fields(sequence), b"payload"));
            if history.len() > if is_audio { 100 } else { 800 } {
                history.pop_front();
            }
        }
        pool.len()
    }

    #[test]
    fn two_tracks_need_half_as_many_packets_again_as_their_histories_hold_and_no_more() {
        let made = two_tracks(u64::MAX, 3_000);
        assert!(made <= 1_350, "{made} packets for 900 held");
        assert_eq!(two_tracks(u64::MAX, 60_000), made, "all memory was there");
    }

    #[test]
    fn packets_of_a_track_that_stops_do_not_keep_the_others_from_being_found() {
        let made = two_tracks(1_000, 3_000);
        assert!(made <= 1_350, "{made} packets for 900 held");
        assert_eq!(two_tracks(1_000, 60_000), made, "all memory was there");
    }
}
