//! One viewer of thousands: the agent that keeps its association, and its streams.

use super::inbox::{self, Inbox};
use super::keystream::Keystream;
use super::stats::{Counts, Flow};
use super::track::{Format, Header, Sample, Track};
use crate::codec::Codec;
use crate::layers::LayerReport;
use crate::light::{
    Agent, AgentConfig, Answer, Event, Feedback, Identity, LightError, MediaKeys, SrtpProfile,
    Transport, TransportFeedback,
};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Between receiver reports, as browsers send them for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between looks for holes to ask for.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// How far back holes are asked for, and how many at once.
const NACK_REACH: u64 = 500;
const NACK_MAX: usize = 64;
/// How long ICE and DTLS may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Streams of one viewer: audio and video, and those of a publisher that came back.
const TRACKS_MAX: usize = 6;

/// What the HTTP side settled for one viewer.
#[derive(Debug)]
pub(super) struct Invitation {
    /// Whom it is reported with.
    pub(super) group: usize,
    /// Our ICE user fragment and password.
    pub(super) local: (String, String),
    /// The server's answer.
    pub(super) answer: Answer,
    /// What it tells of how packets arrive.
    pub(super) feedback: Feedback,
    /// When the offer was posted, in nanoseconds since the Unix epoch.
    pub(super) posted: i64,
}

/// When a viewer got how far, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) posted: i64,
    pub(super) connected: Option<i64>,
    pub(super) first_packet: Option<i64>,
    pub(super) first_keyframe: Option<i64>,
    /// Its last packet.
    pub(super) first_frame: Option<i64>,
}

/// Where a viewer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// ICE or DTLS is under way.
    Connecting,
    /// Media may flow.
    Watching,
    /// It is over, for this reason.
    Over(String),
}

/// A viewer with its socket.
pub(super) struct Viewer {
    pub(super) group: usize,
    pub(super) socket: UdpSocket,
    pub(super) endpoint: Endpoint,
}

impl Viewer {
    /// A viewer whose first check is due at once.
    pub(super) fn new(
        invitation: Invitation,
        identity: &Identity,
        nack: bool,
        now: Instant,
    ) -> Result<Self, LightError> {
        let server = invitation.answer.candidates.first().copied();
        let server = server.ok_or(LightError::NoCandidate(Transport::Udp))?;
        Ok(Self {
            group: invitation.group,
            socket: inbox::connected(server)?,
            endpoint: Endpoint::new(invitation, server, identity, nack, now)?,
        })
    }

    /// Takes in one batch; returns whether more may wait.
    pub(super) fn receive(
        &mut self,
        inbox: &mut Inbox,
        flow: &mut Flow,
        now: Instant,
        mut note: impl FnMut(Sample),
    ) -> io::Result<bool> {
        let count = inbox.receive(&self.socket, |bytes, at| {
            if let Some(sample) = self.endpoint.take(bytes, at, flow, now) {
                note(sample);
            }
        })?;
        self.flush();
        Ok(count == inbox::BATCH)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for sealed in self.endpoint.handle_timeout(now) {
            let _ = self.socket.send(&sealed);
        }
        self.flush();
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        self.endpoint.agent.close(now);
        self.flush();
    }

    /// Sends what the agent has queued. A full send buffer is a lost packet, as on any network.
    fn flush(&mut self) {
        while let Some(datagram) = self.endpoint.agent.poll_transmit() {
            let _ = self.socket.send(&datagram);
        }
    }
}

/// All of a viewer but its socket.
pub(super) struct Endpoint {
    pub(super) times: Times,
    pub(super) state: State,
    tracks: Vec<Track>,
    formats: Vec<(u8, Format)>,
    agent: Agent,
    keys: Option<Keystream>,
    /// When it gives up connecting, then when the next receiver report is due.
    next_step: Instant,
    nack_at: Option<Instant>,
    feedback: Feedback,
    /// The extension with the numbers, what came of them, and when that is due to be told.
    arrivals: Option<(u8, TransportFeedback, Instant)>,
    /// Packets that came by retransmission.
    recovered: u64,
}

impl Endpoint {
    fn new(
        invitation: Invitation,
        server: std::net::SocketAddr,
        identity: &Identity,
        nack: bool,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let Invitation { local, answer, posted, feedback, .. } = invitation;
        let payloads = answer.sections.iter().flat_map(|section| &section.payloads);
        let formats = payloads.filter_map(|payload| {
            let codec = Codec::from_rtpmap(&payload.rtpmap).map(Format::Media);
            Some((payload.payload_type, codec.or(payload.apt().map(Format::Repair))?))
        });
        let formats = formats.collect();
        let arrivals = feedback.arrivals(&answer);
        let config = AgentConfig {
            identity: identity.clone(),
            role: answer.role,
            profiles: vec![SrtpProfile::Gcm, SrtpProfile::Cm80],
            local,
            remote: (answer.ufrag, answer.password),
            remote_fingerprint: Some(answer.fingerprint),
            server,
        };
        Ok(Self {
            times: Times { posted, ..Times::default() },
            state: State::Connecting,
            tracks: Vec::with_capacity(2),
            formats,
            agent: Agent::new(config, now)?,
            keys: None,
            next_step: now + CONNECT_WITHIN,
            nack_at: nack.then_some(now),
            feedback,
            arrivals: arrivals.map(|(id, arrivals)| (id, arrivals, now)),
            recovered: 0,
        })
    }

    /// Takes a datagram that arrived at `at`; returns the stamp of a video packet.
    #[inline]
    fn take(&mut self, bytes: &[u8], at: i64, flow: &mut Flow, now: Instant) -> Option<Sample> {
        match bytes {
            // RFC 5761 §4: these would be payload types 64 to 95.
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => return self.take_media(bytes, at, flow),
            _ => self.take_control(bytes, at, now),
        }
        None
    }

    fn take_media(&mut self, bytes: &[u8], at: i64, flow: &mut Flow) -> Option<Sample> {
        let header = Header::read(bytes)?;
        let micros = at / 1_000;
        if let Some((id, arrivals, _)) = &mut self.arrivals
            && let Some(&[high, low]) = header.extension(*id)
        {
            arrivals.note(u16::from_be_bytes([high, low]), micros);
        }
        let index = self.track_of(&header)?;
        let (track, keys) = (self.tracks.get_mut(index)?, self.keys.as_ref()?);
        flow.packets += 1;
        flow.bytes += bytes.len() as u64;
        if let Format::Repair(of) = track.format {
            let repaired = track.take_repair(&header, keys)?;
            let media = self.tracks.iter_mut().find(|track| track.payload_type == of)?;
            let was_missing = media.take_repaired(&header, repaired, micros.cast_unsigned());
            self.recovered += u64::from(was_missing);
            return None;
        }
        let video = track.format.is_video();
        let look = video && self.times.first_keyframe.is_none();
        let seen = track.take(&header, keys, look, micros.cast_unsigned());
        if let Some(sample) = seen.sample {
            let micros = u64::try_from(micros - sample.stamp.sent_micros.cast_signed());
            let micros = micros.unwrap_or(0);
            flow.latency.add(micros);
            if video && seen.marker {
                flow.frame_latency.add(micros);
            }
        }
        self.times.first_packet.get_or_insert(at);
        if seen.keyframe {
            self.times.first_keyframe = Some(at);
        }
        if seen.first_frame {
            self.times.first_frame.get_or_insert(at);
        }
        seen.sample.filter(|_| video)
    }

    /// The stream that a packet belongs to; what comes before the keys belongs to none.
    fn track_of(&mut self, header: &Header<'_>) -> Option<usize> {
        let found = self.tracks.iter().position(|track| track.ssrc == header.ssrc);
        if found.is_some() || self.keys.is_none() || self.tracks.len() == TRACKS_MAX {
            return found;
        }
        let number = header.payload_type;
        let (_, format) = self.formats.iter().find(|(it, _)| *it == number)?;
        self.tracks.push(Track::new(header.ssrc, number, *format));
        Some(self.tracks.len() - 1)
    }

    fn take_control(&mut self, bytes: &[u8], at: i64, now: Instant) {
        self.agent.handle(bytes, now);
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Connected(_) => self.connected(at, now),
                Event::Closed(reason) => self.state = State::Over(reason),
                Event::Rtp(_) | Event::Rtcp(_) => {}
            }
        }
    }

    fn connected(&mut self, at: i64, now: Instant) {
        let keys = self.agent.inbound_keys();
        self.keys =
            keys.and_then(|MediaKeys { profile, key, salt }| Keystream::new(*profile, key, salt));
        if self.keys.is_none() {
            self.state = State::Over("keys of an unknown form".to_owned());
            return;
        }
        self.state = State::Watching;
        self.times.connected = Some(at);
        self.next_step = now + REPORT_INTERVAL;
    }

    /// Does what is due, and returns the RTCP to be sent.
    fn handle_timeout(&mut self, now: Instant) -> Vec<bytes::Bytes> {
        let mut sealed = Vec::new();
        if matches!(self.state, State::Over(_)) {
            return sealed;
        }
        self.agent.handle_timeout(now);
        if self.next_step <= now {
            if self.state == State::Connecting {
                self.state = State::Over(format!("not connected within {CONNECT_WITHIN:?}"));
                return sealed;
            }
            // A generator that came late does not send two at once.
            self.next_step = now.max(self.next_step + REPORT_INTERVAL / 2) + REPORT_INTERVAL / 2;
            sealed.extend(self.report());
        }
        if self.nack_at.is_some_and(|at| at <= now) {
            self.nack_at = Some(now + NACK_INTERVAL);
            sealed.extend(self.nacks());
        }
        if let Some((_, arrivals, at)) = &mut self.arrivals
            && *at <= now
        {
            *at = now + Feedback::INTERVAL;
            let media = self.tracks.iter().find(|track| track.format.is_video());
            let report = arrivals.report(1, media.map_or(0, |track| track.ssrc));
            sealed.extend(report.and_then(|report| self.agent.protect_raw_rtcp(&report).ok()));
        }
        sealed
    }

    /// When [`Endpoint::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if matches!(self.state, State::Over(_)) {
            return None;
        }
        let feedback_at = self.arrivals.as_ref().map(|(_, _, at)| *at);
        let due = [Some(self.next_step), self.nack_at, feedback_at, self.agent.deadline()];
        due.into_iter().flatten().min()
    }

    /// RFC 3550 §6.4.2; losses over the whole stay, without the interval's fraction.
    fn report(&mut self) -> Option<bytes::Bytes> {
        let reports: Vec<ReceptionReport> = self
            .tracks
            .iter()
            .filter(|track| matches!(track.format, Format::Media(_)))
            .map(|track| ReceptionReport {
                ssrc: track.ssrc,
                total_lost: track.window.lost().min(0x007F_FFFF) as u32,
                last_sequence_number: track.window.highest(),
                ..Default::default()
            })
            .collect();
        if reports.is_empty() {
            return None;
        }
        let ssrcs = reports.iter().map(|report| report.ssrc).collect();
        let report = ReceiverReport { ssrc: 1, reports, ..Default::default() };
        let mut compound: Vec<Box<dyn rtc_rtcp::Packet>> = vec![Box::new(report)];
        compound.extend(self.feedback.estimate(1, ssrcs));
        self.agent.protect_rtcp(&compound).ok()
    }

    fn nacks(&mut self) -> Vec<bytes::Bytes> {
        let Self { tracks, agent, .. } = self;
        let video = tracks.iter().filter(|track| track.format.is_video());
        video
            .filter_map(|track| {
                let holes: Vec<u16> = track.window.holes(NACK_REACH).take(NACK_MAX).collect();
                if holes.is_empty() {
                    return None;
                }
                let nacks = nack_pairs_from_sequence_numbers(&holes);
                let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: track.ssrc, nacks };
                agent.protect_rtcp(&[Box::new(nack)]).ok()
            })
            .collect()
    }

    /// The newest picture it has.
    pub(super) fn newest(&self) -> Option<Sample> {
        let video = self.tracks.iter().filter(|track| track.format.is_video());
        video.filter_map(|track| track.newest).max_by_key(|sample| sample.stamp.sent_micros)
    }

    /// What it saw of its publisher's layers.
    pub(super) fn layers(&self) -> Option<&LayerReport> {
        let video = self.tracks.iter().filter(|track| track.format.is_video());
        video
            .map(|track| track.layers.report())
            .max_by_key(|report| report.stays.last().map(|stay| stay.to_micros))
    }

    /// What its streams counted.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { recovered: self.recovered, ..Counts::default() };
        let media = self.tracks.iter().filter(|track| matches!(track.format, Format::Media(_)));
        for window in media.map(|track| &track.window) {
            counts.received += window.received();
            counts.lost += window.lost();
            counts.duplicates += window.duplicates();
            counts.reordered += window.reordered();
        }
        counts
    }
}
