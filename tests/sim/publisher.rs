//! A simulated publisher above its transport: a camera and a microphone, and what it answers.

use crate::agreed::payload_types;
use crate::camera::{Camera, ENCODINGS_MAX, Encoding, Repair};
use crate::picture::{self, Place, Stamp};
use crate::scalable::{Frame, Says, Scaler};
use crate::sessions::{PUBLISHER_SSRC, Rtp, rtx_ssrc, ssrc};
use millrace::media::codec::Kind;
use millrace::media::layer::{Lane, LayerId};
use millrace::media::time::{WallTime, ticks_of};
use millrace::peer::header::RtpHeader;
use millrace::peer::testing::TestClient;
use rtc_rtcp::packet::{Packet, marshal, unmarshal};
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::time::{Duration, Instant};

/// The header extensions in which encodings are named: of media, and of retransmissions.
pub(crate) const RID: [u8; 2] = [2, 3];

/// The header extension that says what can be left out, where payloads do not.
pub(crate) const DEPENDENCY: u8 = 4;

/// The place of a lane among those of a publisher: its sound, then its encodings.
pub(crate) fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Audio => 0,
        Lane::Video(layer) => 1 + layer.index(),
    }
}

/// The lane at this place.
pub(crate) fn lane_at(index: usize) -> Lane {
    match index.checked_sub(1) {
        None => Lane::Audio,
        Some(layer) => Lane::Video(LayerId::at(layer).expect("few")),
    }
}

/// The SSRCs of a lane: of media, and of its retransmissions.
pub(crate) fn ssrcs(lane: Lane) -> [u32; 2] {
    let first = match lane {
        Lane::Audio => PUBLISHER_SSRC,
        Lane::Video(layer) => PUBLISHER_SSRC + 10 * layer.index() as u32,
    };
    [ssrc(first, lane.kind()), rtx_ssrc(first, lane.kind())]
}

/// One packet as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) header: Rtp,
    pub(crate) payload: Vec<u8>,
    /// How long after it began to send it was captured.
    pub(crate) captured: Duration,
    /// A keyframe begins with it.
    pub(crate) keyframe: bool,
    /// Which frame it is of, where frames can be left out.
    pub(crate) frame: Option<usize>,
    /// The last packet of its frame.
    pub(crate) ends: bool,
    /// What the dependency descriptor says, if there is one.
    dependency: Option<Vec<u8>>,
    /// What viewers are told by it, but for its numbers.
    pub(crate) joined: Option<Vec<u8>>,
}

/// A packet on its way out.
struct Piece {
    captured: Duration,
    place: Place,
    /// It ends the picture.
    marker: bool,
    frame: Option<usize>,
    /// What the dependency descriptor says, if there is one.
    dependency: Option<Vec<u8>>,
    /// And what viewers are told by it.
    joined: Option<Vec<u8>>,
    payload: Vec<u8>,
}

/// What a datagram of a publisher carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) lane: Lane,
    /// Which of the lane's packets.
    pub(crate) index: usize,
    /// What it comes under.
    pub(crate) ssrc: u32,
    /// Whether the numbering of that has come around before it.
    pub(crate) has_turned: bool,
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
    encodings: Vec<Encoding>,
    /// By encoding.
    since_keyframe: Vec<u64>,
    keyframe_asked: Vec<bool>,
    scalers: Vec<Scaler>,
    /// The frames of each encoding, where some can be left out.
    pub(crate) frames: Vec<Vec<Frame>>,
    /// Which packets it has sent again by RTX, by lane, in the order of their own numbering.
    repaired: Vec<Vec<usize>>,
    /// Whether anything is sent at all.
    pub(crate) sends: bool,
    /// Encodings of which nothing is sent.
    pub(crate) stopped: [bool; ENCODINGS_MAX],
    /// Everything it sent, by lane: its sound, then its encodings.
    pub(crate) sent: Vec<Vec<Sent>>,
    /// When PLIs arrived.
    pub(crate) keyframe_requests: Vec<Instant>,
    /// Packets it was asked for again.
    pub(crate) asked_again: u64,
}

/// Between sender reports: two a second at first would be as good.
const REPORTS: Duration = Duration::from_millis(500);
const SOUND: Duration = Duration::from_millis(20);
/// Its numberings begin shortly before a turn, or elsewhere.
const FIRST_SEQUENCE: [u16; 1 + ENCODINGS_MAX] = [65_400, 65_400, 120, 40_000];
/// Those of its retransmissions.
const FIRST_REPAIRS: [u16; 1 + ENCODINGS_MAX] = [8, 10, 65_530, 14];
/// Its clocks begin shortly before a turn, or elsewhere.
const FIRST_TIMESTAMP: [u32; 1 + ENCODINGS_MAX] =
    [u32::MAX - 100_000, u32::MAX - 300_000, 7_000, 2_000_000_000];
/// Its clock is not the server's.
const CLOCK: Duration = Duration::from_secs(1_000_000_123);

impl Publishing {
    pub(crate) fn new(camera: Camera, number: usize) -> Self {
        let encodings = camera.encodings();
        Self {
            camera,
            number,
            began: None,
            pictures: 0,
            sounds: 0,
            reports: 0,
            since_keyframe: vec![0; encodings.len()],
            keyframe_asked: vec![false; encodings.len()],
            scalers: vec![Scaler::new(camera.codec, camera.mode); encodings.len()],
            frames: vec![Vec::new(); encodings.len()],
            encodings,
            repaired: vec![Vec::new(); camera.lanes()],
            sends: true,
            stopped: [false; ENCODINGS_MAX],
            sent: vec![Vec::new(); camera.lanes()],
            keyframe_requests: Vec::new(),
            asked_again: 0,
        }
    }

    /// The RTP timestamp of what is captured so long after the begin.
    pub(crate) fn timestamp(kind: Kind, since_began: Duration) -> u32 {
        Self::timestamp_of(Lane::of(kind, LayerId::ONLY), since_began)
    }

    /// The same in a lane.
    fn timestamp_of(lane: Lane, since_began: Duration) -> u32 {
        let clock_rate = if lane == Lane::Audio { 48_000 } else { 90_000 };
        FIRST_TIMESTAMP[lane_index(lane)].wrapping_add(ticks_of(since_began, clock_rate) as u32)
    }

    /// It sends nothing of an encoding from now on, or something again, from a keyframe on.
    pub(crate) fn stop(&mut self, encoding: usize, stopped: bool) {
        self.stopped[encoding] = stopped;
        self.since_keyframe[encoding] = 0;
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
            let mut payload = vec![self.sounds as u8; 80 + (self.sounds % 3) as usize];
            payload[..Stamp::LEN].copy_from_slice(&self.stamp(Lane::Audio, 0).bytes());
            let place = Place { keyframe: false, first: false, last: false };
            let captured = self.sound_time();
            let (marker, frame, dependency) = (false, None, None);
            let joined = None;
            let piece = Piece { captured, place, marker, frame, dependency, joined, payload };
            self.send(Lane::Audio, piece, peer, out);
            self.sounds += 1;
        }
        while began + REPORTS * self.reports as u32 <= now {
            self.reports += 1;
            let compound = self.sender_reports(now - began);
            out.push(peer.seal_rtcp(&compound));
        }
    }

    /// Of the next packet of a lane, or of one so many behind it.
    fn stamp(&self, lane: Lane, behind: usize) -> Stamp {
        let lane = lane_index(lane);
        Stamp { publisher: self.number, lane, number: self.sent[lane].len() + behind }
    }

    /// Sends a picture in each encoding that has it.
    fn picture(&mut self, at: Duration, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        let Camera { group, together, .. } = self.camera;
        let wants = |place: usize| {
            self.keyframe_asked[place] || self.since_keyframe[place].is_multiple_of(group)
        };
        let wanted: Vec<bool> = (0..self.encodings.len()).map(wants).collect();
        let any = wanted.iter().any(|&wanted| wanted);
        for (place, wanted) in wanted.into_iter().enumerate() {
            let has_it = self.pictures.is_multiple_of(self.encodings[place].every);
            if self.stopped[place] || !(has_it || wanted) {
                continue;
            }
            self.encode(place, wanted || (together && any), at, peer, out);
        }
        self.pictures += 1;
    }

    fn encode(
        &mut self,
        encoding: usize,
        keyframe: bool,
        at: Duration,
        peer: &mut TestClient,
        out: &mut Vec<Vec<u8>>,
    ) {
        let (codec, mode) = (self.camera.codec, self.camera.mode);
        let (lane, size) = (lane_at(1 + encoding), self.encodings[encoding].size);
        let frames = self.scalers[encoding].picture(keyframe, self.frames[encoding].len());
        if mode.is_scalable() {
            self.frames[encoding].extend(frames.iter().cloned());
        }
        let parameters = if keyframe { picture::parameters(codec, size) } else { Vec::new() };
        if keyframe {
            self.since_keyframe[encoding] = 0;
            self.keyframe_asked[encoding] = false;
        }
        let highest = frames.len() - 1;
        for (spatial, frame) in frames.into_iter().enumerate() {
            let says = mode.is_scalable().then_some(frame.says);
            let number = says.map(|_| self.frames[encoding].len() - 1 - (highest - spatial));
            let is_start = keyframe && spatial == 0;
            // Parameter sets apart from the picture, as most encoders have them.
            let mut payloads: Vec<Vec<u8>> = if is_start { parameters.clone() } else { Vec::new() };
            let apart = payloads.len();
            for (index, payload) in payloads.iter_mut().enumerate() {
                payload.extend(self.stamp(lane, index).bytes());
            }
            payloads.extend(self.pictures_of(encoding, frame.spatial, keyframe, says, apart));
            let count = payloads.len();
            for (index, payload) in payloads.into_iter().enumerate() {
                let (first, last) = (index == 0, index + 1 == count);
                let place = Place { keyframe: is_start, first, last };
                let of = number.unwrap_or(0) as u16;
                let say = |joined| says.and_then(|says| says.dependency(place, of, size, joined));
                let (dependency, joined) = (say(false), say(true));
                let marker = last && spatial == highest;
                let piece = Piece {
                    captured: at,
                    place,
                    marker,
                    frame: number,
                    dependency,
                    joined,
                    payload,
                };
                self.send(lane, piece, peer, out);
            }
        }
        self.since_keyframe[encoding] += 1;
    }

    /// The packets of a frame, behind so many of its parameters.
    fn pictures_of(
        &self,
        encoding: usize,
        spatial: u8,
        keyframe: bool,
        says: Option<Says>,
        apart: usize,
    ) -> Vec<Vec<u8>> {
        let Encoding { size, packets, payload_bytes, .. } =
            self.encodings[encoding].at(self.pictures);
        let times = if keyframe { 4 } else { 1 };
        let count = self.camera.mode.packets(spatial, packets) * times;
        let lane = lane_at(1 + encoding);
        let packet = |index: usize| {
            // Nearly equal sizes, the last one shorter.
            let stamp = self.stamp(lane, apart + index);
            let full = payload_bytes + stamp.number * 7 % 3;
            let last = index + 1 == count;
            let len = if last { full / 2 } else { full };
            let place = Place { keyframe: keyframe && spatial == 0, first: index == 0, last };
            picture::packet(self.camera.codec, (place, says), size, stamp, len)
        };
        (0..count).map(packet).collect()
    }

    fn send(&mut self, lane: Lane, piece: Piece, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        let Piece { captured, place, marker, frame, dependency, joined, payload } = piece;
        let [payload_type, _] = payload_types(self.camera.codec_of(lane.kind()));
        let timestamp = Self::timestamp_of(lane, captured);
        let place_of_lane = lane_index(lane);
        let sent = &self.sent[place_of_lane];
        let sequence = FIRST_SEQUENCE[place_of_lane].wrapping_add(sent.len() as u16);
        let [ssrc, _] = ssrcs(lane);
        let header = Rtp { payload_type, marker, sequence, timestamp, ssrc };
        let said = (RID[0], dependency.as_deref());
        out.push(peer.seal(&self.named(lane, &header, said, &[&payload])));
        let (keyframe, ends) = (place.keyframe && place.first, place.last);
        let sent = Sent { header, payload, captured, keyframe, frame, ends, dependency, joined };
        self.sent[place_of_lane].push(sent);
    }

    /// A packet that names its encoding, where there are several, and says what its frame is, where
    /// the payload does not.
    fn named(
        &self,
        lane: Lane,
        header: &Rtp,
        (id, dependency): (u8, Option<&[u8]>),
        payload: &[&[u8]],
    ) -> Vec<u8> {
        let encoding = lane_index(lane).checked_sub(1).and_then(|at| self.camera.ladder.get(at));
        let rid = encoding.map(|encoding| (id, encoding.rid.as_bytes()));
        let dependency = dependency.map(|value| (DEPENDENCY, value));
        // Elements of a one-byte header (RFC 8285 §4.2), or two-byte where one is long (§4.3).
        let is_long = dependency.is_some_and(|(_, value)| value.len() > 16);
        let element = |(id, value): (u8, &[u8])| {
            let len = value.len() as u8;
            let head = if is_long { vec![id, len] } else { vec![id << 4 | len.saturating_sub(1)] };
            [head.as_slice(), value].concat()
        };
        let mut elements: Vec<u8> =
            [rid, dependency].into_iter().flatten().flat_map(element).collect();
        if elements.is_empty() {
            return header.packet(payload);
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        let words = (elements.len() / 4) as u8;
        let [high, low] = if is_long { [0x10, 0] } else { [0xbe, 0xde] };
        let mut packet = header.packet(&[&[high, low, 0, words], &elements, &payload.concat()]);
        packet[0] |= 0x10;
        packet
    }

    /// Which of its packets a datagram of its carries, first time or again.
    pub(crate) fn carried(&self, datagram: &[u8]) -> Option<Carried> {
        let RtpHeader { ssrc, sequence, .. } = RtpHeader::read(datagram)?;
        for (place, sent) in self.sent.iter().enumerate() {
            let lane = lane_at(place);
            let [media, repairs] = ssrcs(lane);
            if ssrc == repairs {
                let number = sequence.wrapping_sub(FIRST_REPAIRS[place]);
                let index = *self.repaired[place].get(usize::from(number))?;
                let has_turned = sequence < FIRST_REPAIRS[place];
                return Some(Carried { lane, index, ssrc, has_turned });
            }
            if ssrc == media {
                let newest = sent.len().checked_sub(1)?;
                let newest_sequence = FIRST_SEQUENCE[place].wrapping_add(newest as u16);
                let back = usize::from(newest_sequence.wrapping_sub(sequence));
                let index = newest.checked_sub(back)?;
                let has_turned = usize::from(FIRST_SEQUENCE[place]) + index > 0xffff;
                return Some(Carried { lane, index, ssrc, has_turned });
            }
        }
        None
    }

    fn sender_reports(&self, elapsed: Duration) -> Vec<u8> {
        let report = |(place, sent): (usize, &Vec<Sent>)| -> Box<dyn Packet> {
            let lane = lane_at(place);
            Box::new(SenderReport {
                ssrc: ssrcs(lane)[0],
                ntp_time: WallTime::since_unix_epoch(CLOCK + elapsed).to_ntp(),
                rtp_time: Self::timestamp_of(lane, elapsed),
                packet_count: sent.len() as u32,
                ..SenderReport::default()
            })
        };
        let reports: Vec<_> = self.sent.iter().enumerate().map(report).collect();
        marshal(&reports).expect("a compound").to_vec()
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
            let asked = packet.downcast_ref::<PictureLossIndication>().map(|pli| pli.media_ssrc);
            let asked = asked.or_else(|| {
                packet.downcast_ref::<FullIntraRequest>()?.fir.first().map(|entry| entry.ssrc)
            });
            if let Some(media) = asked {
                self.keyframe_requests.push(now);
                let mut lanes = 1..self.sent.len();
                let lane = lanes.find(|&it| ssrcs(lane_at(it))[0] == media);
                if let Some(lane) = lane {
                    self.keyframe_asked[lane - 1] = self.camera.obliges;
                }
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                for sequence in nack.nacks.iter().flat_map(|pair| pair.into_iter()) {
                    self.again(nack.media_ssrc, sequence, peer, out);
                }
            }
        }
    }

    fn again(&mut self, media: u32, sequence: u16, peer: &mut TestClient, out: &mut Vec<Vec<u8>>) {
        self.asked_again += 1;
        let place = (0..self.sent.len()).find(|&it| ssrcs(lane_at(it))[0] == media);
        let place = place.expect("it is asked for what it sends");
        let lane = lane_at(place);
        let newest_first = self.sent[place].iter().enumerate().rev();
        let found = newest_first.take(5_000).find(|(_, sent)| sent.header.sequence == sequence);
        let (index, Sent { header, payload, dependency, .. }) =
            found.expect("it is asked for what it sent");
        let dependency = dependency.as_deref();
        match self.camera.repair {
            Repair::No => {}
            Repair::Resend => {
                let named = self.named(lane, header, (RID[0], dependency), &[payload]);
                out.push(peer.seal(&named));
            }
            Repair::Rtx => {
                let rtx = Rtp {
                    payload_type: payload_types(self.camera.codec_of(lane.kind()))[1],
                    ssrc: ssrcs(lane)[1],
                    sequence: FIRST_REPAIRS[place].wrapping_add(self.repaired[place].len() as u16),
                    ..*header
                };
                let sequence = sequence.to_be_bytes();
                let payload = [sequence.as_slice(), payload];
                out.push(peer.seal(&self.named(lane, &rtx, (RID[1], dependency), &payload)));
                self.repaired[place].push(index);
            }
        }
    }
}
