//! LL-HLS over HTTP (draft-pantos-hls-rfc8216bis): URLs, headers, refusals, tokens.

use super::fake::{SEGMENT_BYTES, segment};
use super::*;
use axum::body::Bytes;
use axum::response::Response;

/// What a shared cache may do with a file of media.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

async fn raw(served: &Served, ask: Ask) -> Response {
    served.app.clone().oneshot(ask.0).await.expect("the app is infallible")
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.expect("bodies are whole").to_bytes()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("headers are text"))
}

/// Viewing takes a token: `v` for streams whose name begins with `lot-`.
fn closed() -> Served {
    let mut config = config();
    config.credentials = config.credentials.with_view_rule("lot-*", "v/1");
    Served::with(&config)
}

#[tokio::test]
async fn the_last_part_of_the_path_is_the_file_and_the_rest_the_stream() {
    let served = Served::new();
    for path in ["/hls/lot-42/index.m3u8", "/hls/live/cam.1/video.m3u8?x=_HLS_msn"] {
        assert_eq!(served.send(get(path)).await.status, 200, "{path}");
    }
    let none = "Directives { msn: None, part: None, skip: false }";
    let asked = served.fake.asked();
    assert_eq!(asked[0], format!("lot-42 index.m3u8 {none} "));
    assert_eq!(asked[1], format!("live/cam.1 video.m3u8 {none} "));
    let detail = served.send(get("/hls/index.m3u8")).await.problem(404, "no-hls-file");
    assert!(detail.contains("/hls/{stream}/index.m3u8"), "{detail}");
    served.send(get("/hls/%ff/index.m3u8")).await.problem(400, "bad-path");
    served.send(Ask::new("POST", "/hls/a/video.m3u8")).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn a_playlist_may_be_kept_as_long_as_it_is_true() {
    let served = Served::new();
    for (path, control) in
        [("/hls/a/index.m3u8", "public, max-age=3"), ("/hls/a/video.m3u8", "public, no-cache")]
    {
        let answer = served.send(get(path)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/vnd.apple.mpegurl");
        assert_eq!(answer.header("cache-control"), control);
        assert_eq!(answer.header("vary"), "Accept-Encoding");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert!(answer.body.starts_with("#EXTM3U\n"), "{}", answer.body);
        let head = served.send(Ask::new("HEAD", path)).await;
        assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), answer.header("content-length"));
    }
    served.fake.parts.add_permits(1);
    let blocking = served.send(get("/hls/a/video.m3u8?_HLS_msn=7&_HLS_part=0")).await;
    assert_eq!(blocking.header("cache-control"), "public, max-age=12");
}

#[tokio::test]
async fn a_playlist_is_compressed_for_whoever_takes_it_and_not_sent_twice() {
    let served = Served::new();
    let plain = served.send(get("/hls/a/video.m3u8")).await;
    let ask = || get("/hls/a/video.m3u8").with("accept-encoding", "gzip, br");
    let packed = raw(&served, ask()).await;
    assert_eq!(header(&packed, "content-encoding"), "gzip");
    assert_eq!(header(&packed, "vary"), "Accept-Encoding");
    let etag = header(&packed, "etag").to_owned();
    assert_ne!(etag, plain.header("etag"), "another representation has another tag");
    let length = header(&packed, "content-length").to_owned();
    let packed = bytes(packed).await;
    assert_eq!(length, packed.len().to_string());
    assert_eq!(packed[..2], [0x1f, 0x8b]);

    let again = served.send(ask().with("if-none-match", &etag)).await;
    assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), etag);
    assert_eq!(again.header("cache-control"), "public, no-cache");
    assert_eq!(again.header("vary"), "Accept-Encoding");
    let other = served.send(get("/hls/a/video.m3u8").with("if-none-match", &etag)).await;
    assert_eq!(other.status, 200, "what is not compressed is something else");
}

#[tokio::test]
async fn directives_reach_the_media_server_or_are_refused() {
    let served = Served::new();
    served.fake.parts.add_permits(1);
    let path = "/hls/a/video.m3u8?_HLS_msn=7&_HLS_part=2&_HLS_skip=YES&cachebust=1";
    assert_eq!(served.send(get(path)).await.status, 200);
    let all = "Directives { msn: Some(7), part: Some(2), skip: true }";
    assert_eq!(served.fake.asked(), [format!("a video.m3u8 {all} ")]);
    for query in [
        "_HLS_part=1",
        "_HLS_msn=x",
        "_HLS_msn=1&_HLS_part=-1",
        "_HLS_msn=1&_HLS_msn=2",
        "_HLS_skip=MAYBE",
    ] {
        let answer = served.send(get(&format!("/hls/a/video.m3u8?{query}"))).await;
        let detail = answer.problem(400, "malformed-query");
        assert!(detail.contains("_HLS_"), "{detail}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    // They are for media playlists: elsewhere they are like any other parameter.
    for file in ["index.m3u8", "r_video_6.m4s"] {
        let path = format!("/hls/a/{file}?_HLS_part=x");
        assert_eq!(raw(&served, get(&path)).await.status(), 200, "{file}");
    }
    let far = served.send(get("/hls/a/video.m3u8?_HLS_msn=99")).await;
    assert_eq!(far.problem(400, "bad-directive"), "99 is too far ahead");
}

#[tokio::test]
async fn every_refusal_has_its_status_and_is_not_kept_long() {
    let served = Served::new();
    for (path, status, kind, control, retry_after) in [
        ("/hls/bad%20name/index.m3u8", 400, "bad-name", "no-store", ""),
        ("/hls/not-live/index.m3u8", 404, "not-live", "public, max-age=1", "2"),
        ("/hls/a/none.m3u8", 404, "no-hls-file", "public, max-age=1", ""),
        ("/hls/a/r_video_5.m4s", 404, "no-hls-file", "no-store", ""),
        ("/hls/vp8/index.m3u8", 406, "not-playable", "no-store", ""),
        ("/hls/off/index.m3u8", 404, "hls-off", "public, max-age=1", ""),
        ("/hls/busy/video.m3u8?_HLS_msn=3", 503, "busy", "no-store", "2"),
        ("/hls/panic/index.m3u8", 500, "internal", "", ""),
    ] {
        let answer = served.send(get(path)).await;
        answer.problem(status, kind);
        assert_eq!(answer.header("cache-control"), control, "{path}");
        assert_eq!(answer.header("retry-after"), retry_after, "{path}");
    }
}

#[tokio::test]
async fn media_is_good_for_ever() {
    let served = Served::new();
    for (file, kind) in [("r_video_6.m4s", "video/mp4"), ("r_aac_6.0.m4s", "audio/mp4")] {
        let path = format!("/hls/live/a/{file}");
        let answer = raw(&served, get(&path)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), kind);
        assert_eq!(header(&answer, "cache-control"), FOR_EVER);
        assert_eq!(header(&answer, "etag"), format!("\"{file}\""));
        assert_eq!(header(&answer, "accept-ranges"), "bytes");
        assert_eq!(header(&answer, "content-length"), SEGMENT_BYTES.to_string());
        assert_eq!(header(&answer, "content-encoding"), "");
        assert!(header(&answer, "access-control-expose-headers").contains("Content-Range, "));
        assert!(bytes(answer).await == segment(), "the bytes are those of the file");
        let tag = format!("\"x\", \"{file}\"");
        let again = served.send(get(&path).with("if-none-match", &tag)).await;
        assert_eq!((again.status.as_u16(), again.header("cache-control")), (304, FOR_EVER));
    }
}

#[tokio::test]
async fn a_range_of_a_file_is_a_part_of_it() {
    let served = Served::new();
    let path = "/hls/a/r_video_6.m4s";
    let part = raw(&served, get(path).with("range", "bytes=5-8")).await;
    assert_eq!(part.status(), 206);
    assert_eq!(header(&part, "content-range"), format!("bytes 5-8/{SEGMENT_BYTES}"));
    assert_eq!(header(&part, "content-length"), "4");
    assert_eq!(header(&part, "cache-control"), FOR_EVER);
    assert_eq!(bytes(part).await[..], [5, 6, 7, 8]);

    let beyond = format!("bytes={SEGMENT_BYTES}-");
    let nothing = served.send(get(path).with("range", &beyond)).await;
    assert_eq!(nothing.status, 416);
    assert_eq!(nothing.header("content-range"), format!("bytes */{SEGMENT_BYTES}"));
    assert_eq!(nothing.header("cache-control"), "no-store");

    let ranged = || get(path).with("range", "bytes=0-1");
    for (ask, status) in [
        (ranged().with("if-range", "\"r_video_6.m4s\""), 206),
        (ranged().with("if-range", "\"other\""), 200),
        (ranged().with("if-range", "Thu, 26 Nov 2026 09:00:00 GMT"), 200),
        (get(path).with("range", "bytes=0-1,4-5"), 200),
        (get(path).with("range", "lines=0-1"), 200),
    ] {
        assert_eq!(raw(&served, ask).await.status(), status);
    }
    let head = Ask::new("HEAD", path).with("range", "bytes=0-1");
    let head = raw(&served, head).await;
    assert_eq!(head.status(), 200, "a range is of a GET (RFC 9110 §14.2)");
    assert_eq!(header(&head, "content-length"), SEGMENT_BYTES.to_string());
}

#[tokio::test]
async fn where_viewing_takes_a_token_so_does_every_file() {
    let served = closed();
    let path = "/hls/lot-42/index.m3u8";
    let with = |query: &str| get(&format!("{path}?{query}"));
    let detail = served.send(get(path)).await.problem(401, "token-missing");
    assert!(detail.contains("?token=<token>"), "{detail}");
    served.send(get("/hls/lot-42/r_video_6.m4s")).await.problem(401, "token-missing");
    served.send(with("token=wrong")).await.problem(401, "token-unknown");
    served.send(with("token=%ff")).await.problem(400, "malformed-query");
    served.send(with("token=v/1&token=v/1")).await.problem(400, "malformed-query");
    let bearer = |value| get(path).with("authorization", value);
    served.send(bearer("Bearer wrong")).await.problem(401, "token-unknown");
    served.send(bearer("Basic djE=")).await.problem(401, "token-malformed");
    let elsewhere = served.send(get("/hls/other/index.m3u8?token=v/1")).await;
    elsewhere.problem(403, "not-allowed");
    assert_eq!(elsewhere.header("cache-control"), "no-store");
    assert!(served.fake.asked().is_empty(), "the media server hears of none of them");
    let gone = served.send(get("/hls/lot-42/none.m3u8?token=v/1")).await;
    assert_eq!(gone.header("cache-control"), "no-store");

    for ask in [with("token=v/1"), with("token=v%2F1"), bearer("Bearer v/1"), bearer(PUBLISH)] {
        let answer = served.send(ask).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "private, max-age=3");
    }
    let media = raw(&served, get("/hls/lot-42/r_video_6.m4s?token=v/1")).await;
    assert_eq!(header(&media, "cache-control"), "private, max-age=31536000, immutable");
    assert_eq!(header(&media, "set-cookie"), "", "playlists set it");
}

#[tokio::test]
async fn a_token_of_the_query_goes_on_in_the_playlist() {
    let served = closed();
    for query in ["token=v/1", "a=b&token=v%2f1&_HLS_skip=YES"] {
        let answer = served.send(get(&format!("/hls/lot-1/index.m3u8?{query}"))).await;
        assert!(answer.body.ends_with("video.m3u8?token=v%2F1\n"), "{}", answer.body);
    }
    let bearer = get("/hls/lot-1/index.m3u8?token=wrong").with("authorization", "Bearer v/1");
    let answer = served.send(bearer).await;
    assert!(answer.body.ends_with("video.m3u8?\n"), "{}", answer.body);
    let open = Served::new();
    let answer = open.send(get("/hls/lot-1/index.m3u8?token=v/1")).await;
    assert!(answer.body.ends_with("video.m3u8?\n"), "where none is needed none is carried");
    assert_eq!(answer.header("set-cookie"), "");
}

#[tokio::test]
async fn a_playlist_sets_a_cookie_that_does_instead_of_the_token() {
    let served = closed();
    let cookie = "millrace-view=v%2F1; Path=/hls/lot-1/a/; HttpOnly; SameSite=Lax";
    let path = "/hls/lot-1/a/index.m3u8";
    let bearer = || get(path).with("authorization", "Bearer v/1");
    assert_eq!(served.send(bearer()).await.header("set-cookie"), cookie);
    let by_query = served.send(get(&format!("{path}?token=v/1"))).await;
    assert_eq!(by_query.header("set-cookie"), cookie);

    let kept = "theme=dark; millrace-view=v%2F1";
    assert_eq!(served.send(bearer().with("cookie", kept)).await.header("set-cookie"), "");
    for path in [path, "/hls/lot-1/a/video.m3u8"] {
        let answer = served.send(get(path).with("cookie", kept)).await;
        assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (200, ""));
    }
    let media = get("/hls/lot-1/a/r_video_6.m4s").with("cookie", kept);
    assert_eq!(raw(&served, media).await.status(), 200);
    let stale = get(path).with("cookie", "millrace-view=old");
    served.send(stale).await.problem(401, "token-unknown");
    let other = get("/hls/other/index.m3u8").with("cookie", kept);
    served.send(other).await.problem(403, "not-allowed");
    // What changes anything is not done for a cookie.
    let publish = Ask::offer("/whip/lot-1").without("authorization");
    served.send(publish.with("cookie", kept)).await.problem(401, "token-missing");
    let view = Ask::offer("/whep/lot-1").without("authorization");
    served.send(view.with("cookie", kept)).await.problem(401, "token-missing");
}

#[tokio::test]
async fn a_page_from_elsewhere_may_ask_for_ranges() {
    let served = Served::new();
    let ask = Ask::new("OPTIONS", "/hls/a/r_video_6.m4s")
        .with("origin", "https://elsewhere.example")
        .with("access-control-request-method", "GET")
        .with("access-control-request-headers", "range");
    let answer = served.send(ask).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("access-control-allow-headers").contains("Range"));
    assert_eq!(answer.header("access-control-allow-credentials"), "", "never with cookies");
}
