//! The WHEP draft's "Server Sent Events" extension: what a player is told while it watches.
//!
//! The session's answer names the entry point in a `Link` header. A POST there says which events
//! are wanted and gets the URL of the stream of just these; whoever needs no choice opens the
//! entry point itself. A stream is text of the HTML standard (§9.2.5) and lasts as long as the
//! session; a browser's `EventSource` sends no token, so the session's unguessable URL is what
//! opens it.

use crate::App;
use crate::error::{BodyError, Problem};
use crate::media_server::{Role, SessionError, ViewerEvent};
use crate::proxy::Client;
use crate::session::{self, Name};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The relation of the entry point in a `Link` header.
const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// The events there are, by name.
const NAMES: [(&str, ViewerEvent); 3] = [
    ("active", ViewerEvent::Active),
    ("inactive", ViewerEvent::Inactive),
    ("reconnect", ViewerEvent::Reconnect),
];
/// A list of event names is no longer than that.
const WISHES_BYTES_MAX: usize = 1024;
/// Keeps what is between from closing a quiet connection, and finds out who has gone.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// `/whep/@session/{id}/events`: POST chooses events, GET is the stream.
pub(crate) fn entry() -> MethodRouter<Arc<App>> {
    get(listen).post(choose).options(entry_options)
}

/// The `Link` header that names the entry point of a viewer's session.
pub(crate) fn link(session_url: &str) -> String {
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    format!("<{session_url}/events>; rel=\"{RELATION}\"; events=\"{}\"", names.join(","))
}

async fn entry_options() -> [(HeaderName, HeaderValue); 1] {
    [(crate::error::ACCEPT_POST, HeaderValue::from_static(session::JSON))]
}

/// Which events a stream is to have; all, where it does not say.
#[derive(Debug, serde::Deserialize)]
struct Choice {
    types: Option<String>,
}

impl Choice {
    fn takes(&self, wanted: &str) -> bool {
        let Some(types) = &self.types else { return true };
        types.split(',').any(|name| name == wanted)
    }
}

async fn choose(
    State(app): State<Arc<App>>,
    Name(id): Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    app.credentials.may_use_session(Role::Viewer, &headers)?;
    let text = session::read_json(&app, &headers, body, WISHES_BYTES_MAX).await?;
    app.server.events(&id)?;
    let mut location = format!("{}{id}/events", session::session_prefix(Role::Viewer));
    if !text.trim().is_empty() {
        let wished: Vec<String> =
            serde_json::from_str(&text).map_err(|_| BodyError::NotEventNames)?;
        let is_wished = |(name, _): &(&'static str, ViewerEvent)| {
            wished.iter().any(|wished| wished == name).then_some(*name)
        };
        let known: Vec<&str> = NAMES.iter().filter_map(is_wished).collect();
        location = format!("{location}?types={}", known.join(","));
    }
    let location = session::header_value(&location)?;
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

async fn listen(
    State(app): State<Arc<App>>,
    Name(id): Name,
    Query(choice): Query<Choice>,
    client: Option<Extension<Client>>,
) -> Result<Response, Problem> {
    let place = client.map(|Extension(client)| app.event_places.take(client.address));
    let place = place.transpose().map_err(|_| SessionError::EventsFull)?;
    let events = app.server.events(&id)?;
    let told = stream::unfold((events, choice, place), async |(mut events, choice, place)| {
        loop {
            // The session's end is the stream's.
            events.changed().await.ok()?;
            let event = *events.borrow_and_update();
            let name = NAMES.into_iter().find_map(|(name, it)| (Some(it) == event).then_some(name));
            if let Some(name) = name.filter(|name| choice.takes(name)) {
                let event = Event::default().event(name).data("{}");
                return Some((Ok::<_, Infallible>(event), (events, choice, place)));
            }
        }
    });
    let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx passes on what comes at once only if it is told so.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    let stream = Sse::new(told).keep_alive(KeepAlive::new().interval(COMMENT_INTERVAL));
    Ok(([fresh, unbuffered], stream).into_response())
}
