//! A simulated viewer above its transport: receives, asks again, and remembers what it got.
//!
//! Its receive side is the server's own for publishers, which has tests of its own.

use crate::agreed::received;
use crate::sessions::{PLAYOUT_DELAY, ssrc, viewer_ssrc};
use crate::tells::{Telling, Tells};
use millrace::media::codec::Kind;
use millrace::media::packet::PacketPool;
use millrace::peer::header::RtpHeader;
use millrace::peer::publisher::Receiver;
use millrace::peer::testing::TestClient;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::collections::HashSet;
use std::time::Instant;

/// What a viewer has agreed to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Retransmissions on their own SSRC.
    pub(crate) rtx: bool,
    /// It asks again for what is lost.
    pub(crate) nack: bool,
    pub(crate) tells: Tells,
    /// It takes dependency descriptors.
    pub(crate) dependencies: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self { rtx: true, nack: true, tells: Tells::Arrivals, dependencies: true }
    }
}

/// One packet as the viewer's decoder would get it.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    /// Extended by the receive side.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// The limits it is told for its playout delay.
    pub(crate) delay: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

/// What came under one SSRC or another.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrived {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// A viewer above its transport.
pub(crate) struct Watching {
    pub(crate) screen: Screen,
    first_ssrc: u32,
    receiver: Receiver,
    pool: PacketPool,
    /// What it got, by kind, in the order in which it came; each packet once.
    pub(crate) got: [Vec<Got>; 2],
    /// What came on the SSRCs of media, first time or again.
    pub(crate) media: Arrived,
    /// What came on the SSRCs of retransmissions.
    pub(crate) rtx: Arrived,
    /// The server's sender reports.
    pub(crate) reports: Vec<(Instant, SenderReport)>,
    /// When it asked for a keyframe last.
    pub(crate) asked: Option<Instant>,
    /// The server has said BYE.
    pub(crate) goodbye: bool,
    /// Numbers of pictures' packets that it has asked for again.
    pub(crate) asked_again: HashSet<u16>,
    telling: Telling,
    /// Makes of what it tells what a server would read that misreads it.
    pub(crate) garble: Option<fn(Vec<u8>) -> Vec<u8>>,
}

impl Watching {
    pub(crate) fn new(number: usize, screen: Screen, now: Instant) -> Self {
        let first_ssrc = viewer_ssrc(number);
        let media = Kind::ALL.map(|kind| received(kind, first_ssrc, screen.rtx, screen.nack));
        Self {
            screen,
            first_ssrc,
            receiver: Receiver::new(&media, 77, now),
            pool: PacketPool::default(),
            got: [Vec::new(), Vec::new()],
            media: Arrived::default(),
            rtx: Arrived::default(),
            reports: Vec::new(),
            asked: None,
            goodbye: false,
            asked_again: HashSet::new(),
            telling: Telling::new(screen.tells, first_ssrc, now),
            garble: None,
        }
    }

    /// When it has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.receiver.deadline(), self.telling.deadline()].into_iter().flatten().min()
    }

    /// Sends the RTCP that is due.
    pub(crate) fn turn(&mut self, now: Instant, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        let mut compounds = Vec::new();
        self.receiver.poll_rtcp(now, &mut |compound| compounds.push(compound.to_vec()));
        let told = self.telling.poll(now);
        compounds.extend(told.map(|told| self.garble.map_or(told.clone(), |garble| garble(told))));
        for compound in compounds {
            self.sends(&compound, now);
            out.push(peer.seal_rtcp(&compound));
        }
    }

    /// Notes what it asks for.
    pub(crate) fn sends(&mut self, compound: &[u8], now: Instant) {
        if asks_for_keyframe(compound) {
            self.asked = Some(now);
        }
        let mut bytes = compound;
        for packet in unmarshal(&mut bytes).into_iter().flatten() {
            let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else { continue };
            if nack.media_ssrc == ssrc(self.first_ssrc, Kind::Video) {
                self.asked_again.extend(nack.nacks.iter().flat_map(|pair| pair.into_iter()));
            }
        }
    }

    /// Takes in an opened packet.
    pub(crate) fn rtp(&mut self, datagram: &[u8], now: Instant) {
        let header = RtpHeader::read(datagram).expect("the server's RTP is sound");
        let is_media = Kind::ALL.iter().any(|&kind| ssrc(self.first_ssrc, kind) == header.ssrc);
        let arrived = if is_media { &mut self.media } else { &mut self.rtx };
        arrived.packets += 1;
        arrived.bytes += datagram.len() as u64;
        self.telling.arrives(&header, datagram, now);
        let packet = self.receiver.handle_rtp(&header, datagram, now, &mut self.pool);
        let Some(packet) = packet else { return };
        self.got[packet.codec.kind().index()].push(Got {
            at: now,
            sequence: packet.sequence,
            timestamp: packet.timestamp as u32,
            marker: packet.marker,
            delay: header.extension(datagram, PLAYOUT_DELAY).map(<[u8]>::to_vec),
            payload: packet.payload.clone(),
        });
    }

    /// Reads the server's RTCP.
    pub(crate) fn rtcp(&mut self, compound: &[u8], now: Instant) {
        self.receiver.handle_rtcp(compound, now, &mut |_| {});
        let mut bytes = compound;
        for packet in unmarshal(&mut bytes).expect("the server's RTCP is sound") {
            let packet = packet.as_any();
            if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.reports.push((now, report.clone()));
            }
            self.goodbye |= packet.is::<Goodbye>();
        }
    }

    /// Packets that never came between the first and the last that did, of how many.
    pub(crate) fn missing(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for got in &self.got {
            let numbers = || got.iter().map(|got| got.sequence);
            let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else { continue };
            let expected = last - first + 1;
            sum = (sum.0 + expected - got.len() as u64, sum.1 + expected);
        }
        sum
    }
}

fn asks_for_keyframe(mut compound: &[u8]) -> bool {
    let packets = unmarshal(&mut compound).expect("a viewer's RTCP is sound");
    let mut packets = packets.iter().map(|packet| packet.as_any());
    packets.any(|packet| packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>())
}
