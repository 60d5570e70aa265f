//! The send side of a viewer's session: its tracks, what its RTCP asks, what we report to it.

use super::agreement::SentMedia;
use super::outgoing::Outgoing;
use super::reference_time::ReferenceTime;
use crate::media::codec::Kind;
use crate::media::time::WallTime;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::packet::{Packet as Rtcp, marshal, unmarshal};
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::time::{Duration, Instant};

/// What a viewer's RTCP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A packet of a track again (RFC 4585 §6.2.1).
    Again(Kind, u16),
    /// A keyframe (PLI, FIR).
    Keyframe,
}

/// One viewer's send side.
#[derive(Debug)]
pub struct Viewer {
    outgoing: [Option<Outgoing>; 2],
    cname: String,
    next_report: Instant,
    round_trip: Option<Duration>,
    /// What the viewer's clock showed, until that has been said back.
    reference_time: Option<ReferenceTime>,
}

impl Viewer {
    /// Between sender reports; the first comes sooner, so that lip sync starts with the picture.
    const REPORT_INTERVAL: Duration = Duration::from_secs(1);
    const FIRST_REPORT: Duration = Duration::from_millis(100);
    /// The most retransmissions asked for by one compound that are looked at.
    const ASKED_MAX: usize = 512;

    /// The send side of what was agreed. `random` seeds sequence numbers, one per track.
    pub fn new(
        media: Vec<SentMedia>,
        cname: String,
        rtx_share: f64,
        random: [u16; 2],
        now: Instant,
    ) -> Self {
        let mut outgoing = [None, None];
        for section in media {
            let index = section.kind.index();
            outgoing[index] = Some(Outgoing::new(section, rtx_share, random[index]));
        }
        let next_report = now + Self::FIRST_REPORT;
        Self { outgoing, cname, next_report, round_trip: None, reference_time: None }
    }

    /// The send side of one track, if the viewer takes that kind.
    pub fn track(&mut self, kind: Kind) -> Option<&mut Outgoing> {
        self.outgoing[kind.index()].as_mut()
    }

    /// The tracks the viewer takes.
    pub fn tracks(&self) -> impl Iterator<Item = &Outgoing> {
        self.outgoing.iter().flatten()
    }

    /// The round-trip time from the viewer's reports.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Reads a plain RTCP compound; what it asks for goes to `asked`.
    ///
    /// Fuzz target: `viewer_rtcp`.
    pub fn handle_rtcp(
        &mut self,
        compound: &[u8],
        wall: WallTime,
        mut asked: impl FnMut(&mut Self, Asked),
    ) {
        let mut left = Self::ASKED_MAX;
        for mut packet in whole_packets(compound) {
            let reference_time = ReferenceTime::read(packet, wall);
            self.reference_time = reference_time.or(self.reference_time);
            if !is_read(packet) {
                continue;
            }
            let Ok(packets) = unmarshal(&mut packet) else { return };
            let Some(packet) = packets.first().map(|packet| packet.as_any()) else { return };
            if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.reported(&report.reports, wall);
            } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.reported(&report.reports, wall);
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                let Some(kind) = self.kind_of(nack.media_ssrc) else { continue };
                for sequence in nack.nacks.iter().flat_map(|pair| pair.into_iter()).take(left) {
                    left -= 1;
                    asked(self, Asked::Again(kind, sequence));
                }
            } else if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
                asked(self, Asked::Keyframe);
            }
        }
    }

    fn kind_of(&self, ssrc: u32) -> Option<Kind> {
        self.tracks().find(|track| track.ssrc() == ssrc).map(Outgoing::kind)
    }

    fn reported(&mut self, reports: &[ReceptionReport], wall: WallTime) {
        for report in reports {
            let track = self.outgoing.iter_mut().flatten().find(|t| t.ssrc() == report.ssrc);
            let round_trip = track.and_then(|track| track.reported(report, wall));
            self.round_trip = round_trip.or(self.round_trip);
        }
    }

    /// When the next sender reports are due.
    pub const fn deadline(&self) -> Instant {
        self.next_report
    }

    /// The sender reports that are due, as one plain compound; `time_of` tells the timestamp of
    /// `now` on a track's time line. A track that was sent nothing yet is not reported; while
    /// one has no time line yet, all are reported more often, so that it does not wait.
    pub fn reports(
        &mut self,
        now: Instant,
        time_of: impl Fn(Kind) -> Option<(WallTime, u64)>,
    ) -> Option<Vec<u8>> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + Self::REPORT_INTERVAL;
        let mut packets: Vec<Box<dyn Rtcp>> = Vec::new();
        let mut chunks = Vec::new();
        let mut answer = None;
        for track in self.outgoing.iter().flatten().filter(|t| t.counters().packets > 0) {
            let Some((wall, timestamp)) = time_of(track.kind()) else {
                self.next_report = now + Self::FIRST_REPORT;
                continue;
            };
            packets.push(Box::new(track.sender_report(wall, timestamp)));
            chunks.push(self.cname_of(track.ssrc()));
            answer = self.reference_time.map(|time| time.answer(track.ssrc(), wall));
        }
        if packets.is_empty() {
            // Nothing flows yet: look again soon.
            self.next_report = now + Self::FIRST_REPORT;
            return None;
        }
        packets.push(Box::new(SourceDescription { chunks }));
        if let Some(answer) = answer {
            packets.push(Box::new(answer));
            self.reference_time = None;
        }
        marshal(&packets).ok().map(|bytes| bytes.to_vec())
    }

    fn cname_of(&self, source: u32) -> SourceDescriptionChunk {
        let text = self.cname.clone().into();
        let cname = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text };
        SourceDescriptionChunk { source, items: vec![cname] }
    }

    /// The farewell (RFC 3550 §6.6) for all tracks, as a plain compound with its empty report.
    pub fn goodbye(&self) -> Option<Vec<u8>> {
        let sources: Vec<u32> = self.tracks().map(Outgoing::ssrc).collect();
        let report = ReceiverReport { ssrc: *sources.first()?, ..ReceiverReport::default() };
        let chunks = vec![self.cname_of(report.ssrc)];
        let packets: [Box<dyn Rtcp>; 3] = [
            Box::new(report),
            Box::new(SourceDescription { chunks }),
            Box::new(Goodbye { sources, ..Goodbye::default() }),
        ];
        marshal(&packets).ok().map(|bytes| bytes.to_vec())
    }
}

/// The packets of a compound with their headers, up to the first that is cut short.
fn whole_packets(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
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

#[cfg(test)]
mod tests {
    use super::super::agreement::{ExtensionIds, Feedback, PayloadFormat};
    use super::super::outgoing::{Numbered, Sent};
    use super::super::seal::Sealer;
    use super::super::srtp::{MasterKey, SrtpProfile};
    use super::*;
    use crate::media::arena::{Path, SendArena};
    use crate::media::codec::{Codec, Format};
    use crate::media::packet::Packet;
    use std::net::SocketAddr;

    #[test]
    fn only_what_is_read_is_parsed() {
        let feedback = [0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        let chunks = [0x3f, 0xff, 0x3f, 0xff, 0x3f, 0xff, 0x3f, 0xff];
        let loss = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let compound = [feedback.as_slice(), &chunks, &loss].concat();
        let now = Instant::now();
        let mut viewer = Viewer::new(Vec::new(), "cname".into(), 0.1, [0; 2], now);
        let mut heard = Vec::new();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        viewer.handle_rtcp(&compound, wall, |_, asked| heard.push(asked));
        assert_eq!(heard, [Asked::Keyframe], "read without the library's look at the feedback");
    }

    fn send_one(track: &mut Outgoing, now: Instant) {
        let packet = Packet {
            codec: Codec::Opus,
            sequence: 1,
            timestamp: 0,
            marker: false,
            keyframe: false,
            arrival: now,
            payload: vec![0; 20],
        };
        let numbered = Numbered { packet: &packet, padding: 0, sequence: 1, timestamp: 0 };
        let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
        let mut sealer = Sealer::new(&master.expect("fitting lengths"));
        let path = Path { remote: SocketAddr::from(([192, 0, 2, 1], 9)), local: None };
        let sent = track.send(numbered, &mut sealer, (path, &mut SendArena::new(1_000)));
        assert_eq!(sent, Sent::Yes);
    }

    #[test]
    fn what_the_viewers_clock_showed_is_said_back_once_with_the_next_report() {
        let now = Instant::now();
        let format = Format { codec: Codec::Opus, parameters: String::new() };
        let section = SentMedia {
            kind: Kind::Audio,
            mid: String::new(),
            formats: vec![PayloadFormat { payload_type: 111, format, rtx: None }],
            extensions: ExtensionIds::default(),
            feedback: Feedback::default(),
            ssrc: 7,
            rtx_ssrc: None,
        };
        let mut viewer = Viewer::new(vec![section], "cname".into(), 0.1, [0; 2], now);
        send_one(viewer.track(Kind::Audio).expect("agreed"), now);
        let clock = [0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let mut asked = 0;
        viewer.handle_rtcp(&clock, wall, |_, _| asked += 1);
        assert_eq!(asked, 0, "it asks for nothing");
        let mut next = || {
            let report = viewer.reports(viewer.deadline(), |_| Some((wall, 0))).expect("due");
            whole_packets(&report).any(|packet| packet[1] == 207 && packet[16..20] == [3, 4, 5, 6])
        };
        assert!(next() && !next());
    }
}
