//! A media server that answers by the stream's name and remembers what it was asked.

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use signaling::media_server::hls::{HlsAnswer, HlsError, HlsPlaylist, HlsRequest, Unfinished};
use signaling::media_server::layers::LayerChoice;
use signaling::media_server::thumbnail::{Thumbnail, ThumbnailError};
use signaling::media_server::{
    Created, MediaServer, Metric, MetricKind, NotReady, OfferError, OfferRequest, PublisherReport,
    Role, SessionError, StreamReport, TokenId, Trickle, Trickled, ViewerNews, ViewerReport,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// The id of the one session there is.
pub(crate) const SESSION: &str = "0123456789abcdef0123456789abcdef";
/// Its present entity tag.
pub(crate) const ETAG: &str = "ice-1";

/// See the module.
pub(crate) struct Fake {
    /// What it was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// The token of each offer, in order.
    pub(crate) tokens: Mutex<Vec<TokenId>>,
    /// What the viewer is told.
    pub(crate) events: watch::Sender<ViewerNews>,
    /// Whether new sessions are refused.
    pub(crate) stopping: AtomicBool,
    pub(crate) busy: AtomicBool,
    /// Told when a report is asked for.
    pub(crate) report_begun: Notify,
    /// A report waits for one of these.
    pub(crate) reports: Semaphore,
    /// Told when a playlist that is not there yet is asked for.
    pub(crate) wait_begun: Notify,
    /// And when whoever waited for it has it or has gone.
    pub(crate) wait_ended: Arc<Notify>,
    /// Such a playlist waits for one of these.
    pub(crate) parts: Semaphore,
    /// The pieces of the segment that is being made.
    pub(crate) pieces: Mutex<Option<mpsc::Receiver<Result<Bytes, Unfinished>>>>,
}

/// The segment that is complete.
pub(crate) fn segment() -> Bytes {
    static SEGMENT: LazyLock<Bytes> =
        LazyLock::new(|| (0..=250).cycle().take(SEGMENT_BYTES).collect());
    SEGMENT.clone()
}

/// More than what sockets and connections keep for a client that takes nothing.
pub(crate) const SEGMENT_BYTES: usize = 16 << 20;

struct Waiting(Arc<Notify>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            tokens: Mutex::default(),
            events: watch::Sender::new(ViewerNews::default()),
            stopping: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            report_begun: Notify::new(),
            reports: Semaphore::new(Semaphore::MAX_PERMITS),
            wait_begun: Notify::new(),
            wait_ended: Arc::default(),
            parts: Semaphore::new(0),
            pieces: Mutex::default(),
        }
    }
}

impl Fake {
    fn note(&self, text: String) {
        self.asked.lock().expect("no test panics while it notes").push(text);
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics while it notes").clone()
    }

    fn answer(&self, role: Role, request: OfferRequest<'_>) -> Result<Created, OfferError> {
        let OfferRequest { stream, offer, token } = request;
        assert!(stream != "panic", "this stream makes the media server panic");
        self.note(format!("{role:?} {stream} {}", offer.len()));
        self.tokens.lock().expect("no test panics while it notes").push(token);
        let name = stream.to_owned();
        match stream {
            "bad name" => Err(OfferError::BadName(format!("{name:?} is no stream name"))),
            "malformed" => Err(OfferError::Malformed("line 3 is not of the form x=value".into())),
            "codec" => Err(OfferError::NoCommonCodec("offered MPV; served H264, VP8".into())),
            "unservable" => Err(OfferError::Unservable("there is no a=fingerprint".into())),
            "not-live" => Err(OfferError::NotLive(name)),
            "taken" => Err(OfferError::Taken(name)),
            "busy" => Err(OfferError::Busy {
                reason: "500 viewers watch already, and that is the limit".into(),
                retry_after: Duration::from_millis(4_200),
            }),
            _ => Ok(Created {
                session: SESSION.into(),
                answer: "v=0\r\nanswer\r\n".into(),
                etag: ETAG.into(),
            }),
        }
    }
}

impl Fake {
    async fn hls_answer(&self, request: HlsRequest<'_>) -> Result<HlsAnswer, HlsError> {
        let HlsRequest { stream, file, directives, query } = request;
        assert!(stream != "panic", "this stream makes the media server panic");
        self.note(format!("{stream} {file} {directives:?} {query}"));
        match stream {
            "bad name" => return Err(HlsError::BadName(format!("{stream:?} is no stream name"))),
            "not-live" => return Err(HlsError::NotLive(stream.to_owned())),
            "vp8" => return Err(HlsError::NotPlayable("VP8 needs the transcoder".into())),
            "off" => return Err(HlsError::Off),
            "busy" => {
                let reason = "the next part did not come in time".to_owned();
                let retry_after = Duration::from_millis(1_200);
                return Err(HlsError::Busy { reason, retry_after });
            }
            _ => {}
        }
        match (file, directives.msn) {
            ("index.m3u8", _) => Ok(playlist(&format!("video.m3u8?{query}"), 3_000)),
            ("video.m3u8", Some(99)) => Err(HlsError::BadRequest("99 is too far ahead".into())),
            ("video.m3u8", Some(7)) => {
                let _waiting = Waiting(Arc::clone(&self.wait_ended));
                self.wait_begun.notify_one();
                self.parts.acquire().await.expect("it is never closed").forget();
                Ok(playlist("r_video_7.0.m4s", 12_000))
            }
            ("video.m3u8", _) => Ok(playlist("r_video_6.m4s", 500)),
            ("r_video_6.m4s" | "r_aac_6.0.m4s", _) => Ok(HlsAnswer::Media(segment())),
            ("r_video_7.m4s", _) => {
                let pieces = self.pieces.lock().expect("nobody panics with it").take();
                let pieces = pieces.expect("the test has set them");
                let next =
                    async |mut pieces: mpsc::Receiver<_>| Some((pieces.recv().await?, pieces));
                Ok(HlsAnswer::Growing(stream::unfold(pieces, next).boxed()))
            }
            _ => Err(HlsError::NotFound(format!("there is no {file}"))),
        }
    }
}

/// What a stream's thumbnail is, by its name.
fn thumbnail(stream: &str) -> Result<Thumbnail, ThumbnailError> {
    let name = stream.to_owned();
    match stream {
        "bad name" => Err(ThumbnailError::BadName(format!("{name:?} is no stream name"))),
        "not-live" => Err(ThumbnailError::NotLive(name)),
        "heard" => Err(ThumbnailError::NoPicture("it is sound only".into())),
        "off" => Err(ThumbnailError::Unavailable("transcode.worker is \"off\"".into())),
        "busy" => Err(ThumbnailError::Failed {
            reason: "too many are asked for".into(),
            retry_after: Duration::from_millis(4_200),
        }),
        _ => Ok(Thumbnail {
            jpeg: Bytes::from_static(b"a picture"),
            etag: "2a".into(),
            max_age: Duration::from_millis(if stream == "old" { 300 } else { 3_700 }),
        }),
    }
}

fn playlist(line: &str, max_age_ms: u64) -> HlsAnswer {
    let text = format!("#EXTM3U\n{line}\n").into();
    HlsAnswer::Playlist(Arc::new(HlsPlaylist::new(text, Duration::from_millis(max_age_ms))))
}

impl MediaServer for Fake {
    fn publish(&self, request: OfferRequest<'_>) -> Result<Created, OfferError> {
        self.answer(Role::Publisher, request)
    }

    fn view(&self, request: OfferRequest<'_>) -> Result<Created, OfferError> {
        self.answer(Role::Viewer, request)
    }

    fn trickle(&self, trickle: Trickle<'_>) -> Result<Trickled, SessionError> {
        let Trickle { role, session, fragment, etag } = trickle;
        self.note(format!("{role:?} {} {etag:?}", fragment.candidates.len()));
        if session != SESSION {
            return Err(SessionError::Unknown);
        }
        if etag.is_some_and(|etag| etag != ETAG) {
            return Err(SessionError::OtherIceSession);
        }
        match &fragment.credentials {
            Some(credentials) if credentials.ufrag == "fixed" => Err(SessionError::NoRestart),
            Some(_) if etag.is_none() => Ok(Trickled::Restarted {
                fragment: "a=ice-ufrag:server\r\n".into(),
                etag: "ice-2".into(),
            }),
            _ => Ok(Trickled::Accepted),
        }
    }

    fn end(&self, role: Role, session: &str) -> Result<(), SessionError> {
        self.note(format!("end {role:?}"));
        if session == SESSION { Ok(()) } else { Err(SessionError::Unknown) }
    }

    fn events(&self, session: &str) -> Result<watch::Receiver<ViewerNews>, SessionError> {
        match session {
            SESSION => {
                let mut events = self.events.subscribe();
                events.mark_changed();
                Ok(events)
            }
            "full" => Err(SessionError::EventsFull),
            _ => Err(SessionError::Unknown),
        }
    }

    fn choose_layer(
        &self,
        session: &str,
        media: Option<&str>,
        choice: LayerChoice,
    ) -> Result<(), SessionError> {
        self.note(format!("choose {}", serde_json::to_string(&choice).expect("plain data")));
        match (session, media) {
            (SESSION, None | Some("1")) => Ok(()),
            (SESSION, Some(_)) => Err(SessionError::UnknownMedia),
            ("full", _) => Err(SessionError::Busy),
            _ => Err(SessionError::Unknown),
        }
    }

    fn thumbnail<'a>(
        &'a self,
        stream: &'a str,
    ) -> BoxFuture<'a, Result<Thumbnail, ThumbnailError>> {
        self.note(format!("thumbnail {stream}"));
        async move { thumbnail(stream) }.boxed()
    }

    fn hls<'a>(&'a self, request: HlsRequest<'a>) -> BoxFuture<'a, Result<HlsAnswer, HlsError>> {
        self.hls_answer(request).boxed()
    }

    fn unix_ms(&self) -> f64 {
        1_764_000_000_123.5
    }

    fn streams(&self) -> BoxFuture<'_, Vec<StreamReport>> {
        async {
            self.report_begun.notify_one();
            let permit = self.reports.acquire().await.expect("it is never closed");
            permit.forget();
            let publisher = PublisherReport {
                session: "01234567".into(),
                protocol: "whip".into(),
                srtp_profile: Some("AEAD_AES_128_GCM".into()),
                round_trip_ms: None,
                age_seconds: 2.5,
                notices: vec![],
                unused_tracks: vec![],
                frames: None,
                link: None,
            };
            let viewer = ViewerReport {
                session: "89abcdef".into(),
                protocol: "whep".into(),
                srtp_profile: None,
                loss: 0.0,
                round_trip_ms: None,
                packets: 0,
                bytes: 0,
                retransmitted_packets: 0,
                layer: None,
                estimate_bps: None,
                age_seconds: 1.0,
            };
            vec![StreamReport {
                name: "lot-42".into(),
                since_unix_seconds: 1.5,
                publisher: Some(publisher),
                tracks: vec![],
                viewers: vec![viewer],
            }]
        }
        .boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>> {
        let metric = Metric {
            name: "millrace_viewers",
            help: "Viewers.",
            kind: MetricKind::Gauge,
            samples: vec![(vec![("stream", "lot-42".into())], 3.0)],
        };
        async { vec![metric] }.boxed()
    }

    fn ready(&self) -> Result<(), NotReady> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(NotReady::Stopping);
        }
        if self.busy.load(Ordering::Relaxed) {
            return Err(NotReady::Busy("media leaves late".into()));
        }
        Ok(())
    }
}
