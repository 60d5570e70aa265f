//! API, metrics, health, pages, cross-origin access.

use super::*;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn operators_see_what_is_live() {
    let served = Served::new();
    let answer = served.send(Ask::new("GET", "/api/v1/streams").with("authorization", ADMIN)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("it is JSON");
    let streams = &body["streams"];
    assert_eq!(streams[0]["name"], "lot-42");
    assert_eq!(streams[0]["publisher"]["srtp_profile"], "AEAD_AES_128_GCM");
}

#[tokio::test]
async fn metrics_are_written_for_prometheus() {
    let served = Served::new();
    let answer = served.send(Ask::new("GET", "/metrics").with("authorization", ADMIN)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.body.ends_with("millrace_viewers{stream=\"lot-42\"} 3\n"), "{}", answer.body);
}

#[tokio::test]
async fn only_operators_look_behind_the_scenes() {
    let served = Served::new();
    for path in ["/api/v1/streams", "/metrics"] {
        served.send(Ask::new("GET", path)).await.problem(401, "token-missing");
        let unknown = Ask::new("GET", path).with("authorization", "Bearer wrong");
        served.send(unknown).await.problem(401, "token-unknown");
        let publisher = Ask::new("GET", path).with("authorization", PUBLISH);
        served.send(publisher).await.problem(403, "not-allowed");
    }
}

#[tokio::test]
async fn who_may_publish_a_stream_sees_how_it_fares_and_not_who_watches() {
    let served = Served::new();
    let see = |path, token| Ask::new("GET", path).with("authorization", token);
    for token in [ADMIN, PUBLISH] {
        let answer = served.send(see("/api/v1/streams/lot-42", token)).await;
        assert_eq!(answer.status, 200);
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("it is JSON");
        assert_eq!(body["publisher"]["protocol"], "whip");
        let viewers = body["viewers"].as_array().expect("a list").len();
        assert_eq!(viewers > 0, token == ADMIN);
    }
    served.send(see("/api/v1/streams/other", ADMIN)).await.problem(409, "not-live");
    served.send(see("/api/v1/streams/lot-42", "Bearer wrong")).await.problem(401, "token-unknown");
}

#[tokio::test]
async fn a_report_that_does_not_come_is_not_waited_for() {
    let mut config = config();
    config.limits.report_timeout = Duration::from_millis(20);
    let served = Served::with(&config);
    served.fake.reports.forget_permits(usize::MAX);
    let ask = Ask::new("GET", "/api/v1/streams").with("authorization", ADMIN);
    served.send(ask).await.problem(503, "not-ready");
}

#[tokio::test]
async fn health_and_readiness_differ_when_the_server_stops() {
    let served = Served::new();
    assert_eq!(served.send(Ask::new("GET", "/readyz")).await.status, 200);
    served.fake.stopping.store(true, Ordering::Relaxed);
    let answer = served.send(Ask::new("GET", "/readyz")).await;
    assert_eq!(answer.problem(503, "stopping"), "the server is stopping");
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(served.send(Ask::new("GET", "/healthz")).await.status, 200);
}

#[tokio::test]
async fn a_busy_server_is_told_from_one_that_stops() {
    let served = Served::new();
    served.fake.busy.store(true, Ordering::Relaxed);
    let answer = served.send(Ask::new("GET", "/readyz")).await;
    let reason = answer.problem(503, "not-ready");
    assert_eq!(reason, "new viewers are refused: media leaves late");
}

#[tokio::test]
async fn anybody_is_told_the_time_of_the_server() {
    let served = Served::new();
    let answer = served.send(Ask::new("GET", "/api/v1/time")).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let told: serde_json::Value = serde_json::from_str(&answer.body).expect("it is JSON");
    assert_eq!(told["unix_ms"], 1_764_000_000_123.5);
}

#[tokio::test]
async fn any_page_passes_the_preflight() {
    let served = Served::new();
    for path in ["/whip/a", "/whep/a", "/whep/@session/a", "/api/v1/streams", "/"] {
        let ask = Ask::new("OPTIONS", path)
            .with("origin", "https://elsewhere.example")
            .with("access-control-request-method", "POST");
        let answer = served.send(ask).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let methods = answer.header("access-control-allow-methods");
        assert!(["POST", "PATCH", "DELETE"].iter().all(|&method| methods.contains(method)));
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(headers, "Authorization, Content-Type, If-Match, If-None-Match, Range");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "never with cookies");
    }
}

#[tokio::test]
async fn pages_learn_what_the_server_announces() {
    let served = Served::new();
    let answer = served.send(Ask::new("GET", "/client-config.json")).await;
    let told: serde_json::Value = serde_json::from_str(&answer.body).expect("it is JSON");
    assert_eq!(told["media"], "192.0.2.1:8189");
    assert_eq!((&told["http_port"], &told["https_port"]), (&8080.into(), &8443.into()));
    assert_eq!((&told["rtmp_port"], &told["srt_port"]), (&1935.into(), &8890.into()));
    assert_eq!(told["rtmps_port"], serde_json::Value::Null, "what is off is not told");
    assert_eq!(told["hls"], true);
    assert_eq!((&told["behind_proxy"], &told["view_needs_token"]), (&false.into(), &false.into()));
}

#[tokio::test]
async fn pages_are_served_with_a_policy() {
    let served = Served::new();
    for path in ["/", "/publish", "/publish/live/lot-42", "/watch", "/watch/live/lot-42"] {
        let answer = served.send(Ask::new("GET", path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert!(answer.body.contains("millrace"), "the page, or how to build it");
        assert!(answer.header("content-security-policy").contains("script-src 'self';"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-cache");
        let head = served.send(Ask::new("HEAD", path)).await;
        assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
    }
    served.send(Ask::new("GET", "/nothing.js")).await.problem(404, "not-found");
    served.send(Ask::new("GET", "/../Cargo.toml")).await.problem(404, "not-found");
}

#[tokio::test]
async fn pages_can_be_off() {
    let mut config = config();
    config.pages = false;
    let served = Served::with(&config);
    served.send(Ask::new("GET", "/")).await.problem(404, "not-found");
    served.send(Ask::new("GET", "/watch/a")).await.problem(404, "not-found");
}
