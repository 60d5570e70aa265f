//! Publishes a synthetic stream by WHIP.
//!
//! - `simulcast`: several layers of one picture
//! - `task`: sends what is due, answers feedback
//! - `track`: what one RTP stream is sent with

mod simulcast;
mod task;
mod track;

pub use simulcast::{LayerSettings, Like, Simulcast};

use crate::http::{Signaling, SignalingError};
use crate::light::{
    Answer, Direction, LightError, LightOptions, LightPeer, LightSender, Offer, SrtpProfile,
    publish_audio, publish_video,
};
use crate::source::{AnnexB, Recording, VideoSettings};
use crate::watched::Watched;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long ICE and DTLS may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Picks packets: those that are to be withheld.
pub type Withhold = Arc<dyn Fn(&rtp::Packet) -> bool + Send + Sync>;

/// When a frame's packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// All at once, as ffmpeg and OBS send.
    Burst,
    /// Spread over half the frame interval, as browsers do.
    Paced,
    /// Spread over this long.
    Over(Duration),
}

/// How a NACK is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// On the RTX SSRC where that was agreed, else as it was.
    Agreed,
    /// Not at all.
    Never,
}

/// What is published.
#[derive(Clone)]
pub struct PublishOptions {
    /// The picture; none for audio only.
    pub video: Option<VideoSettings>,
    /// Layers of that picture instead of one, with sizes and rates of their own.
    pub simulcast: Option<Simulcast>,
    /// Pictures from files instead, at the frame rate of `video`: one for each layer.
    pub files: Vec<Arc<AnnexB>>,
    /// Sizes and times to send instead of those made up, of H.264 and Opus; the two fields around
    /// this one then say only what is offered.
    pub recorded: Option<Recording>,
    /// Whether there is sound.
    pub audio: bool,
    /// When packets leave.
    pub pacing: Pacing,
    /// How a NACK is answered.
    pub resend: Resend,
    /// Whether a PLI or FIR brings a keyframe; OBS ignores them.
    pub answer_keyframe_requests: bool,
    /// Certificate, profiles, relay.
    pub light: LightOptions,
    /// The offer, where it is to differ from a browser's.
    pub offer: Option<Offer>,
    /// Packets kept: for NACKs, and for the owner to compare with what came out.
    pub history: usize,
    /// Packets that are kept but not sent until somebody NACKs them.
    pub withhold: Option<Withhold>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            video: Some(VideoSettings::default()),
            simulcast: None,
            files: Vec::new(),
            recorded: None,
            audio: true,
            pacing: Pacing::Burst,
            resend: Resend::Agreed,
            answer_keyframe_requests: true,
            light: LightOptions::default(),
            offer: None,
            history: 2_048,
            withhold: None,
        }
    }
}

/// What a publisher did and was told so far.
#[derive(Debug, Default)]
pub struct PublishLog {
    /// The last packets sent, oldest first, header extensions included.
    pub sent: VecDeque<rtp::Packet>,
    /// Packets sent, retransmissions not included.
    pub packets: u64,
    /// The media clocks: by SSRC, the RTP time of the first packet and when it was due, in
    /// microseconds since the Unix epoch.
    pub clocks: HashMap<u32, (u32, u64)>,
    /// Packets withheld at first.
    pub withheld: Vec<(u32, u16)>,
    /// Pictures sent, by SSRC.
    pub frames: HashMap<u32, u64>,
    /// Keyframe requests, and when they came.
    pub keyframe_requests: Vec<Instant>,
    /// Keyframes sent.
    pub keyframes: u64,
    /// How often each packet was asked for again, by SSRC and sequence number.
    pub nacks: HashMap<(u32, u16), u32>,
    /// Packets sent again.
    pub resent: u64,
    /// RTCP that came in, oldest first.
    pub rtcp: VecDeque<(Instant, Box<dyn rtc_rtcp::Packet>)>,
    /// Why it is over, once it is.
    pub closed: Option<String>,
}

impl PublishLog {
    /// The RTCP packets of one type.
    pub fn rtcp_of<T: 'static>(&self) -> impl Iterator<Item = &T> {
        self.rtcp.iter().filter_map(|(_, packet)| packet.as_any().downcast_ref())
    }
}

/// A live publisher. Dropping it falls silent; [`WhipClient::end`] says so.
pub struct WhipClient {
    log: Arc<Watched<PublishLog>>,
    sender: LightSender,
    paused: Arc<AtomicU64>,
    task: JoinHandle<LightPeer>,
    signaling: Signaling,
    session_url: String,
    /// The server's answer.
    pub answer: Answer,
    /// The SRTP profile that DTLS agreed.
    pub profile: SrtpProfile,
}

impl WhipClient {
    /// Posts an offer, waits for DTLS, and starts to send.
    ///
    /// # Errors
    ///
    /// When the server refuses, or does not connect in time.
    pub async fn publish(
        signaling: &Signaling,
        url: &str,
        options: PublishOptions,
    ) -> anyhow::Result<Self> {
        let offer = options.offer.clone().unwrap_or_else(|| default_offer(&options));
        let announced: Vec<_> =
            offer.sections.iter().map(|it| (it.kind, it.ssrc, it.rtx_ssrc)).collect();
        let mut peer = LightPeer::start(signaling, url, offer, options.light.clone()).await?;
        let profile = peer.connected(CONNECT_WITHIN).await?;
        let log = Arc::new(Watched::new(PublishLog::default()));
        let (answer, session_url) = (peer.answer.clone(), peer.session.url.clone());
        let sender = peer.sender();
        let paused = Arc::new(AtomicU64::new(0));
        let shared = (log.clone(), paused.clone());
        let loop_state = task::Loop::new(&peer, options, &announced, shared);
        let task = tokio::spawn(loop_state.run(peer));
        let signaling = signaling.clone();
        Ok(Self { log, sender, paused, task, signaling, session_url, answer, profile })
    }

    /// Stops the layer at a place, as an encoder does that has no rate left for it.
    pub fn pause_layer(&self, place: u8) {
        self.paused.fetch_or(bit(place), Ordering::Relaxed);
    }

    /// Goes on with it, with a keyframe.
    pub fn resume_layer(&self, place: u8) {
        self.paused.fetch_and(!bit(place), Ordering::Relaxed);
    }

    /// What it did and was told.
    pub fn log(&self) -> &Watched<PublishLog> {
        &self.log
    }

    /// Sends what the owner wants sent beside the stream.
    pub fn sender(&self) -> &LightSender {
        &self.sender
    }

    /// The session's URL.
    pub fn session_url(&self) -> &str {
        &self.session_url
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

impl Drop for WhipClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a failure to publish or view was this HTTP status.
pub fn refused_with(error: &anyhow::Error) -> Option<u16> {
    let light = error.downcast_ref::<LightError>()?;
    match light {
        LightError::Signaling(error) => error.status(),
        _ => None,
    }
}

/// A layer's place in the set of those that are paused.
fn bit(place: u8) -> u64 {
    1_u64.checked_shl(place.into()).unwrap_or(0)
}

fn default_offer(options: &PublishOptions) -> Offer {
    if let (Some(simulcast), Some(video)) = (&options.simulcast, options.video) {
        return simulcast.offer(video.codec, options.audio);
    }
    let mut offer = Offer::new(Direction::SendOnly);
    if options.audio {
        offer = offer.section(publish_audio());
    }
    if let Some(video) = options.video {
        offer = offer.section(publish_video(video.codec));
    }
    offer
}
