//! The send side of a viewer's session: its tracks, what its RTCP asks, what we report to it.

use super::agreement::SentMedia;
use super::estimate::feedback::Feedback;
use super::estimate::{Estimate, Estimator, remb};
use super::outgoing::{Numbered, Outgoing, Sent};
use super::playout_delay::PlayoutDelay;
use super::reference_time::ReferenceTime;
use super::seal::Sealer;
use crate::media::arena::{Path, SendArena};
use crate::media::bitrate::Bitrate;
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
    attention: Attention,
    /// What the path carries, from when that was first asked for.
    estimator: Option<Box<Estimator>>,
    /// Packets carry transport-wide numbers.
    is_measured: bool,
}

/// One track as it is sent on: what departs is noted where the path is measured.
#[derive(Debug)]
pub struct Sending<'v> {
    track: &'v mut Outgoing,
    estimator: Option<&'v mut Estimator>,
    now: Instant,
}

impl Sending<'_> {
    /// See [`Outgoing::playout_delay`].
    pub const fn playout_delay(&mut self) -> &mut PlayoutDelay {
        self.track.playout_delay()
    }

    /// See [`Outgoing::send`].
    pub fn send(
        &mut self,
        numbered: Numbered<'_>,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
    ) -> Sent {
        let now = self.now;
        let noting = self.estimator.as_deref_mut().map(|it| (it.history(), now));
        self.track.send(numbered, sealer, to, noting)
    }

    /// See [`Outgoing::resend`].
    pub fn resend(
        &mut self,
        numbered: Numbered<'_>,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
    ) -> Sent {
        let now = self.now;
        let noting = self.estimator.as_deref_mut().map(|it| (it.history(), now));
        self.track.resend(numbered, sealer, to, noting)
    }

    /// Sends a packet of the past as part of a probe ([`Viewer::probe`]); tells its bytes, zero if
    /// it cannot be sent.
    pub fn probe(
        &mut self,
        numbered: Numbered<'_>,
        sealer: &mut Sealer,
        to: (Path, &mut SendArena),
    ) -> usize {
        let Some(estimator) = self.estimator.as_deref_mut() else { return 0 };
        let bytes = self.track.probe(numbered, sealer, to, (estimator.history(), self.now));
        estimator.probed(bytes, self.now);
        bytes
    }

    /// The same without a packet of the past.
    pub fn probe_empty(&mut self, sealer: &mut Sealer, to: (Path, &mut SendArena)) -> usize {
        let Some(estimator) = self.estimator.as_deref_mut() else { return 0 };
        let bytes = self.track.probe_empty(sealer, to, (estimator.history(), self.now));
        estimator.probed(bytes, self.now);
        bytes
    }
}

/// How much of what a viewer asks for is looked at: every packet of RTCP and every number in a NACK
/// costs a look-up, and a datagram holds thousands of them.
#[derive(Debug)]
struct Attention {
    left: u32,
    since: Instant,
}

impl Attention {
    /// Beyond a tenth of 10,000 packets a second, lost and asked for four times.
    const PER_SECOND: u32 = 4096;
    /// A quarter of a second's worth at a time.
    const BURST: u32 = 1024;

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
    /// Between sender reports; the first comes sooner, so that lip sync starts with the picture.
    const REPORT_INTERVAL: Duration = Duration::from_secs(1);
    const FIRST_REPORT: Duration = Duration::from_millis(100);

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
        let attention = Attention { left: Attention::BURST, since: now };
        let next_report = now + Self::FIRST_REPORT;
        let (round_trip, reference_time) = (None, None);
        let (estimator, is_measured) = (None, false);
        Self {
            outgoing,
            cname,
            next_report,
            round_trip,
            reference_time,
            attention,
            estimator,
            is_measured,
        }
    }

    /// Whether packets carry what tells the path: feedback costs both sides a packet for some tens
    /// of ours, so that it is asked for only while there is something to choose.
    pub fn measure(&mut self, is_measured: bool, now: Instant) {
        self.is_measured = is_measured;
        if is_measured && self.estimator.is_none() {
            let can_probe = self.tracks().any(Outgoing::takes_probes);
            self.estimator = Some(Box::new(Estimator::new(can_probe, now)));
        }
    }

    /// What the path carries. `None` while it is not measured, or nothing is known yet.
    pub fn estimate(&self, now: Instant) -> Option<Estimate> {
        self.estimator.as_ref().filter(|_| self.is_measured)?.estimate(now)
    }

    /// What would be sent if the path carried it, in all: the next layer up with what goes with it.
    /// Zero where there is none. More than the estimate is probed for.
    pub fn want(&mut self, rate: Bitrate, now: Instant) {
        if let Some(estimator) = &mut self.estimator {
            estimator.want(rate, now);
        }
    }

    /// How many bytes of the past are to be sent once more now, by [`Sending::probe`].
    pub fn probe(&mut self, now: Instant) -> usize {
        match &mut self.estimator {
            Some(estimator) if self.is_measured => estimator.probe(now),
            _ => 0,
        }
    }

    /// There was nothing that could be sent as a probe.
    pub fn give_up_probe(&mut self, now: Instant) {
        if let Some(estimator) = &mut self.estimator {
            estimator.probed(0, now);
        }
    }

    /// How many packets of transport-wide feedback were read.
    pub fn feedback_packets(&self) -> u64 {
        self.estimator.as_ref().map_or(0, |estimator| estimator.feedback_packets())
    }

    /// One track as it is sent on at this moment, if the viewer takes that kind.
    pub fn sending(&mut self, kind: Kind, now: Instant) -> Option<Sending<'_>> {
        let track = self.outgoing[kind.index()].as_mut()?;
        let estimator = self.estimator.as_deref_mut().filter(|_| self.is_measured);
        Some(Sending { track, estimator, now })
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

    /// When the next sender reports are due, or a part of a probe.
    pub fn deadline(&self) -> Instant {
        let estimator = self.estimator.as_ref().filter(|_| self.is_measured);
        let probe = estimator.and_then(|estimator| estimator.deadline());
        probe.map_or(self.next_report, |probe| probe.min(self.next_report))
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

    /// What sender reports would say now of the tracks that were sent something: SSRC, RTP
    /// timestamp and the moment that it stands for.
    pub fn clocks(
        &self,
        time_of: impl Fn(Kind) -> Option<(WallTime, u64)>,
    ) -> [Option<(u32, u32, WallTime)>; 2] {
        Kind::ALL.map(|kind| {
            let track = self.outgoing[kind.index()].as_ref()?;
            let (wall, timestamp) = time_of(kind).filter(|_| track.counters().packets > 0)?;
            Some((track.ssrc(), timestamp as u32, wall))
        })
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
    use crate::media::packet::{Packet, PacketFields};
    use crate::media::patch::Patch;
    use proptest::prelude::*;
    use std::collections::HashMap;
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
        viewer.handle_rtcp(&compound, (now, wall), |_, asked| heard.push(asked));
        assert_eq!(heard, [Asked::Keyframe], "read without the library's look at the feedback");
    }

    fn send_one(track: &mut Outgoing, now: Instant) {
        let packet = PacketFields::single(Codec::Opus, 1, 0, now).with(vec![0; 20]);
        let numbered =
            Numbered { packet: &packet, padding: 0, sequence: 1, timestamp: 0, patch: Patch::NONE };
        let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
        let mut sealer = Sealer::new(&master.expect("fitting lengths"));
        let path = Path::udp(SocketAddr::from(([192, 0, 2, 1], 9)), None);
        let sent = track.send(numbered, &mut sealer, (path, &mut SendArena::new(1_000)), None);
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
        viewer.handle_rtcp(&clock, (now, wall), |_, _| asked += 1);
        assert_eq!(asked, 0, "it asks for nothing");
        let mut next = || {
            let report = viewer.reports(viewer.deadline(), |_| Some((wall, 0))).expect("due");
            whole_packets(&report).any(|packet| packet[1] == 207 && packet[16..20] == [3, 4, 5, 6])
        };
        assert!(next() && !next());
    }

    #[test]
    fn who_asks_without_end_is_heard_a_bounded_number_of_times_a_second() {
        let start = Instant::now();
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        let video = SentMedia {
            kind: Kind::Video,
            mid: String::new(),
            formats: Vec::new(),
            extensions: ExtensionIds::default(),
            feedback: Feedback::default(),
            ssrc: 2,
            rtx_ssrc: None,
        };
        let mut viewer = Viewer::new(vec![video], "cname".into(), 0.1, [0; 2], start);
        let mut nack = vec![0x81, 205, 0, 82, 0, 0, 0, 1, 0, 0, 0, 2];
        nack.extend([7, 7, 0xff, 0xff].repeat(80)); // 17 numbers each
        let loss = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let mut heard = |compound: &[u8], ms| {
            let mut count = 0;
            let now = start + Duration::from_millis(ms);
            viewer.handle_rtcp(compound, (now, wall), |_, _| count += 1);
            count
        };
        assert_eq!(heard(&nack, 0), 1023, "a burst, of which the packet itself is one");
        assert_eq!(heard(&loss, 0), 0);
        let in_a_second: u32 = (1..=1_000).map(|ms| heard(&nack, ms)).sum();
        assert!((3_000..=4_096).contains(&in_a_second), "{in_a_second}");
        assert_eq!(heard(&loss, 1_100), 1, "who rests is heard again");
    }

    /// A viewer of sound and picture that agreed to numbers.
    fn numbered(rtx: bool, nack: bool, now: Instant) -> Viewer {
        let section = |kind, codec, ssrc: u32| SentMedia {
            kind,
            mid: String::new(),
            formats: vec![PayloadFormat {
                payload_type: ssrc as u8,
                format: Format { codec, parameters: String::new() },
                rtx: rtx.then_some(120 + ssrc as u8),
            }],
            extensions: ExtensionIds {
                transport_cc: Some(3),
                playout_delay: Some(5),
                ..ExtensionIds::default()
            },
            feedback: Feedback { nack, transport_cc: true, ..Feedback::default() },
            ssrc,
            rtx_ssrc: rtx.then_some(ssrc + 100),
        };
        let sections =
            vec![section(Kind::Audio, Codec::Opus, 1), section(Kind::Video, Codec::Vp8, 2)];
        Viewer::new(sections, "cname".into(), 0.5, [7; 2], now)
    }

    fn packet(codec: Codec, sequence: u64, arrival: Instant) -> Packet {
        let fields = PacketFields::single(codec, sequence, sequence, arrival);
        fields.with(vec![sequence as u8; 50])
    }

    /// What departs of a packet that is sent in one of four ways.
    fn departs(
        viewer: &mut Viewer,
        way: u8,
        codec: Codec,
        at: u64,
        sealer: &mut Sealer,
    ) -> Vec<u8> {
        let now = Instant::now();
        let path = Path::udp(SocketAddr::from(([192, 0, 2, 1], 9)), None);
        let mut arena = SendArena::new(1_000);
        let packet = packet(codec, at, now);
        let (padding, patch) = (0, Patch::NONE);
        let numbered = Numbered { packet: &packet, padding, sequence: at, timestamp: at, patch };
        let mut track = viewer.sending(codec.kind(), now).expect("agreed");
        match way {
            0 => drop(track.send(numbered, sealer, (path, &mut arena))),
            1 => drop(track.resend(numbered, sealer, (path, &mut arena))),
            2 => drop(track.probe_empty(sealer, (path, &mut arena))),
            _ => drop(track.probe(numbered, sealer, (path, &mut arena))),
        }
        arena.datagrams().next().map_or(Vec::new(), |(_, datagram)| datagram.to_vec())
    }

    fn sealer() -> Sealer {
        let master = MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]);
        Sealer::new(&master.expect("fitting lengths"))
    }

    /// The transport-wide number of a packet that carries one.
    fn number(datagram: &[u8]) -> Option<u16> {
        let has_extensions = datagram[0] & 0x10 != 0;
        has_extensions.then(|| u16::from_be_bytes([datagram[17], datagram[18]]))
    }

    #[test]
    fn packets_of_all_tracks_are_numbered_while_the_path_is_measured() {
        let now = Instant::now();
        let (mut viewer, mut sealer) = (numbered(true, true, now), sealer());
        let mut send = |viewer: &mut Viewer, way, codec, at| {
            number(&departs(viewer, way, codec, at, &mut sealer))
        };
        assert_eq!(send(&mut viewer, 0, Codec::Vp8, 1), None);
        viewer.measure(true, now);
        assert_eq!(viewer.estimate(now), None, "nothing was said yet");
        assert_eq!(send(&mut viewer, 0, Codec::Vp8, 2), Some(0));
        assert_eq!(send(&mut viewer, 0, Codec::Opus, 1), Some(1));
        assert_eq!(send(&mut viewer, 1, Codec::Vp8, 1), Some(2));
        assert_eq!(send(&mut viewer, 3, Codec::Vp8, 2), Some(3));
        assert_eq!(send(&mut viewer, 2, Codec::Vp8, 2), Some(4));
        let feedback = [
            0x8f, 205, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 9, 1, 0x20, 4, 4, 4, 4, 4,
            0, 0,
        ];
        let wall = WallTime::since_unix_epoch(Duration::ZERO);
        viewer.handle_rtcp(&feedback, (now, wall), |_, _| ());
        assert_eq!(viewer.feedback_packets(), 1);
        assert!(viewer.estimate(now).is_some());
        viewer.measure(false, now);
        assert_eq!(send(&mut viewer, 0, Codec::Vp8, 3), None);
        assert_eq!(viewer.estimate(now), None);
    }

    #[test]
    fn who_asks_for_packets_and_takes_no_rtx_gets_them_again_and_no_numbers() {
        let now = Instant::now();
        let (mut viewer, mut sealer) = (numbered(false, true, now), sealer());
        viewer.measure(true, now);
        let first = departs(&mut viewer, 0, Codec::Vp8, 1, &mut sealer);
        assert_eq!(number(&first), None);
        assert_eq!(departs(&mut viewer, 1, Codec::Vp8, 1, &mut sealer), first);
        assert!(departs(&mut viewer, 2, Codec::Vp8, 1, &mut sealer).is_empty());
    }

    proptest! {
        /// The nonce rule (ARCHITECTURE.md).
        #[test]
        fn a_number_of_an_ssrc_never_stands_for_two_packets(
            rtx: bool,
            nack: bool,
            steps in prop::collection::vec((0_u8..6, 0_u64..6, any::<bool>()), 1..200),
        ) {
            let now = Instant::now();
            let (mut viewer, mut sealer) = (numbered(rtx, nack, now), sealer());
            let mut departed = HashMap::new();
            let mut next = [0_u64; 2];
            for (way, back, of_sound) in steps {
                if way >= 4 {
                    viewer.measure(way == 4, now);
                    continue;
                }
                let codec = if of_sound { Codec::Opus } else { Codec::Vp8 };
                let next = &mut next[usize::from(of_sound)];
                let at = if way == 0 { Some(*next) } else { next.checked_sub(back + 1) };
                let Some(at) = at else {
                    continue;
                };
                *next += u64::from(way == 0);
                let datagram = departs(&mut viewer, way, codec, at, &mut sealer);
                if datagram.is_empty() {
                    continue;
                }
                let nonce = [&datagram[2..4], &datagram[8..12]].concat();
                let before = departed.entry(nonce).or_insert_with(|| datagram.clone());
                prop_assert_eq!(&*before, &datagram);
            }
        }
    }
}
