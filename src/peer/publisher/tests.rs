//! A publisher over a bad link, by seed; every behaviour of the whole.

use super::*;
use crate::media::codec::Codec;
use crate::peer::agreement::{AnnouncedSsrc, ExtensionIds, Feedback, PayloadFormat};
use rtc_rtcp::packet::Packet as RtcpPacket;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate as remb;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use std::collections::BTreeMap;

const REPORTER: u32 = 99;
const VIDEO: u8 = 96;
const RTX: u8 = 97;
const AUDIO: u8 = 111;
/// Ids of header extensions.
const MID: u8 = 1;
const RID: u8 = 2;
const REPAIRED: u8 = 3;
const SEND_TIME: u8 = 4;
const TRANSPORT: u8 = 5;
/// VP8, one-byte descriptor: starts of a key frame and of an inter frame.
const KEY: [u8; 11] = [0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1];
const DELTA: [u8; 2] = [0x10, 0x11];

fn video() -> ReceivedMedia {
    let format = Format { codec: Codec::Vp8, parameters: String::new() };
    ReceivedMedia {
        kind: Kind::Video,
        mid: "1".to_owned(),
        formats: vec![PayloadFormat { payload_type: VIDEO, format, rtx: Some(RTX) }],
        extensions: ExtensionIds {
            mid: Some(MID),
            rid: Some(RID),
            repaired_rid: Some(REPAIRED),
            abs_send_time: Some(SEND_TIME),
            transport_cc: Some(TRANSPORT),
            playout_delay: None,
        },
        feedback: Feedback { nack: true, pli: true, fir: true, transport_cc: true, remb: true },
        ssrcs: Vec::new(),
        rids: Vec::new(),
    }
}

fn simulcast() -> ReceivedMedia {
    ReceivedMedia { rids: ["q", "h", "f"].map(str::to_owned).to_vec(), ..video() }
}

fn audio() -> ReceivedMedia {
    let format = Format { codec: Codec::Opus, parameters: String::new() };
    ReceivedMedia {
        kind: Kind::Audio,
        mid: "0".to_owned(),
        formats: vec![PayloadFormat { payload_type: AUDIO, format, rtx: None }],
        feedback: Feedback { transport_cc: true, ..Feedback::default() },
        ..video()
    }
}

/// An RTP packet to be.
#[derive(Debug, Clone)]
struct Rtp {
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    marker: bool,
    extensions: Vec<(u8, Vec<u8>)>,
    payload: Vec<u8>,
    padding: u8,
}

impl Rtp {
    fn new(payload_type: u8, ssrc: u32, sequence: u16, payload: &[u8]) -> Self {
        Self {
            payload_type,
            sequence,
            timestamp: u32::from(sequence) * 3_000,
            ssrc,
            marker: true,
            extensions: Vec::new(),
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    fn at(mut self, timestamp: u32) -> Self {
        self.timestamp = timestamp;
        self
    }

    fn with(mut self, id: u8, value: impl AsRef<[u8]>) -> Self {
        self.extensions.push((id, value.as_ref().to_vec()));
        self
    }

    fn padded(mut self, padding: u8) -> Self {
        self.padding = padding;
        self
    }

    /// The same packet as a retransmission (RFC 4588 §4).
    fn as_rtx(&self, ssrc: u32, sequence: u16) -> Self {
        let mut payload = self.sequence.to_be_bytes().to_vec();
        payload.extend(&self.payload);
        Self { payload_type: RTX, ssrc, sequence, payload, ..self.clone() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.padding > 0) << 5 | u8::from(!self.extensions.is_empty()) << 4;
        let mut bytes = vec![0x80 | flags, u8::from(self.marker) << 7 | self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        if !self.extensions.is_empty() {
            let mut elements = Vec::new();
            for (id, value) in &self.extensions {
                elements.push(id << 4 | (value.len() - 1) as u8);
                elements.extend(value);
            }
            elements.resize(elements.len().next_multiple_of(4), 0);
            bytes.extend([0xbe, 0xde, 0, (elements.len() / 4) as u8]);
            bytes.extend(elements);
        }
        bytes.extend(&self.payload);
        if self.padding > 0 {
            bytes.extend(vec![0; usize::from(self.padding) - 1]);
            bytes.push(self.padding);
        }
        bytes
    }
}

/// A receiver with a clock that the test moves.
struct World {
    receiver: Receiver,
    pool: PacketPool,
    start: Instant,
    now: Instant,
}

impl World {
    fn new(media: &[ReceivedMedia]) -> Self {
        let start = Instant::now();
        let receiver = Receiver::new(media, REPORTER, start);
        Self { receiver, pool: PacketPool::default(), start, now: start }
    }

    fn advance(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn deliver_bytes(&mut self, bytes: &[u8]) -> Option<Arc<Packet>> {
        let header = RtpHeader::read(bytes)?;
        let forwarded = self.receiver.handle_rtp(&header, bytes, self.now, &mut self.pool);
        forwarded.map(|(_, packet)| packet)
    }

    fn deliver(&mut self, packet: &Rtp) -> Option<Arc<Packet>> {
        self.deliver_bytes(&packet.to_bytes())
    }

    /// The RTCP that is due, each compound checked and read by rtc-rtcp.
    fn poll(&mut self) -> Vec<Box<dyn RtcpPacket>> {
        let mut compounds: Vec<Vec<u8>> = Vec::new();
        self.receiver.poll_rtcp(self.now, &mut |compound| compounds.push(compound.to_vec()));
        let mut packets = Vec::new();
        for compound in compounds {
            assert!(compound.len() <= rtcp::COMPOUND_MAX);
            let read = rtc_rtcp::packet::unmarshal(&mut compound.as_slice())
                .expect("rtc-rtcp reads what we write");
            let whole = rtc_rtcp::compound_packet::CompoundPacket(read);
            whole.validate().expect("a compound opens with report and name (RFC 3550 §6.1)");
            packets.extend(whole.0);
        }
        packets
    }

    fn nacked(&mut self) -> Vec<u16> {
        let packets = self.poll();
        all::<TransportLayerNack>(&packets)
            .flat_map(|nack| nack.nacks.iter().flat_map(NackPair::packet_list))
            .collect()
    }

    fn pli_targets(&mut self) -> Vec<u32> {
        let packets = self.poll();
        all::<PictureLossIndication>(&packets).map(|pli| pli.media_ssrc).collect()
    }

    fn report_sender(&mut self, ssrc: u32, ntp: u64, timestamp: u32) -> Option<SenderReport> {
        let mut compound = vec![0x80, 200, 0, 6];
        compound.extend(ssrc.to_be_bytes());
        compound.extend(ntp.to_be_bytes());
        compound.extend(timestamp.to_be_bytes());
        compound.extend([0; 8]);
        let mut report = None;
        self.receiver.handle_rtcp(&compound, self.now, &mut |heard| report = Some(heard));
        report
    }

    fn report(&self, kind: Kind) -> TrackCounters {
        self.receiver.report(kind, self.now)
    }
}

fn all<P: 'static>(packets: &[Box<dyn RtcpPacket>]) -> impl Iterator<Item = &P> {
    packets.iter().filter_map(|packet| packet.as_any().downcast_ref())
}

/// The same numbers for the same seed, for ever (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn hits(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// A sender behind a link with 20 ms each way that loses, delays and doubles packets.
struct BadLink {
    world: World,
    dice: Dice,
    loss_percent: u64,
    /// What is on its way: when it arrives, and a running number to tell equals apart.
    to_receiver: BTreeMap<(Instant, u64), Vec<u8>>,
    nacks_to_sender: BTreeMap<(Instant, u64), u16>,
    sent: BTreeMap<u16, Rtp>,
    /// When each packet was asked for.
    asked: BTreeMap<u16, Vec<Instant>>,
    forwarded: Vec<Arc<Packet>>,
    counter: u64,
    rtx_sequence: u16,
    with_rtx: bool,
}

const ONE_WAY: Duration = Duration::from_millis(20);

impl BadLink {
    fn new(seed: u64, loss_percent: u64, with_rtx: bool) -> Self {
        let mut media = video();
        if !with_rtx {
            media.formats[0].rtx = None;
        }
        Self {
            world: World::new(&[media]),
            dice: Dice(seed),
            loss_percent,
            to_receiver: BTreeMap::new(),
            nacks_to_sender: BTreeMap::new(),
            sent: BTreeMap::new(),
            asked: BTreeMap::new(),
            forwarded: Vec::new(),
            counter: 0,
            rtx_sequence: 65_500,
            with_rtx,
        }
    }

    fn transmit(&mut self, packet: &Rtp) {
        let copies = 1 + u64::from(self.dice.hits(2));
        for _ in 0..copies {
            if self.dice.hits(self.loss_percent) {
                continue;
            }
            // Up to 5 ms of jitter reorders packets that are 1 ms apart.
            let delay = ONE_WAY + Duration::from_millis(self.dice.roll(6));
            self.counter += 1;
            self.to_receiver.insert((self.world.now + delay, self.counter), packet.to_bytes());
        }
    }

    fn step(&mut self) {
        self.world.advance(1);
        let now = self.world.now;
        while let Some(entry) = self.to_receiver.first_entry().filter(|e| e.key().0 <= now) {
            let packet = self.world.deliver_bytes(&entry.remove());
            self.forwarded.extend(packet);
        }
        if self.world.receiver.deadline().is_some_and(|due| due <= now) {
            for sequence in self.world.nacked() {
                self.asked.entry(sequence).or_default().push(now);
                self.counter += 1;
                self.nacks_to_sender.insert((now + ONE_WAY, self.counter), sequence);
            }
            assert!(self.world.receiver.deadline().is_none_or(|due| due > now), "no busy loop");
        }
        while let Some(entry) = self.nacks_to_sender.first_entry().filter(|e| e.key().0 <= now) {
            let Some(packet) = self.sent.get(&entry.remove()).cloned() else { continue };
            if self.with_rtx {
                self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
                let rtx = packet.as_rtx(8, self.rtx_sequence);
                self.transmit(&rtx);
            } else {
                self.transmit(&packet);
            }
        }
    }

    /// Sends so many packets, one each millisecond, across the wrap of sequence numbers.
    fn run(&mut self, packets: u16) {
        for index in 0..packets {
            let mut payload = if index % 600 == 0 { KEY.to_vec() } else { DELTA.to_vec() };
            payload.extend(index.to_be_bytes());
            let packet = Rtp::new(VIDEO, 7, 65_000_u16.wrapping_add(index), &payload);
            let packet = packet.at(4_294_000_000_u32.wrapping_add(u32::from(index) * 90));
            self.sent.insert(packet.sequence, packet.clone());
            if index == 0 {
                // The first one arrives: what lies before the first packet is nobody's loss.
                self.to_receiver.insert((self.world.now + ONE_WAY, 0), packet.to_bytes());
            } else {
                self.transmit(&packet);
            }
            self.step();
        }
        for _ in 0..1_500 {
            self.step();
        }
    }

    fn assert_whole(&mut self, packets: u16) {
        self.forwarded.sort_by_key(|packet| packet.sequence);
        assert_eq!(self.forwarded.len(), usize::from(packets), "each packet once");
        let first = (self.forwarded[0].sequence, self.forwarded[0].timestamp);
        for (index, packet) in (0_u16..).zip(&self.forwarded) {
            assert_eq!(packet.sequence, first.0 + u64::from(index), "no hole in the numbering");
            assert_eq!(packet.timestamp, first.1 + u64::from(index) * 90);
            assert_eq!(packet.payload[packet.payload.len() - 2..], index.to_be_bytes());
            assert_eq!(packet.keyframe, index % 600 == 0);
        }
        let report = self.world.report(Kind::Video);
        assert_eq!((report.packets, report.lost_packets), (u64::from(packets), 0));
    }
}

#[test]
fn over_a_bad_link_each_packet_comes_once_and_is_asked_for_once_per_round_trip() {
    for seed in 1..=8 {
        let mut link = BadLink::new(seed, 5, true);
        link.run(3_000);
        link.assert_whole(3_000);
        let requests: usize = link.asked.values().map(Vec::len).sum();
        assert!(link.asked.len() > 100, "about one in twenty is missing: {}", link.asked.len());
        assert!(requests < link.asked.len() * 5 / 4, "{requests} for {}", link.asked.len());
        for times in link.asked.values() {
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.min().is_none_or(|gap| gap >= ONE_WAY * 2), "{times:?}");
        }
        assert_eq!(link.world.report(Kind::Video).nacks, requests as u64);
        let round_trip = link.world.receiver.round_trip().expect("retransmissions came");
        assert!((40..60).contains(&round_trip.as_millis()), "{round_trip:?}");
    }
}

#[test]
fn a_sender_without_rtx_repairs_with_identical_packets() {
    for seed in 1..=4 {
        let mut link = BadLink::new(seed, 5, false);
        link.run(3_000);
        link.assert_whole(3_000);
        assert_eq!(link.world.receiver.round_trip(), None, "sampled from RTX only");
    }
}

#[test]
fn on_a_clean_link_nothing_is_asked_for() {
    let mut link = BadLink::new(3, 0, true);
    link.run(3_000);
    link.assert_whole(3_000);
    assert!(link.asked.is_empty(), "reordering within 8 ms is no loss: {:?}", link.asked);
}

#[test]
fn what_is_never_repaired_is_given_up_and_a_keyframe_asked_for() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 10, &KEY));
    world.deliver(&Rtp::new(VIDEO, 7, 12, &DELTA));
    let mut asked = 0;
    let mut wishes = 0;
    for _ in 0..900 {
        world.advance(1);
        let packets = world.poll();
        asked += all::<TransportLayerNack>(&packets).count();
        wishes += all::<PictureLossIndication>(&packets).count();
    }
    assert_eq!((asked, wishes, world.report(Kind::Video).lost_packets), (8, 1, 1));
    // It comes after all, as do a keyframe and another gap before it: no further wish.
    world.deliver(&Rtp::new(VIDEO, 7, 11, &DELTA));
    assert_eq!(world.report(Kind::Video).lost_packets, 0);
    world.deliver(&Rtp::new(VIDEO, 7, 14, &KEY));
    for _ in 0..3_000 {
        world.advance(1);
        assert!(world.pli_targets().is_empty());
    }
    assert_eq!(world.report(Kind::Video).lost_packets, 1);
}

#[test]
fn exactly_what_is_missing_is_asked_for() {
    let mut world = World::new(&[video()]);
    let came = [65_500, 65_501, 65_520, 65_535, 2, 3, 300];
    for sequence in came {
        world.deliver(&Rtp::new(VIDEO, 7, sequence, &KEY));
    }
    world.advance(8);
    let expected: Vec<u16> =
        (65_500..=65_535).chain(0..300).filter(|sequence| !came.contains(sequence)).collect();
    assert_eq!(world.nacked(), expected);
}

#[test]
fn announced_ssrcs_need_no_extension() {
    let mut media = video();
    media.ssrcs = vec![AnnouncedSsrc { ssrc: 7, rtx: Some(8) }];
    let mut world = World::new(&[media]);
    let first = world.deliver(&Rtp::new(VIDEO, 7, 10, &KEY)).expect("media");
    let missed = Rtp::new(VIDEO, 7, 11, &DELTA);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 12, &DELTA)).is_some());
    let repaired = world.deliver(&missed.as_rtx(8, 500)).expect("its retransmission");
    assert_eq!(repaired.sequence, first.sequence + 1);
    assert_eq!(repaired.payload, DELTA);
    assert!(world.deliver(&missed).is_none(), "it came before");
    assert!(world.deliver(&missed.as_rtx(8, 501)).is_none());
}

#[test]
fn a_retransmission_may_come_before_all_media() {
    let mut world = World::new(&[simulcast()]);
    let identify = |packet: Rtp, id: u8| packet.with(MID, "1").with(id, "h");
    let lost = Rtp::new(VIDEO, 7, 20, &KEY);
    let first = world.deliver(&identify(lost.as_rtx(8, 900), REPAIRED)).expect("a keyframe");
    let second = world.deliver(&identify(Rtp::new(VIDEO, 7, 21, &DELTA), RID)).expect("media");
    assert_eq!(second.sequence, first.sequence + 1);
    // From here on without extensions.
    let third = world.deliver(&Rtp::new(VIDEO, 7, 23, &DELTA)).expect("media");
    assert_eq!(third.sequence, first.sequence + 3);
    let repaired = world.deliver(&Rtp::new(VIDEO, 7, 22, &DELTA).as_rtx(8, 901));
    assert_eq!(repaired.map(|packet| packet.sequence), Some(first.sequence + 2));
}

#[test]
fn packets_that_belong_nowhere_are_dropped() {
    let mut world = World::new(&[video(), audio()]);
    assert!(world.deliver(&Rtp::new(55, 7, 1, &KEY)).is_none(), "unknown payload type");
    let foreign = Rtp::new(VIDEO, 7, 1, &KEY).with(MID, "2");
    assert!(world.deliver(&foreign).is_none(), "a section that was refused");
    let mut world = World::new(&[simulcast()]);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY)).is_none(), "no RID yet");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 2, &KEY).with(RID, "x")).is_none(), "no such RID");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 3, &KEY).with(RID, "f")).is_some());
}

#[test]
fn audio_and_video_are_told_apart() {
    let mut world = World::new(&[audio(), video()]);
    for (packet, kind) in
        [(Rtp::new(AUDIO, 5, 1, &[0xfc]), Kind::Audio), (Rtp::new(VIDEO, 7, 1, &KEY), Kind::Video)]
    {
        let bytes = packet.to_bytes();
        let header = RtpHeader::read(&bytes).expect("well-formed");
        let forwarded = world.receiver.handle_rtp(&header, &bytes, world.now, &mut world.pool);
        assert_eq!(forwarded.map(|(kind, _)| kind), Some(kind));
    }
    let video = world.report(Kind::Video);
    assert_eq!(video.dimensions, Some((640, 480)));
    assert_eq!(video.format.map(|format| format.codec), Some(Codec::Vp8));
    assert_eq!((video.packets, video.bytes, video.keyframes), (1, KEY.len() as u64, 1));
    assert_eq!(world.report(Kind::Audio).keyframes, 0, "a word for pictures");
}

#[test]
fn padding_on_the_media_ssrc_keeps_its_number_and_probes_on_rtx_vanish() {
    let mut world = World::new(&[video()]);
    let first = world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY)).expect("media");
    let padding = world.deliver(&Rtp::new(VIDEO, 7, 2, &[]).padded(200)).expect("a number");
    assert_eq!((padding.sequence, padding.keyframe), (first.sequence + 1, false));
    assert!(padding.payload.is_empty());
    assert!(world.deliver(&Rtp::new(RTX, 8, 1, &[]).padded(200)).is_none());
    let padded = world.deliver(&Rtp::new(VIDEO, 7, 3, &DELTA).padded(4)).expect("media");
    assert_eq!(padded.payload, DELTA);
}

#[test]
fn another_ssrc_goes_on_where_the_old_one_ended() {
    let mut world = World::new(&[video()]);
    let before = world.deliver(&Rtp::new(VIDEO, 7, 40_000, &KEY).at(1_000)).expect("media");
    world.advance(100);
    let after = world.deliver(&Rtp::new(VIDEO, 17, 9, &KEY).at(4_000_000_000)).expect("media");
    assert_eq!(after.sequence, before.sequence + 1);
    assert_eq!(after.timestamp, before.timestamp + 9_000, "as much later as it came");
    let next = world.deliver(&Rtp::new(VIDEO, 17, 10, &DELTA).at(4_000_003_000)).expect("media");
    assert_eq!((next.sequence, next.timestamp), (after.sequence + 1, after.timestamp + 3_000));
    // Neither its stragglers nor its retransmissions bring the old one back.
    let straggler = Rtp::new(VIDEO, 7, 40_001, &DELTA);
    assert!(world.deliver(&straggler).is_none());
    let repaired = world.deliver(&Rtp::new(VIDEO, 17, 11, &DELTA).as_rtx(18, 1));
    assert_eq!(repaired.map(|packet| packet.sequence), Some(next.sequence + 1));
    // But it may come back once the new one is silent.
    world.advance(1_500);
    let back = world.deliver(&Rtp::new(VIDEO, 7, 40_500, &KEY)).expect("media");
    assert_eq!(back.sequence, next.sequence + 2);
    assert!(world.deliver(&Rtp::new(VIDEO, 17, 12, &DELTA)).is_none());
}

#[test]
fn retransmissions_of_a_replaced_ssrc_are_not_taken_for_the_new_ones() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 100, &KEY));
    world.deliver(&Rtp::new(VIDEO, 7, 102, &DELTA));
    let repair = Rtp::new(VIDEO, 7, 101, &DELTA).as_rtx(8, 1);
    assert!(world.deliver(&repair).is_some());
    world.advance(1_000);
    world.deliver(&Rtp::new(VIDEO, 17, 90, &KEY));
    world.deliver(&Rtp::new(VIDEO, 17, 110, &DELTA));
    // 103 of the old numbering is missing from the new one.
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 103, &DELTA).as_rtx(8, 2)).is_none());
    assert!(world.deliver(&Rtp::new(VIDEO, 17, 103, &DELTA).as_rtx(18, 1)).is_some());
}

#[test]
fn numbering_that_starts_anew_on_the_same_ssrc_goes_on_behind_the_old() {
    let mut world = World::new(&[video()]);
    let before = world.deliver(&Rtp::new(VIDEO, 7, 100, &KEY)).expect("media");
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 30_000, &KEY)).is_none(), "one may be a mistake");
    let after = world.deliver(&Rtp::new(VIDEO, 7, 30_001, &DELTA)).expect("two are not");
    assert_eq!(after.sequence, before.sequence + 1);
    world.advance(8);
    assert!(world.nacked().is_empty(), "nothing is missing in between");
    assert_eq!(world.pli_targets(), [] as [u32; 0]);
}

/// Feeds frames of three layers for so many milliseconds; a layer is (name, packets per frame).
/// SSRCs are 10, 11, ..; a keyframe comes whenever one is asked for, and after each
/// so many frames.
fn feed(
    world: &mut World,
    layers: &[(&str, u32)],
    keyframe_each: Option<u64>,
    state: &mut BTreeMap<u32, u16>,
    millis: u64,
    forwarded: &mut Vec<Arc<Packet>>,
) {
    let mut asked = Vec::new();
    for frame in 0..millis / 33 {
        for (&(rid, packets), ssrc) in layers.iter().zip(10_u32..) {
            let is_new = !state.contains_key(&ssrc);
            let next = state.entry(ssrc).or_insert((ssrc * 5_000) as u16);
            for index in 0..packets {
                let regular = keyframe_each.is_some_and(|each| frame % each == each - 1);
                let key = (is_new || regular || asked.contains(&ssrc)) && index == 0;
                let mut payload = if key { KEY.to_vec() } else { vec![0, 0] };
                payload.resize(600, ssrc as u8);
                // Each layer counts time from another start.
                let elapsed = (world.now - world.start).as_millis() as u32 * 90;
                let mut packet = Rtp::new(VIDEO, ssrc, *next, &payload);
                packet = packet.at(elapsed.wrapping_add(ssrc * 100_000_000));
                if is_new {
                    packet = packet.with(MID, "1").with(RID, rid);
                }
                *next = next.wrapping_add(1);
                forwarded.extend(world.deliver(&packet));
            }
        }
        world.advance(33);
        asked = world.pli_targets();
    }
}

#[test]
fn simulcast_comes_out_as_one_unbroken_stream_of_the_best_layer() {
    let mut world = World::new(&[simulcast()]);
    let mut state = BTreeMap::new();
    let mut forwarded = Vec::new();
    let all_layers = [("q", 1), ("h", 3), ("f", 8)];
    feed(&mut world, &all_layers, Some(30), &mut state, 3_000, &mut forwarded);
    let top = |packets: &[Arc<Packet>]| packets.last().and_then(|p| p.payload.last().copied());
    assert_eq!(top(&forwarded), Some(12));
    // The best layer ends: the next best takes over; then it is back.
    feed(&mut world, &all_layers[..2], Some(30), &mut state, 2_000, &mut forwarded);
    assert_eq!(top(&forwarded), Some(11));
    feed(&mut world, &all_layers, Some(30), &mut state, 2_000, &mut forwarded);
    assert_eq!(top(&forwarded), Some(12));

    let mut changes = 0;
    assert!(forwarded[0].keyframe);
    for pair in forwarded.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "one unbroken numbering");
        assert!(pair[1].timestamp >= pair[0].timestamp);
        assert!(pair[1].timestamp - pair[0].timestamp <= 90 * 1_000, "and no leap in time");
        if pair[0].payload.last() != pair[1].payload.last() {
            changes += 1;
            assert!(pair[1].keyframe, "a layer is taken up at a keyframe only");
            assert!(pair[1].timestamp > pair[0].timestamp);
        }
    }
    assert!((3..=4).contains(&changes), "no flutter: {changes}");
    assert!(world.report(Kind::Video).bitrate > Bitrate::kbps(800));
}

#[test]
fn a_layer_without_keyframes_of_its_own_is_asked_for_one() {
    let mut world = World::new(&[simulcast()]);
    let (mut state, mut forwarded) = (BTreeMap::new(), Vec::new());
    feed(&mut world, &[("q", 1), ("h", 3)], None, &mut state, 2_000, &mut forwarded);
    assert_eq!(forwarded.last().and_then(|packet| packet.payload.last()), Some(&11));
}

#[test]
fn layers_that_carry_nearly_the_same_do_not_take_turns() {
    let mut world = World::new(&[simulcast()]);
    let (mut state, mut forwarded) = (BTreeMap::new(), Vec::new());
    for packets in [10, 11, 10, 9, 10, 11] {
        let layers = [("q", 10), ("h", packets)];
        feed(&mut world, &layers, Some(10), &mut state, 2_000, &mut forwarded);
    }
    assert!(forwarded.iter().all(|packet| packet.payload.last() == Some(&10)));
}

#[test]
fn layers_are_aligned_by_their_sender_reports() {
    let mut world = World::new(&[simulcast()]);
    let mut state = BTreeMap::new();
    let mut forwarded = Vec::new();
    // Only the small layer at first.
    feed(&mut world, &[("q", 1)], Some(30), &mut state, 500, &mut forwarded);
    let elapsed = (world.now - world.start).as_millis() as u32 * 90;
    let second = 1_u64 << 32;
    let heard = world.report_sender(10, 50 * second, elapsed.wrapping_add(1_000_000_000));
    let newest = forwarded.last().expect("q flows").timestamp;
    assert_eq!(heard.map(|report| report.rtp_timestamp), Some(newest + 33 * 90));
    let media = Rtp::new(VIDEO, 11, 1, &DELTA).at(777_000).with(RID, "h");
    assert!(world.deliver(&media).is_none(), "not forwarded yet, but known");
    assert_eq!(world.report_sender(11, 50 * second, 777_000), None);
    // The layer gathers rate; its keyframe, of the same moment plus 100 ms, takes over.
    for index in 2..400 {
        let media = Rtp::new(VIDEO, 11, index, &[0; 600]).at(777_000);
        assert!(world.deliver(&media).is_none());
    }
    world.advance(300);
    let taken = world.deliver(&Rtp::new(VIDEO, 11, 400, &KEY).at(777_000 + 9_000));
    assert_eq!(taken.map(|packet| packet.timestamp), Some(newest + 33 * 90 + 9_000));
}

#[test]
fn receiver_reports_say_what_was_lost_and_answer_sender_reports() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 65_530, &KEY));
    for sequence in (65_531..=65_535).chain(0..=14).filter(|sequence| sequence % 4 != 3) {
        world.deliver(&Rtp::new(VIDEO, 7, sequence, &DELTA).at(90));
    }
    world.report_sender(7, 0x0000_1234_5678_0000, 90);
    world.advance(999);
    world.poll();
    world.advance(1);
    assert_eq!(world.receiver.deadline(), Some(world.now));
    let packets = world.poll();
    let report = all::<ReceiverReport>(&packets).next().expect("one each second");
    assert_eq!(report.ssrc, REPORTER);
    let block = report.reports.first().expect("on the SSRC that sends");
    assert_eq!(block.ssrc, 7);
    assert_eq!(block.last_sequence_number, 65_536 + 14);
    // 65530..=65535 and 0..=14 are 21 packets, of which 65531, 65535, 3, 7 and 11 were lost.
    assert_eq!(block.total_lost, 5);
    assert_eq!(block.fraction_lost, (5 * 256 / 21) as u8);
    assert_eq!((block.last_sender_report, block.delay), (0x1234_5678, 65_536));
    world.advance(1_000);
    let packets = world.poll();
    let report = all::<ReceiverReport>(&packets).find(|report| !report.reports.is_empty());
    assert_eq!(report.map(|report| report.reports[0].fraction_lost), Some(0), "nothing since");
}

#[test]
fn sender_reports_are_told_in_the_numbering_of_the_track() {
    let mut world = World::new(&[video()]);
    assert_eq!(world.report_sender(7, 1, 5_000), None, "nothing came yet");
    let first = world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY).at(u32::MAX - 10)).expect("media");
    let heard = world.report_sender(7, 0xabcd, 89).expect("known now");
    assert_eq!(heard.kind, Kind::Video);
    assert_eq!((heard.ntp, heard.rtp_timestamp), (0xabcd, first.timestamp + 100));
    assert_eq!(world.report_sender(8, 1, 5_000), None, "nobody's SSRC");
}

#[test]
fn a_keyframe_is_asked_for_until_it_comes() {
    let mut world = World::new(&[video()]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY));
    assert!(world.pli_targets().is_empty());
    world.receiver.request_keyframe(world.now);
    assert_eq!(world.receiver.deadline(), Some(world.now));
    let mut times = Vec::new();
    for millis in 0..5_000 {
        times.extend(world.pli_targets().iter().map(|_| millis));
        world.advance(1);
    }
    assert_eq!(times, [0, 1_000, 2_000], "three times, then never");
    world.receiver.request_keyframe(world.now);
    assert_eq!(world.pli_targets(), [7]);
    world.deliver(&Rtp::new(VIDEO, 7, 2, &KEY));
    world.advance(1_000);
    assert!(world.pli_targets().is_empty(), "it came");
}

#[test]
fn a_stream_that_does_not_start_with_a_keyframe_is_asked_for_one() {
    let mut world = World::new(&[video()]);
    assert!(world.deliver(&Rtp::new(VIDEO, 7, 1, &DELTA)).is_some());
    assert_eq!(world.pli_targets(), [7]);
}

#[test]
fn those_who_know_only_fir_are_sent_fir() {
    let mut media = video();
    media.feedback.pli = false;
    let mut world = World::new(&[media]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY));
    for number in 1..=2 {
        world.receiver.request_keyframe(world.now);
        let packets = world.poll();
        let fir = all::<FullIntraRequest>(&packets).next().expect("one command");
        let entries: Vec<_> = fir.fir.iter().map(|e| (e.ssrc, e.sequence_number)).collect();
        assert_eq!(entries, [(7, number)]);
    }
}

#[test]
fn transport_feedback_covers_all_streams_and_names_one_of_them() {
    let mut world = World::new(&[audio(), video()]);
    for (number, packet) in
        [Rtp::new(AUDIO, 5, 1, &[0xfc]), Rtp::new(VIDEO, 7, 1, &KEY)].into_iter().enumerate()
    {
        world.deliver(&packet.with(TRANSPORT, [0, number as u8]));
    }
    assert_eq!(world.receiver.deadline(), Some(world.now + Duration::from_millis(50)));
    world.advance(50);
    let packets = world.poll();
    let feedback = all::<TransportLayerCc>(&packets).next().expect("it is due");
    assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (REPORTER, 7));
    assert_eq!((feedback.base_sequence_number, feedback.packet_status_count), (0, 2));
    assert!(
        all::<remb::ReceiverEstimatedMaximumBitrate>(&packets).next().is_none(),
        "one is enough"
    );
}

#[test]
fn a_ceiling_is_told_to_those_who_offer_only_that() {
    let mut media = video();
    media.feedback.transport_cc = false;
    let mut world = World::new(&[media]);
    world.deliver(&Rtp::new(VIDEO, 7, 1, &KEY).with(SEND_TIME, [1, 2, 3]));
    world.advance(100);
    let packets = world.poll();
    let told =
        all::<remb::ReceiverEstimatedMaximumBitrate>(&packets).next().expect("from the start");
    assert_eq!(told.ssrcs, [7]);
    assert!((2_990_000.0..=3_000_000.0).contains(&told.bitrate), "{}", told.bitrate);
}

#[test]
fn a_picture_whose_parameter_sets_are_on_their_way_is_no_start() {
    let mut media = video();
    media.formats[0].format.codec = Codec::H264;
    let sps = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0x90, 0x0f, 8, 0x84, 0x6a];
    let [pps, idr, slice] = [[0x68, 0xce, 0x0f], [0x65, 0x88, 0x84], [0x41, 0x9a, 0x22]];
    let mut world = World::new(&[media]);
    let mut deliver = |sequence, timestamp, payload: &[u8]| {
        let packet = Rtp::new(VIDEO, 7, sequence, payload).at(timestamp);
        world.deliver(&packet).map(|packet| packet.keyframe)
    };
    // In order: the first packet of the access unit is the start, and the only one.
    assert_eq!(deliver(1, 0, &sps), Some(true));
    assert_eq!(deliver(2, 0, &pps), Some(false));
    assert_eq!(deliver(3, 0, &idr), Some(false));
    assert_eq!(deliver(4, 3_000, &slice), Some(false));
    // The parameter sets are late: they are the start when they come.
    assert_eq!(deliver(6, 6_000, &pps), Some(false));
    assert_eq!(deliver(7, 6_000, &idr), Some(false));
    assert_eq!(deliver(5, 6_000, &sps), Some(true));
    // There are none: the picture itself.
    assert_eq!(deliver(8, 9_000, &idr), Some(true));
    assert_eq!(world.report(Kind::Video).dimensions, Some((640, 480)));
    assert_eq!(world.report(Kind::Video).keyframes, 3);
}

#[test]
fn noise_neither_panics_nor_grows() {
    let mut dice = Dice(11);
    let mut world = World::new(&[simulcast(), audio()]);
    let mut forwarded = 0_u32;
    for _ in 0..60_000 {
        let payload: Vec<u8> = (0..dice.roll(40)).map(|_| dice.roll(256) as u8).collect();
        let payload_type = [VIDEO, RTX, AUDIO, dice.roll(128) as u8][dice.roll(4) as usize];
        let mut packet = Rtp::new(
            payload_type,
            dice.roll(70) as u32,
            (dice.roll(9) * 7_919 + dice.roll(50)) as u16,
            &payload,
        )
        .at((dice.roll(1 << 32)) as u32);
        if dice.hits(50) {
            packet = packet
                .with(RID, ["q", "h", "f", "zz"][dice.roll(4) as usize])
                .with(TRANSPORT, (dice.roll(65_536) as u16).to_be_bytes());
        }
        let mut bytes = packet.to_bytes();
        if dice.hits(10) {
            let index = dice.roll(bytes.len() as u64) as usize;
            bytes[index] = dice.roll(256) as u8;
        }
        forwarded += u32::from(world.deliver_bytes(&bytes).is_some());
        if dice.hits(5) {
            let mut compound: Vec<u8> = (0..dice.roll(80)).map(|_| dice.roll(256) as u8).collect();
            if let Some(head) = compound.first_chunk_mut::<8>() {
                *head = [0x80, 200, 0, 6, 0, 0, 0, dice.roll(70) as u8];
            }
            world.receiver.handle_rtcp(&compound, world.now, &mut |_| {});
        }
        world.advance(dice.roll(4));
        if world.receiver.deadline().is_some_and(|due| due <= world.now) {
            assert!(world.poll().len() < 400, "what one poll sends is bounded");
            assert!(world.receiver.deadline().is_none_or(|due| due > world.now), "no busy loop");
        }
    }
    assert!(forwarded > 1_000, "much of the noise is near enough to media: {forwarded}");
}
