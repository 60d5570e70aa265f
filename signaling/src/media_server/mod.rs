//! The port to the media server: what `millrace` implements and the tests fake.
//!
//! Everything here is plain text and numbers: this crate knows names, SDP text and sessions, and
//! never sees a packet.
//!
//! - `hls`: what is asked and given by LL-HLS
//! - `layers`: which layers a viewer may choose from, and what it chooses
//! - `thumbnail`: a JPEG of what a stream shows

pub mod hls;
pub mod layers;
pub mod thumbnail;

use futures_util::future::BoxFuture;
use hls::{HlsAnswer, HlsError, HlsRequest};
use layers::{LayerChoice, LayerReport, LayersNews, SelectedLayer};
use std::sync::Arc;
use std::time::Duration;
use thumbnail::{Thumbnail, ThumbnailError};
use tokio::sync::watch;

/// What HTTP asks of the media server.
///
/// Offers are answered at once: only [`MediaServer::streams`] and [`MediaServer::metrics`] wait for
/// media threads, [`MediaServer::hls`] for media, and [`MediaServer::thumbnail`] for a picture.
pub trait MediaServer: Send + Sync + 'static {
    /// Answers a WHIP offer (RFC 9725 §4.2).
    ///
    /// # Errors
    ///
    /// [`OfferError`]: nothing was created.
    fn publish(&self, request: OfferRequest<'_>) -> Result<Created, OfferError>;

    /// Answers a WHEP offer (draft-ietf-wish-whep).
    ///
    /// # Errors
    ///
    /// [`OfferError`]: nothing was created.
    fn view(&self, request: OfferRequest<'_>) -> Result<Created, OfferError>;

    /// Takes the client's trickled candidates, or a restart of ICE.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: the session goes on as it was.
    fn trickle(&self, trickle: Trickle<'_>) -> Result<Trickled, SessionError>;

    /// Ends a session on its client's wish.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unknown`] where there is no such session of that role.
    fn end(&self, role: Role, session: &str) -> Result<(), SessionError>;

    /// What a viewer's session is to be told from now on, beginning with what there is to tell now:
    /// the newest of each sort counts, and a session's end closes it.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unknown`] where there is no such viewer, [`SessionError::EventsFull`] where
    /// as many streams of events are open as may be.
    fn events(&self, session: &str) -> Result<watch::Receiver<ViewerNews>, SessionError>;

    /// Takes a viewer's wish for a layer (draft-ietf-wish-whep, Video Layer Selection), in place of
    /// the one before. `media` is the `mid` of the section that it is for, where it says so.
    ///
    /// # Errors
    ///
    /// [`SessionError`]: the wish before stays.
    fn choose_layer(
        &self,
        session: &str,
        media: Option<&str>,
        choice: LayerChoice,
    ) -> Result<(), SessionError>;

    /// What is asked of a stream by HLS; waits where it is asked for what is still to come.
    ///
    /// # Errors
    ///
    /// [`HlsError`] says why there is nothing.
    fn hls<'a>(&'a self, request: HlsRequest<'a>) -> BoxFuture<'a, Result<HlsAnswer, HlsError>>;

    /// A JPEG of what a stream shows, a few seconds old at most; waits where it is made.
    ///
    /// # Errors
    ///
    /// [`ThumbnailError`] says why there is none.
    fn thumbnail<'a>(&'a self, stream: &'a str)
    -> BoxFuture<'a, Result<Thumbnail, ThumbnailError>>;

    /// Now on the clock by which media is dated: milliseconds since the Unix epoch.
    fn unix_ms(&self) -> f64;

    /// What is live, for operators.
    fn streams(&self) -> BoxFuture<'_, Vec<StreamReport>>;

    /// Every metric with its present value.
    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>>;

    /// Whether new sessions are taken, and if not, why.
    ///
    /// # Errors
    ///
    /// The reason, in plain words.
    fn ready(&self) -> Result<(), NotReady>;
}

/// Why no new sessions are taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It goes down.
    #[error("the server is stopping")]
    Stopping,
    /// It has something to do for all that it can serve.
    #[error("new viewers are refused: {0}")]
    Busy(String),
}

/// Which side of a stream a session is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends the stream in, by WHIP.
    Publisher,
    /// Takes the stream out, by WHEP.
    Viewer,
}

/// An offer with who makes it.
#[derive(Debug, Clone, Copy)]
pub struct OfferRequest<'a> {
    /// The stream name as it stood in the URL, percent-decoded, not yet checked.
    pub stream: &'a str,
    /// The offer's SDP.
    pub offer: &'a str,
    /// Identifies the credential: the same token gives the same number. It is no secret.
    pub token: TokenId,
}

/// Names a token without telling it: the first eight bytes of its SHA-256; 0 where none is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TokenId(pub u64);

/// A session that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The session's unguessable id: the last part of its URL.
    pub session: String,
    /// The answer's SDP.
    pub answer: String,
    /// Identifies the ICE session (RFC 9725 §4.3.1); without quotes.
    pub etag: String,
}

/// A PATCH with `application/trickle-ice-sdpfrag`.
#[derive(Debug, Clone, Copy)]
pub struct Trickle<'a> {
    /// Whose.
    pub role: Role,
    /// The session's id.
    pub session: &'a str,
    /// The fragment.
    pub fragment: &'a crate::sdp_fragment::SdpFragment,
    /// The ICE session it is meant for, from `If-Match`; `None` for `*`.
    pub etag: Option<&'a str>,
}

/// What became of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trickled {
    /// The candidates were taken: 204.
    Accepted,
    /// ICE was restarted: 200 with the server's fragment and the new entity tag.
    Restarted {
        /// The server's new credentials and candidates as an SDP fragment.
        fragment: String,
        /// The new ICE session; without quotes.
        etag: String,
    },
}

/// Why an offer got no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The name in the URL is none.
    #[error("{0}")]
    BadName(String),
    /// The SDP cannot be parsed: 400.
    #[error("{0}")]
    Malformed(String),
    /// No codec in common: 406. The text names both sides' codecs.
    #[error("{0}")]
    NoCommonCodec(String),
    /// The SDP parses but cannot be served, say no audio or video, or no fingerprint: 422.
    #[error("{0}")]
    Unservable(String),
    /// What the publisher sends cannot be played by WebRTC, whatever the offer: 406.
    #[error("{0}")]
    NotPlayable(String),
    /// Nobody publishes that stream now: 409 with `Retry-After` (viewers).
    #[error("stream {0} is not live")]
    NotLive(String),
    /// Somebody else's token publishes that stream now: 409 with `Retry-After` (publishers).
    #[error("stream {0} is being published with another token")]
    Taken(String),
    /// A limit is reached, or the server is stopping: 503 with `Retry-After`.
    #[error("{reason}")]
    Busy {
        /// What is full.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why a request on a session URL failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no such session: 404.
    #[error("there is no such session; it may have ended")]
    Unknown,
    /// `If-Match` names another ICE session: 412.
    #[error("the entity tag is not that of the present ICE session")]
    OtherIceSession,
    /// The fragment restarts ICE and this session cannot: 422.
    #[error("this session cannot restart ICE; make a new one")]
    NoRestart,
    /// No more streams of events can be open: 503. The session itself is well without.
    #[error("as many event streams are open as may be; the session goes on without one")]
    EventsFull,
    /// The section that a layer is chosen for is none of video: 400.
    #[error("mediaId is not the mid of this session's video; leave it out to mean that")]
    UnknownMedia,
    /// A media thread takes no more commands: 503.
    #[error("a media thread is too busy to be told; nothing has changed, try again")]
    Busy,
}

/// What a viewer is told while it watches (draft-ietf-wish-whep, Server Sent Events): the newest of
/// each sort, so that none takes the place of another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ViewerNews {
    /// How it is with its stream and session.
    pub event: Option<ViewerEvent>,
    /// How many watch its stream.
    pub viewers: Option<usize>,
    /// What the timestamps of its tracks stand for.
    pub clocks: [Option<TrackClock>; 2],
    /// Which layers of the picture there are, and which one it gets.
    pub layers: Option<Arc<LayersNews>>,
}

/// What the RTP timestamps of one track stand for, as its viewer sees them.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct TrackClock {
    /// The SSRC of its packets to this viewer.
    pub ssrc: u32,
    /// An RTP timestamp of theirs.
    pub rtp_timestamp: u32,
    /// The moment that it stands for, on the clock of [`MediaServer::unix_ms`].
    pub wall_time_ms: f64,
}

/// What may happen to a viewer's stream and session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerEvent {
    /// The stream is published.
    Active,
    /// Its publisher has left; another may go on in the same session.
    Inactive,
    /// What is published now needs a new session: its codec was not agreed.
    Reconnect,
}

/// One live stream.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Since when it is live, as seconds since the Unix epoch.
    pub since_unix_seconds: f64,
    /// Who sends it; none while its viewers wait for a publisher to come back.
    pub publisher: Option<PublisherReport>,
    /// What is sent.
    pub tracks: Vec<TrackReport>,
    /// Who watches.
    pub viewers: Vec<ViewerReport>,
}

/// What is sent of one kind.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TrackReport {
    /// `audio` or `video`.
    pub kind: String,
    /// The codec that flows, say `H264`.
    pub codec: String,
    /// Bits per second over the last second or so.
    pub bitrate_bps: u64,
    /// Packets received since the start.
    pub packets: u64,
    /// Packets that never came, after retransmission.
    pub lost_packets: u64,
    /// Keyframes seen (video).
    pub keyframes: u64,
    /// What each layer carries, best first (video).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerReport>,
}

/// A publishing session.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PublisherReport {
    /// The first eight digits of the session's id: enough to find it in the log.
    pub session: String,
    /// How it comes in: `whip`, `rtmp`, `rtmps` or `srt`.
    pub protocol: String,
    /// `AEAD_AES_128_GCM` or `AES128_CM_HMAC_SHA1_80`; absent before DTLS is done, and where the
    /// stream does not come by WebRTC.
    pub srtp_profile: Option<String>,
    /// Round-trip time, where the client's reports allow it to be computed.
    pub round_trip_ms: Option<f64>,
    /// Seconds since the session was made.
    pub age_seconds: f64,
    /// What does not work and what to do about it, in whole sentences.
    pub notices: Vec<String>,
    /// Tracks that come in and are not used.
    pub unused_tracks: Vec<String>,
    /// What became of its frames, where it does not come by WebRTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<FramesReport>,
    /// How its link fares, where it comes by SRT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkReport>,
}

/// What became of a publisher's frames, of both tracks, since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FramesReport {
    /// That came in.
    pub taken: u64,
    /// Of those, left out as the publisher was too far behind.
    pub late: u64,
    /// Of those, left out as B-frames.
    pub b_frames: u64,
    /// Of those, left out as their times cannot be.
    pub misplaced: u64,
    /// Left out since something of them was lost on its way, or made no sense.
    pub damaged: u64,
    /// Of those, left out as a media thread had no room.
    pub overrun: u64,
}

/// What SRT measures of a link, since it began.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LinkReport {
    /// Round-trip time.
    pub round_trip_ms: f64,
    /// The agreed latency: so long packets wait for those that were lost.
    pub latency_ms: f64,
    /// Packets received, those sent again included.
    pub packets: u64,
    /// Packets missing when others came after them.
    pub lost_packets: u64,
    /// Packets that came again.
    pub retransmitted_packets: u64,
    /// Packets that came too late, or never, and were given up.
    pub dropped_packets: u64,
    /// Packets that could not be decrypted.
    pub undecrypted_packets: u64,
    /// Gaps in the transport stream that the packets carry.
    pub continuity_errors: u64,
    /// Pictures and pieces of sound that were left out since something of them was missing.
    pub damaged_units: u64,
}

/// A viewing session.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ViewerReport {
    /// The first eight digits of the session's id: enough to find it in the log.
    pub session: String,
    /// How it goes out: `whep`.
    pub protocol: String,
    /// `AEAD_AES_128_GCM` or `AES128_CM_HMAC_SHA1_80`; absent before DTLS is done.
    pub srtp_profile: Option<String>,
    /// Share of packets lost, from the viewer's last receiver report, 0 to 1.
    pub loss: f64,
    /// Round-trip time from receiver reports.
    pub round_trip_ms: Option<f64>,
    /// Packets sent to it, retransmissions included.
    pub packets: u64,
    /// Bytes sent to it, retransmissions included.
    pub bytes: u64,
    /// Retransmissions sent to it.
    pub retransmitted_packets: u64,
    /// Which layer of the picture flows to it; none where no picture does.
    pub layer: Option<SelectedLayer>,
    /// What its link carries, where that is estimated: while there are layers to choose from.
    pub estimate_bps: Option<u64>,
    /// Seconds since the session was made.
    pub age_seconds: f64,
}

/// One metric: a name with its help, and a value per set of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The name with its unit last, as Prometheus has it: `millrace_forwarded_packets_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counts up for ever, or goes up and down.
    pub kind: MetricKind,
    /// Labels (name, value) and value.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}
