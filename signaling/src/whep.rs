//! WHEP, the WebRTC-HTTP Egress Protocol (draft-ietf-wish-whep-04, June 2026): endpoint and
//! session URL for viewers.
//!
//! The player offers, always: the draft's counter-offer (406 with SDP, answered by a PATCH) is not
//! made here. A 406 of ours has a problem body, and a PATCH with `application/sdp` is a 415.

use crate::App;
use crate::error::{BodyError, Problem};
use crate::media_server::Role;
use crate::session::{self, Name};
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use std::sync::Arc;

/// `/whep/{stream}`: POST makes a session.
pub(crate) fn endpoint() -> MethodRouter<Arc<App>> {
    get(session::no_representation).post(view).options(session::endpoint_options)
}

/// `/whep/@session/{id}`: PATCH adds candidates or restarts ICE, DELETE ends.
pub(crate) fn session() -> MethodRouter<Arc<App>> {
    get(session::no_representation).patch(patch).delete(end).options(session::session_options)
}

async fn view(
    State(app): State<Arc<App>>,
    Name(stream): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // Players after the first drafts ask for the server's offer by an empty POST.
    if body.size_hint().exact() == Some(0) {
        app.credentials.may_join(Role::Viewer, &headers, &stream)?;
        return Err(BodyError::ServerOfferWanted.into());
    }
    session::create(&app, Role::Viewer, &stream, &headers, body).await
}

async fn patch(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    session::patch(&app, Role::Viewer, &id, &headers, body).await
}

async fn end(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    session::delete(&app, Role::Viewer, &id, &headers)
}
