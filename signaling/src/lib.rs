//! Everything that speaks HTTP; knows names, SDP text and sessions, no packets.
//!
//! - `media_server`: the port to the media server, which `millrace` implements and tests fake
//! - `config`: what the operator decides about HTTP
//! - `whip`, `whep`: the two protocols; `session`: what they share
//! - `events`: what a player is told while it watches; `layers`: which layer it chooses
//! - `hls`: the same streams by LL-HLS
//! - `sdp_fragment`: `application/trickle-ice-sdpfrag`
//! - `api`, `metrics`: what operators see; `thumbnail`: what a stream shows
//! - `auth`: bearer tokens
//! - `cors`: access for pages from elsewhere
//! - `error`: the one table of refusals
//! - `pages`: the pages, which are part of the binary
//! - `serve`: listeners and graceful stop; `requests`: those of one connection
//! - `probe`: whether some server answers
//! - `tls`: the certificate in use; `certificate`: what one says; `acme`: one from an authority
//! - `places`: how many connections there may be; `proxy`: who the client is behind a proxy

mod acme;
mod api;
pub mod auth;
pub mod certificate;
pub mod config;
mod cors;
mod error;
mod events;
pub mod hls;
mod layers;
pub mod media_server;
mod metrics;
mod pages;
mod places;
pub mod probe;
mod proxy;
mod requests;
pub mod sdp_fragment;
pub mod serve;
mod session;
mod thumbnail;
pub mod tls;
mod whep;
mod whip;

pub use config::Config;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get};
use error::Problem;
use media_server::MediaServer;
use places::Places;
use proxy::TrustedProxies;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;

/// What every handler sees.
struct App {
    server: Arc<dyn MediaServer>,
    credentials: auth::Credentials,
    ice_servers: Vec<config::IceServer>,
    limits: config::Limits,
    /// Each stream of events holds one.
    event_places: Arc<Places>,
    retry_after: Duration,
    media_hint: String,
    addresses: serve::Addresses,
    pages: Option<pages::Pages>,
    hls: bool,
}

/// Every route on one screen.
pub fn app(server: Arc<dyn MediaServer>, config: &Config, addresses: serve::Addresses) -> Router {
    let app = Arc::new(App {
        server,
        credentials: config.credentials.clone(),
        ice_servers: config.ice_servers.clone(),
        limits: config.limits.clone(),
        event_places: Arc::new(event_places(&config.limits)),
        retry_after: config.retry_after,
        media_hint: config.media_hint.clone(),
        addresses,
        pages: config.pages.then(pages::Pages::embedded),
        hls: config.hls,
    });
    Router::new()
        .route("/whip/{*stream}", whip::endpoint())
        .route("/whip/@session/{id}", whip::session())
        .route("/whep/{*stream}", whep::endpoint())
        .route("/whep/@session/{id}", whep::session())
        .route("/whep/@session/{id}/events", events::entry())
        .route("/whep/@session/{id}/layer", layers::entry())
        .route("/hls/{*path}", hls::file())
        .route("/api/v1/streams", read(get(api::streams)))
        .route("/api/v1/streams/{*stream}", read(get(api::stream)))
        .route("/api/v1/time", read(get(api::time)))
        .route("/metrics", read(get(api::metrics)))
        .route("/healthz", read(get(api::healthz)))
        .route("/readyz", read(get(api::readyz)))
        .route("/client-config.json", read(get(pages::client_config)))
        .route("/", read(get(pages::index)))
        .route("/publish", read(get(pages::publish)))
        .route("/publish/{*stream}", read(get(pages::publish)))
        .route("/watch", read(get(pages::watch)))
        .route("/watch/{*stream}", read(get(pages::watch)))
        .fallback(pages::asset)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler panicked; its request is answered with 500");
            Problem::internal().into_response()
        }))
        .layer(axum::middleware::from_fn(cors::allow_any_origin))
}

/// Of the connections that one address may have, streams of events hold no more than half: behind a
/// proxy that is not known to be one all viewers come from one address, and whoever publishes or
/// begins to watch must still get in.
fn event_places(limits: &config::Limits) -> Places {
    let per_address = limits.connections_per_address_max.div_ceil(2);
    Places::new(usize::MAX, per_address, TrustedProxies::default())
}

/// A path that is only read also answers the preflight of a page from elsewhere.
fn read(route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    route.options(async || StatusCode::OK)
}
