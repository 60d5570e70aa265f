//! Which layer a packet belongs to, by its SSRC: announced, or learnt from MID, RID and repaired
//! RID (RFC 8843 §9.2, RFC 8852 §3), else from its payload type.
//!
//! Senders put those identifiers on their first packets only, so each SSRC is learnt once. It also
//! keeps what RFC 3550 wants known of each SSRC for reception reports.

use super::layer::{JUMP_MAX, Layer};
use super::rtcp::ReportBlock;
use super::track::Track;
use crate::media::time::{Unwrapper, ticks_of};
use crate::peer::agreement::ReceivedMedia;
use crate::peer::header::RtpHeader;
use std::time::{Duration, Instant};

/// The most SSRCs known at once: all layers with retransmissions, twice over.
const SOURCES_MAX: usize = 32;
/// How long a layer must be silent before an SSRC that was replaced may come back.
const SILENCE: Duration = Duration::from_secs(1);

/// How long before a new media SSRC its retransmissions may come.
const REPAIR_LEAD: Duration = Duration::from_millis(500);
/// How long after its last packet an SSRC is reported on.
const REPORTED_FOR: Duration = Duration::from_secs(5);

/// Where the packets of an SSRC go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Which of the tracks.
    pub(super) track: usize,
    /// Which of its layers.
    pub(super) layer: usize,
    /// Whether they are retransmissions (RFC 4588).
    pub(super) repair: bool,
}

/// Ids of the header extensions that identify; with BUNDLE they are the same in every section.
#[derive(Debug, Clone, Copy, Default)]
struct Identifiers {
    mid: Option<u8>,
    rid: Option<u8>,
    repaired_rid: Option<u8>,
}

/// The SSRCs of one publisher.
#[derive(Debug)]
pub(super) struct Demux {
    sources: Vec<Source>,
    identifiers: Identifiers,
}

impl Demux {
    /// Knows what the offer announces.
    pub(super) fn new(media: &[ReceivedMedia], tracks: &mut [Track], now: Instant) -> Self {
        let find = |id: fn(&ReceivedMedia) -> Option<u8>| media.iter().find_map(id);
        let identifiers = Identifiers {
            mid: find(|section| section.extensions.mid),
            rid: find(|section| section.extensions.rid),
            repaired_rid: find(|section| section.extensions.repaired_rid),
        };
        let mut demux = Self { sources: Vec::with_capacity(SOURCES_MAX), identifiers };
        for (track, section) in media.iter().enumerate().take(tracks.len()) {
            if tracks[track].has_rids() {
                continue; // what it announces does not tell which layer is whose
            }
            let layers = tracks[track].layers.len();
            for (layer, announced) in section.ssrcs.iter().enumerate().take(layers) {
                demux.add(announced.ssrc, Target { track, layer, repair: false }, now);
                tracks[track].layers[layer].ssrc = Some(announced.ssrc);
                if let Some(rtx) = announced.rtx {
                    let index = demux.add(rtx, Target { track, layer, repair: true }, now);
                    demux.sources[index].repaired = Some(announced.ssrc);
                }
            }
        }
        demux
    }

    /// The source of a packet; `None` if nothing tells where it belongs.
    pub(super) fn resolve(
        &mut self,
        header: &RtpHeader,
        datagram: &[u8],
        now: Instant,
        tracks: &mut [Track],
    ) -> Option<&mut Source> {
        let known = self.sources.iter().position(|source| source.ssrc == header.ssrc);
        if let Some(index) = known {
            let Target { track, layer, repair } = self.sources[index].target;
            let track = tracks.get_mut(track)?;
            if track.format(header.payload_type).is_some_and(|format| format.repair == repair) {
                let layer = track.layers.get(layer)?;
                if repair && !self.sources[index].repairs(layer) {
                    return None;
                }
                if !repair && layer.ssrc != Some(header.ssrc) {
                    // Stragglers of an SSRC that was replaced must not bring it back.
                    if !layer.is_silent(now, SILENCE) {
                        return None;
                    }
                    self.bind(index, tracks, now);
                }
                return self.sources.get_mut(index);
            }
            // An announced SSRC may turn out to be another's retransmissions (no FID group).
            if self.sources[index].received > 0 {
                return None;
            }
        }
        let target = self.learn(header, datagram, tracks)?;
        let index = match known {
            Some(index) => {
                self.sources[index].target = target;
                index
            }
            None => self.add(header.ssrc, target, now),
        };
        self.bind(index, tracks, now);
        self.sources.get_mut(index)
    }

    /// What an unknown packet says of itself.
    fn learn(&self, header: &RtpHeader, datagram: &[u8], tracks: &[Track]) -> Option<Target> {
        let text = |id: Option<u8>| header.extension(datagram, id?);
        let mid = text(self.identifiers.mid);
        let mut fitting = tracks.iter().enumerate().filter_map(|(index, track)| {
            let format = track.format(header.payload_type)?;
            let fits = mid.is_none_or(|mid| mid == track.mid.as_bytes());
            fits.then_some((index, track, format.repair))
        });
        let (index, track, repair) = fitting.next()?;
        if fitting.next().is_some() {
            return None;
        }
        let rid = if repair {
            text(self.identifiers.repaired_rid).or_else(|| text(self.identifiers.rid))
        } else {
            text(self.identifiers.rid)
        };
        let named = rid.and_then(|rid| track.layers.iter().position(|l| l.rid.as_bytes() == rid));
        let layer = match named {
            Some(layer) => layer,
            None if track.layers.len() == 1 => 0,
            None if repair => track.only_active_layer()?,
            None if !track.has_rids() => track.longest_silent_layer()?,
            None => return None,
        };
        Some(Target { track: index, layer, repair })
    }

    /// Remembers a source, forgetting the longest silent where there is no room.
    fn add(&mut self, ssrc: u32, target: Target, now: Instant) -> usize {
        let source = Source::new(ssrc, target, now);
        if self.sources.len() < SOURCES_MAX {
            self.sources.push(source);
            return self.sources.len() - 1;
        }
        let oldest =
            (0..SOURCES_MAX).min_by_key(|&index| self.sources[index].last_seen).unwrap_or(0);
        self.sources[oldest] = source;
        oldest
    }

    /// Makes a source the one its layer is received from, or one that repairs it.
    fn bind(&mut self, index: usize, tracks: &mut [Track], now: Instant) {
        let source = &mut self.sources[index];
        let track = tracks.get_mut(source.target.track);
        let Some(layer) = track.and_then(|track| track.layers.get_mut(source.target.layer)) else {
            return;
        };
        if source.target.repair {
            source.repaired = layer.ssrc;
        } else if layer.ssrc.replace(source.ssrc).is_some_and(|old| old != source.ssrc) {
            layer.restart(now);
        }
    }

    /// A known source.
    pub(super) fn source_mut(&mut self, ssrc: u32) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.ssrc == ssrc)
    }

    /// Takes the reception reports on all sources that sent anything of late.
    pub(super) fn reports(&mut self, now: Instant) -> impl Iterator<Item = ReportBlock> {
        let is_alive = move |source: &&mut Source| now < source.last_seen + REPORTED_FOR;
        self.sources.iter_mut().filter(is_alive).filter_map(move |source| source.report(now))
    }
}

/// One SSRC: its place, and its reception as RFC 3550 counts it, before any repair.
#[derive(Debug)]
pub(super) struct Source {
    /// The SSRC.
    pub(super) ssrc: u32,
    /// Where its packets go.
    pub(super) target: Target,
    /// The media SSRC whose retransmissions these are, once there was one.
    repaired: Option<u32>,
    /// When it was first heard of.
    since: Instant,
    last_seen: Instant,
    received: u64,
    first: u64,
    sequences: Unwrapper,
    expected_before: u64,
    received_before: u64,
    /// RFC 3550 §A.8: sixteen times the jitter, in ticks.
    jitter: u64,
    transit: Option<u32>,
    sender_report: Option<(u32, Instant)>,
}

impl Source {
    fn new(ssrc: u32, target: Target, now: Instant) -> Self {
        Self {
            ssrc,
            target,
            repaired: None,
            since: now,
            last_seen: now,
            received: 0,
            first: 0,
            sequences: Unwrapper::default(),
            expected_before: 0,
            received_before: 0,
            jitter: 0,
            transit: None,
            sender_report: None,
        }
    }

    /// Whether its packets are retransmissions of what the layer is received from now. Those of
    /// an SSRC that was replaced would be taken for packets of another numbering.
    fn repairs(&mut self, layer: &Layer) -> bool {
        let fits = self.repaired == layer.ssrc;
        if !fits && (self.repaired.is_none() || self.since + REPAIR_LEAD >= layer.since) {
            self.repaired = layer.ssrc;
            return true;
        }
        fits
    }

    /// Counts a packet (RFC 3550 §A.1, §A.8).
    pub(super) fn receive(&mut self, header: &RtpHeader, clock_rate: u32, now: Instant) {
        let jump = self.sequences.newest().map_or(0, |newest| {
            self.sequences.peek(u32::from(header.sequence), 16).abs_diff(newest)
        });
        if self.received == 0 || jump > JUMP_MAX {
            self.sequences = Unwrapper::default();
            self.first = self.sequences.extend(u32::from(header.sequence), 16);
            (self.received, self.expected_before, self.received_before) = (0, 0, 0);
        }
        let sequence = self.sequences.extend(u32::from(header.sequence), 16);
        self.first = self.first.min(sequence);
        self.received += 1;
        self.last_seen = now;
        let elapsed = now.saturating_duration_since(self.since);
        let transit = (ticks_of(elapsed, clock_rate) as u32).wrapping_sub(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = u64::from(transit.wrapping_sub(before).cast_signed().unsigned_abs());
            // A jump of the clock, not of the network, must not stay in the average for long.
            let difference = difference.min(u64::from(clock_rate));
            self.jitter = (self.jitter + difference).saturating_sub((self.jitter + 8) >> 4);
        }
    }

    /// Notes a sender report for the next reception report to answer.
    pub(super) fn note_sender_report(&mut self, ntp: u64, now: Instant) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// The reception report since the last one (RFC 3550 §A.3); `None` if nothing ever came.
    pub(super) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let highest = self.sequences.newest()?;
        let expected = highest - self.first + 1;
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_sender_report, delay) = self.sender_report.map_or((0, 0), |(middle, at)| {
            (middle, ticks_of(now.saturating_duration_since(at), 65_536) as u32)
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: (expected.cast_signed() - self.received.cast_signed())
                .clamp(-0x80_0000, 0x7f_ffff) as i32,
            // The unwrapper starts at one turn; cycles are counted from none.
            highest_sequence: highest.saturating_sub(1 << 16) as u32,
            jitter: (self.jitter >> 4) as u32,
            last_sender_report,
            delay,
        })
    }
}
