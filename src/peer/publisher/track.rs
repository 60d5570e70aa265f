//! One track out of its layers: an unbroken numbering, whichever layer or SSRC it comes from.

use super::layer::{Arrival, ClockPair, Layer, Mapping, Received};
use super::nack::RoundTrip;
use crate::codec;
use crate::media::bitrate::Bitrate;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::layer::LAYERS_MAX;
use crate::media::layer::{LayerId, Scale};
use crate::media::packet::PacketFields;
use crate::media::time::{ticks_of, ticks_of_micros};
use crate::peer::agreement::{Feedback, PayloadFormat, ReceivedMedia};
use std::time::{Duration, Instant};

/// How often the layer to forward is chosen anew.
const CHOICE_INTERVAL: Duration = Duration::from_millis(100);
/// How much more a layer must carry to be chosen instead: layers differ by much more than this.
const CHOICE_MARGIN: f64 = 1.25;
/// How long nothing has come of a layer that has stopped, while the others went on.
const STOPPED_AFTER: Duration = Duration::from_millis(300);
/// How many pictures of the others came in that time: layers of a still page are slow, all of them.
const STOPPED_AFTER_PICTURES: u32 = 8;
/// How long after the first layer begins a larger one takes over with the keyframe it begins with:
/// layers begin together, in any order, and an encoder that answers no PLI has no other for long.
const BEGINNING: Duration = Duration::from_millis(500);
/// How far sender reports may be from arrival times before the latter are believed.
const CLOCK_DOUBT: Duration = Duration::from_secs(1);

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The codec of the media.
    pub(super) codec: Codec,
    /// Which of the track's formats.
    pub(super) format: u8,
    /// Whether it wraps retransmissions.
    pub(super) repair: bool,
}

/// What was forwarded last.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    timestamp: u64,
    arrival: Instant,
}

/// One track.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: Kind,
    pub(super) mid: String,
    pub(super) feedback: Feedback,
    pub(super) layers: Vec<Layer>,
    formats: Vec<PayloadFormat>,
    by_payload_type: [Option<Meaning>; 128],
    /// The layer that is forwarded.
    current: Option<usize>,
    /// The layer that is to be forwarded from its next keyframe on.
    next: Option<usize>,
    choose_at: Instant,
    /// When the first layer was taken up.
    began: Option<Instant>,
    newest: Option<Newest>,
    flowing: Option<u8>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) keyframes: u64,
    pub(super) dimensions: Option<(u16, u16)>,
}

impl Track {
    pub(super) fn new(media: &ReceivedMedia, now: Instant) -> Self {
        let names_layers = media.extensions.rid.is_some() && !media.rids.is_empty();
        let layers = if names_layers {
            media.rids.iter().take(LAYERS_MAX).map(|rid| Layer::new(rid.clone(), now)).collect()
        } else {
            let count = media.ssrcs.len().clamp(1, LAYERS_MAX);
            (0..count).map(|_| Layer::new(String::new(), now)).collect()
        };
        let mut by_payload_type = [None; 128];
        for (index, format) in media.formats.iter().enumerate().take(usize::from(u8::MAX)) {
            let codec = format.format.codec;
            let mut set = |payload_type: u8, repair| {
                if let Some(slot) = by_payload_type.get_mut(usize::from(payload_type)) {
                    *slot = Some(Meaning { codec, format: index as u8, repair });
                }
            };
            set(format.payload_type, false);
            if let Some(rtx) = format.rtx {
                set(rtx, true);
            }
        }
        Self {
            kind: media.kind,
            mid: media.mid.clone(),
            feedback: media.feedback,
            layers,
            formats: media.formats.clone(),
            by_payload_type,
            current: None,
            next: None,
            choose_at: now,
            began: None,
            newest: None,
            flowing: None,
            packets: 0,
            bytes: 0,
            keyframes: 0,
            dimensions: None,
        }
    }

    /// What a payload type stands for in this track.
    pub(super) fn format(&self, payload_type: u8) -> Option<Meaning> {
        self.by_payload_type.get(usize::from(payload_type)).copied().flatten()
    }

    /// Whether its layers are told apart by RID.
    pub(super) fn has_rids(&self) -> bool {
        self.layers.first().is_some_and(|layer| !layer.rid.is_empty())
    }

    /// The one layer of which something came, if it is only one.
    pub(super) fn only_active_layer(&self) -> Option<usize> {
        let mut active = self.layers.iter().enumerate().filter(|(_, l)| l.last_media.is_some());
        let (index, _) = active.next()?;
        active.next().is_none().then_some(index)
    }

    /// The layer of which nothing came for the longest time.
    pub(super) fn longest_silent_layer(&self) -> Option<usize> {
        (0..self.layers.len()).min_by_key(|&index| self.layers[index].last_media)
    }

    /// The layer that is forwarded.
    pub(super) fn current(&self) -> Option<&Layer> {
        self.layers.get(self.current?)
    }

    /// The format that flows.
    pub(super) fn format_flowing(&self) -> Option<&Format> {
        self.formats.get(usize::from(self.flowing?)).map(|format| &format.format)
    }

    /// Takes in a packet of a layer; what is to be forwarded of it is returned.
    pub(super) fn receive(
        &mut self,
        layer: usize,
        meaning: Meaning,
        arrival: &Arrival<'_>,
        round_trip: &mut RoundTrip,
    ) -> Option<PacketFields> {
        let received = self.layers.get_mut(layer)?.receive(arrival, round_trip)?;
        if self.layers.len() > 1 {
            self.note_picture(layer, arrival.marker);
            self.choose(arrival.now);
        }
        self.switch(layer, &received, meaning.codec, arrival.now);
        let mapping = self.layers[layer].mapping?;
        if received.sequence < mapping.first
            || mapping.last.is_some_and(|last| received.sequence > last)
        {
            return None;
        }
        let sequence = received.sequence.wrapping_add(mapping.sequence_offset);
        let timestamp = received.timestamp.wrapping_add(mapping.timestamp_offset);
        if self.newest.is_none_or(|newest| newest.sequence < sequence) {
            self.newest = Some(Newest { sequence, timestamp, arrival: arrival.now });
        }
        self.count(meaning, &received, arrival);
        Some(PacketFields {
            codec: meaning.codec,
            layer: LayerId::ONLY,
            scale: Scale::default(),
            sequence,
            timestamp,
            marker: arrival.marker,
            keyframe: received.keyframe,
            arrival: arrival.now,
        })
    }

    fn count(&mut self, meaning: Meaning, received: &Received, arrival: &Arrival<'_>) {
        self.packets += 1;
        self.bytes += arrival.payload.len() as u64;
        self.flowing = Some(meaning.format);
        if self.kind == Kind::Video {
            self.keyframes += u64::from(received.keyframe);
            if codec::is_keyframe(meaning.codec, arrival.payload)
                && let Some(size) = codec::dimensions(meaning.codec, arrival.payload)
            {
                self.dimensions = Some(size);
            }
        }
    }

    /// Counts for the other layers a picture that was not theirs.
    fn note_picture(&mut self, layer: usize, ends: bool) {
        for (index, other) in self.layers.iter_mut().enumerate() {
            if index == layer {
                other.pictures_of_others = 0;
            } else if ends {
                other.pictures_of_others = other.pictures_of_others.saturating_add(1);
            }
        }
    }

    /// Chooses the layer that carried most of late, and has not stopped since.
    fn choose(&mut self, now: Instant) {
        let Some(current) = self.current else { return };
        if now < self.choose_at {
            return;
        }
        self.choose_at = now + CHOICE_INTERVAL;
        let rate = |index: usize| {
            let layer = &self.layers[index];
            let has_stopped = layer.pictures_of_others >= STOPPED_AFTER_PICTURES
                && layer.is_silent(now, STOPPED_AFTER);
            if has_stopped { Bitrate::default() } else { layer.weight.rate(now) }
        };
        let best = (0..self.layers.len()).max_by_key(|&index| rate(index));
        self.next = best
            .filter(|&best| best != current && rate(best) > rate(current).scaled(CHOICE_MARGIN));
        if let Some(next) = self.next {
            self.layers[next].request.ask_in_turn(now);
        }
    }

    /// Makes the layer the forwarded one, if this packet is where that happens, and places its
    /// numbering behind what was forwarded.
    fn switch(&mut self, layer: usize, received: &Received, codec: Codec, now: Instant) {
        let is_current = self.current == Some(layer);
        let takes_over = match self.current {
            Some(current) => {
                received.keyframe
                    && (self.next == Some(layer) || self.begins_larger(layer, current, now))
            }
            None => self.layers.len() == 1 || received.keyframe,
        };
        if !takes_over && (!is_current || self.layers[layer].mapping.is_some()) {
            return;
        }
        let mapping = self.newest.map_or(
            // Nothing was forwarded: numbers stay as they are, and late ones have room below.
            Mapping {
                sequence_offset: 0,
                timestamp_offset: 0,
                first: if self.layers.len() == 1 { 0 } else { received.sequence },
                last: None,
            },
            |newest| Mapping {
                sequence_offset: (newest.sequence + 1).wrapping_sub(received.sequence),
                timestamp_offset: self
                    .timestamp_after(newest, layer, received.timestamp, codec, now)
                    .wrapping_sub(received.timestamp),
                first: received.sequence,
                last: None,
            },
        );
        if let Some(old) = self.current.filter(|&old| old != layer) {
            let last = self.layers[old].newest();
            if let Some(mapping) = &mut self.layers[old].mapping {
                mapping.last = last;
            }
        }
        self.layers[layer].mapping = Some(mapping);
        self.current = Some(layer);
        self.next = None;
        self.began.get_or_insert(now);
    }

    /// Whether a layer has a larger picture than the forwarded one while all of them begin.
    fn begins_larger(&self, layer: usize, current: usize, now: Instant) -> bool {
        self.began.is_some_and(|began| now < began + BEGINNING)
            && self.layers[layer].pixels > self.layers[current].pixels
    }

    /// The track's timestamp of a layer's first packet: by the sender reports of both layers where
    /// there are such (RFC 3550 §5.1), else by the time that has passed; later than what was
    /// forwarded in any case.
    fn timestamp_after(
        &self,
        newest: Newest,
        layer: usize,
        timestamp: u64,
        codec: Codec,
        now: Instant,
    ) -> u64 {
        let rate = codec.clock_rate();
        let elapsed = now.saturating_duration_since(newest.arrival);
        let by_arrival = newest.timestamp.saturating_add(ticks_of(elapsed, rate));
        let old = self.current.filter(|&old| old != layer).map(|old| &self.layers[old]);
        let by_clock = old.and_then(|old| {
            let (before, after) = (old.clock?, self.layers[layer].clock?);
            let between = ntp_micros_between(before, after)?;
            let ticks = ticks_of_micros(between, rate);
            let passed = timestamp.wrapping_sub(after.timestamp);
            let raw = before.timestamp.wrapping_add_signed(ticks).wrapping_add(passed);
            let mapped = raw.wrapping_add(old.mapping?.timestamp_offset);
            (mapped.abs_diff(by_arrival) <= ticks_of(CLOCK_DOUBT, rate)).then_some(mapped)
        });
        by_clock.unwrap_or(by_arrival).max(newest.timestamp.saturating_add(1))
    }

    /// Notes a sender report of a layer; for the one that is forwarded, its RTP timestamp in the
    /// track's numbering.
    pub(super) fn note_sender_report(
        &mut self,
        layer: usize,
        ntp: u64,
        rtp_timestamp: u32,
    ) -> Option<u64> {
        let is_current = self.current == Some(layer);
        let layer = self.layers.get_mut(layer)?;
        let timestamp = layer.timestamp(rtp_timestamp)?;
        layer.clock = Some(ClockPair { ntp, timestamp });
        let mapping = layer.mapping.filter(|_| is_current)?;
        Some(timestamp.wrapping_add(mapping.timestamp_offset))
    }

    /// Somebody waits for a keyframe of what is forwarded, or of whatever comes first.
    pub(super) fn request_keyframe(&mut self, now: Instant) {
        let chosen = self.next.or(self.current);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if layer.ssrc.is_some() && chosen.is_none_or(|chosen| chosen == index) {
                layer.request.ask(now);
            }
        }
    }

    /// What comes of all layers.
    pub(super) fn rate(&self, now: Instant) -> Bitrate {
        Bitrate::bps(self.layers.iter().map(|layer| layer.meter.rate(now).as_bps()).sum())
    }
}

/// Microseconds from one moment of the sender's wall clock to another, if less than an hour.
fn ntp_micros_between(before: ClockPair, after: ClockPair) -> Option<i64> {
    let difference = after.ntp.wrapping_sub(before.ntp).cast_signed();
    let micros = (i128::from(difference) * 1_000_000) >> 32;
    i64::try_from(micros).ok().filter(|micros| micros.abs() < 3_600_000_000)
}
