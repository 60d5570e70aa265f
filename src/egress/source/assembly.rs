//! Packets of one track, as they arrive, into whole frames in their order.
//!
//! What is missing may still come: it is waited for as long as a retransmission takes. Then
//! pictures go on with a keyframe, sound with the next packet. Fuzz target: `source`.

use crate::codec::carries_parameters;
use crate::media::codec::Kind;
use crate::media::packet::Packet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Puts the packets of one track in order.
#[derive(Debug)]
pub(super) struct Assembly {
    kind: Kind,
    /// By sequence number, from `next` on.
    packets: BTreeMap<u64, Arc<Packet>>,
    /// The first packet of the next frame; `None` while there is nothing to begin with.
    next: Option<u64>,
    /// Packets from `next` up to here are there, and of one frame.
    cursor: u64,
    /// Nothing before this one is of use.
    floor: u64,
    /// No frame has come since it began, or began anew: its first packet may still come.
    is_fresh: bool,
    /// Since when packets after a missing one are there.
    missing_since: Option<Instant>,
    /// Its numbers began anew, which nobody has been told yet.
    has_restarted: bool,
}

/// What comes of packets.
#[derive(Debug)]
pub(super) enum Assembled {
    /// All packets of a frame.
    Frame(Vec<Arc<Packet>>),
    /// Something does not come any more; what follows begins with a keyframe.
    Lost,
}

impl Assembly {
    /// So long a picture's packet is waited for: a publisher at the other end of the world is asked
    /// twice.
    const VIDEO_WAIT: Duration = Duration::from_millis(300);
    /// So long one of sound: it is seldom asked for again, and a gap of 20 ms is less than a stall.
    const AUDIO_WAIT: Duration = Duration::from_millis(100);
    /// Packets that are held, of all lanes of a publisher together: a keyframe of 8 MiB.
    pub(super) const PACKETS_MAX: usize = 8_192;
    /// Packets that are held while it is not known where to begin.
    const BEGINNING_MAX: usize = 1_024;
    /// Who goes back so far counts anew.
    const RESTART: u64 = 1 << 15;

    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            packets: BTreeMap::new(),
            next: None,
            cursor: 0,
            floor: 0,
            is_fresh: true,
            missing_since: None,
            has_restarted: false,
        }
    }

    /// Takes in a packet.
    pub(super) fn push(&mut self, packet: &Arc<Packet>) {
        let sequence = packet.sequence;
        if sequence.saturating_add(Self::RESTART) < self.next.unwrap_or(self.floor) {
            *self = Self { has_restarted: true, ..Self::new(self.kind) };
        }
        if sequence < self.floor {
            return;
        }
        let begins = match self.kind {
            Kind::Audio => true,
            // The very first one is what it is; later on half a keyframe is none.
            Kind::Video => packet.keyframe && (self.floor == 0 || self.is_first(packet)),
        };
        match self.next {
            None if begins => {
                self.packets = self.packets.split_off(&sequence);
                self.begin_at(sequence);
            }
            Some(next) if sequence < next => {
                if !self.is_fresh || !begins || !self.is_of_frame(next, packet) {
                    return;
                }
                self.begin_at(sequence);
            }
            _ => {}
        }
        self.packets.insert(sequence, Arc::clone(packet));
        if self.next.is_none() && self.packets.len() > Self::BEGINNING_MAX {
            self.packets.pop_first();
        }
    }

    /// Whether a packet is of the same frame as the one with this number.
    fn is_of_frame(&self, sequence: u64, packet: &Packet) -> bool {
        let other = self.packets.get(&sequence);
        self.kind == Kind::Video && other.is_some_and(|other| other.timestamp == packet.timestamp)
    }

    /// Whether a packet is for sure the first one of its frame: more than one of a keyframe look as
    /// if they were.
    fn is_first(&self, packet: &Packet) -> bool {
        let before = packet.sequence.checked_sub(1).and_then(|before| self.packets.get(&before));
        let is_after = before.is_some_and(|it| it.marker || it.timestamp != packet.timestamp);
        is_after || carries_parameters(packet.codec, &packet.payload)
    }

    const fn begin_at(&mut self, sequence: u64) {
        (self.next, self.cursor) = (Some(sequence), sequence);
        self.missing_since = None;
    }

    /// The next thing that is certain by now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Assembled> {
        if std::mem::take(&mut self.has_restarted) && self.kind == Kind::Video {
            return Some(Assembled::Lost);
        }
        loop {
            let next = self.next?;
            if let Some(end) = self.find_end(next) {
                let rest = self.packets.split_off(&end);
                let frame = std::mem::replace(&mut self.packets, rest);
                self.begin_at(end);
                (self.is_fresh, self.floor) = (false, end);
                // Padding between frames; a sender may probe with it.
                if frame.values().all(|packet| packet.payload.is_empty()) {
                    continue;
                }
                return Some(Assembled::Frame(frame.into_values().collect()));
            }
            let is_full = self.packets.len() >= Self::PACKETS_MAX;
            let is_missing = self.packets.range(self.cursor..).next().is_some();
            if is_full && !is_missing {
                return Some(self.lose());
            }
            if !is_missing || !(is_full || self.deadline()? <= now) {
                return None;
            }
            if let Some(lost) = self.give_up(next) {
                return Some(lost);
            }
        }
    }

    /// What stands behind the last packet of the frame that begins here, once that is certain.
    fn find_end(&mut self, next: u64) -> Option<u64> {
        let timestamp = self.packets.get(&next).map(|packet| packet.timestamp);
        while let Some(packet) = self.packets.get(&self.cursor) {
            if Some(packet.timestamp) != timestamp {
                return Some(self.cursor);
            }
            self.cursor += 1;
            self.missing_since = None;
            if packet.marker || self.kind == Kind::Audio {
                return Some(self.cursor);
            }
        }
        self.note_missing();
        None
    }

    fn note_missing(&mut self) {
        if self.missing_since.is_none() {
            let later = self.packets.range(self.cursor..);
            self.missing_since = later.map(|(_, packet)| packet.arrival).min();
        }
    }

    /// A missing packet is not waited for any longer: goes on behind it.
    fn give_up(&mut self, next: u64) -> Option<Assembled> {
        let broken = self.packets.get(&next).map(|packet| packet.timestamp);
        let begins = |packet: &Packet| match self.kind {
            Kind::Audio => true,
            Kind::Video => {
                packet.keyframe && Some(packet.timestamp) != broken && self.is_first(packet)
            }
        };
        let found = self.packets.range(self.cursor..).find(|(_, packet)| begins(packet));
        let Some((&found, _)) = found else { return Some(self.lose()) };
        self.packets = self.packets.split_off(&found);
        // What comes late of a keyframe's beginning is still of use.
        (self.is_fresh, self.floor) = (true, self.cursor);
        self.begin_at(found);
        (self.kind == Kind::Video).then_some(Assembled::Lost)
    }

    /// Begins anew with what comes: something is missing that will not come.
    pub(super) fn lose(&mut self) -> Assembled {
        let last = self.packets.last_key_value().map(|(&sequence, _)| sequence + 1);
        self.floor = last.unwrap_or(self.floor).max(self.cursor);
        self.packets.clear();
        (self.next, self.is_fresh, self.missing_since) = (None, true, None);
        Assembled::Lost
    }

    /// When a missing packet is not waited for any longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let wait = if self.kind == Kind::Video { Self::VIDEO_WAIT } else { Self::AUDIO_WAIT };
        self.missing_since.map(|since| since + wait)
    }

    /// How many packets it holds.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }
}
