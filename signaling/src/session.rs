//! What WHIP and WHEP have in common: an offer becomes a session, a session URL takes PATCH and
//! DELETE (RFC 9725 §4.2, §4.3; the WHEP draft says the same of its side).

use crate::App;
use crate::error::{ACCEPT_PATCH, ACCEPT_POST, BodyError, ConditionError, Problem};
use crate::events;
use crate::layers;
use crate::media_server::{Created, OfferRequest, Role, SessionError, Trickle, Trickled};
use crate::sdp_fragment::{FRAGMENT_BYTES_MAX, SdpFragment};
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequestParts, Path};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use std::time::Duration;

/// The media type of offers and answers.
pub(crate) const SDP: &str = "application/sdp";
/// The media type of lists of event names, and of wishes for a layer.
pub(crate) const JSON: &str = "application/json";
/// The media type of SDP fragments (RFC 8840 §9).
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Entity tags looked at in one `If-Match`; clients send one.
const TAGS_MAX: usize = 8;

/// The rest of a path: a stream name, or a session's id, percent-decoded.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Problem::bad_path()),
        }
    }
}

/// How much of a body that is too long is read to be thrown away, and for how long.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
const DISCARDING_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes a session of an offer: 201 (RFC 9725 §4.2).
pub(crate) async fn create(
    app: &App,
    role: Role,
    stream: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let token = app.credentials.may_join(role, headers, stream)?;
    let offer = read_text(app, headers, body, SDP, app.limits.offer_bytes_max).await?;
    if offer.trim().is_empty() {
        return Err(BodyError::Empty.into());
    }
    let request = OfferRequest { stream, offer: &offer, token };
    let created = match role {
        Role::Publisher => app.server.publish(request),
        Role::Viewer => app.server.view(request),
    };
    let created = created.map_err(|error| Problem::of_offer(&error, app.retry_after))?;
    tracing::debug!(?role, stream, "session made");
    created_response(app, role, created)
}

fn created_response(app: &App, role: Role, created: Created) -> Result<Response, Problem> {
    let location = format!("{}{}", session_prefix(role), created.session);
    let mut response = (StatusCode::CREATED, created.answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(LOCATION, header_value(&location)?);
    headers.insert(ETAG, quoted(&created.etag)?);
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT));
    if role == Role::Viewer {
        headers.append(LINK, header_value(&events::link(&location))?);
        headers.append(LINK, header_value(&layers::link(&location))?);
    }
    for server in &app.ice_servers {
        headers.append(LINK, server.link().clone());
    }
    Ok(response)
}

/// Where session URLs begin. No stream name has an `@`, so they clash with none.
pub(crate) const fn session_prefix(role: Role) -> &'static str {
    match role {
        Role::Publisher => "/whip/@session/",
        Role::Viewer => "/whep/@session/",
    }
}

/// Adds candidates (204) or restarts ICE (200), as RFC 9725 §4.3.1 has it.
pub(crate) async fn patch(
    app: &App,
    role: Role,
    session: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    app.credentials.may_use_session(role, headers)?;
    let text = read_text(app, headers, body, SDP_FRAGMENT, FRAGMENT_BYTES_MAX).await?;
    let condition = Condition::of(headers)?;
    let fragment = SdpFragment::parse(&text)?;
    let trickle = |etag| app.server.trickle(Trickle { role, session, fragment: &fragment, etag });
    let trickled = match &condition {
        Condition::Any => trickle(None),
        Condition::OneOf(tags) => {
            let mut outcome = Err(SessionError::OtherIceSession);
            for tag in tags {
                outcome = trickle(Some(tag));
                if outcome != Err(SessionError::OtherIceSession) {
                    break;
                }
            }
            outcome
        }
    };
    match trickled? {
        // RFC 9725 §4.3.2: without body and without ETag.
        Trickled::Accepted => Ok(StatusCode::NO_CONTENT.into_response()),
        Trickled::Restarted { fragment, etag } => {
            let kind = (CONTENT_TYPE, HeaderValue::from_static(SDP_FRAGMENT));
            Ok(([kind, (ETAG, quoted(&etag)?)], fragment).into_response())
        }
    }
}

/// Ends a session: 200. Entity tags do not matter here (RFC 9725 §4.3.1).
pub(crate) fn delete(
    app: &App,
    role: Role,
    session: &str,
    headers: &HeaderMap,
) -> Result<StatusCode, Problem> {
    app.credentials.may_use_session(role, headers)?;
    app.server.end(role, session)?;
    Ok(StatusCode::OK)
}

/// OPTIONS on an endpoint: what it takes by POST (RFC 9725 §4.2).
pub(crate) async fn endpoint_options() -> [(HeaderName, HeaderValue); 2] {
    [
        (ACCEPT_POST, HeaderValue::from_static(SDP)),
        (ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT)),
    ]
}

/// OPTIONS on a session URL: what it takes by PATCH (RFC 5789 §3.1).
pub(crate) async fn session_options() -> [(HeaderName, HeaderValue); 1] {
    [(ACCEPT_PATCH, HeaderValue::from_static(SDP_FRAGMENT))]
}

/// GET on an endpoint or session URL: success without content (RFC 9725 §4.1), as these have no
/// representation.
pub(crate) async fn no_representation() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The condition of a PATCH (RFC 9110 §13.1.1).
enum Condition {
    Any,
    OneOf(Vec<String>),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Self, ConditionError> {
        let mut tags = Vec::new();
        let mut values = headers.get_all(IF_MATCH).iter().peekable();
        if values.peek().is_none() {
            return Err(ConditionError::Missing);
        }
        for value in values {
            let text = value.to_str().map_err(|_| ConditionError::Malformed)?;
            for tag in text.split(',').map(str::trim) {
                // RFC 9725 §4.3.3 writes the star with quotes in its example, and so do clients.
                if tag == "*" || tag == "\"*\"" {
                    return Ok(Self::Any);
                }
                // Strong comparison: a weak tag is well formed and matches nothing.
                if tag.starts_with("W/") {
                    continue;
                }
                let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                let bare = bare.unwrap_or(tag);
                if bare.is_empty() || bare.contains('"') || tags.len() == TAGS_MAX {
                    return Err(ConditionError::Malformed);
                }
                tags.push(bare.to_owned());
            }
        }
        Ok(Self::OneOf(tags))
    }
}

/// Reads a body of JSON, which may be left out with its media type.
pub(crate) async fn read_json(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<String, BodyError> {
    if !headers.contains_key(CONTENT_TYPE) && body.size_hint().exact() == Some(0) {
        return Ok(String::new());
    }
    read_text(app, headers, body, JSON, limit).await
}

/// Reads a body of text: of that media type, so long at most, in time.
async fn read_text(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    expected: &'static str,
    limit: usize,
) -> Result<String, BodyError> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case(expected) {
        let named_by = if expected == SDP_FRAGMENT { ACCEPT_PATCH } else { ACCEPT_POST };
        return Err(BodyError::MediaType { named_by, expected });
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = body;
    if announced.is_some_and(|length: usize| length > limit) {
        discard(&mut body).await;
        return Err(BodyError::TooLong { limit });
    }
    let bytes = match tokio::time::timeout(app.limits.body_timeout, read(&mut body, limit)).await {
        Err(_) => return Err(BodyError::TooSlow),
        Ok(read) => read?,
    };
    let Some(bytes) = bytes else {
        discard(&mut body).await;
        return Err(BodyError::TooLong { limit });
    };
    String::from_utf8(bytes).map_err(|_| BodyError::NotText)
}

/// The whole body; `None` if it is longer than `limit`.
async fn read(body: &mut Body, limit: usize) -> Result<Option<Vec<u8>>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(data);
    }
    Ok(Some(bytes))
}

/// Reads on, within bounds: a client that is still sending when the connection closes may be shown
/// a reset connection instead of its refusal.
async fn discard(body: &mut Body) {
    let reading = async {
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            left = match left.checked_sub(len) {
                Some(left) => left,
                None => return,
            };
        }
    };
    // Whoever sends no more in time gets the answer then.
    let _ = tokio::time::timeout(DISCARDING_TIMEOUT, reading).await;
}

fn quoted(etag: &str) -> Result<HeaderValue, Problem> {
    header_value(&format!("\"{etag}\""))
}

/// Ids and entity tags are made of letters and digits; one that is not is a fault of ours.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text).map_err(|_| {
        tracing::error!("the media server gave an id that no HTTP header carries");
        Problem::internal()
    })
}
