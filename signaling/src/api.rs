//! JSON for operators: what is live; and health, for whoever starts and watches the process.

use crate::App;
use crate::error::Problem;
use crate::media_server::{NotReady, OfferError, Role, StreamReport};
use crate::session::Name;
use crate::thumbnail;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The body of `/api/v1/streams`: an object, so that it can grow.
#[derive(serde::Serialize)]
struct Streams {
    streams: Vec<StreamReport>,
}

/// `GET /api/v1/streams`: a list, with publisher, tracks and viewers of each live stream.
pub(crate) async fn streams(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.credentials.may_operate(&headers)?;
    let streams = in_time(&app, app.server.streams()).await?;
    let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([fresh], Json(Streams { streams })).into_response())
}

/// `GET /api/v1/streams/{stream}`: one of them, and `{stream}/thumbnail.jpg`: what it shows. A name
/// may have slashes, so that what it ends with tells which.
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Name(name): Name,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    match thumbnail::stream_of(&name) {
        Some(stream) => thumbnail::answer(&app, &parts, stream).await,
        None => report(&app, name, &parts.headers).await.into_response(),
    }
}

/// One stream. Who may publish it may see it, without its viewers.
async fn report(app: &App, name: String, headers: &HeaderMap) -> Result<Response, Problem> {
    let is_operator = app.credentials.may_operate(headers).is_ok();
    if !is_operator {
        app.credentials.may_join(Role::Publisher, headers, &name)?;
    }
    let streams = in_time(app, app.server.streams()).await?;
    let stream = streams.into_iter().find(|stream| stream.name == name);
    let mut stream = stream
        .ok_or(OfferError::NotLive(name))
        .map_err(|error| Problem::of_offer(&error, app.retry_after))?;
    if !is_operator {
        stream.viewers.clear();
    }
    let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([fresh], Json(stream)).into_response())
}

/// The body of `/api/v1/time`.
#[derive(serde::Serialize)]
struct Time {
    unix_ms: f64,
}

/// `GET /api/v1/time`: the clock by which media is dated, for whoever tells how late it shows.
pub(crate) async fn time(State(app): State<Arc<App>>) -> Response {
    let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([fresh], Json(Time { unix_ms: app.server.unix_ms() })).into_response()
}

/// `GET /metrics`: every metric with its present value.
pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    app.credentials.may_operate(&headers)?;
    let metrics = in_time(&app, app.server.metrics()).await?;
    let text = crate::metrics::exposition(&metrics);
    let kind = HeaderValue::from_static(crate::metrics::CONTENT_TYPE);
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

/// What the media threads report, unless they take too long.
async fn in_time<T>(app: &App, report: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(app.limits.report_timeout, report).await.map_err(|_| {
        let reason = "the media threads did not report in time".to_owned();
        Problem::not_ready(reason, app.retry_after)
    })
}

/// `GET /healthz`: the process runs and answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: new sessions are taken. Where not, the type of problem tells a server that stops
/// from a busy one: whoever was sent away by the first is to come back.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    match app.server.ready() {
        Ok(()) => Ok("ready\n"),
        Err(reason @ NotReady::Stopping) => {
            Err(Problem::stopping(reason.to_string(), app.retry_after))
        }
        Err(reason @ NotReady::Busy(_)) => {
            Err(Problem::not_ready(reason.to_string(), app.retry_after))
        }
    }
}
