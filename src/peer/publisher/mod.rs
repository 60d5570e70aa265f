//! The receive side of a publisher session: opened packets in, packets to forward and RTCP out.
//!
//! It never sees SRTP, a socket or a clock.
//!
//! - `demux`: which layer a packet belongs to, by its SSRC; reception reports
//! - `layer`: one encoding as it is received
//! - `nack`: what is missing of a layer, and when to ask for it again
//! - `remb`: a ceiling for publishers that take no feedback per packet
//! - `rtcp`: a reader for the RTCP that comes, writers for what goes
//! - `rtx`: retransmissions as RFC 4588 wraps them
//! - `scaling`: temporal and spatial layers within one encoding
//! - `tests`: every behaviour of the whole
//! - `track`: one track out of its layers
//! - `transport_cc`: transport-wide feedback
//! - `window`: each packet passes once

mod demux;
mod layer;
mod nack;
mod remb;
pub mod rtcp;
pub mod rtx;
mod scaling;
#[cfg(test)]
mod tests;
mod track;
mod transport_cc;
mod window;

use self::demux::Demux;
use self::layer::Arrival;
use self::nack::RoundTrip;
use self::remb::Remb;
use self::rtcp::{CompoundWriter, REPORT_BLOCKS_MAX, ReportBlock};
use self::track::Track;
use self::transport_cc::TransportFeedback;
use super::agreement::ReceivedMedia;
use super::header::RtpHeader;
use crate::codec::joined;
use crate::media::bitrate::Bitrate;
use crate::media::codec::{Codec, Format, Kind};
use crate::media::layer::{Lane, LayerId};
use crate::media::packet::{Packet, PacketPool};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often reception reports are sent: lip sync, round trips and old senders live on them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A sender report, for the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// Of which lane.
    pub lane: Lane,
    /// The publisher's wall clock, as an NTP timestamp.
    pub ntp: u64,
    /// The same moment in the numbering of [`Packet::timestamp`].
    pub rtp_timestamp: u64,
}

/// What one track has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackCounters {
    /// The format that flows, once something has come.
    pub format: Option<Format>,
    /// Packets handed on, of all layers.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets that never came, of all layers.
    pub lost_packets: u64,
    /// Packets asked for again, of all layers; each request counts.
    pub nacks: u64,
    /// Keyframes handed on, of all layers.
    pub keyframes: u64,
    /// The rate of the last second, of all layers.
    pub bitrate: Bitrate,
    /// The picture's size, of the largest layer.
    pub dimensions: Option<(u16, u16)>,
}

/// The receive side of one publisher session.
pub struct Receiver {
    report_ssrc: u32,
    tracks: Vec<Track>,
    demux: Demux,
    transport_cc: Option<(u8, TransportFeedback)>,
    remb: Option<(Option<u8>, Box<Remb>)>,
    round_trip: RoundTrip,
    report_due: Option<Instant>,
    last_media: Option<Instant>,
    /// Counts FIR commands (RFC 5104 §4.3.1.1).
    intra_number: u8,
    /// Memory for the sequence numbers of one NACK.
    asked: Vec<u16>,
}

impl Receiver {
    /// A receiver of what was agreed, which calls itself `report_ssrc` in RTCP.
    pub fn new(media: &[ReceivedMedia], report_ssrc: u32, now: Instant) -> Self {
        let mut tracks: Vec<Track> = media.iter().map(|section| Track::new(section, now)).collect();
        let demux = Demux::new(media, &mut tracks, now);
        let transport_cc = media
            .iter()
            .filter(|section| section.feedback.transport_cc)
            .find_map(|section| section.extensions.transport_cc)
            .map(|id| (id, TransportFeedback::new(now)));
        let takes_remb = media.iter().any(|section| section.feedback.remb);
        let remb = (takes_remb && transport_cc.is_none()).then(|| {
            let id = media.iter().find_map(|section| section.extensions.abs_send_time);
            (id, Box::new(Remb::new(now)))
        });
        Self {
            report_ssrc,
            tracks,
            demux,
            transport_cc,
            remb,
            round_trip: RoundTrip::default(),
            report_due: None,
            last_media: None,
            intra_number: 0,
            asked: Vec::with_capacity(256),
        }
    }

    /// Takes in one opened RTP packet; `datagram` is its header and payload in plain. Returns the
    /// packet to forward if it is new media.
    pub fn handle_rtp(
        &mut self,
        header: &RtpHeader,
        datagram: &[u8],
        now: Instant,
        pool: &mut PacketPool,
    ) -> Option<Arc<Packet>> {
        self.note_transport(header, datagram, now);
        let source = self.demux.resolve(header, datagram, now, &mut self.tracks)?;
        let target = source.target;
        let track = self.tracks.get_mut(target.track)?;
        let meaning = track.format(header.payload_type)?;
        source.receive(header, meaning.codec.clock_rate(), now);
        self.report_due.get_or_insert(now + REPORT_INTERVAL);
        let payload = header.payload(datagram)?;
        let (sequence, payload) = if target.repair {
            rtx::unwrap(payload)?
        } else {
            self.last_media = Some(now);
            (header.sequence, payload)
        };
        let arrival = Arrival {
            codec: meaning.codec,
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            repair: target.repair,
            payload,
            dependency: track.dependency_descriptor.and_then(|id| header.extension(datagram, id)),
            now,
        };
        let fields = track.receive(target.layer, meaning, &arrival, &mut self.round_trip)?;
        let is_handed_on = meaning.codec.needs_dependencies();
        let described = arrival.dependency.filter(|_| is_handed_on).unwrap_or_default();
        Some(pool.make_with(fields, |of, dependency| {
            of.extend_from_slice(payload);
            if meaning.codec == Codec::Vp9 {
                joined::join_vp9(of);
            }
            let joined = joined::joined(described);
            dependency.extend_from_slice(joined.as_deref().unwrap_or(described));
        }))
    }

    /// Records what congestion control reads, whatever stream the packet is of.
    fn note_transport(&mut self, header: &RtpHeader, datagram: &[u8], now: Instant) {
        if let Some((id, feedback)) = &mut self.transport_cc
            && let Some(&[high, low]) = header.extension(datagram, *id)
        {
            feedback.record(u16::from_be_bytes([high, low]), now);
        }
        if let Some((Some(id), remb)) = &mut self.remb
            && let Some(time) = header.extension(datagram, *id)
        {
            remb.record(time, datagram.len(), now);
        }
    }

    /// Takes in a plain RTCP compound; its sender reports are handed back for the time line.
    pub fn handle_rtcp(
        &mut self,
        compound: &[u8],
        now: Instant,
        on_sender_report: &mut dyn FnMut(SenderReport),
    ) {
        for packet in rtcp::packets(compound) {
            let Some(info) = rtcp::sender_info(&packet) else { continue };
            let Some(source) = self.demux.source_mut(info.ssrc) else { continue };
            source.note_sender_report(info.ntp, now);
            let target = source.target;
            let Some(track) = self.tracks.get_mut(target.track) else { continue };
            let is_media = !target.repair
                && track.layers.get(target.layer).is_some_and(|l| l.ssrc == Some(info.ssrc));
            if is_media
                && let Some(rtp_timestamp) =
                    track.note_sender_report(target.layer, info.rtp_timestamp)
            {
                let lane = Lane::of(track.kind, LayerId::at(target.layer).unwrap_or_default());
                on_sender_report(SenderReport { lane, ntp: info.ntp, rtp_timestamp });
            }
        }
    }

    /// Asks for a keyframe of a layer at the next poll; merging the wishes of many viewers is the
    /// caller's.
    ///
    /// Asked again each second, three times in all, until one comes: the request may be lost.
    pub fn request_keyframe(&mut self, layer: LayerId, now: Instant) {
        for track in self.tracks.iter_mut().filter(|track| track.kind == Kind::Video) {
            track.request_keyframe(layer, now);
        }
    }

    /// Only these layers are of use to somebody: of others no keyframe is asked for where some of
    /// them is lost.
    pub fn set_watched(&mut self, is_watched: impl Fn(LayerId) -> bool) {
        for track in self.tracks.iter_mut().filter(|track| track.kind == Kind::Video) {
            for (index, layer) in track.layers.iter_mut().enumerate() {
                layer.is_watched = LayerId::at(index).is_some_and(&is_watched);
            }
        }
    }

    /// The name of a layer in the offer (RFC 8851); empty without simulcast.
    pub fn rid(&self, layer: LayerId) -> &str {
        let mut video = self.tracks.iter().filter(|track| track.kind == Kind::Video);
        let layer = video.find_map(|track| track.layers.get(layer.index()));
        layer.map_or("", |layer| &layer.rid)
    }

    /// Hands the RTCP compounds that are due to `send`, each at most
    /// [`COMPOUND_MAX`](rtcp::COMPOUND_MAX) bytes.
    pub fn poll_rtcp(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        let mut writer = CompoundWriter::new(self.report_ssrc, send);
        if self.report_due.is_some_and(|due| due <= now) {
            self.report_due = Some(now + REPORT_INTERVAL);
            let mut blocks = [ReportBlock::default(); REPORT_BLOCKS_MAX];
            let mut count = 0;
            for (block, report) in blocks.iter_mut().zip(self.demux.reports(now)) {
                *block = report;
                count += 1;
            }
            writer.report(&blocks[..count]);
        }
        let patience = self.round_trip.patience();
        for track in &mut self.tracks {
            for layer in &mut track.layers {
                self.asked.clear();
                let asked = &mut self.asked;
                let damaged = layer.poll_missing(now, patience, |sequence| asked.push(sequence));
                let Some(ssrc) = layer.ssrc else { continue };
                if track.feedback.nack {
                    layer.nacks += self.asked.len() as u64;
                    writer.nack(ssrc, &self.asked);
                }
                if damaged && track.kind == Kind::Video && layer.is_watched {
                    layer.request.ask_in_turn(now);
                }
                if layer.request.poll(now) {
                    if track.feedback.fir && !track.feedback.pli {
                        self.intra_number = self.intra_number.wrapping_add(1);
                        writer.full_intra(ssrc, self.intra_number);
                    } else {
                        writer.picture_loss(ssrc);
                    }
                }
            }
        }
        self.poll_congestion(now, &mut writer);
        writer.flush();
    }

    fn poll_congestion(&mut self, now: Instant, writer: &mut CompoundWriter<'_>) {
        let mut video = [0; 8];
        let mut count = 0;
        let mut any = None;
        for track in &self.tracks {
            for ssrc in track.layers.iter().filter_map(|layer| layer.ssrc) {
                any = any.or(Some(ssrc));
                if track.kind == Kind::Video
                    && let Some(slot) = video.get_mut(count)
                {
                    *slot = ssrc;
                    count += 1;
                }
            }
        }
        // Senders take feedback only where it names an SSRC of theirs.
        let Some(media) = video[..count].first().copied().or(any) else { return };
        if let Some((_, feedback)) = &mut self.transport_cc {
            feedback.poll(now, self.report_ssrc, media, writer);
        }
        if let Some((_, remb)) = &mut self.remb {
            let received = self.tracks.iter().map(|track| track.rate(now).as_bps()).sum();
            let layers = self.tracks.iter().flat_map(|track| &track.layers);
            let late = layers.map(|layer| layer.missing.late_packets()).sum();
            if let Some(grant) = remb.poll(Bitrate::bps(received), late, now) {
                writer.maximum_bitrate(grant.as_bps(), &video[..count]);
            }
        }
    }

    /// When [`Receiver::poll_rtcp`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let layers = self.tracks.iter().flat_map(|track| &track.layers);
        let of_layers = layers.flat_map(|layer| {
            let request = layer.request.deadline().filter(|_| layer.ssrc.is_some());
            [layer.missing.deadline(), request]
        });
        // Without a known SSRC there is nobody to tell anything.
        let is_known = self.tracks.iter().flat_map(|t| &t.layers).any(|l| l.ssrc.is_some());
        let transport_cc = self.transport_cc.as_ref().filter(|_| is_known);
        let remb = self.remb.as_ref().filter(|_| is_known && self.last_media.is_some());
        of_layers
            .chain([
                self.report_due,
                transport_cc.and_then(|(_, feedback)| feedback.deadline()),
                remb.map(|(_, remb)| remb.deadline()),
            ])
            .flatten()
            .min()
    }

    /// When media came last, retransmissions aside.
    pub const fn last_media(&self) -> Option<Instant> {
        self.last_media
    }

    /// What the track of a kind has come to; all zero where there is none.
    pub fn report(&self, kind: Kind, now: Instant) -> TrackCounters {
        let Some(track) = self.tracks.iter().find(|track| track.kind == kind) else {
            return TrackCounters::default();
        };
        let layers = || track.layers.iter();
        TrackCounters {
            format: track.format_flowing().cloned(),
            packets: track.packets,
            bytes: track.bytes,
            lost_packets: layers().map(|layer| layer.lost_packets).sum(),
            nacks: layers().map(|layer| layer.nacks).sum(),
            keyframes: track.keyframes,
            bitrate: track.rate(now),
            dimensions: track.dimensions(),
        }
    }

    /// The round trip to the publisher, as retransmissions show it.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed()
    }
}
