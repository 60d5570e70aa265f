//! Everything since the newest keyframe of a video track, for viewers who come in between.
//!
//! Packets are kept as they departed, in the order in which they did and with the padding they
//! had: a packet is only ever sent with that padding, or the nonce rule would break. Whoever walks
//! through the cache is known to it by nothing but a cursor.

use crate::media::packet::Packet;
use crate::media::time::ticks_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A packet that has departed.
#[derive(Debug)]
pub struct Departed {
    /// The packet.
    pub packet: Arc<Packet>,
    /// The RTP padding it departed with.
    pub padding: u8,
}

/// What a walk through the cache finds at its cursor.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The next packet.
    Packet(&'a Departed),
    /// A newer keyframe has taken the place of what the walk was in.
    Restarted,
    /// All has been walked through.
    End,
    /// Nothing is kept until the next keyframe.
    Dropped,
}

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The keyframe's first packet.
    pub first: &'a Packet,
    /// Its cursor.
    pub cursor: u64,
    /// The RTP timestamp of the present.
    pub present: u64,
    /// How many packets there are.
    pub packets: usize,
}

/// The packets since the newest keyframe; empty while there are too many of them.
#[derive(Debug, Default)]
pub struct KeyframeCache {
    packets: Vec<Departed>,
    /// Where a sequence number lies in `packets`, counted from the first's.
    places: Vec<Option<u32>>,
    /// How many were kept before these, over all: cursors count from there.
    before: u64,
    bytes: usize,
    /// The highest RTP timestamp, and when it arrived.
    newest: Option<(u64, Instant)>,
}

impl KeyframeCache {
    /// Encoders send a keyframe every two to ten seconds; who waits longer for one may ask.
    const SPAN_MAX: Duration = Duration::from_secs(12);
    /// Ten seconds of 13 Mb/s, per stream.
    const BYTES_MAX: usize = 16 << 20;
    /// The publisher's clock is not followed further than this after its last packet.
    const SILENCE_MAX: Duration = Duration::from_secs(1);
    /// Half a turn of the numbering: more could not be asked for again.
    const SEQUENCES_MAX: u64 = 1 << 15;

    /// Takes in a video packet that departs. `since` are those after it by sequence number that
    /// departed before it: the first packet of a keyframe may come late.
    pub fn push<'a>(
        &mut self,
        departed: Departed,
        since: impl Iterator<Item = (&'a Arc<Packet>, u8)>,
    ) {
        let packet = &departed.packet;
        if self.packets.first().is_some_and(|first| first.packet.codec != packet.codec) {
            self.clear();
        }
        if self.begins(packet) {
            self.clear();
            self.keep(departed);
            for (packet, padding) in since {
                self.keep(Departed { packet: Arc::clone(packet), padding });
            }
        } else {
            self.keep(departed);
        }
    }

    /// Whether a keyframe begins here that is newer than the one at the start, or more of that.
    fn begins(&self, packet: &Packet) -> bool {
        let Some(Departed { packet: first, .. }) = self.packets.first() else {
            return packet.keyframe;
        };
        let same = first.timestamp == packet.timestamp;
        // Parameter sets and the picture after them are both marked.
        packet.keyframe && same == (packet.sequence < first.sequence)
    }

    fn keep(&mut self, departed: Departed) {
        let Departed { packet, .. } = &departed;
        let (first, began) = match self.packets.first() {
            Some(Departed { packet: first, .. }) => (first.sequence, first.arrival),
            None if packet.keyframe => (packet.sequence, packet.arrival),
            None => return,
        };
        // What came before the keyframe is of no use after it.
        let Some(place) = packet.sequence.checked_sub(first) else { return };
        let span = packet.arrival.saturating_duration_since(began);
        let bytes = self.bytes + packet.payload.len();
        if place >= Self::SEQUENCES_MAX || span > Self::SPAN_MAX || bytes > Self::BYTES_MAX {
            self.clear();
            return;
        }
        self.bytes = bytes;
        if self.newest.is_none_or(|(newest, _)| newest < packet.timestamp) {
            self.newest = Some((packet.timestamp, packet.arrival));
        }
        let place = place as usize;
        if self.places.len() <= place {
            self.places.resize(place + 1, None);
        }
        self.places[place] = Some(self.packets.len() as u32);
        self.packets.push(departed);
    }

    /// Keeps nothing until the next keyframe.
    pub fn clear(&mut self) {
        self.before += self.packets.len() as u64;
        self.packets.clear();
        self.places.clear();
        self.bytes = 0;
        self.newest = None;
    }

    /// How many bytes of payload are kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that is kept.
    pub fn packets(&self) -> impl Iterator<Item = &Departed> {
        self.packets.iter()
    }

    /// Where a walk begins; `None` while nothing is kept.
    pub fn start(&self, now: Instant) -> Option<Start<'_>> {
        let (Departed { packet: first, .. }, (newest, at)) = (self.packets.first()?, self.newest?);
        let since = now.saturating_duration_since(at).min(Self::SILENCE_MAX);
        let present = newest.saturating_add(ticks_of(since, first.codec.clock_rate()));
        Some(Start { first, cursor: self.before, present, packets: self.packets.len() })
    }

    /// What lies at a cursor that came from here.
    pub fn at(&self, cursor: u64) -> At<'_> {
        if self.packets.is_empty() {
            return At::Dropped;
        }
        let Some(index) = cursor.checked_sub(self.before) else { return At::Restarted };
        self.packets.get(index as usize).map_or(At::End, At::Packet)
    }

    /// The packet with this sequence number.
    pub fn get(&self, sequence: u64) -> Option<&Departed> {
        let first = self.packets.first()?.packet.sequence;
        let place = *self.places.get(sequence.checked_sub(first)? as usize)?;
        self.packets.get(place? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::packet::PacketFields;
    use std::time::Instant;

    /// A packet of the frame with this timestamp.
    fn packet(sequence: u64, timestamp: u64, keyframe: bool) -> Packet {
        let fields = PacketFields::single(Codec::H264, sequence, timestamp, Instant::now());
        PacketFields { keyframe, ..fields }.with(vec![0; 100])
    }

    fn push(cache: &mut KeyframeCache, packet: Packet) {
        let departed = Departed { packet: Arc::new(packet), padding: 0 };
        cache.push(departed, std::iter::empty());
    }

    fn start(cache: &KeyframeCache) -> Option<Start<'_>> {
        cache.start(Instant::now())
    }

    fn sequences(cache: &KeyframeCache) -> Vec<u64> {
        cache.packets.iter().map(|departed| departed.packet.sequence).collect()
    }

    #[test]
    fn all_since_the_newest_keyframe_is_kept_in_the_order_of_departure() {
        let mut cache = KeyframeCache::default();
        push(&mut cache, packet(9, 0, false));
        assert!(start(&cache).is_none());
        for (sequence, timestamp, keyframe) in [
            (10, 3_000, true),
            (11, 3_000, true), // the picture after its parameter sets
            (13, 6_000, false),
            (12, 3_000, false),
            (9, 0, false),
        ] {
            push(&mut cache, packet(sequence, timestamp, keyframe));
        }
        assert_eq!(sequences(&cache), [10, 11, 13, 12]);
        assert!(
            start(&cache).is_some_and(|start| start.first.sequence == 10 && start.present >= 6_000)
        );
        assert_eq!(cache.get(12).map(|found| found.packet.sequence), Some(12));
        assert!(cache.get(14).is_none() && cache.get(9).is_none());
    }

    #[test]
    fn a_walk_ends_and_goes_on_and_learns_of_a_newer_keyframe() {
        let mut cache = KeyframeCache::default();
        assert!(matches!(cache.at(0), At::Dropped));
        push(&mut cache, packet(10, 0, true));
        let cursor = start(&cache).expect("a keyframe").cursor;
        assert!(matches!(cache.at(cursor), At::Packet(_)));
        assert!(matches!(cache.at(cursor + 1), At::End));
        push(&mut cache, packet(11, 3_000, false));
        assert!(matches!(cache.at(cursor + 1), At::Packet(_)));
        push(&mut cache, packet(12, 6_000, true));
        assert!(matches!(cache.at(cursor + 1), At::Restarted));
        assert_eq!(sequences(&cache), [12]);
    }

    #[test]
    fn a_keyframe_whose_first_packet_comes_late_begins_with_it() {
        let mut cache = KeyframeCache::default();
        // The start of the picture is marked too, and came before its parameter sets.
        let later = [packet(11, 3_000, true), packet(12, 3_000, false)].map(Arc::new);
        for packet in &later {
            let departed = Departed { packet: Arc::clone(packet), padding: 0 };
            cache.push(departed, std::iter::empty());
        }
        let first = Departed { packet: Arc::new(packet(10, 3_000, true)), padding: 0 };
        cache.push(first, later.iter().map(|packet| (packet, 0)));
        assert_eq!(sequences(&cache), [10, 11, 12]);
    }

    #[test]
    fn past_its_bounds_nothing_is_kept_until_the_next_keyframe() {
        let too_old = |mut packet: Packet| {
            packet.arrival += Duration::from_millis(12_100);
            packet
        };
        let too_large = |mut packet: Packet| {
            packet.payload = vec![0; KeyframeCache::BYTES_MAX];
            packet
        };
        let too_far = |mut packet: Packet| {
            packet.sequence += KeyframeCache::SEQUENCES_MAX;
            packet
        };
        let other_codec = |mut packet: Packet| {
            packet.codec = Codec::Vp8;
            packet
        };
        for spoil in [too_old, too_large, too_far, other_codec] {
            let mut cache = KeyframeCache::default();
            push(&mut cache, packet(10, 0, true));
            push(&mut cache, spoil(packet(11, 3_000, false)));
            push(&mut cache, packet(12, 6_000, false));
            assert!(start(&cache).is_none());
            assert!(matches!(cache.at(1), At::Dropped));
            push(&mut cache, packet(13, 9_000, true));
            assert_eq!(sequences(&cache), [13]);
            assert!(matches!(cache.at(0), At::Restarted));
        }
    }
}
