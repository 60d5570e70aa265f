//! `GET /api/v1/streams/{stream}/thumbnail.jpg`: what a stream shows, for whoever may watch it.
//!
//! The media server makes the picture and says how long it is the newest; here are the token, and
//! what HTTP says around it.

use crate::App;
use crate::error::Problem;
use crate::hls;
use crate::pages::lists;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// What stands behind a stream's name.
const FILE: &str = "/thumbnail.jpg";

/// The stream whose thumbnail this path below `/api/v1/streams/` is, if it is one.
pub(crate) fn stream_of(path: &str) -> Option<&str> {
    path.strip_suffix(FILE)
}

/// Answers a GET or HEAD.
pub(crate) async fn answer(app: &App, parts: &Parts, stream: &str) -> Response {
    find(app, parts, stream).await.unwrap_or_else(|problem| {
        let mut response = problem.into_response();
        // It is to be otherwise soon.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    })
}

async fn find(app: &App, parts: &Parts, stream: &str) -> Result<Response, Problem> {
    check(app, parts, stream)?;
    let thumbnail = app.server.thumbnail(stream).await;
    let thumbnail = thumbnail.map_err(|error| Problem::of_thumbnail(&error, app.retry_after))?;
    let sharing = if app.credentials.viewing_needs_token() { "private" } else { "public" };
    // In whole seconds, and never none: many ask at the same time.
    let seconds = thumbnail.max_age.as_secs().max(1);
    let etag = format!("\"{}\"", thumbnail.etag);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (CONTENT_TYPE, "image/jpeg"),
        // Nobody is to take it for anything else, whatever it was made of.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, &format!("{sharing}, max-age={seconds}")),
        (ETAG, &etag),
    ] {
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| Problem::internal())?);
    }
    let tags = parts.headers.get(IF_NONE_MATCH).zip(headers.get(ETAG));
    if tags.is_some_and(|(tags, etag)| lists(tags, etag)) {
        headers.remove(CONTENT_TYPE);
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, thumbnail.jpeg).into_response())
}

/// Lets in who may watch the stream, and operators, who see what is live anyway. An `<img>` sends
/// no header of ours: its token stands in the query, as with HLS.
fn check(app: &App, parts: &Parts, stream: &str) -> Result<(), Problem> {
    if app.credentials.may_operate(&parts.headers).is_ok() {
        return Ok(());
    }
    hls::may_watch(&app.credentials, parts, stream)
}
