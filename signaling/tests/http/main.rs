//! Every answer of the HTTP surface, against a fake media server.
//!
//! - `fake`: the media server
//! - `whip_whep`: RFC 9725 and draft-ietf-wish-whep-04
//! - `events`: what a player is told while it watches
//! - `layers`: which layer a player chooses
//! - `hls`: LL-HLS: playlists, media, directives, tokens; `hls_sockets`: what only real connections
//!   show of it
//! - `operators`: API, metrics, health, pages, cross-origin access
//! - `thumbnails`: pictures of what is live
//! - `sockets`: what only real connections show
//! - `certificates`: those that change while they are served with

mod certificates;
mod events;
mod fake;
mod hls;
mod hls_sockets;
mod layers;
mod operators;
mod sockets;
mod thumbnails;
mod whip_whep;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use fake::Fake;
use http_body_util::BodyExt as _;
use signaling::auth::Credentials;
use signaling::config::{CertificateSource, IceServer, Limits};
use signaling::serve::Addresses;
use signaling::{Config, app};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt as _;

/// The token that publishes every stream.
const PUBLISH: &str = "Bearer publish-token";
/// The operator's.
const ADMIN: &str = "Bearer admin-token";

fn config() -> Config {
    Config {
        http: Some(([127, 0, 0, 1], 0).into()),
        https: None,
        certificate: CertificateSource::SelfSigned {
            directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("unused"),
            names: vec![],
        },
        certificate_is_shared: false,
        credentials: Credentials::new("publish-token", "admin-token")
            .with_publish_rule("ana/*", "ana-token"),
        ice_servers: vec![],
        trusted_proxies: vec![],
        pages: true,
        hls: true,
        media_hint: "192.0.2.1:8189".into(),
        retry_after: Duration::from_secs(2),
        limits: Limits::default(),
    }
}

/// The app around a fake, without sockets.
struct Served {
    fake: Arc<Fake>,
    app: Router,
}

impl Served {
    fn new() -> Self {
        Self::with(&config())
    }

    fn with(config: &Config) -> Self {
        let fake = Arc::new(Fake::default());
        let addresses = Addresses {
            http: Some(([127, 0, 0, 1], 8080).into()),
            https: Some(([127, 0, 0, 1], 8443).into()),
            rtmp: Some(([127, 0, 0, 1], 1935).into()),
            rtmps: None,
            srt: Some(([127, 0, 0, 1], 8890).into()),
        };
        let app = app(Arc::clone(&fake) as _, config, addresses);
        Self { fake, app }
    }

    async fn send(&self, ask: Ask) -> Answer {
        let response = self.app.clone().oneshot(ask.0).await.expect("the app is infallible");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("bodies are whole").to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("bodies are text");
        Answer { status: head.status, headers: head.headers, body }
    }
}

/// A request being put together.
struct Ask(Request<Body>);

impl Ask {
    fn new(method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        Self(request.expect("tests write good requests"))
    }

    /// A POST with an offer and the publish token.
    fn offer(path: &str) -> Self {
        Self::new("POST", path)
            .with("content-type", "application/sdp")
            .with("authorization", PUBLISH)
            .body("v=0\r\n")
    }

    /// A PATCH of the one session, with a fragment.
    fn fragment(path: &str, if_match: &str, fragment: &str) -> Self {
        Self::new("PATCH", path)
            .with("content-type", "application/trickle-ice-sdpfrag")
            .with("if-match", if_match)
            .body(fragment.to_owned())
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers_mut().insert(name, value.parse().expect("tests write good headers"));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.headers_mut().remove(name);
        self
    }

    fn body(mut self, body: impl Into<Body>) -> Self {
        *self.0.body_mut() = body.into();
        self
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are text"))
    }

    /// Checks that this is a problem of that status and kind; returns its detail.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("access-control-allow-origin"), "*");
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("it is JSON");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:millrace:problem:{kind}"));
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
        body["detail"].as_str().expect("it has a detail").to_owned()
    }
}
