//! The last seconds of one track, shared by all its viewers: tells duplicates, answers NACKs.

use crate::media::codec::Kind;
use crate::media::packet::Packet;
use std::sync::Arc;
use std::time::Duration;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is new and goes out.
    New,
    /// It was here before.
    Duplicate,
    /// It is older than all that is kept.
    TooOld,
    /// Too many wait before it: the viewers cannot be served as fast as the publisher sends.
    NoRoom,
}

/// A ring of packets by sequence number.
#[derive(Debug)]
pub struct History {
    slots: Box<[Option<Kept>]>,
    span: Duration,
    /// The lowest sequence number that is still taken and the next one after the highest.
    range: Option<(u64, u64)>,
    /// Whether packets have been let go: what comes late may have been among them.
    has_let_go: bool,
}

#[derive(Debug)]
struct Kept {
    packet: Arc<Packet>,
    /// The padding with which it went out; `None` while it waits to.
    padding: Option<u8>,
}

impl History {
    /// Two seconds of 25 Mb/s in packets of 1200 bytes; time is the bound for all but the fattest.
    const VIDEO_SLOTS: usize = 8192;
    /// Two and a half seconds of 10 ms packets.
    const AUDIO_SLOTS: usize = 256;
    /// So many packets the first that came may have overtaken: a keyframe's, which leaves at once.
    const OVERTAKEN_MAX: u64 = 128;

    /// An empty history that keeps packets for `span`.
    pub fn new(kind: Kind, span: Duration) -> Self {
        let slots = match kind {
            Kind::Video => Self::VIDEO_SLOTS,
            Kind::Audio => Self::AUDIO_SLOTS,
        };
        Self { slots: (0..slots).map(|_| None).collect(), span, range: None, has_let_go: false }
    }

    fn index(&self, sequence: u64) -> usize {
        (sequence % self.slots.len() as u64) as usize
    }

    /// Keeps a packet and lets go of those that are past the span.
    pub fn push(&mut self, packet: &Arc<Packet>) -> Pushed {
        let sequence = packet.sequence;
        let overtaken = sequence.saturating_sub(Self::OVERTAKEN_MAX);
        let (low, high) = self.range.unwrap_or((overtaken, sequence));
        if sequence < low {
            return Pushed::TooOld;
        }
        let index = self.index(sequence);
        if sequence < high && self.slots[index].is_some() {
            return Pushed::Duplicate;
        }
        let high = high.max(sequence + 1);
        let low = self.make_room(low, high);
        self.slots[index] = Some(Kept { packet: Arc::clone(packet), padding: None });
        self.range = Some((self.release_expired(low, high, packet), high));
        Pushed::New
    }

    /// Empties the slots that are needed again; tells the new low end.
    fn make_room(&mut self, low: u64, high: u64) -> u64 {
        let needed = high.saturating_sub(self.slots.len() as u64);
        self.has_let_go |= needed > low;
        if needed.saturating_sub(low) >= self.slots.len() as u64 {
            self.slots.fill_with(|| None);
        } else {
            for sequence in low..needed {
                let index = self.index(sequence);
                self.slots[index] = None;
            }
        }
        low.max(needed)
    }

    /// Lets go of packets past the span; tells the new low end.
    ///
    /// An empty slot at the low end is as old as the ones let go before it. Before the first packet
    /// there were none: those it has overtaken may still come.
    fn release_expired(&mut self, low: u64, high: u64, newest: &Packet) -> u64 {
        let mut released = low;
        let age = |kept: &Kept| newest.arrival.saturating_duration_since(kept.packet.arrival);
        for sequence in low..high {
            let index = self.index(sequence);
            match &self.slots[index] {
                Some(kept) if age(kept) <= self.span => break,
                Some(_) => {
                    self.slots[index] = None;
                    self.has_let_go = true;
                }
                None => {}
            }
            if self.has_let_go {
                released = sequence + 1;
            }
        }
        released
    }

    /// Notes that a packet goes out, and with which padding.
    pub fn departed(&mut self, sequence: u64, padding: u8) {
        let index = self.index(sequence);
        if let Some(kept) = self.slots[index].as_mut().filter(|k| k.packet.sequence == sequence) {
            kept.padding = Some(padding);
        }
    }

    /// The packet with this sequence number and its padding, if it has gone out.
    pub fn get(&self, sequence: u64) -> Option<(&Arc<Packet>, u8)> {
        let kept = self.slots[self.index(sequence)].as_ref()?;
        let padding = kept.padding.filter(|_| kept.packet.sequence == sequence)?;
        Some((&kept.packet, padding))
    }

    /// The packets after this sequence number that have gone out.
    pub fn after(&self, sequence: u64) -> impl Iterator<Item = (&Arc<Packet>, u8)> {
        let (low, high) = self.range.unwrap_or((0, 0));
        (low.max(sequence.saturating_add(1))..high).filter_map(|sequence| self.get(sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packet::PacketFields;
    use std::time::Instant;

    fn packet(start: Instant, sequence: u64, at_ms: u64) -> Arc<Packet> {
        let arrival = start + Duration::from_millis(at_ms);
        Arc::new(PacketFields::single(Codec::Vp8, sequence, 0, arrival).with(vec![1]))
    }

    #[test]
    fn a_packet_is_new_once_whatever_the_order() {
        let start = Instant::now();
        let mut history = History::new(Kind::Video, Duration::from_secs(2));
        for sequence in [70_000, 70_002, 70_004, 70_001] {
            assert_eq!(history.push(&packet(start, sequence, 0)), Pushed::New);
            assert_eq!(history.push(&packet(start, sequence, 1)), Pushed::Duplicate);
        }
        history.departed(70_001, 3);
        for overtaken in [69_999, 69_900] {
            assert_eq!(history.push(&packet(start, overtaken, 0)), Pushed::New);
        }
        assert_eq!(history.push(&packet(start, 69_800, 0)), Pushed::TooOld);
        assert_eq!(history.get(70_001).map(|(_, padding)| padding), Some(3));
        assert!(history.get(70_002).is_none(), "it has not gone out");
        assert!(history.get(70_003).is_none());
    }

    #[test]
    fn packets_past_the_span_are_let_go_and_not_taken_again() {
        let start = Instant::now();
        let mut history = History::new(Kind::Audio, Duration::from_secs(2));
        let first = packet(start, 100, 0);
        history.push(&first);
        history.departed(100, 0);
        history.push(&packet(start, 101, 2_500));
        assert_eq!(Arc::strong_count(&first), 1, "nobody but the test holds it");
        assert!(history.get(100).is_none());
        assert_eq!(history.push(&first), Pushed::TooOld);
        assert_eq!(history.push(&packet(start, 99, 2_500)), Pushed::TooOld);
    }

    #[test]
    fn a_jump_far_ahead_empties_the_ring_at_once() {
        let start = Instant::now();
        let mut history = History::new(Kind::Audio, Duration::from_secs(2));
        history.push(&packet(start, 100, 0));
        assert_eq!(history.push(&packet(start, 1 << 40, 1)), Pushed::New);
        history.departed(1 << 40, 0);
        assert!(history.get(100).is_none());
        assert!(history.get(1 << 40).is_some());
    }
}
