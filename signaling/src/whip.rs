//! WHIP, the WebRTC-HTTP Ingestion Protocol (RFC 9725): endpoint and session URL for publishers.

use crate::App;
use crate::error::Problem;
use crate::media_server::Role;
use crate::session::{self, Name};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use std::sync::Arc;

/// `/whip/{stream}`: POST makes a session.
pub(crate) fn endpoint() -> MethodRouter<Arc<App>> {
    get(session::no_representation).post(publish).options(session::endpoint_options)
}

/// `/whip/@session/{id}`: PATCH adds candidates or restarts ICE, DELETE ends.
pub(crate) fn session() -> MethodRouter<Arc<App>> {
    get(session::no_representation).patch(patch).delete(end).options(session::session_options)
}

async fn publish(
    State(app): State<Arc<App>>,
    Name(stream): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    session::create(&app, Role::Publisher, &stream, &headers, body).await
}

async fn patch(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    session::patch(&app, Role::Publisher, &id, &headers, body).await
}

async fn end(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    session::delete(&app, Role::Publisher, &id, &headers)
}
