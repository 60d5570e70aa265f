//! Watches a stream by WHEP.

use crate::codec::{Codec, Kind};
use crate::http::{Signaling, SignalingError};
use crate::layers::LayerReport;
use crate::light::{
    Agent, Answer, Arrival, Event, Feedback, LightOptions, LightPeer, LightSender, Offer,
    SrtpProfile, TransportFeedback,
};
use crate::probe::{Probe, StreamSummary};
use crate::watched::Watched;
use bytes::Bytes;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long ICE and DTLS may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between NACKs for the same hole.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// Holes one NACK asks for.
const NACK_MAX: usize = 128;
/// RTCP packets kept for the owner to look at.
const RTCP_KEPT: usize = 4_096;

/// Picks packets: those that are to count as lost on the way in.
pub type Lose = Arc<dyn Fn(&rtp::Packet) -> bool + Send + Sync>;

/// How a viewer behaves.
#[derive(Clone)]
pub struct ViewOptions {
    /// The offer, where it is to differ from a browser's.
    pub offer: Option<Offer>,
    /// Certificate, profiles, relay.
    pub light: LightOptions,
    /// Whether holes are asked for.
    pub nack: bool,
    /// Whether receiver reports are sent.
    pub reports: bool,
    /// What is told of how packets arrive; nothing else is offered.
    pub feedback: Feedback,
    /// Packets kept for the owner to compare with what went in; 0 for none.
    pub keep: usize,
    /// What is lost.
    pub lose: Option<Lose>,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            offer: None,
            light: LightOptions::default(),
            nack: true,
            reports: true,
            feedback: Feedback::None,
            keep: 0,
            lose: None,
        }
    }
}

/// A packet as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// The packet; a retransmission is already unwrapped.
    pub packet: rtp::Packet,
    /// The header of the RTX packet it came in (RFC 4588), if it did.
    pub rtx: Option<rtp::Header>,
}

/// What a viewer saw so far.
#[derive(Debug, Default)]
pub struct ViewLog {
    /// Counts per RTP stream.
    pub probe: Probe,
    /// The last packets, oldest first, as far as they are kept.
    pub received: VecDeque<Received>,
    /// Packets lost on purpose: SSRC and sequence number.
    pub lost: Vec<(u32, u16)>,
    /// Packets asked for.
    pub nacked: u64,
    /// RTCP that came in, oldest first.
    pub rtcp: VecDeque<(Instant, Box<dyn rtc_rtcp::Packet>)>,
    /// Why it is over, once it is.
    pub closed: Option<String>,
}

impl ViewLog {
    /// The RTCP packets of one type.
    pub fn rtcp_of<T: 'static>(&self) -> impl Iterator<Item = &T> {
        self.rtcp.iter().filter_map(|(_, packet)| packet.as_any().downcast_ref())
    }

    /// The kept packets with this payload type.
    pub fn of_payload_type(&self, payload_type: u8) -> impl Iterator<Item = &Received> {
        let wanted = move |it: &&Received| it.packet.header.payload_type == payload_type;
        self.received.iter().filter(wanted)
    }
}

/// A live viewer. Dropping it falls silent; [`WhepClient::end`] says so.
pub struct WhepClient {
    log: Arc<Watched<ViewLog>>,
    sender: LightSender,
    task: JoinHandle<LightPeer>,
    signaling: Signaling,
    session_url: String,
    layer_url: Option<String>,
    /// The server's answer.
    pub answer: Answer,
    /// The SRTP profile that DTLS agreed.
    pub profile: SrtpProfile,
}

impl WhepClient {
    /// Posts an offer and waits for DTLS.
    ///
    /// # Errors
    ///
    /// When the server refuses, or does not connect in time.
    pub async fn view(
        signaling: &Signaling,
        url: &str,
        options: ViewOptions,
    ) -> anyhow::Result<Self> {
        let default = || Offer::view().congestion(options.feedback);
        let offer = options.offer.clone().unwrap_or_else(default);
        let mut peer = LightPeer::start(signaling, url, offer, options.light.clone()).await?;
        let profile = peer.connected(CONNECT_WITHIN).await?;
        let log = Arc::new(Watched::new(ViewLog::default()));
        let (answer, session_url) = (peer.answer.clone(), peer.session.url.clone());
        let layer_url = peer.session.layer_url.clone();
        let sender = peer.sender();
        let now = Instant::now();
        let state = Loop {
            rtx: rtx_formats(&answer),
            log: log.clone(),
            sender: sender.clone(),
            media_ssrcs: HashMap::new(),
            arrivals: options.feedback.arrivals(&answer),
            started: now,
            feedback_at: now + Feedback::INTERVAL,
            nack_at: now,
            report_at: now + REPORT_INTERVAL,
            options,
        };
        let task = tokio::spawn(state.run(peer));
        let signaling = signaling.clone();
        Ok(Self { log, sender, task, signaling, session_url, layer_url, answer, profile })
    }

    /// What it saw.
    pub fn log(&self) -> &Watched<ViewLog> {
        &self.log
    }

    /// Counts per SSRC.
    pub fn summary(&self) -> BTreeMap<u32, StreamSummary> {
        self.log.read(|log| log.probe.summary())
    }

    /// Counts of the stream that carries a codec.
    pub fn summary_of(&self, codec: Codec) -> Option<StreamSummary> {
        let payload_type = self.answer.payload_type(codec)?;
        self.summary().into_values().find(|stream| stream.payload_type == payload_type)
    }

    /// What it saw of its publisher's layers.
    pub fn layers(&self) -> LayerReport {
        let payloads = self.answer.section(Kind::Video).into_iter().flat_map(|it| &it.payloads);
        let numbers: Vec<u8> = payloads.map(|payload| payload.payload_type).collect();
        self.log.read(|log| log.probe.layers(&numbers).cloned().unwrap_or_default())
    }

    /// Sends what the owner wants sent.
    pub fn sender(&self) -> &LightSender {
        &self.sender
    }

    /// Asks for a keyframe of a stream (RFC 4585 §6.3.1).
    ///
    /// # Errors
    ///
    /// Never once connected.
    pub fn request_keyframe(&self, media_ssrc: u32) -> anyhow::Result<()> {
        self.sender.rtcp(&[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })])
    }

    /// Asks for packets again (RFC 4585 §6.2.1).
    ///
    /// # Errors
    ///
    /// Never once connected.
    pub fn nack(&self, media_ssrc: u32, numbers: &[u16]) -> anyhow::Result<()> {
        let nacks = nack_pairs_from_sequence_numbers(numbers);
        self.sender.rtcp(&[Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })])
    }

    /// The session's URL.
    pub fn session_url(&self) -> &str {
        &self.session_url
    }

    /// Chooses a layer, or sets a ceiling: JSON of the layer extension.
    ///
    /// # Errors
    ///
    /// [`SignalingError`]; also where the server has no such extension.
    pub async fn choose(&self, choice: &str) -> Result<(), SignalingError> {
        self.signaling.choose(self.layer_url.as_deref(), choice).await
    }

    /// Stops and deletes the session.
    ///
    /// # Errors
    ///
    /// When the server refuses the DELETE.
    pub async fn end(self) -> Result<(), SignalingError> {
        self.task.abort();
        // Closing DTLS would end the session too, and leave nothing to delete.
        let deleted = self.signaling.delete(&self.session_url).await;
        self.sender.with_agent(|agent| agent.close(Instant::now()));
        deleted
    }
}

impl Drop for WhepClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// RTX payload type -> the payload type it retransmits.
fn rtx_formats(answer: &Answer) -> HashMap<u8, u8> {
    let payloads = answer.sections.iter().flat_map(|section| &section.payloads);
    payloads.filter_map(|payload| Some((payload.payload_type, payload.apt()?))).collect()
}

/// The viewer's task.
struct Loop {
    options: ViewOptions,
    log: Arc<Watched<ViewLog>>,
    sender: LightSender,
    rtx: HashMap<u8, u8>,
    /// Payload type -> the SSRC it came on.
    media_ssrcs: HashMap<u8, u32>,
    /// The extension with the numbers, and what came of them since the start.
    arrivals: Option<(u8, TransportFeedback)>,
    started: Instant,
    feedback_at: Instant,
    nack_at: Instant,
    report_at: Instant,
}

impl Loop {
    async fn run(mut self, mut peer: LightPeer) -> LightPeer {
        loop {
            let deadline = self.nack_at.min(self.report_at).min(self.feedback_at);
            tokio::select! {
                arrival = peer.next() => match arrival {
                    Some(arrival) => self.take(arrival),
                    None => return peer,
                },
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            self.send_due(Instant::now());
        }
    }

    fn send_due(&mut self, now: Instant) {
        if self.nack_at <= now {
            self.nack_at = now + NACK_INTERVAL;
            for ssrc in self.media_ssrcs.values() {
                let holes = self.log.read(|log| log.probe.missing(*ssrc));
                self.nack(*ssrc, holes);
            }
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.report();
        }
        if self.feedback_at <= now {
            self.feedback_at = now + Feedback::INTERVAL;
            let ssrc = self.media_ssrcs.values().next().copied().unwrap_or(0);
            let report = self.arrivals.as_mut().and_then(|(_, it)| it.report(1, ssrc));
            if let Some(report) = report {
                let seal = |agent: &mut Agent| agent.protect_raw_rtcp(&report);
                if let Ok(sealed) = self.sender.with_agent(seal) {
                    self.sender.datagram(&sealed);
                }
            }
        }
    }

    fn nack(&self, media_ssrc: u32, mut numbers: Vec<u16>) {
        if !self.options.nack || numbers.is_empty() {
            return;
        }
        numbers.truncate(NACK_MAX);
        self.log.update(|log| log.nacked += numbers.len() as u64);
        let nacks = nack_pairs_from_sequence_numbers(&numbers);
        // Packets came, so there is an association; sealing does not fail.
        let _ =
            self.sender.rtcp(&[Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })]);
    }

    fn report(&self) {
        let summary = self.log.read(|log| log.probe.summary());
        if !self.options.reports || summary.is_empty() {
            return;
        }
        let reports = summary.values().map(|stream| self.reception(stream)).collect();
        let report = ReceiverReport { ssrc: 1, reports, ..Default::default() };
        let mut compound: Vec<Box<dyn rtc_rtcp::Packet>> = vec![Box::new(report)];
        compound.extend(self.options.feedback.estimate(1, summary.keys().copied().collect()));
        let _ = self.sender.rtcp(&compound);
    }

    fn reception(&self, stream: &StreamSummary) -> ReceptionReport {
        let highest = self.log.read(|log| log.probe.highest(stream.ssrc));
        ReceptionReport {
            ssrc: stream.ssrc,
            total_lost: u32::try_from(stream.lost).unwrap_or(0x00FF_FFFF).min(0x007F_FFFF),
            last_sequence_number: highest.unwrap_or(0),
            ..Default::default()
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival.event {
            Event::Rtp(packet) => self.take_rtp(arrival.at, packet),
            Event::Rtcp(packets) => self.log.update(|log| {
                log.rtcp.extend(packets.into_iter().map(|packet| (arrival.at, packet)));
                let surplus = log.rtcp.len().saturating_sub(RTCP_KEPT);
                log.rtcp.drain(..surplus);
            }),
            Event::Closed(reason) => self.log.update(|log| log.closed = Some(reason)),
            Event::Connected(_) => {}
        }
    }

    fn take_rtp(&mut self, at: Instant, packet: rtp::Packet) {
        if let Some((id, arrivals)) = &mut self.arrivals
            && let Some(Ok(number)) =
                packet.header.get_extension(*id).map(|it| <[u8; 2]>::try_from(&it[..]))
        {
            let since = at.saturating_duration_since(self.started).as_micros();
            arrivals.note(u16::from_be_bytes(number), since as i64);
        }
        let Some((packet, rtx)) = self.unwrap(packet) else { return };
        let header = &packet.header;
        if rtx.is_none() {
            self.media_ssrcs.insert(header.payload_type, header.ssrc);
        }
        if self.options.lose.as_ref().is_some_and(|picks| rtx.is_none() && picks(&packet)) {
            let lost = (header.ssrc, header.sequence_number);
            self.log.update(|log| log.lost.push(lost));
            return;
        }
        let (ssrc, keep) = (header.ssrc, self.options.keep);
        let fresh = self.log.update(|log| {
            let fresh = log.probe.take(&packet, at, rtx.is_some());
            if keep > 0 {
                log.received.push_back(Received { at, packet, rtx });
                if log.received.len() > keep {
                    log.received.pop_front();
                }
            }
            fresh
        });
        self.nack(ssrc, fresh);
    }

    /// Takes a retransmission out of its RTX packet (RFC 4588 §4); others stay as they are.
    ///
    /// An RTX packet without a payload is padding and gives nothing.
    fn unwrap(&self, packet: rtp::Packet) -> Option<(rtp::Packet, Option<rtp::Header>)> {
        let Some(original) = self.rtx.get(&packet.header.payload_type) else {
            return Some((packet, None));
        };
        let (number, payload) = packet.payload.split_first_chunk()?;
        let header = rtp::Header {
            payload_type: *original,
            ssrc: *self.media_ssrcs.get(original)?,
            sequence_number: u16::from_be_bytes(*number),
            ..packet.header.clone()
        };
        let payload = Bytes::copy_from_slice(payload);
        Some((rtp::Packet { header, payload }, Some(packet.header)))
    }
}
