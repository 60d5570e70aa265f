//! RFC 9725 and draft-ietf-wish-whep-04, answer by answer.

use super::fake::{ETAG, SESSION};
use super::*;
use axum::http::HeaderValue;

const CANDIDATE: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
const RESTART: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";

fn session(protocol: &str) -> String {
    format!("/{protocol}/@session/{SESSION}")
}

#[tokio::test]
async fn an_offer_makes_a_session() {
    let mut config = config();
    config.ice_servers = vec![
        IceServer::stun("stun:stun.example.net").expect("it is one"),
        IceServer::turn("turn:turn.example.net?transport=udp", "u", "c").expect("it is one"),
    ];
    let served = Served::with(&config);
    for (protocol, role) in [("whip", "Publisher"), ("whep", "Viewer")] {
        let answer = served.send(Ask::offer(&format!("/{protocol}/live/lot-42"))).await;
        assert_eq!(answer.status, 201, "RFC 9725 §4.2");
        assert_eq!(answer.header("location"), session(protocol));
        assert_eq!(answer.header("etag"), format!("\"{ETAG}\""), "strong: no W/");
        assert_eq!(answer.header("content-type"), "application/sdp");
        assert_eq!(answer.header("accept-patch"), "application/trickle-ice-sdpfrag");
        assert_eq!(answer.body, "v=0\r\nanswer\r\n");
        let is_ice = |link: &&HeaderValue| link.to_str().is_ok_and(|it| it.contains("ice-server"));
        let links: Vec<_> = answer.headers.get_all("link").iter().filter(is_ice).collect();
        assert_eq!(links.len(), 2, "RFC 9725 §4.6");
        assert_eq!(links[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        let exposed = answer.header("access-control-expose-headers").to_owned();
        for name in ["Location", "ETag", "Link", "Accept-Patch", "Retry-After", "Content-Length"] {
            assert!(exposed.contains(name), "{name}");
        }
        let asked = served.fake.asked();
        assert_eq!(asked.last().map(String::as_str), Some(&*format!("{role} live/lot-42 5")));
    }
}

#[tokio::test]
async fn a_stream_name_is_percent_decoded_once() {
    let served = Served::new();
    served.send(Ask::offer("/whip/a%2Fb")).await;
    served.send(Ask::offer("/whip/a%252Fb")).await;
    assert_eq!(served.fake.asked(), ["Publisher a/b 5", "Publisher a%2Fb 5"]);
    served.send(Ask::offer("/whip/%ff")).await.problem(400, "bad-path");
}

#[tokio::test]
async fn every_refusal_of_an_offer_says_what_was_wrong() {
    let served = Served::new();
    for (stream, status, kind, retry_after, word) in [
        ("bad%20name", 400, "bad-name", "", "no stream name"),
        ("malformed", 400, "malformed-sdp", "", "line 3"),
        ("codec", 406, "no-common-codec", "", "offered MPV; served H264, VP8"),
        ("not-live", 409, "not-live", "2", "not live"),
        ("taken", 409, "taken", "2", "another token"),
        ("unservable", 422, "unservable-sdp", "", "a=fingerprint"),
        ("busy", 503, "busy", "5", "500 viewers"),
    ] {
        for protocol in ["whip", "whep"] {
            let answer = served.send(Ask::offer(&format!("/{protocol}/{stream}"))).await;
            let detail = answer.problem(status, kind);
            assert!(detail.contains(word), "{detail}");
            assert_eq!(answer.header("retry-after"), retry_after, "{stream}");
            assert_eq!(answer.header("location"), "");
        }
    }
}

#[tokio::test]
async fn publishing_takes_a_token_good_for_that_stream() {
    let served = Served::new();
    let path = "/whip/lot-42";
    let missing = served.send(Ask::offer(path).without("authorization")).await;
    missing.problem(401, "token-missing");
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"millrace\"", "RFC 6750 §3");
    let send = async |value| served.send(Ask::offer(path).with("authorization", value)).await;
    let malformed = send("Basic cHVibGlzaA==").await;
    malformed.problem(401, "token-malformed");
    let unknown = send("Bearer publish-toke").await;
    unknown.problem(401, "token-unknown");
    assert!(unknown.header("www-authenticate").contains("error=\"invalid_token\""));
    for known in ["Bearer ana-token", ADMIN] {
        let other = send(known).await;
        other.problem(403, "not-allowed");
        assert!(other.header("www-authenticate").contains("error=\"insufficient_scope\""));
    }
    assert!(served.fake.asked().is_empty(), "no refused offer reaches the media server");
    assert_eq!(send("bearer publish-token").await.status, 201, "RFC 9110 §11.1");
    let ana = Ask::offer("/whip/ana/1").with("authorization", "Bearer ana-token");
    assert_eq!(served.send(ana).await.status, 201);
    let tokens = served.fake.tokens.lock().expect("no test panics while it notes").clone();
    assert_ne!(tokens[0], tokens[1], "each token has an identity of its own");
    assert_ne!(tokens[0].0, 0);
}

#[tokio::test]
async fn viewing_takes_a_token_only_where_one_is_configured() {
    let open = Served::new();
    let nobody = |path| Ask::offer(path).without("authorization");
    assert_eq!(open.send(nobody("/whep/lot-42")).await.status, 201);
    let mut config = config();
    config.credentials = config.credentials.with_view_rule("lot-*", "view-token");
    let closed = Served::with(&config);
    closed.send(nobody("/whep/lot-42")).await.problem(401, "token-missing");
    let viewer = |path| Ask::offer(path).with("authorization", "Bearer view-token");
    assert_eq!(closed.send(viewer("/whep/lot-42")).await.status, 201);
    closed.send(viewer("/whep/other")).await.problem(403, "not-allowed");
    closed.send(viewer("/whip/lot-42")).await.problem(403, "not-allowed");
}

#[tokio::test]
async fn an_offer_is_sdp_of_bounded_length() {
    let served = Served::new();
    let post = || Ask::offer("/whip/lot-42");
    for kind in ["text/plain", "application/sdpx", "application/json"] {
        let answer = served.send(post().with("content-type", kind)).await;
        answer.problem(415, "media-type");
        assert_eq!(answer.header("accept-post"), "application/sdp", "RFC 9110 §15.5.16");
    }
    served.send(post().without("content-type")).await.problem(415, "media-type");
    let fits = post().with("content-type", "Application/SDP; charset=utf-8");
    assert_eq!(served.send(fits.body("a".repeat(65_536))).await.status, 201);
    let long = served.send(post().body("a".repeat(65_537))).await;
    assert!(long.problem(413, "body-too-long").contains("65536"));
    let announced = served.send(post().with("content-length", "65537")).await;
    announced.problem(413, "body-too-long");
    served.send(post().body("")).await.problem(400, "malformed-sdp");
    served.send(post().body(vec![0xff, 0xfe])).await.problem(400, "malformed-body");
}

#[tokio::test]
async fn a_player_that_wants_the_servers_offer_is_told() {
    let served = Served::new();
    let ask = Ask::new("POST", "/whep/lot-42");
    let detail = served.send(ask).await.problem(422, "no-server-offer");
    assert!(detail.contains("makes no offers of its own"), "{detail}");
    let answer = Ask::new("PATCH", &session("whep")).with("content-type", "application/sdp");
    let answer = served.send(answer.with("if-match", "*").body("v=0")).await;
    answer.problem(415, "media-type");
    assert_eq!(answer.header("accept-patch"), "application/trickle-ice-sdpfrag");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let mut config = config();
    config.limits.body_timeout = Duration::from_millis(20);
    let served = Served::with(&config);
    let never = futures_util::stream::pending::<Result<&str, std::convert::Infallible>>();
    let ask = Ask::offer("/whip/lot-42").body(Body::from_stream(never));
    served.send(ask).await.problem(408, "body-too-slow");
}

#[tokio::test]
async fn a_panic_costs_its_own_request() {
    let served = Served::new();
    served.send(Ask::offer("/whip/panic")).await.problem(500, "internal");
    assert_eq!(served.send(Ask::offer("/whip/lot-42")).await.status, 201);
}

#[tokio::test]
async fn candidates_are_added() {
    let served = Served::new();
    for protocol in ["whip", "whep"] {
        let path = session(protocol);
        for if_match in ["\"ice-1\"", "\"other\", \"ice-1\"", "ice-1", "*", "\"*\""] {
            let answer = served.send(Ask::fragment(&path, if_match, CANDIDATE)).await;
            assert_eq!(answer.status, 204, "{if_match}");
            assert_eq!((answer.header("etag"), answer.body.as_str()), ("", ""), "RFC 9725 §4.3.2");
        }
    }
    let asked = served.fake.asked();
    assert_eq!(asked[0], "Publisher 1 Some(\"ice-1\")");
    assert_eq!(asked[4], "Publisher 1 None");
}

#[tokio::test]
async fn ice_restarts() {
    let served = Served::new();
    let answer = served.send(Ask::fragment(&session("whip"), "*", RESTART)).await;
    assert_eq!(answer.status, 200, "RFC 9725 §4.3.3");
    assert_eq!(answer.header("etag"), "\"ice-2\"");
    assert_eq!(answer.header("content-type"), "application/trickle-ice-sdpfrag");
    assert_eq!(answer.body, "a=ice-ufrag:server\r\n");
    let fixed = RESTART.replace("ysXw", "fixed");
    let refused = served.send(Ask::fragment(&session("whip"), "*", &fixed)).await;
    refused.problem(422, "no-ice-restart");
}

#[tokio::test]
async fn a_patch_is_refused_for_each_reason() {
    let served = Served::new();
    let path = session("whep");
    let patch = |if_match: &str| Ask::fragment(&path, if_match, CANDIDATE);
    let missing = served.send(patch("*").without("if-match")).await;
    missing.problem(428, "if-match-missing");
    for other in ["\"ice-0\"", "W/\"ice-1\"", "\"a\", \"b\""] {
        served.send(patch(other)).await.problem(412, "other-ice-session");
    }
    for malformed in ["", "\"\"", "a\"b", "\"a\",", "a,b,c,d,e,f,g,h,i"] {
        served.send(patch(malformed)).await.problem(400, "if-match-malformed");
    }
    let kind = served.send(patch("*").with("content-type", "application/sdp")).await;
    kind.problem(415, "media-type");
    let broken = served.send(patch("*").body("hello")).await;
    assert!(broken.problem(400, "malformed-fragment").contains("line 1"));
    served.send(patch("*").body("a".repeat(16_385))).await.problem(413, "body-too-long");
    let gone = Ask::fragment("/whep/@session/ff", "*", CANDIDATE);
    served.send(gone).await.problem(404, "no-session");
    let wrong = patch("*").with("authorization", "Bearer wrong");
    assert_eq!(served.send(wrong).await.status, 204, "anybody views here, so tokens do not count");
    let wrong = Ask::fragment(&session("whip"), "*", CANDIDATE);
    let wrong = served.send(wrong.with("authorization", "Bearer wrong")).await;
    wrong.problem(401, "token-unknown");
}

#[tokio::test]
async fn a_session_ends_by_delete() {
    let served = Served::new();
    for (protocol, note) in [("whip", "end Publisher"), ("whep", "end Viewer")] {
        let path = session(protocol);
        let ask = || Ask::new("DELETE", &path);
        assert_eq!(served.send(ask()).await.status, 200, "RFC 9725 §4.2");
        assert_eq!(served.fake.asked().last().map(String::as_str), Some(note));
        assert_eq!(served.send(ask().with("authorization", PUBLISH)).await.status, 200);
        let outdated = ask().with("if-match", "\"other\"");
        assert_eq!(served.send(outdated).await.status, 200, "RFC 9725 §4.3.1: tags are ignored");
        let gone = Ask::new("DELETE", &format!("/{protocol}/@session/ff"));
        served.send(gone).await.problem(404, "no-session");
    }
    let wrong = Ask::new("DELETE", &session("whip")).with("authorization", "Bearer wrong");
    served.send(wrong).await.problem(401, "token-unknown");
    let other = Ask::new("DELETE", &session("whip")).with("authorization", ADMIN);
    served.send(other).await.problem(403, "not-allowed");
}

#[tokio::test]
async fn options_tell_what_is_taken() {
    let served = Served::new();
    for protocol in ["whip", "whep"] {
        let endpoint = served.send(Ask::new("OPTIONS", &format!("/{protocol}/a/b"))).await;
        assert_eq!(endpoint.status, 200, "RFC 9725 §4.2");
        assert_eq!(endpoint.header("accept-post"), "application/sdp");
        assert_eq!(endpoint.header("accept-patch"), "application/trickle-ice-sdpfrag");
        let session = served.send(Ask::new("OPTIONS", &session(protocol))).await;
        assert_eq!(session.status, 200);
        assert_eq!(session.header("accept-patch"), "application/trickle-ice-sdpfrag");
    }
}

#[tokio::test]
async fn other_methods_change_nothing() {
    let served = Served::new();
    for protocol in ["whip", "whep"] {
        for (path, methods) in [
            (format!("/{protocol}/lot-42"), ["PUT", "PATCH", "DELETE"]),
            (session(protocol), ["PUT", "POST", "TRACE"]),
        ] {
            for read in ["GET", "HEAD"] {
                let answer = served.send(Ask::new(read, &path)).await;
                assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""), "§4.1");
            }
            for method in methods {
                let answer = served.send(Ask::new(method, &path)).await;
                answer.problem(405, "method-not-allowed");
                assert!(answer.header("allow").contains("OPTIONS"), "{}", answer.header("allow"));
                assert!(!answer.header("allow").contains(method));
            }
        }
        for nameless in [format!("/{protocol}"), format!("/{protocol}/")] {
            let detail = served.send(Ask::offer(&nameless)).await.problem(404, "not-found");
            assert!(detail.contains("/whip/{stream}"), "{detail}");
        }
    }
    assert!(served.fake.asked().is_empty());
}
