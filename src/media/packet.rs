//! One RTP packet with its shared payload, and the pool that recycles them.
//!
//! A payload is written once, when it has been opened, and then only read: by every viewer that
//! is sent it and by the history that answers NACKs. The pool hands the same memory out again
//! when nobody holds the packet any more, so a running stream allocates nothing.

use super::codec::Codec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// One RTP packet of a layer, without header: each viewer gets a header of its own.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The codec of the payload type it came with.
    pub codec: Codec,
    /// Extended RTP sequence number of the layer, as the publisher counts.
    pub sequence: u64,
    /// Extended RTP timestamp, in ticks of the codec's clock.
    pub timestamp: u64,
    /// The RTP marker: last packet of a frame (video), start of a talk spurt (audio).
    pub marker: bool,
    /// Whether a decoder can start with the frame that begins in this packet.
    pub keyframe: bool,
    /// When the server received it.
    pub arrival: Instant,
    /// The RTP payload, without header, extensions and padding.
    pub payload: Vec<u8>,
}

/// Recycles packets: as long as no more are held than it has seen before, it allocates nothing.
#[derive(Debug, Default)]
pub struct PacketPool {
    /// Every packet handed out, oldest first; those held by nobody else are free.
    packets: VecDeque<Arc<Packet>>,
}

impl PacketPool {
    /// How many of the oldest packets are looked at before a new one is made.
    const TRIES: usize = 4;
    /// The most packets remembered; beyond it a packet is freed like any other memory.
    const PACKETS_MAX: usize = 16_384;

    /// A packet with these fields and a copy of `payload`.
    pub fn make(&mut self, fields: PacketFields, payload: &[u8]) -> Arc<Packet> {
        for _ in 0..Self::TRIES.min(self.packets.len()) {
            let Some(mut oldest) = self.packets.pop_front() else { break };
            if let Some(packet) = Arc::get_mut(&mut oldest) {
                packet.reset(fields, payload);
                self.packets.push_back(Arc::clone(&oldest));
                return oldest;
            }
            self.packets.push_back(oldest);
        }
        let packet = Arc::new(Packet::new(fields, payload));
        if self.packets.len() < Self::PACKETS_MAX {
            self.packets.push_back(Arc::clone(&packet));
        }
        packet
    }

    /// How many packets the pool remembers, free and in use.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it never made a packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// What [`PacketPool::make`] is told of a packet, apart from its payload.
#[derive(Debug, Clone, Copy)]
pub struct PacketFields {
    /// See [`Packet::codec`].
    pub codec: Codec,
    /// See [`Packet::sequence`].
    pub sequence: u64,
    /// See [`Packet::timestamp`].
    pub timestamp: u64,
    /// See [`Packet::marker`].
    pub marker: bool,
    /// See [`Packet::keyframe`].
    pub keyframe: bool,
    /// See [`Packet::arrival`].
    pub arrival: Instant,
}

impl Packet {
    fn new(fields: PacketFields, payload: &[u8]) -> Self {
        let PacketFields { codec, sequence, timestamp, marker, keyframe, arrival } = fields;
        Self { codec, sequence, timestamp, marker, keyframe, arrival, payload: payload.to_vec() }
    }

    fn reset(&mut self, fields: PacketFields, payload: &[u8]) {
        let mut memory = std::mem::take(&mut self.payload);
        memory.clear();
        memory.extend_from_slice(payload);
        let PacketFields { codec, sequence, timestamp, marker, keyframe, arrival } = fields;
        *self = Self { codec, sequence, timestamp, marker, keyframe, arrival, payload: memory };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(sequence: u64) -> PacketFields {
        let arrival = Instant::now();
        let codec = Codec::Vp8;
        PacketFields { codec, sequence, timestamp: 0, marker: false, keyframe: false, arrival }
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
}
