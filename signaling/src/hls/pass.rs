//! Who may watch by HLS, where viewing takes a token: it comes as a bearer's, in the query, or in
//! the cookie that a playlist sets.
//!
//! A player that is given a URL and nothing else, as `<video src>` in Safari or a television, sends
//! no header of ours. A token in the query goes on in the URLs of the playlists; one that came as a
//! bearer's is kept by the browser as a cookie, for that stream's path only.

use super::query;
use crate::auth::{self, AuthError, Credentials};
use crate::error::Problem;
use crate::proxy::Client;
use axum::http::HeaderValue;
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

/// The cookie's name.
const NAME: &str = "millrace-view";

/// What a request that may be served is to be answered with.
#[derive(Default)]
pub(super) struct Pass {
    /// What the URLs of a playlist carry; empty for nothing.
    pub(super) query: String,
    /// What a playlist sets.
    pub(super) cookie: Option<HeaderValue>,
}

impl Pass {
    /// Lets in who has a token for the stream; of several, the one that is hardest to send by
    /// mistake counts.
    pub(super) fn check(
        credentials: &Credentials,
        parts: &Parts,
        stream: &str,
    ) -> Result<Self, Problem> {
        if !credentials.viewing_needs_token() {
            return Ok(Self::default());
        }
        let kept = kept(parts);
        let of_bearer = auth::bearer(&parts.headers)?;
        if let Some(token) = of_bearer {
            credentials.may_view(token, stream)?;
            return Ok(Self { query: String::new(), cookie: cookie(parts, token, kept) });
        }
        if let Some(token) = query::parse_token(parts.uri.query().unwrap_or_default())? {
            credentials.may_view(&token, stream)?;
            let cookie = cookie(parts, &token, kept);
            return Ok(Self { query: query::token_pair(&token), cookie });
        }
        let token = kept.ok_or(AuthError::NotInUrl)?;
        let token = percent_decode_str(token).decode_utf8().map_err(|_| AuthError::Unknown)?;
        credentials.may_view(&token, stream)?;
        Ok(Self::default())
    }
}

/// The token of the cookie, as it stands there. The browser sends the one of the longest path first
/// (RFC 6265 §5.4): the stream's own.
fn kept(parts: &Parts) -> Option<&str> {
    let lines = parts.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == NAME).then_some(value)
    })
}

/// The cookie that saves this client from sending the token otherwise; none if it has it already.
///
/// It goes with requests of pages of this server only (`SameSite`): the others have the query.
fn cookie(parts: &Parts, token: &str, kept: Option<&str>) -> Option<HeaderValue> {
    let value = query::escaped(token);
    if kept == Some(value.as_str()) {
        return None;
    }
    let (path, _) = parts.uri.path().rsplit_once('/')?;
    let secure = parts.extensions.get::<Client>().is_some_and(|client| client.secure);
    let secure = if secure { "; Secure" } else { "" };
    // A path that would end the attribute (RFC 6265 §4.1.1) is no stream's.
    let cookie = format!("{NAME}={value}; Path={path}/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(cookie).ok().filter(|_| !path.contains(';'))
}
