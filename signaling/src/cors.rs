//! Cross-origin access: any page may publish and watch through this server.
//!
//! That is safe because nothing that changes anything goes by cookies or addresses: a page without
//! the token gets no further than its reader would. The one cookie there is lets its owner read the
//! media of one stream by HLS. No page elsewhere reads by it: browsers do not send it for one
//! (`SameSite`), and give no script an answer to a request with cookies that is allowed to `*`.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

/// What scripts may read of an answer besides the few that are always readable.
const EXPOSED: &str = "Location, ETag, Link, Accept-Patch, Accept-Post, Allow, Retry-After, \
                       WWW-Authenticate, Content-Length, Content-Range, Accept-Ranges, Date, Age";
/// What scripts may send besides the few that need no leave.
const ALLOWED: &str = "Authorization, Content-Type, If-Match, If-None-Match, Range";

/// Adds the headers of the Fetch standard to every answer.
pub(crate) async fn allow_any_origin(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    set(headers, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    if preflight {
        set(headers, ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PATCH, DELETE, OPTIONS");
        set(headers, ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
        set(headers, ACCESS_CONTROL_MAX_AGE, "7200");
    } else {
        set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
