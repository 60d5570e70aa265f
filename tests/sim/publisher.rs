//! A simulated publisher above its transport: a camera and a microphone, and what it answers.

use crate::sessions::{PUBLISHER_SSRC, Rtp, payload_type, rtx_payload_type, rtx_ssrc, ssrc};
use millrace::media::codec::Kind;
use millrace::media::time::{WallTime, ticks_of};
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
    /// A byte that every payload carries, to tell one publisher's from another's.
    pub(crate) mark: u8,
}

impl Default for Camera {
    fn default() -> Self {
        let (frame_rate, packets, payload_bytes, group) = (30, 4, 300, 300);
        let (audio, repair, obliges, mark) = (true, Repair::Rtx, true, 0);
        Self { frame_rate, packets, payload_bytes, group, audio, repair, obliges, mark }
    }
}

/// One packet as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) header: Rtp,
    pub(crate) payload: Vec<u8>,
    pub(crate) keyframe: bool,
}

/// A publisher above its transport.
pub(crate) struct Publishing {
    camera: Camera,
    /// When it began to send: capture times count from here.
    began: Option<Instant>,
    pictures: u64,
    sounds: u64,
    reports: u64,
    since_keyframe: u64,
    keyframe_asked: bool,
    rtx_sequences: [u16; 2],
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
/// Parameter sets of 1280x720 pictures.
const SPS: &[u8] = b"\x67\x42\xe0\x1f\xda\x01\x40\x16\xe8\x06\xd0\xa1\x35";
const PPS: &[u8] = b"\x68\xce\x06\xe2";
/// Its clock is not the server's.
const CLOCK: Duration = Duration::from_secs(1_000_000_123);

impl Publishing {
    pub(crate) fn new(camera: Camera) -> Self {
        Self {
            camera,
            began: None,
            pictures: 0,
            sounds: 0,
            reports: 0,
            since_keyframe: 0,
            keyframe_asked: false,
            rtx_sequences: [7, 9],
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
            payload[..8].copy_from_slice(&self.sounds.to_be_bytes());
            payload[8] = self.camera.mark;
            self.send(Kind::Audio, timestamp, (false, false), payload, peer, out);
            self.sounds += 1;
        }
        while began + REPORTS * self.reports as u32 <= now {
            self.reports += 1;
            let compound = self.sender_reports(now - began);
            out.push(peer.seal_rtcp(&compound));
        }
    }

    fn picture(&mut self, at: Duration, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        let timestamp = Self::timestamp(Kind::Video, at);
        let keyframe = self.keyframe_asked || self.since_keyframe.is_multiple_of(self.camera.group);
        if keyframe {
            self.since_keyframe = 0;
            self.keyframe_asked = false;
            // Parameter sets apart from the picture, as most encoders have them.
            for (start, keyframe) in [(SPS, true), (PPS, false)] {
                let payload = [start, &self.pictures.to_be_bytes(), &[self.camera.mark]].concat();
                self.send(Kind::Video, timestamp, (false, keyframe), payload, peer, out);
            }
        }
        let count = self.camera.packets * if keyframe { 4 } else { 1 };
        for index in 0..count {
            let last = index + 1 == count;
            let payload = self.fragment(keyframe, index, last);
            self.send(Kind::Video, timestamp, (last, false), payload, peer, out);
        }
        self.pictures += 1;
        self.since_keyframe += 1;
    }

    /// A fragment of a slice (RFC 6184 §5.8): nearly equal sizes, the last one shorter, and bytes
    /// that no other fragment has.
    fn fragment(&self, keyframe: bool, index: usize, last: bool) -> Vec<u8> {
        let number = self.sent[Kind::Video.index()].len();
        let full = self.camera.payload_bytes + number * 7 % 3;
        let mut payload = vec![(number * 31) as u8; if last { full / 2 } else { full }];
        let kind = if keyframe { 5 } else { 1 };
        let place = u8::from(index == 0) << 7 | u8::from(last) << 6;
        payload[..3].copy_from_slice(&[0x7c, place | kind, if index == 0 { 0x88 } else { 0x11 }]);
        payload[3..11].copy_from_slice(&(number as u64).to_be_bytes());
        payload[11] = self.camera.mark;
        payload
    }

    fn send(
        &mut self,
        kind: Kind,
        timestamp: u32,
        (marker, keyframe): (bool, bool),
        payload: Vec<u8>,
        peer: &mut TestClient,
        out: &mut Vec<Vec<u8>>,
    ) {
        let sent = &mut self.sent[kind.index()];
        // Begins shortly before a turn of the numbering.
        let sequence = 65_400_u16.wrapping_add(sent.len() as u16);
        let (payload_type, ssrc) = (payload_type(kind), ssrc(PUBLISHER_SSRC, kind));
        let header = Rtp { payload_type, marker, sequence, timestamp, ssrc };
        out.push(peer.seal(&header.packet(&[&payload])));
        sent.push(Sent { header, payload, keyframe });
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
        let newest_first = self.sent[kind.index()].iter().rev();
        let found = newest_first.take(5_000).find(|sent| sent.header.sequence == sequence);
        let Sent { header, payload, .. } = found.expect("it is asked for what it has sent");
        match self.camera.repair {
            Repair::No => {}
            Repair::Resend => out.push(peer.seal(&header.packet(&[payload]))),
            Repair::Rtx => {
                let rtx_sequence = &mut self.rtx_sequences[kind.index()];
                *rtx_sequence = rtx_sequence.wrapping_add(1);
                let rtx = Rtp {
                    payload_type: rtx_payload_type(kind),
                    ssrc: rtx_ssrc(PUBLISHER_SSRC, kind),
                    sequence: *rtx_sequence,
                    ..*header
                };
                out.push(peer.seal(&rtx.packet(&[&sequence.to_be_bytes(), payload])));
            }
        }
    }
}
