//! LL-HLS (draft-pantos-hls-rfc8216bis): playlists and media of `/hls/{stream}/{file}`.
//!
//! The media server makes both and does the waiting; here are the URL, the token, and what HTTP
//! says around them.
//!
//! - `query`: delivery directives and token of a URL
//! - `range`: which bytes of a file
//! - `pass`: who may watch
//! - `answer`: what is sent

mod answer;
mod pass;
pub mod query;
pub mod range;

use crate::App;
use crate::auth::Credentials;
use crate::error::Problem;
use crate::media_server::hls::{Directives, HlsAnswer, HlsRequest};
use answer::Sharing;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use pass::Pass;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Where the URLs begin.
pub(crate) const PREFIX: &str = "/hls/";
/// The multivariant playlist: the one that takes no directives.
const MULTIVARIANT: &str = "index.m3u8";

/// `/hls/{stream}/{file}`
pub(crate) fn file() -> MethodRouter<Arc<App>> {
    let read = async |State(app): State<Arc<App>>, request: Request| answer(&app, request).await;
    get(read).options(async || StatusCode::OK)
}

/// Answers a GET or HEAD.
pub(crate) async fn answer(app: &App, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let refused = match find(app, &parts).await {
        Ok(response) => return response,
        Err(problem) => problem,
    };
    let mut response = refused.into_response();
    let shared = is_playlist(parts.uri.path()) && !app.credentials.viewing_needs_token();
    answer::cache_refusal(&mut response, shared);
    response
}

async fn find(app: &App, parts: &Parts) -> Result<Response, Problem> {
    let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Problem::bad_path())?;
    // What is before the last part is the stream: its name may have slashes.
    let (stream, file) = path.rsplit_once('/').ok_or_else(Problem::no_hls_file)?;
    let pass = Pass::check(&app.credentials, parts, stream)?;
    let directives = if is_playlist(file) && file != MULTIVARIANT {
        query::parse_directives(parts.uri.query().unwrap_or_default())?
    } else {
        Directives::default()
    };
    let request = HlsRequest { stream, file, directives, query: &pass.query };
    let found = app.server.hls(request).await;
    let found = found.map_err(|error| Problem::of_hls(&error, app.retry_after))?;
    let private = app.credentials.viewing_needs_token();
    let sharing = if private { Sharing::Private } else { Sharing::Public };
    Ok(match found {
        HlsAnswer::Playlist(playlist) => {
            let mut response = answer::playlist(parts, &playlist, sharing);
            if let Some(cookie) = pass.cookie {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
        HlsAnswer::Media(bytes) => answer::media(parts, file, bytes, sharing),
        HlsAnswer::Growing(pieces) => answer::growing(parts, file, pieces, sharing),
    })
}

/// Lets in who has a token for a stream, in the header or in the URL, where one is needed.
pub(crate) fn may_watch(
    credentials: &Credentials,
    parts: &Parts,
    stream: &str,
) -> Result<(), Problem> {
    Pass::check(credentials, parts, stream).map(drop)
}

fn is_playlist(path: &str) -> bool {
    path.rsplit('.').next() == Some("m3u8")
}
