//! The publisher's task: sends what is due, answers feedback.

use super::{Pacing, PublishLog, PublishOptions, Resend};
use crate::codec::{Codec, Kind};
use crate::light::{ABS_SEND_TIME, Arrival, Event, LightPeer, LightSender, MID, TRANSPORT_CC};
use crate::source::{
    AudioSource, FileSource, Frame, RecordedSource, Stamp, VideoSource, now_micros,
};
use crate::watched::Watched;
use bytes::Bytes;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets of a recording that are due within this time of each other are sent together.
const RECORDED_TOGETHER: Duration = Duration::from_millis(1);
/// Between sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// RTCP packets kept for the owner to look at.
const RTCP_KEPT: usize = 16_384;
/// Seconds from 1900, the NTP epoch, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// What one section sends with, once the answer is known.
struct Track {
    kind: Kind,
    mid: Option<(u8, Bytes)>,
    transport_cc: Option<u8>,
    abs_send_time: Option<u8>,
    rtx: Option<Rtx>,
    packets: u32,
    octets: u32,
    /// The RTP time of the first packet, and when that is due: the media clock starts there.
    origin: (u32, u64),
    ssrc: u32,
}

struct Rtx {
    payload_type: u8,
    ssrc: u32,
    sequence_number: u16,
}

/// Where pictures come from.
enum Pictures {
    Synthetic(VideoSource),
    File(FileSource),
}

impl Pictures {
    fn timestamp(&self) -> u32 {
        match self {
            Self::Synthetic(source) => source.timestamp(),
            Self::File(source) => source.timestamp(),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Self::Synthetic(source) => source.interval(),
            Self::File(source) => source.interval(),
        }
    }

    fn next_frame(&mut self) -> Frame {
        match self {
            Self::Synthetic(source) => source.next_frame(),
            Self::File(source) => source.next_frame(),
        }
    }
}

/// The publisher's task.
pub(super) struct Loop {
    options: PublishOptions,
    log: Arc<Watched<PublishLog>>,
    sender: LightSender,
    tracks: Vec<Track>,
    video: Option<(Pictures, Instant)>,
    audio: Option<(AudioSource, Instant)>,
    paced: VecDeque<(Instant, rtp::Packet)>,
    /// Instead of the two above, with the time at which it began.
    recorded: Option<(RecordedSource, Instant)>,
    report_at: Instant,
    transport_sequence: u16,
}

impl Loop {
    pub(super) fn new(
        peer: &LightPeer,
        options: PublishOptions,
        ssrcs: Vec<(Kind, Option<u32>, Option<u32>)>,
        log: Arc<Watched<PublishLog>>,
    ) -> Self {
        let (now, start) = (Instant::now(), now_micros());
        let mut this = Self {
            log,
            sender: peer.sender(),
            tracks: Vec::new(),
            video: None,
            audio: None,
            paced: VecDeque::new(),
            recorded: options.recorded.clone().map(|it| (RecordedSource::new(it), now)),
            report_at: now,
            transport_sequence: 0,
            options,
        };
        for (kind, ssrc, rtx_ssrc) in ssrcs {
            let codec = match (kind, this.options.video) {
                (Kind::Audio, _) => Codec::Opus,
                (Kind::Video, Some(video)) => video.codec,
                (Kind::Video, None) => continue,
            };
            let Some(ssrc) = ssrc else { continue };
            let Some(payload_type) = peer.answer.payload_type(codec) else { continue };
            let first = match (kind, this.options.video) {
                (Kind::Audio, _) if this.options.audio => {
                    let source = AudioSource::new(payload_type, ssrc);
                    this.audio.insert((source, now)).0.timestamp()
                }
                (Kind::Video, Some(settings)) => {
                    let source = match &this.options.file {
                        Some(file) => {
                            let file = Arc::clone(file);
                            let rate = settings.frame_rate;
                            Pictures::File(FileSource::new(file, rate, payload_type, ssrc))
                        }
                        None => Pictures::Synthetic(VideoSource::new(settings, payload_type, ssrc)),
                    };
                    this.video.insert((source, now)).0.timestamp()
                }
                _ => continue,
            };
            if let Some((source, _)) = &mut this.recorded {
                // The recording is sent in place of what would have been made up.
                (this.video, this.audio) = (None, None);
                source.open(kind, payload_type, ssrc, first);
            }
            let origin = (first, start);
            this.log.update(|log| log.clocks.insert(ssrc, origin));
            this.tracks.extend(track(peer, kind, payload_type, ssrc, rtx_ssrc, origin));
        }
        this
    }

    pub(super) async fn run(mut self, mut peer: LightPeer) -> LightPeer {
        loop {
            let now = Instant::now();
            self.send_due(now);
            let deadline = self.deadline().unwrap_or(now + REPORT_INTERVAL);
            tokio::select! {
                arrival = peer.next() => match arrival {
                    Some(arrival) => self.take(arrival),
                    None => return peer,
                },
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.video.as_ref().map(|(_, at)| *at),
            self.audio.as_ref().map(|(_, at)| *at),
            self.paced.front().map(|(at, _)| *at),
            self.recorded.as_ref().map(|(source, start)| *start + source.due()),
            Some(self.report_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn send_due(&mut self, now: Instant) {
        while let Some((_, packet)) = self.paced.pop_front_if(|(at, _)| *at <= now) {
            self.send(vec![packet]);
        }
        self.send_recorded(now);
        if let Some((source, at)) = &mut self.audio
            && *at <= now
        {
            *at += source.interval();
            let packet = source.next_packet();
            self.send(vec![packet]);
        }
        if let Some((source, at)) = &mut self.video
            && *at <= now
        {
            let (due, interval) = (*at, source.interval());
            *at += interval;
            let frame = source.next_frame();
            self.log.update(|log| log.keyframes += u64::from(frame.keyframe));
            self.send_frame(frame.packets, due, interval);
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.send_reports();
        }
    }

    fn send_frame(&mut self, packets: Vec<rtp::Packet>, due: Instant, interval: Duration) {
        let spread = match self.options.pacing {
            Pacing::Burst => return self.send(packets),
            Pacing::Paced => interval / 2,
            Pacing::Over(spread) => spread,
        };
        let step = spread / u32::try_from(packets.len().max(1)).unwrap_or(u32::MAX);
        let times = (0..).map(|place| due + step * place);
        self.paced.extend(times.zip(packets));
    }

    /// Sends what the recording holds for now; what follows within a millisecond goes along.
    fn send_recorded(&mut self, now: Instant) {
        let Some((source, start)) = &mut self.recorded else { return };
        let mut packets = Vec::new();
        if *start + source.due() <= now {
            while *start + source.due() <= now + RECORDED_TOGETHER {
                packets.extend(source.next_packets());
            }
        }
        let keyframes = source.keyframes;
        if !packets.is_empty() {
            self.log.update(|log| log.keyframes = keyframes);
            self.send(packets);
        }
    }

    /// Sends packets back to back, each with the present time in its stamp.
    fn send(&mut self, mut packets: Vec<rtp::Packet>) {
        let mut ready = Vec::with_capacity(packets.len());
        let mut withheld = Vec::new();
        packets.retain_mut(|packet| {
            let track = self.tracks.iter_mut().find(|it| it.ssrc == packet.header.ssrc);
            let Some(track) = track else { return false };
            Stamp::refresh(packet);
            track.packets = track.packets.wrapping_add(1);
            track.octets = track.octets.wrapping_add(packet.payload.len() as u32);
            write_extensions(packet, track, &mut self.transport_sequence);
            if self.options.withhold.as_ref().is_some_and(|picks| picks(packet)) {
                withheld.push((packet.header.ssrc, packet.header.sequence_number));
            } else {
                ready.push(packet.clone());
            }
            true
        });
        // Before DTLS is done there is no loop, and afterwards sealing does not fail.
        let _ = self.sender.rtp_burst(&ready);
        let history = self.options.history;
        self.log.update(|log| {
            log.packets += packets.len() as u64;
            log.withheld.append(&mut withheld);
            log.sent.extend(packets);
            while log.sent.len() > history {
                log.sent.pop_front();
            }
        });
    }

    /// RFC 3550 §6.4.1: the same clock for both tracks is what keeps lips in step.
    fn send_reports(&self) {
        let now = now_micros();
        let reports: Vec<Box<dyn rtc_rtcp::Packet>> = self
            .tracks
            .iter()
            .filter(|track| track.packets > 0)
            .map(|track| -> Box<dyn rtc_rtcp::Packet> {
                let (rtp_time, start) = track.origin;
                let rate = if track.kind == Kind::Audio { 48 } else { 90 };
                let since = now.saturating_sub(start) * rate / 1_000;
                Box::new(SenderReport {
                    ssrc: track.ssrc,
                    ntp_time: ntp(now),
                    rtp_time: rtp_time.wrapping_add(since as u32),
                    packet_count: track.packets,
                    octet_count: track.octets,
                    ..Default::default()
                })
            })
            .collect();
        if !reports.is_empty() {
            let _ = self.sender.rtcp(&reports);
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival.event {
            Event::Rtcp(packets) => {
                for packet in packets {
                    self.take_rtcp(arrival.at, packet);
                }
            }
            Event::Closed(reason) => self.log.update(|log| log.closed = Some(reason)),
            Event::Connected(_) | Event::Rtp(_) => {}
        }
    }

    fn take_rtcp(&mut self, at: Instant, packet: Box<dyn rtc_rtcp::Packet>) {
        let any = packet.as_any();
        if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>() {
            self.log.update(|log| log.keyframe_requests.push(at));
            if let Some((Pictures::Synthetic(source), _)) = &mut self.video
                && self.options.answer_keyframe_requests
            {
                source.request_keyframe();
            }
        }
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let numbers: Vec<u16> = nack.nacks.iter().flat_map(NackPair::packet_list).collect();
            let ssrc = nack.media_ssrc;
            for number in numbers {
                self.log.update(|log| *log.nacks.entry((ssrc, number)).or_default() += 1);
                self.resend(ssrc, number);
            }
        }
        self.log.update(|log| {
            log.rtcp.push_back((at, packet));
            if log.rtcp.len() > RTCP_KEPT {
                log.rtcp.pop_front();
            }
        });
    }

    fn resend(&mut self, ssrc: u32, number: u16) {
        if self.options.resend == Resend::Never {
            return;
        }
        let found = self.log.read(|log| {
            let wanted =
                |it: &&rtp::Packet| it.header.ssrc == ssrc && it.header.sequence_number == number;
            log.sent.iter().rev().find(wanted).cloned()
        });
        let Some(packet) = found else { return };
        let track = self.tracks.iter_mut().find(|it| it.ssrc == ssrc);
        let again = match track.and_then(|track| track.rtx.as_mut()) {
            Some(rtx) => wrap(packet, rtx),
            None => packet,
        };
        let _ = self.sender.rtp(&again);
        self.log.update(|log| log.resent += 1);
    }
}

fn track(
    peer: &LightPeer,
    kind: Kind,
    payload_type: u8,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    origin: (u32, u64),
) -> Option<Track> {
    let section = peer.answer.section(kind)?;
    let rtx = rtx_ssrc.zip(section.rtx_of(payload_type)).map(|(ssrc, payload_type)| Rtx {
        payload_type,
        ssrc,
        sequence_number: 65_530,
    });
    let mid = Bytes::copy_from_slice(section.mid.as_bytes());
    Some(Track {
        kind,
        mid: section.extension(MID).map(|id| (id, mid)),
        transport_cc: section.extension(TRANSPORT_CC),
        abs_send_time: section.extension(ABS_SEND_TIME),
        rtx,
        packets: 0,
        octets: 0,
        origin,
        ssrc,
    })
}

/// RFC 4588 §4: the original sequence number before the original payload.
fn wrap(packet: rtp::Packet, rtx: &mut Rtx) -> rtp::Packet {
    let original = packet.header.sequence_number.to_be_bytes();
    let payload = [&original[..], &packet.payload].concat();
    let header = rtp::Header {
        payload_type: rtx.payload_type,
        ssrc: rtx.ssrc,
        sequence_number: rtx.sequence_number,
        ..packet.header
    };
    rtx.sequence_number = rtx.sequence_number.wrapping_add(1);
    rtp::Packet { header, payload: Bytes::from(payload) }
}

fn write_extensions(packet: &mut rtp::Packet, track: &Track, transport_sequence: &mut u16) {
    let header = &mut packet.header;
    // An id beyond the one-byte form cannot be written; the packet goes without.
    if let Some((id, mid)) = &track.mid {
        let _ = header.set_extension(*id, mid.clone());
    }
    if let Some(id) = track.abs_send_time {
        // 24 bits of seconds, 18 of them fraction.
        let time = (u128::from(now_micros()) << 18) / 1_000_000;
        let bytes = ((time & 0x00FF_FFFF) as u32).to_be_bytes();
        let _ = header.set_extension(id, Bytes::copy_from_slice(&bytes[1..]));
    }
    if let Some(id) = track.transport_cc {
        let number = transport_sequence.to_be_bytes();
        *transport_sequence = transport_sequence.wrapping_add(1);
        let _ = header.set_extension(id, Bytes::copy_from_slice(&number));
    }
}

/// Microseconds since 1970 as an NTP timestamp (RFC 5905 §6).
fn ntp(micros: u64) -> u64 {
    let seconds = micros / 1_000_000 + NTP_TO_UNIX_SECONDS;
    let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
    (seconds << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_starts_in_1900() {
        assert_eq!(ntp(0) >> 32, NTP_TO_UNIX_SECONDS);
        assert_eq!(ntp(500_000) as u32, 1 << 31);
    }

    #[test]
    fn a_retransmission_carries_the_original_number() {
        let mut rtx = Rtx { payload_type: 103, ssrc: 2, sequence_number: 9 };
        let header = rtp::Header { sequence_number: 0x1234, ssrc: 1, ..Default::default() };
        let packet = rtp::Packet { header, payload: Bytes::from_static(b"x") };
        let wrapped = wrap(packet, &mut rtx);
        assert_eq!((wrapped.header.ssrc, wrapped.header.sequence_number), (2, 9));
        assert_eq!(&wrapped.payload[..], b"\x12\x34x");
    }
}
