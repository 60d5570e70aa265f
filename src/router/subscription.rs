//! One viewer's hold on one track: waits for a decodable start, then renumbers packet by packet.

use crate::media::codec::Kind;
use crate::media::packet::Packet;

/// What flows to the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwarding {
    /// Nothing yet: the next keyframe (video) or packet (audio) begins.
    Waiting,
    /// Everything from the source sequence number `first` on, which goes out as `first_out`.
    Flowing { first: u64, first_out: u64 },
}

/// A viewer's place in a track, and the sequence numbers it sees.
///
/// The viewer's numbers are those of the publisher moved by a constant, so that a packet lost on
/// the way in is a gap that a late retransmission still fills, and a NACK finds its packet.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    kind: Kind,
    forwarding: Forwarding,
    /// The extended sequence number after the highest sent; the first one before that.
    next_out: u64,
}

impl Subscription {
    /// A subscription whose first packet will have this sequence number.
    ///
    /// Half the range is left before the first wrap, as RFC 3711 §3.3.1 advises: the rollover
    /// counter starts at zero on both sides.
    pub const fn new(kind: Kind, random: u16) -> Self {
        let next_out = (random & 0x7fff) as u64;
        Self { kind, forwarding: Forwarding::Waiting, next_out }
    }

    /// The extended sequence number with which a packet goes to the viewer, or `None` if it does
    /// not: nothing before a keyframe, nothing from before the start.
    pub fn select(&mut self, packet: &Packet) -> Option<u64> {
        let (first, first_out) = match self.forwarding {
            Forwarding::Flowing { first, first_out } => (first, first_out),
            Forwarding::Waiting => {
                if self.kind == Kind::Video && !packet.keyframe {
                    return None;
                }
                let (first, first_out) = (packet.sequence, self.next_out);
                self.forwarding = Forwarding::Flowing { first, first_out };
                (first, first_out)
            }
        };
        let out = packet.sequence.checked_sub(first)?.checked_add(first_out)?;
        self.next_out = self.next_out.max(out + 1);
        Some(out)
    }

    /// The extended sequence number after the highest sent; the first one before that.
    pub const fn next_out(&self) -> u64 {
        self.next_out
    }

    /// Whether it still waits for its start.
    pub fn is_waiting(&self) -> bool {
        self.forwarding == Forwarding::Waiting
    }

    /// The publisher's sequence number of a packet that went to the viewer with this one, and its
    /// extended form.
    pub fn source_of(&self, sequence: u16) -> Option<(u64, u64)> {
        let Forwarding::Flowing { first, first_out } = self.forwarding else { return None };
        let newest = self.next_out.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(sequence));
        let out = newest.checked_sub(back)?;
        Some((out.checked_sub(first_out)?.checked_add(first)?, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Instant;

    fn packet(sequence: u64, keyframe: bool) -> Packet {
        Packet {
            codec: Codec::Vp8,
            sequence,
            timestamp: 0,
            marker: false,
            keyframe,
            arrival: Instant::now(),
            payload: Vec::new(),
        }
    }

    #[test]
    fn video_begins_at_a_keyframe_and_what_came_before_stays_out() {
        let mut subscription = Subscription::new(Kind::Video, 0x8005);
        assert_eq!(subscription.select(&packet(100, false)), None);
        assert_eq!(subscription.select(&packet(101, true)), Some(5));
        assert_eq!(subscription.select(&packet(100, false)), None);
        assert_eq!(subscription.select(&packet(103, false)), Some(7));
        assert_eq!(subscription.select(&packet(102, false)), Some(6));
        assert_eq!(subscription.source_of(6), Some((102, 6)));
        assert_eq!(subscription.source_of(8), None, "not sent yet");
        assert_eq!(subscription.source_of(4), None, "before the first");
    }

    #[test]
    fn audio_begins_at_once() {
        let mut subscription = Subscription::new(Kind::Audio, 0);
        assert_eq!(subscription.select(&packet(7, false)), Some(0));
    }

    proptest! {
        /// The nonce rule (ARCHITECTURE.md): a sequence number never stands for two packets, and
        /// every one that was sent in the last half turn is found again.
        #[test]
        fn a_sequence_number_stands_for_one_packet(
            random: u16,
            start in 0_u64..1 << 40,
            steps in prop::collection::vec(-40_i64..400, 1..500),
        ) {
            let mut subscription = Subscription::new(Kind::Audio, random);
            let mut sent = HashMap::new();
            let mut source = start + 70_000;
            for step in steps {
                source = source.saturating_add_signed(step);
                if let Some(out) = subscription.select(&packet(source, false)) {
                    prop_assert_eq!(*sent.entry(out).or_insert(source), source);
                    prop_assert_eq!(subscription.source_of(out as u16), Some((source, out)));
                }
            }
        }
    }
}
