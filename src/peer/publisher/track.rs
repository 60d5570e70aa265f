//! One track and its layers, each in an unbroken numbering, whichever SSRC it comes from.

use super::layer::{Arrival, Layer};
use super::nack::RoundTrip;
use crate::media::bitrate::Bitrate;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::layer::{LAYERS_MAX, LayerId};
use crate::media::packet::PacketFields;
use crate::peer::agreement::{Feedback, PayloadFormat, ReceivedMedia};
use std::time::Instant;

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

/// One track.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: Kind,
    pub(super) mid: String,
    pub(super) feedback: Feedback,
    pub(super) layers: Vec<Layer>,
    /// The id of that extension, where it was agreed.
    pub(super) dependency_descriptor: Option<u8>,
    formats: Vec<PayloadFormat>,
    by_payload_type: [Option<Meaning>; 128],
    flowing: Option<u8>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) keyframes: u64,
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
            dependency_descriptor: media.extensions.dependency_descriptor,
            formats: media.formats.clone(),
            by_payload_type,
            flowing: None,
            packets: 0,
            bytes: 0,
            keyframes: 0,
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

    /// The format that flows.
    pub(super) fn format_flowing(&self) -> Option<&Format> {
        self.formats.get(usize::from(self.flowing?)).map(|format| &format.format)
    }

    /// Takes in a packet of a layer; what is to be forwarded of it is returned.
    pub(super) fn receive(
        &mut self,
        index: usize,
        meaning: Meaning,
        arrival: &Arrival<'_>,
        round_trip: &mut RoundTrip,
    ) -> Option<PacketFields> {
        let layer = self.layers.get_mut(index)?;
        let received = layer.receive(arrival, round_trip)?;
        let clock_rate = meaning.codec.clock_rate();
        let (sequence, timestamp) = layer.place(&received, clock_rate, arrival.now)?;
        self.packets += 1;
        self.bytes += arrival.payload.len() as u64;
        self.flowing = Some(meaning.format);
        self.keyframes += u64::from(self.kind == Kind::Video && received.keyframe);
        Some(PacketFields {
            codec: meaning.codec,
            layer: LayerId::at(index)?,
            scale: received.scale,
            sequence,
            timestamp,
            marker: arrival.marker,
            keyframe: received.keyframe,
            sizes: received.sizes,
            arrival: arrival.now,
        })
    }

    /// The RTP timestamp of a layer's sender report in the numbering in which it is handed on.
    pub(super) fn note_sender_report(&self, layer: usize, rtp_timestamp: u32) -> Option<u64> {
        self.layers.get(layer)?.timestamp(rtp_timestamp)
    }

    /// Somebody waits for a keyframe of a layer, or of whatever comes first.
    pub(super) fn request_keyframe(&mut self, wanted: LayerId, now: Instant) {
        let has_come = |layer: &Layer| layer.ssrc.is_some();
        let is_there = self.layers.get(wanted.index()).is_some_and(has_come);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if has_come(layer) && (!is_there || index == wanted.index()) {
                layer.request.ask(now);
            }
        }
    }

    /// The size of the largest layer's picture.
    pub(super) fn dimensions(&self) -> Option<(u16, u16)> {
        let sizes = self.layers.iter().filter_map(|layer| layer.sizes.largest());
        sizes.max_by_key(|&(width, height)| u32::from(width) * u32::from(height))
    }

    /// What comes of all layers.
    pub(super) fn rate(&self, now: Instant) -> Bitrate {
        Bitrate::bps(self.layers.iter().map(|layer| layer.meter.rate(now).as_bps()).sum())
    }
}
