//! A synthetic Opus encoder: one packet per 20 ms.

use super::Stamp;
use super::payload::{FrameShape, SIZE, packetize};
use crate::codec::Codec;
use bytes::Bytes;
use std::time::Duration;

/// 20 ms at 48 kHz.
const FRAME_TICKS: u32 = 960;
/// 64 kb/s in packets of 20 ms.
const FRAME_BYTES: usize = 160;

/// The encoder.
#[derive(Debug, Clone)]
pub struct AudioSource {
    header: rtp::Header,
    packets: u64,
}

impl AudioSource {
    /// An encoder that starts with a talk spurt.
    pub fn new(payload_type: u8, ssrc: u32) -> Self {
        let header = rtp::Header {
            version: 2,
            payload_type,
            ssrc,
            sequence_number: 65_500,
            timestamp: u32::MAX - 24_000,
            ..Default::default()
        };
        Self { header, packets: 0 }
    }

    /// Time between packets.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// The RTP timestamp of the next packet.
    pub fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// Codes the next packet.
    pub fn next_packet(&mut self) -> rtp::Packet {
        let mut payload = packetize(FrameShape {
            codec: Codec::Opus,
            keyframe: true,
            bytes: FRAME_BYTES,
            payload_max: FRAME_BYTES,
            number: self.packets,
            size: SIZE,
        })
        .into_iter()
        .next()
        .unwrap_or_default();
        Stamp::now(self.packets).write(&mut payload);
        // The marker starts a talk spurt (RFC 3551 §4.1).
        let header = rtp::Header { marker: self.packets == 0, ..self.header.clone() };
        self.packets += 1;
        self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(FRAME_TICKS);
        rtp::Packet { header, payload: Bytes::from(payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_follow_each_other_without_a_gap() {
        let mut source = AudioSource::new(111, 9);
        let packets: Vec<_> = (0..100).map(|_| source.next_packet()).collect();
        for pair in packets.windows(2) {
            let (a, b) = (&pair[0].header, &pair[1].header);
            assert_eq!(b.sequence_number, a.sequence_number.wrapping_add(1));
            assert_eq!(b.timestamp.wrapping_sub(a.timestamp), 960);
        }
        let stamp = Stamp::read(&packets[42].payload).expect("a stamp");
        assert_eq!(stamp.counter, 42);
    }
}
