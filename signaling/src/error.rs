//! The one table: domain error -> status and problem body (RFC 9457).
//!
//! A refusal says in plain words what was wrong and what to do. No status is named elsewhere
//! but for success.

use crate::auth::AuthError;
use crate::hls::query::QueryError;
use crate::media_server::hls::HlsError;
use crate::media_server::thumbnail::ThumbnailError;
use crate::media_server::{OfferError, SessionError};
use crate::sdp_fragment::FragmentError;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::time::Duration;

/// What a path takes by POST (Linked Data Platform §7.1, which RFC 9725 §4.2 asks for).
pub(crate) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// What a path takes by PATCH (RFC 5789 §3.1).
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// The media type of a problem body (RFC 9457 §3).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal, ready to be sent.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The last part of its type URI: what a program tells problems apart by.
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why a body cannot be used, before anybody has looked at what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {limit} bytes, the most this server takes")]
    TooLong { limit: usize },
    #[error("the Content-Type is not {expected}; send the body with that one")]
    MediaType { named_by: HeaderName, expected: &'static str },
    #[error("the body did not arrive in time; send it at once with the head")]
    TooSlow,
    #[error("the body ended early")]
    Broken,
    #[error("the body is not UTF-8 text")]
    NotText,
    #[error("the body is empty; it has to be the SDP offer of the client")]
    Empty,
    #[error("the body is not a JSON array of event names, such as [\"active\",\"reconnect\"]")]
    NotEventNames,
    #[error("the body is not a JSON object such as {{\"encodingId\":\"h\"}}, or {{}}: {0}")]
    NotLayerChoice(String),
    /// The draft's earlier versions let the server offer first.
    #[error(
        "the body is empty, and this server makes no offers of its own; send the player's SDP \
         offer in the POST"
    )]
    ServerOfferWanted,
}

/// Why a condition of a PATCH does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConditionError {
    #[error(
        "a PATCH needs If-Match: the ETag of the ICE session to add candidates, * to restart ICE"
    )]
    Missing,
    #[error("the If-Match header is neither * nor a list of entity tags")]
    Malformed,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, kind, title, detail: detail.into(), headers: Vec::new() }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to try again, in whole seconds and never at once (RFC 9110 §10.2.3).
    fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// A refused offer; `retry_after` is for what may be otherwise soon.
    pub(crate) fn of_offer(error: &OfferError, retry_after: Duration) -> Self {
        let detail = error.to_string();
        match error {
            OfferError::BadName(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad-name", "Not a stream name", detail)
            }
            OfferError::Malformed(_) => {
                Self::new(StatusCode::BAD_REQUEST, "malformed-sdp", "Malformed SDP", detail)
            }
            OfferError::NoCommonCodec(_) => {
                Self::new(StatusCode::NOT_ACCEPTABLE, "no-common-codec", "No common codec", detail)
            }
            OfferError::Unservable(_) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unservable-sdp",
                "Offer cannot be served",
                detail,
            ),
            OfferError::NotPlayable(_) => Self::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-playable",
                "Stream cannot be played by WebRTC",
                detail,
            ),
            OfferError::NotLive(_) => Self::new(
                StatusCode::CONFLICT,
                "not-live",
                "Stream is not live",
                format!("{detail}; try again when somebody publishes it"),
            )
            .retry_after(retry_after),
            OfferError::Taken(_) => Self::new(
                StatusCode::CONFLICT,
                "taken",
                "Stream is taken",
                format!("{detail}; use another name, or try again when it has ended"),
            )
            .retry_after(retry_after),
            OfferError::Busy { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Server is busy", detail)
                    .retry_after(*retry_after)
            }
        }
    }

    /// What is not there to be watched by HLS; `retry_after` is for a stream that may come.
    pub(crate) fn of_hls(error: &HlsError, retry_after: Duration) -> Self {
        let detail = error.to_string();
        match error {
            HlsError::BadName(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad-name", "Not a stream name", detail)
            }
            HlsError::BadRequest(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad-directive", "Cannot be waited for", detail)
            }
            HlsError::NotLive(_) => Self::new(
                StatusCode::NOT_FOUND,
                "not-live",
                "Stream is not live",
                format!("{detail}; try again when somebody publishes it"),
            )
            .retry_after(retry_after),
            HlsError::NotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, "no-hls-file", "No such file", detail)
            }
            HlsError::NotPlayable(_) => Self::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-playable",
                "Stream cannot be played by HLS",
                detail,
            ),
            HlsError::Off => Self::new(StatusCode::NOT_FOUND, "hls-off", "HLS is off", detail),
            HlsError::Busy { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Server is busy", detail)
                    .retry_after(*retry_after)
            }
        }
    }

    /// No thumbnail; `retry_after` is for a stream that may come.
    pub(crate) fn of_thumbnail(error: &ThumbnailError, retry_after: Duration) -> Self {
        let detail = error.to_string();
        match error {
            ThumbnailError::BadName(_) => {
                Self::new(StatusCode::BAD_REQUEST, "bad-name", "Not a stream name", detail)
            }
            ThumbnailError::NotLive(_) => Self::new(
                StatusCode::NOT_FOUND,
                "not-live",
                "Stream is not live",
                format!("{detail}; try again when somebody publishes it"),
            )
            .retry_after(retry_after),
            ThumbnailError::NoPicture(_) => {
                Self::new(StatusCode::NOT_FOUND, "no-picture", "Stream has no picture", detail)
            }
            ThumbnailError::Unavailable(_) => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "no-thumbnails", "No thumbnails", detail)
            }
            ThumbnailError::Failed { retry_after, .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no-thumbnail-now",
                "No thumbnail now",
                detail,
            )
            .retry_after(*retry_after),
        }
    }

    /// A path below `/hls/` without a stream and a file.
    pub(crate) fn no_hls_file() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-hls-file",
            "No such file",
            "there is nothing at this path; watch by HLS at /hls/{stream}/index.m3u8",
        )
    }

    /// What there is nothing at.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Nothing here",
            "there is nothing at this path; publish at /whip/{stream}, watch at /whep/{stream}",
        )
    }

    /// A method that the path does not have; the router names in `Allow` those it has.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "this path does not have that method; the Allow header names those it has",
        )
    }

    /// A path whose escapes do not spell UTF-8.
    pub(crate) fn bad_path() -> Self {
        let detail = "the path's percent-escapes do not spell a text";
        Self::new(StatusCode::BAD_REQUEST, "bad-path", "Malformed path", detail)
    }

    /// A server that takes no sessions now, and why.
    pub(crate) fn not_ready(reason: String, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", reason)
            .retry_after(retry_after)
    }

    /// A server that goes down.
    pub(crate) fn stopping(reason: String, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Stopping", reason)
            .retry_after(retry_after)
    }

    /// A fault of ours.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the server failed at this request; only this request is affected, its log says more",
        )
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        // RFC 6750 §3: no error code for a request without a token; §3.1 for the others.
        let (status, kind, title, challenge) = match error {
            AuthError::Missing | AuthError::NotInUrl => (
                StatusCode::UNAUTHORIZED,
                "token-missing",
                "Token needed",
                "Bearer realm=\"millrace\"",
            ),
            AuthError::Malformed => (
                StatusCode::UNAUTHORIZED,
                "token-malformed",
                "Malformed Authorization header",
                "Bearer realm=\"millrace\", error=\"invalid_request\"",
            ),
            AuthError::Unknown => (
                StatusCode::UNAUTHORIZED,
                "token-unknown",
                "Unknown token",
                "Bearer realm=\"millrace\", error=\"invalid_token\"",
            ),
            AuthError::NotAllowed => (
                StatusCode::FORBIDDEN,
                "not-allowed",
                "Not allowed",
                "Bearer realm=\"millrace\", error=\"insufficient_scope\"",
            ),
        };
        Self::new(status, kind, title, error.to_string())
            .with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, kind, title) = match error {
            BodyError::TooLong { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-long", "Body too long")
            }
            BodyError::MediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unsupported media type")
            }
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body-too-slow", "Body too slow"),
            BodyError::Broken
            | BodyError::NotText
            | BodyError::NotEventNames
            | BodyError::NotLayerChoice(_) => {
                (StatusCode::BAD_REQUEST, "malformed-body", "Malformed body")
            }
            BodyError::Empty => (StatusCode::BAD_REQUEST, "malformed-sdp", "Malformed SDP"),
            BodyError::ServerOfferWanted => {
                (StatusCode::UNPROCESSABLE_ENTITY, "no-server-offer", "Offer missing")
            }
        };
        let problem = Self::new(status, kind, title, error.to_string());
        match error {
            // RFC 9110 §15.5.16: what would have been taken.
            BodyError::MediaType { named_by, expected } => {
                problem.with(named_by, HeaderValue::from_static(expected))
            }
            _ => problem,
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let title = "Malformed query";
        Self::new(StatusCode::BAD_REQUEST, "malformed-query", title, error.to_string())
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let (status, kind, title) = match error {
            SessionError::Unknown => (StatusCode::NOT_FOUND, "no-session", "No such session"),
            SessionError::OtherIceSession => {
                (StatusCode::PRECONDITION_FAILED, "other-ice-session", "Another ICE session")
            }
            SessionError::NoRestart => {
                (StatusCode::UNPROCESSABLE_ENTITY, "no-ice-restart", "ICE cannot restart")
            }
            SessionError::EventsFull => {
                (StatusCode::SERVICE_UNAVAILABLE, "events-full", "No more event streams")
            }
            SessionError::UnknownMedia => {
                (StatusCode::BAD_REQUEST, "unknown-media", "No such video section")
            }
            SessionError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Server is busy"),
        };
        Self::new(status, kind, title, error.to_string())
    }
}

impl From<ConditionError> for Problem {
    fn from(error: ConditionError) -> Self {
        // RFC 6585 §3: 428 where there is no condition.
        let (status, kind, title) = match error {
            ConditionError::Missing => {
                (StatusCode::PRECONDITION_REQUIRED, "if-match-missing", "If-Match needed")
            }
            ConditionError::Malformed => {
                (StatusCode::BAD_REQUEST, "if-match-malformed", "Malformed If-Match")
            }
        };
        Self::new(status, kind, title, error.to_string())
    }
}

impl From<FragmentError> for Problem {
    fn from(error: FragmentError) -> Self {
        let title = "Malformed SDP fragment";
        Self::new(StatusCode::BAD_REQUEST, "malformed-fragment", title, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        tracing::debug!(status = self.status.as_u16(), kind = self.kind, "request refused");
        let body = serde_json::json!({
            "type": format!("urn:millrace:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut headers = HeaderMap::from_iter(self.headers);
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        (self.status, headers, body.to_string()).into_response()
    }
}
