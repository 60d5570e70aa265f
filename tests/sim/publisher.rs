//! A simulated publisher above its transport: a camera and a microphone, and what it answers.

use crate::agreed::payload_types;
use crate::picture::{self, Place, Stamp};
use crate::sessions::{PUBLISHER_SSRC, Rtp, rtx_ssrc, ssrc};
use millrace::media::codec::{Codec, Kind};
use millrace::media::time::{WallTime, ticks_of};
use millrace::peer::header::RtpHeader;
use millrace::peer::testing::TestClient;
use rtc_rtcp::packet::{Packet, marshal, unmarshal};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::time::{Duration, Instant};

/// How a publisher answers a NACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Not at all.
    No,
    /// By RTX (RFC 4588).
    Rtx,
    /// With the same packet again.
    Resend,
}

/// What a publisher sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    /// What its pictures are encoded with.
    pub(crate) codec: Codec,
    /// Pictures per second.
    pub(crate) frame_rate: u32,
    /// Packets of a picture; a keyframe has four times as many.
    pub(crate) packets: usize,
    /// Bytes of a video packet's payload, give or take two.
    pub(crate) payload_bytes: usize,
    /// Pictures from one keyframe to the next, if nobody asks.
    pub(crate) group: u64,
    /// Whether there is audio.
    pub(crate) audio: bool,
    /// How it answers NACKs.
    pub(crate) repair: Repair,
    /// Whether it answers PLIs with a keyframe.
    pub(crate) obliges: bool,
}

impl Default for Camera {
    fn default() -> Self {
        let (frame_rate, packets, payload_bytes, group) = (30, 4, 300, 300);
        let (audio, repair, obliges) = (true, Repair::Rtx, true);
        let codec = Codec::H264;
        Self { codec, frame_rate, packets, payload_bytes, group, audio, repair, obliges }
    }
}

impl Camera {
    /// What it encodes a kind with.
    pub(crate) fn codec_of(&self, kind: Kind) -> Codec {
        match kind {
            Kind::Audio => Codec::Opus,
            Kind::Video => self.codec,
        }
    }
}

/// One packet as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) header: Rtp,
    pub(crate) payload: Vec<u8>,
    /// A keyframe begins with it.
    pub(crate) keyframe: bool,
}

/// A publisher above its transport.
pub(crate) struct Publishing {
    pub(crate) camera: Camera,
    /// The number of its client.
    number: usize,
    /// When it began to send: capture times count from here.
    began: Option<Instant>,
    pictures: u64,
    sounds: u64,
    reports: u64,
    since_keyframe: u64,
    keyframe_asked: bool,
    /// Which packets it has sent again by RTX, by kind, in the order of their own numbering.
    repaired: [Vec<usize>; 2],
    /// Whether anything is sent at all.
    pub(crate) sends: bool,
    /// Everything it sent, by kind.
    pub(crate) sent: [Vec<Sent>; 2],
    /// When PLIs arrived.
    pub(crate) keyframe_requests: Vec<Instant>,
    /// Packets it was asked for again.
    pub(crate) asked_again: u64,
}

/// Between sender reports: two a second at first would be as good.
const REPORTS: Duration = Duration::from_millis(500);
const SOUND: Duration = Duration::from_millis(20);
/// Its numbering begins shortly before a turn.
const FIRST_SEQUENCE: u16 = 65_400;
/// That of its retransmissions, by kind.
const FIRST_REPAIRS: [u16; 2] = [8, 10];
/// Its clock is not the server's.
const CLOCK: Duration = Duration::from_secs(1_000_000_123);

impl Publishing {
    pub(crate) fn new(camera: Camera, number: usize) -> Self {
        Self {
            camera,
            number,
            began: None,
            pictures: 0,
            sounds: 0,
            reports: 0,
            since_keyframe: 0,
            keyframe_asked: false,
            repaired: [Vec::new(), Vec::new()],
            sends: true,
            sent: [Vec::new(), Vec::new()],
            keyframe_requests: Vec::new(),
            asked_again: 0,
        }
    }

    /// The RTP timestamp of what is captured so long after the begin.
    pub(crate) fn timestamp(kind: Kind, since_began: Duration) -> u32 {
        match kind {
            Kind::Audio => (u32::MAX - 100_000).wrapping_add(ticks_of(since_began, 48_000) as u32),
            Kind::Video => (u32::MAX - 300_000).wrapping_add(ticks_of(since_began, 90_000) as u32),
        }
    }

    /// When it has something to do, once connected.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let began = self.began?;
        if !self.sends {
            return None;
        }
        let audio = self.camera.audio.then(|| began + self.sound_time());
        let due = [began + self.picture_time(), began + REPORTS * self.reports as u32];
        due.into_iter().chain(audio).min()
    }

    fn picture_time(&self) -> Duration {
        Duration::from_secs(self.pictures) / self.camera.frame_rate
    }

    fn sound_time(&self) -> Duration {
        SOUND * self.sounds as u32
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Instant, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        if !self.sends {
            return;
        }
        let began = *self.began.get_or_insert(now);
        while began + self.picture_time() <= now {
            let at = self.picture_time();
            self.picture(at, peer, out);
        }
        while self.camera.audio && began + self.sound_time() <= now {
            let timestamp = Self::timestamp(Kind::Audio, self.sound_time());
            let mut payload = vec![self.sounds as u8; 80 + (self.sounds % 3) as usize];
            payload[..Stamp::LEN].copy_from_slice(&self.stamp(Kind::Audio).bytes());
            let place = Place { keyframe: false, first: false, last: false };
            self.send(Kind::Audio, timestamp, place, payload, peer, out);
            self.sounds += 1;
        }
        while began + REPORTS * self.reports as u32 <= now {
            self.reports += 1;
            let compound = self.sender_reports(now - began);
            out.push(peer.seal_rtcp(&compound));
        }
    }

    fn stamp(&self, kind: Kind) -> Stamp {
        Stamp { publisher: self.number, number: self.sent[kind.index()].len() }
    }

    fn picture(&mut self, at: Duration, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        let Camera { codec, packets, payload_bytes, group, .. } = self.camera;
        let timestamp = Self::timestamp(Kind::Video, at);
        let keyframe = self.keyframe_asked || self.since_keyframe.is_multiple_of(group);
        let mut first = true;
        if keyframe {
            self.since_keyframe = 0;
            self.keyframe_asked = false;
            // Parameter sets apart from the picture, as most encoders have them.
            for parameters in picture::parameters(codec) {
                let payload = [parameters, self.stamp(Kind::Video).bytes().as_slice()].concat();
                let place = Place { keyframe, first, last: false };
                self.send(Kind::Video, timestamp, place, payload, peer, out);
                first = false;
            }
        }
        let count = packets * if keyframe { 4 } else { 1 };
        for index in 0..count {
            // Nearly equal sizes, the last one shorter.
            let stamp = self.stamp(Kind::Video);
            let full = payload_bytes + stamp.number * 7 % 3;
            let last = index + 1 == count;
            let len = if last { full / 2 } else { full };
            let place = Place { keyframe, first: index == 0, last };
            let payload = picture::packet(codec, place, stamp, len);
            let begins = Place { first: first && index == 0, ..place };
            self.send(Kind::Video, timestamp, begins, payload, peer, out);
        }
        self.pictures += 1;
        self.since_keyframe += 1;
    }

    fn send(
        &mut self,
        kind: Kind,
        timestamp: u32,
        place: Place,
        payload: Vec<u8>,
        peer: &mut TestClient,
        out: &mut Vec<Vec<u8>>,
    ) {
        let [payload_type, _] = payload_types(self.camera.codec_of(kind));
        let sent = &mut self.sent[kind.index()];
        let sequence = FIRST_SEQUENCE.wrapping_add(sent.len() as u16);
        let (marker, ssrc) = (place.last, ssrc(PUBLISHER_SSRC, kind));
        let header = Rtp { payload_type, marker, sequence, timestamp, ssrc };
        out.push(peer.seal(&header.packet(&[&payload])));
        sent.push(Sent { header, payload, keyframe: place.keyframe && place.first });
    }

    /// Which of its packets a datagram of its carries, first time or again.
    pub(crate) fn carried(&self, datagram: &[u8]) -> Option<(Kind, usize)> {
        let header = RtpHeader::read(datagram)?;
        for kind in Kind::ALL {
            let sent = &self.sent[kind.index()];
            if header.ssrc == rtx_ssrc(PUBLISHER_SSRC, kind) {
                let place = header.sequence.wrapping_sub(FIRST_REPAIRS[kind.index()]);
                return Some((kind, *self.repaired[kind.index()].get(usize::from(place))?));
            }
            if header.ssrc == ssrc(PUBLISHER_SSRC, kind) {
                let newest = sent.len().checked_sub(1)?;
                let newest_sequence = FIRST_SEQUENCE.wrapping_add(newest as u16);
                let back = usize::from(newest_sequence.wrapping_sub(header.sequence));
                return Some((kind, newest.checked_sub(back)?));
            }
        }
        None
    }

    fn sender_reports(&self, elapsed: Duration) -> Vec<u8> {
        let report = |kind| -> Box<dyn Packet> {
            Box::new(SenderReport {
                ssrc: ssrc(PUBLISHER_SSRC, kind),
                ntp_time: WallTime::since_unix_epoch(CLOCK + elapsed).to_ntp(),
                rtp_time: Self::timestamp(kind, elapsed),
                packet_count: self.sent[kind.index()].len() as u32,
                ..SenderReport::default()
            })
        };
        marshal(&Kind::ALL.map(report)).expect("a compound").to_vec()
    }

    /// Reads the server's RTCP.
    pub(crate) fn rtcp(
        &mut self,
        compound: &[u8],
        now: Instant,
        peer: &mut TestClient,
        out: &mut Vec<Vec<u8>>,
    ) {
        let mut bytes = compound;
        for packet in unmarshal(&mut bytes).expect("the server's RTCP is sound") {
            let packet = packet.as_any();
            if packet.is::<PictureLossIndication>() {
                self.keyframe_asked = self.camera.obliges;
                self.keyframe_requests.push(now);
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                for sequence in nack.nacks.iter().flat_map(|pair| pair.into_iter()) {
                    self.again(nack.media_ssrc, sequence, peer, out);
                }
            }
        }
    }

    fn again(&mut self, media: u32, sequence: u16, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        self.asked_again += 1;
        let kind = Kind::ALL.into_iter().find(|&kind| ssrc(PUBLISHER_SSRC, kind) == media);
        let kind = kind.expect("it is asked for what it sends");
        let newest_first = self.sent[kind.index()].iter().enumerate().rev();
        let found = newest_first.take(5_000).find(|(_, sent)| sent.header.sequence == sequence);
        let (index, Sent { header, payload, .. }) = found.expect("it is asked for what it sent");
        match self.camera.repair {
            Repair::No => {}
            Repair::Resend => out.push(peer.seal(&header.packet(&[payload]))),
            Repair::Rtx => {
                let repaired = &mut self.repaired[kind.index()];
                let place = repaired.len() as u16;
                repaired.push(index);
                let rtx = Rtp {
                    payload_type: payload_types(self.camera.codec_of(kind))[1],
                    ssrc: rtx_ssrc(PUBLISHER_SSRC, kind),
                    sequence: FIRST_REPAIRS[kind.index()].wrapping_add(place),
                    ..*header
                };
                out.push(peer.seal(&rtx.packet(&[&sequence.to_be_bytes(), payload])));
            }
        }
    }
}
