//! Thumbnails: URLs, headers, refusals, tokens.

use super::*;

fn get(stream: &str) -> Ask {
    Ask::new("GET", &format!("/api/v1/streams/{stream}/thumbnail.jpg"))
}

#[tokio::test]
async fn a_thumbnail_may_be_kept_as_long_as_it_is_the_newest() {
    let served = Served::new();
    for (stream, control) in [("lot-42", "public, max-age=3"), ("old", "public, max-age=1")] {
        let answer = served.send(get(stream)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "a picture"));
        assert_eq!(answer.header("content-type"), "image/jpeg");
        assert_eq!(answer.header("content-length"), "9");
        assert_eq!(answer.header("cache-control"), control);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let again = served.send(get(stream).with("if-none-match", answer.header("etag"))).await;
        assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""));
        assert_eq!(again.header("cache-control"), control);
        let other = served.send(get(stream).with("if-none-match", "\"x\"")).await;
        assert_eq!(other.status, 200);
    }
    let path = "/api/v1/streams/lot-42/thumbnail.jpg";
    let head = served.send(Ask::new("HEAD", path)).await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), "9");
    served.send(Ask::new("POST", path)).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn what_is_before_the_file_is_the_stream() {
    let served = Served::new();
    assert_eq!(served.send(get("live/cam.1")).await.status, 200);
    served.send(get("bad%20name")).await.problem(400, "bad-name");
    assert_eq!(served.fake.asked(), ["thumbnail live/cam.1", "thumbnail bad name"]);
    // Other names of one stream are of its report.
    for path in ["thumbnail.jpg", "a/thumbnail.jpg.x", "a.thumbnail.jpg"] {
        let ask = Ask::new("GET", &format!("/api/v1/streams/{path}"));
        served.send(ask).await.problem(401, "token-missing");
    }
}

#[tokio::test]
async fn every_refusal_has_its_status_and_is_not_kept() {
    let served = Served::new();
    for (stream, status, kind, retry_after) in [
        ("not-live", 404, "not-live", "2"),
        ("heard", 404, "no-picture", ""),
        ("off", 501, "no-thumbnails", ""),
        ("busy", 503, "no-thumbnail-now", "5"),
    ] {
        let answer = served.send(get(stream)).await;
        answer.problem(status, kind);
        assert_eq!(answer.header("cache-control"), "no-store", "{stream}");
        assert_eq!(answer.header("retry-after"), retry_after, "{stream}");
    }
}

#[tokio::test]
async fn whoever_may_watch_sees_it_and_so_does_the_operator() {
    let mut config = config();
    config.credentials = config.credentials.with_view_rule("lot-*", "v/1");
    let served = Served::with(&config);
    let detail = served.send(get("lot-42")).await.problem(401, "token-missing");
    assert!(detail.contains("?token=<token>"), "{detail}");
    let bearer = |stream, value| get(stream).with("authorization", value);
    served.send(bearer("lot-42", "Bearer wrong")).await.problem(401, "token-unknown");
    let elsewhere = served.send(bearer("other", "Bearer v/1")).await;
    elsewhere.problem(403, "not-allowed");
    assert_eq!(elsewhere.header("cache-control"), "no-store");
    let by_query = |query| {
        let path = format!("/api/v1/streams/lot-42/thumbnail.jpg?token={query}");
        Ask::new("GET", &path)
    };
    served.send(by_query("wrong")).await.problem(401, "token-unknown");
    served.send(by_query("%ff")).await.problem(400, "malformed-query");
    assert!(served.fake.asked().is_empty(), "the media server hears of none of them");
    for ask in [
        bearer("lot-42", "Bearer v/1"),
        by_query("v%2F1"),
        bearer("lot-42", PUBLISH),
        bearer("other", ADMIN),
    ] {
        let answer = served.send(ask).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "private, max-age=3");
        assert_eq!(answer.header("set-cookie"), "");
    }
}
