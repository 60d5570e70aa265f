//! What a viewer's RTCP asks for, and what it says of the path and of what has arrived.

use super::super::estimate::feedback::Feedback;
use super::super::estimate::remb;
use super::super::outgoing::Outgoing;
use super::super::reference_time::ReferenceTime;
use super::Viewer;
use crate::media::codec::Kind;
use crate::media::time::WallTime;
use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::time::Instant;

/// What a viewer's RTCP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A packet of a track again (RFC 4585 §6.2.1).
    Again(Kind, u16),
    /// A keyframe (PLI, FIR).
    Keyframe,
}

/// How much of what a viewer asks for is looked at: every packet of RTCP and every number in a NACK
/// costs a look-up, and a datagram holds thousands of them.
#[derive(Debug)]
pub(super) struct Attention {
    left: u32,
    since: Instant,
}

impl Attention {
    /// Beyond a tenth of 10,000 packets a second, lost and asked for four times.
    const PER_SECOND: u32 = 4096;
    /// A quarter of a second's worth at a time.
    const BURST: u32 = 1024;

    pub(super) const fn new(now: Instant) -> Self {
        Self { left: Self::BURST, since: now }
    }

    fn renew(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.since).as_secs_f64();
        let earned = (earned * f64::from(Self::PER_SECOND)) as u32;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(Self::BURST);
            self.since = now;
        }
    }

    /// Whether one more is looked at.
    const fn pay(&mut self) -> bool {
        self.pay_for(1)
    }

    /// Whether something is looked at that is as much work as so many.
    const fn pay_for(&mut self, work: u32) -> bool {
        let is_paid = self.left >= work;
        self.left = self.left.saturating_sub(work);
        is_paid
    }
}

impl Viewer {
    /// Reads a plain RTCP compound of this moment, which is `wall` on the wall clock; what it asks
    /// for goes to `asked`. Of whoever asks without end not everything is read.
    ///
    /// Fuzz target: `viewer_rtcp`.
    pub fn handle_rtcp(
        &mut self,
        compound: &[u8],
        (now, wall): (Instant, WallTime),
        mut asked: impl FnMut(&mut Self, Asked),
    ) {
        self.attention.renew(now);
        for mut packet in whole_packets(compound) {
            let reference_time = ReferenceTime::read(packet, wall);
            self.reference_time = reference_time.or(self.reference_time);
            if self.estimate_from(packet, now) {
                continue;
            }
            if !is_read(packet) {
                continue;
            }
            if !self.attention.pay() {
                return;
            }
            let Ok(packets) = unmarshal(&mut packet) else { return };
            let Some(packet) = packets.first().map(|packet| packet.as_any()) else { return };
            if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.reported(&report.reports, (now, wall));
            } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.reported(&report.reports, (now, wall));
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                let Some(kind) = self.kind_of(nack.media_ssrc) else { continue };
                for sequence in nack.nacks.iter().flat_map(|pair| pair.into_iter()) {
                    if !self.attention.pay() {
                        return;
                    }
                    asked(self, Asked::Again(kind, sequence));
                }
            } else if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
                asked(self, Asked::Keyframe);
            }
        }
    }

    /// Takes in what a packet says of the path; tells whether it is one that does. Reading costs
    /// attention: of whoever sends more than browsers do not everything is read.
    fn estimate_from(&mut self, packet: &[u8], now: Instant) -> bool {
        let Some(estimator) = self.estimator.as_deref_mut().filter(|_| self.is_measured) else {
            return false;
        };
        if let Some(feedback) = Feedback::read(packet) {
            if self.attention.pay_for(1 + feedback.cost() / 64) {
                estimator.on_feedback(&feedback, now);
            }
            return true;
        }
        let Some(bitrate) = remb::read(packet) else { return false };
        if self.attention.pay() {
            estimator.on_remb(bitrate, now);
        }
        true
    }

    fn kind_of(&self, ssrc: u32) -> Option<Kind> {
        self.tracks().find(|track| track.ssrc() == ssrc).map(Outgoing::kind)
    }

    fn reported(&mut self, reports: &[ReceptionReport], (now, wall): (Instant, WallTime)) {
        for report in reports {
            let track = self.outgoing.iter_mut().flatten().find(|t| t.ssrc() == report.ssrc);
            let round_trip = track.and_then(|track| track.reported(report, wall));
            self.round_trip = round_trip.or(self.round_trip);
        }
        let loss = self.tracks().map(|track| track.counters().loss).fold(0.0, f64::max);
        let bytes = self.tracks().map(|track| track.counters().bytes).sum();
        if let Some(estimator) = self.estimator.as_deref_mut().filter(|_| !reports.is_empty()) {
            estimator.on_report(loss, bytes, now);
        }
    }
}

/// The packets of a compound with their headers, up to the first that is cut short.
pub(super) fn whole_packets(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let &[_, _, high, low] = rest.first_chunk()?;
        let len = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (packet, tail) = rest.split_at_checked(len)?;
        rest = tail;
        Some(packet)
    })
}

/// Whether the library reads what a packet says: SR, RR, NACK, PLI or FIR. It is given
/// no others: transport-wide feedback of thirty bytes makes it write down 65,535 arrivals.
fn is_read(packet: &[u8]) -> bool {
    matches!(packet, [_, 200 | 201, ..])
        || matches!(packet, [first, 205, ..] if first & 0x1f == 1)
        || matches!(packet, [first, 206, ..] if matches!(first & 0x1f, 1 | 4))
}
