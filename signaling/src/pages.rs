//! Serves the pages of `web/`, which are part of the binary.

use crate::App;
use crate::error::Problem;
use crate::proxy::Client;
use axum::Extension;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// `EMBEDDED`: path below `web/dist` -> content, made by `build.rs`.
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Own scripts and styles only; a player may take its stream from any server, and shows media and
/// pictures made in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
                      font-src 'self'; manifest-src 'self'; worker-src 'self' blob:; \
                      connect-src *; base-uri 'none'; form-action 'self'; object-src 'none'";

/// What `/` says where the pages were not built.
const NOT_BUILT: &str = "<!doctype html><title>millrace</title><p>This server runs, but its pages \
                         were not built: type <code>make web</code> and build it again. \
                         Publishers use <code>/whip/{stream}</code>, viewers \
                         <code>/whep/{stream}</code>.";

/// The files of `web/dist` by path.
pub(crate) struct Pages(HashMap<&'static str, Page>);

struct Page {
    content: &'static [u8],
    kind: &'static str,
    etag: HeaderValue,
}

impl Pages {
    /// What was there when the binary was built.
    pub(crate) fn embedded() -> Self {
        let page = |&(path, content): &(&'static str, &'static [u8])| {
            (path, Page { content, kind: media_type(path), etag: entity_tag(content) })
        };
        Self(embedded::EMBEDDED.iter().map(page).collect())
    }

    fn get(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let page = self.0.get(path)?;
        let unchanged = headers.get(IF_NONE_MATCH).is_some_and(|tags| lists(tags, &page.etag));
        let mut response = if unchanged {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            page.content.into_response()
        };
        secure(response.headers_mut(), page.kind);
        response.headers_mut().insert(ETAG, page.etag.clone());
        Some(response)
    }
}

/// `GET /`
pub(crate) async fn index(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    file(&app, "index.html", &headers)
}

/// `GET /publish` and `/publish/{stream}`: the page reads the name from its own URL.
pub(crate) async fn publish(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    file(&app, "publish.html", &headers)
}

/// `GET /watch` and `/watch/{stream}`: the page reads the name from its own URL.
pub(crate) async fn watch(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    file(&app, "watch.html", &headers)
}

/// Whatever has no route of its own: a script or a style, else nothing.
pub(crate) async fn asset(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    let reads = method == Method::GET || method == Method::HEAD;
    let pages = app.pages.as_ref().filter(|_| reads);
    pages.and_then(|pages| pages.get(path, &headers)).ok_or_else(Problem::not_found)
}

/// `GET /client-config.json`: what a page has to know of this server. Behind a proxy our ports of
/// HTTP are not the page's: it must not send anybody there. RTMP and SRT go past a proxy of HTTP,
/// which may be another machine than ours: the page says so.
pub(crate) async fn client_config(
    State(app): State<Arc<App>>,
    client: Option<Extension<Client>>,
) -> Response {
    let direct = client.is_none_or(|Extension(client)| !client.proxied);
    let port = |address: Option<SocketAddr>| address.filter(|_| direct).map(|it| it.port());
    let open = |address: Option<SocketAddr>| address.map(|it| it.port());
    let body = serde_json::json!({
        "media": app.media_hint,
        "http_port": port(app.addresses.http),
        "https_port": port(app.addresses.https),
        "rtmp_port": open(app.addresses.rtmp),
        "rtmps_port": open(app.addresses.rtmps),
        "srt_port": open(app.addresses.srt),
        "behind_proxy": !direct,
        "view_needs_token": app.credentials.viewing_needs_token(),
        "hls": app.hls,
    });
    let mut response = body.to_string().into_response();
    secure(response.headers_mut(), "application/json");
    response
}

fn file(app: &App, path: &str, headers: &HeaderMap) -> Response {
    let Some(pages) = &app.pages else {
        return Problem::not_found().into_response();
    };
    pages.get(path, headers).unwrap_or_else(|| {
        let mut response = Html(NOT_BUILT).into_response();
        secure(response.headers_mut(), "text/html; charset=utf-8");
        response
    })
}

/// What every page is sent with.
fn secure(headers: &mut HeaderMap, kind: &'static str) {
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, kind);
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    // Asked again each time, and answered in no bytes where nothing changed.
    set(CACHE_CONTROL, "no-cache");
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/vnd.microsoft.icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The first half of the content's SHA-256.
fn entity_tag(content: &[u8]) -> HeaderValue {
    let mut tag = String::from("\"");
    for byte in Sha256::digest(content).iter().take(16) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("quotes and hexadecimal digits are visible ASCII")
}

/// Whether an `If-None-Match` lists that tag, compared weakly (RFC 9110 §13.1.2).
pub(crate) fn lists(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(tags) = tags.to_str() else {
        return false;
    };
    tags.split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || etag == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_page_is_not_sent_again() {
        let etag = entity_tag(b"x");
        let page = Page { content: b"x", kind: "text/plain", etag: etag.clone() };
        let pages = Pages(HashMap::from([("x.txt", page)]));
        let fresh = pages.get("x.txt", &HeaderMap::new()).expect("it is there");
        assert_eq!((fresh.status(), fresh.headers().get(ETAG)), (StatusCode::OK, Some(&etag)));
        for listed in [etag.clone(), HeaderValue::from_static("*")] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, listed)]);
            let again = pages.get("x.txt", &headers).expect("it is there");
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        }
        let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("\"y\""))]);
        assert_eq!(pages.get("x.txt", &headers).expect("there").status(), StatusCode::OK);
        assert!(pages.get("../x.txt", &HeaderMap::new()).is_none());
    }

    #[test]
    fn every_kind_of_file_has_its_media_type() {
        assert_eq!(media_type("a/b.min.js"), "text/javascript; charset=utf-8");
        assert_eq!(media_type("watch.html"), "text/html; charset=utf-8");
        assert_eq!(media_type("LICENSE"), "application/octet-stream");
    }
}
