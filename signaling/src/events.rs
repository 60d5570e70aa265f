//! The WHEP draft's "Server Sent Events" extension: what a player is told while it watches.
//!
//! The session's answer names the entry point in a `Link` header. A POST there says which events
//! are wanted and gets the URL of the stream of just these; whoever needs no choice opens the
//! entry point itself. A stream is text of the HTML standard (§9.2.5) and lasts as long as the
//! session; a browser's `EventSource` sends no token, so the session's unguessable URL is what
//! opens it.

use crate::App;
use crate::error::{BodyError, Problem};
use crate::layers;
use crate::media_server::{Role, SessionError, ViewerEvent, ViewerNews};
use crate::places::Place;
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
use tokio::sync::watch;

/// The relation of the entry point in a `Link` header.
const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// The events there are. All but the last are of the draft.
const NAMES: [&str; 6] = ["active", "inactive", LAYERS, "reconnect", VIEWER_COUNT, CLOCK];
const LAYERS: &str = "layers";
const VIEWER_COUNT: &str = "viewercount";
/// What the timestamps of a track stand for, about once a second.
const CLOCK: &str = "clock";
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
    format!("<{session_url}/events>; rel=\"{RELATION}\"; events=\"{}\"", NAMES.join(","))
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
        let is_wished = |name: &&str| wished.iter().any(|wished| wished == name);
        let known: Vec<&str> = NAMES.into_iter().filter(is_wished).collect();
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
    let listener = Listener { events, choice, told: ViewerNews::default(), _place: place };
    let told = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    let fresh = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx passes on what comes at once only if it is told so.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    let stream = Sse::new(told).keep_alive(KeepAlive::new().interval(COMMENT_INTERVAL));
    Ok(([fresh, unbuffered], stream).into_response())
}

const fn name_of(event: ViewerEvent) -> &'static str {
    match event {
        ViewerEvent::Active => "active",
        ViewerEvent::Inactive => "inactive",
        ViewerEvent::Reconnect => "reconnect",
    }
}

/// An open stream of events.
struct Listener {
    events: watch::Receiver<ViewerNews>,
    choice: Choice,
    /// What it has been told.
    told: ViewerNews,
    _place: Option<Place>,
}

impl Listener {
    /// Waits for the next event that is wanted; the session's end is the stream's.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let news = self.events.borrow_and_update().clone();
            if let Some(event) = self.news(&news) {
                return Some(event);
            }
            self.events.changed().await.ok()?;
        }
    }

    /// An event that is wanted, of what has not been told yet: that is noted.
    fn news(&mut self, news: &ViewerNews) -> Option<Event> {
        let Self { choice, told, .. } = self;
        let event =
            |name, data: &str| choice.takes(name).then(|| Event::default().event(name).data(data));
        if let Some(it) = newer(&mut told.event, news.event)
            && let Some(event) = event(name_of(it), "{}")
        {
            return Some(event);
        }
        if let Some(viewers) = newer(&mut told.viewers, news.viewers)
            && let Some(event) = event(VIEWER_COUNT, &format!("{{\"viewercount\":{viewers}}}"))
        {
            return Some(event);
        }
        for (told, clock) in told.clocks.iter_mut().zip(news.clocks) {
            let clock = newer(told, clock).and_then(|it| serde_json::to_string(&it).ok());
            if let Some(event) = clock.and_then(|data| event(CLOCK, &data)) {
                return Some(event);
            }
        }
        let layers = news.layers.as_ref().filter(|layers| told.layers.as_ref() != Some(layers));
        if let Some(layers) = layers {
            told.layers = Some(Arc::clone(layers));
            return event(LAYERS, &layers::event_data(layers));
        }
        None
    }
}

/// What has not been told yet; it counts as told then.
fn newer<T: PartialEq + Copy>(told: &mut Option<T>, news: Option<T>) -> Option<T> {
    let news = news.filter(|news| told.as_ref() != Some(news))?;
    *told = Some(news);
    Some(news)
}
