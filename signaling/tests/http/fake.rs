//! A media server that answers by the stream's name and remembers what it was asked.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use signaling::media_server::hls::{HlsAnswer, HlsError, HlsRequest};
use signaling::media_server::{
    Created, MediaServer, Metric, MetricKind, OfferError, OfferRequest, PublisherReport, Role,
    SessionError, StreamReport, TokenId, Trickle, Trickled, ViewerEvent, ViewerReport,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

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
    pub(crate) events: watch::Sender<Option<ViewerEvent>>,
    /// Whether new sessions are refused.
    pub(crate) stopping: AtomicBool,
    /// Told when a report is asked for.
    pub(crate) report_begun: Notify,
    /// A report waits for one of these.
    pub(crate) reports: Semaphore,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            tokens: Mutex::default(),
            events: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
            report_begun: Notify::new(),
            reports: Semaphore::new(Semaphore::MAX_PERMITS),
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

    fn events(&self, session: &str) -> Result<watch::Receiver<Option<ViewerEvent>>, SessionError> {
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

    fn hls<'a>(&'a self, _request: HlsRequest<'a>) -> BoxFuture<'a, Result<HlsAnswer, HlsError>> {
        async { Err(HlsError::Off) }.boxed()
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

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the server is stopping".into());
        }
        Ok(())
    }
}
