//! What is sent: playlists, compressed or not, and media, whole, in part or as it is made; each
//! with what a cache has to know of it.

use super::range::{Wanted, parse_range};
use crate::media_server::hls::{HlsPlaylist, Unfinished};
use crate::pages::lists;
use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::response::Response;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::convert::Infallible;

/// The media type of playlists (draft-pantos-hls-rfc8216bis §4).
const PLAYLIST: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
/// A name stands for the same bytes for ever; a year is the most that counts as that.
const FOR_EVER: &str = "max-age=31536000, immutable";
/// What a stream of HTTP/2 is given at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// Whether caches may give an answer to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Public,
    /// It was let out for a token.
    Private,
}

impl Sharing {
    /// The `Cache-Control` of an answer that is good so long.
    fn control(self, how_long: &str) -> HeaderValue {
        let word = if self == Self::Public { "public" } else { "private" };
        HeaderValue::try_from(format!("{word}, {how_long}")).expect("it is made of visible ASCII")
    }
}

/// A playlist, or 304 for whoever has it.
pub(super) fn playlist(parts: &Parts, playlist: &HlsPlaylist, sharing: Sharing) -> Response {
    let gzip = takes_gzip(&parts.headers);
    let mut headers = HeaderMap::with_capacity(12);
    let how_long = match playlist.max_age.as_secs() {
        0 => "no-cache".to_owned(),
        seconds => format!("max-age={seconds}"),
    };
    headers.insert(CACHE_CONTROL, sharing.control(&how_long));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    let coding = if gzip { "-gzip" } else { "" };
    if unchanged(parts, &mut headers, &format!("{}{coding}", playlist.etag)) {
        return respond(StatusCode::NOT_MODIFIED, headers, Body::empty());
    }
    headers.insert(CONTENT_TYPE, PLAYLIST);
    let bytes = if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        &playlist.gzip
    } else {
        &playlist.text
    };
    whole(parts, StatusCode::OK, headers, bytes.clone())
}

/// A file that is complete, or the range of it that is asked for.
pub(super) fn media(parts: &Parts, file: &str, bytes: Bytes, sharing: Sharing) -> Response {
    let mut headers = media_headers(file, sharing);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if unchanged(parts, &mut headers, file) {
        return respond(StatusCode::NOT_MODIFIED, headers, Body::empty());
    }
    match wanted(parts, &headers, bytes.len()) {
        Wanted::Whole => whole(parts, StatusCode::OK, headers, bytes),
        Wanted::Part(range) => {
            let (first, last) = (range.start, range.end - 1);
            let of = format!("bytes {first}-{last}/{}", bytes.len());
            set(&mut headers, CONTENT_RANGE, &of);
            whole(parts, StatusCode::PARTIAL_CONTENT, headers, bytes.slice(range))
        }
        Wanted::Nothing => {
            headers.remove(CONTENT_TYPE);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            set(&mut headers, CONTENT_RANGE, &format!("bytes */{}", bytes.len()));
            respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty())
        }
    }
}

/// A segment that is being made. A cache may keep it like any other once it has come to its end; of
/// one that is cut off it keeps nothing (RFC 9111 §3.3).
pub(super) fn growing(
    parts: &Parts,
    file: &str,
    pieces: BoxStream<'static, Result<Bytes, Unfinished>>,
    sharing: Sharing,
) -> Response {
    let mut headers = media_headers(file, sharing);
    set(&mut headers, ETAG, &format!("\"{file}\""));
    let body = if parts.version == Version::HTTP_2 {
        Body::from_stream(pieces.flat_map(|piece| match piece {
            Ok(bytes) => small_copies(bytes).map(Ok).left_stream(),
            Err(unfinished) => stream::iter([Err(unfinished)]).right_stream(),
        }))
    } else {
        Body::from_stream(pieces)
    };
    respond(StatusCode::OK, headers, body)
}

fn media_headers(file: &str, sharing: Sharing) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    let sound = file.split('_').nth(1).is_some_and(|it| it == "aac" || it == "opus");
    let kind = if sound { "audio/mp4" } else { "video/mp4" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, sharing.control(FOR_EVER));
    headers
}

/// What of a file is asked for. A condition on another version asks for the whole (RFC 9110
/// §13.1.5); so does a date, as names do not change.
fn wanted(parts: &Parts, headers: &HeaderMap, len: usize) -> Wanted {
    let Some(range) = parts.headers.get(RANGE).and_then(|range| range.to_str().ok()) else {
        return Wanted::Whole;
    };
    let holds = parts.headers.get(IF_RANGE).is_none_or(|tag| Some(tag) == headers.get(ETAG));
    if parts.method != Method::GET || !holds { Wanted::Whole } else { parse_range(range, len) }
}

/// Names the answer, and says whether the client has it already.
fn unchanged(parts: &Parts, headers: &mut HeaderMap, etag: &str) -> bool {
    set(headers, ETAG, &format!("\"{etag}\""));
    let etag = headers.get(ETAG);
    let tags = parts.headers.get(IF_NONE_MATCH);
    etag.zip(tags).is_some_and(|(etag, tags)| lists(tags, etag))
}

/// An answer whose length is known. On HTTP/2 a client that reads no more would keep what the
/// connection holds for its stream, and with it all of a shared file, for as long as it sends other
/// requests: there it gets small copies, one after the other.
fn whole(parts: &Parts, status: StatusCode, mut headers: HeaderMap, bytes: Bytes) -> Response {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let copied = parts.version == Version::HTTP_2 && bytes.len() > PIECE_BYTES;
    let body = if copied {
        Body::from_stream(small_copies(bytes).map(Ok::<_, Infallible>))
    } else {
        Body::from(bytes)
    };
    respond(status, headers, body)
}

fn small_copies(bytes: Bytes) -> impl stream::Stream<Item = Bytes> + Send + 'static {
    stream::unfold(bytes, async |mut left| {
        let piece = left.split_to(left.len().min(PIECE_BYTES));
        (!piece.is_empty()).then(|| (Bytes::copy_from_slice(&piece), left))
    })
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Sets a header that is made of a file's name or of numbers.
fn set(headers: &mut HeaderMap, name: axum::http::HeaderName, value: &str) {
    // A name that no header carries is no file's.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Whether the client takes gzip (RFC 9110 §12.5.3). Who does not say gets what everybody reads.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut by_star = false;
    for coding in lines.flat_map(|line| line.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|weight| {
            let weight = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0))
        });
        match name {
            "*" => by_star = !refused,
            _ if name.eq_ignore_ascii_case("gzip") => return !refused,
            _ => {}
        }
    }
    by_star
}

/// What a refusal is good for: nobody is to hear of it who asks later, but a crowd that asks for
/// what is not live may be answered by a cache.
pub(super) fn cache_refusal(response: &mut Response, shared: bool) {
    let shared = shared && response.status() == StatusCode::NOT_FOUND;
    let control = if shared { "public, max-age=1" } else { "no-store" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(control));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_whoever_takes_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip, deflate, br, zstd", true),
            ("*", true),
            ("identity", false),
            ("", false),
            ("gzip;q=0", false),
            ("*;q=1, gzip;q=0.000", false),
            ("br;q=1.0, *;q=0", false),
        ] {
            let accepted = HeaderValue::from_static(accepted);
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accepted.clone())]);
            assert_eq!(takes_gzip(&headers), expected, "{accepted:?}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
