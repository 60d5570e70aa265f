//! The publisher's task: sends what is due, answers feedback.

use super::track::{Ssrcs, Track};
use super::{Pacing, PublishLog, PublishOptions, Resend, Simulcast, bit};
use crate::codec::{Codec, Kind};
use crate::light::{Arrival, Event, LightPeer, LightSender};
use crate::source::{
    AudioSource, FileSource, Frame, RecordedSource, Stamp, VideoSettings, VideoSource, now_micros,
};
use crate::watched::Watched;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Packets of a recording that are due within this time of each other are sent together.
const RECORDED_TOGETHER: Duration = Duration::from_millis(1);
/// Between sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// RTCP packets kept for the owner to look at.
const RTCP_KEPT: usize = 16_384;
/// Seconds from 1900, the NTP epoch, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

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

    fn skip_frame(&mut self) {
        match self {
            Self::Synthetic(source) => source.skip_frame(),
            Self::File(source) => drop(source.next_frame()),
        }
    }

    fn request_keyframe(&mut self) {
        if let Self::Synthetic(source) = self {
            source.request_keyframe();
        }
    }
}

/// One layer of the picture, or the only one.
struct Layer {
    place: u8,
    ssrc: u32,
    pictures: Pictures,
}

/// The publisher's task.
pub(super) struct Loop {
    options: PublishOptions,
    log: Arc<Watched<PublishLog>>,
    /// The layers that stand still, a bit each.
    paused: Arc<AtomicU64>,
    sender: LightSender,
    tracks: Vec<Track>,
    /// All layers have the same times.
    layers: Vec<Layer>,
    picture_at: Instant,
    audio: Option<(AudioSource, Instant)>,
    paced: VecDeque<(Instant, rtp::Packet)>,
    /// Instead of layers and audio, with the time at which it began.
    recorded: Option<(RecordedSource, Instant)>,
    report_at: Instant,
    transport_sequence: u16,
}

impl Loop {
    /// `announced`: the sections of the offer, with their SSRCs where they have any.
    pub(super) fn new(
        peer: &LightPeer,
        options: PublishOptions,
        announced: &[(Kind, Option<u32>, Option<u32>)],
        (log, paused): (Arc<Watched<PublishLog>>, Arc<AtomicU64>),
    ) -> Self {
        let now = Instant::now();
        let mut this = Self {
            log,
            paused,
            sender: peer.sender(),
            tracks: Vec::new(),
            layers: Vec::new(),
            picture_at: now,
            audio: None,
            paced: VecDeque::new(),
            recorded: options.recorded.clone().map(|it| (RecordedSource::new(it), now)),
            report_at: now,
            transport_sequence: 0,
            options,
        };
        for (kind, ssrc, repair) in announced {
            match (kind, this.options.video) {
                (Kind::Audio, _) if this.options.audio => {
                    this.open_audio(peer, *ssrc, now);
                }
                (Kind::Video, Some(settings)) => {
                    if let Some(simulcast) = this.options.simulcast.clone() {
                        this.open_layers(peer, &simulcast, settings);
                    } else if let Some(media) = *ssrc {
                        let ssrcs = Ssrcs { media, repair: *repair };
                        this.open_layer(peer, settings, ssrcs, None);
                    }
                }
                _ => {}
            }
        }
        this
    }

    fn open_audio(&mut self, peer: &LightPeer, ssrc: Option<u32>, now: Instant) {
        let Some(ssrc) = ssrc else { return };
        let Some(payload_type) = peer.answer.payload_type(Codec::Opus) else { return };
        let source = AudioSource::new(payload_type, ssrc);
        let first = source.timestamp();
        if let Some((recorded, _)) = &mut self.recorded {
            recorded.open(Kind::Audio, payload_type, ssrc, first);
        } else {
            self.audio = Some((source, now));
        }
        self.open_track(peer, Codec::Opus, Ssrcs { media: ssrc, repair: None }, None, first);
    }

    fn open_layers(&mut self, peer: &LightPeer, simulcast: &Simulcast, settings: VideoSettings) {
        let Some(section) = peer.answer.section(Kind::Video) else { return };
        for place in simulcast.agreed(section) {
            let layer = simulcast.layers[place];
            let settings = VideoSettings {
                bitrate_bps: layer.bitrate_bps,
                size: layer.size,
                layer: place as u8,
                ..settings
            };
            let [media, repair] = Simulcast::ssrcs(place);
            let ssrcs = Ssrcs { media, repair: Some(repair) };
            self.open_layer(peer, settings, ssrcs, Some(&simulcast.rid(place)));
        }
    }

    fn open_layer(
        &mut self,
        peer: &LightPeer,
        settings: VideoSettings,
        ssrcs: Ssrcs,
        rid: Option<&str>,
    ) {
        let Some(payload_type) = peer.answer.payload_type(settings.codec) else { return };
        let ssrc = ssrcs.media;
        let pictures = match self.options.files.get(usize::from(settings.layer)) {
            Some(file) => {
                let (file, rate) = (Arc::clone(file), settings.frame_rate);
                Pictures::File(FileSource::new(file, rate, payload_type, ssrc))
            }
            None => Pictures::Synthetic(VideoSource::new(settings, payload_type, ssrc)),
        };
        let first = pictures.timestamp();
        if let Some((recorded, _)) = &mut self.recorded {
            // The recording is sent in place of what would have been made up.
            recorded.open(Kind::Video, payload_type, ssrc, first);
        } else {
            self.layers.push(Layer { place: settings.layer, ssrc, pictures });
        }
        self.open_track(peer, settings.codec, ssrcs, rid, first);
    }

    fn open_track(
        &mut self,
        peer: &LightPeer,
        codec: Codec,
        ssrcs: Ssrcs,
        rid: Option<&str>,
        first: u32,
    ) {
        let kind = codec.kind();
        let Some(section) = peer.answer.section(kind) else { return };
        let Some(payload_type) = section.payload_type(codec) else { return };
        let origin = (first, now_micros());
        self.log.update(|log| log.clocks.insert(ssrcs.media, origin));
        self.tracks.push(Track::new(section, kind, payload_type, ssrcs, rid, origin));
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
            (!self.layers.is_empty()).then_some(self.picture_at),
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
        if self.picture_at <= now {
            self.send_pictures();
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.send_reports();
        }
    }

    /// The pictures of all layers that flow.
    fn send_pictures(&mut self) {
        let paused = self.paused.load(Ordering::Relaxed);
        let Some(first) = self.layers.first() else { return };
        let (due, interval) = (self.picture_at, first.pictures.interval());
        self.picture_at += interval;
        let mut packets = Vec::new();
        for layer in &mut self.layers {
            if paused & bit(layer.place) != 0 {
                layer.pictures.skip_frame();
                continue;
            }
            let frame = layer.pictures.next_frame();
            let ssrc = layer.ssrc;
            self.log.update(|log| {
                log.keyframes += u64::from(frame.keyframe);
                *log.frames.entry(ssrc).or_default() += 1;
            });
            packets.extend(frame.packets);
        }
        self.send_frame(packets, due, interval);
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
            track.prepare(packet, &mut self.transport_sequence);
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
        let fir = any.downcast_ref::<FullIntraRequest>();
        let pli = any.downcast_ref::<PictureLossIndication>();
        if fir.is_some() || pli.is_some() {
            self.log.update(|log| log.keyframe_requests.push(at));
            let asked = |layer: &&mut Layer| {
                pli.is_some_and(|it| it.media_ssrc == layer.ssrc)
                    || fir.is_some_and(|it| it.fir.iter().any(|entry| entry.ssrc == layer.ssrc))
            };
            if self.options.answer_keyframe_requests {
                let asked = self.layers.iter_mut().filter(asked);
                asked.for_each(|layer| layer.pictures.request_keyframe());
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
        let Some(track) = track else { return };
        let again = track.repair(packet, &mut self.transport_sequence);
        let _ = self.sender.rtp(&again);
        self.log.update(|log| log.resent += 1);
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
}
