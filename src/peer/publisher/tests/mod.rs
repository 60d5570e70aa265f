//! Every behaviour of the receive side as a whole, with a clock that the test moves.
//!
//! - `feedback`: what is asked of the publisher and reported to it
//! - `link`: a publisher over a bad link, by seed
//! - `streams`: what comes out: SSRCs, layers, keyframes, padding

mod feedback;
mod link;
mod streams;

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
            ..ExtensionIds::default()
        },
        feedback: Feedback {
            nack: true,
            pli: true,
            fir: true,
            transport_cc: true,
            remb: true,
            rrtr: false,
        },
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
    now: Instant,
}

impl World {
    fn new(media: &[ReceivedMedia]) -> Self {
        let start = Instant::now();
        let receiver = Receiver::new(media, REPORTER, start);
        Self { receiver, pool: PacketPool::default(), now: start }
    }

    fn advance(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn deliver_bytes(&mut self, bytes: &[u8]) -> Option<Arc<Packet>> {
        let header = RtpHeader::read(bytes)?;
        self.receiver.handle_rtp(&header, bytes, self.now, &mut self.pool)
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
