//! One encoding as it is received: its numbering, what is missing of it, where it can start.

use super::nack::{MissingPackets, RoundTrip, Struck};
use super::scaling::{Piece, Scaling};
use super::window::Window;
use crate::codec;
use crate::media::codec::{Codec, Kind};
use crate::media::layer::{Scale, Sizes};
use crate::media::meter::Meter;
use crate::media::time::{Unwrapper, ticks_of};
use std::time::{Duration, Instant};

/// The longest jump of sequence numbers that counts as loss or delay (RFC 3550 §A.1,
/// `MAX_DROPOUT`); beyond it the numbering has started anew.
pub(super) const JUMP_MAX: u64 = 3000;
/// How close before an IDR picture its parameter sets are missed.
const PARAMETERS_REACH: u64 = 8;
/// How often a layer is asked for a keyframe at most.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// The while whose rate is told.
const TOLD_OVER: Duration = Duration::from_secs(1);
/// How often one request is sent in all: the request itself may be lost.
const KEYFRAME_TRIES: u32 = 3;

/// A packet as it came, retransmissions unwrapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) codec: Codec,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// It is a retransmission.
    pub(super) repair: bool,
    pub(super) payload: &'a [u8],
    /// The value of the dependency descriptor, where it came.
    pub(super) dependency: Option<&'a [u8]>,
    pub(super) now: Instant,
}

/// A packet in the layer's own endless numbering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) sequence: u64,
    pub(super) timestamp: u64,
    pub(super) keyframe: bool,
    pub(super) sizes: Sizes,
    pub(super) scale: Scale,
}

/// Where the sender's numbering lies in the unbroken one in which a layer is handed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    /// Added, wrapping, to sequence numbers.
    pub(super) sequence_offset: u64,
    /// Added, wrapping, to timestamps.
    pub(super) timestamp_offset: u64,
    /// The first packet that is handed on.
    pub(super) first: u64,
}

/// What was handed on last.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    timestamp: u64,
    arrival: Instant,
}

/// When to ask for a keyframe.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyframeRequest {
    due: Option<Instant>,
    sent: Option<Instant>,
    tries: u32,
}

impl KeyframeRequest {
    /// Somebody waits: ask, and again until one comes; whoever asks, not more often than the
    /// interval.
    pub(super) fn ask(&mut self, now: Instant) {
        self.due = None;
        self.ask_in_turn(now);
    }

    /// It would be good to have one: ask as well, unless that is under way.
    pub(super) fn ask_in_turn(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(self.sent.map_or(now, |sent| now.max(sent + KEYFRAME_INTERVAL)));
            self.tries = 0;
        }
    }

    /// A keyframe has come.
    fn settle(&mut self) {
        self.due = None;
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to send a request now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.sent = Some(now);
        self.tries += 1;
        self.due = (self.tries < KEYFRAME_TRIES).then(|| now + KEYFRAME_INTERVAL);
        true
    }
}

/// One encoding of a track.
#[derive(Debug)]
pub(super) struct Layer {
    /// Its RID; empty without simulcast.
    pub(super) rid: String,
    /// Where its media comes from, as far as known.
    pub(super) ssrc: Option<u32>,
    /// Since when it is numbered as it is.
    pub(super) since: Instant,
    sequences: Unwrapper,
    timestamps: Unwrapper,
    window: Window,
    /// After a jump: the number that would confirm it.
    expected_after_jump: Option<u16>,
    pub(super) missing: MissingPackets,
    /// Its rate, as it is told.
    pub(super) meter: Meter,
    pub(super) last_media: Option<Instant>,
    /// Whether it is of use to somebody.
    pub(super) is_watched: bool,
    /// The sizes of its newest keyframe's picture, where they are known.
    pub(super) sizes: Sizes,
    /// The first packet that came, whatever was before it.
    first: Option<u64>,
    /// Where the newest keyframe starts: timestamp and sequence number.
    keyframe: Option<(u64, u64)>,
    /// What frames are within it.
    scaling: Scaling,
    pub(super) request: KeyframeRequest,
    mapping: Option<Mapping>,
    newest: Option<Newest>,
    pub(super) lost_packets: u64,
    pub(super) nacks: u64,
    pub(super) keyframes: u64,
}

impl Layer {
    pub(super) fn new(rid: String, now: Instant) -> Self {
        Self {
            rid,
            ssrc: None,
            since: now,
            sequences: Unwrapper::default(),
            timestamps: Unwrapper::default(),
            window: Window::new(),
            expected_after_jump: None,
            missing: MissingPackets::new(),
            meter: Meter::new(TOLD_OVER, now),
            last_media: None,
            is_watched: true,
            sizes: Sizes::default(),
            first: None,
            keyframe: None,
            scaling: Scaling::default(),
            request: KeyframeRequest::default(),
            mapping: None,
            newest: None,
            lost_packets: 0,
            nacks: 0,
            keyframes: 0,
        }
    }

    /// The sender numbers anew: another SSRC, or the same after a jump. What was forwarded stays
    /// forwarded; the track goes on behind it.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.sequences = Unwrapper::default();
        self.timestamps = Unwrapper::default();
        self.window = Window::new();
        self.expected_after_jump = None;
        self.lost_packets += self.missing.clear();
        self.first = None;
        self.keyframe = None;
        self.scaling = Scaling::default();
        self.mapping = None;
    }

    /// Whether nothing came for that long.
    pub(super) fn is_silent(&self, now: Instant, span: Duration) -> bool {
        self.last_media.is_none_or(|last| now.saturating_duration_since(last) >= span)
    }

    /// Whether a keyframe has started since that packet.
    pub(super) fn has_keyframe_after(&self, sequence: u64) -> bool {
        self.keyframe.is_some_and(|(_, start)| start > sequence)
    }

    /// Takes a packet in; `None` if it came before, or cannot be placed.
    pub(super) fn receive(
        &mut self,
        arrival: &Arrival<'_>,
        round_trip: &mut RoundTrip,
    ) -> Option<Received> {
        let &Arrival { codec, payload, now, .. } = arrival;
        if !self.follows(arrival) {
            return None;
        }
        let is_first = self.window.newest().is_none();
        let sequence = self.sequences.extend(u32::from(arrival.sequence), 16);
        let newest = self.window.newest().unwrap_or(sequence);
        if !self.window.insert(sequence) {
            return None;
        }
        self.first.get_or_insert(sequence);
        if sequence > newest {
            self.missing.note_gap(newest, sequence, now);
        } else if !is_first {
            match self.missing.strike(sequence, now) {
                Struck::Answer(span) if arrival.repair => round_trip.sample(span),
                Struck::Answer(_) | Struck::Missing => {}
                // Given up, yet it came.
                Struck::Unknown => self.lost_packets = self.lost_packets.saturating_sub(1),
            }
        }
        let timestamp = self.timestamps.extend(arrival.timestamp, 32);
        self.last_media = Some(now);
        self.meter.add(payload.len(), now);
        let (is_video, may_start) =
            (codec.kind() == Kind::Video, codec::is_keyframe(codec, payload));
        let keyframe = may_start && (!is_video || self.starts(codec, payload, timestamp, sequence));
        if is_first && !keyframe && is_video {
            // The parameter sets were lost, or the publisher had begun before it was connected.
            self.request.ask_in_turn(now);
        }
        let scale = self.scaling.scale(&Piece { sequence, timestamp, keyframe, arrival });
        let mut sizes = Sizes::default();
        if may_start && is_video {
            let beside = self.scaling.sizes(sequence);
            sizes = beside.unwrap_or_else(|| codec::sizes(codec, payload));
            if !sizes.is_empty() {
                self.sizes = sizes;
            }
        }
        Some(Received { sequence, timestamp, keyframe, sizes, scale })
    }

    /// Whether the packet goes on with the numbering; starts anew when two packets in a row agree
    /// on another one (RFC 3550 §A.1).
    fn follows(&mut self, arrival: &Arrival<'_>) -> bool {
        let Some(newest) = self.window.newest() else { return true };
        let sequence = self.sequences.peek(u32::from(arrival.sequence), 16);
        if sequence.abs_diff(newest) <= JUMP_MAX {
            if !arrival.repair {
                self.expected_after_jump = None;
            }
            return true;
        }
        if arrival.repair {
            return false;
        }
        if self.expected_after_jump == Some(arrival.sequence) {
            self.restart(arrival.now);
            return true;
        }
        self.expected_after_jump = Some(arrival.sequence.wrapping_add(1));
        false
    }

    /// Whether this packet, which may start a keyframe, is the one that does.
    ///
    /// Of parameter sets and picture the first counts. A picture whose parameter sets are on their
    /// way is no start: a decoder that began there would have to be given another keyframe. Of what
    /// was before the first packet nobody knows whether it is on its way. What is late, behind the
    /// start of another keyframe, is none: of its own picture more may have come before.
    fn starts(&mut self, codec: Codec, payload: &[u8], timestamp: u64, sequence: u64) -> bool {
        let same_frame = self.keyframe.filter(|&(started, _)| started == timestamp);
        let is_late = |(started, start): (u64, u64)| started != timestamp && sequence < start;
        if same_frame.is_some_and(|(_, start)| sequence > start)
            || self.keyframe.is_some_and(is_late)
        {
            return false;
        }
        let reach = sequence.saturating_sub(PARAMETERS_REACH);
        let before_all = self.keyframe.is_none() && self.first.is_some_and(|first| reach < first);
        if !codec::carries_parameters(codec, payload)
            && (before_all || self.missing.any_within(reach, sequence))
        {
            return false;
        }
        if same_frame.is_none() {
            self.keyframes += 1;
        }
        if self.keyframe.is_none_or(|(newest, _)| newest <= timestamp) {
            self.keyframe = Some((timestamp, sequence));
        }
        self.request.settle();
        true
    }

    /// Where a packet lies in the numbering in which the layer is handed on: behind all that was,
    /// where the sender numbers anew, and as much later as it came.
    pub(super) fn place(
        &mut self,
        received: &Received,
        clock_rate: u32,
        now: Instant,
    ) -> Option<(u64, u64)> {
        let newest = self.newest;
        let behind = |newest: Newest| {
            let passed = ticks_of(now.saturating_duration_since(newest.arrival), clock_rate).max(1);
            Mapping {
                sequence_offset: (newest.sequence + 1).wrapping_sub(received.sequence),
                timestamp_offset: newest
                    .timestamp
                    .saturating_add(passed)
                    .wrapping_sub(received.timestamp),
                first: received.sequence,
            }
        };
        // Nothing was handed on: numbers stay as they are, and late ones have room below.
        let as_it_is = Mapping { sequence_offset: 0, timestamp_offset: 0, first: 0 };
        let mapping = *self.mapping.get_or_insert_with(|| newest.map_or(as_it_is, behind));
        if received.sequence < mapping.first {
            return None;
        }
        let sequence = received.sequence.wrapping_add(mapping.sequence_offset);
        let timestamp = received.timestamp.wrapping_add(mapping.timestamp_offset);
        if self.newest.is_none_or(|newest| newest.sequence < sequence) {
            self.newest = Some(Newest { sequence, timestamp, arrival: now });
        }
        Some((sequence, timestamp))
    }

    /// The value of an RTP timestamp from a sender report in that numbering.
    pub(super) fn timestamp(&self, rtp_timestamp: u32) -> Option<u64> {
        self.timestamps.newest()?;
        let timestamp = self.timestamps.peek(rtp_timestamp, 32);
        Some(timestamp.wrapping_add(self.mapping?.timestamp_offset))
    }

    /// Asks for what is due, and counts what is given up; a gap that stays needs a keyframe.
    pub(super) fn poll_missing(
        &mut self,
        now: Instant,
        patience: Duration,
        ask: impl FnMut(u16),
    ) -> bool {
        let given_up = self.missing.poll(now, patience, ask);
        self.lost_packets += given_up.count;
        given_up.count > 0 && !self.has_keyframe_after(given_up.newest)
    }
}
